//! A fleet under load for the tests of stores and disks that are not there: who is checked when,
//! which checks fail, and what the store must have in the end, told by a rule of its own.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::TrySendError;
use model::fact::State;
use model::limits::FLAP_CHANGES;
use model::{Evidence, FactId, FailureClass, Outcome, TargetId};

use crate::handle::SinkConfig;
use crate::stats::SinkCounters;
use crate::testbed::{Bed, FakeStore, healthy, target};

/// Time between two turns.
pub(super) const STEP_MS: u64 = 50;
/// Time between two checks of a target.
const ROUND_MS: u64 = 10_000;
const STEPS_PER_ROUND: u32 = (ROUND_MS / STEP_MS) as u32;

/// Targets that are each checked every 10 s, the same share of them in every step.
pub(super) struct Fleet {
    pub(super) bed: Bed,
    pub(super) targets: u32,
    /// Share of failing checks, in percent.
    share: u64,
    step: u32,
    /// What a core holds while its channels are full.
    held: VecDeque<(Outcome, Option<Box<Evidence>>)>,
}

impl Fleet {
    pub(super) async fn start(config: SinkConfig, targets: u32, share: u64) -> Self {
        let store = Rc::new(FakeStore::default());
        let mut bed = Bed::start(config, 1, &store).await;
        for slot in 0..targets {
            bed.register(0, slot, 1, 1 + i64::from(slot), (ROUND_MS / 1_000) as u32);
            if slot % 500 == 499 {
                bed.turn().await;
            }
        }
        bed.turn().await;
        Self {
            bed,
            targets,
            share,
            step: 0,
            held: VecDeque::new(),
        }
    }

