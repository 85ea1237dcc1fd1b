//! Connections that are kept for the next check, on each driver and in the simulator: servers that
//! answer many requests over one connection, and all that they do to it in between.

mod streets;

use std::net::IpAddr;

use cores::{CoreSnapshot, KeptLimits};
use model::inbox::{CoreCommand, OneShotReport};
use model::outcome::flags;
use model::{FailureClass, Slot, Target, TargetSpec, Ticket};

use super::peers::{SITE, Script};
use super::{target, target_of};
use cores::reactor::sim::End;
use streets::{Visit, real_streets, streets};

/// Longer than any machine is busy.
const TIMEOUT_MS: i64 = 20_000;
/// For a server that says nothing: so long that a busy machine is not to blame.
const HUSH_MS: i64 = 3_000;
/// Room for all that these tests leave.
const AMPLE: KeptLimits = KeptLimits {
    per_core: 64,
    per_address: 16,
    per_capped: 16,
    idle_ms: 30_000,
    age_ms: 300_000,
};

/// A core that keeps connections, and servers that do.
trait Street {
    /// The port of plain HTTP, at 127.0.0.1.
    fn port(&self) -> u16;
    /// The port of TLS.
    fn tls_port(&self) -> u16;
    fn tell(&mut self, command: CoreCommand);
    /// The next answer to a one-shot.
    fn report(&mut self) -> OneShotReport;
    /// Whether the next result of a scheduled check is up.
    fn is_up(&mut self) -> bool;
    /// Goes on until the core's numbers are so.
    fn wait_for(&mut self, reached: &dyn Fn(&CoreSnapshot) -> bool);
    /// The requests so far.
    fn visits(&mut self) -> &[Visit];
    fn stop(self: Box<Self>);
}

/// What a server says to the `nth` request of a connection, and what it does to that then.
fn script(request: &str, nth: usize) -> Script {
    let mut words = request.split(' ');
    let (method, path) = (words.next(), words.next().unwrap_or_default());
    let is_head = method == Some("HEAD");
    let ok = |fields: &str| {
        let body = if is_head { "" } else { "ok" };
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\n{body}")
    };
    let (text, end) = match path {
        "/chunked" => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            (format!("{head}2\r\nok\r\n0\r\nA: b\r\n\r\n"), End::Silence)
        }
        "/close" => (ok("Connection: close\r\n"), End::Eof),
        "/leave" => (ok(""), End::Eof),
        "/once" if nth > 1 => (String::new(), End::Reset),
        "/hush" if nth > 1 => (String::new(), End::Silence),
        "/garbage" => (ok("") + "HTTP/1.1 500 No\r\n\r\n", End::Silence),
        "/hop" => {
            let head = "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n";
            (head.to_owned(), End::Silence)
        }
        "/down" => {
            let head = "HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n";
            (head.to_owned(), End::Silence)
        }
        _ => (ok(""), End::Silence),
    };
    let bytes = text.into_bytes();
    Script { bytes, end }
}

/// Checks `url` once, with `$` for the port.
fn check(street: &mut dyn Street, url: &str) -> OneShotReport {
    let target = target(&url.replace('$', &street.port().to_string()), TIMEOUT_MS);
    check_target(street, target)
}

fn check_target(street: &mut dyn Street, target: Box<Target>) -> OneShotReport {
    street.tell(CoreCommand::OneShot {
        target,
        ticket: Ticket(1),
    });
    street.report()
}

/// Of which connection the requests were, one after the other.
fn connections(street: &mut dyn Street) -> Vec<usize> {
    let visits = street.visits();
    visits.iter().map(|visit| visit.connection).collect()
}

fn is_reused(report: &OneShotReport) -> bool {
    let outcome = report.outcome;
    let flagged = outcome.has(flags::CONNECTION_REUSED);
    assert_eq!(report.evidence.flags, outcome.flags);
    if outcome.hops == 0 {
        let connected = outcome.phases.values()[1].is_some();
        assert_eq!(flagged, !connected, "{:?}", outcome.phases);
    }
    flagged
}

