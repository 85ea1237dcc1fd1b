//! The signals one by one, and what the operator is told of them.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const START: u64 = 1_800_000_000_000;

fn at(s: u64) -> Now {
    Now {
        mono: MonoUs(s * 1_000_000),
        unix: UnixMs(START + s * 1_000),
    }
}

/// A node, turned once a second.
#[derive(Default)]
struct Node {
    pressure: Pressure,
    second: u64,
    notices: Vec<(u64, NodeIncident, bool)>,
}

impl Node {
    /// Lets seconds pass in each of which 1,000 results come, so many percent of them failing.
    fn run(&mut self, seconds: u64, failing_percent: u64) -> Stance {
        for _ in 0..seconds {
            self.second += 1;
            let now = at(self.second);
            let drained = Share {
                results: 1_000,
                failing: failing_percent * 10,
            };
            self.pressure.drained(drained, now.mono);
            for notice in self.pressure.turn(7, now) {
                assert_eq!(notice.targets, 7);
                self.notices
                    .push((self.second, notice.incident, notice.begins));
            }
        }
        self.pressure.stance()
    }

    fn health(&mut self, health: Health) {
        self.pressure.heard(health);
    }
}

fn canaries(configured: u8, answering: u8) -> Health {
    Health {
        canaries: Canaries {
            configured,
            answering,
        },
        ..Health::default()
    }
}

fn signals(signals: Signals) -> Health {
    Health {
        signals,
        ..Health::default()
    }
}

#[test]
fn a_quarter_of_a_thousand_results_is_failure_pressure_and_less_of_either_is_none() {
    let stance = |results, failing| {
        let mut pressure = Pressure::default();
        pressure.drained(Share { results, failing }, at(1).mono);
        pressure.turn(0, at(1));
        pressure.stance()
    };
    assert_eq!(stance(1_000, 250), Stance::Deferring);
    assert_eq!(stance(1_000, 249), Stance::Clear);
    assert_eq!(stance(999, 900), Stance::Clear);
}

#[test]
fn failure_pressure_lasts_two_minutes_after_it_was_seen_last() {
    let mut node = Node::default();
    node.run(20, 50);
    // Old failures are a quarter of the window for another five seconds, or four.
    node.run(5, 0);
    assert_eq!(node.run(119, 0), Stance::Deferring);
    assert_eq!(node.run(3, 0), Stance::Clear);
}

#[test]
fn failures_while_two_of_three_canaries_answer_are_only_deferred_however_long() {
    let mut node = Node::default();
    node.health(canaries(3, 2));
    assert_eq!(node.run(900, 40), Stance::Deferring);
    assert_eq!(node.notices, []);
}

#[test]
fn failures_while_canaries_do_not_answer_say_nothing_and_the_operator_is_told_once() {
    let mut node = Node::default();
    node.health(canaries(3, 1));
    assert_eq!(node.run(1_200, 40), Stance::Doubting);
    assert_eq!(node.notices, [(301, NodeIncident::Suppressing, true)]);
    node.health(canaries(3, 3));
    assert_eq!(node.run(119, 40), Stance::Deferring);
    assert_eq!(node.notices.len(), 1);
    node.run(2, 40);
    assert_eq!(
        node.notices[1..],
        [(1_320, NodeIncident::Suppressing, false)]
    );
}

#[test]
fn without_canaries_targets_that_answer_stand_in_for_them() {
    let mut node = Node::default();
    assert_eq!(node.run(20, 90), Stance::Deferring);
    let mut node = Node::default();
    assert_eq!(node.run(20, 91), Stance::Doubting);
    assert_eq!(node.run(280, 91), Stance::Doubting);
    assert_eq!(node.run(1, 91), Stance::Deferring);
    assert_eq!(node.notices, []);
}

#[test]
fn each_signal_of_local_pressure_makes_us_doubt_and_ten_minutes_of_it_are_one_incident() {
    for signal in [
        Signals::LOOP_LAG,
        Signals::RESULTS_HELD,
        Signals::DESCRIPTORS,
        Signals::PORTS,
        Signals::RESOLVER_SICK,
    ] {
        let mut node = Node::default();
        node.health(signals(signal));
        assert_eq!(node.run(600, 0), Stance::Doubting);
        node.health(Health::default());
        assert_eq!(node.run(200, 0), Stance::Clear);
        let told: Vec<_> = node.notices.iter().map(|&(_, _, begins)| begins).collect();
        assert_eq!(told, [true, false]);
        assert_eq!(node.notices[0].0, 301);
    }
}

