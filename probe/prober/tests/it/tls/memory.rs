//! What TLS remembers from one check to the next: chains that were verified, and sessions that may
//! be resumed. And what it must not remember.

use model::limits::TLS_SESSION_MAX_BYTES;
use prober::{SharedConfig, TlsPolicy};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::*;
use crate::driver::config;

const HOUR_S: u64 = 3_600;
/// 2026-12-31T23:59:00Z, a minute before the certificates of these tests end.
const LAST_MINUTE_S: u64 = 365 * 86_400 - 60;
const RESUMED: u16 = flags::TLS_RESUMED;
const CACHED: u16 = flags::TLS_CHAIN_CACHED;

/// A client that trusts `authority`.
fn client(authority: &Authority, policy: TlsPolicy) -> Shared {
    let roots = Roots::Pem(authority.pem.clone().into_bytes());
    let settings = SharedConfig {
        tls: policy,
        ..config(roots)
    };
    Shared::new(settings).expect("valid settings")
}

const ALWAYS_FULL: TlsPolicy = TlsPolicy {
    full_every_s: 0,
    sessions_max: 8,
    sessions_max_bytes: 1 << 20,
    chains_max: 8,
};
const ALWAYS_VERIFIED: TlsPolicy = TlsPolicy {
    full_every_s: 900,
    sessions_max: 8,
    sessions_max_bytes: 1 << 20,
    chains_max: 0,
};

/// A server whose certificate is for several names.
fn server(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let (mut params, key) = leaf((2025, 2027));
    for name in ["a.test", "b.test", "c.test"] {
        let name = name.try_into().expect("a name");
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    let certificate = params.signed_by(&key, &authority.issuer);
    let chain = vec![certificate.expect("certificate").der().clone()];
    server_config(Shown { chain, key }, versions)
}

/// A check of `host:port` so many seconds after 2026 began.
fn visit(shared: &Shared, server: &Arc<ServerConfig>, to: (&str, u16), at_s: u64) -> Report {
    visit_amid(shared, server, to, at_s, |_| {})
}

/// As [`visit`], with what happens beside it before its nth read.
fn visit_amid(
    shared: &Shared,
    server: &Arc<ServerConfig>,
    to: (&str, u16),
    at_s: u64,
    beside: impl FnMut(u32),
) -> Report {
    let connection = ServerConnection::new(server.clone()).expect("server");
    let spec = AttemptSpec {
        port: to.1,
        ..spec(Scheme::Https, HostRef::Name(to.0))
    };
    let now = at(at_s * 1_000_000);
    check_amid(now, &spec, shared, connection, POLITE, beside).report()
}

const A: (&str, u16) = ("a.test", 443);

#[test]
fn what_a_chain_was_spared_is_told_of_its_own_check_whatever_is_verified_beside_it() {
    let authority = authority();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let shared = client(&authority, ALWAYS_FULL);
        let server = Arc::new(server(&authority, versions));
        visit(&shared, &server, A, 0);
        let mut others = Vec::new();
        let report = visit_amid(&shared, &server, A, 1, |reads| {
            if reads == 1 {
                others.push(visit(&shared, &server, ("b.test", 443), 1).flags & CACHED);
            }
        });
        assert_eq!((report.flags & CACHED, others), (CACHED, vec![0]));
    }
}

#[test]
fn a_verified_chain_is_good_for_an_hour_of_its_name() {
    let authority = authority();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let shared = client(&authority, ALWAYS_FULL);
        let server = Arc::new(server(&authority, versions));
        for (to, at_s, cached) in [
            (A, 0, 0),
            (A, 1, CACHED),
            (A, HOUR_S - 1, CACHED),
            (("a.test", 8443), 2, CACHED),
            (("b.test", 443), 2, 0),
            (("b.test", 443), 3, CACHED),
            // The clock was set back: it was not verified yet.
            (("b.test", 443), 1, 0),
            (A, HOUR_S, 0),
            (A, HOUR_S + 1, CACHED),
        ] {
            let report = visit(&shared, &server, to, at_s);
            assert_eq!((report.class, report.status), (None, 200));
            let told = report.flags & (CACHED | RESUMED);
            assert_eq!(told, cached, "{to:?} at {at_s}");
            assert_eq!(report.not_after_days, GOOD_UNTIL_DAYS);
        }
        assert_eq!((shared.tls_chains(), shared.tls_sessions()), (2, 0));
    }
}

