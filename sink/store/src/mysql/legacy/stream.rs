//! Changes of the legacy tables, from the server's binary log: one thread with the connection that
//! the server writes its log to, and one for questions.
//!
//! ```text
//!  server ── events ──► gather (pure) ── ready keys, every 50 ms ──► settle ──► Changes ──► caller
//!                                                                      │           │
//!                                        wait for locks, blogs ► targets           acknowledge
//!                                                                                  ▼
//!                                               every 5 s, and at the end: keep the position
//! ```
//!
//! Backpressure reaches the server: while nobody takes a message, no event is read. The driver's
//! parser may end a thread over bytes that it does not expect, hence a thread of its own.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use model::limits::{
    CHANGE_AGAIN_MS, CHANGE_EVENT_MAX_BYTES, CHANGE_GATHER_MS, CHANGE_KEEP_MS, CHANGED_ROWS_MAX,
    STORE_CONNECT_MS,
};
use mysql_async::binlog::events::Event;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Error as DriverError, IoError};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep, timeout};

use self::gather::{Gather, Keys};
use self::server::{Look, look, refused, with_grant};
use self::tide::Tide;
use super::super::Client;
use super::super::address::MysqlUrl;
use super::super::failure::{connecting, working};
use super::super::session::{Lane, Session, hang_up};
use super::OWN_SETTINGS;
use crate::changes::{Change, Changes, Counters, Feed, LostChanges, NoChanges, Position, Reader};
use crate::legacy::Legacy;
use crate::options::OpenOptions;
use crate::{Result, StoreError};

mod gather;
mod image;
mod keep;
mod server;
mod settle;
mod statement;
mod tide;

/// The server cannot read its log from there: error 1236 of both kinds.
const FATAL_READING: u16 = 1236;
/// Another one with our number came: error 4052 of MariaDB, 1236 of MySQL with these words.
const SAME_READER: u16 = 4052;
const SAME_READER_WORDS: &str = "same server_uuid/server_id";
/// To MariaDB: events may come as they are in its log (`MARIA_SLAVE_CAPABILITY_GTID`); prepared
/// transactions cannot come otherwise.
const CAPABILITY: u8 = 4;
/// So much of the log may be read again after a restart before its position is told for itself:
/// keeping a position is written into the log too.
const POSITION_STEP_BYTES: u64 = 1024 * 1024;
/// Heartbeats that are missed before a stream is dead.
const HEARTBEATS_MISSED: u32 = 3;
/// How a session waits for a row that somebody holds: no change waits for longer.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// That the log comes over, and for questions.
pub(in crate::mysql) const CONNECTIONS: usize = 2;

/// What a thread is to read.
struct Plan {
    url: Arc<MysqlUrl>,
    options: OpenOptions,
    legacy: Arc<Legacy>,
    reader: Reader,
    from: Option<Position>,
}

impl Client {
    /// A stream of changes of the legacy tables.
    pub(crate) async fn legacy_changes(
        &self,
        reader: Reader,
        from: Option<Position>,
    ) -> Result<Changes> {
        let legacy = self.options.legacy.clone();
        let plan = Plan {
            url: Arc::clone(&self.url),
            options: OpenOptions {
                busy_timeout: LOCK_WAIT,
                ..self.options.clone()
            },
            legacy: legacy
                .filter(|legacy| legacy.load)
                .ok_or_else(|| StoreError::NoChanges {
                    store: self.url.to_string(),
                    why: NoChanges::OwnTargets,
                })?,
            reader,
            from,
        };
        let (reply, opened) = oneshot::channel();
        let thread = std::thread::Builder::new().name("store-changes".to_owned());
        thread
            .spawn(move || run(plan, reply))
            .map_err(|cause| StoreError::Thread {
                store: self.url.to_string(),
                cause,
            })?;
        opened.await.map_err(|_| self.closed())?
    }
}

/// The thread.
fn run(plan: Plan, reply: oneshot::Sender<Result<Changes>>) {
    // Without a runtime the caller is told that the store is closed.
    if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
        runtime.block_on(serve(plan, reply));
    }
}

