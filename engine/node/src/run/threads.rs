//! The ends of threads, without blocking the control plane, and what becomes of several errors. It
//! must not know what the threads do.

use std::error::Error;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::anyhow;
use tracing::error;

/// How often the end of a thread is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// Waits for the end of `thread`.
pub(crate) async fn finished<T>(thread: &JoinHandle<T>) {
    while !thread.is_finished() {
        tokio::time::sleep(LOOK).await;
    }
}

/// How a thread that is finished ended; blocks for one that is not.
pub(crate) fn joined<E: Error + Send + Sync + 'static>(
    who: &str,
    thread: JoinHandle<Result<(), E>>,
) -> anyhow::Result<()> {
    match thread.join() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(anyhow::Error::new(error).context(format!("{who} failed"))),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(anyhow!("{who} panicked: {text}"))
        }
    }
}

/// The first error comes back, for the exit code and the last sentence; the others are logged, so
/// that none is lost.
pub(super) fn first_error(
    results: impl IntoIterator<Item = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut errors = results.into_iter().filter_map(Result::err);
    let first = errors.next();
    errors.for_each(|other| error!("{other:#}"));
    first.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the ring broke")]
    struct Broken;

    #[test]
    fn a_thread_says_how_it_ended() {
        let well = std::thread::spawn(|| Ok::<(), Broken>(()));
        assert!(joined("probe core 1", well).is_ok());
        let said = |thread| {
            let ended = joined("the sink", thread);
            format!("{:#}", ended.expect_err("it did not end well"))
        };
        let failed = std::thread::spawn(|| Err::<(), _>(Broken));
        assert_eq!(said(failed), "the sink failed: the ring broke");
        let panicked = std::thread::spawn(|| -> Result<(), Broken> { panic!("slot {}", 7) });
        assert_eq!(said(panicked), "the sink panicked: slot 7");
    }

    #[test]
    fn the_first_error_comes_back_and_every_other_is_logged() {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Arc::new(log.reopen().expect("opened")))
            .with_ansi(false)
            .finish();
        let results = [Ok(()), Err(anyhow!("one")), Err(anyhow!("two")), Ok(())];
        let three = Err(anyhow!("inner").context("three"));
        let first = tracing::subscriber::with_default(subscriber, || {
            first_error(results.into_iter().chain([three]))
        });
        assert_eq!(first.expect_err("three errors").to_string(), "one");
        let log = std::fs::read_to_string(log.path()).expect("text");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(lines.iter().all(|line| line.contains("ERROR")), "{log}");
        assert!(lines[0].ends_with(": two") && lines[1].ends_with(": three: inner"));
        assert!(first_error([Ok(())]).is_ok());
    }
}
