//! Whether this machine has enough of everything for a rung, said with numbers before it begins.
//! Pure, but for the reading of what there is.

use std::path::Path;

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit};

use super::plan::{Rung, Scheme, StoreKind};

/// Attempts in flight that the node is configured for: hundreds are usual, thousands come when the
/// core is pressed.
pub(super) const IN_FLIGHT_MAX: u32 = 8_192;
/// Sockets of an attempt while both families are tried, and files of the resolver and the process.
const FILES_PER_ATTEMPT: u64 = 2;
const FILES_MORE: u64 = 1_024;
/// Addresses that the farm's sites are spread over.
const ADDRESSES: f64 = 4_096.0;
/// A port is taken so long after its connection (`TIME_WAIT`), in s.
const TIME_WAIT_S: f64 = 60.0;
const MIB: u64 = 1 << 20;
/// Memory of the node with an empty fleet, and of one more target with its name, as measured
/// (`docs/benchmarks/idle.md`): 105.7 MB with 100,000 targets, and 181.65 B for each more of them.
const NODE_BYTES: u64 = 87_600_000;
const TARGET_BYTES: u64 = 182;
/// Of an attempt in flight, plain and over TLS, as measured (`docs/benchmarks/attempts.md`).
const ATTEMPT_BYTES: u64 = 8_770;
const TLS_ATTEMPT_BYTES: u64 = 17_520;
/// What one node may have more than another: five starts differed by 8 %.
const MARGIN_PERCENT: u64 = 15;
/// Sessions that a core keeps, and what one of them holds here.
const SESSIONS_MAX: u64 = model::limits::TLS_SESSIONS_MAX as u64;
const SESSION_BYTES: u64 = 5_000;
/// The list of targets is held whole by the farm and by the ladder, and read by the node.
const LIST_BYTES: u64 = 64;
/// The farm by itself, and a site of it in two tables of the observer and in a summary.
const FARM_BYTES: u64 = 128 * MIB;
const SITE_BYTES: u64 = 48;
/// The server's pool.
const SERVER_BYTES: u64 = 1_536 * MIB;
/// On the disk: a target in a store with its indexes and freshness, in the file and in its
/// write-ahead log; the server's own files; logs and journal.
const ROW_BYTES: u64 = 1_000;
const SERVER_DISK_BYTES: u64 = 1_024 * MIB;
const LOGS_BYTES: u64 = 256 * MIB;

/// What a machine has, or what a rung needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Means {
    /// Files that one process may have open.
    pub(super) files: u64,
    /// Local ports towards one address.
    pub(super) ports: u64,
    pub(super) memory_bytes: u64,
    pub(super) disk_bytes: u64,
}

