//! Deadlines, stalls, overload: our own trouble is never the target's.

use std::borrow::Cow;
use std::collections::HashMap;

use cores::reactor::sim::End;
use model::FailureClass;
use model::inbox::{Cadence, CoreCommand};
use model::limits::INBOX_MAX;
use model::outcome::flags;
use model::{MonoUs, Slot, TargetSpec, Verdict};

use crate::row::Row;
use crate::world::{Bench, Chance, GRID_ZERO, STALL_US, Sizes, bench, target};

/// Phases of a check of an address that was not connected to: connect and total.
const CONNECTING: [bool; 6] = [false, true, false, false, false, true];

#[test]
fn silence_ends_at_the_deadline_with_the_phase_that_was_waited_in() {
    let mut world = Chance::new(1, 0);
    world.dark = true;
    let mut bench = bench(world, &Sizes::default());
    bench.tell(CoreCommand::Upsert {
        slot: Slot(0),
        target: crate::world::target_at(1, "http://1.2.3.4/", 10, 1),
    });
    bench.run_s(20);
    let outcomes = bench.drain();
    assert!(!outcomes.is_empty());
    for outcome in outcomes {
        assert_eq!(outcome.failure(), Some(FailureClass::ConnectTimeout));
        assert!(!outcome.has(flags::LATE), "a timeout completed nothing");
        let total = outcome.phases.total_us;
        assert!((5_000_000..=5_015_000).contains(&total), "{total}");
    }
}

#[test]
fn a_timeout_while_we_were_stalled_is_ours() {
    let mut world = Chance::new(2, 0);
    world.dark = true;
    world.stalls = 2_000;
    let mut bench = bench(world, &Sizes::default());
    for slot in 0..50u32 {
        let url = format!("http://1.2.3.{}/", slot + 1);
        let target = crate::world::target_at(i64::from(slot) + 1, &url, 10, 1);
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot),
            target,
        });
    }
    bench.run_s(600);
    let account = bench.sim.core().account();
    let ours = account.failed(FailureClass::LocalPressure);
    let theirs = account.failed(FailureClass::ConnectTimeout);
    assert!(ours > 100 && theirs > 100, "{account:?}");
    let told: Vec<_> = bench.evidence.try_iter().collect();
    let told = told.iter();
    let told = told.filter(|evidence| evidence.failure() == Some(FailureClass::LocalPressure));
    let mut texts = 0;
    let mut blamed = HashMap::new();
    for evidence in told {
        texts += 1;
        blamed.insert((evidence.slot, evidence.seq), evidence);
        let stalled = "too busy to judge: it stood still for so long that the time of the check";
        assert!(evidence.text.contains(stalled), "{}", evidence.text);
        assert!(evidence.text.ends_with("nothing is known of the site"));
        assert_eq!(evidence.addresses.len(), 1, "what it waited for");
    }
    assert_eq!(texts, ours);
    let row = Row::of("a_timeout_while_we_were_stalled_is_ours");
    let outcomes = bench.drain();
    assert_eq!(outcomes.len() as u64, ours + theirs);
    let stalls = bench.sim.world_mut().stalled.clone();
    for outcome in outcomes {
        let start_us = (outcome.started.get().0 - GRID_ZERO.0) * 1_000;
        let end_us = start_us + u64::from(outcome.phases.total_us);
        // A start is known to the millisecond.
        let stalled = stalls.iter().any(|from| {
            let to = from + STALL_US;
            start_us + 1_000 < to && to <= end_us + 1_000
        });
        let (class, verdict) = if stalled {
            (FailureClass::LocalPressure, Verdict::Unknown)
        } else {
            (FailureClass::ConnectTimeout, Verdict::Down)
        };
        assert_eq!(outcome.failure(), Some(class), "{outcome:?}");
        assert_eq!(outcome.verdict(), verdict, "{outcome:?}");
        if stalled {
            row.holds(&outcome, blamed[&(outcome.slot.0, outcome.seq)]);
        }
        // Whoever is to blame, the check waited for a connection and for nothing else.
        let phases = outcome.phases.values();
        assert_eq!(phases.map(|us| us.is_some()), CONNECTING, "{outcome:?}");
    }
}