#[test]
fn an_authority_whose_signature_is_known_is_judged_in_every_check() {
    let authority = authority();
    let shared = client(&authority, ALWAYS_VERIFIED);
    let ca = || IsCa::Ca(BasicConstraints::Constrained(0));
    let until_2027 = server_config(signed_below(&authority, (2025, 2027), ca()), BOTH);
    let until_2027 = Arc::new(until_2027);
    let class = |server, at_s| visit(&shared, server, ("e.test", 443), at_s).class;
    for at_s in [0, 1_000, LAST_MINUTE_S] {
        assert_eq!(class(&until_2027, at_s), None);
        assert_eq!(shared.issuer_signatures(), 1, "not the leaf's");
    }
    let late = class(&until_2027, LAST_MINUTE_S + 61);
    assert_eq!(late, Some(FailureClass::TlsExpired));
    // Another authority of that name, which nobody has signed.
    let foreign = signed_below(&super::authority(), (2025, 2027), ca());
    let foreign = Arc::new(server_config(foreign, BOTH));
    assert_eq!(class(&foreign, 0), Some(FailureClass::TlsUntrusted));
    assert_eq!(shared.issuer_signatures(), 1);
}

#[test]
fn neither_a_chain_nor_a_session_outlives_a_certificate() {
    let authority = authority();
    for policy in [ALWAYS_FULL, ALWAYS_VERIFIED, TlsPolicy::default()] {
        let shared = client(&authority, policy);
        let server = Arc::new(server(&authority, BOTH));
        let class = |at_s| visit(&shared, &server, A, at_s).class;
        assert_eq!(class(LAST_MINUTE_S), None);
        assert_eq!(class(LAST_MINUTE_S + 59), None);
        assert_eq!(class(LAST_MINUTE_S + 61), Some(FailureClass::TlsExpired));
    }
}

#[test]
fn a_chain_that_was_refused_is_never_remembered() {
    let (ours, other) = (authority(), authority());
    let shared = client(&ours, TlsPolicy::default());
    let server = Arc::new(server(&other, BOTH));
    for at_s in [0, 1] {
        let report = visit(&shared, &server, A, at_s);
        assert_eq!(report.class, Some(FailureClass::TlsUntrusted));
        assert_eq!(report.not_after_days, GOOD_UNTIL_DAYS);
    }
    assert_eq!(shared.tls_chains(), 0);
}

/// Shows a chain, and signs with a key that is not the chain's.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesServerCert for Thief {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[test]
fn who_has_a_remembered_chain_but_not_its_key_is_found_out() {
    let authority = authority();
    let shown = signed(&authority, (2025, 2027));
    let chain = shown.chain.clone();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let shared = client(&authority, ALWAYS_FULL);
        let key = KeyPair::try_from(&shown.key.serialize_der()[..]).expect("key");
        let chain = chain.clone();
        let owner = Arc::new(server_config(
            Shown {
                chain: chain.clone(),
                key,
            },
            versions,
        ));
        let first = visit(&shared, &owner, ("e.test", 443), 0);
        assert_eq!(first.class, None);
        let other = KeyPair::generate().expect("key").serialize_der();
        let other = PrivateKeyDer::try_from(other).expect("key");
        let signing = aws_lc_rs::sign::any_supported_type(&other).expect("a key that signs");
        let stolen = Arc::new(CertifiedKey::new(chain, signing));
        let thief = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Thief(stolen)));
        let second = visit(&shared, &Arc::new(thief), ("e.test", 443), 1);
        assert_eq!(second.class, Some(FailureClass::TlsUntrusted));
    }
}

#[test]
fn names_without_end_take_no_memory_without_end() {
    let authority = authority();
    let policy = TlsPolicy {
        sessions_max: 2,
        chains_max: 2,
        ..TlsPolicy::default()
    };
    let shared = client(&authority, policy);
    let server = Arc::new(server(&authority, BOTH));
    let flags = |name| visit(&shared, &server, (name, 443), 0).flags & (CACHED | RESUMED);
    for name in ["a.test", "b.test", "c.test"] {
        assert_eq!(flags(name), 0, "{name}");
    }
    assert_eq!((shared.tls_chains(), shared.tls_sessions()), (2, 2));
    assert_eq!(flags("c.test"), RESUMED);
    assert_eq!(flags("a.test"), 0, "it was used longest ago");
}

#[test]
fn a_session_is_resumed_between_two_full_handshakes_and_the_expiry_stays_known() {
    let authority = authority();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let shared = client(&authority, ALWAYS_VERIFIED);
        let server = Arc::new(server(&authority, versions));
        for (at_s, resumed) in [
            (0, 0),
            (300, RESUMED),
            (600, RESUMED),
            (899, RESUMED),
            (900, 0),
            (901, RESUMED),
            (1_799, RESUMED),
            // Of a clock that was set back nothing is believed.
            (600, 0),
            (601, RESUMED),
        ] {
            let report = visit(&shared, &server, A, at_s);
            assert_eq!((report.class, report.status), (None, 200));
            assert_eq!(report.flags & (RESUMED | CACHED), resumed, "at {at_s}");
            assert_eq!(report.not_after_days, GOOD_UNTIL_DAYS);
        }
        assert_eq!((shared.tls_sessions(), shared.tls_chains()), (1, 0));
    }
}

/// Puts the session into its ticket as it is, and so many bytes more.
#[derive(Debug)]
struct Padded(usize);

