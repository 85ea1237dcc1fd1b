//! How far a log has been read by the clock of its server, from the heads of its events alone.
//! Pure: no connection, no time of its own.

use std::sync::Arc;

use mysql_async::binlog::events::BinlogEventHeader;
use mysql_async::binlog::{EventFlags, EventType};

use crate::changes::{Counters, Position};

/// Looks at each event.
pub(super) struct Tide {
    /// Where the log ended when it was opened.
    end: Position,
    counters: Arc<Counters>,
}

impl Tide {
    /// For a log that is read from `start` on and ended at `end` a moment after the server's clock
    /// said `opened_s`, in s since the Unix epoch.
    pub(super) fn new(
        start: &Position,
        end: Position,
        opened_s: u64,
        counters: Arc<Counters>,
    ) -> Self {
        let is_end = (&start.file, start.offset) == (&end.file, end.offset);
        counters.reached.opened(opened_s, is_end);
        Self { end, counters }
    }

    /// Takes in the head of an event of `file`.
    pub(super) fn event(&self, head: &BinlogEventHeader, file: &str) {
        let kind = head.event_type().ok();
        let reached = &self.counters.reached;
        if kind == Some(EventType::HEARTBEAT_EVENT) {
            // It comes where the server waits for more.
            return reached.end();
        }
        if file == self.end.file && u64::from(head.log_pos()) >= self.end.offset {
            reached.passed_opening();
        }
        // The first event of a file has the time of the file, again for each reader.
        if kind != Some(EventType::FORMAT_DESCRIPTION_EVENT) && is_in_log(head) {
            reached.event(u64::from(head.timestamp()));
        }
    }
}

/// Whether an event was not made up for us.
fn is_in_log(head: &BinlogEventHeader) -> bool {
    let is_made_up = EventFlags::LOG_EVENT_ARTIFICIAL_F;
    head.timestamp() != 0 && !head.flags().contains(is_made_up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::Reached;

    const OPENED_S: u64 = 1_000;

    fn place(file: &str, offset: u64) -> Position {
        Position {
            server: 1,
            file: file.to_owned(),
            begun: 0,
            offset,
        }
    }

    /// A tide of a log that ends at `log.2:500`.
    fn from(start: &Position) -> Tide {
        Tide::new(start, place("log.2", 500), OPENED_S, Arc::default())
    }

    fn event(tide: &Tide, kind: EventType, timestamp: u32, file: &str, log_pos: u32) -> Reached {
        let flags = EventFlags::empty();
        let head = BinlogEventHeader::new(timestamp, kind, 1, 100, log_pos, flags);
        tide.event(&head, file);
        tide.counters.reached()
    }

    fn reached(newest_s: Option<u64>, is_end: bool) -> Reached {
        Reached {
            opened_s: OPENED_S,
            newest_s,
            is_end,
        }
    }

    #[test]
    fn an_old_log_is_behind_until_it_was_read_to_where_it_ended() {
        let tide = from(&place("log.1", 400));
        assert_eq!(tide.counters.reached(), reached(None, false));
        let first = EventType::FORMAT_DESCRIPTION_EVENT;
        assert_eq!(
            event(&tide, first, 10, "log.1", 256),
            reached(None, false),
            "the age of the file, not of the place"
        );
        let rows = EventType::QUERY_EVENT;
        let found = event(&tide, rows, 700, "log.1", 600);
        assert_eq!(found, reached(Some(700), false));
        let found = event(&tide, rows, 720, "log.2", 499);
        assert_eq!(found, reached(Some(720), false));
        // The last statement is an hour old, and nothing is missing.
        let found = event(&tide, EventType::XID_EVENT, 721, "log.2", 500);
        assert_eq!(found, reached(Some(OPENED_S), false));
        let found = event(&tide, rows, 1_003, "log.3", 300);
        assert_eq!(found, reached(Some(1_003), false));
    }

    #[test]
    fn where_the_server_waits_for_more_is_the_end() {
        let tide = from(&place("log.2", 500));
        assert_eq!(tide.counters.reached(), reached(None, true));
        let made_up = EventType::ROTATE_EVENT;
        assert_eq!(event(&tide, made_up, 0, "log.2", 0), reached(None, true));
        let found = event(&tide, EventType::XID_EVENT, 900, "log.2", 600);
        assert_eq!(found, reached(Some(OPENED_S), false));
        let beat = EventType::HEARTBEAT_EVENT;
        let found = event(&tide, beat, 0, "log.2", 600);
        assert_eq!(found, reached(Some(OPENED_S), true));
    }
}
