//! The TLS side of the farm: the server configuration, the certificate by name and scenario, and
//! a connection fed with bytes. Opens no socket.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::certificates::Certificates;
use crate::faults::Layer;
use crate::world::World;

/// Which versions of TLS a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    Both,
    Only12,
    Only13,
}

/// The configurations of TLS connections.
#[derive(Clone, Debug)]
pub(crate) struct TlsConfigs {
    both: Arc<ServerConfig>,
    only12: Arc<ServerConfig>,
    only13: Arc<ServerConfig>,
}

impl TlsConfigs {
    /// For sites of `world`; `tickets` allows resumption.
    ///
    /// # Errors
    /// When the provider lacks what TLS 1.2 and 1.3 need.
    pub(crate) fn new(
        world: Arc<World>,
        certificates: Certificates,
        provider: &Arc<CryptoProvider>,
        tickets: bool,
    ) -> Result<Self> {
        let sites = Arc::new(BySite {
            world,
            certificates,
        });
        let config = |versions| server_config(versions, Arc::clone(&sites), provider, tickets);
        Ok(Self {
            both: config(&[&TLS13, &TLS12])?,
            only12: config(&[&TLS12])?,
            only13: config(&[&TLS13])?,
        })
    }

    /// The one for a port that speaks `versions`.
    pub(crate) fn of(&self, versions: Versions) -> &Arc<ServerConfig> {
        match versions {
            Versions::Both => &self.both,
            Versions::Only12 => &self.only12,
            Versions::Only13 => &self.only13,
        }
    }
}

fn server_config(
    versions: &[&'static SupportedProtocolVersion],
    sites: Arc<BySite>,
    provider: &Arc<CryptoProvider>,
    tickets: bool,
) -> Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .context("the TLS provider offers no usable protocol version")?
        .with_no_client_auth()
        .with_cert_resolver(sites);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if tickets {
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()
            .context("cannot make a key for session tickets")?;
        config.send_tls13_tickets = 1;
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Shows each site the certificate that the scenario wants at this moment.
#[derive(Debug)]
struct BySite {
    world: Arc<World>,
    certificates: Certificates,
}

impl ResolvesServerCert for BySite {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = self.world.clock.now_ms();
        let name = hello.server_name().unwrap_or_default();
        let site = self.world.sites.parse_host(name.as_bytes());
        let fault = site.and_then(|site| self.world.fault(Layer::Tls, site, None, now));
        Some(Arc::clone(self.certificates.shown(fault)))
    }
}

/// One TLS connection: bytes of the wire in, plain bytes out, and the reverse.
#[derive(Debug)]
pub(crate) struct TlsConnection {
    rustls: ServerConnection,
}

impl TlsConnection {
    pub(crate) fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        let rustls = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self { rustls })
    }

    /// Takes `wire` in, appends what it says to `plain` and what must be sent to `out`. After an
    /// error `out` still holds the alert for the peer. What follows a `close_notify` means nothing
    /// (RFC 8446 §6.1) and is left aside.
    pub(crate) fn receive(
        &mut self,
        mut wire: &[u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        while !wire.is_empty() {
            let taken = self.rustls.read_tls(&mut wire)?;
            let processed = self.rustls.process_new_packets();
            self.flush(out)?;
            let state = processed.map_err(io::Error::other)?;
            let filled = plain.len();
            plain.resize(filled + state.plaintext_bytes_to_read(), 0);
            self.rustls.reader().read_exact(&mut plain[filled..])?;
            // Once closed, rustls takes nothing more and would leave us here for ever.
            if taken == 0 || state.peer_has_closed() {
                break;
            }
        }
        Ok(())
    }

    /// Appends `plain`, encrypted, to `out`.
    pub(crate) fn send(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.rustls.writer().write_all(plain)?;
        self.flush(out)
    }

    /// Appends the `close_notify` to `out`.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.rustls.send_close_notify();
        self.flush(out)
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        while self.rustls.wants_write() {
            self.rustls.write_tls(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;
    use crate::certificates::{self, ChainKind};
    use crate::clock::Clock;
    use crate::scenario::Scenario;
    use crate::sites::Sites;

    /// A client and the farm's end, which trust each other and have said nothing yet.
    fn pair() -> (ClientConnection, TlsConnection) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let minted = certificates::mint(ChainKind::Ecdsa, &provider, 0).expect("minted");
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(minted.ca_pem.as_bytes()).expect("a certificate");
        roots.add(root).expect("a usable root");
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let sites = Sites {
            count: 10,
            interval_s: 10,
            https_every: 1,
            addresses: 1,
        };
        let world = World::new(sites, Scenario::default(), Clock::start(), 60, 1_000, false);
        let configs = TlsConfigs::new(Arc::new(world), minted, &provider, false);
        let server = Arc::clone(configs.expect("configured").of(Versions::Both));
        let name = ServerName::try_from("s-0000001.farm.test").expect("a name");
        let client = ClientConnection::new(Arc::new(client), name).expect("a client");
        (client, TlsConnection::new(server).expect("a server"))
    }

    /// What the client has to send.
    fn written(client: &mut ClientConnection) -> Vec<u8> {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("written to memory");
        }
        wire
    }

    fn shake_hands(client: &mut ClientConnection, server: &mut TlsConnection) {
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        while client.is_handshaking() {
            let wire = written(client);
            server
                .receive(&wire, &mut plain, &mut out)
                .expect("understood");
            let mut answer = out.as_slice();
            while !answer.is_empty() {
                client.read_tls(&mut answer).expect("read from memory");
                client.process_new_packets().expect("trusted");
            }
            out.clear();
        }
    }

    #[test]
    fn bytes_behind_a_close_are_left_aside() {
        let (mut client, mut server) = pair();
        shake_hands(&mut client, &mut server);
        client.writer().write_all(b"GET").expect("buffered");
        client.send_close_notify();
        let mut wire = written(&mut client);
        wire.extend_from_slice(b"nothing of this is TLS");
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            server
                .receive(&wire, &mut plain, &mut out)
                .expect("the rest is not looked at");
            assert_eq!(plain, b"GET");
        }
    }
}