    /// Whether the check of `slot` in `round` fails: of one half of the targets each check for
    /// itself, of the other half four in a row, which is long enough to be confirmed.
    fn fails(&self, slot: u32, round: u32) -> bool {
        let block = if slot.is_multiple_of(2) {
            round
        } else {
            round / 4
        };
        let seed = (u64::from(slot) << 32) | u64::from(block);
        let mixed = (seed ^ (seed >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed >> 33) % 100 < self.share
    }

    /// The checks of one step, and a turn of the sink; what the sink then counts.
    pub(super) async fn step(&mut self) -> SinkCounters {
        let (round, part) = (self.step / STEPS_PER_ROUND, self.step % STEPS_PER_ROUND);
        for slot in (part..self.targets).step_by(STEPS_PER_ROUND as usize) {
            let check = self.check(slot, round);
            self.held.push_back(check);
        }
        self.step += 1;
        self.turn().await
    }

    /// A turn of the sink with what waits for it.
    async fn turn(&mut self) -> SinkCounters {
        self.send();
        self.bed.sink.turn();
        // What the cores are told is none of these tests' business.
        self.bed.inboxes[0].try_iter().for_each(drop);
        self.bed.clock_ms.fetch_add(STEP_MS, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(STEP_MS)).await;
        self.bed.snapshot().counters
    }

    fn check(&self, slot: u32, round: u32) -> (Outcome, Option<Box<Evidence>>) {
        let class = FailureClass::HttpStatus as u8 * u8::from(self.fails(slot, round));
        let outcome = Outcome {
            class,
            seq: round + 1,
            ..healthy(slot, 1, self.bed.now())
        };
        let evidence = (class != 0).then(|| {
            Box::new(Evidence {
                class,
                head: "HTTP/1.1 503 Service Unavailable\r\nServer: x\r\n\r\n".to_owned(),
                text: "status 503 is not in 200-399".to_owned(),
                ..Evidence::of(outcome.slot, outcome.generation, outcome.seq)
            })
        });
        (outcome, evidence)
    }

    fn send(&mut self) {
        while let Some((outcome, evidence)) = self.held.pop_front() {
            if self.bed.outcomes[0].is_full() {
                return self.held.push_front((outcome, evidence));
            }
            if let Some(evidence) = evidence
                && let Err(TrySendError::Full(evidence)) = self.bed.evidence[0].try_send(evidence)
            {
                return self.held.push_front((outcome, Some(evidence)));
            }
            self.bed.outcomes[0].send(outcome).expect("there is room");
        }
    }

    /// Results that the sink has not taken.
    pub(super) fn untaken(&self) -> usize {
        self.held.len() + self.bed.outcomes[0].len()
    }

    /// Steps until the store is as good as up to date under load, and then, without new checks,
    /// until it has every fact and the sink every result.
    pub(super) async fn catch_up(&mut self) {
        let per_step = (self.targets / STEPS_PER_ROUND) as usize;
        for _ in 0..3_000 {
            let now = self.step().await;
            if now.apply_lag <= 4 && self.untaken() <= per_step {
                break;
            }
        }
        for _ in 0..100 {
            let now = self.turn().await;
            if now.apply_lag == 0 && now.facts_waiting == 0 && self.untaken() == 0 {
                return;
            }
        }
        panic!("the store never caught up: {:?}", self.bed.snapshot());
    }

    /// Checks so far.
    pub(super) fn checks(&self) -> u64 {
        u64::from(self.step) * u64::from(self.targets / STEPS_PER_ROUND)
    }

    /// The store has for each target the story of its checks, in order, each fact once; says how
    /// many transitions that were.
    pub(super) async fn assert_stories(&mut self) -> u64 {
        self.bed.flush().await;
        let mut stories: HashMap<TargetId, Vec<(State, FactId)>> = HashMap::new();
        for transition in self.bed.store.transitions.borrow().iter() {
            let told = stories.entry(transition.target).or_default();
            told.push((transition.after, transition.id));
        }
        let mut total = 0;
        for slot in 0..self.targets {
            let id = target(1 + i64::from(slot));
            let told = stories.remove(&id).unwrap_or_default();
            let states: Vec<State> = told.iter().map(|(state, _)| *state).collect();
            assert_eq!(states, self.story(slot), "target {id}");
            assert!(told.is_sorted_by_key(|(_, id)| *id), "target {id}");
            total += states.len() as u64;
        }
        let store = &self.bed.store;
        let jobs: Vec<FactId> = store
            .jobs
            .borrow()
            .iter()
            .map(|job| job.transition)
            .collect();
        let owed: Vec<FactId> = store.transitions.borrow().iter().map(|it| it.id).collect();
        assert_eq!(jobs, owed, "each transition has its job");
        assert_eq!(self.bed.snapshot().counters.transitions, total);
        assert_eq!(store.known_again.get(), 0, "no fact came twice");
        total
    }

    /// The states that a target's checks so far lead through.
    fn story(&self, slot: u32) -> Vec<State> {
        let part = slot % STEPS_PER_ROUND;
        let rounds = (self.step + STEPS_PER_ROUND - 1 - part) / STEPS_PER_ROUND;
        let (mut failed, mut story) = (0, Vec::new());
        // The fourth change makes a target flap, for longer than any of these tests: from then on
        // only what is confirmed has an event.
        let mut changes = 0;
        for round in 0..rounds {
            let fails = self.fails(slot, round);
            let flaps = changes >= FLAP_CHANGES;
            match (fails, failed) {
                (true, 0) if !flaps => story.push(State::SeemsDown),
                (true, 2) => story.push(State::Down),
                (false, 3..) => story.push(State::Resolved),
                (false, 1..) if !flaps => story.push(State::Resolved),
                _ => {}
            }
            changes += usize::from(fails != (failed > 0));
            if !flaps && changes >= FLAP_CHANGES {
                story.push(State::Degraded);
            }
            failed = if fails { failed + 1 } else { 0 };
        }
        story
    }
}

/// Bytes of all files in the journal of `data_dir`, as the file system counts them.
pub(super) fn journal_bytes(data_dir: &Path) -> u64 {
    let paths: Vec<PathBuf> = std::fs::read_dir(data_dir.join("journal"))
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let length = |path: &PathBuf| path.metadata().map_or(0, |found| found.len());
    paths.iter().map(length).sum()
}
