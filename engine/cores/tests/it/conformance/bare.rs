//! Checks that make no request, against the same peers: connections with a few bytes each way,
//! handshakes, and questions to the DNS.

use model::inbox::CoreCommand;
use model::outcome::{Phases, flags};
use model::{FailureClass, Outcome, Slot, Target, TargetSpec};

use super::peers::SITE;
use super::{Addresses, Rig, TRIES, check_target, target_of};

/// A check and what it comes to.
struct Case {
    url: String,
    send: &'static str,
    expect: String,
    timeout_ms: i64,
    class: Option<FailureClass>,
}

impl Case {
    fn new(url: String, class: Option<FailureClass>) -> Self {
        Self {
            url,
            send: "",
            expect: String::new(),
            timeout_ms: 5_000,
            class,
        }
    }

    fn target(&self) -> Box<Target> {
        target_of(&TargetSpec {
            url: self.url.clone(),
            send: Some(self.send.to_owned()),
            expect: vec![self.expect.clone()],
            timeout_ms: Some(self.timeout_ms),
            interval_s: Some(10),
            ..TargetSpec::default()
        })
    }
}

fn talks(at: Addresses) -> Vec<Case> {
    use FailureClass as C;
    const END: &str = r"0\r\n\r\n";
    let url = format!("tcp://{}", at.plain);
    let talk = |send, expect: &str, class| Case {
        send,
        expect: expect.to_owned(),
        ..Case::new(url.clone(), class)
    };
    let brief = |case| Case {
        timeout_ms: 1_000,
        ..case
    };
    vec![
        talk(r"GET /ok HTTP/1.1\r\n\r\n", r"200 OK\r\n", None),
        talk(r"GET /ok HTTP/1.1\r\n\r\n", "", None),
        talk(r"GET /big HTTP/1.1\r\n\r\n", &"x".repeat(600), None),
        talk(
            r"GET /big HTTP/1.1\r\n\r\n",
            END,
            Some(C::BodyKeywordMissing),
        ),
        talk(
            r"GET /ok HTTP/1.1\r\n\r\n",
            "absent",
            Some(C::BodyKeywordMissing),
        ),
        talk(r"GET /none HTTP/1.1\r\n\r\n", "200", Some(C::HttpTruncated)),
        talk(r"GET /reset HTTP/1.1\r\n\r\n", "200", Some(C::HttpReset)),
        brief(talk(
            r"GET /silent HTTP/1.1\r\n\r\n",
            "200",
            Some(C::HttpTimeout),
        )),
        // Both wait for the other one to begin.
        brief(talk("", "220", Some(C::HttpTimeout))),
    ]
}

fn connections_and_handshakes(at: Addresses) -> Vec<Case> {
    use FailureClass as C;
    let (tls, plain) = (at.tls.port(), at.plain.port());
    vec![
        Case::new(format!("tcp://{}", at.plain), None),
        Case::new(format!("tcp://{SITE}:{plain}"), None),
        Case::new(format!("tcp://{}", at.closed), Some(C::ConnectRefused)),
        Case::new("tcp://host.nowhere:25".to_owned(), Some(C::DnsNxdomain)),
        Case::new("tcp://10.1.2.3:25".to_owned(), Some(C::SafetyBlocked)),
        Case::new(format!("tls://{SITE}:{tls}"), None),
        Case::new(format!("tls://other.test:{tls}"), Some(C::TlsName)),
        Case::new(
            format!("tls://{SITE}:{}", at.untrusted.port()),
            Some(C::TlsUntrusted),
        ),
        Case::new(format!("tls://{SITE}:{plain}"), Some(C::TlsHandshake)),
        Case::new(format!("tls://{}", at.closed), Some(C::ConnectRefused)),
        Case::new("tls://host.nowhere".to_owned(), Some(C::DnsNxdomain)),
    ]
}

fn questions() -> Vec<Case> {
    use FailureClass as C;
    let ask = |name: &str, expect: &str, class| Case {
        expect: expect.to_owned(),
        ..Case::new(format!("dns://{name}"), class)
    };
    vec![
        ask(SITE, "", None),
        ask(SITE, "127.0.0.1", None),
        ask(SITE, "127.0.0.2", Some(C::BodyKeywordMissing)),
        ask(&format!("{SITE}?type=MX"), "", Some(C::DnsNoAddress)),
        ask("host.nowhere?type=TXT", "", Some(C::DnsNxdomain)),
    ]
}

/// The phases that only a check has which got so far.
fn belong(case: &Case, phases: &Phases) -> bool {
    let [dns, connect, tls, ttfb, body, total] = phases.values();
    let is_tls = case.url.starts_with("tls://");
    if case.url.starts_with("dns://") {
        return dns.is_some() && total.is_some() && [connect, tls, ttfb, body] == [None; 4];
    }
    let answered = case.class.is_none() && !case.expect.is_empty();
    let whole = connect.is_some() && tls.is_some() == is_tls;
    let in_order = body.is_none() || ttfb.is_some();
    let success = whole && (ttfb.is_some(), body.is_some()) == (answered, answered);
    total.is_some() && in_order && (success || case.class.is_some())
}

pub(super) fn conform(rig: &mut impl Rig) {
    let at = rig.addresses();
    let mut cases = talks(at);
    cases.extend(connections_and_handshakes(at));
    cases.extend(questions());
    for case in &cases {
        let report = check_target(rig, || case.target());
        let (outcome, evidence) = (report.outcome, report.evidence);
        let told = format!(
            "{} {:?} {:?}: {}",
            case.url, case.send, case.expect, evidence.text
        );
        assert_eq!(outcome.failure(), case.class, "{told}");
        assert!(belong(case, &outcome.phases), "{told} {:?}", outcome.phases);
        assert_eq!((outcome.status, outcome.hops), (0, 0), "{told}");
        assert_eq!(evidence.text.is_empty(), case.class.is_none(), "{told}");
        let verified = case.url.starts_with("tls://") && case.class.is_none();
        assert!(outcome.not_after_days > 0 || !verified, "{told}");
    }
    are_scheduled(rig, cases.iter().filter(|case| case.class.is_none()));
}

/// The same from slots, which keep them in another form.
fn are_scheduled<'a>(rig: &mut impl Rig, cases: impl Iterator<Item = &'a Case>) {
    let slot = Slot(0);
    for case in cases {
        let target = case.target();
        rig.tell(CoreCommand::Upsert { slot, target });
        let outcome = (0..TRIES).map(|_| {
            rig.tell(CoreCommand::CheckNow { slot });
            rig.outcome()
        });
        let was_judged = |outcome: &Outcome| outcome.failure() != Some(FailureClass::LocalPressure);
        let mut judged = outcome.filter(was_judged);
        let outcome = judged.next().expect("the core could judge once");
        assert_eq!(outcome.failure(), None, "{}", case.url);
        assert!(belong(case, &outcome.phases), "{}: {outcome:?}", case.url);
    }
    rig.tell(CoreCommand::Remove { slot });
    while !rig.outcome().has(flags::SLOT_RELEASED) {}
}