/// As after SIGSTOP and SIGCONT. What was in flight ends unanswered, what fell due meanwhile begins
/// late or is left out until its next grid point: our own doing, all of it.
#[test]
fn a_core_that_stood_still_for_five_seconds_calls_nobody_down_and_leaves_nobody_out_twice() {
    const TARGETS: u32 = 900;
    // Of an interval of 10 s, and the quarter of it that a check may be late.
    const CADENCE_MS: u64 = 9_000;
    const PATIENCE_MS: u64 = CADENCE_MS / 4;
    let mut bench = bench(Chance::new(16, 0), &Sizes::default());
    for slot in 0..TARGETS {
        let url = format!("http://9.{}.{}.7/", slot / 200, slot % 200);
        let target = crate::world::target_at(i64::from(slot) + 1, &url, 10, 1);
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot),
            target,
        });
    }
    bench.run_s(20);
    bench.sim.world_mut().dark = true;
    bench.run_s(1);
    let in_flight = bench.sim.core().account().in_flight;
    assert!(in_flight > 50, "{in_flight}");
    bench.sim.world_mut().stop_us = 5_000_000;
    bench.run_s(35);
    let account = bench.sim.core().account();
    let ours = account.failed(FailureClass::LocalPressure);
    let down = account.verdicts[Verdict::Down as usize];
    assert_eq!((ours, down), (in_flight, 0), "{account:?}");
    // Those that would have begun later than their patience, and no others.
    let late_s = 5 - PATIENCE_MS as i64 / 1_000;
    let about = i64::from(TARGETS) / 9 * late_s;
    assert!(
        (account.shed as i64 - about).abs() < about / 4,
        "{account:?}"
    );
    let mut last = HashMap::new();
    for outcome in bench.drain() {
        let at = outcome.started.get().0;
        if let Some(before) = last.insert(outcome.slot, at) {
            let gap_ms = at - before;
            assert!(gap_ms <= 2 * CADENCE_MS + PATIENCE_MS, "{outcome:?}");
        }
    }
    let end = bench.sim.now().unix.0;
    assert_eq!(last.len(), TARGETS as usize);
    let forgotten = |at: &u64| end - at > CADENCE_MS + PATIENCE_MS;
    assert!(!last.values().any(forgotten));
}

/// A turn that starts many checks takes long: the last of them begins at its end.
#[test]
fn a_stall_that_was_over_when_a_check_began_is_no_excuse_for_its_timeout() {
    let mut world = Chance::new(15, 0);
    (world.dark, world.busy_us) = (true, STALL_US);
    let mut bench = bench(world, &Sizes::default());
    bench.tell(CoreCommand::Upsert {
        slot: Slot(0),
        target: crate::world::target_at(1, "http://1.2.3.4/", 10, 1),
    });
    bench.run_s(60);
    assert!(bench.stats.snapshot().turns_late > 0);
    let outcomes = bench.drain();
    assert!(outcomes.len() >= 3, "{outcomes:?}");
    for outcome in outcomes {
        assert_eq!(outcome.failure(), Some(FailureClass::ConnectTimeout));
        assert!(outcome.lag_us >= STALL_US as u32, "{outcome:?}");
    }
}

#[test]
fn a_connection_that_is_lost_while_we_stood_still_is_no_fault_of_the_server() {
    let part = b"HTTP/1.1 200 OK\r\n".as_slice();
    // What some servers say before they close.
    let timeout = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n".as_slice();
    for (said, end, class) in [
        (part, End::Reset, FailureClass::HttpReset),
        (part, End::Eof, FailureClass::HttpTruncated),
        (timeout, End::Eof, FailureClass::HttpStatus),
    ] {
        let mut world = Chance::new(14, 0);
        world.good = Cow::Borrowed(said);
        world.good_end = end;
        (world.rtt_us, world.stalls) = (1_000_000, 2_000);
        let mut bench = bench(world, &Sizes::default());
        bench.add(100, 10);
        bench.run_s(300);
        let account = bench.sim.core().account();
        let ours = account.failed(FailureClass::LocalPressure);
        let theirs = account.failed(class);
        assert!(ours > 100 && theirs > 100, "{account:?}");
        let told: Vec<_> = bench.evidence.try_iter().collect();
        let is_ours = |class| class == Some(FailureClass::LocalPressure);
        let told = told.iter().filter(|evidence| is_ours(evidence.failure()));
        let given_up = "it stood still for so long that the server may have given it up";
        assert_eq!(
            told.filter(|one| one.text.contains(given_up)).count() as u64,
            ours
        );
        let stalls = bench.sim.world_mut().stalled.clone();
        for outcome in bench.drain() {
            let start_us = (outcome.started.get().0 - GRID_ZERO.0) * 1_000;
            let end_us = start_us + u64::from(outcome.phases.total_us);
            // What is neither before nor after all of the stall may be said either way.
            let met = |from: &u64| start_us + 1_000 < from + STALL_US && from + 1_000 < end_us;
            let stalled = stalls.iter().any(met);
            assert!(stalled || !is_ours(outcome.failure()), "{outcome:?}");
            let whole = |from: &u64| start_us < *from && from + STALL_US + 1_000 < end_us;
            assert!(
                !stalls.iter().any(whole) || is_ours(outcome.failure()),
                "{outcome:?}"
            );
        }
    }
}

