//! The hot state of a core's targets: 52 B per slot, beside 16 B in the wheel; text in an arena,
//! rare configuration and literal addresses in side tables.

use std::net::IpAddr;

use model::inbox::Cadence;
use model::schedule::{next_due_ms, phase_ms};
use model::target::Method;
use model::url::{Host, Scheme};
use model::{Generation, Slot, Target, TargetId, Verdict};
use prober::attempt::{AttemptSpec, HostRef, Rules};
use prober::resolver::{HostId, Resolver};

use crate::arena::{Arena, Piece};

/// Flag bits of [`Hot`].
mod flag {
    pub(super) const PRESENT: u16 = 1;
    /// Everything goes inside TLS.
    pub(super) const SECURED: u16 = 1 << 1;
    pub(super) const HEAD: u16 = 1 << 2;
    /// `host` indexes the literals, not the resolver.
    pub(super) const LITERAL: u16 = 1 << 3;
    pub(super) const ROOT_PATH: u16 = 1 << 4;
    /// The last check of this configuration that said anything of the target found it down.
    pub(super) const DOWN: u16 = 1 << 5;
    /// The next check was commanded.
    pub(super) const COMMANDED: u16 = 1 << 6;
    /// A `CheckNow` came while an attempt was in flight.
    pub(super) const AGAIN: u16 = 1 << 7;
    /// No request is made: a handshake with [`SECURED`], else a connection.
    pub(super) const BARE: u16 = 1 << 8;
    /// A question to the DNS: nothing is connected to.
    pub(super) const QUESTION: u16 = 1 << 9;
    /// Of an answer only the head is judged.
    pub(super) const HEAD_ONLY: u16 = 1 << 10;
    /// The last check of this configuration that said anything of the target found it up.
    pub(super) const UP: u16 = 1 << 11;
    /// Due checks that were shed in a row, as far as they are counted: three bits.
    pub(super) const HUNGER: u16 = 7 << 12;
    pub(super) const HUNGER_STEP: u16 = 1 << 12;
    /// And the one before, too.
    pub(super) const DOWN_BEFORE: u16 = 1 << 15;
    /// What the last checks found.
    pub(super) const FOUND: u16 = UP | DOWN | DOWN_BEFORE;
}

/// Checks that are shed in a row are told apart up to so many.
pub(crate) const HUNGER_MAX: u32 = (flag::HUNGER / flag::HUNGER_STEP) as u32;

/// No attempt in flight.
const NO_ATTEMPT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Hot {
    id: [u32; 2],
    generation: u32,
    seq: u32,
    cadence_ms: u32,
    host: u32,
    path: Piece,
    /// 0 = on the grid.
    recheck_ms: u32,
    /// Index + 1 of the rules, 0 = none.
    rules: u32,
    attempt: u32,
    port: u16,
    timeout_ms: u16,
    flags: u16,
}

const _: () = assert!(size_of::<Hot>() == 52);

const VACANT: Hot = Hot {
    id: [0; 2],
    generation: 0,
    seq: 0,
    cadence_ms: 0,
    host: 0,
    path: Piece::EMPTY,
    recheck_ms: 0,
    rules: 0,
    attempt: NO_ATTEMPT,
    port: 0,
    timeout_ms: 0,
    flags: 0,
};

impl Hot {
    /// Checks per 10⁹ seconds: of a suspect at the pace of its re-checks, or else an outage of many
    /// would take the tokens of those who are well.
    fn rate_per_gs(&self) -> u64 {
        let every_ms = if self.recheck_ms > 0 {
            self.recheck_ms.min(self.cadence_ms)
        } else {
            self.cadence_ms
        };
        1_000_000_000_000 / u64::from(every_ms.max(1))
    }
}

