//! Connections of the service: TLS, limits of time and number, and their end. It must not know what
//! is said over them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
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
/// Time for the head of a request, the wait for it included: then a kept connection ends.
const HEAD: Duration = Duration::from_secs(15);
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

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router);
    let talking = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut talking = std::pin::pin!(talking);
    let ended = tokio::select! {
        ended = talking.as_mut() => ended,
        () = asked_to_stop(&mut stop) => {
            talking.as_mut().graceful_shutdown();
            talking.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
