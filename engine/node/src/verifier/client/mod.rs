//! The part of a node that asks verifiers, on the control plane. It must not know what a vote does:
//! the sink counts them.
//!
//! ```text
//! Question ─► gathered (≤ 64) ─► targets read ─► a verifier of each vantage, at the same time
//!                                                     │ reading: what its answer is worth
//! SinkCommand::Answered ◄── all answered, or time up ◄┘ panel: whether it is asked again
//! ```

mod asking;
mod cooldown;
mod kept;
mod link;
mod panel;
mod reading;
pub(crate) mod stats;
mod supervised;
mod targets;

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use cores::Clock;
use serde_json::Value;
use tokio::time::timeout;

use super::protocol::{PROTOCOL, STATUS};
use crate::config::verifiers::Verifier;
use link::Link;

pub(crate) use asking::Asker;

/// How long a verifier may take to say how it is.
const LOOK: Duration = Duration::from_secs(10);

/// How `verifier` is, in words, or why it cannot be asked.
///
/// # Errors
/// What is wrong, and on which side.
pub(crate) async fn look(verifier: &Verifier) -> Result<String, String> {
    let link = Link::to(verifier, Clock::start()).map_err(|error| format!("{error:#}"))?;
    let asked = timeout(LOOK, link.ask(Method::GET, STATUS, Bytes::new())).await;
    let (status, body) = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("it cannot be asked ({error:#})")),
        Err(_) => return Err(format!("it does not answer within {} s", LOOK.as_secs())),
    };
    if status != StatusCode::OK {
        return Err(format!("it answers {status}"));
    }
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(protocols) = said["protocols"].as_array() else {
        return Err("it does not accept the token".to_owned());
    };
    if !protocols.iter().any(|protocol| protocol == PROTOCOL) {
        return Err(format!("it does not speak {PROTOCOL}"));
    }
    let vantage = said["vantage"]["id"].as_str().unwrap_or_default();
    if vantage != verifier.vantage {
        return Err(format!(
            "it says that it is {vantage:?}, not {:?}: its answers are no votes",
            verifier.vantage
        ));
    }
    let version = said["version"].as_str().unwrap_or("?");
    let concurrency = &said["capacity"]["concurrency"];
    Ok(format!("version {version}, {concurrency} checks at a time"))
}
