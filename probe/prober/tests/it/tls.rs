//! A real rustls server in memory against the attempt: every class of TLS failure, on a clock
//! that stands still.

mod bare;
mod memory;
mod refused_session;
mod second_look;

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use model::outcome::flags;
use model::time::Now;
use model::url::Scheme;
use model::{FailureClass, Generation, Slot};
use prober::{Attempt, AttemptSpec, Buffers, Command, Event, HostRef, Report, Roots, Shared};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::driver::{ECONNRESET, at, kept_shared, local, name, shared_with, spec};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// 2027-01-01 in days since the Unix epoch.
const GOOD_UNTIL_DAYS: u16 = 20_819;

/// A certificate authority, and its certificate as PEM.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "test authority");
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let key = KeyPair::generate().expect("key");
    let pem = params.self_signed(&key).expect("certificate").pem();
    Authority {
        issuer: Issuer::new(params, key),
        pem,
    }
}

/// What a server shows.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn leaf(years: (i32, i32)) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec!["e.test".to_owned()]).expect("name");
    params.subject_alt_names.push(SanType::IpAddress(local(9)));
    params.distinguished_name.push(DnType::CommonName, "e.test");
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    (params, KeyPair::generate().expect("key"))
}

fn signed(by: &Authority, years: (i32, i32)) -> Shown {
    let (params, key) = leaf(years);
    let certificate = params.signed_by(&key, &by.issuer).expect("certificate");
    Shown {
        chain: vec![certificate.der().clone()],
        key,
    }
}

/// An authority that `by` has signed, and its certificate.
fn intermediate(
    by: &Authority,
    years: (i32, i32),
    is_ca: IsCa,
) -> (Authority, CertificateDer<'static>) {
    let (mut params, key) = leaf(years);
    params
        .distinguished_name
        .push(DnType::CommonName, "intermediate");
    params.is_ca = is_ca;
    let certificate = params.signed_by(&key, &by.issuer).expect("certificate");
    let authority = Authority {
        issuer: Issuer::new(params, key),
        pem: certificate.pem(),
    };
    (authority, certificate.der().clone())
}

/// A leaf that an intermediate of `by` has signed, with its certificate behind it.
fn signed_below(by: &Authority, years: (i32, i32), is_ca: IsCa) -> Shown {
    let (below, certificate) = intermediate(by, years, is_ca);
    let mut shown = signed(&below, (2025, 2035));
    shown.chain.push(certificate);
    shown
}

fn self_signed() -> Shown {
    let (params, key) = leaf((2025, 2027));
    let certificate = params.self_signed(&key).expect("certificate");
    Shown {
        chain: vec![certificate.der().clone()],
        key,
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

fn server_config(shown: Shown, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let key = PrivateKeyDer::try_from(shown.key.serialize_der()).expect("key");
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(shown.chain, key)
        .expect("certificate")
}

/// How the server behaves.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a manner of its own, and a test bends one"
)]
#[derive(Clone, Copy)]
struct Manner {
    response: &'static [u8],
    close_notify: bool,
    /// The connection breaks after so many bytes of the server.
    breaks_after: Option<usize>,
    /// It breaks with this errno instead of an EOF.
    errno: Option<i32>,
    /// It is silent instead.
    silent: bool,
    /// A record that does not decrypt follows the response.
    broken_record: bool,
    /// The hello goes out with the connect.
    early: bool,
    /// The connection breaks when something is sent on it.
    deaf: bool,
    /// Noise of this many bytes follows the response.
    noise: usize,
    /// Bytes are handed over in pieces of this size.
    piece: usize,
}

const POLITE: Manner = Manner {
    response: OK,
    close_notify: true,
    breaks_after: None,
    errno: None,
    silent: false,
    broken_record: false,
    early: true,
    deaf: false,
    noise: 0,
    piece: 16_384,
};

/// One server in memory; `bytes` is what it has sent and the attempt has not read.
struct Server {
    connection: ServerConnection,
    bytes: Vec<u8>,
    request: Vec<u8>,
    answered: bool,
}