/// A check that is up; whether it went over a kept connection.
fn up(street: &mut dyn Street, url: &str) -> bool {
    let report = check(street, url);
    let outcome = report.outcome;
    assert_eq!(
        (outcome.failure(), outcome.status),
        (None, 200),
        "{report:?}"
    );
    is_reused(&report)
}

fn in_each_street(limits: KeptLimits, test: impl Fn(&mut dyn Street)) {
    for mut street in streets(limits) {
        test(&mut *street);
        street.stop();
    }
}

#[test]
fn names_at_one_address_are_checked_over_one_connection() {
    in_each_street(AMPLE, |street| {
        assert!(!up(street, "http://one.test:$/ok"));
        assert!(up(street, "http://two.test:$/chunked"));
        assert!(up(street, "http://127.0.0.1:$/ok"));
        assert_eq!(connections(street), [0, 0, 0]);
        let visits = street.visits();
        let hosts = visits.iter().map(|visit| visit.host.split(':').next());
        let hosts: Vec<&str> = hosts.flatten().collect();
        assert_eq!(hosts, ["one.test", "two.test", "127.0.0.1"]);
        street.wait_for(&|core| {
            (core.connections_kept, core.reused, core.reused_dead) == (1, 2, 0) && core.balances()
        });
    });
}

#[test]
fn an_answer_to_head_and_one_that_is_no_success_leave_their_connection_too() {
    in_each_street(AMPLE, |street| {
        let spec = TargetSpec {
            url: format!("http://127.0.0.1:{}/ok", street.port()),
            method: Some("HEAD".into()),
            timeout_ms: Some(TIMEOUT_MS),
            ..TargetSpec::default()
        };
        assert!(!is_reused(&check_target(street, target_of(&spec))));
        assert!(is_reused(&check_target(street, target_of(&spec))));
        let report = check(street, "http://127.0.0.1:$/down");
        assert_eq!(report.outcome.failure(), Some(FailureClass::HttpStatus));
        assert!(is_reused(&report), "an answer counts");
        assert!(up(street, "http://127.0.0.1:$/ok"));
        assert_eq!(connections(street), [0; 4]);
    });
}

#[test]
fn a_redirect_to_the_same_address_stays_on_its_connection() {
    in_each_street(AMPLE, |street| {
        let report = check(street, "http://127.0.0.1:$/hop");
        let outcome = report.outcome;
        assert_eq!((outcome.failure(), outcome.hops), (None, 1));
        assert!(is_reused(&report));
        assert_eq!(connections(street), [0, 0]);
    });
}

#[test]
fn a_server_that_closes_a_kept_connection_is_asked_on_a_new_one() {
    in_each_street(AMPLE, |street| {
        assert!(!up(street, "http://127.0.0.1:$/leave"));
        assert!(!up(street, "http://127.0.0.1:$/ok"));
        assert_eq!(connections(street), [0, 1]);
        street.wait_for(&|core| (core.reused, core.reused_dead) == (0, 1));
    });
}

#[test]
fn a_server_that_resets_at_the_second_request_is_asked_on_a_new_connection() {
    in_each_street(AMPLE, |street| {
        assert!(!up(street, "http://127.0.0.1:$/once"));
        assert!(!up(street, "http://127.0.0.1:$/once"));
        assert_eq!(connections(street), [0, 0, 1]);
        street.wait_for(&|core| (core.reused, core.reused_dead) == (0, 1));
    });
}

#[test]
fn a_connection_that_its_server_gives_up_or_says_too_much_on_is_not_used_again() {
    in_each_street(AMPLE, |street| {
        for path in ["close", "garbage"] {
            let url = format!("http://127.0.0.1:$/{path}");
            assert!(!up(street, &url));
            assert!(!up(street, &url), "{path}");
        }
        assert_eq!(connections(street), [0, 1, 2, 3]);
    });
}

