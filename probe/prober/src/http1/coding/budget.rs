//! The memory that the decoders of one core hold together. It knows bytes, not what is in them.
//!
//! All attempts of a core run on its one thread, so a cell is enough: no lock, no atomic.

use std::cell::Cell;
use std::rc::Rc;

/// A number of bytes that many may take from. Copies of it are one and the same.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Rc<Account>);

#[derive(Debug)]
struct Account {
    used_bytes: Cell<usize>,
    max_bytes: usize,
}

/// Bytes that were taken from a budget. Dropped, they are given back.
#[derive(Debug)]
pub(crate) struct Grant {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self(Rc::new(Account {
            used_bytes: Cell::new(0),
            max_bytes,
        }))
    }

    /// `None` when others hold so much that `bytes` more do not fit.
    pub(crate) fn take(&self, bytes: usize) -> Option<Grant> {
        let used_bytes = self.used_bytes().checked_add(bytes)?;
        (used_bytes <= self.0.max_bytes).then(|| {
            self.0.used_bytes.set(used_bytes);
            Grant {
                budget: self.clone(),
                bytes,
            }
        })
    }

    /// Bytes that are taken and not given back.
    pub(crate) fn used_bytes(&self) -> usize {
        self.0.used_bytes.get()
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let Account { used_bytes, .. } = &*self.budget.0;
        used_bytes.set(used_bytes.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_given_back_and_no_more_is_taken_than_there_is() {
        let budget = Budget::new(10);
        let first = budget.take(4).expect("there is room");
        let second = budget.clone().take(6).expect("just as much as there is");
        assert_eq!(budget.used_bytes(), 10);
        assert!(budget.take(1).is_none() && budget.take(usize::MAX).is_none());
        assert_eq!(budget.used_bytes(), 10, "a refusal costs nothing");
        drop(first);
        assert_eq!(budget.used_bytes(), 6);
        assert!(budget.take(5).is_none() && budget.take(4).is_some());
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
    }
}
