//! One connection to the server, made when it is needed and given up when it is in doubt. Owns the
//! settings of a session, transactions and time limits; knows no table.
//!
//! A future of the driver that is dropped half-way leaves its connection in the middle of an
//! answer, so such a connection is never used again.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use model::limits::{APPLY_TIMEOUT_MS, STORE_CONNECT_MS, STORE_STATEMENT_MS};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as DriverError, OptsBuilder, Params, Row, SslOpts, Value};
use tokio::time::timeout;

use super::address::{MysqlUrl, Tls};
use super::failure::{connecting, working};
use crate::legacy::Legacy;
use crate::options::OpenOptions;
use crate::{Result, StoreError};

/// Prepared statements that a connection keeps: more than the shapes of ours.
const STATEMENTS_MAX: usize = 192;
/// Work that the server rolled back for other work is done again so often, after pauses of 25 ms,
/// 50 ms and so on.
const RETRIES_MAX: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// The server closes a connection that was silent for so long, in s: so long at most it keeps the
/// locks of a machine that vanished, or of a node that stands still.
const SILENCE_MAX_S: u32 = 90;
/// The same in the middle of a transaction, where the server can tell (`MariaDB`): less than the
/// default lease, so that a successor finds no locks; with a shorter lease it waits for them.
pub(super) const SILENCE_IN_TRANSACTION_MAX_S: u32 = 10;
/// A connection says something at least this often, so that it is not taken for silent.
pub(super) const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// What a connection is for; each kind has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Facts and where a restart resumes.
    Facts,
    /// Freshness, beside the facts.
    Freshness,
    /// Everything that people and the control plane ask.
    Control,
}

impl Lane {
    /// Every lane, with the number of its connections.
    pub(super) const ALL: [(Self, usize); 3] =
        [(Self::Facts, 1), (Self::Freshness, 1), (Self::Control, 4)];

    /// Connections of all lanes together, at most.
    pub(super) fn connections() -> usize {
        Self::ALL.iter().map(|(_, connections)| connections).sum()
    }

    /// How long a lock is waited for, in s. A chunk of freshness must not keep others waiting, and
    /// the server is to tell of a lock before a statement of facts is given up.
    fn lock_wait_s(self, options: &OpenOptions) -> u64 {
        match self {
            Self::Facts | Self::Freshness => 1,
            Self::Control => options.busy_timeout.as_secs().max(1),
        }
    }

    fn statement_limit(self) -> Duration {
        Duration::from_millis(match self {
            Self::Facts => APPLY_TIMEOUT_MS,
            Self::Freshness | Self::Control => STORE_STATEMENT_MS,
        })
    }
}

/// Settings of every session, in the order in which they are made.
const SETTINGS: [&str; 4] = [
    "SET SESSION time_zone = '+00:00'",
    // A statement alone is a transaction alone.
    "SET SESSION autocommit = 1",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
];

/// What the server says of our session.
const VARIABLES: &str = "SHOW SESSION VARIABLES WHERE Variable_name IN ('time_zone', 'sql_mode', \
    'autocommit', 'tx_isolation', 'transaction_isolation', 'max_allowed_packet', 'version')";

/// A place for one connection.
pub(crate) struct Session {
    url: Arc<MysqlUrl>,
    lane: Lane,
    options: OpenOptions,
    connection: Option<Conn>,
    /// A statement is under way: who finds it so knows that its future was dropped.
    busy: bool,
    in_transaction: bool,
    packet_max: usize,
    /// The server may take `LOCK IN SHARE MODE` and lock nothing, as some versions of `TiDB` do.
    pub(super) shares_no_locks: bool,
    /// How long a statement may take.
    limit: Duration,
    /// Largest packet that is taken from the server, in bytes; `None`: what the server takes.
    taken_max: Option<usize>,
}

