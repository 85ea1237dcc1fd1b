//! HTTPS: the chains, the broken certificates, and HTTP faults under TLS.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use crate::running::{Farm, PATIENCE, fault, request, shells};

type Stream = StreamOwned<ClientConnection, std::net::TcpStream>;

fn connect(farm: &Farm, key: &str, site: u32) -> Stream {
    connect_with(farm, key, site, &[&TLS13, &TLS12])
}

fn connect_with(
    farm: &Farm,
    key: &str,
    site: u32,
    versions: &[&'static SupportedProtocolVersion],
) -> Stream {
    let ca_file = farm.ready["ca_file"].as_str().expect("a file");
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(ca_file).expect("a certificate");
    roots.add(root).expect("a usable root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(format!("s-{site:07}.farm.test")).expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("a client");
    StreamOwned::new(client, farm.connect(key).expect("a connection"))
}

fn fetch(stream: &mut Stream, site: u32) -> io::Result<String> {
    stream.write_all(request("GET", site).as_bytes())?;
    let mut page = String::new();
    stream.read_to_string(&mut page).map(|_| page)
}

#[test]
fn a_healthy_site_shows_a_chain_to_the_root() {
    for shell in shells() {
        for (chain, length) in [("ecdsa", 2), ("rsa3", 3)] {
            let farm = Farm::start(shell, "", &["--tls-chain", chain]);
            let mut stream = connect(&farm, "https_port", 10);
            let page = fetch(&mut stream, 10).expect("trusted, and closed with close_notify");
            assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
            let shown = stream.conn.peer_certificates().expect("certificates").len();
            assert_eq!(shown, length, "{chain}");
        }
    }
}

#[test]
fn two_ports_speak_one_version_each() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &[]);
        for (key, version) in [
            ("https_port", ProtocolVersion::TLSv1_3),
            ("https12_port", ProtocolVersion::TLSv1_2),
            ("https13_port", ProtocolVersion::TLSv1_3),
        ] {
            let mut stream = connect(&farm, key, 10);
            let page = fetch(&mut stream, 10).expect("a page");
            assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
            assert_eq!(stream.conn.protocol_version(), Some(version), "{key}");
        }
        for (key, version) in [("https12_port", &TLS13), ("https13_port", &TLS12)] {
            let mut stream = connect_with(&farm, key, 10, &[version]);
            let error = fetch(&mut stream, 10).expect_err("no version in common");
            assert!(
                format!("{error:?}").contains("ProtocolVersion"),
                "{key}: {error:?}"
            );
        }
    }
}

#[test]
fn tickets_are_handed_out_only_when_asked_for() {
    for shell in shells() {
        for (flags, tickets) in [(&[][..], 0), (&["--tls-tickets"][..], 1)] {
            let farm = Farm::start(shell, "", flags);
            let mut stream = connect(&farm, "https_port", 10);
            fetch(&mut stream, 10).expect("a page");
            assert_eq!(stream.conn.tls13_tickets_received(), tickets);
        }
    }
}

#[test]
fn broken_certificates_are_broken_as_promised() {
    let scenario = fault("kind = 'tls_expired', first_site = 10")
        + &fault("kind = 'tls_self_signed', first_site = 20")
        + &fault("kind = 'tls_not_yet_valid', first_site = 40")
        + &fault("kind = 'tls_wrong_name', first_site = 50")
        + &fault("kind = 'tls_incomplete_chain', first_site = 60")
        + &fault("kind = 'tls_expiring', first_site = 70");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        for (site, expected) in [
            (10, "Expired"),
            (20, "UnknownIssuer"),
            (40, "NotValidYet"),
            (50, "NotValidForName"),
            (60, "UnknownIssuer"),
        ] {
            let mut stream = connect(&farm, "https_port", site);
            let error = fetch(&mut stream, site).expect_err("not trusted");
            assert!(format!("{error:?}").contains(expected), "{site}: {error:?}");
        }
        for healthy in [30, 70] {
            assert!(fetch(&mut connect(&farm, "https_port", healthy), healthy).is_ok());
        }
    }
}

#[test]
fn handshakes_are_broken_for_their_sites_alone() {
    let scenario = fault("kind = 'tls_deprecated', first_site = 10")
        + &fault("kind = 'tls_unsupported', first_site = 20")
        + &fault("kind = 'tls_refused', first_site = 30")
        + &fault("kind = 'tls_unknown_name', first_site = 40")
        + &fault("kind = 'tls_silence', first_site = 50");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        for (site, expected) in [
            (10, "ProtocolVersion"),
            (20, "HandshakeFailure"),
            (30, "HandshakeFailure"),
            (40, "UnrecognisedName"),
        ] {
            let mut stream = connect(&farm, "https_port", site);
            let error = fetch(&mut stream, site).expect_err("refused");
            assert!(format!("{error:?}").contains(expected), "{site}: {error:?}");
        }
        let mut silent = connect(&farm, "https_port", 50);
        let patience = Some(PATIENCE);
        silent.sock.set_read_timeout(patience).expect("a timeout");
        let error = fetch(&mut silent, 50).expect_err("nothing comes");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(fetch(&mut connect(&farm, "https_port", 60), 60).is_ok());
    }
}

#[test]
fn http_faults_hold_under_tls() {
    let scenario = fault("kind = 'status', status = 500, first_site = 10")
        + &fault("kind = 'truncated', first_site = 20")
        + &fault("kind = 'reset', first_site = 30");
    for shell in shells() {
        let farm = Farm::with(shell, &scenario);
        let page = fetch(&mut connect(&farm, "https_port", 10), 10).expect("a page");
        assert!(page.starts_with("HTTP/1.1 500 "), "{page}");
        let cut = fetch(&mut connect(&farm, "https_port", 20), 20).expect_err("cut short");
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
        let reset = fetch(&mut connect(&farm, "https_port", 30), 30).expect_err("reset");
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_refuse_port_speaks_both() {
    for shell in shells() {
        let farm = Farm::start(shell, &fault("kind = 'refuse', first_site = 10"), &[]);
        assert!(fetch(&mut connect(&farm, "refuse_port", 10), 10).is_ok());
    }
}

#[test]
fn garbage_on_the_tls_port_gets_an_alert() {
    for shell in shells() {
        let farm = Farm::start(shell, "", &[]);
        let mut stream = farm.connect("https_port").expect("a connection");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        let mut alert = Vec::new();
        stream.read_to_end(&mut alert).expect("a close");
        assert_eq!(alert.first(), Some(&21), "{alert:?}");
    }
}
