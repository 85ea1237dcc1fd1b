//! Signals and the one stop flag: the first SIGTERM or SIGINT (or `drain`) stops the node in an
//! orderly way, the second signal ends the process at once.

use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::control::Request;
use crate::control::server::Call;

/// Time after which a busy control plane is asked again to reload.
const AGAIN: Duration = Duration::from_millis(500);

/// `timeout` and its like signal a process and then its group: one wish that is heard twice.
const ECHO: Duration = Duration::from_millis(50);

/// Asks the node to stop, from anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Sender<Option<&'static str>>);

impl Stop {
    /// Nobody has asked yet.
    pub(crate) fn new() -> Self {
        Self(watch::channel(None).0)
    }

    /// Asks; whether this was the first time.
    pub(crate) fn ask(&self, why: &'static str) -> bool {
        self.0.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(why);
            first
        })
    }

    /// Waits until somebody asked and says who.
    pub(crate) async fn asked(&self) -> &'static str {
        let mut receiver = self.0.subscribe();
        let asked = receiver.wait_for(Option::is_some).await;
        asked
            .ok()
            .and_then(|why| *why)
            .unwrap_or("the end of the process")
    }
}

/// Starts to listen; `calls` hears of SIGHUP as a reload.
pub(crate) fn listen(stop: &Stop, calls: mpsc::Sender<Call>) -> std::io::Result<()> {
    let hup = signal(SignalKind::hangup())?;
    ends_on_signals(stop)?;
    tokio::spawn(reloads(hup, calls));
    Ok(())
}

/// Starts to listen for the end alone.
pub(crate) fn ends_on_signals(stop: &Stop) -> std::io::Result<()> {
    let term = signal(SignalKind::terminate())?;
    let int = signal(SignalKind::interrupt())?;
    tokio::spawn(ends(term, stop.clone(), "SIGTERM", 143));
    tokio::spawn(ends(int, stop.clone(), "SIGINT", 130));
    Ok(())
}

async fn ends(mut signals: Signal, stop: Stop, name: &'static str, code: i32) {
    while signals.recv().await.is_some() {
        if !stop.ask(name) {
            warn!("{name} again: ending at once");
            std::process::exit(code);
        }
        tokio::time::sleep(ECHO).await;
        // One that came meanwhile is forgotten; more than one is kept as one.
        let _ = tokio::time::timeout(Duration::ZERO, signals.recv()).await;
    }
}

async fn reloads(mut signals: Signal, calls: mpsc::Sender<Call>) {
    while signals.recv().await.is_some() {
        // A signal has nobody who would ask again.
        let mut answer = reload(&calls).await;
        while answer["busy"] == true {
            tokio::time::sleep(AGAIN).await;
            answer = reload(&calls).await;
        }
        info!(%answer, "SIGHUP: reload");
    }
}

async fn reload(calls: &mpsc::Sender<Call>) -> Value {
    let (reply, answered) = oneshot::channel();
    let request = Request::Reload;
    if calls.send(Call { request, reply }).await.is_err() {
        return Value::Null;
    }
    answered.await.unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_first_request_to_stop_counts() {
        let stop = Stop::new();
        assert!(stop.ask("SIGTERM"));
        assert!(!stop.ask("drain"));
        assert_eq!(stop.asked().await, "SIGTERM");
    }
}