async fn serve(plan: Plan, reply: oneshot::Sender<Result<Changes>>) {
    let mut session = plan.session();
    let counters = Arc::new(Counters::default());
    let opened = plan.open(&mut session, &counters).await;
    let (log, groups_have_an_index) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            session.end().await;
            reply.send(Err(error)).ok();
            return;
        }
    };
    let start = log.gather.reached().clone();
    let (changes, feed) = Changes::from(plan.url.to_string(), start.clone(), counters);
    let mut follower = Follower {
        plan,
        session,
        feed,
        groups_have_an_index,
        told: start.clone(),
        settled: start,
        locked: Keys::default(),
        kept: None,
    };
    if reply.send(Ok(changes)).is_ok() {
        follower.follow(log).await;
    } else {
        hang_up(log.stream);
    }
    follower.session.end().await;
}

/// A log that is read.
struct Log {
    stream: BinlogStream,
    gather: Gather,
    tide: Tide,
}

/// Why no further event is read.
enum End {
    /// Nobody listens.
    Unheard,
    Lost(LostChanges),
    Broken(StoreError),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Broken(error)
    }
}

impl From<LostChanges> for End {
    fn from(lost: LostChanges) -> Self {
        Self::Lost(lost)
    }
}

impl Plan {
    fn session(&self) -> Session {
        Session::new(Arc::clone(&self.url), Lane::Control, self.options.clone())
    }

    /// Looks whether the server tells changes, and begins to read its log. Also whether the targets
    /// of a blog are found without reading all.
    async fn open(&self, session: &mut Session, counters: &Arc<Counters>) -> Result<(Log, bool)> {
        let own = self.url.named(OWN_SETTINGS);
        let Look {
            database,
            tables,
            asked_s,
            end,
            groups_have_an_index,
        } = look(session, &self.legacy, &own).await?;
        if !end.is_in_reach() {
            let end = end.to_string();
            return Err(refused(session, NoChanges::LongLog { end }));
        }
        settle::require_locks(session, &tables).await?;
        let start = self.from.clone().unwrap_or_else(|| end.clone());
        if start.is_far_before(&end) {
            let (from, end) = (start.to_string(), end.to_string());
            return Err(self.lost(LostChanges::Behind { from, end }));
        }
        if !start.is_in_reach() {
            let from = start.to_string();
            return Err(self.lost(LostChanges::OutOfReach { from }));
        }
        let stream = self.request(&start).await.map_err(with_grant)?;
        let tide = Tide::new(&start, end, asked_s, Arc::clone(counters));
        let gather = Gather::new(database, tables, start, Arc::clone(counters));
        let mut log = Log {
            stream,
            gather,
            tide,
        };
        match self.begin(&mut log).await {
            Ok(()) => Ok((log, groups_have_an_index)),
            Err(error) => {
                hang_up(log.stream);
                Err(error)
            }
        }
    }

    /// Reads up to the first event of the file, which says whether it is the one that was meant.
    async fn begin(&self, log: &mut Log) -> Result<()> {
        let limit = Duration::from_millis(STORE_CONNECT_MS);
        while !log.gather.is_described() {
            let taken = timeout(limit, log.take(&self.url)).await;
            let taken = taken.unwrap_or_else(|_| Err(self.silent(limit).into()));
            taken.map_err(|end| self.unopened(end))?;
        }
        let found = log.gather.reached();
        let is_there = |from: &Position| (from.server, from.begun) == (found.server, found.begun);
        if self.from.as_ref().is_none_or(is_there) {
            return Ok(());
        }
        let file = found.file.clone();
        Err(self.lost(LostChanges::Elsewhere { file }))
    }

