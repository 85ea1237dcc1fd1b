//! The two indices on the times of freshness, for whoever asks a server for what was checked before
//! or is due after a time. They are nobody's version: no migration makes them, no node needs them,
//! and every write of freshness pays for them, so that they come when somebody asks for them.

use mysql_async::Value;

use super::address::MysqlUrl;
use super::migrate::{LOCK_S, alone};
use super::session::{Session, read};
use crate::Result;
use crate::schema::IndexStep;

/// Each with the column that it is of.
const INDEXES: [(&str, &str); 2] = [
    (
        "last_checked_at",
        "CREATE INDEX jetpack_monitor_site_runtime_last_checked \
         ON jetpack_monitor_site_runtime (last_checked_at)",
    ),
    (
        "next_check_at",
        "CREATE INDEX jetpack_monitor_site_runtime_next_check \
         ON jetpack_monitor_site_runtime (next_check_at)",
    ),
];

/// Columns that an index begins with, whoever made it and whatever it is called.
const FIRST_COLUMNS: &str = "SELECT column_name FROM information_schema.statistics \
    WHERE table_schema = DATABASE() AND table_name = ? AND seq_in_index = 1 \
    AND column_name IS NOT NULL";

/// Those that the server lacks, with what would be run; changes nothing.
pub(crate) async fn lacking(url: &MysqlUrl) -> Result<Vec<IndexStep>> {
    let mut session = alone(url);
    let steps = steps(&mut session).await;
    session.end().await;
    steps
}

/// Adds those that the server lacks, alone, and says which they were. The table is there.
pub(crate) async fn add(url: &MysqlUrl) -> Result<Vec<IndexStep>> {
    let mut session = alone(url);
    let steps = apply(&mut session).await;
    session.end().await;
    steps
}

async fn apply(session: &mut Session) -> Result<Vec<IndexStep>> {
    session.connect().await?;
    session.take_lock("migrate", LOCK_S).await?;
    let steps = steps(session).await?;
    for step in &steps {
        session.say(&step.sql).await?;
    }
    Ok(steps)
}

async fn steps(session: &mut Session) -> Result<Vec<IndexStep>> {
    session.connect().await?;
    let table = session.url().table("site_runtime");
    let mut there = Vec::new();
    for row in session
        .fetch(FIRST_COLUMNS, vec![Value::from(table)])
        .await?
    {
        let (column,): (String,) = read(session.url(), row)?;
        there.push(column.to_ascii_lowercase());
    }
    let lacks = |(column, _): &&(&str, &str)| !there.iter().any(|known| known == column);
    let step = |&(column, sql): &(&'static str, &str)| IndexStep {
        column,
        sql: session.url().named(sql),
    };
    Ok(INDEXES.iter().filter(lacks).map(step).collect())
}
