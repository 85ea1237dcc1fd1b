//! Every gate from both sides.

use serde_json::json;

use super::super::plan::FaultMix;
use super::super::record::testbed;
use super::*;

/// All that is needed, well in every way.
struct World {
    rung: Rung,
    observer: Observer,
    statuses: Vec<Value>,
    counted: Counters,
    polls: Polls,
    unbalanced: Vec<String>,
    lag: Latency,
    findings: Findings,
    errors: Vec<String>,
    pressed: Option<Pressed>,
}

impl World {
    fn well() -> Self {
        let account = json!({
            "due": 9, "pending": 1, "in_flight": 1, "probed": 7, "shed": 0, "stale": 0,
            "cancelled": 0, "held": 0, "sent": 7, "queued": 0, "drained": 7, "stepped": 0,
            "coalesced": 7, "discarded": 0,
        });
        let polls = Polls {
            freshness_max_s: Some(57.5),
            in_flight_max: 90,
            rss_max_bytes: 1_000,
            pending_max: 50,
            limit_min: Some(91),
            ..Polls::default()
        };
        Self {
            rung: Rung {
                faults: FaultMix::None,
                ..testbed::rung()
            },
            observer: testbed::measured(37.0).observer,
            statuses: vec![json!({
                "balanced": true, "max_in_flight": IN_FLIGHT_MAX, "cores": [{ "account": account }],
            })],
            counted: Counters {
                probed: 210_000,
                freshness_rows: 13_000,
                ..Counters::default()
            },
            polls,
            unbalanced: Vec::new(),
            lag: testbed::latency("schedule_lag", 250_000),
            findings: Findings::default(),
            errors: Vec::new(),
            pressed: None,
        }
    }

    fn judge(&self) -> Vec<Judged> {
        gates(&Seen {
            rung: &self.rung,
            seconds: 120.0,
            observer: &self.observer,
            statuses: &self.statuses,
            counted: self.counted,
            polls: &self.polls,
            unbalanced: &self.unbalanced,
            lag: &self.lag,
            findings: &self.findings,
            errors: &self.errors,
            rss_budget_bytes: 1_000,
            pressed: self.pressed.as_ref(),
        })
    }

    /// Names of what does not hold.
    fn failed(change: impl FnOnce(&mut Self)) -> Vec<String> {
        let mut world = Self::well();
        change(&mut world);
        let gates = world.judge().into_iter();
        gates
            .filter(|gate| !gate.failures.is_empty())
            .map(|gate| gate.name)
            .collect()
    }
}

fn age(world: &mut World, max: u64) {
    world.observer.age = Some(testbed::ages(max));
}

#[test]
fn a_run_without_a_flaw_holds_every_gate_at_its_bound() {
    let bounds = |world: &mut World| {
        age(world, 61_000);
        world.observer.ratio = 1.25;
        world.polls.freshness_max_s = Some(76.0);
        world.polls.pending_max = 7_333;
        world.counted.freshness_rows = 8_556;
    };
    assert_eq!(World::failed(bounds), Vec::<String>::new());
    assert_eq!(
        World::failed(|world| world.observer.ratio = 1.0),
        Vec::<String>::new()
    );
}

