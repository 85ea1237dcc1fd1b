//! The memory that the decoders of one core hold together. It knows bytes, not what is in them.
//!
//! A body that holds more than a page of the world needs has grown, and counts with all that it
//! holds: half of the budget is for those. So servers that send what makes a decoder hold all that
//! the format has starve one another, and the other half is left to bodies that stay small.
//!
//! All attempts of a core run on its one thread, so a cell is enough: no lock, no atomic.

use std::cell::Cell;
use std::rc::Rc;

use model::limits::DECODED_PAGE_BYTES;

/// A number of bytes that many bodies may take from. Copies of it are one and the same.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Rc<Account>);

/// All in bytes.
#[derive(Debug)]
struct Account {
    used: Cell<usize>,
    /// Of those, what bodies hold that have grown.
    grown: Cell<usize>,
    max: usize,
}

/// What one body has taken from a budget. Copies of it are one and the same.
#[derive(Clone, Debug)]
pub(crate) struct Share(Rc<Holding>);

#[derive(Debug)]
struct Holding {
    budget: Budget,
    bytes: Cell<usize>,
}

/// Bytes that were taken for a body. Dropped, they are given back.
#[derive(Debug)]
pub(crate) struct Grant {
    share: Share,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self(Rc::new(Account {
            used: Cell::new(0),
            grown: Cell::new(0),
            max: max_bytes,
        }))
    }

    /// The share of a body, of which nothing is taken yet.
    pub(crate) fn share(&self) -> Share {
        Share(Rc::new(Holding {
            budget: self.clone(),
            bytes: Cell::new(0),
        }))
    }

    /// Bytes that are taken and not given back.
    pub(crate) fn used_bytes(&self) -> usize {
        self.0.used.get()
    }
}

impl Share {
    /// `None` when others hold so much that `bytes` more do not fit: altogether, or as far as they
    /// have grown like this one.
    pub(crate) fn take(&self, bytes: usize) -> Option<Grant> {
        let Holding {
            budget,
            bytes: held,
        } = &*self.0;
        let account = &*budget.0;
        let after = held.get().checked_add(bytes)?;
        let used = account.used.get().checked_add(bytes)?;
        let grown = account.grown.get() - grown_of(held.get()) + grown_of(after);
        (used <= account.max && grown <= account.max / 2).then(|| {
            self.book(after);
            Grant {
                share: self.clone(),
                bytes,
            }
        })
    }

    /// Notes that the body holds so many bytes now.
    fn book(&self, bytes: usize) {
        let Holding {
            budget,
            bytes: held,
        } = &*self.0;
        let Account { used, grown, .. } = &*budget.0;
        let before = held.replace(bytes);
        used.set(used.get() - before + bytes);
        grown.set(grown.get() - grown_of(before) + grown_of(bytes));
    }
}

/// What a body that holds `bytes` counts with among those that have grown.
fn grown_of(bytes: usize) -> usize {
    if bytes > DECODED_PAGE_BYTES { bytes } else { 0 }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let held = self.share.0.bytes.get();
        self.share.book(held - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_given_back_and_no_more_is_taken_than_there_is() {
        let budget = Budget::new(10);
        let first = budget.share().take(4).expect("there is room");
        let second = budget.clone().share();
        let second = second.take(6).expect("just as much as there is");
        assert_eq!(budget.used_bytes(), 10);
        let third = budget.share();
        assert!(third.take(1).is_none() && third.take(usize::MAX).is_none());
        assert_eq!(budget.used_bytes(), 10, "a refusal costs nothing");
        drop(first);
        assert_eq!(budget.used_bytes(), 6);
        assert!(third.take(5).is_none() && third.take(4).is_some());
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn bodies_that_have_grown_have_half_of_it_and_the_others_what_is_left() {
        let page = DECODED_PAGE_BYTES;
        let budget = Budget::new(8 * page);
        let shares: Vec<Share> = (0..9).map(|_| budget.share()).collect();
        // Two grow to twice the size of a page, which is half of all.
        let mut held: Vec<Grant> = shares[..3]
            .iter()
            .filter_map(|body| body.take(page))
            .collect();
        held.extend(shares[..2].iter().filter_map(|body| body.take(page)));
        assert_eq!((held.len(), budget.used_bytes()), (5, 5 * page));
        assert!(shares[2].take(1).is_none(), "a third one may not grow");
        assert!(shares[0].take(1).is_none(), "nor may they any further");
        // What stays as small as a page has the rest.
        held.extend(shares[3..].iter().filter_map(|body| body.take(page)));
        assert_eq!((held.len(), budget.used_bytes()), (8, 8 * page));
        assert!(shares[8].take(1).is_none(), "that was all");
        // One that has shrunk leaves its place to another.
        drop(held.remove(3));
        assert!(shares[2].take(page).is_some());
        held.clear();
        assert_eq!((budget.used_bytes(), budget.0.grown.get()), (0, 0));
    }
}
