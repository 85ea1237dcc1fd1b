//! What must hold of a rung. Pure: gates from what was seen, and the verdict from the gates.

use model::schedule::cadence_ms;
use serde_json::Value;

use super::ceiling::{FARM_BUSY_MAX, FARM_LAG_MAX_MS};
use super::faults;
use super::limits::IN_FLIGHT_MAX;
use super::plan::{Form, Rung, Scheme, TIMEOUT_MS};
use super::reading::{Counters, Polls};
use super::record::{Ages, Ceiling, Judged, Latency, Observer, Pressed, Verdict};
use crate::findings::Findings;
use crate::gates::{self, Gate};

/// A site is late once its last request is older than an interval and this, in ms.
const AGE_SLACK_MS: u64 = 1_000;
/// Requests that the fleet may get, of those that its interval asks for.
const RATIO: std::ops::RangeInclusive<f64> = 1.0..=1.25;
const LAG_P999_MAX_US: u64 = 250_000;
/// A suspect is checked again a cadence after the end of a check that took its whole deadline, and
/// takes as long again, in s.
const RECHECK_MORE_S: f64 = 2.0 * TIMEOUT_MS as f64 / 1_000.0;
/// What the sink's ages are behind by, in s: they are computed every few seconds.
const AGES_BEHIND_S: f64 = 6.0;
/// Freshness is flushed this often, and a target's is due once in the projection interval; late
/// checks stretch that, by a cadence at most.
const FLUSH_S: f64 = 10.0;
const PROJECTION_S: f64 = 900.0;
/// Flushes that may wait, and rows that a statement of each takes along.
const FLUSHES_WAITING_MAX: f64 = 3.0;
const ROWS_MORE: f64 = 4_000.0;
/// Of the freshness that is due in a window, at least so much is written in it.
const WRITTEN_MIN: f64 = 0.7;
/// Of the handshakes, those that must be as the scheme says.
const HANDSHAKES_MIN: f64 = 0.99;
/// Goodput of what the CPU that was left allows.
const GOODPUT_MIN: f64 = 0.9;
/// After the relief all is as in the calm within this time, in s.
pub(super) const BACK_MAX_S: f64 = 60.0;
/// Turns of all sites in a time in which none may be passed over.
const TURNS_MIN: f64 = 1.25;
/// The pressure must reach this part of what was asked for, or nothing was shown.
const PRESSED_MIN: f64 = 0.75;

/// Everything that the gates of a run are judged by.
pub(super) struct Seen<'a> {
    pub(super) rung: &'a Rung,
    pub(super) seconds: f64,
    pub(super) observer: &'a Observer,
    /// `ringwatch status` before and after the window, and at the very end.
    pub(super) statuses: &'a [Value],
    pub(super) counted: Counters,
    pub(super) polls: &'a Polls,
    /// Sums that did not balance while the core was pressed and after it, a sentence each.
    pub(super) unbalanced: &'a [String],
    pub(super) lag: &'a Latency,
    pub(super) findings: &'a Findings,
    /// Lines of the node's log that say ERROR.
    pub(super) errors: &'a [String],
    pub(super) rss_budget_bytes: u64,
    pub(super) pressed: Option<&'a Pressed>,
}

/// Every gate of a run, in the order of the report.
pub(super) fn gates(seen: &Seen<'_>) -> Vec<Judged> {
    let mut gates = vec![
        right(observed(seen)),
        timed(none_stale(seen)),
        timed(often_enough(seen)),
        timed(young(seen)),
        timed(lag(seen.lag)),
        right(balanced(seen)),
        timed(nothing_shed(seen)),
        right(gates::false_downs(seen.findings)),
        right(gates::faults(seen.findings, &faults::planned(seen.rung))),
        timed(fresh(seen)),
        right(no_errors(seen.errors)),
        right(memory(seen)),
        timed(concurrency(seen)),
        right(handshakes(seen)),
    ];
    if let Some(pressed) = seen.pressed {
        gates.push(timed(goodput(pressed)));
        gates.push(timed(back(pressed)));
        gates.push(timed(none_starved(seen.rung, pressed)));
        gates.push(right(really_asked(seen, pressed)));
        gates.push(right(all_seen_again(pressed)));
    }
    gates
}

