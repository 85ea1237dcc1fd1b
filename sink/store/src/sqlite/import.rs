//! Targets on their way in. Each row is compared field by field with what is stored, so an import
//! costs writes only for what changed, and only what changed reaches the probe cores.

use std::sync::LazyLock;

use model::{FieldError, TargetId};
use rusqlite::types::ToSqlOutput;
use rusqlite::{
    CachedStatement, OptionalExtension, Row, Transaction, TransactionBehavior, params_from_iter,
};
use tokio::sync::mpsc;

use super::connection::Db;
use super::failure::Failure;
use super::field::{field, value};
use crate::Result;
use crate::answer::{ImportId, ImportPart, ImportReport, ImportRow};
use crate::columns::{CONFIG, CONFIG_LEN, Columns, Field, config_list};
use crate::rules::{
    FORGOTTEN_MAX, MINT_BELOW, Pruned, REFUSED_MAX, forgotten_below, import_key, taken_key, twice,
};

static BY_ID: LazyLock<String> = LazyLock::new(|| find("id = ?1"));
static BY_KEY: LazyLock<String> =
    LazyLock::new(|| find("monitor_url = ?1 AND request_method = ?2 AND name = ?3"));

fn find(which: &str) -> String {
    format!(
        "SELECT id, monitor_active, {} FROM jetpack_monitor_check_targets WHERE {which}",
        config_list()
    )
}

/// Parameters: id, shard, change number, then the configuration.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let values: Vec<String> = (4..4 + CONFIG_LEN).map(|at| format!("?{at}")).collect();
    format!(
        "INSERT INTO jetpack_monitor_check_targets
             (id, shard, change_number, generation, monitor_active, site_status, {})
         VALUES (?1, ?2, ?3, 1, 1, 1, {})",
        config_list(),
        values.join(", ")
    )
});

/// Parameters: id, what to add to the generation, change number, then the configuration.
static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let set: Vec<String> = CONFIG
        .iter()
        .zip(4..)
        .map(|(column, at)| format!("{} = ?{at}", column.name))
        .collect();
    format!(
        "UPDATE jetpack_monitor_check_targets
         SET monitor_active = 1, generation = generation + ?2, change_number = ?3, {}
         WHERE id = ?1",
        set.join(", ")
    )
});

const ADD_MEMBER: &str = "
    INSERT INTO jetpack_monitor_import_members (import_id, target_id) VALUES (?1, ?2)
    ON CONFLICT DO NOTHING";

const IS_MEMBER: &str =
    "SELECT 1 FROM jetpack_monitor_import_members WHERE import_id = ?1 AND target_id = ?2";

const ABSENT: &str = "
    SELECT id FROM jetpack_monitor_check_targets AS target
    WHERE id > ?2 AND monitor_active = 1
      AND NOT EXISTS (SELECT 1 FROM jetpack_monitor_import_members
                      WHERE import_id = ?1 AND target_id = target.id)
    ORDER BY id LIMIT ?3";

const FORGET: &str = "
    DELETE FROM jetpack_monitor_import_members
    WHERE import_id = ?1
      AND target_id IN (SELECT target_id FROM jetpack_monitor_import_members
                        WHERE import_id = ?1 LIMIT ?2)";

const FORGET_OLD: &str = "
    DELETE FROM jetpack_monitor_import_members
    WHERE (import_id, target_id) IN (SELECT import_id, target_id
                                     FROM jetpack_monitor_import_members
                                     WHERE import_id < ?1 LIMIT ?2)";

const SWITCH_OFF: &str = "
    UPDATE jetpack_monitor_check_targets SET monitor_active = 0, change_number = ?2 WHERE id = ?1";

impl Db {
    /// Imports `rows` in one transaction.
    pub(crate) fn import(&mut self, rows: &[ImportRow], import: ImportId) -> Result<ImportReport> {
        self.write(|transaction| {
            forget_before(transaction, import)?;
            let mut importer = Importer::prepare(transaction, import)?;
            let mut report = ImportReport::default();
            importer.take_all(rows, 0, &mut report)?;
            importer.keep_counters()?;
            Ok(report)
        })
    }

    /// Imports everything that `parts` brings in one transaction, or nothing of it; `None` when
    /// the parts did not end.
    pub(crate) fn import_whole(
        &mut self,
        mut parts: mpsc::Receiver<ImportPart>,
        import: ImportId,
    ) -> Result<Option<ImportReport>> {
        self.run(|connection| {
            // Dropped without a commit, it is rolled back.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            forget_before(&transaction, import)?;
            let mut importer = Importer::prepare(&transaction, import)?;
            let (mut report, mut base) = (ImportReport::default(), 0);
            let keep = loop {
                match parts.blocking_recv() {
                    None => return Ok(None),
                    Some(ImportPart::End { keep }) => break keep,
                    Some(ImportPart::Rows(rows)) => {
                        importer.take_all(&rows, base, &mut report)?;
                        base += rows.len();
                    }
                }
                if report.refused.len() >= REFUSED_MAX {
                    break false;
                }
            };
            importer.keep_counters()?;
            if keep && report.refused.is_empty() {
                transaction.commit()?;
            }
            Ok(Some(report))
        })
    }

