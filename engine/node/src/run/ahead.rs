//! A list that is read page by page: the next page is on its way while the one before it is placed.
//! Knows neither what a page holds nor where it ends.

use tokio::task::JoinSet;

/// One page that is on its way.
pub(super) struct Ahead<P> {
    read: JoinSet<store::Result<P>>,
}

impl<P: Send + 'static> Ahead<P> {
    /// Asks for the first page.
    pub(super) async fn of(page: impl Future<Output = store::Result<P>> + Send + 'static) -> Self {
        let mut ahead = Self {
            read: JoinSet::new(),
        };
        ahead.ask(page).await;
        ahead
    }

    /// Asks for the next page; the store has the request when this returns.
    pub(super) async fn ask(
        &mut self,
        page: impl Future<Output = store::Result<P>> + Send + 'static,
    ) {
        self.read.spawn(page);
        // The page that is here is placed without a pause: the store would hear of this one later.
        tokio::task::yield_now().await;
    }

    /// The page that was asked for.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn next(&mut self) -> store::Result<P> {
        match self.read.join_next().await {
            Some(Ok(page)) => page,
            Some(Err(broken)) if broken.is_panic() => {
                std::panic::resume_unwind(broken.into_panic());
            }
            // Nothing ends it but its own end.
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_next_page_is_asked_for_before_this_one_is_placed() {
        let asked = Arc::new(AtomicU32::new(0));
        let page = |number: u32| {
            let asked = Arc::clone(&asked);
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                Ok(number)
            }
        };
        let mut ahead = Ahead::of(page(1)).await;
        assert_eq!(ahead.next().await.expect("read"), 1);
        ahead.ask(page(2)).await;
        assert_eq!(asked.load(Ordering::Relaxed), 2, "nobody waited for it yet");
        assert_eq!(ahead.next().await.expect("read"), 2);
    }
}