/// Lesson: turns of 21 to 35 ms in a row excuse every timeout, and no signal said so.
#[test]
fn checks_that_go_on_being_excused_doubt_no_other_check_and_are_one_incident() {
    let mut node = Node::default();
    for _ in 0..6 {
        node.health(signals(Signals::CHECKS_EXCUSED));
        assert_eq!(node.run(2, 0), Stance::Clear);
        assert!(node.pressure.signals().has(Signals::CHECKS_EXCUSED));
        node.health(Health::default());
        node.run(58, 0);
    }
    assert_eq!(node.notices, [(301, NodeIncident::Suppressing, true)]);
    let told = node.pressure.told(NodeIncident::Suppressing);
    let names: Vec<_> = told.expect("told").signals.names().collect();
    assert_eq!(names, ["checks_excused"]);
    node.run(64, 0);
    assert_eq!(node.notices.len(), 2);
    // What is over in less than five minutes is nobody's trouble.
    node.health(signals(Signals::CHECKS_EXCUSED));
    node.run(299, 0);
    node.health(Health::default());
    node.run(200, 0);
    assert_eq!(node.notices.len(), 2);
}

/// A turn in which so many targets of 3,000 are lost, and a check says so.
fn without_route(node: &mut Node, targets: u64, fleet: u64) {
    let lost = Lost {
        without_route: targets,
        route_missed: targets > 0,
        ..Lost::default()
    };
    node.pressure.lost(lost, fleet, at(node.second + 1).mono);
    node.run(1, 0);
}

/// Lesson: a third of a fleet was unknown all night, because our route to it was gone, and nobody
/// was told.
#[test]
fn targets_that_stay_lost_doubt_no_other_and_are_one_incident() {
    let mut node = Node::default();
    for _ in 0..3_600 {
        without_route(&mut node, 1_000, 3_000);
        assert_eq!(node.pressure.stance(), Stance::Clear);
        assert_eq!(node.pressure.signals(), Signals::NO_ROUTE);
    }
    assert_eq!(node.notices, [(301, NodeIncident::Suppressing, true)]);
    let told = node.pressure.told(NodeIncident::Suppressing);
    assert_eq!(told.map(|told| told.signals), Some(Signals::NO_ROUTE));
    (0..121).for_each(|_| without_route(&mut node, 0, 3_000));
    assert_eq!(node.notices.len(), 2);
    // A site or two that lose their address are nobody's trouble, nor is a short one.
    (0..900).for_each(|_| without_route(&mut node, 2, 3_000));
    (0..299).for_each(|_| without_route(&mut node, 1_000, 3_000));
    (0..200).for_each(|_| without_route(&mut node, 0, 3_000));
    assert_eq!(node.notices.len(), 2);
}

/// All that is found again is unknown until its next check: that is no further incident.
#[test]
fn after_isolation_who_was_lost_has_five_minutes_for_the_next_check() {
    let mut node = Node::default();
    node.health(Health {
        dark_networks: 3,
        ..canaries(3, 0)
    });
    node.run(600, 95);
    node.health(canaries(3, 3));
    // Targets of failure pressure are believed: two of three canaries answer.
    (0..313).for_each(|_| without_route(&mut node, 1_000, 3_000));
    let told: Vec<_> = node.notices.iter().map(|told| told.1).collect();
    assert_eq!(told, [NodeIncident::Isolated; 2]);
    without_route(&mut node, 1_000, 3_000);
    assert_eq!(node.notices[2].1, NodeIncident::Suppressing);
}