#[test]
fn networks_are_dark_while_nothing_of_theirs_answers_and_turns_that_come_late_are_counted() {
    let mut bench = bench(Chance::new(13, 0), &Sizes::default());
    for slot in 0..60u32 {
        let url = format!("http://9.{}.3.{}/", slot % 3, slot + 1);
        let target = crate::world::target_at(i64::from(slot) + 1, &url, 10, 1);
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot),
            target,
        });
    }
    let dark = |bench: &Bench| cores::dark_networks([&bench.stats.network_stats]);
    bench.run_s(30);
    let account = bench.stats.snapshot();
    assert_eq!((dark(&bench), account.networks), (0, 3));
    assert_eq!(account.turns_late, 0);
    bench.sim.world_mut().dark = true;
    bench.run_s(20);
    assert_eq!(dark(&bench), 3);
    // Lesson: three sites that were known to be down for hours were three dark networks.
    bench.run_s(90);
    assert_eq!(dark(&bench), 0, "what stays down is no news");
    bench.sim.world_mut().dark = false;
    bench.run_s(15);
    assert_eq!(dark(&bench), 0);
    bench.sim.world_mut().dark = true;
    bench.run_s(20);
    assert_eq!(dark(&bench), 3, "news again");
    bench.sim.world_mut().dark = false;
    bench.run_s(15);
    bench.sim.world_mut().stalls = 2_000;
    bench.run_s(60);
    let late = bench.stats.snapshot().turns_late;
    assert_eq!(late, bench.sim.world_mut().stalled.len() as u64);
    assert!(late > 0);
    bench.drain();
}

#[test]
fn what_completes_after_its_deadline_and_before_the_judgement_counts_and_says_so() {
    let mut world = Chance::new(8, 0);
    // 4.8 s of the 5 s: a stall of 3 s carries some completions over the deadline.
    (world.rtt_us, world.stalls) = (2_400_000, 3_000);
    let mut bench = bench(world, &Sizes::default());
    bench.add(200, 10);
    bench.run_s(300);
    let outcomes = bench.drain();
    let late: Vec<_> = outcomes.iter().filter(|one| one.has(flags::LATE)).collect();
    assert!(!late.is_empty());
    for outcome in &late {
        assert_eq!(outcome.verdict(), Verdict::Up, "{outcome:?}");
        assert!(outcome.phases.total_us > 5_000_000, "{outcome:?}");
    }
    let account = bench.sim.core().account();
    assert_eq!((account.late, account.held), (late.len() as u64, 0));
}

#[test]
fn how_long_ends_waited_for_us_is_measured_of_every_check() {
    let mut bench = bench(Chance::new(8, 0), &Sizes::default());
    bench.add(50, 10);
    bench.run_s(100);
    let intervals: Vec<_> = bench.histograms.try_iter().collect();
    let outcomes = bench.drain();
    let measured: u64 = intervals.iter().map(|set| set.reap.len()).sum();
    let ended: u64 = intervals.iter().map(|set| set.phases[5].len()).sum();
    assert!(measured == ended && measured > 400, "{measured} of {ended}");
    let longest = outcomes.iter().map(|outcome| outcome.reap_us).max();
    let shown = intervals.iter().map(|set| set.reap.max()).max();
    let (longest, shown) = longest.map(u64::from).zip(shown).expect("some were made");
    // Three digits of it.
    let near = longest - longest / 500..=longest + longest / 500;
    assert!(longest > 0 && near.contains(&shown), "{shown} of {longest}");
}

