//! Maintenance windows for people and for the sink: read from words, turned into instants by the
//! rules of their time zones, listed. Where they are kept is the store's business, what they
//! swallow the sink's.

pub(crate) mod list;
pub(crate) mod occurrences;
pub(crate) mod spec;
pub(crate) mod zones;

use model::FieldError;
use store::WindowList;

use self::occurrences::Occurrences;

/// The windows of the store, and the instants at which they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    list: WindowList,
    pub(crate) occurrences: Occurrences,
}

impl Known {
    /// The windows as they are in the store, at `now`.
    pub(crate) fn of(list: WindowList, now: model::UnixMs) -> Self {
        let occurrences = Occurrences::around(&list.rows, now);
        Self { list, occurrences }
    }

    /// The windows, as they were read last.
    pub(crate) fn list(&self) -> &WindowList {
        &self.list
    }

    /// Whether this list, looked at at `now`, tells anything new.
    pub(crate) fn is_news(&self, list: &WindowList, now: model::UnixMs) -> bool {
        self.list != *list || !self.occurrences.last_from(now)
    }

    /// A sentence on each row of `list` that is refused and was not before.
    pub(crate) fn newly_refused(&self, list: &WindowList) -> Vec<String> {
        let is_new = |row: &&_| !self.list.refused.contains(row);
        let refused = list.refused.iter().filter(is_new);
        refused.map(|(id, why)| refusal(*id, why)).collect()
    }
}

/// What is said of a row that is no window.
pub(crate) fn refusal(id: i64, why: &FieldError) -> String {
    format!(
        "maintenance window {id} in the store is refused and swallows nothing: {why}; remove it \
         with `ringwatch maintenance remove {id}` and add it again"
    )
}

#[cfg(test)]
mod tests {
    use model::UnixMs;

    use super::*;

    #[test]
    fn a_row_that_is_no_window_is_told_once_and_again_when_it_is_wrong_in_another_way() {
        let list = |refused: &[(i64, &str)]| WindowList {
            refused: refused
                .iter()
                .map(|&(id, found)| (id, FieldError::new("weekdays", found, "1 to 127")))
                .collect(),
            ..WindowList::default()
        };
        let one = list(&[(4, "200")]);
        let said = Known::default().newly_refused(&one);
        let expected = "maintenance window 4 in the store is refused and swallows nothing: ";
        assert!(said.len() == 1 && said[0].starts_with(expected), "{said:?}");
        let known = Known::of(one.clone(), UnixMs(0));
        assert_eq!(known.newly_refused(&one), [""; 0]);
        let more = list(&[(4, "200"), (5, "0")]);
        assert!(known.is_news(&more, UnixMs(0)));
        assert_eq!(known.newly_refused(&more).len(), 1);
        assert_eq!(known.newly_refused(&list(&[(4, "201")])).len(), 1);
    }
}