#[test]
fn while_targets_are_cut_off_silence_is_doubted_and_nobody_is_told() {
    let mut node = Node::default();
    assert_eq!(node.run(1, 0), Stance::Clear);
    node.pressure.cut_off(1_000, at(1).mono);
    assert_eq!(node.run(14, 0), Stance::Doubting);
    let names: Vec<_> = node.pressure.signals().names().collect();
    assert_eq!(names, ["cut_off"]);
    assert_eq!(node.run(200, 0), Stance::Clear);
    for second in node.second..node.second + 400 {
        node.pressure.cut_off(1_000, at(second).mono);
        node.run(1, 0);
    }
    assert_eq!(node.pressure.stance(), Stance::Clear, "after five minutes");
    assert_eq!(node.notices, []);
}

/// So few checks that nine of ten of them, three networks or failure pressure are never seen.
#[test]
fn of_a_small_fleet_silent_canaries_alone_are_believed_until_a_target_answers() {
    for configured in [1, 3] {
        let mut node = Node::default();
        let turn = |node: &mut Node, s, results, failing| {
            node.pressure
                .drained(Share { results, failing }, at(s).mono);
            let notices = node.pressure.turn(1, at(s));
            (node.pressure.stance(), notices.len())
        };
        node.health(canaries(configured, configured));
        assert_eq!(turn(&mut node, 1, 2, 0), (Stance::Clear, 0));
        assert_eq!(turn(&mut node, 30, 1, 1), (Stance::Clear, 0));
        node.health(canaries(configured, 0));
        assert_eq!(turn(&mut node, 40, 0, 0), (Stance::Doubting, 0));
        assert_eq!(node.pressure.signals(), Signals::CANARIES_SILENT);
        assert_eq!(turn(&mut node, 300, 1, 1), (Stance::Doubting, 0));
        // Nobody answers at all: the operator is told, the node is not called isolated.
        assert_eq!(turn(&mut node, 340, 1, 1), (Stance::Doubting, 1));
        // The canaries are down, and we are not.
        assert_eq!(turn(&mut node, 400, 2, 1), (Stance::Clear, 0));
        node.health(canaries(configured, 0));
        assert_eq!(turn(&mut node, 900, 1, 1), (Stance::Clear, 1));
        // Another silence is another question.
        node.health(canaries(configured, 1));
        assert_eq!(turn(&mut node, 1_000, 1, 1), (Stance::Clear, 0));
        node.health(canaries(configured, 0));
        assert_eq!(turn(&mut node, 1_100, 1, 1), (Stance::Doubting, 0));
    }
}

#[test]
fn what_canaries_vouch_for_is_what_they_answered_and_nobody_vouches_for_all() {
    let mut pressure = Pressure::default();
    assert_eq!(pressure.vouched(), MonoUs(u64::MAX), "nobody can be asked");
    pressure.heard(canaries(3, 0));
    assert_eq!(pressure.vouched(), MonoUs(0));
    let vouched = Some(at(7).mono);
    pressure.heard(Health {
        vouched,
        ..canaries(3, 3)
    });
    assert_eq!(pressure.vouched(), at(7).mono);
}

#[test]
fn who_waits_for_verifiers_in_vain_doubts_nothing_and_is_told_of_after_five_minutes() {
    let mut node = Node::default();
    node.pressure.unconfirmed(1);
    assert_eq!(node.run(300, 0), Stance::Clear);
    assert!(node.pressure.signals().has(Signals::UNCONFIRMED));
    assert_eq!(node.notices, []);
    node.run(1, 0);
    node.pressure.unconfirmed(0);
    node.run(125, 0);
    assert_eq!(
        node.notices,
        [
            (301, NodeIncident::Suppressing, true),
            (421, NodeIncident::Suppressing, false)
        ]
    );
}

#[test]
fn short_breaks_do_not_reset_the_five_minutes() {
    let mut node = Node::default();
    for _ in 0..3 {
        node.health(signals(Signals::LOOP_LAG));
        node.run(60, 0);
        node.health(Health::default());
        assert_eq!(node.run(30, 0), Stance::Clear);
    }
    node.health(signals(Signals::LOOP_LAG));
    node.run(30, 0);
    assert_eq!(node.notices, []);
    node.run(1, 0);
    assert_eq!(node.notices, [(301, NodeIncident::Suppressing, true)]);
    node.health(Health::default());
    node.run(121, 0);
    node.health(signals(Signals::LOOP_LAG));
    node.run(300, 0);
    assert_eq!(node.notices.len(), 2);
}

