//! Maintenance windows for people and for the sink: read from words, turned into instants by the
//! rules of their time zones, listed. Where they are kept is the store's business, what they
//! swallow the sink's.

pub(crate) mod list;
pub(crate) mod occurrences;
pub(crate) mod spec;
pub(crate) mod zones;

use store::WindowRow;

use self::occurrences::Occurrences;

/// The windows of the store, and the instants at which they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    rows: Vec<WindowRow>,
    pub(crate) occurrences: Occurrences,
}

impl Known {
    /// The rows as they are in the store, at `now`.
    pub(crate) fn of(rows: Vec<WindowRow>, now: model::UnixMs) -> Self {
        let occurrences = Occurrences::around(&rows, now);
        Self { rows, occurrences }
    }

    /// The rows, as they were read last.
    pub(crate) fn rows(&self) -> &[WindowRow] {
        &self.rows
    }

    /// Whether these rows, looked at at `now`, tell anything new.
    pub(crate) fn is_news(&self, rows: &[WindowRow], now: model::UnixMs) -> bool {
        self.rows != rows || !self.occurrences.last_from(now)
    }
}
