//! A fleet that is well, in virtual time: every name resolves, every site answers with a page of a
//! kilobyte. What is asked of a core here does not depend on how many targets there are: each is
//! checked on its phase, once per cadence, and the account balances.
//!
//! The test, `cargo xtask scale` and `cargo xtask instructions` run this same fleet.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::LazyLock;

use cores::CoreSnapshot;
use cores::reactor::sim::{Dial, End, Peer, Reply, World};
use model::inbox::CoreCommand;
use model::limits::{COMMANDS_PER_TURN_MAX, TICK_MS};
use model::schedule::{cadence_ms, phase_ms};
use model::{MonoUs, Outcome, Slot, TargetId, Verdict};

use crate::world::{Bench, GRID_ZERO, Sizes, bench_in, shared_config, target, write_answer};

/// From a dial to its answer, from a request to its reply, from a question to its answer, in µs.
const RTT_US: u64 = 20_000;
/// Of a page, as the farm's.
const BODY_BYTES: usize = 1_024;
/// Seconds from one look of the sink to the next.
const TAKEN_EVERY_S: u64 = 1;
/// How late a check may start in a world that stalls nobody: two turns of the loop.
const LATE_MAX_MS: u64 = 2 * TICK_MS;
/// A slot whose target was not checked yet.
const NEVER: u32 = u32::MAX;

/// A site's answer, made once.
static PAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: farm\r\nContent-Type: text/html\r\n\
         Content-Length: {BODY_BYTES}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), &[b'.'; BODY_BYTES]].concat()
});

/// A world in which nothing fails, and nothing is left to chance.
#[derive(Debug)]
pub(crate) struct Well;

impl World for Well {
    fn dial(&mut self, _address: SocketAddr, _now: MonoUs) -> Dial {
        Dial::Accept(RTT_US)
    }

    fn reply(&mut self, _peer: Peer, _sent: &[u8], _now: MonoUs) -> Reply {
        Reply {
            after_us: RTT_US,
            bytes: Cow::Borrowed(&PAGE),
            piece: usize::MAX,
            end: End::Eof,
        }
    }

    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>, _now: MonoUs) -> Option<u64> {
        write_answer(query, answer, 0);
        Some(RTT_US)
    }
}

/// A core with such a fleet.
pub(crate) struct Fleet {
    bench: Bench<Well>,
    cadence_ms: u32,
    interval_s: i64,
    /// By slot: the number of the cadence that its last check belongs to.
    checked: Vec<u32>,
    /// The latest start so far, after its phase, in ms.
    late_max_ms: u64,
}

impl Fleet {
    /// A core that has room for `room` targets in what this fleet notes of them, and has none yet.
    pub(crate) fn new(room: u32, interval_s: u32) -> Self {
        LazyLock::force(&PAGE);
        Self {
            bench: bench_in(Well, &Sizes::default(), GRID_ZERO, shared_config()),
            cadence_ms: cadence_ms(interval_s),
            interval_s: i64::from(interval_s),
            checked: Vec::with_capacity(room as usize),
            late_max_ms: 0,
        }
    }

    /// Adds targets up to `count` of them, as fast as a core takes them.
    pub(crate) fn grow(&mut self, count: u32) {
        let first = self.checked.len() as u32;
        self.checked.resize(count as usize, NEVER);
        let mut slots = (first..count).peekable();
        while slots.peek().is_some() {
            for slot in slots.by_ref().take(COMMANDS_PER_TURN_MAX) {
                let target = target(i64::from(slot) + 1, self.interval_s);
                let slot = Slot(slot);
                self.bench.tell(CoreCommand::Upsert { slot, target });
            }
            self.run_us(TICK_MS * 1_000);
            self.take();
        }
    }

    /// Runs for whole cadences.
    pub(crate) fn run_cadences(&mut self, count: u32) {
        self.run_ms(u64::from(count) * u64::from(self.cadence_ms));
    }

    /// Runs on, and takes what a sink would take.
    pub(crate) fn run_ms(&mut self, ms: u64) {
        let end_us = self.bench.sim.now().mono.0 + ms * 1_000;
        while self.bench.sim.now().mono.0 < end_us {
            let left_us = end_us - self.bench.sim.now().mono.0;
            self.run_us(left_us.min(TAKEN_EVERY_S * 1_000_000));
            self.take();
        }
    }

    /// The account of the core, which balances.
    pub(crate) fn account(&self) -> CoreSnapshot {
        let account = self.bench.sim.core().account();
        assert!(account.balances(), "{account:?}");
        account
    }

    /// The latest start of a check, in ms after its phase.
    pub(crate) fn late_max_ms(&self) -> u64 {
        self.late_max_ms
    }

    /// Nobody was left out: the last point of every target's phase has had its check, or is so
    /// short ago that the check may be under way.
    ///
    /// # Panics
    /// With the first target that was forgotten.
    pub(crate) fn assert_nobody_is_forgotten(&self) {
        let under_way_ms = LATE_MAX_MS + 4 * RTT_US / 1_000;
        let until_ms = self.bench.sim.now().unix.0 - under_way_ms;
        for (slot, &checked) in self.checked.iter().enumerate() {
            let last = self.point_before(until_ms, slot as u32);
            assert!(checked != NEVER && checked >= last, "slot {slot}");
        }
    }

    fn run_us(&mut self, us: u64) {
        let until = MonoUs(self.bench.sim.now().mono.0 + us);
        self.bench.sim.run_until(until);
    }

    /// Takes the results; each is the next one of its target.
    fn take(&mut self) {
        while let Ok(outcome) = self.bench.outcomes.try_recv() {
            self.judge(&outcome);
        }
        while self.bench.histograms.try_recv().is_ok() {}
        assert!(self.bench.evidence.is_empty(), "nothing fails here");
    }

    fn judge(&mut self, outcome: &Outcome) {
        assert_eq!(outcome.verdict(), Verdict::Up, "{outcome:?}");
        let (slot, started_ms) = (outcome.slot.0, outcome.started.get().0);
        let point = self.point_before(started_ms, slot);
        let due_ms = u64::from(point) * u64::from(self.cadence_ms) + self.phase_ms(slot);
        let late_ms = started_ms - due_ms;
        assert!(late_ms <= LATE_MAX_MS, "{late_ms} ms late: {outcome:?}");
        self.late_max_ms = self.late_max_ms.max(late_ms);
        let before = std::mem::replace(&mut self.checked[slot as usize], point);
        let is_next = before == NEVER || point == before + 1;
        assert!(is_next, "after point {before} came {point}: {outcome:?}");
    }

    /// The number of the last point of the target's phase at `at_ms` of the grid, or before it.
    fn point_before(&self, at_ms: u64, slot: u32) -> u32 {
        ((at_ms - self.phase_ms(slot)) / u64::from(self.cadence_ms)) as u32
    }

    fn phase_ms(&self, slot: u32) -> u64 {
        let id = TargetId::new(i64::from(slot) + 1).expect("ids start at 1");
        u64::from(phase_ms(id, self.cadence_ms))
    }
}