#[test]
fn a_sample_that_verifiers_confirm_ends_the_deferral_until_the_failures_end() {
    let mut node = Node::default();
    node.pressure.sample_confirmed();
    node.health(canaries(3, 0));
    assert_eq!(node.run(10, 50), Stance::Doubting);
    node.pressure.sample_confirmed();
    assert_eq!(node.run(60, 50), Stance::Clear);
    assert!(node.pressure.is_failing());
    node.run(200, 0);
    assert_eq!(node.run(10, 50), Stance::Doubting);
}

/// Lesson: a customer's outage was confirmed, and when our own network went a minute later every
/// other failure was believed as well.
#[test]
fn a_confirmed_sample_says_nothing_once_the_canaries_fall_silent() {
    let mut node = Node::default();
    node.health(canaries(3, 3));
    assert_eq!(node.run(10, 50), Stance::Deferring);
    node.pressure.sample_confirmed();
    assert_eq!(node.run(60, 50), Stance::Clear);
    // One of three is no word against it.
    node.health(canaries(3, 2));
    assert_eq!(node.run(10, 50), Stance::Clear);
    assert!(!node.pressure.withdraws_sample());
    node.health(canaries(3, 1));
    assert_eq!(node.run(10, 50), Stance::Doubting);
    assert!(node.pressure.withdraws_sample());
    assert!(!node.pressure.withdraws_sample(), "once");
    // Verifiers who are asked now may confirm again: they do not share our network.
    node.pressure.sample_confirmed();
    assert_eq!(node.run(10, 50), Stance::Clear);
}

#[test]
fn silent_canaries_and_three_dark_networks_isolate_and_that_is_all_that_is_said() {
    let gone = Health {
        dark_networks: 3,
        ..canaries(3, 0)
    };
    let not_gone = [
        Health {
            dark_networks: 2,
            ..gone
        },
        Health {
            canaries: Canaries::default(),
            ..gone
        },
        Health {
            dark_networks: 3,
            ..canaries(3, 1)
        },
    ];
    for health in not_gone {
        let mut node = Node::default();
        node.health(health);
        assert_ne!(node.run(20, 95), Stance::Isolated);
    }
    let mut node = Node::default();
    node.health(gone);
    assert_eq!(node.run(20, 90), Stance::Doubting);
    assert_eq!(node.run(1_000, 95), Stance::Isolated);
    node.health(canaries(3, 3));
    // What began without a network ends now.
    assert_eq!(node.run(14, 0), Stance::Doubting);
    assert!(node.pressure.signals().has(Signals::ISOLATION));
    assert_eq!(node.run(1, 0), Stance::Deferring);
    assert!(!node.pressure.signals().has(Signals::ISOLATION));
    let told: Vec<_> = node
        .notices
        .iter()
        .map(|&(_, incident, begins)| (incident, begins))
        .collect();
    assert_eq!(
        told,
        [
            (NodeIncident::Isolated, true),
            (NodeIncident::Isolated, false)
        ]
    );
}

/// Lesson: with a check every few seconds the node was isolated between any two good ones, while
/// three sites and the canaries were down.
#[test]
fn where_few_checks_come_one_answer_since_the_canaries_are_silent_is_enough_for_a_network() {
    let gone = Health {
        dark_networks: 3,
        ..canaries(3, 0)
    };
    let mut node = Node::default();
    let turn = |node: &mut Node, second, results, failing| {
        let drained = Share { results, failing };
        node.pressure.drained(drained, at(second).mono);
        let _ = node.pressure.turn(0, at(second));
        node.pressure.stance()
    };
    node.health(gone);
    assert_eq!(turn(&mut node, 1, 5, 4), Stance::Clear);
    for (second, failing) in [(12, 0), (13, 1), (40, 0), (50, 9)] {
        let stance = turn(&mut node, second, failing, failing);
        assert_eq!(stance, Stance::Clear, "{second}");
    }
    // Nine of ten of ten say more than one that is near.
    assert_eq!(turn(&mut node, 51, 1, 1), Stance::Isolated);
    assert_eq!(
        turn(&mut node, 60, 2, 0),
        Stance::Doubting,
        "what began before"
    );
    assert_eq!(turn(&mut node, 100, 0, 0), Stance::Clear);
    // Another silence, in which nobody answered.
    node.health(canaries(3, 3));
    node.health(gone);
    assert_eq!(turn(&mut node, 110, 0, 0), Stance::Isolated);
}

