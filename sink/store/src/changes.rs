//! Changes of legacy rows as a server tells them, one stream at a time: what is handed over, up to
//! where, and why there is none. Knows no protocol; a backend fills the channel.
//!
//! ```text
//!  open at a position, or now ──► Rows, Position … ──► Lost: open again from now, then read all
//!            ▲                        │         └────► an error: open again where it was
//!            └──── acknowledge ◄──────┘
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::TargetId;
use model::limits::{CHANGE_BEHIND_MAX_BYTES, CHANGE_EVENT_MAX_BYTES, CHANGED_ROWS_MAX};
use tokio::sync::{mpsc, watch};

use crate::lease::JournalId;
use crate::{Result, StoreError};

/// A place between two transactions in the binary log of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// `server_id` of the server that wrote the log.
    pub(crate) server: u32,
    /// The file of the log.
    pub(crate) file: String,
    /// When that file was begun, in s since the Unix epoch: another log may use its name again.
    pub(crate) begun: u32,
    /// Bytes of the file before the place.
    pub(crate) offset: u64,
}

impl Position {
    /// Whether a server can be asked to begin here: the question has 32 bits.
    pub(crate) fn is_in_reach(&self) -> bool {
        u32::try_from(self.offset).is_ok()
    }

    /// Whether from here to `end` there is more to read than a stream begins with: more than
    /// [`CHANGE_BEHIND_MAX_BYTES`] of the file of `end`, or a whole file between. Of the file
    /// before it the rest is not known, and is read. What has other names is for the server to
    /// say.
    pub(crate) fn is_far_before(&self, end: &Self) -> bool {
        let (Some(here), Some(there)) = (numbered(&self.file), numbered(&end.file)) else {
            return false;
        };
        if here.0 != there.0 || here.1 > there.1 {
            return false;
        }
        let unread = match there.1 - here.1 {
            0 => end.offset.saturating_sub(self.offset),
            1 => end.offset,
            _ => u64::MAX,
        };
        unread > CHANGE_BEHIND_MAX_BYTES
    }
}

/// `log.000012` as `log` and 12.
fn numbered(file: &str) -> Option<(&str, u64)> {
    let (name, number) = file.rsplit_once('.')?;
    Some((name, number.parse().ok()?))
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// Who reads a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The node with this journal: a second stream of it ends the first one, and what it
    /// acknowledged is kept under its name.
    Node(JournalId),
    /// Somebody who only looks: nothing is kept.
    Passing,
}

/// What a stream of changes says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Rows that were inserted, deleted, or changed in a column that is read: of the table itself,
    /// or of the settings that belong to them. Read now, they are as that change left them, or
    /// newer.
    Rows {
        /// Targets that are new, gone, or were switched on or off; rising.
        switched: Vec<TargetId>,
        /// Other targets; rising. Both lists together have at most 30,000, each once. Some may be
        /// no rows any more.
        edited: Vec<TargetId>,
        /// Nothing up to here is missing.
        position: Position,
    },
    /// Nothing that matters changed up to here, in a while.
    Position(Position),
    /// What follows cannot be told: every row may have changed. It is the last word of its stream:
    /// open another one from now on, and then read all rows once.
    Lost(LostChanges),
}

