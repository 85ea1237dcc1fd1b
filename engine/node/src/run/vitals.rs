//! What the numbers of cores and process say of the node itself: one signal for each thing that it
//! may be short of. Pure: it must not know where numbers come from, or who is told.
//!
//! A loop lags when more than one in a hundred of its turns in the last 5 s began more than 50 ms
//! too late: its lag is above that at p99. Any signal stays for 2 s after it was seen last, so that
//! what comes and goes between two looks is not missed by whoever hears of it.

use std::collections::VecDeque;

use cores::CoreSnapshot;
use model::limits::{
    DESCRIPTORS_SHARE_PERCENT, LATE_TURNS_MIN, LATE_TURNS_PERCENT, LATE_TURNS_WINDOW_MS,
    LOOP_SILENCE_US, SIGNAL_STICKY_MS,
};
use model::{FailureClass, MonoUs};
use persist::Signals;

/// What can be seen here.
const KINDS: [Signals; 6] = [
    Signals::LOOP_LAG,
    Signals::RESULTS_HELD,
    Signals::DESCRIPTORS,
    Signals::PORTS,
    Signals::RESOLVER_SICK,
    Signals::CHECKS_EXCUSED,
];

/// What a look finds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// Every core, as it published itself last.
    pub(super) cores: &'a [CoreSnapshot],
    /// Open files of the process; 0 = not known.
    pub(super) files: u64,
    /// How many it may have.
    pub(super) files_max: u64,
}

/// What was found before.
#[derive(Debug)]
pub(super) struct Vitals {
    cores: Vec<Past>,
    seen: [Option<MonoUs>; KINDS.len()],
}

/// What a core had counted before.
#[derive(Debug, Default)]
struct Past {
    /// When, its turns by then, and the late ones of them; of a window, oldest first.
    turns: VecDeque<(MonoUs, u64, u64)>,
    held_total: u64,
    sources_wanted: u64,
    excused: u64,
}

impl Vitals {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores: (0..cores).map(|_| Past::default()).collect(),
            seen: [None; KINDS.len()],
        }
    }

    /// Looks again; the signals that are in force.
    pub(super) fn look(&mut self, found: Found<'_>, now: MonoUs) -> Signals {
        let mut signals = Signals::NONE;
        for (past, core) in self.cores.iter_mut().zip(found.cores) {
            signals = signals.and(past.look(core, now));
        }
        if found.files * 100 > found.files_max * DESCRIPTORS_SHARE_PERCENT {
            signals = signals.and(Signals::DESCRIPTORS);
        }
        self.and_lately(signals, now)
    }

    fn and_lately(&mut self, found: Signals, now: MonoUs) -> Signals {
        let mut signals = Signals::NONE;
        for (kind, seen) in KINDS.into_iter().zip(&mut self.seen) {
            if found.has(kind) {
                *seen = Some(now);
            }
            if seen.is_some_and(|seen| now.since(seen) <= SIGNAL_STICKY_MS * 1_000) {
                signals = signals.and(kind);
            }
        }
        signals
    }
}

impl Past {
    fn look(&mut self, core: &CoreSnapshot, now: MonoUs) -> Signals {
        let is_holding = core.held > 0 || core.held_total > self.held_total;
        let excused = core.failed(FailureClass::LocalPressure);
        let found = [
            (Signals::LOOP_LAG, self.lags(core, now)),
            (Signals::RESULTS_HELD, is_holding),
            (Signals::PORTS, core.sources_wanted > self.sources_wanted),
            (Signals::RESOLVER_SICK, core.dns.sick > 0),
            (Signals::CHECKS_EXCUSED, excused > self.excused),
        ];
        (self.held_total, self.sources_wanted) = (core.held_total, core.sources_wanted);
        self.excused = excused;
        let set = found.into_iter().filter(|(_, is_set)| *is_set);
        set.fold(Signals::NONE, |all, (signal, _)| all.and(signal))
    }

    fn lags(&mut self, core: &CoreSnapshot, now: MonoUs) -> bool {
        let is_old = |at: MonoUs| now.since(at) >= LATE_TURNS_WINDOW_MS * 1_000;
        // The newest of the old ones is where the window begins.
        while self.turns.get(1).is_some_and(|&(at, ..)| is_old(at)) {
            self.turns.pop_front();
        }
        self.turns.push_back((now, core.turns, core.turns_late));
        let (_, turns, late) = self.turns[0];
        let (turns, late) = (core.turns - turns, core.turns_late - late);
        let is_late = late >= LATE_TURNS_MIN && late * 100 > turns * LATE_TURNS_PERCENT;
        is_late || now.0.saturating_sub(core.last_turn_us) > LOOP_SILENCE_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node of two cores, looked at twice a second.
    struct Node {
        vitals: Vitals,
        cores: [CoreSnapshot; 2],
        files: u64,
        ms: u64,
    }

    impl Node {
        fn new() -> Self {
            Self {
                vitals: Vitals::new(2),
                cores: [CoreSnapshot::default(); 2],
                files: 0,
                ms: 0,
            }
        }

        /// Half a second in which each core turns so often; the second one so often too late.
        fn beat(&mut self, turns: u64, late: u64) -> Vec<&'static str> {
            self.ms += 500;
            for core in &mut self.cores {
                core.turns += turns;
                core.last_turn_us = self.ms * 1_000;
            }
            self.cores[1].turns_late += late;
            self.look()
        }

        fn look(&mut self) -> Vec<&'static str> {
            let found = Found {
                cores: &self.cores,
                files: self.files,
                files_max: 1_000,
            };
            let signals = self.vitals.look(found, MonoUs(self.ms * 1_000));
            signals.names().collect()
        }

