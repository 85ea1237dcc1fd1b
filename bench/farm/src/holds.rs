//! Bounds waiting connections in number and in time: the oldest is given up first.
//!
//! A task that may wait long enters a [`Holds`] and awaits through its [`Hold`]; it is woken with
//! `None` when it is given up. Knows no runtime and reads no clock.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::clock::FarmMs;

/// A bounded set of waiting tasks of one thread, in the order in which they entered.
#[derive(Debug)]
pub(crate) struct Holds {
    entries: RefCell<BTreeMap<u64, Entry>>,
    next: Cell<u64>,
    evicted: Cell<u64>,
    limit: usize,
    life_ms: u32,
}

#[derive(Debug)]
struct Entry {
    until_ms: FarmMs,
    waker: Option<Waker>,
}

/// The place of one task; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Rc<Holds>,
    key: u64,
}

impl Holds {
    /// At most `limit` tasks, each for at most `life_ms`.
    pub(crate) fn new(limit: usize, life_ms: u32) -> Rc<Self> {
        Rc::new(Self {
            entries: RefCell::default(),
            next: Cell::new(0),
            evicted: Cell::new(0),
            limit,
            life_ms,
        })
    }

    /// Enters; when the set is full, the oldest task is given up for it.
    pub(crate) fn enter(self: &Rc<Self>, now: FarmMs) -> Hold {
        let mut entries = self.entries.borrow_mut();
        if entries.len() >= self.limit {
            give_up(entries.pop_first());
            self.evicted.set(self.evicted.get() + 1);
        }
        let key = self.next.get();
        self.next.set(key + 1);
        entries.insert(
            key,
            Entry {
                until_ms: now.saturating_add(self.life_ms),
                waker: None,
            },
        );
        Hold {
            holds: Rc::clone(self),
            key,
        }
    }

    /// Gives up every task whose time is over.
    pub(crate) fn expire(&self, now: FarmMs) {
        let mut entries = self.entries.borrow_mut();
        while let Some(oldest) = entries.first_entry() {
            if oldest.get().until_ms > now {
                break;
            }
            give_up(Some(oldest.remove_entry()));
        }
    }

    /// Tasks inside.
    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Tasks given up because the set was full, since the start.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.get()
    }
}

fn give_up(entry: Option<(u64, Entry)>) {
    if let Some(waker) = entry.and_then(|(_, entry)| entry.waker) {
        waker.wake();
    }
}

impl Hold {
    /// Awaits `future`; `None` if this task is given up first.
    pub(crate) async fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            let mut entries = self.holds.entries.borrow_mut();
            let Some(entry) = entries.get_mut(&self.key) else {
                return Poll::Ready(None);
            };
            match &mut entry.waker {
                Some(waker) => waker.clone_from(context.waker()),
                waker => *waker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.entries.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::Pin;
    use std::task::Context;

    use super::*;

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_oldest_is_given_up_for_a_new_one() {
        let holds = Holds::new(2, 1_000);
        let (first, second) = (holds.enter(0), holds.enter(1));
        let mut first_wait = pin!(first.wait(pending::<()>()));
        let mut second_wait = pin!(second.wait(pending::<()>()));
        assert_eq!(poll(first_wait.as_mut()), Poll::Pending);
        assert_eq!(poll(second_wait.as_mut()), Poll::Pending);
        let _third = holds.enter(2);
        assert_eq!(poll(first_wait.as_mut()), Poll::Ready(None));
        assert_eq!(poll(second_wait.as_mut()), Poll::Pending);
        assert_eq!((holds.len(), holds.evicted()), (2, 1));
    }

    #[test]
    fn time_gives_up_too() {
        let holds = Holds::new(10, 1_000);
        let hold = holds.enter(500);
        let mut wait = pin!(hold.wait(pending::<()>()));
        holds.expire(1_499);
        assert_eq!(poll(wait.as_mut()), Poll::Pending);
        holds.expire(1_500);
        assert_eq!(poll(wait.as_mut()), Poll::Ready(None));
        assert_eq!((holds.len(), holds.evicted()), (0, 0));
    }

    #[test]
    fn what_is_ready_wins_and_a_dropped_hold_leaves() {
        let holds = Holds::new(10, 1_000);
        let hold = holds.enter(0);
        holds.expire(5_000);
        let mut wait = pin!(hold.wait(ready(7)));
        assert_eq!(poll(wait.as_mut()), Poll::Ready(Some(7)));
        let other = holds.enter(0);
        assert_eq!(holds.len(), 1);
        drop(other);
        assert_eq!(holds.len(), 0);
    }
}