/// Why changes cannot be told from here on. A phrase, to go on after a colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LostChanges {
    /// The server has the log no more, or not there.
    #[error("the server has no binary log from there on any more ({detail})")]
    Purged {
        /// What it said.
        detail: String,
    },
    /// The file of that name is another one.
    #[error("{file} is another binary log than the one that was read before")]
    Elsewhere {
        /// The file.
        file: String,
    },
    /// So much came since that it is not worth reading.
    #[error(
        "the binary log is to be read from {from} on and is at {end}, which is more than \
         {CHANGE_BEHIND_MAX_BYTES} bytes or a file further"
    )]
    Behind {
        /// Where it was to begin.
        from: String,
        /// Where it ends.
        end: String,
    },
    /// The place is further in its file than can be asked for.
    #[error("no server can be asked for its binary log from {from} on, which is behind 4 GiB")]
    OutOfReach {
        /// The place.
        from: String,
    },
    /// A statement names a table that is read: it was altered, emptied, or changed by a statement
    /// instead of rows.
    #[error("the table {table} was changed by a statement ({statement} …), which rows do not tell")]
    Statement {
        /// The table.
        table: String,
        /// First word of the statement.
        statement: String,
    },
    /// Rows have another shape than the table.
    #[error("rows of the table {table} are not as the table is ({detail})")]
    Shape {
        /// The table.
        table: String,
        /// What differs.
        detail: String,
    },
    /// More rows than are told one by one.
    #[error("more than {CHANGED_ROWS_MAX} rows changed at once")]
    TooMany,
    /// A blog's settings changed, and its targets cannot be found without reading the whole table.
    #[error("settings of a blog changed, and no index of the table {table} begins with {column}")]
    NoIndex {
        /// The table.
        table: String,
        /// The column of its groups.
        column: String,
    },
    /// An event that is not understood, or too large.
    #[error(
        "an event of the binary log cannot be read ({detail}; up to {CHANGE_EVENT_MAX_BYTES} bytes \
         are)"
    )]
    Unreadable {
        /// What was met.
        detail: String,
    },
}

/// Why a store gives no stream of changes at all. A phrase, to go on after a colon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoChanges {
    /// Targets are not rows of a legacy table.
    #[error("its targets have change numbers of their own")]
    OwnTargets,
    /// The server keeps no log.
    #[error("the server keeps no binary log: start it with log_bin")]
    LogOff,
    /// Not every change is in the log as rows.
    #[error("binlog_format of the server is {found}: set it to ROW")]
    Format {
        /// What it is.
        found: String,
    },
    /// Rows in the log do not say which they are.
    #[error(
        "binlog_row_image of the server is {found}, and {column} is no primary key of {table}: set \
         it to FULL"
    )]
    Image {
        /// What it is.
        found: String,
        /// The table.
        table: String,
        /// What names its rows for us.
        column: String,
    },
    /// Events in a form that is not read.
    #[error("{setting} of the server is {found}: set it to {wanted}")]
    Packed {
        /// The setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What can be read.
        wanted: &'static str,
    },
    /// The file of the log is longer than a place in it can be asked for.
    #[error(
        "its binary log is at {end}, and a place behind 4 GiB cannot be asked for: changes are \
         told again from the next file on (FLUSH BINARY LOGS begins one; keep max_binlog_size at \
         1 GiB, and transactions small)"
    )]
    LongLog {
        /// Where it ends.
        end: String,
    },
    /// The database is left out of the log.
    #[error("the database {database} is left out of the server's binary log (binlog_{which}_db)")]
    LeftOut {
        /// The database.
        database: String,
        /// `do` or `ignore`.
        which: &'static str,
    },
    /// The server changes rows without writing that into its log.
    #[error("rows of {table} change by its foreign key {key}, which the binary log does not tell")]
    Cascade {
        /// The table.
        table: String,
        /// Name of the key.
        key: String,
    },
    /// Values in a form that is not read.
    #[error("{table}.{column} is a compressed column, which is not read from the binary log")]
    CompressedColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The user lacks a right.
    #[error("its user lacks a privilege ({detail}): GRANT {grant}")]
    Privilege {
        /// What the server said.
        detail: String,
        /// What is to be granted.
        grant: String,
    },
    /// The server is of a kind that has no such log.
    #[error("the server does not understand {asked}")]
    Unknown {
        /// The statement.
        asked: &'static str,
    },
}

/// How far a stream has read its log, by the clock of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// What the clock said when the stream was opened, in s since the Unix epoch.
    pub opened_s: u64,
    /// Everything that was logged before this was read, in s as well. It may go back, by statements
    /// that took long. `None`: not known yet.
    pub newest_s: Option<u64>,
    /// Whether nothing more was logged then.
    pub is_end: bool,
}