fn right(gate: Gate) -> Judged {
    judged(gate, false)
}

/// A gate that a busy machine alone may break.
fn timed(gate: Gate) -> Judged {
    judged(gate, true)
}

fn judged(gate: Gate, wall_time: bool) -> Judged {
    Judged {
        name: gate.name.to_owned(),
        wall_time,
        failures: gate.failures,
    }
}

fn gate(name: &'static str, failures: impl IntoIterator<Item = Option<String>>) -> Gate {
    Gate {
        name,
        failures: failures.into_iter().flatten().collect(),
    }
}

fn unless(holds: bool, why: impl FnOnce() -> String) -> Option<String> {
    (!holds).then(why)
}

fn observed(seen: &Seen<'_>) -> Gate {
    let observer = seen.observer;
    let (never, expected) = (observer.never_seen, observer.expected);
    let all = unless(never == 0, || {
        format!("{never} of {expected} sites were never seen")
    });
    let some = unless(expected > 0, || "no site was expected".to_owned());
    gate("every site seen", [all, some])
}

fn none_stale(seen: &Seen<'_>) -> Gate {
    let stale = seen.observer.stale;
    let failure = unless(stale == 0, || {
        format!("{stale} sites were last seen more than two intervals ago")
    });
    gate("none stale", [failure])
}

fn often_enough(seen: &Seen<'_>) -> Gate {
    let (low, high, found) = (RATIO.start(), RATIO.end(), seen.observer.ratio);
    let failure = unless(RATIO.contains(&found), || {
        format!(
            "the sites got {found:.3} of the requests that their interval asks for, not {low} to \
             {high}"
        )
    });
    gate("as many requests as asked for", [failure])
}

fn young(seen: &Seen<'_>) -> Gate {
    let max_ms = u64::from(seen.rung.interval_s) * 1_000 + AGE_SLACK_MS;
    let failure = match seen.observer.age {
        None => Some("no site has an age".to_owned()),
        Some(Ages { max, .. }) => unless(max <= max_ms, || {
            format!("a site was last seen {max} ms ago, at most {max_ms} are accepted")
        }),
    };
    gate(
        "observer age max within the interval and a second",
        [failure],
    )
}

fn lag(lag: &Latency) -> Gate {
    let p999_ms = lag.p999_us as f64 / 1_000.0;
    let none = unless(lag.count > 0, || "no check has a lag".to_owned());
    let late = unless(lag.p999_us <= LAG_P999_MAX_US, || {
        format!("schedule lag p99.9 is {p999_ms:.1} ms, at most 250 are accepted")
    });
    gate("schedule lag p99.9 within 250 ms", [none, late])
}

fn balanced(seen: &Seen<'_>) -> Gate {
    let of_statuses = seen
        .statuses
        .iter()
        .flat_map(|it| gates::accounts(it).failures);
    let unread = unless(!seen.statuses.is_empty(), || {
        "no status was read".to_owned()
    });
    let failures = unread
        .into_iter()
        .chain(of_statuses)
        .chain(seen.polls.unbalanced.clone())
        .chain(seen.unbalanced.iter().cloned());
    gate("accounts balance", failures.map(Some).collect::<Vec<_>>())
}

fn nothing_shed(seen: &Seen<'_>) -> Gate {
    let shed = seen.counted.shed;
    let failure = unless(shed == 0, || {
        format!("{shed} checks were left out in the window")
    });
    gate("nothing shed", [failure])
}