        /// Beats until a signal is gone; how many.
        fn beats_until_quiet(&mut self) -> u64 {
            (1..100)
                .find(|_| self.beat(100, 0).is_empty())
                .expect("it ends")
        }
    }

    #[test]
    fn a_loop_lags_when_more_than_one_of_a_hundred_turns_is_late() {
        for (late, expected) in [(1, &[][..]), (2, &["loop_lag"][..])] {
            let mut node = Node::new();
            for _ in 0..20 {
                node.beat(100, 0);
            }
            let mut said = Vec::new();
            for _ in 0..10 {
                said = node.beat(100, late);
            }
            assert_eq!(said, expected, "{late} of 100");
        }
    }

    #[test]
    fn overload_shows_within_half_a_second_and_for_seconds_after_it_is_over() {
        let mut node = Node::new();
        for _ in 0..20 {
            assert!(node.beat(100, 0).is_empty());
        }
        // Turns of 80 ms: six of them, where there were a hundred.
        assert!(
            node.beat(6, 6).is_empty(),
            "six of 906 are less than one in a hundred"
        );
        assert_eq!(node.beat(6, 6), ["loop_lag"]);
        for _ in 0..10 {
            assert_eq!(node.beat(6, 6), ["loop_lag"]);
        }
        assert!((10..20).contains(&node.beats_until_quiet()));
    }

    #[test]
    fn one_late_turn_of_a_quiet_core_is_no_percentile() {
        let mut node = Node::new();
        for _ in 0..20 {
            node.beat(5, 0);
        }
        assert!(node.beat(5, 1).is_empty());
        assert_eq!(node.beat(5, 1), ["loop_lag"]);
    }

    #[test]
    fn a_core_that_does_not_turn_lags() {
        let mut node = Node::new();
        node.beat(100, 0);
        node.ms += 1_000;
        assert!(node.look().is_empty());
        node.ms += 1;
        assert_eq!(node.look(), ["loop_lag"]);
    }

    #[test]
    fn results_that_were_held_between_two_looks_are_seen() {
        let mut node = Node::new();
        node.beat(100, 0);
        node.cores[0].held_total = 7;
        for _ in 0..5 {
            assert_eq!(node.beat(100, 0), ["results_held"]);
        }
        assert!(node.beat(100, 0).is_empty());
        node.cores[1].held = 1;
        for _ in 0..20 {
            assert_eq!(node.beat(100, 0), ["results_held"]);
        }
        node.cores[1].held = 0;
        assert_eq!(node.beats_until_quiet(), 5);
    }

    #[test]
    fn more_than_nine_tenths_of_the_files_are_too_many() {
        let mut node = Node::new();
        node.files = 900;
        assert!(node.beat(100, 0).is_empty());
        node.files = 901;
        assert_eq!(node.beat(100, 0), ["descriptors"]);
        node.files = 0;
        assert_eq!(node.beats_until_quiet(), 5);
    }

    #[test]
    fn checks_that_cores_excuse_are_seen_while_they_go_on() {
        let mut node = Node::new();
        for excused in 1..10 {
            node.cores[1].failures[FailureClass::LocalPressure as usize] = excused;
            assert_eq!(node.beat(100, 0), ["checks_excused"]);
        }
        assert_eq!(node.beats_until_quiet(), 5);
    }

    #[test]
    fn a_connection_without_a_port_and_a_sick_resolver_are_seen_and_end() {
        let mut node = Node::new();
        node.cores[1].sources_wanted = 3;
        assert_eq!(node.beat(100, 0), ["ports"]);
        assert_eq!(node.beats_until_quiet(), 5);
        node.cores[0].dns.sick = 1;
        node.cores[1].sources_wanted = 4;
        assert_eq!(node.beat(100, 0), ["ports", "resolver_sick"]);
        for _ in 0..5 {
            node.beat(100, 0);
        }
        assert_eq!(node.beat(100, 0), ["resolver_sick"]);
        node.cores[0].dns.sick = 0;
        assert_eq!(node.beats_until_quiet(), 5);
    }
}
