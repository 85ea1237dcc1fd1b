//! What is wrong with the journal, as the log repeats it while it lasts. Looks at the sink's
//! numbers only.

use persist::SinkCounters;

const FULL: &str = "the journal has used up journal_max_mib because the store does not take its \
                    facts: bring the store back, or start with a higher journal_max_mib; nothing \
                    is lost while the node runs, but it checks less once its memory is full, too";
const BROKEN: &str = "the journal cannot be written or read back: check the disk of data_dir \
                      (space, rights, errors); nothing is lost while the node runs";
const FILLING: &str = "the journal has used more than half of journal_max_mib: the store takes \
                       its facts more slowly than they come, or not at all";

/// The sentence for what is wrong now.
pub(super) fn trouble(sink: &SinkCounters) -> Option<&'static str> {
    if sink.journal_full > 0 {
        Some(FULL)
    } else if sink.journal_alarm > 0 {
        Some(BROKEN)
    } else {
        (sink.journal_bytes > sink.journal_max_bytes / 2).then_some(FILLING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_fills_is_told_before_it_is_full_and_its_disk_apart_from_its_budget() {
        let well = SinkCounters {
            journal_bytes: 50,
            journal_max_bytes: 100,
            ..SinkCounters::default()
        };
        assert_eq!(trouble(&well), None);
        let filling = SinkCounters {
            journal_bytes: 51,
            ..well
        };
        assert_eq!(trouble(&filling), Some(FILLING));
        let broken = SinkCounters {
            journal_alarm: 1,
            ..filling
        };
        assert_eq!(trouble(&broken), Some(BROKEN));
        let full = SinkCounters {
            journal_full: 1,
            ..broken
        };
        assert_eq!(trouble(&full), Some(FULL));
    }
}
