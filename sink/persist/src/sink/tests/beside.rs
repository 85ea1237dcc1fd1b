//! Incidents beside up and down in the sink: certificates, maintenance, and our own trouble.

use std::rc::Rc;

use incident::Expiry;
use model::FailureClass::{
    ConnectLocal, ConnectTimeout, DnsResolverSick, HttpStatus, HttpTimeout, LocalPressure,
};
use model::fact::{CheckType, Reason, State};
use model::inbox::Cadence;
use model::limits::{
    FIRST_FAILURE_HOLD_MAX_MS, FIRST_FAILURE_HOLD_MS, HEALTH_EVERY_MS, PRESSURE_RESULTS_MIN,
    SUPPRESSION_MAX_MS,
};
use model::target::Maintenance;
use model::window::{Occurrence, Scope};
use model::{FailureClass, MonoUs, UnixMs};
use tempfile::tempdir;

use super::one_target;
use crate::handle::SinkCommand;
use crate::testbed::{Bed, FakeStore, Heard, START, config, on_virtual_time, target};
use crate::{Canaries, Health, Signals};

/// A check that sees a certificate with so many days left.
fn check_certificate(bed: &mut Bed, class: Option<FailureClass>, days_left: u16) {
    bed.check_with(0, 0, 1, class, |outcome| {
        outcome.not_after_days = Expiry::today(outcome.started.get()) + days_left;
    });
}

fn open_types(bed: &Bed) -> Vec<(CheckType, State)> {
    let events = bed.store.events.borrow();
    let open = events.values().filter(|event| event.ended_at.is_none());
    let mut open: Vec<_> = open.map(|event| (event.check_type, event.state)).collect();
    open.sort_unstable();
    open
}

#[test]
fn a_certificate_that_expires_is_told_once_and_its_healthy_checks_stay_on_the_short_way() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        for days in [60, 20, 20, 20, 5, 5, 60, 60] {
            check_certificate(&mut bed, None, days);
            bed.turns(5).await;
        }
        let story = [
            (State::Warning, Reason::Opened),
            (State::Degraded, Reason::SeverityEscalation),
            (State::Resolved, Reason::ProbeCleared),
        ];
        assert_eq!(bed.store.story(target(7)), story);
        let total = bed.snapshot().total();
        assert_eq!((total.stepped, total.coalesced), (3, 5));
        assert_eq!(bed.cadences(0), []);
    });
}

#[test]
fn several_open_events_of_a_target_survive_a_restart_and_close_one_by_one() {
    let dir = tempdir().expect("a directory");
    let store = on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        check_certificate(&mut bed, None, 20);
        bed.turns(5).await;
        // What opens next is in the journal alone.
        bed.store.away.set(true);
        check_certificate(&mut bed, Some(HttpStatus), 20);
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.open_seems_down, 1);
        Rc::clone(&bed.store)
    });
    store.away.set(false);
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &store).await;
        assert_eq!(bed.snapshot().counters.unclaimed_events, 2);
        bed.register(0, 0, 1, 7, 60);
        bed.turns(5).await;
        check_certificate(&mut bed, None, 20);
        bed.flush().await;
        assert_eq!(open_types(&bed), [(CheckType::TlsExpiry, State::Warning)]);
        let counters = bed.snapshot().counters;
        assert_eq!((counters.open_warning, counters.open_seems_down), (1, 0));
        let (_, reason) = *bed.store.story(target(7)).last().expect("a story");
        assert_eq!(reason, Reason::ProbeCleared);
        check_certificate(&mut bed, None, 60);
        bed.flush().await;
        assert_eq!(open_types(&bed), []);
        assert_eq!(bed.snapshot().counters.open_warning, 0);
    });
}

#[test]
fn a_retired_target_leaves_no_event_of_any_type() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        check_certificate(&mut bed, Some(HttpStatus), 20);
        bed.turns(5).await;
        assert_eq!(open_types(&bed).len(), 2);
        let retire = SinkCommand::Retire {
            core: model::CoreIndex(0),
            slot: model::Slot(0),
            by: None,
        };
        bed.commands.send(retire).expect("room");
        bed.flush().await;
        assert_eq!(open_types(&bed), []);
    });
}