impl Server {
    fn receive(&mut self, mut bytes: &[u8], manner: Manner) {
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes).expect("a slice");
            // A refusal is told to the client by the alert that is queued.
            let _ = self.connection.process_new_packets();
        }
        let mut plaintext = [0; 4_096];
        while let Ok(count @ 1..) = self.connection.reader().read(&mut plaintext) {
            self.request.extend_from_slice(&plaintext[..count]);
        }
        if self.request.ends_with(b"\r\n\r\n") && !self.answered {
            self.answered = true;
            self.connection
                .writer()
                .write_all(manner.response)
                .expect("room");
            if manner.close_notify {
                self.connection.send_close_notify();
            }
        }
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.bytes).expect("a Vec");
        }
        if self.answered && manner.broken_record {
            self.bytes
                .extend_from_slice(b"\x17\x03\x03\x00\x20 this record does not decrypt...");
        }
        if self.answered {
            self.bytes.resize(self.bytes.len() + manner.noise, b'n');
        }
    }
}

fn check(host: HostRef<'_>, shared: &Shared, config: ServerConfig, manner: Manner) -> Attempt {
    let connection = ServerConnection::new(Arc::new(config)).expect("server");
    check_against(host, shared, connection, manner)
}

fn check_against(
    host: HostRef<'_>,
    shared: &Shared,
    connection: ServerConnection,
    manner: Manner,
) -> Attempt {
    check_at(
        at(0),
        &spec(Scheme::Https, host),
        shared,
        connection,
        manner,
    )
}

/// A check at an instant at which time stands still.
fn check_at(
    now: Now,
    spec: &AttemptSpec<'_>,
    shared: &Shared,
    connection: ServerConnection,
    manner: Manner,
) -> Attempt {
    check_amid(now, spec, shared, connection, manner, |_| {})
}

/// As [`check_at`], with what happens beside it before its nth read.
fn check_amid(
    now: Now,
    spec: &AttemptSpec<'_>,
    shared: &Shared,
    connection: ServerConnection,
    manner: Manner,
    mut beside: impl FnMut(u32),
) -> Attempt {
    let mut reads = 0;
    let mut server = Server {
        connection,
        bytes: Vec::new(),
        request: Vec::new(),
        answered: false,
    };
    let resolved = name(&[local(9)]);
    let mut attempt = Attempt::start(spec, shared, Buffers::default(), now);
    let mut handed_over = 0;
    loop {
        let command = attempt.next();
        let mut piece = Vec::new();
        let event = match command {
            Command::Done => return attempt,
            Command::Resolve => Event::Resolved(Ok(&resolved)),
            Command::Connect { conn, .. } => {
                if manner.early {
                    server.receive(attempt.first_flight(conn), manner);
                }
                let sent = manner.early;
                Event::Connected { conn, sent }
            }
            Command::Send { conn } => {
                let buffer = attempt.take_outgoing(conn);
                server.receive(&buffer, manner);
                if manner.deaf {
                    let errno = ECONNRESET;
                    Event::IoError { conn, errno }
                } else {
                    Event::Sent { conn, buffer }
                }
            }
            Command::Recv { conn } => {
                beside(reads);
                reads += 1;
                let most = manner
                    .breaks_after
                    .map_or(usize::MAX, |limit| limit - handed_over);
                let count = server.bytes.len().min(manner.piece).min(most);
                piece.extend(server.bytes.drain(..count));
                handed_over += count;
                match (count, manner.errno) {
                    (0, _) if manner.silent => Event::Deadline { ours: false },
                    (0, Some(errno)) => Event::IoError { conn, errno },
                    (0, None) => Event::Eof { conn },
                    _ => Event::Bytes {
                        conn,
                        bytes: &piece,
                    },
                }
            }
            Command::CloseConn { .. } | Command::Timer { .. } => continue,
            Command::Widen | Command::Keep { .. } | Command::Wait => {
                panic!("nothing outstanding after {:?}", attempt.report())
            }
        };
        attempt.on(event, shared, now);
    }
}

fn trusting(authority: &Authority) -> Shared {
    shared_with(Roots::Pem(authority.pem.clone().into_bytes()))
}

const HOST: HostRef<'static> = HostRef::Name("e.test");

/// The report of a check of `shown` by a client that trusts `authority`.
fn report(authority: &Authority, shown: Shown, host: HostRef<'_>) -> Report {
    check(
        host,
        &trusting(authority),
        server_config(shown, BOTH),
        POLITE,
    )
    .report()
}