    /// A connection that the server writes its log to, from `start` on.
    async fn request(&self, start: &Position) -> Result<BinlogStream> {
        let mut session = self.session().with_packets_up_to(CHANGE_EVENT_MAX_BYTES);
        session.connect().await?;
        let own = session.number("SELECT @@server_id", Vec::new()).await?;
        let connection = session.number("SELECT CONNECTION_ID()", Vec::new()).await?;
        let replica = Replica::of(self.reader, own.unwrap_or(0), connection.unwrap_or(0));
        // Older servers know the older names alone, and all of them take variables that they do
        // not know.
        let nanoseconds = (self.options.change_silence / HEARTBEATS_MISSED).as_nanos();
        session
            .say(&format!(
                "SET @master_heartbeat_period = {nanoseconds}, \
                 @source_heartbeat_period = {nanoseconds}, \
                 @slave_uuid = '{uuid}', @replica_uuid = '{uuid}', \
                 @mariadb_slave_capability = {CAPABILITY}",
                uuid = replica.uuid
            ))
            .await?;
        let Some(connection) = session.into_connection() else {
            return Err(StoreError::ConnectionLost {
                store: self.url.to_string(),
                detail: "it was given up".to_owned(),
            });
        };
        let limit = Duration::from_millis(STORE_CONNECT_MS);
        let asked = timeout(limit, dump(connection, &replica, start)).await;
        let stream = asked.map_err(|_| self.silent(limit))?;
        stream.map_err(|error| match error {
            error @ DriverError::Server(_) => working(&self.url, error),
            error => connecting(&self.url, error),
        })
    }

    fn unopened(&self, end: End) -> StoreError {
        match end {
            End::Broken(error) => with_grant(error),
            End::Lost(why) => self.lost(why),
            End::Unheard => self.silent(Duration::from_millis(STORE_CONNECT_MS)),
        }
    }

    fn lost(&self, why: LostChanges) -> StoreError {
        StoreError::ChangesLost {
            store: self.url.to_string(),
            why,
        }
    }

    fn silent(&self, limit: Duration) -> StoreError {
        StoreError::TimedOut {
            store: self.url.to_string(),
            doing: "its binary log",
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// How often positions are kept: more often than a stream may be silent.
    fn keeping(&self) -> Interval {
        let pause = Duration::from_millis(CHANGE_KEEP_MS).min(self.options.change_silence / 6);
        let mut keeping = interval(pause);
        keeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keeping
    }
}

async fn dump(
    connection: Conn,
    replica: &Replica,
    start: &Position,
) -> Result<BinlogStream, DriverError> {
    let request = BinlogStreamRequest::new(replica.server_id)
        .with_hostname(b"ringwatch")
        .with_filename(start.file.as_bytes())
        .with_pos(start.offset);
    connection.get_binlog_stream(request).await
}

/// As what a reader is known to the server, which ends an older stream of the same.
#[derive(Debug, PartialEq, Eq)]
struct Replica {
    server_id: u32,
    uuid: String,
}

impl Replica {
    /// Nodes have numbers from 2^31 on, by their journals, those who only look from 2^30 on, by
    /// their connections: servers are mostly given small ones.
    fn of(reader: Reader, own: i64, connection: i64) -> Self {
        let (number, server_id) = match reader {
            Reader::Node(journal) => {
                let number = journal.get() as u64;
                (number, (number ^ number >> 32) as u32 | 1 << 31)
            }
            Reader::Passing => {
                let number = connection as u64;
                (number, number as u32 & !(1 << 31) | 1 << 30)
            }
        };
        // "ringwatc", then the number.
        let uuid = format!(
            "72696e67-7761-7463-{:04x}-{:012x}",
            number >> 48,
            number & 0xffff_ffff_ffff
        );
        let is_taken = i64::from(server_id) == own;
        Self {
            server_id: server_id ^ u32::from(is_taken),
            uuid,
        }
    }
}

impl Log {
    /// Takes in the next event. A future of it that is dropped loses none.
    async fn take(&mut self, url: &MysqlUrl) -> Result<(), End> {
        let mut stream = Pin::new(&mut self.stream);
        let event = poll_fn(|context| stream.as_mut().poll_next(context)).await;
        let event: Event = event
            .unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()))
            .map_err(|error| failed(url, error))?;
        self.tide.event(&event.header(), self.gather.file());
        Ok(self.gather.event(&event)?)
    }
}

