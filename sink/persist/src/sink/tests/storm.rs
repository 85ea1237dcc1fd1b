//! A storm: one target in ten of a large fleet fails within five minutes and comes back, on virtual
//! time, with a store that takes its time for every row. Cores obey the cadence that the sink
//! commands, as real ones do; what must be stored is told by a rule of its own from the checks that
//! each target had.
//!
//! The clock stands still while the sink turns, so a turn is charged what it took of the processor,
//! many times over: a sink whose turns are then longer than the time between them falls behind, and
//! all that it stores from then on is as much older. What is bounded of its memory are the entries
//! that it keeps; their bytes are measured elsewhere.

mod asked;
mod clock;

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::fact::{State, Transition};
use model::inbox::{Cadence, CoreCommand};
use model::limits::{APPLY_FACTS_MAX, BATCH_MAX, CONFIRM_AFTER};
use model::schedule::cadence_ms;
use model::{Evidence, FailureClass, Outcome, TargetId};

use super::fleet::STEP_MS;
use crate::handle::SinkConfig;
use crate::testbed::{Bed, FakeStore, config, folder, healthy, on_virtual_time, target};

const TARGETS: u32 = 500_000;
const INTERVAL_S: u32 = 300;
/// Every so many-th target is hit.
const HIT_EVERY: u32 = 10;
/// The storm begins so long after the start, when every target was seen healthy.
const BEGINS_MS: u64 = 300_000;
/// Within this time the last of them fails.
const SPREAD_MS: u64 = 300_000;
/// A target fails for at least so long, more than between two checks, and at most twice that.
const FAILS_MS: u64 = 300_000;
/// After this everything is over: the longest failure, and a cadence for it to be seen.
const OVER_MS: u64 = BEGINS_MS + SPREAD_MS + 2 * FAILS_MS + 300_000;
/// Steps between two countings of states: each goes through all of them.
const STATES_EVERY: u64 = 100;
/// What the store takes for a batch, and for each fact of it.
const BATCH_MS: u64 = 10;
const FACT_US: u64 = 200;
/// So many times what a turn takes is charged: others want the processor, too, and a sink that
/// needs a twentieth of it for this storm has no room for a larger one.
const CHARGED: u64 = 20;
/// What 99 % of transitions must be stored within, from the end of their check.
const AGE_P99_MS: u64 = 2_000;

