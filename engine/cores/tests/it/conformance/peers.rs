//! What the peers of the conformance checks do, the same over real sockets and in the simulator.

use std::sync::Arc;

use cores::reactor::sim::End;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;

/// The name that every certificate is for.
pub(super) const SITE: &str = "site.test";

/// What a peer says to a request, and what it does then.
pub(super) struct Script {
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
}

/// The script of a request, chosen by its path.
pub(super) fn script(request: &[u8]) -> Script {
    let text = String::from_utf8_lossy(request);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let bytes = match path {
        "/ok" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        "/error" => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        "/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok".to_vec(),
        "/noise" => b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
        "/big" => big(),
        "/hop" => redirect("/ok"),
        "/name" => redirect(&format!("//{SITE}:{}/ok", port(&text))),
        "/loop" => redirect("/loop#again"),
        "/ftp" => redirect("ftp://site.test/"),
        _ => Vec::new(),
    };
    let end = match path {
        "/silent" => End::Silence,
        "/reset" => End::Reset,
        _ => End::Eof,
    };
    Script { bytes, end }
}

/// A redirect whose body never comes.
fn redirect(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 9\r\n\r\n").into_bytes()
}

/// The port that a request was sent to.
fn port(request: &str) -> &str {
    let host = request.lines().find_map(|line| line.strip_prefix("Host: "));
    let port = host.and_then(|host| host.split_once(':'));
    port.map_or("", |(_, port)| port)
}

/// 80 KiB in chunks.
fn big() -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        bytes.extend_from_slice(format!("800\r\n{}\r\n", "x".repeat(0x800)).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Says of a DNS query that every name is at 127.0.0.1, except `*.nowhere`.
pub(super) fn dns_answer(query: &[u8]) -> Vec<u8> {
    let root = query[12..].iter().position(|byte| *byte == 0);
    let end = 12 + root.expect("a root label") + 5;
    let missing = query
        .windows(7)
        .any(|window| window.eq_ignore_ascii_case(b"nowhere"));
    let is_a = query[end - 4..end - 2] == [0, 1];
    let (rcode, answers) = (if missing { 3 } else { 0 }, u8::from(!missing && is_a));
    let mut answer = query[..2].to_vec();
    answer.extend_from_slice(&[0x81, 0x80 | rcode, 0, 1, 0, answers, 0, 0, 0, 0]);
    answer.extend_from_slice(&query[12..end]);
    if answers == 1 {
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

/// Two TLS servers, and the authority that only the first one is signed by.
pub(super) struct Tls {
    pub(super) ca_pem: String,
    pub(super) good: Arc<ServerConfig>,
    pub(super) untrusted: Arc<ServerConfig>,
}

impl Tls {
    pub(super) fn new() -> Self {
        let (ca_pem, issuer) = authority();
        let (_, stranger) = authority();
        Self {
            ca_pem,
            good: server(&issuer),
            untrusted: server(&stranger),
        }
    }
}

pub(super) fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "conformance authority");
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("a certificate").pem();
    (pem, Issuer::new(params, key))
}

fn server(issuer: &Issuer<'static, KeyPair>) -> Arc<ServerConfig> {
    let params = CertificateParams::new(vec![SITE.to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("the key fits");
    Arc::new(config)
}