/// A dense table with holes.
#[derive(Debug)]
struct Side<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Side<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Side<T> {
    fn insert(&mut self, item: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.items[index as usize] = Some(item);
            return index;
        }
        self.items.push(Some(item));
        self.items.len() as u32 - 1
    }

    fn remove(&mut self, index: u32) {
        self.items[index as usize] = None;
        self.free.push(index);
    }
}

/// All targets of one core, by slot.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    hot: Vec<Hot>,
    paths: Arena,
    rules: Side<Box<Rules>>,
    literals: Side<IpAddr>,
    active: u64,
    required_per_gs: u64,
}

impl Targets {
    /// Targets present.
    pub(crate) fn active(&self) -> u64 {
        self.active
    }

    /// Σ 1/cadence, of suspects 1/re-check, in checks per 10⁹ seconds.
    pub(crate) fn required_per_gs(&self) -> u64 {
        self.required_per_gs
    }

    /// Whether the slot holds a target.
    pub(crate) fn is_present(&self, slot: Slot) -> bool {
        self.hot
            .get(slot.index())
            .is_some_and(|hot| hot.flags & flag::PRESENT != 0)
    }

    /// Puts `target` into `slot`, replacing what is there; keeps cadence command, sequence and the
    /// attempt in flight of a target that was there already.
    pub(crate) fn upsert(&mut self, slot: Slot, target: &Target, resolver: &mut Resolver) {
        if self.hot.len() <= slot.index() {
            self.hot.resize(slot.index() + 1, VACANT);
        }
        let config = &target.config;
        let check = &config.check;
        // Before the old one is released: the same name keeps what the cache knows of it.
        let (host, literal) = match check.host() {
            Host::Name(name) => (resolver.intern(name).0, 0),
            Host::Address(address) => (self.literals.insert(*address), flag::LITERAL),
        };
        let mut kept = self.release(slot, resolver).unwrap_or(VACANT);
        if kept.generation != target.generation.0 {
            // Commands spoke of the old configuration; the sink repeats what still holds.
            kept.recheck_ms = 0;
            kept.flags &= !flag::FOUND;
        }
        let bit = |condition: bool, flag: u16| if condition { flag } else { 0 };
        let root = check.path() == "/";
        let path = if root {
            Piece::EMPTY
        } else {
            self.paths.insert(check.path())
        };
        let rules = Rules::from_config(config).map(|rules| self.rules.insert(Box::new(rules)) + 1);
        let id = target.id.get() as u64;
        let cadence_ms = config.cadence_ms();
        self.hot[slot.index()] = Hot {
            id: [(id >> 32) as u32, id as u32],
            generation: target.generation.0,
            cadence_ms,
            host,
            path,
            rules: rules.unwrap_or(0),
            port: check.port(),
            timeout_ms: u16::try_from(config.effective_timeout_ms()).unwrap_or(u16::MAX),
            flags: flag::PRESENT
                | literal
                | bit(root, flag::ROOT_PATH)
                | bit(check.scheme().is_secured(), flag::SECURED)
                | bit(!check.scheme().is_http(), flag::BARE)
                | bit(!check.connects(), flag::QUESTION)
                | bit(check.is_head_only(), flag::HEAD_ONLY)
                | bit(check.method_word() == Method::Head.as_str(), flag::HEAD)
                | (kept.flags & (flag::HUNGER | flag::COMMANDED | flag::AGAIN | flag::FOUND)),
            ..kept
        };
        self.active += 1;
        self.required_per_gs += self.hot[slot.index()].rate_per_gs();
    }

    /// Empties the slot; says which generation it held.
    pub(crate) fn remove(&mut self, slot: Slot, resolver: &mut Resolver) -> Option<Generation> {
        let hot = self.release(slot, resolver)?;
        self.hot[slot.index()] = VACANT;
        Some(Generation(hot.generation))
    }