/// A number that looks random and depends on the slot alone.
fn mixed(slot: u32) -> u64 {
    let seed = u64::from(slot).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (seed ^ (seed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 16
}

/// When a target that is hit fails, in ms since the start.
fn failing(slot: u32) -> Option<std::ops::Range<u64>> {
    let from = BEGINS_MS + mixed(slot) % SPREAD_MS;
    let lasts = FAILS_MS + mixed(slot ^ 0xABCD) % FAILS_MS;
    slot.is_multiple_of(HIT_EVERY).then(|| from..from + lasts)
}

/// When the core checks a target next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Grid,
    /// This long after each completion.
    Recheck(u64),
}

/// A core that keeps to what it is told.
struct Core {
    plans: Vec<Plan>,
    /// Off the grid, by the step in which they are due.
    rechecks: BTreeMap<u64, Vec<u32>>,
    seq: Vec<u32>,
    /// Steps of a round of the grid.
    round: u64,
    checks: u64,
}

impl Core {
    fn new() -> Self {
        Self {
            plans: vec![Plan::Grid; TARGETS as usize],
            rechecks: BTreeMap::new(),
            seq: vec![0; TARGETS as usize],
            round: u64::from(cadence_ms(INTERVAL_S)) / STEP_MS,
            checks: 0,
        }
    }

    /// Who is checked in `step`.
    fn due(&mut self, step: u64) -> Vec<u32> {
        let first = (step % self.round) as u32;
        let grid = (first..self.plans.len() as u32).step_by(self.round as usize);
        let grid = grid.filter(|&slot| self.plans[slot as usize] == Plan::Grid);
        let mut due: Vec<u32> = grid.collect();
        for slot in self.rechecks.remove(&step).unwrap_or_default() {
            if let Plan::Recheck(after_ms) = self.plans[slot as usize] {
                self.rechecks
                    .entry(step + after_ms / STEP_MS)
                    .or_default()
                    .push(slot);
                due.push(slot);
            }
        }
        due
    }

    fn told(&mut self, slot: u32, cadence: Cadence, step: u64) {
        let before = self.plans[slot as usize];
        let now = match cadence {
            Cadence::Grid => Plan::Grid,
            Cadence::Recheck { after_ms } => Plan::Recheck(after_ms.into()),
        };
        self.plans[slot as usize] = now;
        // One that is off the grid already is due when it is due.
        if let (Plan::Grid, Plan::Recheck(after_ms)) = (before, now) {
            let at = step + after_ms / STEP_MS;
            self.rechecks.entry(at).or_default().push(slot);
        }
    }
}

/// The fleet in the storm.
struct Storm {
    bed: Bed,
    core: Core,
    step: u64,
    /// As what the checks fail.
    class: FailureClass,
    /// When each target that is hit was checked, in ms since the start, and whether it failed; from
    /// its first failure on.
    found: HashMap<u32, Vec<(u64, bool)>>,
    /// How long each transition took from the end of its check into the store.
    ages_ms: Vec<u64>,
    /// The wall clock at the begin.
    zero_ms: u64,
    /// What turns took of the processor, and how far they would be behind because of it.
    turns_us: u64,
    behind_us: u64,
    most: Most,
}

/// Gauges at their highest.
#[derive(Debug, Default)]
struct Most {
    behind_us: u64,
    untaken: usize,
    facts_waiting: u64,
    facts_loaded: u64,
    evidence_waiting: u64,
    held_commands: u64,
    states: usize,
}

impl Storm {
    async fn start(config: SinkConfig, class: FailureClass) -> Self {
        let store = Rc::new(FakeStore::default());
        store.slow_ms.set(BATCH_MS);
        store.slow_fact_us.set(FACT_US);
        let mut bed = Bed::start_roomy(config, &store).await;
        for slot in 0..TARGETS {
            bed.register(0, slot, 1, 1 + i64::from(slot), INTERVAL_S);
            if slot % 900 == 899 {
                bed.sink.turn();
            }
        }
        bed.turn().await;
        let zero_ms = bed.now().0;
        Self {
            bed,
            zero_ms,
            turns_us: 0,
            behind_us: 0,
            core: Core::new(),
            step: 0,
            class,
            found: HashMap::new(),
            ages_ms: Vec::new(),
            most: Most::default(),
        }
    }

    /// The checks of one step, a turn of the sink, and what it says to the core.
    async fn step(&mut self) {
        for slot in self.core.due(self.step) {
            self.check(slot);
        }
        let took_us = clock::charged(|| {
            self.bed.sink.turn();
        });
        self.turns_us += took_us;
        let owed_us = self.behind_us + CHARGED * took_us;
        self.behind_us = owed_us.saturating_sub(STEP_MS * 1_000);
        self.look();
        self.bed.clock_ms.fetch_add(STEP_MS, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(STEP_MS)).await;
        self.step += 1;
        for command in self.bed.inboxes[0].try_iter() {
            let CoreCommand::Cadence { slot, cadence, .. } = command else {
                panic!("{command:?}");
            };
            self.core.told(slot.0, cadence, self.step);
        }
        self.note_stored();
    }

    fn check(&mut self, slot: u32) {
        let at_ms = self.step * STEP_MS;
        let is_failing = failing(slot).is_some_and(|span| span.contains(&at_ms));
        let number = &mut self.core.seq[slot as usize];
        *number += 1;
        let class = self.class as u8 * u8::from(is_failing);
        let outcome = Outcome {
            class,
            seq: *number,
            ..healthy(slot, 1, self.bed.now())
        };
        if is_failing || self.found.contains_key(&slot) {
            let found = self.found.entry(slot).or_default();
            found.push((at_ms, is_failing));
        }
        if is_failing {
            let evidence = Evidence {
                class,
                ..Evidence::of(outcome.slot, outcome.generation, outcome.seq)
            };
            self.bed.evidence[0].send(Box::new(evidence)).expect("room");
        }
        self.bed.outcomes[0].send(outcome).expect("room");
        self.core.checks += 1;
    }

    fn look(&mut self) {
        let now = self.bed.snapshot().counters;
        let most = &mut self.most;
        most.behind_us = most.behind_us.max(self.behind_us);
        most.untaken = most.untaken.max(self.bed.outcomes[0].len());
        most.facts_waiting = most.facts_waiting.max(now.facts_waiting);
        most.facts_loaded = most.facts_loaded.max(now.facts_loaded);
        most.evidence_waiting = most.evidence_waiting.max(now.evidence_waiting);
        most.held_commands = most.held_commands.max(now.held_commands);
        if self.step.is_multiple_of(STATES_EVERY) {
            most.states = most.states.max(self.bed.sink.incidents.keys().count());
        }
        assert_eq!((now.evidence_dropped, now.journal_alarm), (0, 0), "{now:?}");
    }

    fn note_stored(&mut self) {
        let now_ms = self.step * STEP_MS + self.behind_us / 1_000;
        let stored = self.bed.store.transitions.borrow();
        let new = &stored[self.ages_ms.len()..];
        let age = |transition: &Transition| {
            let changed_ms = transition.changed_at.0 - self.zero_ms;
            now_ms - self.checked_ms(transition.target, changed_ms)
        };
        let ages: Vec<u64> = new.iter().map(age).collect();
        drop(stored);
        self.ages_ms.extend(ages);
    }

    /// When the last check of a target ended that a change at `changed_ms` can be because of.
    fn checked_ms(&self, target: TargetId, changed_ms: u64) -> u64 {
        let slot = target.get() as u32 - 1;
        let checks = &self.found[&slot];
        let before = checks.partition_point(|&(at_ms, _)| at_ms <= changed_ms);
        checks[before - 1].0
    }

    /// Every target has a story that is right for its checks, each transition its job, and nobody
    /// else any; how many transitions there are.
    async fn assert_stories(
        &mut self,
        is_right: impl Fn(u32, &[(u64, bool)], &[State]) -> bool,
    ) -> usize {
        self.bed.flush().await;
        let mut stories: HashMap<TargetId, Vec<State>> = HashMap::new();
        for transition in self.bed.store.transitions.borrow().iter() {
            let told = stories.entry(transition.target).or_default();
            told.push(transition.after);
        }
        assert_eq!(self.found.len() as u32, TARGETS.div_ceil(HIT_EVERY));
        for (&slot, checks) in &self.found {
            let id = target(1 + i64::from(slot));
            let told = stories.remove(&id).unwrap_or_default();
            assert!(
                is_right(slot, checks, &told),
                "target {id}: {told:?}, {checks:?}"
            );
        }
        assert!(stories.is_empty(), "healthy ones with a story: {stories:?}");
        let store = &self.bed.store;
        let owed: Vec<_> = store.transitions.borrow().iter().map(|it| it.id).collect();
        let jobs: Vec<_> = store.jobs.borrow().iter().map(|it| it.transition).collect();
        assert_eq!(owed, jobs, "each transition has its job");
        assert_eq!(store.known_again.get() + store.met_again.get(), 0);
        owed.len()
    }
}

/// The states that checks lead through: in doubt at the first failure, down at the third, over at
/// the first success.
fn story(checks: &[(u64, bool)]) -> Vec<State> {
    let (mut failed, mut story) = (0, Vec::new());
    for &(_, fails) in checks {
        failed = if fails { failed + 1 } else { 0 };
        match (fails, failed) {
            (true, 1) => story.push(State::SeemsDown),
            (true, count) if count == CONFIRM_AFTER => story.push(State::Down),
            (false, _) if story.last().is_some_and(|&last| last != State::Resolved) => {
                story.push(State::Resolved);
            }
            _ => {}
        }
    }
    story
}

fn quantile(values: &[u64], per_cent: usize) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * per_cent / 100]
}