impl Means {
    /// What there is, with the disk of `folder`.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn here(folder: &Path) -> Result<Self> {
        let read = |file: &str| {
            std::fs::read_to_string(Path::new(file)).with_context(|| format!("cannot read {file}"))
        };
        let meminfo = read("/proc/meminfo")?;
        let range = read("/proc/sys/net/ipv4/ip_local_port_range")?;
        let disk = rustix::fs::statvfs(folder)
            .with_context(|| format!("no free space is known of {}", folder.display()))?;
        Ok(Self {
            // Children raise the soft limit to it.
            files: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
            ports: ports_in(&range).context("odd net.ipv4.ip_local_port_range")?,
            memory_bytes: available(&meminfo).context("/proc/meminfo has no MemAvailable")?,
            disk_bytes: disk.f_bavail * disk.f_frsize,
        })
    }

    /// What `rung` needs.
    pub(super) fn of(rung: &Rung) -> Self {
        let sites = u64::from(rung.sites);
        let (server_memory, server_disk) = match rung.store {
            StoreKind::Sqlite => (0, 0),
            StoreKind::Mysql => (SERVER_BYTES, SERVER_DISK_BYTES),
        };
        // The kernel gives out every second port first, and searches once those are taken.
        let held = rung.rate() / ADDRESSES * TIME_WAIT_S;
        Self {
            files: FILES_PER_ATTEMPT * u64::from(IN_FLIGHT_MAX) + FILES_MORE,
            ports: 2 * held.ceil() as u64 + 64,
            memory_bytes: node_rss_budget(rung, u64::from(IN_FLIGHT_MAX) / 8)
                + FARM_BYTES
                + sites * (SITE_BYTES + 3 * LIST_BYTES)
                + server_memory,
            disk_bytes: sites * (LIST_BYTES + ROW_BYTES) + server_disk + LOGS_BYTES,
        }
    }

    /// What is too little, a sentence each.
    pub(super) fn shortages(&self, needed: &Self) -> Vec<String> {
        let mib = |bytes: u64| format!("{} MiB", bytes / MIB);
        let plain = |number: u64| number.to_string();
        let short = |has: u64, needs: u64, what: &str, advice: &str, of: &dyn Fn(u64) -> String| {
            (has < needs)
                .then(|| format!("{what}: {} needed, {} here; {advice}", of(needs), of(has)))
        };
        let files = "open files of a process (`ulimit -Hn`)";
        let ports = "local ports towards one address (net.ipv4.ip_local_port_range)";
        [
            short(self.files, needed.files, files, "raise the limit", &plain),
            short(self.ports, needed.ports, ports, "widen the range", &plain),
            short(
                self.memory_bytes,
                needed.memory_bytes,
                "available memory",
                "choose a smaller fleet, or end what else runs",
                &mib,
            ),
            short(
                self.disk_bytes,
                needed.disk_bytes,
                "free disk below --out",
                "make room, or choose another folder",
                &mib,
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Resident memory that the node may have with so many attempts in flight at most.
pub(super) fn node_rss_budget(rung: &Rung, in_flight: u64) -> u64 {
    let sites = u64::from(rung.sites);
    let attempt = match rung.scheme {
        Scheme::Http => ATTEMPT_BYTES,
        _ => TLS_ATTEMPT_BYTES,
    };
    let sessions = if rung.scheme.has_tickets() { sites } else { 0 };
    let measured = NODE_BYTES
        + sites * TARGET_BYTES
        + in_flight * attempt
        + sessions.min(SESSIONS_MAX) * SESSION_BYTES;
    measured + measured * MARGIN_PERCENT / 100
}

fn ports_in(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map_while(|word| word.parse().ok());
    let (low, high): (u64, u64) = (ends.next()?, ends.next()?);
    Some((high + 1).saturating_sub(low))
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::super::record::testbed::rung;
    use super::*;

    #[test]
    fn what_is_enough_is_no_shortage_and_one_less_is_said_with_both_numbers() {
        let needed = Means::of(&rung());
        assert_eq!(needed.shortages(&needed), Vec::<String>::new());
        let short = |change: fn(&mut Means)| {
            let mut has = needed;
            change(&mut has);
            has.shortages(&needed)
        };
        let files = short(|has| has.files -= 1);
        assert_eq!(
            files,
            ["open files of a process (`ulimit -Hn`): 17408 needed, 17407 here; raise the limit"]
        );
        for (what, found) in [
            ("local ports", short(|has| has.ports -= 1)),
            ("available memory", short(|has| has.memory_bytes -= 1 << 20)),
            ("free disk", short(|has| has.disk_bytes -= 1 << 20)),
        ] {
            assert!(found.len() == 1 && found[0].starts_with(what), "{found:?}");
        }
        let nothing = Means {
            files: 0,
            ports: 0,
            memory_bytes: 0,
            disk_bytes: 0,
        };
        assert_eq!(nothing.shortages(&needed).len(), 4);
    }

    #[test]
    fn needs_grow_with_the_fleet_and_with_what_it_speaks() {
        let of = |sites, scheme, store| {
            Means::of(&Rung {
                sites,
                scheme,
                store,
                ..rung()
            })
        };
        let small = of(100_000, Scheme::Http, StoreKind::Sqlite);
        let large = of(5_000_000, Scheme::Http, StoreKind::Sqlite);
        assert!(large.ports > small.ports && large.disk_bytes > 40 * small.disk_bytes / 4);
        assert!(
            (1_000 * MIB..3_000 * MIB).contains(&large.memory_bytes),
            "{large:?}"
        );
        let server = of(100_000, Scheme::Http, StoreKind::Mysql);
        assert!(server.memory_bytes > small.memory_bytes && server.disk_bytes > small.disk_bytes);
    }

    #[test]
    fn the_budget_has_room_for_sessions_up_to_their_limit() {
        let of = |sites, scheme| {
            node_rss_budget(
                &Rung {
                    sites,
                    scheme,
                    ..rung()
                },
                0,
            )
        };
        let sessions = |sites| of(sites, Scheme::HttpsResumed) - of(sites, Scheme::HttpsFull);
        assert_eq!(sessions(1_000), 1_150 * SESSION_BYTES);
        assert_eq!(
            sessions(1_000_000),
            SESSIONS_MAX * SESSION_BYTES * 115 / 100
        );
        assert_eq!(
            of(1_000_000, Scheme::Http),
            (87_600_000 + 182_000_000) * 115 / 100
        );
    }

    #[test]
    fn this_machine_tells_what_it_has() {
        let here = Means::here(Path::new("/")).expect("told");
        assert!(here.files > 0 && here.ports > 0 && here.memory_bytes > 0);
        assert_eq!(ports_in("32768\t60999\n"), Some(28_232));
        assert_eq!(ports_in("odd"), None);
        assert_eq!(
            available("MemTotal: 5 kB\nMemAvailable:  2 kB\n"),
            Some(2_048)
        );
    }
}
