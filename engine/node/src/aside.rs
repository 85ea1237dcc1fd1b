//! Work that waits for files, on a thread of its own. A read may wait for ever (for the other end
//! of a pipe, for a server of files) and nothing can call it back: then the thread is left behind,
//! and who waited for it goes on. So it is no task of a runtime, whose end would wait for it.

use std::thread::Builder;

use anyhow::Context;
use tokio::sync::oneshot;

/// Starts `work`, called `name`, which tells by itself what comes of it.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let started = Builder::new().name(name.to_owned()).spawn(work);
    started.with_context(|| format!("the thread for the {name} could not start"))?;
    Ok(())
}

/// What comes of `work`.
///
/// # Errors
/// As [`start`], and when `work` panicked.
pub(crate) async fn done<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let (sender, result) = oneshot::channel();
    start(name, move || {
        // Whoever asked may have gone on.
        let _ = sender.send(work());
    })?;
    let panicked = || format!("the thread for the {name} panicked");
    result.await.with_context(panicked)
}