#[test]
fn a_good_certificate_is_up_with_both_versions_in_pieces_of_any_size() {
    let authority = authority();
    let shared = trusting(&authority);
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        for (piece, early) in [(1, true), (7, false), (500, true), (16_384, false)] {
            let config = server_config(signed(&authority, (2025, 2027)), versions);
            let manner = Manner {
                early,
                piece,
                ..POLITE
            };
            let attempt = check(HOST, &shared, config, manner);
            let report = attempt.report();
            assert_eq!((report.class, report.status), (None, 200));
            assert_eq!(report.not_after_days, GOOD_UNTIL_DAYS);
            assert_eq!(report.flags & flags::TLS_RESUMED, 0);
            let phases = report.phases.values();
            assert!(phases[2].is_some() && phases[3].is_some(), "{phases:?}");
            let seen = attempt
                .evidence(Slot(0), Generation(0), 0)
                .tls
                .expect("TLS");
            assert!(
                ["TLSv1.3", "TLSv1.2"].contains(&seen.version.as_str()),
                "{seen:?}"
            );
            assert!(seen.cipher.starts_with("TLS_"), "{seen:?}");
            assert_eq!(seen.subjects, ["CN=e.test"]);
        }
    }
}

#[test]
fn evidence_of_a_handshake_does_not_depend_on_the_pieces() {
    let authority = authority();
    let shared = trusting(&authority);
    let shown: [fn(&Authority) -> Shown; 4] = [
        |authority| signed(authority, (2025, 2027)),
        |authority| signed(authority, (2019, 2021)),
        |_| self_signed(),
        |authority| signed_below(authority, (2025, 2026), IsCa::ExplicitNoCa),
    ];
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        for shown in shown {
            let config = Arc::new(server_config(shown(&authority), versions));
            let evidence = |piece, early| {
                let manner = Manner {
                    response: b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\n\r\n",
                    early,
                    piece,
                    ..POLITE
                };
                let server = ServerConnection::new(Arc::clone(&config)).expect("server");
                let spec = spec(Scheme::Https, HOST);
                let attempt = check_at(at(0), &spec, &shared, server, manner);
                attempt.evidence(Slot(0), Generation(0), 0)
            };
            let whole = evidence(65_536, false);
            assert!(whole.class != 0 && whole.tls.is_some(), "{whole:?}");
            for (piece, early) in [(1, true), (7, false), (500, true), (4_096, false)] {
                assert_eq!(evidence(piece, early), whole, "pieces of {piece}");
            }
        }
    }
}

#[test]
fn what_follows_a_close_notify_is_never_looked_at() {
    let authority = authority();
    let shared = trusting(&authority);
    // A record of nearly 16 KiB, an unfinished body, a close_notify, and noise behind it.
    let mut unfinished = b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n".to_vec();
    unfinished.resize(16_300, b'x');
    let response: &'static [u8] = unfinished.leak();
    for piece in [4_096, 16_384, 65_536] {
        let manner = Manner {
            response,
            noise: 30_000,
            piece,
            ..POLITE
        };
        let config = server_config(signed(&authority, (2025, 2027)), BOTH);
        let report = check(HOST, &shared, config, manner).report();
        assert_eq!(report.class, Some(FailureClass::HttpTruncated), "{piece}");
    }
}

#[test]
fn each_fault_of_a_certificate_has_its_class() {
    use FailureClass as C;
    let (ours, other) = (authority(), authority());
    let name = HostRef::Name("other.test");
    for (shown, host, class, until) in [
        (signed(&ours, (2020, 2025)), HOST, C::TlsExpired, 20_089),
        (signed(&ours, (2030, 2031)), HOST, C::TlsNotYetValid, 22_280),
        (
            signed(&ours, (2025, 2027)),
            name,
            C::TlsName,
            GOOD_UNTIL_DAYS,
        ),
        (
            signed(&other, (2025, 2027)),
            HOST,
            C::TlsUntrusted,
            GOOD_UNTIL_DAYS,
        ),
        (self_signed(), HOST, C::TlsUntrusted, GOOD_UNTIL_DAYS),
    ] {
        let report = report(&ours, shown, host);
        assert_eq!((report.class, report.not_after_days), (Some(class), until));
        let phases = report.phases.values();
        assert!(phases[2].is_some() && phases[3].is_none(), "{phases:?}");
    }
}

