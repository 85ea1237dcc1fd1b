//! A proxy on loopback in front of a server that holds back each answer: what a store is like whose
//! network or disk is slow. Knows bytes, not what they say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// A running proxy; it ends with the runtime.
pub(crate) struct DelayProxy {
    address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
}

impl DelayProxy {
    /// In front of `port` of 127.0.0.1, without delay at first.
    pub(crate) async fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let delay_ms = Arc::new(AtomicU64::new(0));
        let of_connections = Arc::clone(&delay_ms);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, Arc::clone(&of_connections)));
            }
        });
        Ok(Self { address, delay_ms })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on every read of an answer is passed on so much later.
    pub(crate) fn delay(&self, ms: u64) {
        self.delay_ms.store(ms, Ordering::Relaxed);
    }
}

async fn carry(client: TcpStream, port: u16, delay_ms: Arc<AtomicU64>) {
    // A server that is away hangs up on the client, as a machine without it would.
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    // Without the algorithm of Nagle the delay is ours alone.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        () = answer(from_server, to_client, &delay_ms) => {}
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay_ms: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let ms = delay_ms.load(Ordering::Relaxed);
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_comes_through_unchanged_with_and_without_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut question = [0; 4];
            while stream.read_exact(&mut question).await.is_ok() {
                stream.write_all(&question).await.expect("answered");
            }
        });
        let proxy = DelayProxy::start(port).await.expect("starts");
        let address = ("127.0.0.1", proxy.port());
        let mut stream = TcpStream::connect(address).await.expect("there");
        for (delay_ms, question) in [(0, b"ping"), (1, b"pong")] {
            proxy.delay(delay_ms);
            stream.write_all(question).await.expect("sent");
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.expect("answered");
            assert_eq!(&answer, question);
        }
    }
}
