//! Small HTTP requests to the farm's control port and the node's metrics.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Even a list of a million targets arrives within this time on loopback.
const LIMIT: Duration = Duration::from_mins(1);

/// `GET path`, the body as text.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<String> {
    request(Method::GET, address, path).await
}

/// `POST path` without a body.
pub(crate) async fn post(address: SocketAddr, path: &str) -> Result<String> {
    request(Method::POST, address, path).await
}

async fn request(method: Method, address: SocketAddr, path: &str) -> Result<String> {
    let shown = format!("{method} http://{address}{path}");
    timeout(LIMIT, exchange(method, address, path))
        .await
        .with_context(|| format!("{shown}: no answer within {LIMIT:?}"))?
        .with_context(|| shown)
}

async fn exchange(method: Method, address: SocketAddr, path: &str) -> Result<String> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8(body.to_vec())?;
    if !status.is_success() {
        bail!("answered {status}: {}", text.trim());
    }
    Ok(text)
}
