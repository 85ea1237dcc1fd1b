//! The TLS side of the farm: the server configuration, the certificate by name and scenario, and
//! a connection fed with bytes. Opens no socket.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

use crate::certificates::Certificates;
use crate::scenario::{FaultKind, Layer};
use crate::world::World;

/// The configuration of every TLS connection; `tickets` allows resumption.
///
/// # Errors
/// When the provider lacks what TLS 1.2 and 1.3 need.
pub(crate) fn server_config(
    world: Arc<World>,
    certificates: Certificates,
    provider: Arc<CryptoProvider>,
    tickets: bool,
) -> Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("the TLS provider offers no usable protocol version")?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySite {
            world,
            certificates,
        }));
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
        let certificate = match fault {
            Some(FaultKind::TlsExpired) => &self.certificates.expired,
            Some(FaultKind::TlsSelfSigned) => &self.certificates.self_signed,
            _ => &self.certificates.healthy,
        };
        Some(Arc::clone(certificate))
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
    /// error `out` still holds the alert for the peer.
    pub(crate) fn receive(
        &mut self,
        mut wire: &[u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        while !wire.is_empty() {
            self.rustls.read_tls(&mut wire)?;
            let processed = self.rustls.process_new_packets();
            self.flush(out)?;
            let ready = processed
                .map_err(io::Error::other)?
                .plaintext_bytes_to_read();
            let filled = plain.len();
            plain.resize(filled + ready, 0);
            self.rustls.reader().read_exact(&mut plain[filled..])?;
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
