//! Connections of the service: TLS, limits of time and number, and their end. It must not know what
//! is said over them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::exit::bad_input;

/// Connections at once.
const CONNECTIONS_MAX: u32 = 1_024;
/// Time for the first head of a connection: until it is there nobody knows who that is.
const FIRST_HEAD: Duration = Duration::from_secs(5);
/// Time for the head of a request, the wait for it included: then a kept connection ends.
const HEAD: Duration = Duration::from_secs(15);
/// What a connection may take of memory for what comes in, in bytes: a head is a few hundred, and a
/// body is read in pieces.
const BUFFER_MAX_BYTES: usize = 32 * 1024;
/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Time in which an asker must take what it is sent, in ms.
const WRITE_MS: u32 = 35_000;
/// Time after which a connection is waited for again when none could be had.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Listens on `address`; port 0 takes a free one.
pub(super) async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) => bad_input(format!(
            "verifier.listen: {address} cannot be listened on ({error}): give a free port of an \
             address of this machine"
        )),
    }
}

/// Serves until `stop` says so, then lets what runs end within `grace`; whether it did.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: watch::Receiver<bool>,
    grace: Duration,
) -> bool {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    let mut stopped = stop.clone();
    let accepting = accept(listener, tls, router, stop, Arc::clone(&places));
    tokio::select! {
        () = accepting => {}
        () = asked_to_stop(&mut stopped) => {}
    }
    timeout(grace, places.acquire_many(CONNECTIONS_MAX))
        .await
        .is_ok()
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: watch::Receiver<bool>,
    places: Arc<Semaphore>,
) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Mostly for want of files: asking again at once would only burn CPU.
                tracing::warn!("no connection: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        tokio::spawn(async move {
            connection(stream, tls, router, stop).await;
            drop(place);
        });
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    // Where the kernel refuses either, answers are only slower to come or to be given up.
    let _ = stream.set_nodelay(true);
    let _ = set_tcp_user_timeout(&stream, WRITE_MS);
    match tls {
        None => talk(stream, router, stop).await,
        Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => talk(stream, router, stop).await,
            Ok(Err(error)) => tracing::debug!("no TLS: {error}"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn asked_to_stop(stop: &mut watch::Receiver<bool>) {
    // Whoever could ask is gone: that is the end, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The end of what is `talking`; `None` when it is asked to stop first.
async fn ended_or_stopped<T>(
    talking: impl Future<Output = T>,
    stop: &mut watch::Receiver<bool>,
) -> Option<T> {
    tokio::select! {
        ended = talking => Some(ended),
        () = asked_to_stop(stop) => None,
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let (router, is_heard) = (TowerToHyperService::new(router), AtomicBool::new(false));
    let service = service_fn(|request| {
        is_heard.store(true, Ordering::Relaxed);
        router.call(request)
    });
    let talking = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut talking = pin!(talking);
    let first = timeout(FIRST_HEAD, ended_or_stopped(talking.as_mut(), &mut stop)).await;
    let ended = match first {
        Ok(ended) => ended,
        Err(_) if is_heard.load(Ordering::Relaxed) => {
            ended_or_stopped(talking.as_mut(), &mut stop).await
        }
        Err(_) => return tracing::debug!("nothing was asked over a connection"),
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        talking.as_mut().graceful_shutdown();
        talking.await
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Lesson: a thousand connections that said nothing kept a service busy for 15 s each.
    #[tokio::test]
    async fn who_says_nothing_is_let_go_sooner_than_who_was_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (_end, stop) = watch::channel(false);
        let router = Router::new().route("/", get(async || "hi"));
        tokio::spawn(serve(listener, None, router, stop, HEAD));
        let mut silent = TcpStream::connect(address).await.expect("taken");
        let mut known = TcpStream::connect(address).await.expect("taken");
        let asked = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut answer = Vec::new();
        known.write_all(asked).await.expect("sent");
        while !answer.ends_with(b"hi") {
            assert!(known.read_buf(&mut answer).await.expect("an answer") > 0);
        }
        // From here on time passes as fast as nobody has anything to do.
        tokio::time::pause();
        let until = FIRST_HEAD + Duration::from_secs(1);
        let mut more = [[0; 8]; 2];
        let [of_silent, of_known] = &mut more;
        let (of_silent, of_known) = tokio::join!(
            timeout(until, silent.read(of_silent)),
            timeout(until, known.read(of_known))
        );
        assert_eq!(of_silent.expect("in time").expect("an end"), 0);
        assert!(of_known.is_err(), "a kept connection waits longer");
    }
}
