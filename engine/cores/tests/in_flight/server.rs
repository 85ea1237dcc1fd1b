//! A server that says nothing any more: at once, or after a handshake. Of its connections it keeps
//! the sockets alone.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};

use crate::MANY;

/// A server on a thread that lives as long as the process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Whoever trusts it trusts the server.
    pub(crate) ca_pem: String,
    held: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(shakes_hands: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (ca_pem, config) = tls();
        let held = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&held);
        std::thread::spawn(move || {
            hold(&listener, shakes_hands.then_some(&config), &count);
        });
        Self {
            address,
            ca_pem,
            held,
        }
    }

    /// Connections that are silent.
    pub(crate) fn held(&self) -> usize {
        // ORDERING: a count, read again and again until it is reached.
        self.held.load(Ordering::Relaxed)
    }
}

fn hold(listener: &TcpListener, config: Option<&Arc<ServerConfig>>, held: &AtomicUsize) {
    let mut silent = Vec::with_capacity(MANY);
    for stream in listener.incoming() {
        let mut stream = stream.expect("loopback accepts");
        if let Some(config) = config {
            hear_request(&mut stream, config);
        }
        silent.push(stream);
        // ORDERING: see `Server::held`.
        held.fetch_add(1, Ordering::Relaxed);
    }
}

/// Shakes hands and waits for the request: then nothing is on its way any more.
fn hear_request(stream: &mut TcpStream, config: &Arc<ServerConfig>) {
    use std::io::Read as _;

    let session = ServerConnection::new(Arc::clone(config));
    let mut session = session.expect("a valid config");
    let mut request = [0; 2_048];
    let read = Stream::new(&mut session, stream).read(&mut request);
    assert!(read.expect("a request comes") > 0);
}

/// An authority, and a server of it for the loopback address. Session tickets are what a healthy
/// check has as well; here they would only come after the count.
fn tls() -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "authority of a test");
    let key = KeyPair::generate().expect("a key");
    let ca_pem = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let host = Ipv4Addr::LOCALHOST.to_string();
    let params = CertificateParams::new(vec![host]).expect("an address");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    let mut config = config.expect("the key fits");
    config.send_tls13_tickets = 0;
    (ca_pem, Arc::new(config))
}