#[test]
fn each_gate_fails_just_beyond_its_bound_and_alone() {
    type Change = fn(&mut World);
    let cases: [(&str, &[Change]); 12] = [
        (
            "every site seen",
            &[|w| w.observer.never_seen = 1, |w| w.observer.expected = 0],
        ),
        ("none stale", &[|w| w.observer.stale = 1]),
        (
            "as many requests as asked for",
            &[|w| w.observer.ratio = 0.999, |w| w.observer.ratio = 1.251],
        ),
        (
            "observer age max within the interval and a second",
            &[|w| age(w, 61_001), |w| w.observer.age = None],
        ),
        (
            "schedule lag p99.9 within 250 ms",
            &[|w| w.lag.p999_us = 250_001, |w| w.lag.count = 0],
        ),
        (
            "accounts balance",
            &[
                |w| w.statuses[0]["cores"][0]["account"]["due"] = 10.into(),
                |w| w.statuses.clear(),
                |w| w.polls.unbalanced.push("9 due ≠ 8".to_owned()),
                |w| w.unbalanced.push("9 due ≠ 8, pressed".to_owned()),
            ],
        ),
        ("nothing shed", &[|w| w.counted.shed = 1]),
        (
            "zero false downs",
            &[|w| w.findings.false_downs.push("a site".to_owned())],
        ),
        (
            "freshness of the store within its window",
            &[
                |w| w.polls.pending_max = 7_334,
                |w| w.counted.freshness_rows = 8_555,
                |w| w.polls.freshness_max_s = Some(76.1),
                |w| w.polls.freshness_max_s = None,
            ],
        ),
        (
            "no error in the log",
            &[|w| w.errors.push("ERROR a".to_owned())],
        ),
        (
            "memory within its budget",
            &[|w| w.polls.rss_max_bytes = 1_001],
        ),
        (
            "admitted concurrency as configured",
            &[
                |w| w.polls.full.push("90 of 90".to_owned()),
                |w| w.statuses[0]["max_in_flight"] = 100.into(),
                |w| w.polls.limit_min = None,
            ],
        ),
    ];
    for (name, changes) in cases {
        for (index, change) in changes.iter().enumerate() {
            assert_eq!(World::failed(change), [name], "change {index}");
        }
    }
}

#[test]
fn a_fault_that_was_not_replayed_or_not_found_fails() {
    let name = "every fault detected with its class, and recovered";
    assert_eq!(
        World::failed(|world| world.rung.faults = FaultMix::Usual),
        [name]
    );
}

#[test]
fn handshakes_must_be_those_of_the_scheme() {
    let name = ["handshakes as the scheme says"];
    let of = |scheme, sites, full, resumed| {
        World::failed(|world| {
            world.rung.scheme = scheme;
            world.rung.sites = sites;
            (world.counted.tls_full, world.counted.tls_resumed) = (full, resumed);
            // Of no matter here, and right for every size.
            world.counted.freshness_rows = u64::from(sites);
        })
    };
    let none: [String; 0] = [];
    assert_eq!(of(Scheme::Http, 100_000, 0, 0), none);
    assert_eq!(of(Scheme::Http, 100_000, 1, 0), name);
    assert_eq!(of(Scheme::HttpsFull, 100_000, 99, 1), none);
    assert_eq!(of(Scheme::HttpsFull, 100_000, 98, 2), name);
    assert_eq!(of(Scheme::HttpsFull, 100_000, 0, 0), name);
    assert_eq!(of(Scheme::HttpsResumed, 100_000, 1, 99), none);
    assert_eq!(of(Scheme::HttpsResumed, 100_000, 2, 98), name);
    assert_eq!(
        of(Scheme::HttpsResumed, 100_001, 90, 10),
        none,
        "more than a core keeps"
    );
}

#[test]
fn a_pressed_run_has_gates_of_its_own() {
    let failed = |change: fn(&mut Pressed)| {
        World::failed(|world| {
            let mut pressed = Pressed {
                good: 900,
                back_s: 60.0,
                ..testbed::pressed()
            };
            change(&mut pressed);
            world.pressed = Some(pressed);
        })
    };
    assert_eq!(failed(|_| {}), Vec::<String>::new());
    assert_eq!(
        failed(|p| p.good = 899),
        ["goodput of 90 % of what the CPU left allows"]
    );
    assert_eq!(failed(|p| p.back_s = 60.1), ["back to normal within 60 s"]);
    // A turn of all sites, twice as many as the core can do: two cadences of 57 s.
    let long = |p: &mut Pressed| (p.seconds, p.sites.never_seen) = (143.0, 1);
    assert_eq!(failed(long), ["no site starved under pressure"]);
    let short = |p: &mut Pressed| (p.seconds, p.sites.never_seen) = (142.0, 1);
    assert_eq!(failed(short), Vec::<String>::new());
    let invented = |p: &mut Pressed| p.good = p.sites.requests + 8_772;
    assert_eq!(failed(invented), ["every check under pressure was one"]);
    assert_eq!(
        failed(|p| p.relieved.never_seen = 1),
        ["every site seen after the relief"]
    );
    assert_eq!(
        failed(|p| p.relieved.stale = 1),
        ["back to normal within 60 s"]
    );
}