#[test]
fn a_short_stall_that_answers_survive_is_no_failure() {
    let mut world = Chance::new(3, 0);
    world.stalls = 3_000;
    let mut bench = bench(world, &Sizes::default());
    bench.add(200, 10);
    bench.run_s(300);
    let account = bench.sim.core().account();
    assert_eq!(account.verdicts[Verdict::Down as usize], 0, "{account:?}");
    assert!(
        bench
            .drain()
            .iter()
            .any(|outcome| outcome.lag_us > 1_000_000)
    );
}

#[test]
fn overload_sheds_routine_checks_and_starves_nobody() {
    let mut world = Chance::new(4, 0);
    world.rtt_us = 2_000_000;
    // 64 in flight at 4 s each serve 16 checks/s of the 44 that are due.
    let mut bench = bench(
        world,
        &Sizes {
            max_in_flight: 64,
            ..Sizes::default()
        },
    );
    bench.add(400, 10);
    let mut probed = vec![0u32; 400];
    for _ in 0..40 {
        bench.run_s(15);
        bench
            .drain()
            .iter()
            .for_each(|outcome| probed[outcome.slot.index()] += 1);
    }
    let account = bench.sim.core().account();
    assert!(account.shed > 1_000 && account.balances(), "{account:?}");
    assert_eq!(account.verdicts[Verdict::Down as usize], 0);
    let (least, most) = (probed.iter().min(), probed.iter().max());
    assert!(
        least >= Some(&10) && most <= Some(&40),
        "{least:?} {most:?}"
    );
}

/// Lesson: with those that were shed in one queue, one target of 25 was found after nine cadences
/// where a core could do every fourth check; here the longest wait was 297 s.
#[test]
fn under_overload_nobody_waits_longer_than_there_is_too_much_to_do() {
    const TARGETS: u32 = 670;
    // Of an interval of 10 s.
    const CADENCE_MS: u64 = 9_000;
    let mut world = Chance::new(4, 0);
    world.rtt_us = 2_000_000;
    // 64 in flight at 4 s each serve 16 checks/s of the 74 that are due, all at once every 4 s.
    let mut bench = bench(
        world,
        &Sizes {
            max_in_flight: 64,
            ..Sizes::default()
        },
    );
    bench.add(TARGETS, 10);
    let mut last = vec![None; TARGETS as usize];
    let mut longest_ms = 0;
    for _ in 0..1_000 {
        bench.run_s(1);
        let now = bench.sim.now().mono;
        for outcome in bench.drain() {
            let before = last[outcome.slot.index()].replace(now);
            longest_ms = longest_ms.max(before.map_or(0, |before| now.since(before) / 1_000));
        }
    }
    assert!(last.iter().all(Option::is_some));
    let account = bench.sim.core().account();
    let overload = account.due.div_ceil(account.probed);
    assert_eq!(overload, 5, "{account:?}");
    // The pulses of this world may cost a cadence more. A check starts at most a quarter of its
    // cadence late, and is seen up to a second later.
    let within_ms = (overload + 2) * CADENCE_MS + CADENCE_MS / 4 + 1_000;
    assert!(longest_ms <= within_ms, "{longest_ms} of {within_ms}");
}

#[test]
fn a_routine_check_starts_within_its_own_patience_whatever_waits_before_it() {
    let mut world = Chance::new(9, 0);
    world.rtt_us = 2_000_000;
    let mut bench = bench(
        world,
        &Sizes {
            max_in_flight: 64,
            ..Sizes::default()
        },
    );
    bench.add(300, 10);
    for slot in 300..2_300u32 {
        let target = target(i64::from(slot) + 1, 300);
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot),
            target,
        });
    }
    let (mut short, mut long) = (0, 0);
    for _ in 0..30 {
        bench.run_s(10);
        for outcome in bench.drain() {
            let (count, patience_us) = if outcome.slot.0 < 300 {
                (&mut short, 2_250_000)
            } else {
                (&mut long, 10_000_000)
            };
            *count += 1;
            assert!(outcome.lag_us <= patience_us + 5_000, "{outcome:?}");
        }
    }
    assert!(short > 100 && long > 100, "{short} {long}");
}

