//! Redirects: policies, limits, what goes along to the next hop, and what is kept of the way.

use model::outcome::flags;
use model::target::{Method, TargetSpec};
use model::url::Scheme;
use model::{Generation, Slot};
use prober::{AttemptSpec, Command, HostRef, Rules};
use proptest::prelude::*;

use crate::driver::{End, Run, Script, http, run, with_rules};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn to(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 9\r\n\r\n").into_bytes()
}

/// Checks a target that answers with `answers`, one per connection.
fn follow(spec: &AttemptSpec<'_>, answers: &[&[u8]]) -> Run {
    let script = Script {
        later: answers[1..].iter().map(|bytes| vec![*bytes]).collect(),
        ..Script::answering(vec![answers[0]], End::Silence)
    };
    run(spec, script, true)
}

fn rules(spec: TargetSpec) -> Rules {
    let spec = TargetSpec {
        url: "http://e.test/".to_owned(),
        ..spec
    };
    Rules::from_config(&spec.parse().expect("valid")).expect("not all default")
}

fn policy(word: &str) -> Rules {
    rules(TargetSpec {
        redirect: Some(word.into()),
        ..TargetSpec::default()
    })
}

/// `METHOD path` and Host of every request.
fn requests(run: &Run) -> Vec<String> {
    let text = String::from_utf8(run.sent.clone()).expect("ASCII");
    let heads = text.split("\r\n\r\n").filter(|head| !head.is_empty());
    let first_two = |head: &str| {
        let mut lines = head.lines();
        let request = lines.next().unwrap_or_default().replace(" HTTP/1.1", "");
        format!(
            "{request} {}",
            lines.next().unwrap_or_default().replace("Host: ", "@")
        )
    };
    heads.map(first_two).collect()
}

#[test]
fn a_redirect_is_followed_on_a_connection_of_its_own() {
    let run = follow(&http(), &[&to("/login?x=1"), OK]);
    assert_eq!((run.class(), run.report().status), (None, 200));
    assert_eq!(
        requests(&run),
        ["GET / @e.test:8080", "GET /login?x=1 @e.test:8080"]
    );
    let conns: Vec<u8> = run
        .commands
        .iter()
        .filter_map(|command| match command {
            Command::Connect { conn, .. } => Some(conn.0),
            Command::CloseConn { conn } => Some(10 + conn.0),
            _ => None,
        })
        .collect();
    assert_eq!(
        conns,
        [0, 10, 1, 11],
        "the first is closed before the second is opened"
    );
    assert_eq!(run.report().hops, 1);
    assert_eq!(run.redirected_to, ["e.test"]);
}

#[test]
fn every_form_of_a_location_leads_where_browsers_go() {
    for (location, host) in [
        ("//b.test/x", "GET /x @b.test"),
        ("http://b.test:81/", "GET / @b.test:81"),
        ("x", "GET /x @e.test:8080"),
        ("?y", "GET /?y @e.test:8080"),
    ] {
        let run = follow(&http(), &[&to(location), OK]);
        assert_eq!(run.class(), None, "{location}");
        assert_eq!(requests(&run)[1], host);
    }
}

#[test]
fn every_status_that_redirects_does_and_the_others_do_not() {
    for (status, hops) in [
        (301, 1),
        (302, 1),
        (303, 1),
        (307, 1),
        (308, 1),
        (300, 0),
        (304, 0),
    ] {
        let answer = format!("HTTP/1.1 {status} X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n");
        let run = follow(&http(), &[answer.as_bytes(), OK]);
        assert_eq!((run.class(), run.report().hops), (None, hops), "{status}");
    }
}

#[test]
fn without_a_location_the_status_decides() {
    for fields in ["", "Location:\r\n"] {
        let answer = format!("HTTP/1.1 302 Found\r\n{fields}Content-Length: 0\r\n\r\n");
        let run = follow(&http(), &[answer.as_bytes()]);
        assert_eq!(
            (run.class(), run.report().status, run.report().hops),
            (None, 302, 0)
        );
    }
}

#[test]
fn the_method_is_kept() {
    for answer in [
        to("/x"),
        b"HTTP/1.1 303 See\r\nLocation: /x\r\n\r\n".to_vec(),
    ] {
        let head = AttemptSpec {
            method: Method::Head,
            ..http()
        };
        let run = follow(&head, &[&answer, b"HTTP/1.1 200 OK\r\n\r\n"]);
        assert_eq!(requests(&run)[1], "HEAD /x @e.test:8080");
    }
}

#[test]
fn a_policy_may_forbid_redirects_or_tell_of_them() {
    let (fail, alert) = (policy("fail"), policy("alert"));
    let run = follow(&with_rules(&fail), &[&to("/x"), OK]);
    assert_eq!(
        (run.class(), run.report().hops),
        (Some("redirect.refused"), 0)
    );
    let run = follow(&with_rules(&alert), &[&to("/x"), OK]);
    assert_eq!((run.class(), run.report().hops), (None, 1));
    assert!(run.report().flags & flags::REDIRECT_ALERT != 0);
    let run = follow(&with_rules(&alert), &[OK]);
    assert!(run.report().flags & flags::REDIRECT_ALERT == 0);
}

