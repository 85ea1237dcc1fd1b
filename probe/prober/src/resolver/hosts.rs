//! Names by number: interned, counted, each with its cache line.
//!
//! 40 bytes per host in chunks, its bytes in an arena, 5 to 7 bytes of index. It knows neither
//! queries nor sockets; an upstream is only a small number here.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

use model::MonoUs;

use super::HostId;
use super::chunks::Chunks;
use super::index::Index;
use super::line::{Cached, Life, Line, Negative, Positive, Spill};
use super::names::Names;

/// No flight, or the end of the free list.
const NONE: u32 = u32::MAX;

/// In [`Host::held`], above the count: we were told of the name, and not by a server.
const OURS: u32 = 1 << 31;

/// One name. Free while nobody holds it; `flight` is then the next free host.
#[derive(Debug)]
struct Host {
    name: u32,
    /// References, and [`OURS`].
    held: u32,
    flight: u32,
    line: Line,
}

const _: () = assert!(size_of::<Host>() == 40);

/// The hosts of one resolver.
#[derive(Debug)]
pub(super) struct Hosts {
    seed: u64,
    entries: Chunks<Host>,
    names: Names,
    index: Index,
    spill: Spill,
    free: u32,
    live: usize,
}

impl Host {
    fn references(&self) -> u32 {
        self.held & !OURS
    }
}

impl Hosts {
    /// No hosts; `seed` keeps the hash of a name from being guessed.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            entries: Chunks::default(),
            names: Names::default(),
            index: Index::default(),
            spill: Spill::default(),
            free: NONE,
            live: 0,
        }
    }

    /// The host called `name`, with one reference more.
    pub(super) fn intern(&mut self, name: &str) -> HostId {
        let host = self.intern_foreign(name);
        self.entries[host.0].held |= OURS;
        host
    }

    /// The same of a name that a server told us.
    pub(super) fn intern_foreign(&mut self, name: &str) -> HostId {
        let hash = hash(self.seed, name);
        if let Some(id) = self.index.find(hash, |id| self.name(HostId(id)) == name) {
            self.entries[id].held += 1;
            return HostId(id);
        }
        let host = Host {
            name: self.names.insert(name),
            held: 1,
            flight: NONE,
            line: Line::default(),
        };
        let id = self.place(host);
        self.live += 1;
        let (entries, names, seed) = (&self.entries, &self.names, self.seed);
        self.index
            .insert(hash, id, |id| hash_of(entries, names, seed, id));
        HostId(id)
    }

    /// One reference more.
    pub(super) fn retain(&mut self, host: HostId) {
        self.entries[host.0].held += 1;
    }

    /// Whether we were told of the host, and not by a server alone.
    pub(super) fn is_ours(&self, host: HostId) -> bool {
        self.entries[host.0].held & OURS != 0
    }

    /// One reference less; the last one takes the name and its cache line away.
    pub(super) fn release(&mut self, host: HostId) {
        let id = host.0;
        let Some(entry) = self
            .entries
            .get_mut(id)
            .filter(|entry| entry.references() > 0)
        else {
            debug_assert!(false, "released more often than interned");
            return;
        };
        entry.held -= 1;
        if entry.references() > 0 {
            return;
        }
        let hash = hash(self.seed, self.name(host));
        let (entries, names, seed) = (&self.entries, &self.names, self.seed);
        self.index
            .remove(hash, id, |id| hash_of(entries, names, seed, id));
        let entry = &mut self.entries[id];
        entry.line.clear(&mut self.spill);
        entry.flight = self.free;
        self.names.remove(entry.name);
        self.free = id;
        self.live -= 1;
        if self.live == 0 {
            *self = Self::new(self.seed);
        }
    }

    /// The name of the host.
    pub(super) fn name(&self, host: HostId) -> &str {
        self.names.get(self.entries[host.0].name)
    }

    /// The flight that asks for the host.
    pub(super) fn flight(&self, host: HostId) -> Option<u32> {
        let entry = self
            .entries
            .get(host.0)
            .filter(|entry| entry.references() > 0)?;
        (entry.flight != NONE).then_some(entry.flight)
    }

    /// Sets the flight that asks for the host.
    pub(super) fn set_flight(&mut self, host: HostId, flight: Option<u32>) {
        self.entries[host.0].flight = flight.unwrap_or(NONE);
    }

    /// What the cache says now; addresses come one place further on each time.
    pub(super) fn read(&mut self, host: HostId, now: MonoUs) -> Cached {
        self.entries[host.0].line.read(&mut self.spill, now)
    }

    /// The address that the next read begins with, be it past its TTL.
    pub(super) fn next_address(&self, host: HostId) -> Option<IpAddr> {
        self.entries[host.0].line.next_address(&self.spill)
    }

    /// Whether addresses are known and within their TTL.
    pub(super) fn is_fresh(&self, host: HostId, now: MonoUs) -> bool {
        self.entries[host.0].line.is_fresh(now)
    }

    /// Whether addresses are fresh now and not at `due`, and live for at least `ttl_ms`.
    pub(super) fn ends_before(&self, host: HostId, due: MonoUs, ttl_ms: u64, now: MonoUs) -> bool {
        self.entries[host.0].line.ends_before(due, ttl_ms, now)
    }

    /// What the addresses are good for.
    pub(super) fn life(&self, host: HostId) -> Life {
        self.entries[host.0].line.life()
    }

    /// The name's hash, under this resolver's seed.
    pub(super) fn name_hash(&self, host: HostId) -> u64 {
        hash(self.seed, self.name(host))
    }

    /// Remembers addresses.
    pub(super) fn keep(&mut self, host: HostId, positive: &Positive, life: Life) {
        let line = &mut self.entries[host.0].line;
        line.keep(&mut self.spill, positive, life);
    }

    /// Remembers a failure for `ttl_ms`, in place of any addresses.
    pub(super) fn fail(&mut self, host: HostId, negative: Negative, ttl_ms: u64, now: MonoUs) {
        self.entries[host.0]
            .line
            .fail(&mut self.spill, negative, ttl_ms, now);
    }

    /// Addresses past their TTL that may still be used, which they now are for `hold_ms` without
    /// a question.
    pub(super) fn stale(&mut self, host: HostId, hold_ms: u64, now: MonoUs) -> Option<Positive> {
        self.entries[host.0]
            .line
            .stale(&mut self.spill, hold_ms, now)
    }

    /// Hosts with a reference.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Bytes allocated for hosts, names, index and cache.
    pub(super) fn bytes(&self) -> usize {
        self.entries.bytes() + self.names.bytes() + self.index.bytes() + self.spill.bytes()
    }

    fn place(&mut self, host: Host) -> u32 {
        if self.free == NONE {
            return self.entries.push(host);
        }
        let id = self.free;
        self.free = self.entries[id].flight;
        self.entries[id] = host;
        id
    }
}