/// What a failed stream means.
fn failed(url: &MysqlUrl, error: DriverError) -> End {
    match error {
        DriverError::Server(error)
            if error.code == SAME_READER || error.message.contains(SAME_READER_WORDS) =>
        {
            End::Broken(StoreError::ConnectionLost {
                store: url.to_string(),
                detail: error.message,
            })
        }
        DriverError::Server(error) if error.code == FATAL_READING => {
            End::Lost(LostChanges::Purged {
                detail: error.message,
            })
        }
        DriverError::Io(IoError::Io(cause)) if is_unreadable(&cause) => {
            End::Lost(LostChanges::Unreadable {
                detail: cause.to_string(),
            })
        }
        error @ (DriverError::Server(_) | DriverError::Io(_)) => End::Broken(working(url, error)),
        other => End::Lost(LostChanges::Unreadable {
            detail: other.to_string(),
        }),
    }
}

/// The driver's parser has the kinds of errors that connections have; reading again would meet the
/// same bytes again.
fn is_unreadable(cause: &io::Error) -> bool {
    match cause.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::Other => true,
        io::ErrorKind::UnexpectedEof => cause.to_string().starts_with("can't parse"),
        _ => false,
    }
}

/// A stream with somebody who listens.
struct Follower {
    plan: Plan,
    session: Session,
    feed: Feed,
    groups_have_an_index: bool,
    /// The caller was told that nothing up to here is missing.
    told: Position,
    /// Everything up to here was given, and no row of it was locked.
    settled: Position,
    /// Given while their rows were locked.
    locked: Keys,
    kept: Option<Position>,
}

impl Follower {
    async fn follow(&mut self, mut log: Log) {
        let end = self.read(&mut log).await;
        // The next stream of this node must not find this one.
        hang_up(log.stream);
        // Acknowledged as it may be: the rest is told again.
        self.keep().await;
        let last = match end {
            Ok(()) | Err(End::Unheard) => return,
            Err(End::Lost(why)) => Ok(Change::Lost(why)),
            Err(End::Broken(error)) => Err(error),
        };
        self.feed.changes.send(last).await.ok();
        // Acknowledgements may still come, until the caller lets go.
        self.feed.changes.closed().await;
        self.keep().await;
    }

    async fn read(&mut self, log: &mut Log) -> Result<(), End> {
        let limit = self.plan.options.change_silence;
        // Of the server alone: whatever else is done meanwhile does not begin it anew.
        let mut silence = pin!(sleep(limit));
        let mut keeping = self.plan.keeping();
        let mut pause = pin!(sleep(Duration::ZERO));
        let mut is_gathering = false;
        let unheard = self.feed.changes.clone();
        loop {
            tokio::select! {
                biased;
                () = unheard.closed() => return Ok(()),
                _ = keeping.tick() => {
                    self.keep().await;
                    self.tell_position(&log.gather).await?;
                }
                () = pause.as_mut(), if is_gathering => self.give(&mut log.gather).await?,
                taken = log.take(&self.plan.url) => {
                    taken?;
                    silence.set(sleep(limit));
                }
                // What came while nobody took a message is taken first.
                () = silence.as_mut() => return Err(self.plan.silent(limit).into()),
            }
            if log.gather.is_full() {
                self.give(&mut log.gather).await?;
            }
            is_gathering = self.schedule(&log.gather, pause.as_mut(), is_gathering);
        }
    }

    /// Whether something is to be given after `pause`.
    fn schedule(&self, gather: &Gather, mut pause: Pin<&mut Sleep>, is_gathering: bool) -> bool {
        let is_ready = gather.ready() > 0;
        let is_over = pause.is_elapsed();
        let pause_ms = match (is_ready, self.locked.is_empty()) {
            (false, true) => return false,
            (true, _) => CHANGE_GATHER_MS,
            (false, false) => CHANGE_AGAIN_MS,
        };
        if is_over || !is_gathering {
            pause.set(sleep(Duration::from_millis(pause_ms)));
        }
        true
    }

