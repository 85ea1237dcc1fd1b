//! Random batches (repeated, contradictory, out of order) against a model of a few maps.

use std::collections::{BTreeMap, BTreeSet};

use model::fact::{Batch, CheckType, Event, Fact, Job, JobKind, Reason, State, Transition};
use model::ids::FactMint;
use model::{FactId, TargetId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use store::{Applied, EventFilter, OpenEvent, Store};

use crate::fixture::{Backend, START, import_id, open, row, target};

const TARGETS: i64 = 3;
/// Events that the batches are about, and transitions that each of them has.
const EVENTS: u8 = 8;
const STEPS: u8 = 5;

/// One random fact, as the numbers that choose it.
#[derive(Clone, Debug)]
struct Choice {
    event: u8,
    /// `STEPS` stands for a count instead of a transition.
    step: u8,
    state: State,
    ended: bool,
    fail_count: u32,
}

fn choice() -> impl Strategy<Value = Choice> {
    let states = vec![
        State::SeemsDown,
        State::Down,
        State::Degraded,
        State::Warning,
    ];
    let parts = (
        0..EVENTS,
        0..=STEPS,
        proptest::sample::select(states),
        any::<bool>(),
        0_u32..6,
    );
    parts.prop_map(|(event, step, state, ended, fail_count)| Choice {
        event,
        step,
        state,
        ended,
        fail_count,
    })
}

/// How far each batch moves the journal position (0: it comes again), and its facts.
fn batches() -> impl Strategy<Value = Vec<(u64, Vec<Choice>)>> {
    vec((0_u64..3, vec(choice(), 0..12)), 1..8)
}

/// The ids of an event and its transitions and jobs: the same in every batch.
fn ids(event: u8) -> (TargetId, Vec<FactId>) {
    let target = target(i64::from(event) % TARGETS + 1);
    let mut mint = FactMint::default();
    let minted = START.plus_ms(u64::from(event) * 1_000);
    let ids = (0..=2 * STEPS)
        .map(|_| mint.mint(target.shard(), minted))
        .collect();
    (target, ids)
}

fn fact(choice: &Choice) -> Fact {
    let (target, ids) = ids(choice.event);
    if choice.step == STEPS {
        return Fact::Counted {
            event: ids[0],
            target,
            fail_count: choice.fail_count,
        };
    }
    let step = usize::from(choice.step);
    let (transition_id, job_id) = (ids[1 + 2 * step], ids[2 + 2 * step]);
    let at = START.plus_ms(u64::from(choice.fail_count) + 10);
    let event = Event {
        id: ids[0],
        target,
        group_id: 0,
        check_type: if choice.event < 6 {
            CheckType::Http
        } else {
            CheckType::Latency
        },
        discriminator: (choice.event == 5).then(|| "x".to_owned()),
        state: choice.state,
        started_at: at,
        ended_at: choice.ended.then_some(at),
        resolution: choice.ended.then_some(Reason::ProbeCleared),
        fail_count: choice.fail_count,
        class: 10,
    };
    let transition = Transition {
        id: transition_id,
        event: event.id,
        target,
        before: None,
        after: choice.state,
        reason: Reason::StateChange,
        source: format!("{}", choice.fail_count),
        changed_at: at,
        evidence: None,
        metadata: (choice.fail_count % 2 == 1).then(Box::default),
    };
    let job = Job {
        id: job_id,
        kind: JobKind::Fanout,
        transition: transition_id,
        seq: 1,
        run_at: at,
    };
    Fact::Transitioned {
        event,
        transition,
        job,
    }
}

/// What a store is, in a few maps.
#[derive(Default)]
struct Model {
    journal_seq: u64,
    events: BTreeMap<FactId, Event>,
    transitions: BTreeMap<FactId, Transition>,
    jobs: BTreeSet<FactId>,
}

impl Model {
    fn apply(&mut self, batch: &Batch) -> Applied {
        if batch.journal_seq <= self.journal_seq {
            let skipped = batch.facts.len() as u64;
            return Applied {
                skipped,
                already_applied: true,
                ..Applied::default()
            };
        }
        self.journal_seq = batch.journal_seq;
        let mut applied = Applied::default();
        for fact in &batch.facts {
            match fact {
                Fact::Counted {
                    event, fail_count, ..
                } => match self.events.get_mut(event) {
                    Some(event) if event.ended_at.is_none() && event.fail_count < *fail_count => {
                        event.fail_count = *fail_count;
                        applied.counted += 1;
                    }
                    _ => applied.skipped += 1,
                },
                Fact::Transitioned {
                    event,
                    transition,
                    job,
                } => {
                    self.transition(event, transition, job, &mut applied);
                }
            }
        }
        applied
    }

    fn transition(&mut self, event: &Event, by: &Transition, job: &Job, applied: &mut Applied) {
        let stored = self.events.get(&event.id);
        if self.transitions.contains_key(&by.id) || stored.is_some_and(|e| e.ended_at.is_some()) {
            applied.skipped += 1;
            return;
        }
        let identity =
            |event: &Event| (event.target, event.check_type, event.discriminator.clone());
        let rival = |other: &&Event| {
            other.ended_at.is_none() && other.id != event.id && identity(other) == identity(event)
        };
        if event.ended_at.is_none() && self.events.values().any(|other| rival(&other)) {
            applied.conflicts.push(event.id);
            return;
        }
        let mut now = event.clone();
        if let Some(stored) = stored {
            now.started_at = stored.started_at;
            now.fail_count = now.fail_count.max(stored.fail_count);
        }
        self.events.insert(event.id, now);
        self.transitions.insert(by.id, by.clone());
        self.jobs.insert(job.id);
        applied.transitions += 1;
        applied.jobs += 1;
    }

    fn transitions_of(&self, event: FactId) -> u32 {
        let of_event = self.transitions.values().filter(|by| by.event == event);
        of_event.count() as u32
    }

    fn status(&self, target: TargetId) -> i64 {
        let open = |state: State| {
            self.events.values().any(|event| {
                event.target == target
                    && event.ended_at.is_none()
                    && event.check_type == CheckType::Http
                    && event.state == state
            })
        };
        match (open(State::Down), open(State::SeemsDown)) {
            (true, _) => 2,
            (false, true) => 0,
            (false, false) => 1,
        }
    }
}

async fn compare(store: &Store, backend: &impl Backend, model: &Model) {
    let mut events = store.events(&EventFilter::default()).await.expect("events");
    events.reverse();
    assert_eq!(events, model.events.values().cloned().collect::<Vec<_>>());
    let open: Vec<OpenEvent> = model
        .events
        .values()
        .filter(|event| event.ended_at.is_none())
        .map(|event| OpenEvent {
            event: event.clone(),
            transitions: model.transitions_of(event.id),
        })
        .collect();
    assert_eq!(store.open_events().await.expect("open events"), open);
    for id in model.events.keys() {
        let of_event = model.transitions.values().filter(|by| by.event == *id);
        let expected: Vec<Transition> = of_event.cloned().collect();
        assert_eq!(store.transitions(*id).await.expect("transitions"), expected);
    }
    let counts = store.counts().await.expect("counts");
    assert_eq!(counts.transitions, model.transitions.len() as u64);
    assert_eq!(counts.jobs, model.jobs.len() as u64);
    assert_eq!(counts.journal_seq, model.journal_seq);
    for id in 1..=TARGETS {
        let sql = format!("SELECT site_status FROM jetpack_monitor_check_targets WHERE id = {id}");
        assert_eq!(
            backend.number(&sql),
            Some(model.status(target(id))),
            "target {id}"
        );
    }
}

async fn run<B: Backend>(batches: &[(u64, Vec<Choice>)]) {
    let backend = B::fresh();
    let store = open(&backend).await;
    let rows = (1..=TARGETS)
        .map(|id| row(id, &format!("http://s-{id}.test/")))
        .collect();
    store.import(rows, import_id(0)).await.expect("import");
    let mut model = Model::default();
    let mut journal_seq = 1;
    let mut newest: BTreeMap<_, FactId> = BTreeMap::new();
    for (ahead, choices) in batches {
        journal_seq += ahead;
        let batch = Batch {
            journal_seq,
            facts: choices.iter().map(fact).collect(),
        };
        let expected = model.apply(&batch);
        if !expected.already_applied {
            for id in batch.facts.iter().map(Fact::newest_id) {
                let floor = newest.entry(id.shard()).or_insert(id);
                *floor = id.max(*floor);
            }
        }
        assert_eq!(store.apply(&batch).await.expect("apply"), expected);
        compare(&store, &backend, &model).await;
    }
    let floors = store.floors().await.expect("floors");
    assert_eq!(floors.newest, newest.into_values().collect::<Vec<_>>());
}

pub(crate) fn random_batches_do_what_the_model_does<B: Backend>() {
    let config = Config {
        cases: B::RANDOM_CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    TestRunner::new(config)
        .run(&batches(), |batches| {
            runtime.block_on(run::<B>(&batches));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_choices_reach_conflicts_and_closed_events() {
    // The generator is only worth something when it meets the rules that it is to try.
    let mut model = Model::default();
    let opens = |event: u8, step: u8, ended: bool| {
        fact(&Choice {
            event,
            step,
            state: State::Down,
            ended,
            fail_count: 1,
        })
    };
    let facts = vec![
        opens(0, 0, false),
        opens(3, 0, false),
        opens(0, 1, true),
        opens(0, 2, false),
    ];
    let applied = model.apply(&Batch {
        journal_seq: 1,
        facts,
    });
    assert_eq!(
        (
            applied.transitions,
            applied.skipped,
            applied.conflicts.len()
        ),
        (2, 1, 1)
    );
}