/// What readers of the store see is as new as promised: no row waits for long, no more than the
/// promise allows are missing, and none is of an old check.
fn fresh(seen: &Seen<'_>) -> Gate {
    let sites = f64::from(seen.rung.sites);
    let waiting_max = sites / PROJECTION_S * FLUSH_S * FLUSHES_WAITING_MAX + ROWS_MORE;
    let pending = seen.polls.pending_max;
    let waiting = unless(pending as f64 <= waiting_max, || {
        format!("{pending} rows of freshness waited at a time, at most {waiting_max:.0} may")
    });
    let due = sites * (seen.seconds - FLUSH_S).max(0.0) / PROJECTION_S;
    let rows = seen.counted.freshness_rows;
    let written = unless(rows as f64 >= WRITTEN_MIN * due, || {
        format!("{rows} rows of freshness were written, {due:.0} were due")
    });
    let max_s = f64::from(seen.rung.interval_s) + RECHECK_MORE_S + AGES_BEHIND_S;
    let old = match seen.polls.freshness_max_s {
        None => Some("the node told no age of its checks".to_owned()),
        Some(oldest) => unless(oldest <= max_s, || {
            format!("the oldest check was {oldest:.1} s old, at most {max_s:.0} s are accepted")
        }),
    };
    gate(
        "freshness of the store within its window",
        [waiting, written, old],
    )
}

fn no_errors(errors: &[String]) -> Gate {
    gate(
        "no error in the log",
        errors.iter().cloned().map(Some).collect::<Vec<_>>(),
    )
}

fn memory(seen: &Seen<'_>) -> Gate {
    let (most, budget) = (seen.polls.rss_max_bytes, seen.rss_budget_bytes);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let failure = unless(most <= budget, || {
        format!(
            "the node had {:.0} MiB, its budget is {:.0} MiB",
            mib(most),
            mib(budget)
        )
    });
    gate("memory within its budget", [failure])
}

/// The node's cap is the configured one, and what its cores make of it, who lower it for a while
/// after a stall, kept no check waiting: in no poll was a core as full as it admitted then.
fn concurrency(seen: &Seen<'_>) -> Gate {
    let wanted = u64::from(IN_FLIGHT_MAX);
    let caps = seen.statuses.iter().map(|status| &status["max_in_flight"]);
    let other = caps.filter(|cap| cap.as_u64() != Some(wanted)).map(|cap| {
        Some(format!(
            "the node's cap of checks in flight is {cap}, {wanted} is configured"
        ))
    });
    let untold = unless(seen.polls.limit_min.is_some(), || {
        "no core told its limit of checks in flight".to_owned()
    });
    let full = seen.polls.full.iter().cloned().map(Some);
    let failures = other.chain([untold]).chain(full);
    gate(
        "admitted concurrency as configured",
        failures.collect::<Vec<_>>(),
    )
}

/// The handshakes are those that the scheme names. A core keeps so many sessions; of a larger
/// fleet, checked in turns, the report says how many were resumed.
fn handshakes(seen: &Seen<'_>) -> Gate {
    let (full, resumed) = (
        seen.counted.tls_full as f64,
        seen.counted.tls_resumed as f64,
    );
    let all = full + resumed;
    let fits = seen.rung.sites as usize <= model::limits::TLS_SESSIONS_MAX;
    let failure = match seen.rung.scheme {
        Scheme::Http => unless(all < 1.0, || format!("{all:.0} TLS handshakes")),
        _ if all < 1.0 => Some("no TLS handshake".to_owned()),
        Scheme::HttpsFull | Scheme::Mixed => unless(full >= HANDSHAKES_MIN * all, || {
            format!("{resumed:.0} of {all:.0} were resumed")
        }),
        Scheme::HttpsResumed if fits => unless(resumed >= HANDSHAKES_MIN * all, || {
            format!("{full:.0} of {all:.0} were full")
        }),
        Scheme::HttpsResumed => None,
    };
    gate("handshakes as the scheme says", [failure])
}

fn goodput(pressed: &Pressed) -> Gate {
    let share = pressed.goodput();
    let failure = unless(share >= GOODPUT_MIN, || {
        format!(
            "{} checks were of use, {:.0} % of the {:.0} that the CPU left allows",
            pressed.good,
            100.0 * share,
            pressed.allowed
        )
    });
    gate("goodput of 90 % of what the CPU left allows", [failure])
}

fn back(pressed: &Pressed) -> Gate {
    let (back_s, stale) = (pressed.back_s, pressed.relieved.stale);
    let long = unless(back_s <= BACK_MAX_S, || format!("it took {back_s:.0} s"));
    let late = unless(stale == 0, || {
        format!("{stale} sites were last seen more than two intervals ago even then")
    });
    gate("back to normal within 60 s", [long, late])
}