    /// Gives the targets of what is ready, and once more those that were locked.
    async fn give(&mut self, gather: &mut Gather) -> Result<(), End> {
        let reached = gather.reached().clone();
        let mut keys = gather.take_ready();
        let again = std::mem::take(&mut self.locked);
        Counters::add(&self.feed.counters.ids_again, again.len());
        keys.extend(again);
        if keys.len() > 2 * CHANGED_ROWS_MAX {
            return Err(LostChanges::TooMany.into());
        }
        self.require_index(&keys)?;
        let tables = gather.tables();
        self.locked = settle::still_locked(&mut self.session, tables, &keys).await?;
        if self.locked.is_empty() {
            self.settled = reached;
        }
        let targets = settle::targets(&mut self.session, &self.plan.legacy, keys).await??;
        let count = targets.switched.len() + targets.edited.len();
        if count == 0 {
            return Ok(());
        }
        Counters::add(&self.feed.counters.ids, count);
        self.told = self.settled.clone();
        self.say(Change::Rows {
            switched: targets.switched,
            edited: targets.edited,
            position: self.told.clone(),
        })
        .await
    }

    fn require_index(&self, keys: &Keys) -> Result<(), LostChanges> {
        if keys.blogs.is_empty() || self.groups_have_an_index {
            return Ok(());
        }
        let legacy = &self.plan.legacy;
        Err(LostChanges::NoIndex {
            table: legacy.table.to_string(),
            column: legacy.columns.group.to_string(),
        })
    }

    /// Says how far the log was read when little else is said.
    async fn tell_position(&mut self, gather: &Gather) -> Result<(), End> {
        if gather.ready() > 0 || !self.locked.is_empty() {
            return Ok(());
        }
        let reached = gather.reached();
        let is_far = reached.file != self.told.file
            || reached.offset >= self.told.offset + POSITION_STEP_BYTES;
        if is_far {
            self.told = reached.clone();
            self.settled = reached.clone();
            self.say(Change::Position(self.told.clone())).await?;
        }
        Ok(())
    }

    async fn say(&self, change: Change) -> Result<(), End> {
        let said = self.feed.changes.send(Ok(change)).await;
        said.map_err(|_| End::Unheard)
    }

    /// Keeps what was acknowledged. A failure is counted: a restart tells more again.
    async fn keep(&mut self) {
        let done = self.feed.done.borrow_and_update().clone();
        let (Reader::Node(journal), Some(done)) = (self.plan.reader, done) else {
            return;
        };
        if self.kept.as_ref() == Some(&done) {
            return;
        }
        let counters = &self.feed.counters;
        match self.session.keep_change_position(journal, &done).await {
            Ok(()) => {
                Counters::add(&counters.kept, 1);
                self.kept = Some(done);
            }
            Err(_) => Counters::add(&counters.keep_failures, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::JournalId;

    #[test]
    fn readers_have_numbers_that_no_server_shares() {
        let journal = |raw| Reader::Node(JournalId::new(raw).expect("positive"));
        let node = Replica::of(journal(7), 1, 40);
        assert_eq!(node, Replica::of(journal(7), 1, 41), "a node keeps its own");
        assert_eq!(node.server_id, 0x8000_0007);
        assert_eq!(node.uuid, "72696e67-7761-7463-0000-000000000007");
        assert_ne!(node, Replica::of(journal(7 << 40), 1, 40));
        assert_ne!(
            node.server_id,
            Replica::of(journal(7), 0x8000_0007, 0).server_id
        );
        let passing = Replica::of(Reader::Passing, 1, 40);
        assert_ne!(passing, Replica::of(Reader::Passing, 1, 41));
        assert_eq!(passing.server_id, 0x4000_0028);
    }

    #[test]
    fn bytes_that_are_read_again_in_vain_are_no_lost_connection() {
        use io::{Error, ErrorKind};
        for (cause, expected) in [
            (Error::new(ErrorKind::InvalidData, "no"), true),
            (Error::other("bytes remaining on stream"), true),
            (
                Error::new(ErrorKind::UnexpectedEof, "can't parse: buf"),
                true,
            ),
            (
                Error::new(ErrorKind::UnexpectedEof, "connection closed"),
                false,
            ),
            (Error::from(ErrorKind::ConnectionReset), false),
        ] {
            assert_eq!(is_unreadable(&cause), expected, "{cause}");
        }
    }
}