/// What went through a stream, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Events of the log, of whatever table.
    pub events: u64,
    /// Rows of the tables that are read.
    pub rows: u64,
    /// Rows of them in which nothing changed that is read, as where we wrote a status.
    pub rows_filtered: u64,
    /// Ids that were given, each time.
    pub ids: u64,
    /// Ids that were given while their rows were locked, and therefore again.
    pub ids_again: u64,
    /// Times that the position was stored.
    pub kept: u64,
    /// Times that it could not be.
    pub keep_failures: u64,
}

impl std::ops::AddAssign for ChangeCounts {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.rows += other.rows;
        self.rows_filtered += other.rows_filtered;
        self.ids += other.ids;
        self.ids_again += other.ids_again;
        self.kept += other.kept;
        self.keep_failures += other.keep_failures;
    }
}

/// [`ChangeCounts`] while they grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) events: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) rows_filtered: AtomicU64,
    pub(crate) ids: AtomicU64,
    pub(crate) ids_again: AtomicU64,
    pub(crate) kept: AtomicU64,
    pub(crate) keep_failures: AtomicU64,
    pub(crate) reached: Reaching,
}

/// [`Reached`] while it changes. One thread writes; who reads in between learns a moment later.
#[derive(Debug, Default)]
pub(crate) struct Reaching {
    opened_s: AtomicU64,
    /// Time of the last event, 0 before it.
    event_s: AtomicU64,
    has_passed_opening: AtomicBool,
    is_end: AtomicBool,
}

impl Reaching {
    /// The log is about to be read; maybe there is nothing to read.
    pub(crate) fn opened(&self, opened_s: u64, is_end: bool) {
        self.opened_s.store(opened_s, Ordering::Relaxed);
        self.is_end.store(is_end, Ordering::Relaxed);
    }

    /// The log was read up to where it ended when it was opened.
    pub(crate) fn passed_opening(&self) {
        self.has_passed_opening.store(true, Ordering::Relaxed);
    }

    /// An event was read that was made at `event_s`.
    pub(crate) fn event(&self, event_s: u64) {
        self.event_s.store(event_s, Ordering::Relaxed);
        self.is_end.store(false, Ordering::Relaxed);
    }

    /// The server has no more.
    pub(crate) fn end(&self) {
        self.is_end.store(true, Ordering::Relaxed);
    }
}

impl Counters {
    /// Only one thread adds, and readers want no order between the counts.
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn reached(&self) -> Reached {
        let reached = &self.reached;
        let opened_s = reached.opened_s.load(Ordering::Relaxed);
        let passed = reached.has_passed_opening.load(Ordering::Relaxed);
        let event_s = reached.event_s.load(Ordering::Relaxed);
        let newest_s = event_s.max(if passed { opened_s } else { 0 });
        Reached {
            opened_s,
            newest_s: (newest_s > 0).then_some(newest_s),
            is_end: reached.is_end.load(Ordering::Relaxed),
        }
    }

    fn read(&self) -> ChangeCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ChangeCounts {
            events: of(&self.events),
            rows: of(&self.rows),
            rows_filtered: of(&self.rows_filtered),
            ids: of(&self.ids),
            ids_again: of(&self.ids_again),
            kept: of(&self.kept),
            keep_failures: of(&self.keep_failures),
        }
    }
}

/// Messages that wait for whoever asks for changes. More wait at the server.
const WAITING_MAX: usize = 1;

/// A stream of changes, from where it was opened to its end. It tries nothing again.
#[derive(Debug)]
pub struct Changes {
    store: String,
    messages: mpsc::Receiver<Result<Change>>,
    /// `Some` while the stream goes on from there: up to here all is done.
    done: watch::Sender<Option<Position>>,
    ended: watch::Receiver<()>,
    counters: Arc<Counters>,
    start: Position,
    ending: Ending,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Runs,
    /// It can be taken up where it was.
    Failed,
    Lost,
}

