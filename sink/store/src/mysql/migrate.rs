//! Brings the tables of a server to the version of this build when somebody asks for it, and
//! refuses a server that is not there. Knows the files, not what the tables mean.
//!
//! A server commits each change of a table by itself, so there is one statement per file, each can
//! be run twice, and a migration that was cut off goes on where it stopped.

use std::sync::Arc;

use mysql_async::Value;

use super::address::MysqlUrl;
use super::session::{Lane, Session, read};
use super::structure;
use crate::options::OpenOptions;
use crate::schema::{self, Migration, MigrationPlan, MigrationStep, Mismatch};
use crate::{Result, StoreError};

/// Every migration, in order, versions from 1 without gaps. A released file never changes.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "counters",
        sql: include_str!("../../migrations/mysql/0001_counters.sql"),
    },
    Migration {
        version: 2,
        name: "first_numbers",
        sql: include_str!("../../migrations/mysql/0002_first_numbers.sql"),
    },
    Migration {
        version: 3,
        name: "check_targets",
        sql: include_str!("../../migrations/mysql/0003_check_targets.sql"),
    },
    Migration {
        version: 4,
        name: "import_members",
        sql: include_str!("../../migrations/mysql/0004_import_members.sql"),
    },
    Migration {
        version: 5,
        name: "site_runtime",
        sql: include_str!("../../migrations/mysql/0005_site_runtime.sql"),
    },
    Migration {
        version: 6,
        name: "events",
        sql: include_str!("../../migrations/mysql/0006_events.sql"),
    },
    Migration {
        version: 7,
        name: "event_transitions",
        sql: include_str!("../../migrations/mysql/0007_event_transitions.sql"),
    },
    Migration {
        version: 8,
        name: "jobs",
        sql: include_str!("../../migrations/mysql/0008_jobs.sql"),
    },
    Migration {
        version: 9,
        name: "nodes",
        sql: include_str!("../../migrations/mysql/0009_nodes.sql"),
    },
    Migration {
        version: 10,
        name: "first_node",
        sql: include_str!("../../migrations/mysql/0010_first_node.sql"),
    },
    Migration {
        version: 11,
        name: "shards",
        sql: include_str!("../../migrations/mysql/0011_shards.sql"),
    },
    Migration {
        version: 12,
        name: "site_check_config",
        sql: include_str!("../../migrations/mysql/0012_site_check_config.sql"),
    },
    Migration {
        version: 13,
        name: "endpoint_runtime",
        sql: include_str!("../../migrations/mysql/0013_endpoint_runtime.sql"),
    },
    Migration {
        version: 14,
        name: "node_names",
        sql: include_str!("../../migrations/mysql/0014_node_names.sql"),
    },
    Migration {
        version: 15,
        name: "journals",
        sql: include_str!("../../migrations/mysql/0015_journals.sql"),
    },
    Migration {
        version: 16,
        name: "shards_taken",
        sql: include_str!("../../migrations/mysql/0016_shards_taken.sql"),
    },
    Migration {
        version: 17,
        name: "check_history",
        sql: include_str!("../../migrations/mysql/0017_check_history.sql"),
    },
    Migration {
        version: 18,
        name: "change_positions",
        sql: include_str!("../../migrations/mysql/0018_change_positions.sql"),
    },
    Migration {
        version: 19,
        name: "hosts",
        sql: include_str!("../../migrations/mysql/0019_hosts.sql"),
    },
    Migration {
        version: 20,
        name: "audit_log",
        sql: include_str!("../../migrations/mysql/0020_audit_log.sql"),
    },
    Migration {
        version: 21,
        name: "false_positives",
        sql: include_str!("../../migrations/mysql/0021_false_positives.sql"),
    },
    Migration {
        version: 22,
        name: "maintenance_windows",
        sql: include_str!("../../migrations/mysql/0022_maintenance_windows.sql"),
    },
    Migration {
        version: 23,
        name: "paused_targets",
        sql: include_str!("../../migrations/mysql/0023_paused_targets.sql"),
    },
    Migration {
        version: 24,
        name: "events_utc",
        sql: include_str!("../../migrations/mysql/0024_events_utc.sql"),
    },
    Migration {
        version: 25,
        name: "event_transitions_utc",
        sql: include_str!("../../migrations/mysql/0025_event_transitions_utc.sql"),
    },
    Migration {
        version: 26,
        name: "check_history_utc",
        sql: include_str!("../../migrations/mysql/0026_check_history_utc.sql"),
    },
    Migration {
        version: 27,
        name: "audit_log_utc",
        sql: include_str!("../../migrations/mysql/0027_audit_log_utc.sql"),
    },
    Migration {
        version: 28,
        name: "false_positives_utc",
        sql: include_str!("../../migrations/mysql/0028_false_positives_utc.sql"),
    },
];

