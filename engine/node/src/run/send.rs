//! Sending into bounded channels of other threads without blocking the control plane.

use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};

/// How long a sender waits before it looks for room again.
const WAIT: Duration = Duration::from_millis(1);

/// The other side has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} has ended")]
pub(crate) struct Ended(pub(crate) &'static str);

/// Sends `message`, awaiting room; `whom` is named when the other side is gone.
pub(crate) async fn send<T>(
    sender: &Sender<T>,
    mut message: T,
    whom: &'static str,
) -> Result<(), Ended> {
    loop {
        match sender.try_send(message) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(back)) => message = back,
            Err(TrySendError::Disconnected(_)) => return Err(Ended(whom)),
        }
        tokio::time::sleep(WAIT).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_channel_is_awaited_and_a_closed_one_is_named() {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        send(&sender, 1, "core").await.expect("room");
        let taker = tokio::task::spawn_blocking(move || (receiver.recv(), receiver.recv()));
        send(&sender, 2, "core").await.expect("room after a while");
        assert_eq!(taker.await.expect("taken"), (Ok(1), Ok(2)));
        assert_eq!(send(&sender, 3, "core").await, Err(Ended("core")));
    }
}