    /// Gives back what the slot owns in other tables.
    fn release(&mut self, slot: Slot, resolver: &mut Resolver) -> Option<Hot> {
        let hot = *self
            .hot
            .get(slot.index())
            .filter(|hot| hot.flags & flag::PRESENT != 0)?;
        if hot.flags & flag::LITERAL == 0 {
            resolver.release(HostId(hot.host));
        } else {
            self.literals.remove(hot.host);
        }
        self.paths.remove(hot.path);
        if hot.rules > 0 {
            self.rules.remove(hot.rules - 1);
        }
        self.active -= 1;
        self.required_per_gs -= hot.rate_per_gs();
        Some(hot)
    }

    /// What to probe.
    pub(crate) fn spec<'a>(&'a self, slot: Slot, resolver: &'a Resolver) -> AttemptSpec<'a> {
        let hot = &self.hot[slot.index()];
        let has = |flag| hot.flags & flag != 0;
        let host = if has(flag::LITERAL) {
            let literal = self.literals.items[hot.host as usize];
            HostRef::Address(literal.expect("a present literal target keeps its address"))
        } else {
            HostRef::Name(resolver.name(HostId(hot.host)))
        };
        let rules = hot
            .rules
            .checked_sub(1)
            .and_then(|at| self.rules.items[at as usize].as_deref());
        AttemptSpec {
            scheme: match (has(flag::BARE), has(flag::SECURED)) {
                (false, false) => Scheme::Http,
                (false, true) => Scheme::Https,
                (true, false) if has(flag::QUESTION) => Scheme::Dns,
                (true, false) => Scheme::Tcp,
                (true, true) => Scheme::Tls,
            },
            host,
            port: hot.port,
            path: if has(flag::ROOT_PATH) {
                "/"
            } else {
                self.paths.get(hot.path)
            },
            method: if has(flag::HEAD) {
                Method::Head
            } else {
                Method::Get
            },
            timeout_ms: u32::from(hot.timeout_ms),
            head_only: has(flag::HEAD_ONLY),
            rules,
        }
    }

    /// The name to resolve; `None` for a literal address.
    pub(crate) fn host(&self, slot: Slot) -> Option<HostId> {
        let hot = &self.hot[slot.index()];
        (hot.flags & flag::LITERAL == 0).then_some(HostId(hot.host))
    }

    /// Whether its checks connect to something.
    pub(crate) fn connects(&self, slot: Slot) -> bool {
        self.hot[slot.index()].flags & flag::QUESTION == 0
    }

    /// The literal address; `None` for a name.
    pub(crate) fn literal(&self, slot: Slot) -> Option<IpAddr> {
        let hot = &self.hot[slot.index()];
        let is_literal = hot.flags & flag::LITERAL != 0;
        is_literal.then(|| self.literals.items[hot.host as usize])?
    }

    /// Current generation.
    pub(crate) fn generation(&self, slot: Slot) -> Generation {
        Generation(self.hot[slot.index()].generation)
    }

    /// Milliseconds between two routine checks.
    pub(crate) fn cadence_ms(&self, slot: Slot) -> u32 {
        self.hot[slot.index()].cadence_ms
    }

    /// The effective deadline, in ms.
    pub(crate) fn timeout_ms(&self, slot: Slot) -> u32 {
        u32::from(self.hot[slot.index()].timeout_ms)
    }

    /// The attempt in flight.
    pub(crate) fn attempt(&self, slot: Slot) -> Option<u32> {
        Some(self.hot[slot.index()].attempt).filter(|attempt| *attempt != NO_ATTEMPT)
    }

    /// Marks the start of `attempt` and returns its sequence number.
    pub(crate) fn started(&mut self, slot: Slot, attempt: u32) -> u32 {
        let hot = &mut self.hot[slot.index()];
        hot.attempt = attempt;
        hot.seq = hot.seq.wrapping_add(1).max(1);
        hot.flags &= !(flag::HUNGER | flag::COMMANDED);
        hot.seq
    }