/// How long a migration waits for another one, in s.
pub(super) const LOCK_S: i64 = 10;

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS jetpack_monitor_schema_version (
    version BIGINT NOT NULL,
    name VARCHAR(64) NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (version)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin";

/// The version of this build.
pub(super) fn known() -> u32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

/// Refuses a server whose tables are missing, older, newer or different; changes nothing.
pub(super) async fn require_current(session: &mut Session) -> Result<()> {
    let done = done(session).await?;
    let plan = schema::plan(MIGRATIONS, done);
    if !plan.steps.is_empty() {
        return Err(StoreError::NotMigrated {
            store: session.url().to_string(),
            found: plan.found,
            known: plan.known,
        });
    }
    structure::require(session, MIGRATIONS).await
}

/// What the store at `url` lacks; changes nothing.
pub(crate) async fn migration_plan(url: &MysqlUrl) -> Result<MigrationPlan> {
    let mut session = alone(url);
    let plan = plan(&mut session).await;
    session.end().await;
    plan
}

async fn plan(session: &mut Session) -> Result<MigrationPlan> {
    let done = done(session).await?;
    // Tables of ours that are right, and tables of others that have our names.
    structure::require_where_there(session, MIGRATIONS).await?;
    Ok(schema::plan(MIGRATIONS, done))
}

/// Applies what the store at `url` lacks, alone, and says what it was.
pub(crate) async fn migrate(url: &MysqlUrl) -> Result<Vec<MigrationStep>> {
    let mut session = alone(url);
    let steps = apply(&mut session).await;
    session.end().await;
    steps
}

async fn apply(session: &mut Session) -> Result<Vec<MigrationStep>> {
    session.connect().await?;
    session.take_lock("migrate", LOCK_S).await?;
    let steps = plan(session).await?.steps;
    if steps.is_empty() {
        return Ok(steps);
    }
    session.say(VERSIONS).await?;
    let record = "INSERT INTO jetpack_monitor_schema_version (version, name, checksum) \
        VALUES (?, ?, ?)";
    for migration in MIGRATIONS
        .iter()
        .filter(|migration| steps.iter().any(|step| step.version == migration.version))
    {
        session.say(migration.sql).await?;
        let row = vec![
            Value::from(migration.version),
            Value::from(migration.name),
            Value::from(migration.checksum()),
        ];
        session.execute(record, row).await?;
    }
    structure::require(session, MIGRATIONS).await?;
    Ok(steps)
}

/// A session of its own, for statements that take long.
pub(super) fn alone(url: &MysqlUrl) -> Session {
    Session::new(Arc::new(url.clone()), Lane::Control, OpenOptions::default()).patient()
}

/// How many migrations the store has, all of them known and unchanged.
async fn done(session: &mut Session) -> Result<usize> {
    session.connect().await?;
    let sql = "SELECT COUNT(*) FROM information_schema.tables \
        WHERE table_schema = DATABASE() AND table_name = ?";
    let table = session.url().table("schema_version");
    if session.number(sql, vec![Value::from(table)]).await? != Some(1) {
        return Ok(0);
    }
    let sql = "SELECT version, checksum FROM jetpack_monitor_schema_version ORDER BY version";
    let mut recorded = Vec::new();
    for row in session.fetch(sql, Vec::new()).await? {
        recorded.push(read(session.url(), row)?);
    }
    let store = session.url().to_string();
    schema::recorded(MIGRATIONS, &recorded).map_err(|mismatch| match mismatch {
        Mismatch::Newer { found, known } => StoreError::NewerSchema {
            store,
            found,
            known,
        },
        Mismatch::Changed { version, file } => StoreError::MigrationChanged {
            store,
            version,
            file,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_rise_from_one_without_gaps_with_one_statement_each() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
            assert!(!migration.sql.contains(';'), "{}", migration.file());
            let again = ["IF NOT EXISTS", "INSERT IGNORE", "OR REPLACE"];
            assert!(
                again.iter().any(|words| migration.sql.contains(words)),
                "{} can be run twice",
                migration.file()
            );
        }
    }

    #[test]
    fn nothing_is_written_that_only_one_server_understands() {
        for migration in MIGRATIONS {
            let sql = migration.sql.to_ascii_uppercase();
            for word in ["RETURNING", "NOPAD", "0900", "UUID(", "INVISIBLE", " JSON"] {
                assert!(!sql.contains(word), "{}: {word}", migration.file());
            }
        }
    }
}