fn hash_of(entries: &Chunks<Host>, names: &Names, seed: u64, id: u32) -> u64 {
    hash(seed, names.get(entries[id].name))
}

/// `SipHash` of seed and name: whoever chooses names cannot make them collide.
fn hash(seed: u64, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(name.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_host_until_its_last_release() {
        let mut hosts = Hosts::new(1);
        let first = hosts.intern("a.example");
        assert_eq!(hosts.intern("a.example"), first);
        let other = hosts.intern("b.example");
        assert_ne!(other, first);
        hosts.release(first);
        assert_eq!(hosts.name(first), "a.example");
        hosts.release(first);
        assert_eq!(hosts.len(), 1);
        assert_eq!(
            hosts.intern("c.example"),
            first,
            "the freed number is used again"
        );
        assert_eq!(hosts.name(first), "c.example");
    }

    #[test]
    fn the_last_release_of_all_gives_every_byte_back() {
        let mut hosts = Hosts::new(1);
        let ids: Vec<HostId> = (0..10_000)
            .map(|n| hosts.intern(&format!("{n}.test")))
            .collect();
        assert!(hosts.bytes() > 0);
        for id in ids {
            hosts.release(id);
        }
        assert_eq!((hosts.len(), hosts.bytes()), (0, 0));
    }

    #[test]
    fn a_million_hosts_cost_at_most_70_bytes_each_at_every_size() {
        let mut hosts = Hosts::new(1);
        for n in 1..=1_000_000_usize {
            let name = format!("s-{n:07}.farm.test");
            debug_assert_eq!(name.len(), 19);
            hosts.intern(&name);
            if n % 10_000 == 0 {
                // One chunk each of hosts and names may be begun.
                let begun = 40 * 1_024 + 64 * 1_024 + 16 * 1_024;
                assert!(
                    hosts.bytes() <= n * 69 + begun,
                    "{} bytes at {n}",
                    hosts.bytes()
                );
            }
        }
        assert_eq!(hosts.len(), 1_000_000);
        assert!(hosts.bytes() <= 70 * 1_000_000, "{} bytes", hosts.bytes());
    }
}