    /// Refuses an import that named no target.
    pub(crate) fn require_members(&mut self, import: ImportId) -> Result<()> {
        let sql = "SELECT 1 FROM jetpack_monitor_import_members WHERE import_id = ?1 LIMIT 1";
        self.run(|connection| {
            let any = connection
                .query_row(sql, [import_key(import)], |_| Ok(()))
                .optional()?;
            any.ok_or(Failure::NothingImported)
        })
    }

    /// Switches off at most `limit` targets above the id `after`; `None` when there were none.
    pub(crate) fn prune(
        &mut self,
        import: ImportId,
        after: i64,
        limit: usize,
    ) -> Result<Option<Pruned>> {
        self.write(|transaction| {
            let absent: Vec<i64> = transaction
                .prepare_cached(ABSENT)?
                .query_map((import_key(import), after, limit as i64), |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let mut changes = Counter::read(transaction, "change")?;
            let mut switch_off = transaction.prepare_cached(SWITCH_OFF)?;
            for &id in &absent {
                switch_off.execute((id, changes.next()))?;
            }
            changes.keep(transaction)?;
            Ok(absent.last().map(|&last| Pruned {
                count: absent.len() as u64,
                last,
            }))
        })
    }

    /// Forgets at most `limit` members of an import, which may not be pruned again; says how many.
    pub(crate) fn forget_import(&mut self, import: ImportId, limit: usize) -> Result<usize> {
        let numbers = (import_key(import), limit as i64);
        self.write(|transaction| Ok(transaction.prepare_cached(FORGET)?.execute(numbers)?))
    }
}

fn forget_before(transaction: &Transaction<'_>, import: ImportId) -> Result<(), Failure> {
    transaction
        .prepare_cached(FORGET_OLD)?
        .execute([forgotten_below(import), FORGOTTEN_MAX as i64])?;
    Ok(())
}

enum Taken {
    Inserted,
    Updated,
    Unchanged,
    Refused(FieldError),
}

/// How a stored row compares with an imported one.
#[derive(Clone, Copy)]
struct Found {
    id: i64,
    active: bool,
    same: bool,
    same_probe: bool,
}

struct Importer<'a> {
    transaction: &'a Transaction<'a>,
    import: i64,
    by_id: CachedStatement<'a>,
    by_key: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    update: CachedStatement<'a>,
    add_member: CachedStatement<'a>,
    is_member: CachedStatement<'a>,
    ids: Counter,
    changes: Counter,
}

impl<'a> Importer<'a> {
    fn prepare(transaction: &'a Transaction<'a>, import: ImportId) -> Result<Self, Failure> {
        Ok(Self {
            transaction,
            import: import_key(import),
            by_id: transaction.prepare_cached(&BY_ID)?,
            by_key: transaction.prepare_cached(&BY_KEY)?,
            insert: transaction.prepare_cached(&INSERT)?,
            update: transaction.prepare_cached(&UPDATE)?,
            add_member: transaction.prepare_cached(ADD_MEMBER)?,
            is_member: transaction.prepare_cached(IS_MEMBER)?,
            ids: Counter::read(transaction, "target_id")?,
            changes: Counter::read(transaction, "change")?,
        })
    }

    fn keep_counters(self) -> Result<(), Failure> {
        self.ids.keep(self.transaction)?;
        self.changes.keep(self.transaction)
    }

    /// Takes `rows`, the first of which is row number `base` of its call.
    fn take_all(
        &mut self,
        rows: &[ImportRow],
        base: usize,
        report: &mut ImportReport,
    ) -> Result<(), Failure> {
        for (at, row) in rows.iter().enumerate() {
            match self.take(row)? {
                Taken::Inserted => report.inserted += 1,
                Taken::Updated => report.updated += 1,
                Taken::Unchanged => report.unchanged += 1,
                Taken::Refused(why) => report.refused.push((base + at, why)),
            }
        }
        Ok(())
    }

    fn take(&mut self, row: &ImportRow) -> Result<Taken, Failure> {
        let columns = match Columns::of(&row.config) {
            Ok(columns) => columns,
            Err(why) => {
                let named = row.id.map(TargetId::get);
                return self.refuse(named, why);
            }
        };
        let values = columns.values();
        let holder = compared(&mut self.by_key, columns.key(), &values)?;
        let found = match row.id {
            None => holder,
            Some(id) => match holder {
                Some(holder) if holder.id != id.get() => {
                    self.add_member.execute((self.import, holder.id))?;
                    return self.refuse(Some(id.get()), taken_key(id, holder.id));
                }
                Some(holder) => Some(holder),
                None => compared(&mut self.by_id, [id.get()], &values)?,
            },
        };
        match found {
            Some(found) => self.change(found, row, &values),
            None => self.add(row.id, &values),
        }
    }

