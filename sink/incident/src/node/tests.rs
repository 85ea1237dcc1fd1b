//! The node's incidents over times of doubt, restarts and takeovers.

use model::belief::{Canaries, Signals, Stance};
use model::fact::Transition;
use model::limits::{PRESSURE_STICKY_MS, SUPPRESSION_MAX_MS};
use model::{MonoUs, UnixMs};

use super::*;
use crate::pressure::Health;

const START: u64 = 1_800_000_000_000;

/// A node, turned once a second, and the rows that a store would have.
#[derive(Default)]
struct Node {
    pressure: Pressure,
    events: NodeEvents,
    mint: FactMint,
    second: u64,
    rows: Vec<Event>,
    transitions: Vec<Transition>,
}

impl Node {
    /// Lets seconds pass.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second += 1;
            self.pressure.turn(7, self.now());
            let facts = self.with_context(|node, context| {
                let Node {
                    pressure, events, ..
                } = node;
                events.follow(pressure, context)
            });
            for fact in facts {
                self.keep(fact);
            }
        }
    }

    fn with_context<T>(&mut self, work: impl FnOnce(&mut Self, &mut NodeContext<'_>) -> T) -> T {
        let mut mint = std::mem::take(&mut self.mint);
        let mut context = NodeContext {
            node: "here",
            affected: 7,
            now: self.now(),
            ids: &mut mint,
        };
        let done = work(self, &mut context);
        self.mint = mint;
        done
    }

    fn now(&self) -> Now {
        Now {
            mono: MonoUs(self.second * 1_000_000),
            unix: UnixMs(START + self.second * 1_000),
        }
    }

    fn keep(&mut self, fact: Fact) {
        let Fact::Transitioned {
            event,
            transition,
            job,
        } = fact
        else {
            panic!("the node counts nothing");
        };
        self.rows.retain(|row| row.id != event.id);
        self.rows.push(event);
        self.transitions.push(transition);
        let of_event = |t: &&Transition| t.event == self.transitions.last().expect("one").event;
        assert_eq!(
            job.seq as usize,
            self.transitions.iter().filter(of_event).count()
        );
        assert_eq!(job.transition, self.transitions.last().expect("one").id);
    }

    fn says(&mut self, signals: Signals) {
        self.pressure.heard(Health {
            signals,
            ..Health::default()
        });
    }

    /// The process starts again, with the rows of the store, here or by another name.
    fn restart(&mut self) {
        self.pressure = Pressure::default();
        self.events = NodeEvents::default();
        for event in self.rows.clone() {
            if event.ended_at.is_some() {
                continue;
            }
            let of_event = |t: &&Transition| t.event == event.id;
            let transitions = self.transitions.iter().filter(of_event).count() as u32;
            let fact = self.with_context(|node, context| {
                let Node {
                    pressure, events, ..
                } = node;
                events.resume(event, transitions, pressure, context)
            });
            if let Some(fact) = fact {
                self.keep(fact);
            }
        }
    }

    fn story(&self) -> Vec<(&'static str, Reason)> {
        let of = |t: &Transition| {
            let row = self.rows.iter().find(|row| row.id == t.event);
            (row.expect("its event").check_type.as_str(), t.reason)
        };
        self.transitions.iter().map(of).collect()
    }
}

const LONG: u64 = SUPPRESSION_MAX_MS / 1_000;
const STICKY: u64 = PRESSURE_STICKY_MS / 1_000;
const SUPPRESSING: &str = "node_suppressing";

#[test]
fn suppressing_for_five_minutes_is_one_event_that_says_which_signals_and_how_many_targets() {
    let mut node = Node::default();
    node.says(Signals::LOOP_LAG);
    node.run(LONG);
    assert_eq!(node.story(), []);
    node.says(Signals::PORTS);
    node.run(600);
    assert_eq!(node.story(), [(SUPPRESSING, Reason::Opened)]);
    let event = &node.rows[0];
    assert_eq!(
        (event.target, event.state),
        (TargetId::NODE, State::Degraded)
    );
    assert_eq!(event.started_at, UnixMs(START + 1_000));
    assert_eq!(event.discriminator.as_deref(), Some("here"));
    let known = node.transitions[0].metadata.as_deref().expect("known");
    assert_eq!(known.belief.signals, Signals::LOOP_LAG.and(Signals::PORTS));
    assert_eq!(known.belief.stance, Stance::Doubting);
    let suppression = known.suppression.expect("suppression");
    assert_eq!(
        (suppression.since, suppression.targets),
        (event.started_at, 7)
    );
    node.says(Signals::NONE);
    node.run(STICKY + 1);
    let closed = (SUPPRESSING, Reason::ProbeCleared);
    assert_eq!(node.story()[1..], [closed]);
}

#[test]
fn after_a_restart_an_open_event_goes_on_with_the_trouble_or_is_closed_without_it() {
    let mut node = Node::default();
    node.says(Signals::LOOP_LAG);
    node.run(LONG + 10);
    node.restart();
    node.run(60);
    node.says(Signals::LOOP_LAG);
    node.run(600);
    assert_eq!(node.story().len(), 1, "it goes on");
    node.restart();
    node.run(STICKY - 1);
    assert_eq!(node.story().len(), 1, "nobody knows yet");
    node.run(2);
    assert_eq!(node.story()[1..], [(SUPPRESSING, Reason::ProbeCleared)]);
    node.run(600);
    assert_eq!(node.story().len(), 2);
}

#[test]
fn an_event_of_a_node_whose_shards_were_taken_is_closed() {
    let mut node = Node::default();
    node.says(Signals::LOOP_LAG);
    node.run(LONG + 10);
    node.rows[0].discriminator = Some("there".to_owned());
    node.restart();
    node.run(600);
    assert_eq!(node.story()[1..], [(SUPPRESSING, Reason::AutoTimeout)]);
}

#[test]
fn isolation_is_an_event_of_its_own_and_a_restart_gives_it_time() {
    let dark = Health {
        canaries: Canaries {
            configured: 3,
            answering: 0,
        },
        dark_networks: 3,
        ..Health::default()
    };
    let mut node = Node::default();
    let isolate = |node: &mut Node, seconds| {
        for _ in 0..seconds {
            let now = node.now().mono;
            let results = crate::pressure::Share {
                results: 1_000,
                failing: 1_000,
            };
            node.pressure.drained(results, now);
            node.run(1);
        }
    };
    node.pressure.heard(dark);
    isolate(&mut node, 30);
    assert_eq!(node.story(), [("node_isolated", Reason::Opened)]);
    assert_eq!(node.rows[0].state, State::Down);
    node.restart();
    node.run(20);
    node.pressure.heard(dark);
    isolate(&mut node, 30);
    assert_eq!(node.story().len(), 1, "it goes on");
    node.pressure.heard(Health::default());
    node.run(1);
    assert_eq!(node.story()[1..], [("node_isolated", Reason::ProbeCleared)]);
}