fn failing(gates: &[(&str, bool)]) -> Vec<Judged> {
    let judged = |&(name, wall_time): &(&str, bool)| Judged {
        name: name.to_owned(),
        wall_time,
        failures: vec!["why".to_owned()],
    };
    gates.iter().map(judged).collect()
}

fn verdict_of(form: Form, gates: &[(&str, bool)], limit_per_s: f64) -> Verdict {
    let window = Ceiling::of(1_000.0, limit_per_s, 1.0, 0.0, 0.0);
    let (verdict, reasons) = verdict(form, &testbed::rung(), &failing(gates), &window, None);
    assert_eq!(reasons.is_empty(), verdict == Verdict::Clean);
    verdict
}

#[test]
fn what_the_farm_cannot_serve_excuses_what_is_late_and_nothing_else() {
    let (roomy, tight) = (1_300.0, 1_299.0);
    let (late, wrong) = (("lag", true), ("accounts", false));
    let of = |gates: &[_], limit| verdict_of(Form::Full, gates, limit);
    assert_eq!(of(&[], roomy), Verdict::Clean);
    assert_eq!(of(&[], tight), Verdict::Clean, "all gates hold even so");
    assert_eq!(of(&[late], roomy), Verdict::Failed);
    assert_eq!(of(&[late], tight), Verdict::FarmBound);
    assert_eq!(of(&[wrong], tight), Verdict::Failed);
    assert_eq!(of(&[late, wrong], tight), Verdict::Failed);
}

#[test]
fn the_mini_form_judges_what_is_right_and_not_what_is_slow() {
    assert_eq!(
        verdict_of(Form::Mini, &[("lag", true)], 1_300.0),
        Verdict::Clean
    );
    assert_eq!(
        verdict_of(Form::Quick, &[("lag", true)], 1_300.0),
        Verdict::Failed
    );
    assert_eq!(
        verdict_of(Form::Mini, &[("faults", false)], 10.0),
        Verdict::Failed
    );
}

#[test]
fn pressure_shows_something_only_of_a_node_that_was_pressed_and_a_farm_that_was_not() {
    let rung = Rung {
        overload: Some(2),
        ..testbed::rung()
    };
    let of = |change: fn(&mut Pressed)| {
        let mut pressed = testbed::pressed();
        change(&mut pressed);
        let window = Ceiling::of(1_000.0, 2_000.0, 0.5, 0.0, 0.0);
        let of = |gates: &[_]| {
            let (verdict, reasons) =
                verdict(Form::Full, &rung, &failing(gates), &window, Some(&pressed));
            assert!(gates.len() <= reasons.len(), "none is lost: {reasons:?}");
            verdict
        };
        assert_eq!(of(&[("false downs", false)]), Verdict::Failed);
        assert_eq!(
            of(&[("lag", true)]) == Verdict::Failed,
            of(&[]) == Verdict::Clean
        );
        of(&[])
    };
    assert_eq!(
        of(|p| (p.farm_busy, p.farm_lag_p99_ms, p.factor) = (0.69, 19.9, 1.5)),
        Verdict::Clean
    );
    assert_eq!(of(|p| p.farm_busy = 0.7), Verdict::FarmBound);
    assert_eq!(of(|p| p.farm_lag_p99_ms = 20.0), Verdict::FarmBound);
    assert_eq!(of(|p| p.factor = 1.49), Verdict::Void);
}