impl ProducesTickets for Padded {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        86_400
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        Some([plain, &vec![0; self.0]].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        Some(cipher[..cipher.len().checked_sub(self.0)?].to_vec())
    }
}

#[test]
fn a_session_that_is_larger_than_any_of_the_world_is_not_kept() {
    let authority = authority();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        for (padding, resumed) in [(5_000, RESUMED), (TLS_SESSION_MAX_BYTES, 0), (20_000, 0)] {
            let shared = client(&authority, TlsPolicy::default());
            let mut server = server(&authority, versions);
            server.ticketer = Arc::new(Padded(padding));
            let server = Arc::new(server);
            for (at_s, resumed) in [(0, 0), (1, resumed), (2, resumed)] {
                let report = visit(&shared, &server, A, at_s);
                assert_eq!((report.class, report.status), (None, 200), "{padding}");
                assert_eq!(report.flags & RESUMED, resumed, "{padding} at {at_s}");
            }
            let kept = shared.tls_session_bytes();
            let expected = if resumed == 0 {
                0..1
            } else {
                5_000..TLS_SESSION_MAX_BYTES
            };
            assert!(expected.contains(&kept), "{padding}: {kept} bytes are kept");
        }
    }
}

#[test]
fn a_chain_counts_for_the_size_of_a_session_also_where_it_does_not_come_again() {
    let authority = authority();
    let long = |extra: usize| {
        let mut shown = signed(&authority, (2025, 2027));
        let filler = shown.chain[0].clone();
        shown.chain.extend(std::iter::repeat_n(filler, extra));
        let bytes: usize = shown.chain.iter().map(|der| der.len()).sum();
        (bytes, Arc::new(server_config(shown, BOTH)))
    };
    let to = ("e.test", 443);
    let shared = client(&authority, TlsPolicy::default());
    let (chain_bytes, server) = long(15);
    assert!((5_000..TLS_SESSION_MAX_BYTES / 2).contains(&chain_bytes));
    assert_eq!(visit(&shared, &server, to, 0).flags & RESUMED, 0);
    for at_s in [1, 2] {
        assert_eq!(visit(&shared, &server, to, at_s).flags & RESUMED, RESUMED);
        let kept = shared.tls_session_bytes();
        assert!(
            (chain_bytes..2 * chain_bytes).contains(&kept),
            "{kept} bytes"
        );
    }
    let shared = client(&authority, TlsPolicy::default());
    let (chain_bytes, server) = long(60);
    assert!(chain_bytes > TLS_SESSION_MAX_BYTES);
    for at_s in [0, 1] {
        let report = visit(&shared, &server, to, at_s);
        assert_eq!((report.class, report.flags & RESUMED), (None, 0));
    }
    assert_eq!(shared.tls_session_bytes(), 0);
}

#[test]
fn sessions_without_end_take_no_memory_without_end() {
    let authority = authority();
    let max_bytes = 30_000;
    let policy = TlsPolicy {
        sessions_max_bytes: max_bytes,
        ..TlsPolicy::default()
    };
    let shared = client(&authority, policy);
    let mut server = server(&authority, BOTH);
    (server.ticketer, server.send_tls13_tickets) = (Arc::new(Padded(8_000)), 1);
    let server = Arc::new(server);
    let resumed = |port| visit(&shared, &server, ("a.test", port), 0).flags & RESUMED;
    for port in 1..=40 {
        assert_eq!(resumed(port), 0);
        assert!(shared.tls_session_bytes() <= max_bytes);
    }
    assert!(shared.tls_session_bytes() > max_bytes / 2);
    let names = shared.tls_sessions();
    assert!((2..=4).contains(&names), "{names} names");
    assert_eq!((resumed(40), resumed(39)), (RESUMED, RESUMED));
    assert_eq!(resumed(1), 0, "it was used longest ago");
}

#[test]
fn a_session_is_of_one_name_and_one_port() {
    let authority = authority();
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let shared = client(&authority, ALWAYS_VERIFIED);
        let server = Arc::new(server(&authority, versions));
        for (to, resumed) in [
            (A, 0),
            (("a.test", 8443), 0),
            (("b.test", 443), 0),
            (A, RESUMED),
            (("a.test", 8443), RESUMED),
            (("b.test", 443), RESUMED),
        ] {
            let report = visit(&shared, &server, to, 1);
            assert_eq!(report.flags & RESUMED, resumed, "{to:?}");
        }
    }
}

#[test]
fn without_a_distance_or_room_every_handshake_is_full() {
    let authority = authority();
    let no_room = TlsPolicy {
        sessions_max: 0,
        ..ALWAYS_VERIFIED
    };
    for policy in [ALWAYS_FULL, no_room] {
        let shared = client(&authority, policy);
        let server = Arc::new(server(&authority, BOTH));
        for at_s in [0, 1, 2] {
            let report = visit(&shared, &server, A, at_s);
            assert_eq!(report.flags & RESUMED, 0);
        }
        assert_eq!(shared.tls_sessions(), 0);
    }
}