#[test]
fn a_tenth_of_the_fleet_that_fails_and_comes_back_is_told_right_in_time_and_in_bounds() {
    let dir = folder();
    on_virtual_time(async {
        let mut storm = Storm::start(config(dir.path()), FailureClass::HttpStatus).await;
        while storm.step * STEP_MS < OVER_MS {
            storm.step().await;
        }
        let transitions = storm
            .assert_stories(|_, checks, told| told == story(checks))
            .await;
        let hit = storm.found.len();
        assert!((2 * hit..=3 * hit).contains(&transitions), "{transitions}");

        let (p99, most) = (quantile(&storm.ages_ms, 99), &storm.most);
        assert!(p99 < AGE_P99_MS, "{p99} ms until a transition is stored");
        // The draining itself waits for nobody: what a turn finds it takes.
        assert_eq!(most.untaken, 0);
        assert!(
            most.facts_loaded <= (2 * (APPLY_FACTS_MAX + BATCH_MAX)) as u64,
            "{most:?}"
        );
        assert!(most.facts_waiting <= BATCH_MAX as u64, "{most:?}");
        assert!(
            most.evidence_waiting == 0 && most.held_commands == 0,
            "{most:?}"
        );
        // One that is being decided is counted twice.
        assert!((hit..hit + BATCH_MAX).contains(&most.states), "{most:?}");
        let account = storm.bed.snapshot().total();
        assert_eq!(account.drained, storm.core.checks);
        println!(
            "storm: {} checks, {transitions} transitions, {} ms of processor time for {} s, stored \
             after p50 {} ms, p99 {p99} ms, {most:?}",
            storm.core.checks,
            storm.turns_us / 1_000,
            OVER_MS / 1_000,
            quantile(&storm.ages_ms, 50),
        );
    });
}
