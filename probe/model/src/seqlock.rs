//! A sequence lock: many words that one thread publishes together and any other reads together.
//! Neither waits: a reader that met a publication looks again. It does not know the words.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Counts publications, beside the words that it guards. Odd: one is under way.
#[derive(Debug, Default)]
pub struct SeqLock(AtomicU64);

impl SeqLock {
    /// Publishes what `store` stores, which may be relaxed. One thread alone may.
    #[inline]
    pub fn publish(&self, store: impl FnOnce()) {
        let version = self.0.load(Ordering::Relaxed);
        self.0.store(version + 1, Ordering::Relaxed);
        // ORDERING: pairs with the fence of a reader, so that one which saw a new word also sees
        // the odd version, or a later one.
        fence(Ordering::Release);
        store();
        self.0.store(version + 2, Ordering::Release);
    }

    /// What `load` loads, which may be relaxed, all of one publication. It runs until it met none.
    #[inline]
    pub fn read<T>(&self, load: impl Fn() -> T) -> T {
        loop {
            // ORDERING: Acquire pairs with the store that ended a publication; the fence keeps the
            // loads of the words before the second look at the version.
            let before = self.0.load(Ordering::Acquire);
            let words = load();
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && before == self.0.load(Ordering::Relaxed) {
                return words;
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn what_was_stored_in_one_publication_is_read_together() {
        const LAST: u64 = 200_000;
        let lock = SeqLock::default();
        let words: [AtomicU64; 8] = Default::default();
        let read = || words.each_ref().map(|word| word.load(Ordering::Relaxed));
        let both = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                both.wait();
                for number in 1..=LAST {
                    lock.publish(|| {
                        for word in &words {
                            word.store(number, Ordering::Relaxed);
                        }
                    });
                }
            });
            both.wait();
            let mut last = 0;
            while last < LAST {
                let [first, others @ ..] = lock.read(read);
                assert!(
                    others.iter().all(|&word| word == first),
                    "{first} {others:?}"
                );
                assert!(first >= last, "{first} after {last}");
                last = first;
            }
        });
    }

    #[test]
    fn a_reader_that_met_a_publication_looks_again() {
        let lock = SeqLock::default();
        let word = AtomicU64::new(0);
        let looks = AtomicU64::new(0);
        let seen = lock.read(|| {
            let seen = word.load(Ordering::Relaxed);
            if looks.fetch_add(1, Ordering::Relaxed) == 0 {
                lock.publish(|| word.store(7, Ordering::Relaxed));
            }
            seen
        });
        assert_eq!((seen, looks.into_inner()), (7, 2));
    }
}