#[test]
fn nothing_is_kept_of_tls() {
    in_each_street(AMPLE, |street| {
        let url = format!("https://{SITE}:{}/ok", street.tls_port());
        assert!(!up(street, &url));
        assert!(!up(street, &url));
        street.wait_for(&|core| (core.connections_kept, core.probed) == (0, 0));
    });
}

#[test]
fn a_connection_that_is_idle_for_too_long_is_closed() {
    let limits = KeptLimits {
        idle_ms: 600,
        ..AMPLE
    };
    in_each_street(limits, |street| {
        assert!(!up(street, "http://127.0.0.1:$/ok"));
        street.wait_for(&|core| (core.one_shot.done, core.connections_kept) == (1, 0));
        assert!(!up(street, "http://127.0.0.1:$/ok"));
        assert_eq!(connections(street), [0, 1]);
        street.wait_for(&|core| (core.one_shot.done, core.reused_dead) == (2, 0));
    });
}

/// Makes some checks at once, after which so many connections are kept.
fn leave_some(street: &mut dyn Street, left: u64) {
    let url = format!("http://127.0.0.1:{}/together", street.port());
    for _ in 0..streets::TOGETHER {
        street.tell(CoreCommand::OneShot {
            target: target(&url, TIMEOUT_MS),
            ticket: Ticket(1),
        });
    }
    for _ in 0..streets::TOGETHER {
        assert!(!is_reused(&street.report()));
    }
    street.wait_for(&|core| {
        let over = core.one_shot.in_flight == 0 && core.one_shot.done > 0;
        over && core.connections_kept == left
    });
}

#[test]
fn a_one_shot_over_a_kept_connection_that_falls_silent_is_asked_on_its_own_and_the_others_go() {
    in_each_street(AMPLE, |street| {
        leave_some(street, streets::TOGETHER as u64);
        let url = format!("http://127.0.0.1:{}/hush", street.port());
        let report = check_target(street, target(&url, HUSH_MS));
        assert_eq!(report.outcome.failure(), None, "{report:?}");
        assert!(!is_reused(&report));
        // The one that is kept now is its own.
        street.wait_for(&|core| {
            let counts = (core.connections_kept, core.reused, core.reused_dead);
            counts == (1, 0, 1) && core.balances()
        });
        let asked = connections(street).split_off(streets::TOGETHER);
        assert!(asked[0] < streets::TOGETHER, "{asked:?}");
        assert_eq!(asked[1..], [streets::TOGETHER]);
    });
}

#[test]
fn no_more_connections_are_kept_than_the_limits_say() {
    let tight = KeptLimits {
        per_core: 3,
        per_address: 2,
        ..AMPLE
    };
    let lonely = KeptLimits {
        per_core: 1,
        ..AMPLE
    };
    for (limits, left) in [(tight, 2), (lonely, 1), (KeptLimits::default(), 0)] {
        in_each_street(limits, |street| leave_some(street, left));
    }
}

#[test]
fn each_source_address_has_connections_of_its_own() {
    let sources = [2, 3].map(|n| IpAddr::from([127, 0, 0, n]));
    for mut street in real_streets(AMPLE, &sources) {
        let kept = [false, false, true, true];
        for kept in kept {
            assert_eq!(up(&mut *street, "http://127.0.0.1:$/ok"), kept);
        }
        assert_eq!(connections(&mut *street), [0, 1, 0, 1]);
        street.stop();
    }
}

#[test]
fn what_was_commanded_opens_a_connection_of_its_own() {
    in_each_street(AMPLE, |street| {
        let url = format!("http://127.0.0.1:{}/ok", street.port());
        assert!(!up(street, &url));
        let slot = Slot(0);
        // So seldom that no routine check comes first.
        let target = target_of(&TargetSpec {
            url,
            timeout_ms: Some(TIMEOUT_MS),
            interval_s: Some(86_400),
            ..TargetSpec::default()
        });
        street.tell(CoreCommand::Upsert { slot, target });
        street.tell(CoreCommand::CheckNow { slot });
        assert!(street.is_up());
        assert_eq!(connections(street), [0, 1]);
    });
}