#[test]
fn isolation_goes_on_without_a_check_until_a_canary_or_a_target_answers() {
    let gone = Health {
        dark_networks: 3,
        ..canaries(2, 0)
    };
    for ends in [canaries(2, 1), canaries(2, 0)] {
        let mut node = Node::default();
        node.health(gone);
        let now = at(1);
        // Where connect() itself fails every check is unknown: none of them counts.
        assert_eq!(node.pressure.turn(0, now).len(), 1);
        assert_eq!(node.pressure.stance(), Stance::Isolated);
        node.health(canaries(2, 0));
        for second in 2..100 {
            assert_eq!(node.pressure.turn(0, at(second)), []);
            assert!(node.pressure.signals().has(Signals::ISOLATION));
        }
        node.health(ends);
        node.second = 100;
        assert_eq!(node.run(1, 50), Stance::Doubting);
        assert_eq!(node.notices, [(101, NodeIncident::Isolated, false)]);
    }
}

/// A health that was measured then.
fn measured(at: Now, signals: Signals) -> Health {
    Health {
        signals,
        measured: Some(at.mono),
        ..Health::default()
    }
}

fn ms(ms: u64) -> Now {
    Now {
        mono: MonoUs(ms * 1_000),
        unix: UnixMs(START + ms),
    }
}

#[test]
fn what_was_told_holds_for_two_seconds_and_then_the_node_is_stalled() {
    let mut pressure = Pressure::default();
    let mut stance = |told: Option<u64>, now: u64| {
        if let Some(told) = told {
            pressure.heard(measured(ms(told), Signals::NONE));
        }
        pressure.turn(0, ms(now));
        let is_stalled = pressure.signals() == Signals::STALLED;
        assert_eq!(pressure.stance() == Stance::Doubting, is_stalled);
        is_stalled
    };
    assert!(!stance(None, 0), "before the first word nothing is stale");
    assert!(!stance(Some(100), 100));
    assert!(!stance(None, 2_100));
    assert!(stance(None, 2_101));
    assert!(stance(None, 60_000));
    // What is drained now may be of the time without a word.
    assert!(stance(Some(60_100), 60_100));
    assert!(stance(Some(61_000), 62_099));
    assert!(!stance(Some(62_000), 62_100));
}

#[test]
fn a_stop_shows_although_the_first_word_after_it_comes_before_the_sink_turns() {
    let mut pressure = Pressure::default();
    pressure.heard(measured(ms(1_000), Signals::NONE));
    pressure.turn(0, ms(1_000));
    pressure.heard(measured(ms(6_000), Signals::NONE));
    pressure.turn(0, ms(6_001));
    assert_eq!(pressure.signals(), Signals::STALLED);
    // A sink that alone stood still hears of a node that was well all the time.
    let mut pressure = Pressure::default();
    (1..=6).for_each(|s| pressure.heard(measured(at(s), Signals::NONE)));
    pressure.turn(0, at(6));
    assert!(pressure.signals().is_empty());
}

#[test]
fn a_signal_that_came_and_went_between_two_turns_counts_for_one() {
    let mut pressure = Pressure::default();
    pressure.heard(measured(ms(0), Signals::RESULTS_HELD));
    pressure.heard(measured(ms(500), Signals::NONE));
    pressure.turn(0, ms(600));
    assert_eq!(pressure.signals(), Signals::RESULTS_HELD);
    assert_eq!(pressure.stance(), Stance::Doubting);
    pressure.turn(0, ms(610));
    assert_eq!(pressure.stance(), Stance::Clear);
}

#[test]
fn every_set_of_signals_is_a_number_and_names_are_told_apart() {
    for bits in 0..1u16 << Signals::NONE.each().count() {
        let signals = Signals::from_bits(bits);
        assert_eq!(signals.bits(), bits);
        assert_eq!(signals.names().count() as u32, bits.count_ones());
    }
    let names: HashSet<_> = Signals::NONE.each().map(|(name, _)| name).collect();
    assert_eq!(names.len(), Signals::COUNT);
}

