//! What a TLS client says first, as far as a fault of the handshake needs it, and what such a site
//! answers. Pure; a handshake that goes well is in `tls`.

use rustls::server::Acceptor;

use crate::faults::FaultKind;
use crate::pages::End;
use crate::sites::Sites;

/// `TLS_RSA_WITH_AES_128_CBC_SHA`: all that a server of TLS 1.1 and this client have in common.
const AES_128_CBC: u16 = 0x002f;
/// `TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA`: good in TLS 1.2, and given up by clients since.
const ECDHE_AES_128_CBC: u16 = 0xc013;
/// Suites of TLS 1.3 (RFC 8446 §B.4): who offers one speaks 1.2 at least.
const SUITES_OF_TODAY: std::ops::RangeInclusive<u16> = 0x1301..=0x1305;

/// Content types, and the one message that is sent.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const FATAL: u8 = 2;
/// Alerts (RFC 8446 §6).
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;
const UNRECOGNIZED_NAME: u8 = 112;
/// Versions on the wire.
const TLS_1_1: [u8; 2] = [3, 2];
const TLS_1_2: [u8; 2] = [3, 3];

/// What the bytes of a client are so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// Not the whole hello yet.
    Partial,
    /// A hello: the site that it names, if one, and the suites that it offers.
    Of { site: Option<u32>, suites: Vec<u16> },
    /// No hello at all.
    Unreadable,
}

/// Reads `wire`, everything that a client has sent.
pub(crate) fn read(mut wire: &[u8], sites: &Sites) -> Hello {
    let mut acceptor = Acceptor::default();
    while !wire.is_empty() {
        if !acceptor.read_tls(&mut wire).is_ok_and(|taken| taken > 0) {
            return Hello::Unreadable;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let name = hello.server_name().unwrap_or_default();
                let suites = hello.cipher_suites().iter();
                return Hello::Of {
                    site: sites.parse_host(name.as_bytes()),
                    suites: suites.map(|&suite| suite.into()).collect(),
                };
            }
            Err(_) => return Hello::Unreadable,
        }
    }
    Hello::Partial
}

/// What a site that suffers `kind` answers to a hello with these `suites`, and what comes then.
pub(crate) fn answer(kind: FaultKind, suites: &[u16]) -> (Vec<u8>, End) {
    let is_of_today = suites.iter().any(|suite| SUITES_OF_TODAY.contains(suite));
    match kind {
        FaultKind::TlsDeprecated if is_of_today || !suites.contains(&AES_128_CBC) => {
            alert(PROTOCOL_VERSION)
        }
        FaultKind::TlsDeprecated => server_hello(TLS_1_1, AES_128_CBC),
        FaultKind::TlsUnsupported if suites.contains(&ECDHE_AES_128_CBC) => {
            server_hello(TLS_1_2, ECDHE_AES_128_CBC)
        }
        FaultKind::TlsUnknownName => alert(UNRECOGNIZED_NAME),
        FaultKind::TlsSilence => (Vec::new(), End::Silence),
        _ => alert(HANDSHAKE_FAILURE),
    }
}

fn alert(description: u8) -> (Vec<u8>, End) {
    (record(ALERT, TLS_1_2, &[FATAL, description]), End::Close)
}

/// The hello of a server that chose `version` and `suite` (RFC 5246 §7.4.1.3); what would follow
/// it has no use for a client that only looks.
fn server_hello(version: [u8; 2], suite: u16) -> (Vec<u8>, End) {
    let mut body = version.to_vec();
    body.extend_from_slice(b"thirty-two bytes that are random");
    // No session id; no compression.
    body.push(0);
    body.extend_from_slice(&suite.to_be_bytes());
    body.push(0);
    let mut message = vec![SERVER_HELLO, 0, 0, body.len() as u8];
    message.extend_from_slice(&body);
    (record(HANDSHAKE, version, &message), End::Silence)
}

