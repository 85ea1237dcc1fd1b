//! Connections to one verifier, kept for the next questions. It must not know what is asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Bytes;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use cores::Clock;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use model::limits::VERIFIER_ANSWER_MAX_BYTES;
use model::url::{Host, Scheme};
use rustix::net::sockopt::set_tcp_user_timeout;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::kept::Kept;
use crate::config::verifiers::Verifier;
use crate::verifier::tls;

/// Time to connect, TLS included.
const DIAL: Duration = Duration::from_secs(5);
/// Time in which the other end must acknowledge what it is sent, in ms: a few packets may be lost,
/// and a connection whose other end is gone ends while there is time for another one.
const UNHEARD_MS: u32 = 3_000;

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
    kept: Mutex<Kept<Sender>>,
    clock: Clock,
}

impl Link {
    /// The way to `verifier`; nothing is connected yet.
    ///
    /// # Errors
    /// When its certificates cannot be read.
    pub(super) fn to(verifier: &Verifier, clock: Clock) -> anyhow::Result<Self> {
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
            clock,
        })
    }

    /// Asks, over a kept connection or a new one; where a kept one turns out to be dead the others
    /// are, too, and a new one follows. The caller sets the time.
    ///
    /// # Errors
    /// When there is no connection, or no whole answer; [`TooLong`] for one of more than 512 KiB.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        if let Some(sender) = self.take_kept() {
            match self.ask_over(sender, &method, path, body.clone()).await {
                // It may have been closed since; a check may be made twice.
                Err(error) if !error.is::<TooLong>() => self.forget(),
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
        let stream = self.connect().await?;
        match &self.tls {
            None => talk(stream).await,
            Some((connector, name)) => talk(connector.connect(name.clone(), stream).await?).await,
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // Where the kernel refuses either, questions are only slower, or slower to be given up.
        let _ = stream.set_nodelay(true);
        let _ = set_tcp_user_timeout(&stream, UNHEARD_MS);
        Ok(stream)
    }

    /// Asks over none of the connections of before any more.
    pub(super) fn forget(&self) {
        self.kept().forget();
    }

    fn take_kept(&self) -> Option<Sender> {
        let mut kept = self.kept();
        std::iter::from_fn(|| kept.take(self.clock.mono())).find(|sender| !sender.is_closed())
    }

    fn keep(&self, sender: Sender) {
        if !sender.is_closed() {
            self.kept().keep(sender, self.clock.mono());
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<Sender>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(super) fn links(verifiers: &[Verifier], clock: Clock) -> anyhow::Result<Vec<Arc<Link>>> {
    let link = |verifier: &Verifier| Ok(Arc::new(Link::to(verifier, clock)?));
    verifiers.iter().map(link).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::net::sockopt::tcp_user_timeout;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{Config, Layers};

    /// A server that answers everything, and how many connections it was asked over.
    async fn server() -> (Link, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {
                        if head.ends_with(b"\r\n\r\n") {
                            head.clear();
                            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
                            stream.write_all(answer).await.expect("taken");
                        }
                    }
                });
            }
        });
        let entry = format!("[{{url='http://{address}', token='t', vantage='a'}}]");
        let variable = ("RINGWATCH_VERIFIERS".to_owned(), entry);
        let layers = Layers::read(None, [variable].into_iter(), Vec::new()).expect("valid");
        let config = Config::resolve(&layers).expect("valid");
        let link = Link::to(&config.verifiers.0[0], Clock::start()).expect("no files");
        (link, connections)
    }

    async fn ask(link: &Link) {
        let answer = link.ask(Method::GET, "/", Bytes::new()).await;
        assert_eq!(answer.expect("an answer").1, "hi");
    }

    #[tokio::test]
    async fn what_was_kept_before_an_answer_failed_to_come_is_asked_over_no_more() {
        let (link, connections) = server().await;
        tokio::join!(ask(&link), ask(&link));
        ask(&link).await;
        assert_eq!(connections.load(Ordering::SeqCst), 2, "one was kept");
        link.forget();
        ask(&link).await;
        assert_eq!(connections.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn who_does_not_even_acknowledge_a_question_is_given_up() {
        let (link, _) = server().await;
        let stream = link.connect().await.expect("a connection");
        assert_eq!(tcp_user_timeout(&stream).expect("told"), UNHEARD_MS);
    }
}