#[test]
fn an_outage_of_many_does_not_take_the_starts_of_the_healthy() {
    let mut bench = bench(Chance::new(10, 0), &Sizes::default());
    bench.add(5_000, 60);
    for slot in 0..2_500 {
        bench.tell(CoreCommand::Cadence {
            slot: Slot(slot),
            generation: model::Generation(1),
            cadence: Cadence::Recheck { after_ms: 5_000 },
        });
    }
    bench.run_s(90);
    let account = bench.sim.core().account();
    assert_eq!((account.shed, account.pending), (0, 0), "{account:?}");
    assert!(account.probed > 2_500 * 10, "{account:?}");
}

#[test]
fn a_full_channel_holds_results_and_slows_dispatch_without_loss() {
    let mut bench = bench(
        Chance::new(5, 0),
        &Sizes {
            outcomes: 64,
            max_in_flight: 300,
            ..Sizes::default()
        },
    );
    bench.add(1_000, 10);
    bench.run_s(30);
    let account = bench.sim.core().account();
    assert!(account.held > 0 && account.held_since_us > 0, "{account:?}");
    assert!(account.held <= 300, "held beyond the cap: {account:?}");
    assert!(account.probed <= 64 + 300, "dispatch went on: {account:?}");
    bench.tell(CoreCommand::OneShot {
        target: target(9, 300),
        ticket: model::Ticket(1),
    });
    bench.run_s(1);
    assert_eq!(bench.one_shots.len(), 1, "a one-shot waits for no sink");
    let mut taken = 0;
    for _ in 0..2_000 {
        taken += bench.drain().len() as u64;
        bench.sim.run_until(MonoUs(bench.sim.now().mono.0 + 10_000));
    }
    taken += bench.drain().len() as u64;
    let account = bench.sim.core().account();
    assert_eq!(account.held, 0, "{account:?}");
    assert_eq!(taken, account.sent);
    assert!(account.probed > 1_000);
}

#[test]
fn a_full_evidence_channel_cuts_records_and_loses_none() {
    let sizes = Sizes {
        evidence: 16,
        max_in_flight: 300,
        ..Sizes::default()
    };
    let mut bench = bench(Chance::new(11, 1_000), &sizes);
    bench.add(1_000, 10);
    bench.run_s(30);
    let account = bench.sim.core().account();
    assert!((1..=300).contains(&account.evidence_held), "{account:?}");
    assert!(account.held >= account.evidence_held, "{account:?}");
    assert_eq!(account.evidence_queued, 16);
    assert!(account.probed <= 16 + 300, "dispatch went on: {account:?}");
    let mut seen = HashMap::new();
    let (mut whole, mut cut) = (0, 0);
    for _ in 0..2_000 {
        // As the sink does it: what was sent before an outcome is there once it is taken.
        let outcomes: Vec<_> = bench.outcomes.try_iter().collect();
        for record in bench.evidence.try_iter() {
            seen.insert((record.slot, record.seq), record);
        }
        for outcome in outcomes.iter().filter(|outcome| outcome.class != 0) {
            let record = seen.remove(&(outcome.slot.0, outcome.seq));
            let record = record.unwrap_or_else(|| panic!("no evidence of {outcome:?}"));
            assert_eq!(record.class, outcome.class);
            let is_cut = *record == record.truncated();
            *if is_cut { &mut cut } else { &mut whole } += 1;
        }
        bench.sim.run_until(MonoUs(bench.sim.now().mono.0 + 10_000));
    }
    let account = bench.sim.core().account();
    assert!(account.balances() && account.probed > 1_000, "{account:?}");
    assert_eq!((account.evidence_held, account.evidence_dropped), (0, 0));
    assert!(cut >= 100 && whole >= 100, "{cut} cut, {whole} whole");
    assert!(account.evidence_truncated >= cut, "{account:?}");
}

#[test]
fn what_a_long_head_or_request_took_is_given_back() {
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Padding: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(12 * 1_024)
    );
    let long = "y".repeat(4_000);
    let mut world = Chance::new(12, 0);
    (world.good, world.rtt_us) = (head.into_bytes().into(), 1_000_000);
    let mut bench = bench(world, &Sizes::default());
    for slot in 0..500u32 {
        let mut target = target(i64::from(slot) + 1, 10);
        if slot % 2 == 0 {
            let spec = TargetSpec {
                url: format!("http://s-{slot}.example/"),
                interval_s: Some(10),
                headers: (0..3).map(|n| format!("X-{n}: {long}")).collect(),
                ..TargetSpec::default()
            };
            target.config = spec.parse().expect("headers within their limits");
        }
        bench.tell(CoreCommand::Upsert {
            slot: Slot(slot),
            target,
        });
    }
    bench.run_s(60);
    bench.tell(CoreCommand::Pause(true));
    bench.run_s(10);
    let account = bench.sim.core().account();
    assert_eq!(account.verdicts[Verdict::Up as usize], account.probed);
    assert!(
        account.in_flight == 0 && account.attempt_buffers > 50,
        "{account:?}"
    );
    let (sets, bytes) = (account.attempt_buffers, account.attempt_buffer_bytes);
    assert!(
        bytes > 0 && bytes <= sets * 10 * 1_024,
        "{sets} sets, {bytes} B"
    );
}