#[test]
fn a_maintenance_window_of_the_configuration_swallows_and_can_be_edited() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        let window = Maintenance {
            start_ms: START.0,
            end_ms: START.0 + 3_600_000,
        };
        bed.register_with(0, 0, 1, 7, 60, |it| it.maintenance = Some(window));
        for _ in 0..3 {
            bed.check(0, 0, 1, Some(HttpStatus));
            bed.turns(5).await;
        }
        let swallowed = (State::Resolved, Reason::MaintenanceSwallowed);
        assert_eq!(bed.store.story(target(7))[1..], [swallowed]);
        assert_eq!(bed.snapshot().counters.maintenance_active, 1);
        let (_, last) = *bed.cadences(0).last().expect("a command");
        assert_eq!(last, Cadence::Grid);
        bed.register(0, 0, 1, 7, 60);
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        let opened = (State::SeemsDown, Reason::Opened);
        assert_eq!(bed.store.story(target(7))[2..], [opened]);
    });
}

/// Says that the loop of a core lags, or that it does not.
pub(super) fn say_lag(bed: &Bed, lags: bool) {
    let signals = if lags {
        Signals::LOOP_LAG
    } else {
        Signals::NONE
    };
    let health = Health {
        signals,
        ..Health::default()
    };
    bed.commands
        .send(SinkCommand::Health(health))
        .expect("room");
}

#[test]
fn a_connect_failure_under_local_pressure_is_not_known_and_moves_no_freshness() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        say_lag(&bed, true);
        for class in [ConnectTimeout, LocalPressure, ConnectTimeout] {
            bed.check(0, 0, 1, Some(class));
            bed.pass(FIRST_FAILURE_HOLD_MS);
            bed.turns(5).await;
        }
        let counters = bed.snapshot().counters;
        assert_eq!((counters.not_known, counters.doubting), (1, 1));
        // What the core itself did not know is no failure that anybody disbelieved.
        let disbelieved: Vec<_> = bed.snapshot().disbelieved.by_signal().collect();
        let counted: Vec<_> = disbelieved.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [&("loop_lag", 2)]);
        assert_eq!((counters.transitions, counters.freshness_pending), (0, 0));
        bed.check(0, 0, 1, Some(HttpStatus));
        bed.turns(5).await;
        let counters = bed.snapshot().counters;
        assert_eq!((counters.not_known, counters.open_seems_down), (0, 1));
        say_lag(&bed, false);
        bed.turns(1).await;
        assert_eq!(bed.snapshot().counters.doubting, 0);
    });
}

/// Says that nothing is wrong with the node, as of now.
fn say_well(bed: &Bed) {
    let health = Health {
        measured: Some(MonoUs((bed.now().0 - START.0) * 1_000)),
        ..Health::default()
    };
    bed.commands
        .send(SinkCommand::Health(health))
        .expect("room");
}

#[test]
fn a_first_failure_opens_only_where_the_node_was_found_well_after_it() {
    for (found_well_after, opened) in [(true, 1), (false, 0)] {
        let dir = tempdir().expect("a directory");
        on_virtual_time(async {
            let mut bed = one_target(config(dir.path())).await;
            say_well(&bed);
            bed.turn().await;
            bed.pass(1);
            bed.check(0, 0, 1, Some(ConnectTimeout));
            bed.turn().await;
            assert_eq!(bed.snapshot().counters.suspected, 1);
            if found_well_after {
                bed.pass(1);
                say_well(&bed);
            }
            bed.turn().await;
            // Whoever tells of the node stands still from here on.
            bed.pass(FIRST_FAILURE_HOLD_MS - 30);
            bed.turns(5).await;
            let counters = bed.snapshot().counters;
            let (events, suspected) = (counters.open_seems_down, counters.suspected);
            assert_eq!((events, suspected), (opened, 0), "{counters:?}");
            assert_eq!(counters.not_known, 1 - opened);
        });
    }
}

