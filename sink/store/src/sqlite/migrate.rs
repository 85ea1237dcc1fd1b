//! Brings the tables to the version of this build, and refuses what it must not touch. Knows the
//! migration files and the table that records them, nothing of what the tables mean.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::failure::Failure;
use crate::schema::{self, Migration, MigrationPlan, Mismatch};

/// Every migration, in order, versions from 1 without gaps. A released file never changes.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "initial",
        sql: include_str!("../../migrations/sqlite/0001_initial.sql"),
    },
    Migration {
        version: 2,
        name: "check_types",
        sql: include_str!("../../migrations/sqlite/0002_check_types.sql"),
    },
    Migration {
        version: 3,
        name: "fencing",
        sql: include_str!("../../migrations/sqlite/0003_fencing.sql"),
    },
    Migration {
        version: 4,
        name: "history",
        sql: include_str!("../../migrations/sqlite/0004_history.sql"),
    },
    Migration {
        version: 5,
        name: "audit_log",
        sql: include_str!("../../migrations/sqlite/0005_audit_log.sql"),
    },
    Migration {
        version: 6,
        name: "false_positives",
        sql: include_str!("../../migrations/sqlite/0006_false_positives.sql"),
    },
    Migration {
        version: 7,
        name: "operators",
        sql: include_str!("../../migrations/sqlite/0007_operators.sql"),
    },
];

const VERSION_TABLE: &str = "jetpack_monitor_schema_version";

/// Applies what is missing. Reads only when nothing is, so that a store in use is not waited for.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    migrate_to(connection, MIGRATIONS)
}

/// What is missing.
pub(super) fn plan(connection: &Connection) -> Result<MigrationPlan, Failure> {
    Ok(schema::plan(
        MIGRATIONS,
        check_recorded(connection, MIGRATIONS)?,
    ))
}

/// What a file that is not there is missing.
pub(super) fn plan_of_nothing() -> MigrationPlan {
    schema::plan(MIGRATIONS, 0)
}

/// Refuses a store that would have to be migrated; changes nothing.
pub(super) fn require_current(connection: &Connection) -> Result<(), Failure> {
    let MigrationPlan { found, known, .. } = plan(connection)?;
    if found < known {
        return Err(Failure::Older { found, known });
    }
    Ok(())
}

fn migrate_to(connection: &mut Connection, migrations: &[Migration]) -> Result<(), Failure> {
    if check_recorded(connection, migrations)? == migrations.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS jetpack_monitor_schema_version (
             version INTEGER PRIMARY KEY,
             name TEXT NOT NULL,
             checksum INTEGER NOT NULL
         ) STRICT",
    )?;
    // Another process may have migrated between the look and the lock.
    let done = check_recorded(&transaction, migrations)?;
    for migration in &migrations[done..] {
        transaction.execute_batch(migration.sql)?;
        transaction.execute(
            "INSERT INTO jetpack_monitor_schema_version VALUES (?1, ?2, ?3)",
            (migration.version, migration.name, migration.checksum()),
        )?;
    }
    transaction.commit()?;
    Ok(())
}

/// How many migrations the store has, all of them known and unchanged.
fn check_recorded(connection: &Connection, migrations: &[Migration]) -> Result<usize, Failure> {
    if !has_table(connection, VERSION_TABLE)? {
        return foreign_table(connection)?.map_or(Ok(0), |table| Err(Failure::Foreign { table }));
    }
    let mut statement = connection
        .prepare("SELECT version, checksum FROM jetpack_monitor_schema_version ORDER BY version")?;
    let recorded: Vec<(u32, i64)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    schema::recorded(migrations, &recorded).map_err(|mismatch| match mismatch {
        Mismatch::Newer { found, known } => Failure::Newer { found, known },
        Mismatch::Changed { version, file } => Failure::Changed { version, file },
    })
}

fn has_table(connection: &Connection, table: &str) -> Result<bool, Failure> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    Ok(connection
        .query_row(sql, [table], |_| Ok(()))
        .optional()?
        .is_some())
}

fn foreign_table(connection: &Connection) -> Result<Option<String>, Failure> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid LIMIT 1";
    Ok(connection.query_row(sql, [], |row| row.get(0)).optional()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u32, sql: &'static str) -> Migration {
        Migration {
            version,
            name: "test",
            sql,
        }
    }

    #[test]
    fn versions_rise_from_one_without_gaps() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
        }
    }

    #[test]
    fn migrations_run_in_order_and_once() {
        let mut connection = Connection::open_in_memory().expect("memory");
        let first = || file(1, "CREATE TABLE a (x); INSERT INTO a VALUES (1)");
        migrate_to(&mut connection, &[first()]).expect("first");
        let both = [first(), file(2, "INSERT INTO a SELECT x + 1 FROM a")];
        for _ in 0..2 {
            migrate_to(&mut connection, &both).expect("second");
        }
        let sum: i64 = connection
            .query_row("SELECT sum(x) FROM a", [], |r| r.get(0))
            .expect("sum");
        assert_eq!(sum, 3);
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing() {
        let mut connection = Connection::open_in_memory().expect("memory");
        let bad = [file(
            1,
            "CREATE TABLE a (x); INSERT INTO nowhere VALUES (1)",
        )];
        assert!(migrate_to(&mut connection, &bad).is_err());
        assert_eq!(foreign_table(&connection).map_err(|_| "query"), Ok(None));
    }

    #[test]
    fn an_edited_migration_and_a_newer_store_are_refused() {
        let mut connection = Connection::open_in_memory().expect("memory");
        let two = [file(1, "CREATE TABLE a (x)"), file(2, "CREATE TABLE b (x)")];
        migrate_to(&mut connection, &two).expect("both");
        let edited = [file(1, "CREATE TABLE a (y)"), file(2, "CREATE TABLE b (x)")];
        assert!(matches!(
            migrate_to(&mut connection, &edited),
            Err(Failure::Changed { version: 1, .. })
        ));
        assert!(matches!(
            migrate_to(&mut connection, &two[..1]),
            Err(Failure::Newer { found: 2, known: 1 })
        ));
    }

    #[test]
    fn a_database_of_another_program_is_refused_and_left_alone() {
        let mut connection = Connection::open_in_memory().expect("memory");
        connection
            .execute_batch("CREATE TABLE moz_places (x)")
            .expect("table");
        let refused = migrate(&mut connection);
        assert!(matches!(refused, Err(Failure::Foreign { table }) if table == "moz_places"));
        assert!(!has_table(&connection, VERSION_TABLE).unwrap_or(true));
    }
}
