//! How far the change numbers of our own tables were followed, and what waits meanwhile. A machine:
//! it knows no store, no fleet and no clock.
//!
//! ```text
//!  change number ──────────────►
//!   in the fleet  │ edits wait    │ not seen yet
//!                whole         switched
//! ```

use model::MonoUs;

/// What is put off, for pressure, is put off so long at most, in ms.
const PUT_OFF_MS: u64 = 60_000;

/// What is fed of a page of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything.
    Whole,
    /// Targets that are new, or were switched on or off.
    Switched,
}

/// Two places in the changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Every change up to here is in the fleet.
    whole: u64,
    /// Up to here those are that were switched. Never below `whole`.
    switched: u64,
    /// Since when edits between the two wait.
    waiting_since: Option<MonoUs>,
}

impl Changes {
    /// Everything up to `change` is in the fleet, and nothing waits: where a whole load begins. A
    /// store that was set back hands out lower numbers than it did before.
    pub(super) fn from(change: u64) -> Self {
        Self {
            whole: change,
            switched: change,
            waiting_since: None,
        }
    }

    /// Whether edits beyond the next page are to wait. What waited for long enough waits no more,
    /// nor does what came after it.
    pub(super) fn puts_off(&self, is_pressed: bool, now: MonoUs) -> bool {
        let is_old = |since: MonoUs| now.since(since) >= PUT_OFF_MS * 1_000;
        is_pressed && !self.waiting_since.is_some_and(is_old)
    }

    /// The change after which `part` goes on.
    pub(super) fn after(&self, part: Part) -> u64 {
        match part {
            Part::Whole => self.whole,
            Part::Switched => self.switched,
        }
    }

    /// `part` of every change up to `change` is in the fleet.
    pub(super) fn seen(&mut self, part: Part, change: u64, now: MonoUs) {
        if part == Part::Whole {
            self.whole = change;
        }
        self.switched = self.switched.max(change);
        if self.waiting() == 0 {
            self.waiting_since = None;
        } else {
            self.waiting_since.get_or_insert(now);
        }
    }

    /// Changes that may wait: an edit of a target that was edited again is counted twice.
    pub(super) fn waiting(&self) -> u64 {
        self.switched - self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoUs {
        MonoUs(0).plus_ms(ms)
    }

    #[test]
    fn edits_wait_a_minute_at_most_and_only_while_the_node_is_short() {
        let mut changes = Changes::from(100);
        assert!(!changes.puts_off(false, at(0)));
        assert_eq!((changes.after(Part::Whole), changes.waiting()), (100, 0));
        assert!(changes.puts_off(true, at(1_000_000)));
        changes.seen(Part::Whole, 150, at(5_000));
        changes.seen(Part::Switched, 400, at(5_000));
        assert_eq!(changes.after(Part::Whole), 150);
        assert_eq!(changes.after(Part::Switched), 400);
        assert_eq!(changes.waiting(), 250);
        // More comes, and some of it is fed: the minute is that of the first.
        changes.seen(Part::Whole, 200, at(50_000));
        changes.seen(Part::Switched, 500, at(50_000));
        assert!(changes.puts_off(true, at(64_999)) && !changes.puts_off(false, at(64_999)));
        assert!(!changes.puts_off(true, at(65_000)));
        changes.seen(Part::Whole, 450, at(65_000));
        assert!(!changes.puts_off(true, at(65_000)), "the rest is old too");
        // Everything is fed, and another minute may begin.
        changes.seen(Part::Whole, 600, at(65_000));
        assert_eq!((changes.waiting(), changes.after(Part::Switched)), (0, 600));
        assert!(changes.puts_off(true, at(65_000)));
    }
}