fn record(content: u8, version: [u8; 2], fragment: &[u8]) -> Vec<u8> {
    let mut record = vec![content, version[0], version[1]];
    record.extend_from_slice(&(fragment.len() as u16).to_be_bytes());
    record.extend_from_slice(fragment);
    record
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, RootCertStore};

    use super::*;

    const SITES: Sites = Sites {
        count: 100,
        interval_s: 10,
        https_every: 1,
        addresses: 256,
    };

    fn client() -> ClientConnection {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from("s-0000042.farm.test").expect("a name");
        ClientConnection::new(Arc::new(config), name).expect("a client")
    }

    fn hello() -> Vec<u8> {
        let mut wire = Vec::new();
        client().write_tls(&mut wire).expect("written to memory");
        wire
    }

    #[test]
    fn a_hello_names_its_site_and_its_suites() {
        let Hello::Of { site, suites } = read(&hello(), &SITES) else {
            panic!("a hello")
        };
        assert_eq!(site, Some(42));
        assert!(suites.contains(&0x1301) && !suites.contains(&ECDHE_AES_128_CBC));
    }

    #[test]
    fn what_is_no_hello_is_told() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n", &SITES), Hello::Unreadable);
        assert_eq!(read(&[], &SITES), Hello::Partial);
    }

    #[test]
    fn a_client_of_today_is_refused_by_its_alert() {
        let Hello::Of { suites, .. } = read(&hello(), &SITES) else {
            panic!("a hello")
        };
        for (kind, expected) in [
            (FaultKind::TlsDeprecated, AlertDescription::ProtocolVersion),
            (
                FaultKind::TlsUnsupported,
                AlertDescription::HandshakeFailure,
            ),
            (FaultKind::TlsRefused, AlertDescription::HandshakeFailure),
            (
                FaultKind::TlsUnknownName,
                AlertDescription::UnrecognisedName,
            ),
        ] {
            let (bytes, end) = answer(kind, &suites);
            let mut client = client();
            client.read_tls(&mut &bytes[..]).expect("from memory");
            let error = client.process_new_packets().expect_err("refused");
            assert_eq!(error, Error::AlertReceived(expected), "{}", kind.name());
            assert_eq!(end, End::Close);
        }
        assert_eq!(
            answer(FaultKind::TlsSilence, &suites),
            (Vec::new(), End::Silence)
        );
    }

    #[test]
    fn a_client_of_long_ago_gets_the_hello_of_a_server_of_its_time() {
        let old = [0xc013, 0x002f, 0x000a];
        for (kind, version, suite) in [
            (FaultKind::TlsDeprecated, [3, 2], [0x00, 0x2f]),
            (FaultKind::TlsUnsupported, [3, 3], [0xc0, 0x13]),
        ] {
            let (bytes, end) = answer(kind, &old);
            // Record, message, version, random, session id, suite, compression.
            assert_eq!(bytes.len(), 5 + 4 + 2 + 32 + 1 + 2 + 1);
            assert_eq!(usize::from(bytes[4]), bytes.len() - 5);
            assert_eq!(usize::from(bytes[8]), bytes.len() - 9);
            assert_eq!(
                (bytes[0], bytes[5], bytes[43]),
                (HANDSHAKE, SERVER_HELLO, 0)
            );
            assert_eq!((&bytes[9..11], &bytes[44..46]), (&version[..], &suite[..]));
            assert_eq!(end, End::Silence);
        }
        let (bytes, _) = answer(FaultKind::TlsRefused, &old);
        assert_eq!(bytes[5..], [FATAL, HANDSHAKE_FAILURE]);
    }

    proptest! {
        #[test]
        fn any_beginning_of_a_hello_is_partial(cut in 0..200_usize) {
            let hello = hello();
            prop_assert_eq!(read(&hello[..cut.min(hello.len() - 1)], &SITES), Hello::Partial);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let again = read(&bytes, &SITES);
            prop_assert_eq!(read(&bytes, &SITES), again);
        }
    }
}