/// Our uplink is a black hole: a short deadline is over before the canaries' is.
#[test]
fn a_first_failure_waits_for_canaries_that_were_asked_after_it() {
    for network_is_there in [true, false] {
        let dir = tempdir().expect("a directory");
        on_virtual_time(async {
            let mut bed = one_target(config(dir.path())).await;
            let say = |bed: &Bed, answering, vouched_ms: u64| {
                let health = Health {
                    canaries: Canaries {
                        configured: 3,
                        answering,
                    },
                    vouched: Some(MonoUs(vouched_ms * 1_000)),
                    measured: Some(MonoUs((bed.now().0 - START.0) * 1_000)),
                    ..Health::default()
                };
                bed.commands
                    .send(SinkCommand::Health(health))
                    .expect("room");
            };
            say(&bed, 3, 500);
            bed.turn().await;
            bed.pass(1_000);
            bed.check(0, 0, 1, Some(ConnectTimeout));
            bed.turn().await;
            for _ in 0..8 {
                bed.pass(500);
                say(&bed, 3, 500);
                bed.turn().await;
            }
            let counters = bed.snapshot().counters;
            assert_eq!((counters.suspected, counters.transitions), (1, 0));
            if network_is_there {
                say(&bed, 3, 3_500);
            } else {
                say(&bed, 0, 500);
            }
            bed.pass(500);
            bed.turns(5).await;
            let counters = bed.snapshot().counters;
            let opened = u64::from(network_is_there);
            assert_eq!((counters.suspected, counters.open_seems_down), (0, opened));
            assert_eq!(counters.not_known, 1 - opened, "{counters:?}");
        });
    }
}

/// Their word must come some day.
#[test]
fn a_first_failure_waits_for_canaries_no_longer_than_they_may_take() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        let health = Health {
            canaries: Canaries {
                configured: 3,
                answering: 1,
            },
            ..Health::default()
        };
        bed.commands
            .send(SinkCommand::Health(health))
            .expect("room");
        bed.turn().await;
        bed.check(0, 0, 1, Some(ConnectTimeout));
        bed.turn().await;
        bed.pass(FIRST_FAILURE_HOLD_MAX_MS - 100);
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.suspected, 1);
        bed.pass(HEALTH_EVERY_MS);
        bed.turns(5).await;
        assert_eq!(bed.snapshot().counters.open_seems_down, 1);
    });
}

#[test]
fn what_was_drained_over_a_stop_of_the_whole_node_is_not_known() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = one_target(config(dir.path())).await;
        say_well(&bed);
        bed.turn().await;
        bed.pass(5_000);
        // After the stop cores and control plane come before the sink.
        bed.check(0, 0, 1, Some(ConnectTimeout));
        say_well(&bed);
        bed.turns(5).await;
        let counters = bed.snapshot().counters;
        assert_eq!((counters.not_known, counters.suspected), (1, 0));
        assert_eq!(counters.signals, u64::from(Signals::STALLED.bits()));
        for _ in 0..8 {
            bed.pass(500);
            say_well(&bed);
            bed.turn().await;
        }
        bed.check(0, 0, 1, Some(ConnectTimeout));
        bed.turn().await;
        let counters = bed.snapshot().counters;
        assert_eq!((counters.signals, counters.suspected), (0, 1));
    });
}

/// Lesson: with our own route to a third of the fleet gone, a site that was connected just before
/// seemed down: its answer never came.
#[test]
fn an_answer_that_never_came_while_our_own_route_went_away_is_not_known() {
    for (was_well, opened) in [(true, 0), (false, 1)] {
        let dir = tempdir().expect("a directory");
        on_virtual_time(async {
            let mut bed = Bed::start(config(dir.path()), 1, &Rc::new(FakeStore::default())).await;
            (0..8).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 60));
            bed.turn().await;
            let class = (!was_well).then_some(ConnectLocal);
            (0..7).for_each(|slot| bed.check(0, slot, 1, class));
            bed.check(0, 7, 1, None);
            bed.turn().await;
            bed.pass(60_000);
            (0..7).for_each(|slot| bed.check(0, slot, 1, Some(ConnectLocal)));
            bed.turn().await;
            bed.pass(2_000);
            bed.check(0, 7, 1, Some(HttpTimeout));
            bed.turn().await;
            bed.pass(FIRST_FAILURE_HOLD_MS);
            bed.turns(5).await;
            let counters = bed.snapshot().counters;
            assert_eq!(counters.open_seems_down, opened, "{counters:?}");
            assert_eq!(counters.not_known, 8 - opened);
            let signals = Signals::from_bits(counters.signals as u16);
            assert_eq!(signals.has(Signals::CUT_OFF), was_well);
            // A check that begins now is believed.
            bed.pass(20_000);
            bed.check(0, 7, 1, Some(HttpTimeout));
            bed.turn().await;
            bed.pass(FIRST_FAILURE_HOLD_MS);
            bed.turns(5).await;
            assert_eq!(bed.snapshot().counters.open_seems_down, 1);
        });
    }
}