impl Session {
    pub(super) fn new(url: Arc<MysqlUrl>, lane: Lane, options: OpenOptions) -> Self {
        Self {
            url,
            lane,
            options,
            connection: None,
            busy: false,
            in_transaction: false,
            packet_max: 0,
            shares_no_locks: false,
            limit: lane.statement_limit(),
            taken_max: None,
        }
    }

    /// Takes packets of up to `bytes`.
    pub(super) fn with_packets_up_to(mut self, bytes: usize) -> Self {
        self.taken_max = Some(bytes);
        self
    }

    /// The connection, for another protocol than statements.
    pub(super) fn into_connection(mut self) -> Option<Conn> {
        self.connection.take()
    }

    /// For statements that may take as long as they like.
    pub(super) fn patient(mut self) -> Self {
        self.limit = Duration::from_hours(24);
        self
    }

    /// The legacy tables, where somebody named them.
    pub(super) fn legacy(&self) -> Option<&Arc<Legacy>> {
        self.options.legacy.as_ref()
    }

    /// The legacy tables, where they are what targets are read from.
    pub(super) fn source(&self) -> Option<Arc<Legacy>> {
        let legacy = self.legacy().filter(|legacy| legacy.load);
        legacy.map(Arc::clone)
    }

    pub(super) fn is_look_only(&self) -> bool {
        self.options.look_only
    }

    pub(super) fn url(&self) -> &MysqlUrl {
        &self.url
    }

    /// Bytes that one statement may have, its own text and framing aside.
    pub(super) fn packet_max(&self) -> usize {
        self.packet_max
    }