/// The side that fills a [`Changes`].
pub(crate) struct Feed {
    pub(crate) changes: mpsc::Sender<Result<Change>>,
    pub(crate) done: watch::Receiver<Option<Position>>,
    pub(crate) counters: Arc<Counters>,
    /// Ends with the feed.
    _ending: watch::Sender<()>,
}

impl Changes {
    /// A stream of the store `store` that begins at `start`, and the side that fills it.
    pub(crate) fn from(store: String, start: Position, counters: Arc<Counters>) -> (Self, Feed) {
        let (sender, messages) = mpsc::channel(WAITING_MAX);
        let (done, acknowledged) = watch::channel(None);
        let (ending, ended) = watch::channel(());
        let feed = Feed {
            changes: sender,
            done: acknowledged,
            counters: Arc::clone(&counters),
            _ending: ending,
        };
        let stream = Self {
            store,
            messages,
            done,
            ended,
            counters,
            start,
            ending: Ending::Runs,
        };
        (stream, feed)
    }

    /// Where it began: everything that is committed later is told.
    pub fn start(&self) -> &Position {
        &self.start
    }

    /// The next change. A future of it that is dropped loses none.
    ///
    /// # Errors
    /// The store's, [`ConnectionLost`](crate::StoreError::ConnectionLost) above all; the stream is
    /// over then.
    pub async fn next(&mut self) -> Result<Change> {
        if self.ending != Ending::Runs {
            return Err(StoreError::Closed {
                store: self.store.clone(),
            });
        }
        // Without a word its thread broke, over bytes that the driver did not expect.
        let change = self.messages.recv().await.unwrap_or_else(|| {
            Ok(Change::Lost(LostChanges::Unreadable {
                detail: "its reader ended".to_owned(),
            }))
        });
        match &change {
            Ok(Change::Lost(_)) => self.ending = Ending::Lost,
            Ok(_) => {}
            Err(_) => self.ending = Ending::Failed,
        }
        change
    }

    /// Everything up to `position` is done and need not be told again.
    pub fn acknowledge(&self, position: &Position) {
        self.done.send_replace(Some(position.clone()));
    }

    /// Where the next stream has to begin so that nothing is missing: behind what was
    /// acknowledged. `None`: nowhere, and every row has to be read once after it was opened.
    pub fn resume_from(&self) -> Option<Position> {
        if self.ending == Ending::Lost {
            return None;
        }
        let done = self.done.borrow().clone();
        Some(done.unwrap_or_else(|| self.start.clone()))
    }

    /// What went through it.
    pub fn counts(&self) -> ChangeCounts {
        self.counters.read()
    }

    /// How far it has read.
    pub fn reached(&self) -> Reached {
        self.counters.reached()
    }

    /// Ends it, after what was acknowledged is stored.
    pub async fn close(mut self) {
        self.messages.close();
        while self.messages.recv().await.is_some() {}
        // Nothing is ever sent: the end of the feed is the end of the channel.
        self.ended.changed().await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: &str, offset: u64) -> Position {
        Position {
            server: 1,
            file: file.to_owned(),
            begun: 0,
            offset,
        }
    }

    #[test]
    fn a_log_that_went_on_for_long_is_not_worth_reading() {
        const MAX: u64 = CHANGE_BEHIND_MAX_BYTES;
        let end = place("log.000012", MAX + 100);
        for (file, offset, is_far) in [
            ("log.000012", 100, false),
            ("log.000012", 99, true),
            ("log.000012", MAX + 100, false),
            ("log.000011", 900_000_000, true),
            ("log.000010", 4, true),
            // Not before it: another log.
            ("log.000013", 4, false),
            ("other.000001", 4, false),
            ("log", 4, false),
        ] {
            assert_eq!(
                place(file, offset).is_far_before(&end),
                is_far,
                "{file}:{offset}"
            );
        }
        let end = place("log.000012", 500);
        for (file, is_far) in [("log.000011", false), ("log.000010", true)] {
            assert_eq!(place(file, 400).is_far_before(&end), is_far, "{file}");
        }
    }
}