#[test]
fn ten_redirects_are_followed_and_the_eleventh_fails() {
    let hops: Vec<Vec<u8>> = (1..=11).map(|hop| to(&format!("/{hop}"))).collect();
    let answers: Vec<&[u8]> = hops.iter().map(Vec::as_slice).collect();
    let ten: Vec<&[u8]> = answers[..10].iter().copied().chain([OK]).collect();
    assert_eq!(follow(&http(), &ten).class(), None);
    let run = follow(&http(), &answers);
    assert_eq!(
        (run.class(), run.report().hops),
        (Some("redirect.limit"), 10)
    );
}

#[test]
fn a_url_that_comes_again_is_a_loop() {
    let (a, b) = (to("/a"), to("http://e.test:8080/#top"));
    let run = follow(&http(), &[&a, &b]);
    assert_eq!((run.class(), run.report().hops), (Some("redirect.loop"), 1));
    assert_eq!(follow(&http(), &[&to("/")]).class(), Some("redirect.loop"));
}

#[test]
fn a_location_that_leads_nowhere_is_told() {
    for location in ["ftp://e.test/", "http://", "mailto:x@e.test", "http://a b/"] {
        let run = follow(&http(), &[&to(location)]);
        assert_eq!(run.class(), Some("redirect.bad_location"), "{location}");
    }
    let two = b"HTTP/1.1 301 X\r\nLocation: /a\r\nLocation: /b\r\n\r\n";
    assert_eq!(
        follow(&http(), &[two]).class(),
        Some("redirect.bad_location")
    );
}

#[test]
fn a_private_address_is_blocked_again_at_every_hop() {
    for location in [
        "http://10.0.0.1/",
        "//10.0.0.1/",
        "http://10.1/",
        "http://167772161/",
        "http://012.0.0.1/",
        "http://0x0a000001/",
        "http://10.0.0.1./",
        "http://%31%30.0.0.1/",
        "http://１０.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[::ffff:a00:1]/",
    ] {
        let run = follow(&http(), &[&to(location), OK]);
        assert_eq!(run.class(), Some("safety.blocked"), "{location}");
        let connects = |command: &&Command| matches!(command, Command::Connect { .. });
        assert_eq!(run.commands.iter().filter(connects).count(), 1);
    }
}

#[test]
fn credentials_stay_with_their_host() {
    let rules = rules(TargetSpec {
        headers: vec![
            "Authorization: Basic x".into(),
            "X-Api-Key: y".into(),
            "cookie: z".into(),
            "X-Probe: w".into(),
        ],
        ..TargetSpec::default()
    });
    for (location, kept) in [
        ("/x", true),
        ("http://e.test:8080/x", true),
        ("http://e.test:8081/x", false),
        ("http://b.test:8080/x", false),
    ] {
        let run = follow(&with_rules(&rules), &[&to(location), OK]);
        let text = String::from_utf8(run.sent).expect("ASCII");
        let second = text.split("\r\n\r\n").nth(1).expect("two requests");
        assert_eq!(second.contains("Authorization"), kept, "{location}");
        assert_eq!(second.contains("cookie"), kept, "{location}");
        assert_eq!(second.contains("X-Api-Key"), kept, "{location}");
        assert!(second.contains("X-Probe: w"), "{location}");
    }
}

#[test]
fn every_hop_is_kept_with_its_phases_and_the_whole_adds_up() {
    let run = follow(
        &http(),
        &[&to("/a"), &to("http://b.test/"), b"HTTP/1.1 500 No\r\n\r\n"],
    );
    let (report, evidence) = (
        run.report(),
        run.attempt.evidence(Slot(1), Generation(1), 1),
    );
    assert_eq!((run.class(), report.hops), (Some("http.status"), 2));
    let urls: Vec<(&str, u16)> = evidence
        .redirects
        .iter()
        .map(|hop| (hop.url.as_str(), hop.status))
        .collect();
    assert_eq!(
        urls,
        [("http://e.test:8080/", 302), ("http://e.test:8080/a", 302)]
    );
    let sum = |phase: usize| -> Option<u32> {
        let hops = evidence.redirects.iter().map(|hop| hop.phases_us[phase]);
        hops.flatten().reduce(|a, b| a + b)
    };
    let phases = report.phases.values();
    // 1 ms for each of: resolve, connect, send, first byte, and for the close before a next hop.
    assert_eq!((sum(0), phases[0]), (Some(3_000), Some(5_000)));
    assert_eq!((sum(1), phases[1]), (Some(2_000), Some(3_000)));
    assert_eq!(phases[2], None);
    assert_eq!((sum(3), phases[3]), (Some(2_000), Some(3_000)));
    assert!(sum(5) < phases[5]);
}

