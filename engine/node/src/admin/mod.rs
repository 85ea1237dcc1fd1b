//! The admin listener: `/metrics` and `/healthz`, on loopback by default. Looks, never changes.

mod health;
mod metrics;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::error;

use crate::exit::bad_input;
use crate::run::view::View;

/// Media type of the `OpenMetrics` text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Listens on `address`; port 0 takes a free one.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        // As with a data directory in use: nothing is wrong with what was asked for.
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => anyhow::bail!(
            "the admin address {address} is in use by another program: stop it, or give another \
             one with --admin ADDR:PORT (port 0 takes a free one)"
        ),
        Err(error) => bad_input(format!(
            "the admin address {address} cannot be listened on ({error}): give an address of this \
             machine with --admin ADDR:PORT"
        )),
    }
}

/// Serves until dropped.
pub(crate) async fn serve(listener: TcpListener, view: Arc<View>) {
    let router = Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health_page))
        .with_state(view);
    if let Err(error) = axum::serve(listener, router).await {
        error!("the admin listener stopped: {error}");
    }
}

async fn metrics_page(State(view): State<Arc<View>>) -> Response {
    match metrics::render(&view) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn health_page(State(view): State<Arc<View>>) -> Response {
    let reasons = health::reasons(&view);
    let code = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let status = if reasons.is_empty() { "ok" } else { "unwell" };
    let body = serde_json::json!({
        "status": status,
        "state": view.state(&view.sink_counters()),
        "reasons": reasons,
    });
    (code, axum::Json(body)).into_response()
}