    /// Refuses a row; the stored target that it meant stays active when the import is pruned.
    fn refuse(&mut self, meant: Option<i64>, why: FieldError) -> Result<Taken, Failure> {
        if let Some(id) = meant {
            self.add_member.execute((self.import, id))?;
        }
        Ok(Taken::Refused(why))
    }

    fn change(
        &mut self,
        found: Found,
        row: &ImportRow,
        values: &[Field<'_>; CONFIG_LEN],
    ) -> Result<Taken, Failure> {
        let member = (self.import, found.id);
        if found.same && found.active {
            self.add_member.execute(member)?;
            return Ok(Taken::Unchanged);
        }
        let seen = self.is_member.query_row(member, |_| Ok(())).optional()?;
        if seen.is_some() && !found.same {
            return Ok(Taken::Refused(twice(row.id, &row.config.name)));
        }
        self.add_member.execute(member)?;
        let generation = i64::from(!found.same_probe);
        let head = [found.id, generation, self.changes.next()];
        self.update.execute(parameters(head, values))?;
        Ok(Taken::Updated)
    }

    fn add(
        &mut self,
        id: Option<TargetId>,
        values: &[Field<'_>; CONFIG_LEN],
    ) -> Result<Taken, Failure> {
        let id = match id {
            Some(id) => id,
            None => self.mint()?,
        };
        let head = [id.get(), id.shard().get().into(), self.changes.next()];
        self.insert.execute(parameters(head, values))?;
        self.add_member.execute((self.import, id.get()))?;
        Ok(Taken::Inserted)
    }

    /// The next id that no row has. Ids that a source brought may be in the way: then it goes on
    /// after the highest of them, and above 2⁵³ one by one.
    fn mint(&mut self) -> Result<TargetId, Failure> {
        let mut id = self.ids.next();
        if self.is_taken(id)? {
            let sql =
                "SELECT coalesce(max(id), 0) FROM jetpack_monitor_check_targets WHERE id < ?1";
            let highest: i64 = self
                .transaction
                .query_row(sql, [MINT_BELOW], |row| row.get(0))?;
            id = id.max(highest + 1);
            while self.is_taken(id)? {
                id += 1;
            }
            self.ids.last = id;
        }
        Ok(TargetId::new(id).expect("the counter starts at 0 and only rises"))
    }

    fn is_taken(&self, id: i64) -> Result<bool, Failure> {
        let sql = "SELECT 1 FROM jetpack_monitor_check_targets WHERE id = ?1";
        let mut statement = self.transaction.prepare_cached(sql)?;
        Ok(statement.query_row([id], |_| Ok(())).optional()?.is_some())
    }
}

fn compared(
    statement: &mut CachedStatement<'_>,
    which: impl rusqlite::Params,
    values: &[Field<'_>; CONFIG_LEN],
) -> Result<Option<Found>, Failure> {
    Ok(statement
        .query_row(which, |row| compare(row, values))
        .optional()?)
}

/// Compares a row of [`find`] with `values`.
fn compare(row: &Row<'_>, values: &[Field<'_>; CONFIG_LEN]) -> rusqlite::Result<Found> {
    let active: i64 = row.get(1)?;
    let mut found = Found {
        id: row.get(0)?,
        active: active != 0,
        same: true,
        same_probe: true,
    };
    for (at, (column, value)) in CONFIG.iter().zip(values).enumerate() {
        if field(row.get_ref(at + 2)?) != *value {
            found.same = false;
            found.same_probe &= !column.probed;
        }
    }
    Ok(found)
}

fn parameters<'a>(
    head: [i64; 3],
    values: &'a [Field<'a>; CONFIG_LEN],
) -> impl rusqlite::Params + 'a {
    let head = head.into_iter().map(Field::Whole);
    params_from_iter(
        head.chain(values.iter().copied())
            .map(|field| ToSqlOutput::Borrowed(value(field))),
    )
}

/// A number that only rises, read once and written once per transaction.
struct Counter {
    name: &'static str,
    last: i64,
}

impl Counter {
    fn read(transaction: &Transaction<'_>, name: &'static str) -> Result<Self, Failure> {
        let sql = "SELECT value FROM jetpack_monitor_counters WHERE name = ?1";
        let last = transaction
            .prepare_cached(sql)?
            .query_row([name], |row| row.get(0))?;
        Ok(Self { name, last })
    }

    fn next(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    fn keep(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let sql = "UPDATE jetpack_monitor_counters SET value = ?2 WHERE name = ?1";
        transaction
            .prepare_cached(sql)?
            .execute((self.name, self.last))?;
        Ok(())
    }
}