#[test]
fn one_shots_beyond_what_may_wait_are_shed_and_told() {
    let mut world = Chance::new(7, 0);
    world.dark = true;
    let sizes = Sizes {
        max_in_flight: 1,
        ..Sizes::default()
    };
    let mut bench = bench(world, &sizes);
    let too_many = 100;
    // Silence keeps one in flight for the whole second.
    for number in 0..=INBOX_MAX + too_many {
        bench.tell(CoreCommand::OneShot {
            target: crate::world::target_at(1, "http://1.2.3.4/", 10, 1),
            ticket: model::Ticket(number as u64),
        });
    }
    bench.run_s(1);
    let refused: Vec<_> = bench.one_shots.try_iter().collect();
    let row = Row::of("one_shots_beyond_what_may_wait_are_shed_and_told");
    assert!(!refused.is_empty());
    for report in &refused {
        row.holds(&report.outcome, &report.evidence);
    }
    let account = bench.sim.core().account().one_shot;
    assert_eq!(refused.len() as u64, account.refused);
    assert_eq!(account.pending, INBOX_MAX as u64);
    assert!(bench.drain().is_empty(), "nobody else is told");
}

#[test]
fn a_drain_finishes_or_cancels_what_runs_and_refuses_one_shots() {
    let mut world = Chance::new(6, 0);
    world.rtt_us = 1_000_000;
    let mut bench = bench(world, &Sizes::default());
    bench.add(500, 10);
    bench.run_s(15);
    assert!(bench.sim.core().account().in_flight > 20);
    bench.tell(CoreCommand::Drain { within_ms: 1_000 });
    bench.tell(CoreCommand::OneShot {
        target: target(9, 300),
        ticket: model::Ticket(1),
    });
    bench.run_s(30);
    assert!(bench.sim.core().is_drained());
    let account = bench.sim.core().account();
    assert!(
        account.balances() && account.in_flight == 0 && account.cancelled > 0,
        "{account:?}"
    );
    let refused = bench.one_shots.try_recv().expect("answered");
    assert_eq!(
        refused.outcome.failure(),
        Some(FailureClass::LocalCancelled)
    );
    assert_eq!(
        refused.outcome.phases.values(),
        [None; 6],
        "nothing was begun"
    );
    assert!(refused.evidence.text.contains("cancelled"));
    assert!(bench.sim.now().mono.0 < 17_000_000, "{:?}", bench.sim.now());
}

#[test]
fn a_check_that_a_drain_cancels_keeps_the_phases_that_it_reached() {
    let mut world = Chance::new(6, 0);
    world.rtt_us = 1_000_000;
    let mut bench = bench(world, &Sizes::default());
    let ask = |number| CoreCommand::OneShot {
        target: crate::world::target_at(1, "http://1.2.3.4/", 10, 1),
        ticket: model::Ticket(number),
    };
    // One waits for its answer, the other one for its connection.
    bench.tell(ask(1));
    bench.run_s(1);
    bench.tell(ask(2));
    let soon = MonoUs(bench.sim.now().mono.0 + 200_000);
    bench.sim.run_until(soon);
    bench.tell(CoreCommand::Drain { within_ms: 500 });
    bench.run_s(5);
    assert!(bench.sim.core().is_drained());
    let mut reports: Vec<_> = bench.one_shots.try_iter().collect();
    reports.sort_by_key(|report| report.ticket.0);
    let row = Row::of("a_check_that_a_drain_cancels_keeps_the_phases_that_it_reached");
    let told = reports.iter().map(|report| {
        row.holds(&report.outcome, &report.evidence);
        report.outcome.phases.values().map(|us| us.is_some())
    });
    let awaiting = [false, true, false, true, false, true];
    assert_eq!(told.collect::<Vec<_>>(), [awaiting, CONNECTING]);
}