#[test]
fn each_fault_of_an_intermediate_has_its_class() {
    use FailureClass as C;
    let ours = authority();
    let ca = || IsCa::Ca(BasicConstraints::Constrained(0));
    let mut incomplete = signed_below(&ours, (2025, 2027), ca());
    incomplete.chain.truncate(1);
    for (shown, class) in [
        (signed_below(&ours, (2025, 2027), ca()), None),
        (signed_below(&ours, (2020, 2025), ca()), Some(C::TlsExpired)),
        (
            signed_below(&ours, (2030, 2031), ca()),
            Some(C::TlsNotYetValid),
        ),
        (
            signed_below(&ours, (2025, 2027), IsCa::ExplicitNoCa),
            Some(C::TlsUntrusted),
        ),
        (incomplete, Some(C::TlsUntrusted)),
    ] {
        assert_eq!(report(&ours, shown, HOST).class, class);
    }
}

#[test]
fn the_mozilla_roots_do_not_trust_a_private_authority() {
    let config = server_config(signed(&authority(), (2025, 2027)), BOTH);
    let attempt = check(HOST, &shared_with(Roots::WebPki), config, POLITE);
    assert_eq!(attempt.report().class, Some(FailureClass::TlsUntrusted));
    let evidence = attempt.evidence(Slot(0), Generation(0), 0);
    let seen = evidence.tls.expect("the refused chain is evidence");
    assert_eq!(seen.subjects, ["CN=e.test"]);
    assert!(
        evidence.text.contains("127.0.0.9:8080"),
        "{}",
        evidence.text
    );
}

#[test]
fn an_address_is_verified_as_an_address() {
    let authority = authority();
    let good = report(
        &authority,
        signed(&authority, (2025, 2027)),
        HostRef::Address(local(9)),
    );
    assert_eq!(good.class, None);
    let wrong = report(
        &authority,
        signed(&authority, (2025, 2027)),
        HostRef::Address(local(8)),
    );
    assert_eq!(wrong.class, Some(FailureClass::TlsName));
    let unnameable = report(
        &authority,
        signed(&authority, (2025, 2027)),
        HostRef::Name("-x-.e"),
    );
    assert_eq!(unnameable.class, Some(FailureClass::TlsName));
}

#[test]
fn alerts_are_told_apart_from_a_handshake_that_cannot_be() {
    let authority = authority();
    let shared = trusting(&authority);
    let mut only_h2 = server_config(signed(&authority, (2025, 2027)), BOTH);
    only_h2.alpn_protocols = vec![b"h2".to_vec()];
    let refused = check(HOST, &shared, only_h2, POLITE).report();
    assert_eq!(refused.class, Some(FailureClass::TlsAlert));
    // Only a key exchange that we do not offer: alert 40.
    let provider = rustls::crypto::CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768],
        ..aws_lc_rs::default_provider()
    };
    let shown = signed(&authority, (2025, 2027));
    let key = PrivateKeyDer::try_from(shown.key.serialize_der()).expect("key");
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(shown.chain, key)
        .expect("certificate");
    let nothing_shared = check(HOST, &shared, config, POLITE).report();
    assert_eq!(nothing_shared.class, Some(FailureClass::TlsHandshake));
}

