//! Checks of a handshake alone: they end with it, are always full, and remember no session.

use prober::TlsPolicy;

use super::*;
use crate::driver::config;

fn client(authority: &Authority) -> Shared {
    let roots = Roots::Pem(authority.pem.clone().into_bytes());
    Shared::new(prober::SharedConfig {
        tls: TlsPolicy::default(),
        ..config(roots)
    })
    .expect("the settings are valid")
}

fn handshake(shared: &Shared, server: &Arc<ServerConfig>, manner: Manner) -> Attempt {
    visit(Scheme::Tls, HOST, shared, server, manner)
}

fn visit(
    scheme: Scheme,
    host: HostRef<'_>,
    shared: &Shared,
    server: &Arc<ServerConfig>,
    manner: Manner,
) -> Attempt {
    let connection = ServerConnection::new(Arc::clone(server)).expect("server");
    check_at(at(0), &spec(scheme, host), shared, connection, manner)
}

#[test]
fn a_handshake_is_up_in_pieces_of_any_size_and_nothing_is_asked_after_it() {
    let authority = authority();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let mut config = server_config(signed(&authority, (2025, 2027)), versions);
        // A server that would refuse a protocol that it does not know.
        config.alpn_protocols = vec![b"imap".to_vec()];
        let server = Arc::new(config);
        let shared = client(&authority);
        for (piece, early) in [(1, true), (7, false), (500, true), (16_384, false)] {
            let manner = Manner {
                early,
                piece,
                ..POLITE
            };
            let attempt = handshake(&shared, &server, manner);
            let report = attempt.report();
            assert_eq!((report.class, report.status), (None, 0), "{piece}");
            assert_eq!(report.not_after_days, GOOD_UNTIL_DAYS);
            let [_, connect, tls, ttfb, body, total] = report.phases.values();
            assert!(connect.is_some() && tls.is_some() && total.is_some());
            assert_eq!((ttfb, body), (None, None));
            let evidence = attempt.evidence(Slot(0), Generation(0), 0);
            let seen = evidence.tls.expect("TLS");
            assert_eq!(seen.subjects, ["CN=e.test"]);
            assert!(evidence.head.is_empty());
        }
        assert_eq!((shared.tls_sessions(), shared.tls_chains()), (0, 1));
    }
}

#[test]
fn a_handshake_is_a_full_one_although_a_page_of_the_same_place_left_a_session() {
    let authority = authority();
    let server = Arc::new(server_config(signed(&authority, (2025, 2027)), BOTH));
    let shared = client(&authority);
    let page = |shared: &Shared| visit(Scheme::Https, HOST, shared, &server, POLITE).report();
    assert_eq!(page(&shared).flags & flags::TLS_RESUMED, 0);
    for _ in 0..2 {
        let report = handshake(&shared, &server, POLITE).report();
        let told = report.flags & (flags::TLS_RESUMED | flags::TLS_CHAIN_CACHED);
        assert_eq!(told, flags::TLS_CHAIN_CACHED, "verified within the hour");
    }
    // And leaves it as it was.
    assert_ne!(page(&shared).flags & flags::TLS_RESUMED, 0);
}

#[test]
fn each_fault_of_a_handshake_has_the_class_that_a_page_would_have() {
    use FailureClass as C;
    let (ours, other) = (authority(), authority());
    let shared = client(&ours);
    let name = HostRef::Name("other.test");
    let good = || signed(&ours, (2025, 2027));
    let silent = Manner {
        silent: true,
        breaks_after: Some(200),
        ..POLITE
    };
    let reset = Manner {
        breaks_after: Some(200),
        errno: Some(ECONNRESET),
        ..POLITE
    };
    for (shown, host, manner, class) in [
        (signed(&ours, (2020, 2025)), HOST, POLITE, C::TlsExpired),
        (signed(&ours, (2030, 2031)), HOST, POLITE, C::TlsNotYetValid),
        (signed(&other, (2025, 2027)), HOST, POLITE, C::TlsUntrusted),
        (good(), name, POLITE, C::TlsName),
        (good(), HOST, silent, C::TlsTimeout),
        (good(), HOST, reset, C::TlsHandshake),
    ] {
        let server = Arc::new(server_config(shown, BOTH));
        let attempt = visit(Scheme::Tls, host, &shared, &server, manner);
        assert_eq!(attempt.report().class, Some(class));
        let phases = attempt.report().phases.values();
        assert!(
            phases[2].is_some() && phases[3].is_none(),
            "{class}: {phases:?}"
        );
        assert!(!attempt.evidence(Slot(0), Generation(0), 0).text.is_empty());
    }
}

#[test]
fn a_server_that_breaks_off_at_our_last_words_is_down() {
    let authority = authority();
    let server = server_config(signed(&authority, (2025, 2027)), &[&rustls::version::TLS13]);
    let manner = Manner {
        deaf: true,
        ..POLITE
    };
    let report = handshake(&client(&authority), &Arc::new(server), manner).report();
    let told = (report.class, report.errno);
    assert_eq!(told, (Some(FailureClass::TlsHandshake), Some(ECONNRESET)));
    assert_eq!(report.not_after_days, GOOD_UNTIL_DAYS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_handshake_cut_short_anywhere_never_succeeds_and_never_panics(
        // The server's half has some 620 bytes.
        breaks_after in 0_usize..600,
        piece in 1_usize..900,
        early in any::<bool>(),
        errno in prop::sample::select(vec![None, Some(ECONNRESET)]),
    ) {
        thread_local! { static WORLD: (Shared, Arc<ServerConfig>) = {
            let authority = authority();
            let config = server_config(signed(&authority, (2025, 2027)), BOTH);
            (client(&authority), Arc::new(config))
        } }
        let manner = Manner { breaks_after: Some(breaks_after), errno, piece, early, ..POLITE };
        let class = WORLD.with(|(shared, server)| handshake(shared, server, manner).report().class);
        // Without a byte it is looked at a second time, and refused again.
        prop_assert_eq!(class, Some(FailureClass::TlsHandshake));
    }
}
