//! Baseline (a): tokio, hyper 1 and tokio-rustls, written plainly as an engineer would. Every check
//! is a new connection and, for HTTPS, a full handshake with the chain verified.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::child::{self, ChildOptions, USER_AGENT};
use super::open_loop;
use super::peers::{self, Peer};
use super::tally::Sample;

/// Deadline of a check.
const DEADLINE: Duration = Duration::from_secs(5);

/// Runs the child and returns what it measured.
pub(super) fn run(options: &ChildOptions) -> Result<Sample> {
    child::pin(options.cpu)?;
    let peers = peers::read(&options.peers)?;
    let tls = options.ca_file.as_deref().map(connector).transpose()?;
    open_loop::run(options, async move |number| {
        let peer = &peers[number as usize % peers.len()];
        let checked = timeout(DEADLINE, check(peer, tls.clone())).await;
        matches!(checked, Ok(Ok(())))
    })
}

/// One check: a connection, TLS where there is a connector, the answer read to its end.
pub(crate) async fn check(peer: &Peer, tls: Option<TlsConnector>) -> Result<()> {
    let stream = TcpStream::connect(peer.address).await?;
    match tls {
        None => exchange(peer, stream).await,
        Some(tls) => {
            let name = ServerName::try_from(peer.host.clone())?;
            exchange(peer, tls.connect(name, stream).await?).await
        }
    }
}

async fn exchange<S>(peer: &Peer, stream: S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    let request = Request::get("/")
        .header("host", &peer.authority)
        .header("user-agent", USER_AGENT)
        .header("accept", "*/*")
        .header("accept-encoding", "identity")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let mut response = sender.send_request(request).await?;
    if !response.status().is_success() {
        bail!("answered {}", response.status());
    }
    while let Some(frame) = response.frame().await {
        frame?;
    }
    Ok(())
}

/// The engine's provider, key exchanges and verifier, with rustls' own order of suites; no session
/// is ever resumed.
pub(crate) fn connector(ca_file: &Path) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file)
        .with_context(|| format!("cannot read {}", ca_file.display()))?
    {
        roots.add(certificate?)?;
    }
    let provider = CryptoProvider {
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    use super::*;

    /// What the check says of a server that answers with `page`.
    fn check_against(page: &'static [u8]) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            tokio::task::spawn_local(async move {
                let (mut stream, _) = listener.accept().await?;
                let _ = stream.read(&mut [0; 1_024]).await?;
                stream.write_all(page).await
            });
            let peer = Peer {
                address,
                host: "a".to_owned(),
                authority: "a:80".to_owned(),
            };
            check(&peer, None).await
        })
    }

    #[test]
    fn a_whole_page_succeeds_and_a_cut_or_bad_one_fails() {
        assert!(check_against(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok());
        assert!(check_against(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok").is_err());
        assert!(check_against(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").is_err());
    }

    #[test]
    fn a_ca_file_without_certificates_or_absent_is_named() {
        let error = connector(Path::new("/no/such/ca.pem"))
            .err()
            .expect("absent");
        assert!(error.to_string().contains("/no/such/ca.pem"), "{error}");
    }
}