/// Lesson: with our own route to a third of the fleet gone all night, its sites were unknown for
/// hours, and neither an incident nor a line of the log said so.
#[test]
fn targets_that_we_go_on_not_reaching_are_an_incident_of_the_operator() {
    for class in [ConnectLocal, DnsResolverSick] {
        for (was_well, told) in [(true, 1), (false, 0)] {
            let dir = tempdir().expect("a directory");
            on_virtual_time(async {
                let store = Rc::new(FakeStore::default());
                let mut bed = Bed::start(config(dir.path()), 1, &store).await;
                (0..9).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 60));
                bed.turn().await;
                let before = (!was_well).then_some(class);
                (0..9).for_each(|slot| bed.check(0, slot, 1, before.filter(|_| slot < 3)));
                bed.turn().await;
                for minute in 0..9 {
                    bed.pass(60_000);
                    (0..9).for_each(|slot| bed.check(0, slot, 1, (slot < 3).then_some(class)));
                    bed.turns(3).await;
                    let counters = bed.snapshot().counters;
                    let is_long = minute > 5;
                    let expected = told * u64::from(is_long);
                    if minute != 5 {
                        assert_eq!(counters.node_suppressing, expected, "{class:?} {minute}");
                    }
                }
                let suppressing = (CheckType::NodeSuppressing, State::Degraded);
                assert_eq!(open_types(&bed).contains(&suppressing), told == 1);
                bed.pass(60_000);
                (0..9).for_each(|slot| bed.check(0, slot, 1, None));
                bed.turn().await;
                bed.pass(120_000);
                bed.turns(5).await;
                assert_eq!(open_types(&bed), []);
            });
        }
    }
}

/// The silence may be heard of first: it is held until the others are.
#[test]
fn an_answer_that_never_came_is_held_until_others_find_no_way() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &Rc::new(FakeStore::default())).await;
        (0..8).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 60));
        bed.turn().await;
        (0..8).for_each(|slot| bed.check(0, slot, 1, None));
        bed.turn().await;
        bed.pass(60_000);
        bed.check(0, 7, 1, Some(HttpTimeout));
        bed.turn().await;
        bed.pass(FIRST_FAILURE_HOLD_MS / 2);
        (0..7).for_each(|slot| bed.check(0, slot, 1, Some(ConnectLocal)));
        bed.turn().await;
        bed.pass(FIRST_FAILURE_HOLD_MS / 2);
        bed.turns(5).await;
        let counters = bed.snapshot().counters;
        assert_eq!((counters.transitions, counters.not_known), (0, 8));
    });
}

/// A fleet as large as failure pressure needs.
async fn fleet(config: crate::SinkConfig) -> (Bed, u32) {
    let targets = PRESSURE_RESULTS_MIN as u32;
    let mut bed = Bed::start(config, 1, &Rc::new(FakeStore::default())).await;
    for slot in 0..targets {
        bed.register(0, slot, 1, 1 + i64::from(slot), 60);
        if slot % 500 == 499 {
            bed.turn().await;
        }
    }
    (bed, targets)
}

#[test]
fn the_whole_batch_is_weighed_before_its_first_result_is_stepped() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let (mut bed, targets) = fleet(config(dir.path())).await;
        // Nearly all fail, and these come first.
        let failing = targets / 100 * 95;
        for slot in 0..targets {
            bed.check(0, slot, 1, (slot < failing).then_some(ConnectTimeout));
        }
        bed.turn().await;
        let counters = bed.snapshot().counters;
        assert_eq!((counters.failure_pressure, counters.doubting), (1, 1));
        assert_eq!(
            (counters.not_known, counters.suspected),
            (u64::from(failing), 0)
        );
    });
}