/// Where a core can do one check of *k* nobody waits much longer than *k* cadences for the next:
/// who does was passed over again and again. A pressure too short for that shows nothing of it.
fn none_starved(rung: &Rung, pressed: &Pressed) -> Gate {
    let turn_s = pressed.factor * f64::from(cadence_ms(rung.interval_s)) / 1_000.0;
    let never = pressed.sites.never_seen;
    let holds = never == 0 || pressed.seconds < TURNS_MIN * turn_s;
    let failure = unless(holds, || {
        format!(
            "{never} sites were never seen in {:.0} s, in which each could have had its turn of \
             {turn_s:.0} s",
            pressed.seconds
        )
    });
    gate("no site starved under pressure", [failure])
}

/// A verdict about a site needs a request that the site got.
fn really_asked(seen: &Seen<'_>, pressed: &Pressed) -> Gate {
    // Those that were under way when the observer was reset had been seen before.
    let seen_before = seen.rung.rate() * f64::from(TIMEOUT_MS) / 1_000.0;
    let (good, requests) = (pressed.good, pressed.sites.requests);
    let failure = unless(good as f64 <= requests as f64 + seen_before, || {
        format!("{good} checks say that their site is well, and the sites got {requests} requests")
    });
    gate("every check under pressure was one", [failure])
}

fn all_seen_again(pressed: &Pressed) -> Gate {
    let never = pressed.relieved.never_seen;
    let failure = unless(never == 0, || {
        format!("{never} sites were not seen since the relief")
    });
    gate("every site seen after the relief", [failure])
}

/// Why a pressed run shows nothing, and whether it is the farm's.
fn flaw(rung: &Rung, pressed: Option<&Pressed>) -> Option<(Verdict, String)> {
    let (pressed, wanted) = (pressed?, f64::from(rung.overload?));
    if pressed.farm_busy >= FARM_BUSY_MAX {
        let why = format!(
            "the farm was {:.0} % busy under pressure",
            100.0 * pressed.farm_busy
        );
        return Some((Verdict::FarmBound, why));
    }
    if pressed.farm_lag_p99_ms >= FARM_LAG_MAX_MS {
        let why = format!(
            "the farm's loop was {:.0} ms late at p99",
            pressed.farm_lag_p99_ms
        );
        return Some((Verdict::FarmBound, why));
    }
    (pressed.factor < PRESSED_MIN * wanted).then(|| {
        let why = format!("it was pressed {:.1} times, not {wanted}", pressed.factor);
        (Verdict::Void, why)
    })
}

/// The verdict and its reasons. `window`: the farm's ceiling by the readings of the window itself.
///
/// What is wrong is wrong at any speed, and nobody else's: neither a slow farm nor too little
/// pressure excuses it. Both excuse what is late.
pub(super) fn verdict(
    form: Form,
    rung: &Rung,
    gates: &[Judged],
    window: &Ceiling,
    pressed: Option<&Pressed>,
) -> (Verdict, Vec<String>) {
    let broken = |wall_time: bool| -> Vec<String> {
        let of = gates.iter().filter(|gate| gate.wall_time == wall_time);
        of.filter(|gate| !gate.failures.is_empty())
            .map(|gate| format!("{}: {}", gate.name, gate.failures.join("; ")))
            .collect()
    };
    let (wrong, flaw) = (broken(false), flaw(rung, pressed));
    let late = if form == Form::Mini {
        Vec::new()
    } else {
        broken(true)
    };
    let excuse = match flaw {
        Some(flaw) => Some(flaw),
        // A rung all of whose gates hold is clean however busy the farm was.
        None if late.is_empty() => None,
        None => window.farm_bound().map(|why| (Verdict::FarmBound, why)),
    };
    let holds = wrong.is_empty() && late.is_empty();
    let (verdict, why) = match excuse {
        Some((verdict, why)) if wrong.is_empty() => (verdict, Some(why)),
        None if holds => (Verdict::Clean, None),
        excuse => (Verdict::Failed, excuse.map(|(_, why)| why)),
    };
    (verdict, [wrong, why.into_iter().collect(), late].concat())
}

#[cfg(test)]
mod tests;