    /// How a row is locked that others may lock, too, but not change.
    pub(super) fn shared_lock(&self) -> &'static str {
        if self.shares_no_locks {
            "FOR UPDATE"
        } else {
            "LOCK IN SHARE MODE"
        }
    }

    /// Does `work` in one transaction; a failure rolls everything back. Work that the server
    /// rolled back for other work is done again from its beginning.
    pub(super) async fn write<T>(
        &mut self,
        mut work: impl AsyncFnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.again(async |session: &mut Self| session.write_once(&mut work).await)
            .await
    }

    /// Runs one statement, which is a transaction of its own, and says how many rows it touched. It
    /// must be one that may be done twice, and late: when its answer is lost, it may have been
    /// done, or be done when nobody waits for it any more.
    pub(super) async fn write_alone(&mut self, sql: &str, parameters: &[Value]) -> Result<u64> {
        self.again(async |session: &mut Self| {
            let write = async |session: &mut Self| session.execute(sql, parameters.to_vec()).await;
            session.alone(write).await
        })
        .await
    }

    async fn again<T>(&mut self, mut write: impl AsyncFnMut(&mut Self) -> Result<T>) -> Result<T> {
        self.require_writable()?;
        let mut retries = 0;
        loop {
            match write(self).await {
                Err(StoreError::Contended { .. }) if retries < RETRIES_MAX => {
                    retries += 1;
                    tokio::time::sleep(RETRY_PAUSE * retries).await;
                }
                done => return done,
            }
        }
    }

    /// Refuses work on a store that was opened to look only.
    pub(super) fn require_writable(&self) -> Result<()> {
        if self.options.look_only {
            return Err(StoreError::ServerReadOnly {
                store: self.url.to_string(),
                detail: "it was opened to look only".to_owned(),
            });
        }
        Ok(())
    }

    async fn write_once<T>(
        &mut self,
        work: &mut impl AsyncFnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.begin(&["START TRANSACTION"]).await?;
        let done = work(self).await;
        self.finish(done).await
    }

    /// Ends a transaction: with a commit when `done` is good, else by rolling back.
    pub(super) async fn finish<T>(&mut self, done: Result<T>) -> Result<T> {
        match done {
            Ok(done) => self.commit().await.map(|()| done),
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        }
    }

    /// Does `work` on one snapshot of the tables.
    pub(super) async fn read<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        // For the next transaction alone.
        let isolation = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ";
        self.begin(&[isolation, "START TRANSACTION"]).await?;
        let done = work(self).await;
        self.roll_back().await;
        done
    }

    /// The rows of one statement alone, which is a picture of its own and needs no transaction:
    /// what is asked all the time costs the server one statement.
    pub(super) async fn ask(&mut self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>> {
        self.alone(async |session: &mut Self| session.fetch(sql, parameters.clone()).await)
            .await
    }

    /// Does `work`, one statement, outside of a transaction.
    async fn alone<T>(&mut self, mut work: impl AsyncFnMut(&mut Self) -> Result<T>) -> Result<T> {
        self.settle();
        let is_used = self.connection.is_some();
        self.connect().await?;
        match work(self).await {
            // As in `begin`: one more try finds out.
            Err(StoreError::ConnectionLost { .. }) if is_used => {
                self.connect().await?;
                work(self).await
            }
            done => done,
        }
    }

    /// Begins a transaction, on a new connection when the old one is in doubt or gone.
    pub(super) async fn begin(&mut self, statements: &[&str]) -> Result<()> {
        self.settle();
        let is_used = self.connection.is_some();
        let begun = self.begin_once(statements).await;
        match begun {
            // Servers and what is between close silent connections: one more try finds out.
            Err(StoreError::ConnectionLost { .. }) if is_used => self.begin_once(statements).await,
            begun => begun,
        }
    }

    async fn begin_once(&mut self, statements: &[&str]) -> Result<()> {
        self.connect().await?;
        for statement in statements {
            self.say(statement).await?;
        }
        self.in_transaction = true;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<()> {
        let said = self.say("COMMIT").await;
        match said {
            Err(StoreError::ConnectionLost { store, detail }) => {
                Err(StoreError::OutcomeUnknown { store, detail })
            }
            Err(StoreError::TimedOut { store, .. }) => Err(StoreError::OutcomeUnknown {
                store,
                detail: "no answer in time".to_owned(),
            }),
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
            Ok(()) => {
                self.in_transaction = false;
                Ok(())
            }
        }
    }

    pub(super) async fn roll_back(&mut self) {
        // Without a connection the server does it by itself.
        if self.connection.is_some() {
            let said = self.say("ROLLBACK").await;
            self.in_transaction = said.is_err();
        }
    }

    /// Gives up a connection whose last request was dropped half-way.
    pub(super) fn settle(&mut self) {
        if self.busy || self.in_transaction {
            self.give_up();
        }
    }

    /// Closes the connection at once.
    fn give_up(&mut self) {
        self.busy = false;
        self.in_transaction = false;
        if let Some(connection) = self.connection.take() {
            hang_up(connection);
        }
    }

    /// Says something on a connection that has nothing to do.
    pub(super) async fn keep_alive(&mut self) {
        self.settle();
        if self.connection.is_some() {
            // A failure gave the connection up, and the next request makes another.
            self.say("DO 0").await.ok();
        }
    }

    /// Leaves the server in an orderly way.
    pub(super) async fn end(mut self) {
        self.settle();
        if let Some(connection) = self.connection.take() {
            let limit = Duration::from_millis(STORE_CONNECT_MS);
            // Whatever it says: nothing is under way.
            drop(timeout(limit, connection.disconnect()).await);
        }
    }

    /// Makes the connection when there is none.
    pub(super) async fn connect(&mut self) -> Result<()> {
        if self.connection.is_some() {
            return Ok(());
        }
        let limit = Duration::from_millis(STORE_CONNECT_MS);
        let made = timeout(limit, Conn::new(self.driver_options())).await;
        let made = made.map_err(|_| StoreError::Unreachable {
            store: self.url.to_string(),
            detail: format!("no answer within {STORE_CONNECT_MS} ms"),
        })?;
        let connection = made.map_err(|error| connecting(&self.url, error))?;
        self.connection = Some(connection);
        let ready = self.make_ready().await;
        if ready.is_err() {
            self.give_up();
        }
        ready
    }

    async fn make_ready(&mut self) -> Result<()> {
        for setting in SETTINGS {
            self.say(setting).await?;
        }
        let lock_s = self.lane.lock_wait_s(&self.options);
        self.say(&format!("SET SESSION innodb_lock_wait_timeout = {lock_s}"))
            .await?;
        self.say(&format!(
            "SET SESSION wait_timeout = {SILENCE_MAX_S} \
             /*M!100300 , SESSION idle_transaction_timeout = {SILENCE_IN_TRANSACTION_MAX_S} */"
        ))
        .await?;
        self.check_settings().await?;
        Ok(())
    }

    /// A proxy or an `init_connect` may have had other ideas.
    async fn check_settings(&mut self) -> Result<()> {
        let rows = self.fetch(VARIABLES, Vec::new()).await?;
        let mut seen = Seen::default();
        for row in rows {
            let (name, value): (String, String) = read(&self.url, row)?;
            match name.to_ascii_lowercase().as_str() {
                "time_zone" => seen.time_zone = value,
                "sql_mode" => seen.sql_mode = value,
                "autocommit" => seen.autocommit = value,
                "max_allowed_packet" => self.packet_max = value.parse().unwrap_or_default(),
                "version" => self.shares_no_locks = value.contains("TiDB"),
                _ => seen.isolation = value,
            }
        }
        let (setting, found, wanted) = if seen.time_zone != "+00:00" {
            ("time_zone", seen.time_zone, "+00:00")
        } else if !seen.sql_mode.contains("STRICT_ALL_TABLES") {
            ("sql_mode", seen.sql_mode, "STRICT_ALL_TABLES")
        } else if !seen.autocommit.eq_ignore_ascii_case("ON") {
            ("autocommit", seen.autocommit, "ON")
        } else if seen.isolation != "READ-COMMITTED" {
            ("transaction_isolation", seen.isolation, "READ-COMMITTED")
        } else {
            return Ok(());
        };
        Err(StoreError::Setting {
            store: self.url.to_string(),
            setting,
            found,
            wanted,
        })
    }

    /// Takes a lock that lasts as long as this connection; waits `seconds` for it.
    pub(super) async fn take_lock(&mut self, purpose: &str, seconds: i64) -> Result<()> {
        let name = self.url.lock_name(purpose);
        let parameters = vec![Value::from(&name), Value::from(seconds)];
        let taken = self.number("SELECT GET_LOCK(?, ?)", parameters).await?;
        if taken == Some(1) {
            return Ok(());
        }
        // Whose it is, where the server can say: older ones of TiDB cannot.
        let holder = self
            .number("SELECT IS_USED_LOCK(?)", vec![Value::from(&name)])
            .await
            .unwrap_or(None);
        Err(StoreError::InUse {
            store: self.url.to_string(),
            connection: holder.map_or_else(|| "unknown".to_owned(), |id| id.to_string()),
        })
    }

    fn driver_options(&self) -> OptsBuilder {
        let url = &self.url;
        let host = url.host.trim_start_matches('[').trim_end_matches(']');
        let socket = url.socket.as_ref().map(|path| path.display().to_string());
        OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(url.port)
            .user(Some(&url.user))
            .pass(url.password.as_ref())
            .db_name(Some(&url.database))
            .prefer_socket(false)
            .socket(socket)
            .tcp_nodelay(true)
            .stmt_cache_size(STATEMENTS_MAX)
            .ssl_opts(self.tls_options())
            .max_allowed_packet(self.taken_max)
    }

    fn tls_options(&self) -> Option<SslOpts> {
        let verified = match self.url.tls {
            Tls::Off => return None,
            Tls::Required => false,
            Tls::Verify => true,
        };
        let authority = self.url.tls_ca.clone();
        Some(
            SslOpts::default()
                .with_danger_accept_invalid_certs(!verified)
                .with_disable_built_in_roots(authority.is_some())
                .with_root_certs(authority.into_iter().map(Into::into).collect()),
        )
    }

    /// Runs a statement without parameters or rows, as text.
    pub(super) async fn say(&mut self, sql: &str) -> Result<()> {
        let sql = self.url.named(sql);
        self.timed(async |connection| connection.query_drop(sql.as_str()).await)
            .await
    }

    /// Runs a prepared statement and says how many rows it touched.
    pub(super) async fn execute(&mut self, sql: &str, parameters: Vec<Value>) -> Result<u64> {
        let sql = self.url.named(sql);
        self.timed(async |connection| {
            connection
                .exec_drop(sql.as_str(), positional(parameters))
                .await?;
            Ok(connection.affected_rows())
        })
        .await
    }

    /// The rows of a prepared statement.
    pub(super) async fn fetch(&mut self, sql: &str, parameters: Vec<Value>) -> Result<Vec<Row>> {
        let sql = self.url.named(sql);
        self.timed(async |connection| connection.exec(sql.as_str(), positional(parameters)).await)
            .await
    }

    /// The rows of a statement without parameters, as text: for those that not every server
    /// prepares.
    pub(super) async fn fetch_text(&mut self, sql: &str) -> Result<Vec<Row>> {
        let sql = self.url.named(sql);
        self.timed(async |connection| connection.query(sql.as_str()).await)
            .await
    }

    /// The first column of the first row.
    pub(super) async fn number(
        &mut self,
        sql: &str,
        parameters: Vec<Value>,
    ) -> Result<Option<i64>> {
        let rows = self.fetch(sql, parameters).await?;
        match rows.into_iter().next() {
            None => Ok(None),
            Some(row) => read::<(Option<i64>,)>(&self.url, row).map(|(number,)| number),
        }
    }

    async fn timed<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, DriverError>,
    ) -> Result<T> {
        let limit = self.limit;
        let Some(connection) = self.connection.as_mut() else {
            return Err(StoreError::ConnectionLost {
                store: self.url.to_string(),
                detail: "it was given up".to_owned(),
            });
        };
        self.busy = true;
        let done = timeout(limit, work(connection)).await;
        match done {
            Ok(Ok(done)) => {
                self.busy = false;
                Ok(done)
            }
            Ok(Err(error)) => {
                let answered = matches!(error, DriverError::Server(_));
                let error = working(&self.url, error);
                // Some words of a server are its last ones on that connection.
                if answered && !matches!(error, StoreError::ConnectionLost { .. }) {
                    self.busy = false;
                } else {
                    self.give_up();
                }
                Err(error)
            }
            Err(_) => {
                self.give_up();
                Err(StoreError::TimedOut {
                    store: self.url.to_string(),
                    doing: "a statement",
                    limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                })
            }
        }
    }
}