#[test]
fn a_notice_says_which_signals_and_since_when() {
    let mut pressure = Pressure::default();
    pressure.heard(signals(Signals::LOOP_LAG));
    assert_eq!(pressure.turn(0, at(10)), []);
    pressure.heard(signals(Signals::PORTS));
    let notices = pressure.turn(25, at(310));
    let notice = notices[0];
    assert_eq!((notice.since, notice.targets), (at(10).unix, 25));
    let names: Vec<_> = notice.signals.names().collect();
    assert_eq!(names, ["loop_lag", "ports"]);
    assert_eq!(notice.incident.as_str(), "node_suppressing");
}

fn any_health() -> impl Strategy<Value = Health> {
    let signal = prop::sample::select(vec![
        Signals::NONE,
        Signals::NONE,
        Signals::LOOP_LAG,
        Signals::PORTS,
        Signals::CHECKS_EXCUSED,
    ]);
    (signal, 0u8..4, 0u8..4, 0u16..5).prop_map(|(signals, configured, answering, dark)| Health {
        vouched: None,
        signals,
        canaries: Canaries {
            configured,
            answering: answering.min(configured),
        },
        dark_networks: dark,
        measured: None,
    })
}

/// What a fleet of a thousand may lose: too few, or enough.
fn any_lost() -> impl Strategy<Value = Lost> {
    let targets = prop::sample::select(vec![0u64, 0, 0, 2, 3, 400]);
    (targets.clone(), targets).prop_map(|(without_route, without_resolver)| Lost {
        without_route,
        route_missed: without_route > 0,
        without_resolver,
        resolver_missed: without_resolver > 0,
    })
}

proptest! {
    #[test]
    fn whatever_we_are_told_nothing_is_suppressed_for_long_in_silence(
        spells in prop::collection::vec(
            (any_health(), any_lost(), 1u64..400, 0u64..=100),
            1..12,
        ),
    ) {
        let (mut pressure, mut second, mut suppressed_s) = (Pressure::default(), 0, 0);
        let mut told: HashSet<NodeIncident> = HashSet::new();
        let mut lost_s = 0;
        for (health, lost, seconds, failing_percent) in spells {
            pressure.heard(health);
            for _ in 0..seconds {
                second += 1;
                let failing = failing_percent * 10;
                pressure.drained(Share { results: 1_000, failing }, at(second).mono);
                pressure.lost(lost, 1_000, at(second).mono);
                for notice in pressure.turn(0, at(second)) {
                    prop_assert!(notice.since <= at(second).unix && !notice.signals.is_empty());
                    let is_news = if notice.begins {
                        told.insert(notice.incident)
                    } else {
                        told.remove(&notice.incident)
                    };
                    prop_assert!(is_news, "{notice:?}");
                }
                let stance = pressure.stance();
                suppressed_s = if stance.suppresses() { suppressed_s + 1 } else { 0 };
                // Just after isolation, which was told.
                let aftermath = pressure.signals().has(Signals::ISOLATION);
                let is_told = !told.is_empty() || aftermath;
                prop_assert!(suppressed_s <= 300 || is_told, "{stance:?} at {second}");
                // Nor does anybody stay unknown one by one, from the end of isolation on.
                let is_lost = lost.without_route.max(lost.without_resolver) >= 3;
                lost_s = if is_lost && !aftermath { lost_s + 1 } else { 0 };
                prop_assert!(lost_s <= 300 || !told.is_empty(), "{lost:?} at {second}");
                let isolated = told.contains(&NodeIncident::Isolated);
                prop_assert_eq!(isolated, stance == Stance::Isolated);
                // Without a reason nothing is doubted.
                let doubts = health.signals.without(Signals::TOLD_ONLY);
                let silent = pressure.signals().has(Signals::CANARIES_SILENT);
                let quiet = doubts.is_empty() && !silent && !pressure.is_failing() && !aftermath;
                prop_assert!(!quiet || !stance.suppresses() || isolated);
            }
        }
    }
}