    /// Marks the end of the attempt; says whether a `CheckNow` came meanwhile.
    pub(crate) fn ended(&mut self, slot: Slot) -> bool {
        let hot = &mut self.hot[slot.index()];
        hot.attempt = NO_ATTEMPT;
        let again = hot.flags & flag::AGAIN != 0;
        hot.flags &= !flag::AGAIN;
        again
    }

    /// Sets the commanded cadence.
    pub(crate) fn set_cadence(&mut self, slot: Slot, cadence: Cadence) {
        let hot = &mut self.hot[slot.index()];
        self.required_per_gs -= hot.rate_per_gs();
        hot.recheck_ms = match cadence {
            Cadence::Grid => 0,
            Cadence::Recheck { after_ms } => after_ms.max(1),
        };
        self.required_per_gs += hot.rate_per_gs();
    }

    /// Milliseconds from completion to the next check, `None` on the grid.
    pub(crate) fn recheck_ms(&self, slot: Slot) -> Option<u32> {
        Some(self.hot[slot.index()].recheck_ms).filter(|ms| *ms > 0)
    }

    /// The first grid point after `after_ms` on the grid's clock.
    pub(crate) fn next_due_ms(&self, slot: Slot, after_ms: u64) -> u64 {
        let hot = &self.hot[slot.index()];
        let raw = (u64::from(hot.id[0]) << 32 | u64::from(hot.id[1])) as i64;
        let id = TargetId::new(raw).expect("a present slot holds a valid id");
        next_due_ms(after_ms, hot.cadence_ms, phase_ms(id, hot.cadence_ms))
    }

    /// Whether the next check was commanded (suspect re-check or `CheckNow`).
    pub(crate) fn is_commanded(&self, slot: Slot) -> bool {
        let hot = &self.hot[slot.index()];
        hot.recheck_ms > 0 || hot.flags & flag::COMMANDED != 0
    }

    /// Whether the last check that said anything of the target as it is found it up.
    pub(crate) fn is_up(&self, slot: Slot) -> bool {
        self.hot[slot.index()].flags & flag::UP != 0
    }

    /// Remembers what a check said of the target.
    pub(crate) fn judged(&mut self, slot: Slot, verdict: Verdict) {
        let hot = &mut self.hot[slot.index()];
        let again = hot.flags & flag::DOWN != 0;
        let found = match verdict {
            Verdict::Up => flag::UP,
            Verdict::Degraded => 0,
            Verdict::Down if again => flag::DOWN | flag::DOWN_BEFORE,
            Verdict::Down => flag::DOWN,
            Verdict::Unknown => return,
        };
        hot.flags = hot.flags & !flag::FOUND | found;
    }

    /// Whether the target goes on being down, and the sink wants to know no sooner than of any
    /// other one: its next failing check is no news.
    pub(crate) fn stays_down(&self, slot: Slot) -> bool {
        let hot = &self.hot[slot.index()];
        hot.recheck_ms == 0 && hot.flags & flag::DOWN_BEFORE != 0
    }

    /// Due checks that were shed since the last one was started, up to [`HUNGER_MAX`].
    pub(crate) fn hunger(&self, slot: Slot) -> u32 {
        u32::from((self.hot[slot.index()].flags & flag::HUNGER) / flag::HUNGER_STEP)
    }

    /// Remembers that a due check was shed.
    pub(crate) fn starve(&mut self, slot: Slot) {
        if self.hunger(slot) < HUNGER_MAX {
            self.hot[slot.index()].flags += flag::HUNGER_STEP;
        }
    }

    /// Remembers that the next check is commanded.
    pub(crate) fn set_commanded(&mut self, slot: Slot) {
        self.hot[slot.index()].flags |= flag::COMMANDED;
    }

    /// Remembers that the target wants another check right after this one.
    pub(crate) fn set_again(&mut self, slot: Slot) {
        self.hot[slot.index()].flags |= flag::AGAIN;
    }
}