/// Closes a connection, or what has one, at once. Within a runtime the driver would first wait for
/// the answer that did not come, so it is dropped on a thread that has none.
pub(super) fn hang_up(connection: impl Send + 'static) {
    let thread = thread::Builder::new().name("store-hang-up".to_owned());
    // Without a thread it was dropped with the closure.
    drop(thread.spawn(move || drop(connection)));
}

#[derive(Default)]
struct Seen {
    time_zone: String,
    sql_mode: String,
    autocommit: String,
    isolation: String,
}

fn positional(parameters: Vec<Value>) -> Params {
    if parameters.is_empty() {
        Params::Empty
    } else {
        Params::Positional(parameters)
    }
}

/// A row as the types of its columns; another shape is a server that is none.
pub(super) fn read<T: mysql_async::prelude::FromRow>(url: &MysqlUrl, row: Row) -> Result<T> {
    mysql_async::from_row_opt(row).map_err(|error| StoreError::Server {
        store: url.to_string(),
        code: 0,
        detail: format!("a row of an unexpected shape: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both waits end at the same moment otherwise, and which one is told is chance.
    #[test]
    fn a_lock_is_told_well_before_its_statement_is_given_up() {
        for (lane, _) in Lane::ALL {
            let lock = Duration::from_secs(lane.lock_wait_s(&OpenOptions::default()));
            assert!(lock * 2 <= lane.statement_limit(), "{lane:?}: {lock:?}");
        }
    }
}
