//! A MySQL store on a real MariaDB: conformance, what it refuses, and what is lost on the way.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};
use store::{Store, StoreUrl};

use crate::conformance::conformance;
use crate::fixture::Backend;
use rig::mariadb::{self, Server};

mod commits;
mod dialect;
mod halves;
mod legacy;
mod lossy;
mod older_readers;
mod refusals;
mod schema;
mod sessions;
mod statements;
mod tls;

/// A migrated database of its own on the shared server.
pub(crate) struct Mysql {
    pub(crate) name: String,
}

impl Mysql {
    /// A database without tables.
    pub(crate) fn empty() -> Self {
        let name = mariadb::fresh_name();
        administrate(Task::Sql(format!("CREATE DATABASE {name}")));
        Self { name }
    }

    pub(crate) fn url_of(&self, user: &str) -> StoreUrl {
        url(&mariadb::shared().address(user, &self.name))
    }
}

impl Backend for Mysql {
    const RANDOM_CASES: u32 = 16;
    const NOW_MS: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

    fn fresh() -> Self {
        let backend = Self::empty();
        administrate(Task::Migrate(backend.url()));
        backend
    }

    fn url(&self) -> StoreUrl {
        self.url_of("ringwatch")
    }

    fn number(&self, sql: &str) -> Option<i64> {
        administrate(Task::In(self.name.clone(), sql.to_owned()))
    }
}

impl Drop for Mysql {
    fn drop(&mut self) {
        administrate(Task::Sql(format!("DROP DATABASE {}", self.name)));
    }
}

conformance!(Mysql);

pub(crate) fn url(address: &str) -> StoreUrl {
    address.parse().expect(address)
}

/// What root does on the shared server.
enum Task {
    Sql(String),
    /// A statement in a database.
    In(String, String),
    Migrate(StoreUrl),
}

type Order = (Task, Sender<Option<i64>>);

/// Has `task` done; the first column of the first row. It blocks: the connection lives on a thread
/// of its own, with a runtime of its own.
fn administrate(task: Task) -> Option<i64> {
    static ORDERS: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let mut root = runtime.block_on(root(mariadb::shared()));
            for (task, reply) in inbox {
                let done = runtime.block_on(carry_out(&mut root, task));
                reply.send(done).expect("the asker waits");
            }
        });
        Mutex::new(orders)
    });
    let (reply, answer) = channel();
    let sent = orders.lock().expect("nobody panicked").send((task, reply));
    sent.expect("the thread runs");
    answer.recv().expect("it was carried out")
}

async fn carry_out(root: &mut Conn, task: Task) -> Option<i64> {
    let sql = match task {
        Task::Migrate(url) => {
            Store::migrate(&url).await.expect("migrated");
            return None;
        }
        Task::Sql(sql) => sql,
        Task::In(database, sql) => {
            let used = root.query_drop(format!("USE {database}")).await;
            used.expect("the database is there");
            sql
        }
    };
    let row: Option<Row> = root.query_first(&sql).await.expect(&sql);
    row.and_then(|row| row.get(0))
}

/// A connection of root to `server`.
pub(crate) async fn root(server: &Server) -> Conn {
    let options = OptsBuilder::default()
        .socket(Some(server.socket().display().to_string()))
        .user(Some("root"));
    Conn::new(options).await.expect("root may connect")
}

/// Until a transaction on the shared server waits for another one.
pub(crate) async fn until_somebody_waits_for_a_lock() {
    let waits = "SELECT COUNT(*), SLEEP(0.15) FROM information_schema.innodb_trx \
        WHERE trx_state = 'LOCK WAIT'";
    let mut watcher = root(mariadb::shared()).await;
    while watcher
        .query_first::<(i64, i64), _>(waits)
        .await
        .expect("seen")
        == Some((0, 0))
    {
        tokio::task::yield_now().await;
    }
}