/// Lesson: a window over a part of the fleet that was off made every other failure count late, and
/// verifiers confirmed it as an outage.
#[test]
fn what_fails_in_a_window_is_no_pressure() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let (mut bed, targets) = fleet(config(dir.path())).await;
        let span = Maintenance {
            start_ms: 0,
            end_ms: u64::MAX,
        };
        let scope = Scope::All;
        let windows = SinkCommand::Windows(vec![Occurrence { scope, span }]);
        bed.commands.send(windows).expect("room");
        bed.turn().await;
        for slot in 0..targets {
            bed.check(0, slot, 1, Some(ConnectTimeout));
        }
        bed.turn().await;
        let counters = bed.snapshot().counters;
        assert_eq!((counters.failure_pressure, counters.doubting), (0, 0));
    });
}

#[test]
fn where_many_fail_the_second_failure_of_each_counts() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let (mut bed, targets) = fleet(config(dir.path())).await;
        for slot in 0..targets {
            bed.check(0, slot, 1, (slot < targets / 4).then_some(ConnectTimeout));
        }
        bed.turn().await;
        bed.pass(FIRST_FAILURE_HOLD_MS);
        bed.turns(5).await;
        let counters = bed.snapshot().counters;
        assert_eq!((counters.failure_pressure, counters.deferring), (1, 1));
        assert_eq!((counters.transitions, counters.suspected), (0, 250));
        for slot in 0..targets / 4 {
            bed.check(0, slot, 1, Some(ConnectTimeout));
        }
        bed.flush().await;
        assert_eq!(bed.snapshot().counters.open_seems_down, 250);
    });
}

#[test]
fn who_is_known_to_be_down_is_no_pressure() {
    let dir = tempdir().expect("a directory");
    on_virtual_time(async {
        let mut bed = Bed::start(config(dir.path()), 1, &Rc::new(FakeStore::default())).await;
        (0..400).for_each(|slot| bed.register(0, slot, 1, 1 + i64::from(slot), 60));
        for _ in 0..3 {
            (0..400).for_each(|slot| bed.check(0, slot, 1, Some(HttpStatus)));
            bed.turns(5).await;
            bed.pass(60_000);
        }
        assert_eq!(bed.snapshot().counters.open_down, 400);
        bed.pass(600_000);
        bed.turns(1).await;
        assert_eq!(bed.snapshot().counters.failure_pressure, 0);
        for _ in 0..5 {
            (0..400).for_each(|slot| bed.check(0, slot, 1, Some(HttpStatus)));
            bed.turns(5).await;
        }
        assert_eq!(bed.snapshot().counters.failure_pressure, 0);
    });
}

#[test]
fn the_operator_is_told_once_that_failures_are_not_believed_for_five_minutes() {
    let dir = tempdir().expect("a directory");
    let told = Heard::during(
        || {
            on_virtual_time(async {
                let mut bed = one_target(config(dir.path())).await;
                say_lag(&bed, true);
                bed.check(0, 0, 1, Some(ConnectTimeout));
                bed.turn().await;
                for _ in 0..4 {
                    bed.pass(SUPPRESSION_MAX_MS / 2);
                    bed.turns(2).await;
                }
                assert_eq!(bed.snapshot().counters.node_suppressing, 1);
                say_lag(&bed, false);
                bed.turns(2).await;
                bed.pass(SUPPRESSION_MAX_MS);
                bed.turns(2).await;
                assert_eq!(bed.snapshot().counters.node_suppressing, 0);
            });
        },
        "node_suppressing",
    );
    let errors: Vec<_> = told
        .iter()
        .filter(|line| line.starts_with("ERROR"))
        .collect();
    assert_eq!((errors.len(), told.len()), (1, 2), "{told:#?}");
    let since = format!("since_unix_ms={}", UnixMs(START.0 + 10).0);
    for part in ["loop_lag", "targets=1", since.as_str()] {
        assert!(errors[0].contains(part), "{part} in {errors:?}");
    }
}
