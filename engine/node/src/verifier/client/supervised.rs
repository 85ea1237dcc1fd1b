//! Keeps the asking task going: one that breaks is told of and begun again, and what waits to be
//! asked waits for it. It must not know what is asked.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::stats::VerifierStats;

/// Time between the end of a task that broke and the next one: whatever broke it may do so again.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// Runs what `start` gives until it ends by itself; `again` after each time that it broke, it is
/// begun again. It ends with this future.
pub(super) async fn keep_going<F>(stats: &VerifierStats, again: Duration, start: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let mut task = JoinSet::new();
        task.spawn(start());
        stats.set_asking(true);
        let ended = task.join_next().await;
        stats.set_asking(false);
        let Some(Err(error)) = ended else {
            return;
        };
        stats.broke();
        tracing::error!(
            "the task that asks verifiers broke ({error}) and is begun again: what it had asked is \
             put again, no incident is confirmed meanwhile; this is a bug, please report it"
        );
        sleep(again).await;
    }
}

/// Counts those of the batches that broke. Their questions are without an answer: the sink waits no
/// longer for them than for verifiers that never answer, and puts them again.
pub(super) fn count_broken(under_way: &mut JoinSet<()>, stats: &VerifierStats) {
    while let Some(ended) = under_way.try_join_next() {
        if let Err(error) = ended {
            stats.broke();
            tracing::error!(
                "a batch of questions to verifiers broke ({error}): they are put again; this is a \
                 bug, please report it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_breaks_is_begun_again_and_counted_and_what_ends_is_not() {
        let (stats, begun) = (
            Arc::new(VerifierStats::default()),
            Arc::new(AtomicU64::new(0)),
        );
        let start = || {
            let (stats, begun) = (Arc::clone(&stats), Arc::clone(&begun));
            async move {
                assert!(stats.look().is_asking);
                let before = begun.fetch_add(1, Ordering::Relaxed);
                assert!(before >= 2, "it breaks twice");
            }
        };
        keep_going(&stats, Duration::ZERO, start).await;
        let seen = stats.look();
        assert_eq!(begun.load(Ordering::Relaxed), 3);
        assert_eq!((seen.broken, seen.is_asking), (2, false));
    }

    #[tokio::test]
    async fn a_batch_that_breaks_is_counted() {
        let (stats, mut under_way) = (Arc::new(VerifierStats::default()), JoinSet::new());
        under_way.spawn(async { panic!("a bug") });
        under_way.spawn(async {});
        while stats.look().broken == 0 || !under_way.is_empty() {
            tokio::task::yield_now().await;
            count_broken(&mut under_way, &stats);
        }
        assert_eq!(stats.look().broken, 1);
    }
}
