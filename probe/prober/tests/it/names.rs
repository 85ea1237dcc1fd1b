//! Names as attempts meet them: which are asked for, and what evidence says of the answer.

use std::net::SocketAddr;

use model::url::Scheme;
use model::{Generation, Slot};
use prober::{Command, ErrnoAt, HostRef};

use crate::driver::{ECONNREFUSED, End, Open, Script, http, local, name, run, spec};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn evidence_of_any_failure_has_what_the_resolver_said() {
    for (rcode, tries) in [(Some(0), 2), (None, 0)] {
        let mut resolved = name(&[local(1)]);
        (resolved.rcode, resolved.tries, resolved.cached) = (rcode, tries, rcode.is_none());
        let sorry: &[u8] = b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n";
        let script = Script {
            dns: Ok(resolved),
            ..Script::answering(vec![sorry], End::Silence)
        };
        let failed = run(&http(), script, true);
        assert_eq!(failed.class(), Some("http.status"));
        let dns = failed.attempt.evidence(Slot(0), Generation(0), 0).dns;
        let dns = dns.expect("the name was asked for");
        assert_eq!((dns.rcode, dns.tries), (rcode, tries));
        assert_eq!(dns.server, Some(SocketAddr::new(local(53), 53)));
    }
}

#[test]
fn that_addresses_were_left_out_is_said_where_none_answers() {
    for (count, said) in [(8, false), (12, true)] {
        let script = Script {
            dns: Ok(name(&(1..=count).map(local).collect::<Vec<_>>())),
            opens: vec![Open::Fails(ECONNREFUSED, ErrnoAt::Async); 8],
            ..Script::answering(vec![OK], End::Silence)
        };
        let refused = run(&http(), script, true);
        assert_eq!(refused.class(), Some("connect.refused"));
        let text = refused.attempt.evidence(Slot(0), Generation(0), 0).text;
        assert_eq!(
            text.contains("the name has 12 addresses, 8 are used"),
            said,
            "{text}"
        );
    }
}

#[test]
fn a_name_of_a_private_network_is_not_even_asked_for() {
    for scheme in [
        Scheme::Http,
        Scheme::Https,
        Scheme::Tcp,
        Scheme::Tls,
        Scheme::Dns,
    ] {
        let private = spec(scheme, HostRef::Name("nas.local"));
        let blocked = run(&private, Script::answering(vec![OK], End::Silence), true);
        assert_eq!(blocked.class(), Some("safety.blocked"));
        assert_eq!(blocked.commands, [Command::Done], "{scheme:?}");
        let phases = blocked.report().phases;
        assert_eq!(phases.values()[..5], [None; 5], "{scheme:?}");
        let evidence = blocked.attempt.evidence(Slot(0), Generation(0), 0);
        assert!(
            evidence.text.contains("add .local to `allow`"),
            "{}",
            evidence.text
        );
        assert_eq!(evidence.dns, None);
    }
}

#[test]
fn a_redirect_to_a_name_of_a_private_network_is_not_followed() {
    let away = b"HTTP/1.1 302 Found\r\nLocation: http://wiki.corp/\r\n\r\n";
    let run = run(&http(), Script::answering(vec![away], End::Silence), true);
    assert_eq!(run.class(), Some("safety.blocked"));
    assert!(run.redirected_to.is_empty());
    let connects = |command: &&Command| matches!(command, Command::Connect { .. });
    assert_eq!(run.commands.iter().filter(connects).count(), 1);
    let evidence = run.attempt.evidence(Slot(0), Generation(0), 0);
    assert!(
        evidence.text.contains("add .corp to `allow`"),
        "{}",
        evidence.text
    );
    assert_eq!(evidence.redirects.len(), 1);
}