#[test]
fn a_downgrade_is_recorded_and_an_upgrade_speaks_tls() {
    let run = follow(&http(), &[&to("https://e.test/"), b"not TLS"]);
    assert_eq!(run.class(), Some("tls.handshake"));
    assert!(run.report().flags & flags::REDIRECT_DOWNGRADE == 0);
    assert_eq!(
        run.attempt
            .evidence(Slot(1), Generation(1), 1)
            .redirects
            .len(),
        1
    );
}

#[test]
fn the_deadline_is_one_over_the_whole_chain() {
    let silent = Script {
        later: vec![vec![b""]],
        ..Script::answering(vec![], End::Silence)
    };
    let first = to("/x");
    let script = Script {
        pieces: vec![&first],
        ..silent
    };
    let spec = AttemptSpec {
        scheme: Scheme::Http,
        host: HostRef::Name("e.test"),
        ..http()
    };
    let run = run(&spec, script, true);
    assert_eq!(run.class(), Some("http.timeout"));
    assert_eq!(run.report().phases.values()[5], Some(10_000_000));
}

proptest! {
    #[test]
    fn any_split_of_a_redirect_gives_the_same_report(cut in 1_usize..60, early in any::<bool>()) {
        let first = to("/login");
        let cut = cut.min(first.len() - 1);
        let whole = follow(&http(), &[&first, OK]).report();
        let script = Script {
            later: vec![vec![OK]],
            early,
            ..Script::answering(vec![&first[..cut], &first[cut..]], End::Silence)
        };
        let split = run(&http(), script, false).report();
        prop_assert_eq!((split.class, split.status, split.hops), (whole.class, whole.status, 1));
    }

    #[test]
    fn any_location_ends(location in prop::collection::vec(any::<u8>(), 0..80)) {
        let bytes = [b"HTTP/1.1 301 X\r\nLocation: ".as_slice(), &location, b"\r\n\r\n"].concat();
        let run = follow(&http(), &[&bytes, OK]);
        prop_assert!(run.report().hops <= 1);
    }
}

#[test]
fn a_redirect_that_is_not_followed_shows_its_location() {
    let to = |fields: &str| format!("HTTP/1.1 302 Found\r\n{fields}Content-Length: 0\r\n\r\n");
    let far = format!(
        "Padding: {}\r\nLocation: gopher://e.test\r\n",
        "p".repeat(3_000)
    );
    for (policy, fields, class, shown) in [
        (
            "follow",
            "Location: /\r\n",
            "redirect.loop",
            r#"Location: "/""#,
        ),
        (
            "fail",
            "Location: https://u:secret@f.test/x\r\n",
            "redirect.refused",
            r#"forbids: Location: "https://…@f.test/x""#,
        ),
        (
            "follow",
            "Location: mailto:a@b.\x1btest\r\n",
            "redirect.bad_location",
            r#"https: Location: "mailto:…@b.\u{1b}test""#,
        ),
        (
            "follow",
            "Location: /one\r\nLocation: /two\r\n",
            "redirect.bad_location",
            r#"differ: Location: "/one" and "/two""#,
        ),
        // It stands behind what evidence keeps of the head.
        (
            "follow",
            &far,
            "redirect.bad_location",
            r#"Location: "gopher://e.test""#,
        ),
    ] {
        let spec = TargetSpec {
            url: "http://e.test:8080/".to_owned(),
            redirect: Some(policy.to_owned()),
            ..TargetSpec::default()
        };
        let rules = Rules::from_config(&spec.parse().expect("valid"));
        let spec = AttemptSpec {
            rules: rules.as_ref(),
            ..http()
        };
        let answer = to(fields);
        let run = run(
            &spec,
            Script::answering(vec![answer.as_bytes()], End::Eof),
            false,
        );
        assert_eq!(run.class(), Some(class));
        let text = run.attempt.evidence(Slot(1), Generation(1), 1).text;
        assert!(text.contains(shown), "{text}");
        assert!(!text.contains("secret") && text.len() <= 500, "{text}");
    }
}

#[test]
fn the_eleventh_redirect_shows_where_it_would_have_led() {
    let answers: Vec<String> = (1..=11)
        .map(|hop| format!("HTTP/1.1 302 Found\r\nLocation: /{hop}\r\n\r\n"))
        .collect();
    let mut script = Script::answering(vec![answers[0].as_bytes()], End::Eof);
    script.later = answers[1..]
        .iter()
        .map(|answer| vec![answer.as_bytes()])
        .collect();
    let run = run(&http(), script, false);
    assert_eq!(run.class(), Some("redirect.limit"));
    let text = run.attempt.evidence(Slot(1), Generation(1), 1).text;
    assert!(
        text.ends_with("more than 10 redirects: Location: \"/11\""),
        "{text}"
    );
}
