//! When each part of the table was read last: a pass comes to it again in time, also where rows
//! before it came or went, so that it is at another place of the pass than before.

use std::collections::VecDeque;

use model::{MonoUs, TargetId};

/// Parts that were read with one statement: the last id of each, and when. One for each page of
/// a pass, at most.
type Parts = VecDeque<(i64, MonoUs)>;

#[derive(Debug, Default)]
pub(super) struct Places {
    /// What the pass under way has read.
    here: Parts,
    /// What earlier ones read behind that.
    ahead: Parts,
}

impl Places {
    /// The rows up to `last`, or to the end, were read at `at`.
    pub(super) fn read(&mut self, last: Option<TargetId>, at: MonoUs) {
        let last = last.map_or(i64::MAX, TargetId::get);
        self.here.push_back((last, at));
        while self.ahead.front().is_some_and(|part| part.0 <= last) {
            self.ahead.pop_front();
        }
    }

    /// When the next rows were read last.
    pub(super) fn next_read_at(&self) -> Option<MonoUs> {
        self.ahead.front().map(|part| part.1)
    }

    /// A pass begins at the first row.
    pub(super) fn begin(&mut self) {
        self.here.append(&mut self.ahead);
        std::mem::swap(&mut self.here, &mut self.ahead);
    }
}