#[test]
fn an_alert_after_the_handshake_is_an_alert_too() {
    let authority = authority();
    let mut roots = RootCertStore::empty();
    let (params, key) = leaf((2025, 2027));
    roots
        .add(params.self_signed(&key).expect("certificate").der().clone())
        .expect("root");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let asks = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .expect("verifier");
    let shown = signed(&authority, (2025, 2027));
    let key = PrivateKeyDer::try_from(shown.key.serialize_der()).expect("key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("versions")
        .with_client_cert_verifier(asks)
        .with_single_cert(shown.chain, key)
        .expect("certificate");
    let report = check(HOST, &trusting(&authority), config, POLITE).report();
    assert_eq!(
        (report.class, report.status),
        (Some(FailureClass::TlsAlert), 0)
    );
}

#[test]
fn a_connection_that_breaks_during_the_handshake_is_a_tls_failure() {
    use FailureClass as C;
    let authority = authority();
    let shared = trusting(&authority);
    let config = || server_config(signed(&authority, (2025, 2027)), BOTH);
    for bytes in [0, 1, 5, 100, 400] {
        let broken = Manner {
            breaks_after: Some(bytes),
            ..POLITE
        };
        let class = |manner| check(HOST, &shared, config(), manner).report().class;
        assert_eq!(class(broken), Some(C::TlsHandshake), "EOF after {bytes}");
        let reset = Manner {
            errno: Some(ECONNRESET),
            ..broken
        };
        assert_eq!(class(reset), Some(C::TlsHandshake), "reset after {bytes}");
        let silent = Manner {
            silent: true,
            ..broken
        };
        assert_eq!(class(silent), Some(C::TlsTimeout), "silence after {bytes}");
    }
}

#[test]
fn what_was_decrypted_before_a_broken_record_counts() {
    let authority = authority();
    let shared = trusting(&authority);
    for (response, class) in [
        (OK, None),
        (
            &b"HTTP/1.1 503 Busy\r\n\r\n"[..],
            Some(FailureClass::HttpStatus),
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
            Some(FailureClass::TlsHandshake),
        ),
    ] {
        let config = server_config(signed(&authority, (2025, 2027)), BOTH);
        let manner = Manner {
            response,
            close_notify: false,
            broken_record: true,
            ..POLITE
        };
        assert_eq!(
            check(HOST, &shared, config, manner).report().class,
            class,
            "{response:?}"
        );
    }
}

#[test]
fn a_missing_close_notify_matters_only_to_a_body_that_is_not_complete() {
    use FailureClass as C;
    let authority = authority();
    let shared = trusting(&authority);
    for (response, close_notify, class) in [
        (OK, false, None),
        (b"HTTP/1.1 200 OK\r\n\r\nto the close", true, None),
        (b"HTTP/1.1 200 OK\r\n\r\nto the close", false, None),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
            true,
            Some(C::HttpTruncated),
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
            false,
            Some(C::HttpTruncated),
        ),
        (b"", true, Some(C::HttpTruncated)),
        (b"HTTP/1.1 500 Oops\r\n\r\n", true, Some(C::HttpStatus)),
        (b"SSH-2.0\r\n", false, Some(C::HttpMalformed)),
    ] {
        let config = server_config(signed(&authority, (2025, 2027)), BOTH);
        let manner = Manner {
            response,
            close_notify,
            ..POLITE
        };
        assert_eq!(
            check(HOST, &shared, config, manner).report().class,
            class,
            "{response:?}"
        );
    }
}

/// The report of a check whose server sends `bytes`, whatever it is told, and then closes.
fn answered_with(shared: &Shared, bytes: &[u8], piece: usize) -> Report {
    let spec = spec(Scheme::Https, HostRef::Address(local(9)));
    let mut attempt = Attempt::start(&spec, shared, Buffers::default(), at(0));
    let mut pieces = bytes.chunks(piece);
    loop {
        let event = match attempt.next() {
            Command::Done => return attempt.report(),
            Command::Connect { conn, .. } => Event::Connected { conn, sent: false },
            Command::Send { conn } => {
                let buffer = attempt.take_outgoing(conn);
                Event::Sent { conn, buffer }
            }
            Command::Recv { conn } => match pieces.next() {
                Some(bytes) => Event::Bytes { conn, bytes },
                None => Event::Eof { conn },
            },
            _ => continue,
        };
        attempt.on(event, shared, at(0));
    }
}

#[test]
fn a_server_that_speaks_http_on_the_tls_port_is_a_handshake_failure() {
    let shared = shared_with(Roots::WebPki);
    for piece in [1, 1_000] {
        let report = answered_with(&shared, b"HTTP/1.1 400 Bad Request\r\n\r\n", piece);
        assert_eq!(report.class, Some(FailureClass::TlsHandshake));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_records_never_panic_and_are_never_a_success(
        kind in 20_u8..26,
        body in prop::collection::vec(any::<u8>(), 0..400),
        piece in 1_usize..64,
    ) {
        let length = (body.len() as u16).to_be_bytes();
        let record = [&[kind, 3, 3][..], &length, &body].concat();
        let report = answered_with(kept_shared(), &record, piece);
        prop_assert!(report.class.is_some(), "{:?}", report);
        prop_assert_eq!(report.status, 0);
    }
}
