//! Connections to one verifier, kept for the next questions. It must not know what is asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Bytes;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use model::limits::{VERIFIER_ANSWER_MAX_BYTES, VERIFIER_KEPT_MAX};
use model::url::{Host, Scheme};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::verifiers::Verifier;
use crate::verifier::tls;

/// Time to connect, TLS included.
const DIAL: Duration = Duration::from_secs(5);

type Sender = SendRequest<Full<Bytes>>;

/// What no verifier has to say; the rest of it is not read.
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {VERIFIER_ANSWER_MAX_BYTES} bytes")]
pub(super) struct TooLong;

/// The way to one verifier.
pub(super) struct Link {
    /// What is connected to.
    host: String,
    port: u16,
    /// What stands in `Host`.
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    authorization: HeaderValue,
    kept: Mutex<Vec<Sender>>,
}

impl Link {
    /// The way to `verifier`; nothing is connected yet.
    ///
    /// # Errors
    /// When its certificates cannot be read.
    pub(super) fn to(verifier: &Verifier) -> anyhow::Result<Self> {
        let url = &verifier.url;
        let (host, shown) = match url.host() {
            Host::Name(name) => (name.clone(), name.clone()),
            Host::Address(address @ std::net::IpAddr::V6(_)) => {
                (address.to_string(), format!("[{address}]"))
            }
            Host::Address(address) => (address.to_string(), address.to_string()),
        };
        let tls = match url.scheme() {
            Scheme::Https => {
                let config = tls::client(verifier.ca_file.as_deref())?;
                let name = ServerName::try_from(host.clone()).context("no name for TLS")?;
                Some((TlsConnector::from(config), name))
            }
            _ => None,
        };
        let bearer = format!("Bearer {}", verifier.token.secret());
        let mut authorization = HeaderValue::try_from(bearer).context("no token for a header")?;
        authorization.set_sensitive(true);
        Ok(Self {
            authority: format!("{shown}:{}", url.port()),
            host,
            port: url.port(),
            tls,
            authorization,
            kept: Mutex::default(),
        })
    }

    /// Asks, over a kept connection or a new one; a kept one that turns out to be dead is followed
    /// by a new one. The caller sets the time.
    ///
    /// # Errors
    /// When there is no connection, or no whole answer; [`TooLong`] for one of more than 512 KiB.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        while let Some(sender) = self.kept() {
            // It may have been closed since; a check may be made twice.
            match self.ask_over(sender, &method, path, body.clone()).await {
                Err(error) if !error.is::<TooLong>() => {}
                answer => return answer,
            }
        }
        let sender = timeout(DIAL, self.dial()).await;
        let sender = sender.context("it took too long to connect")??;
        self.ask_over(sender, &method, path, body).await
    }

    async fn ask_over(
        &self,
        mut sender: Sender,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), VERIFIER_ANSWER_MAX_BYTES);
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => bail!(TooLong),
            Err(error) => bail!("the answer did not come whole ({error})"),
        };
        self.keep(sender);
        Ok((status, body))
    }

    async fn dial(&self) -> anyhow::Result<Sender> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // Where the kernel refuses, questions are only slower.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => talk(stream).await,
            Some((connector, name)) => talk(connector.connect(name.clone(), stream).await?).await,
        }
    }

    fn kept(&self) -> Option<Sender> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|sender| !sender.is_closed());
        kept.pop()
    }

    fn keep(&self, sender: Sender) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < VERIFIER_KEPT_MAX && !sender.is_closed() {
            kept.push(sender);
        }
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> anyhow::Result<Sender> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Whoever waits for an answer hears of the error.
        let _ = connection.await;
    });
    Ok(sender)
}

/// The way to each of `verifiers`.
///
/// # Errors
/// As [`Link::to`].
pub(super) fn links(verifiers: &[Verifier]) -> anyhow::Result<Vec<Arc<Link>>> {
    let link = |verifier: &Verifier| Ok(Arc::new(Link::to(verifier)?));
    verifiers.iter().map(link).collect()
}
