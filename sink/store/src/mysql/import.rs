//! Targets on their way in. The stored rows that a list may meet are read first, each row of the
//! list is compared with them in memory, in its order, and what changed is written with a few
//! statements for all of them. The counters' rows are locked meanwhile, so nobody else imports.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;
use std::time::Duration;

use model::{FieldError, TargetId};
use mysql_async::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::insert::Many;
use super::session::{SILENCE_IN_TRANSACTION_MAX_S, Session, read};
use super::targets::{field, value, whole};
use crate::Result;
use crate::answer::{ImportId, ImportPart, ImportReport, ImportRow};
use crate::columns::{CONFIG, CONFIG_LEN, Columns, Field, config_list};
use crate::rules::{
    FORGOTTEN_MAX, MINT_BELOW, Pruned, REFUSED_MAX, forgotten_below, import_key, taken_key, twice,
};

const HEAD_LEN: usize = 3;
/// Rows of a list that are compared at a time.
const COMPARED_MAX: usize = 2_000;

/// Rows of targets by one of their columns.
fn find(column: &str) -> String {
    format!(
        "SELECT id, monitor_active, generation, {} FROM jetpack_monitor_check_targets
         WHERE {column} IN",
        config_list()
    )
}

static BY_ID: LazyLock<String> = LazyLock::new(|| find("id"));
static BY_URL: LazyLock<String> = LazyLock::new(|| find("monitor_url"));

/// New targets, and changed ones that keep their key.
static PUT: LazyLock<[String; 3]> = LazyLock::new(|| {
    let head = format!(
        "INSERT INTO jetpack_monitor_check_targets
             (id, shard, generation, change_number, monitor_active, site_status, {}) VALUES",
        config_list()
    );
    let row = format!("(?,?,?,?,1,1{})", ",?".repeat(CONFIG_LEN));
    let names = CONFIG.each_ref().map(|column| column.name);
    let all = ["generation", "change_number"].into_iter().chain(names);
    let set: Vec<String> = all.map(|name| format!("{name} = VALUES({name})")).collect();
    let tail = format!(
        "ON DUPLICATE KEY UPDATE monitor_active = 1, {}",
        set.join(", ")
    );
    [head, row, tail]
});

/// One target that takes another key. Parameters: generation, change number, the configuration, id.
static MOVE: LazyLock<String> = LazyLock::new(|| {
    let set = CONFIG
        .each_ref()
        .map(|column| format!("{} = ?", column.name));
    format!(
        "UPDATE jetpack_monitor_check_targets
         SET monitor_active = 1, generation = ?, change_number = ?, {} WHERE id = ?",
        set.join(", ")
    )
});

const MEMBERS: &str = "SELECT target_id FROM jetpack_monitor_import_members \
    WHERE import_id = ? AND target_id IN";

const ADD_MEMBERS: (&str, &str, &str) = (
    "INSERT INTO jetpack_monitor_import_members (import_id, target_id) VALUES",
    "(?,?)",
    "ON DUPLICATE KEY UPDATE import_id = import_id",
);

const ABSENT: &str = "SELECT id FROM jetpack_monitor_check_targets AS target \
    WHERE id > ? AND monitor_active = 1 \
      AND NOT EXISTS (SELECT 1 FROM jetpack_monitor_import_members \
                      WHERE import_id = ? AND target_id = target.id) \
    ORDER BY id LIMIT ?";

const SWITCH_OFF: (&str, &str, &str) = (
    "UPDATE jetpack_monitor_check_targets AS t JOIN (",
    "SELECT CAST(? AS SIGNED) AS id, CAST(? AS SIGNED) AS changed",
    ") AS v ON v.id = t.id SET t.monitor_active = 0, t.change_number = v.changed",
);

impl Session {
    /// Imports `rows` in one transaction.
    pub(crate) async fn import(
        &mut self,
        rows: &[ImportRow],
        import: ImportId,
    ) -> Result<ImportReport> {
        self.require_own_targets()?;
        self.write(async |session: &mut Self| {
            let mut importer = session.begin_import(import).await?;
            let mut report = ImportReport::default();
            session
                .import_rows(&mut importer, rows, 0, &mut report)
                .await?;
            session.keep_counters(&importer.counters).await?;
            Ok(report)
        })
        .await
    }

    /// Imports everything that `parts` brings in one transaction, or nothing of it; `None` when
    /// the parts did not end.
    pub(crate) async fn import_whole(
        &mut self,
        mut parts: mpsc::Receiver<ImportPart>,
        import: ImportId,
    ) -> Result<Option<ImportReport>> {
        self.require_writable()?;
        self.require_own_targets()?;
        self.begin(&["START TRANSACTION"]).await?;
        match self.import_parts(&mut parts, import).await {
            Ok(Some((report, true))) => self.commit().await.map(|()| Some(report)),
            Ok(looked) => {
                self.roll_back().await;
                Ok(looked.map(|(report, _)| report))
            }
            Err(error) => {
                self.roll_back().await;
                Err(error)
            }
        }
    }

    /// What became of the parts, and whether it may be kept.
    async fn import_parts(
        &mut self,
        parts: &mut mpsc::Receiver<ImportPart>,
        import: ImportId,
    ) -> Result<Option<(ImportReport, bool)>> {
        let mut importer = self.begin_import(import).await?;
        let (mut report, mut base) = (ImportReport::default(), 0);
        loop {
            match self.next_part(parts).await? {
                None => return Ok(None),
                Some(ImportPart::End { keep }) => {
                    self.keep_counters(&importer.counters).await?;
                    let keep = keep && report.refused.is_empty();
                    return Ok(Some((report, keep)));
                }
                Some(ImportPart::Rows(rows)) => {
                    for part in rows.chunks(COMPARED_MAX) {
                        self.import_rows(&mut importer, part, base, &mut report)
                            .await?;
                        base += part.len();
                    }
                }
            }
            if report.refused.len() >= REFUSED_MAX {
                return Ok(Some((report, false)));
            }
        }
    }

    /// The next part. Who reads a list may wait for it, and a server ends a transaction in which
    /// nothing is said.
    async fn next_part(
        &mut self,
        parts: &mut mpsc::Receiver<ImportPart>,
    ) -> Result<Option<ImportPart>> {
        let pause = Duration::from_secs(SILENCE_IN_TRANSACTION_MAX_S.into()) / 3;
        loop {
            match timeout(pause, parts.recv()).await {
                Ok(part) => return Ok(part),
                Err(_) => self.say("DO 0").await?,
            }
        }
    }

    /// Refuses an import that named no target.
    pub(crate) async fn require_members(&mut self, import: ImportId) -> Result<()> {
        let sql = "SELECT 1 FROM jetpack_monitor_import_members WHERE import_id = ? LIMIT 1";
        let key = vec![Value::Int(import_key(import))];
        let any = self
            .read(async |session: &mut Self| session.number(sql, key).await)
            .await?;
        any.map(drop).ok_or(crate::StoreError::NothingImported)
    }

    /// Switches off at most `limit` targets above the id `after`; `None` when there were none.
    pub(crate) async fn prune(
        &mut self,
        import: ImportId,
        after: i64,
        limit: usize,
    ) -> Result<Option<Pruned>> {
        self.write(async |session: &mut Self| {
            let mut counters = session.counters().await?;
            let which = [after, import_key(import), whole(limit)].map(Value::Int);
            let rows = session.fetch(ABSENT, which.into()).await?;
            let mut absent: Vec<Vec<Value>> = Vec::with_capacity(rows.len());
            for row in &rows {
                let id = session.integer(row, 0)?;
                absent.push([id, counters.next_change()].map(Value::Int).into());
            }
            let last = rows.last().map(|row| session.integer(row, 0)).transpose()?;
            let (head, row, tail) = SWITCH_OFF;
            session
                .execute_many(Many::join(head, row, tail), absent)
                .await?;
            session.keep_counters(&counters).await?;
            let count = rows.len() as u64;
            Ok(last.map(|last| Pruned { count, last }))
        })
        .await
    }

    /// Forgets at most `limit` members of an import, which may not be pruned again; says how many.
    pub(crate) async fn forget_import(&mut self, import: ImportId, limit: usize) -> Result<usize> {
        let sql = "DELETE FROM jetpack_monitor_import_members WHERE import_id = ? LIMIT ?";
        let which = [import_key(import), whole(limit)].map(Value::Int);
        let forgotten = self
            .write(async |session: &mut Self| session.execute(sql, which.to_vec()).await)
            .await?;
        Ok(usize::try_from(forgotten).unwrap_or(usize::MAX))
    }

    /// Locks the counters, and forgets some of the imports that nobody ended.
    async fn begin_import(&mut self, import: ImportId) -> Result<Importer> {
        let counters = self.counters().await?;
        let sql = "DELETE FROM jetpack_monitor_import_members WHERE import_id < ? LIMIT ?";
        let old = [forgotten_below(import), whole(FORGOTTEN_MAX)].map(Value::Int);
        self.execute(sql, old.into()).await?;
        Ok(Importer {
            import: import_key(import),
            counters,
            ..Importer::default()
        })
    }

    async fn counters(&mut self) -> Result<Counters> {
        let sql = "SELECT name, value FROM jetpack_monitor_counters ORDER BY name FOR UPDATE";
        let mut found: HashMap<String, i64> = HashMap::new();
        for row in self.fetch(sql, Vec::new()).await? {
            let (name, number) = read(self.url(), row)?;
            found.insert(name, number);
        }
        let of = |name: &str| found.get(name).copied();
        Ok(Counters {
            target_id: of("target_id").ok_or_else(|| self.missing("counters", "target_id"))?,
            change: of("change").ok_or_else(|| self.missing("counters", "change"))?,
        })
    }

    async fn keep_counters(&mut self, counters: &Counters) -> Result<()> {
        let sql = "UPDATE jetpack_monitor_counters SET value = ? WHERE name = ?";
        for (name, number) in [
            ("change", counters.change),
            ("target_id", counters.target_id),
        ] {
            self.execute(sql, vec![Value::Int(number), Value::from(name)])
                .await?;
        }
        Ok(())
    }

    /// Takes `rows`, the first of which is row number `base` of its call.
    async fn import_rows(
        &mut self,
        importer: &mut Importer,
        rows: &[ImportRow],
        base: usize,
        report: &mut ImportReport,
    ) -> Result<()> {
        let columns: Vec<_> = rows.iter().map(|row| Columns::of(&row.config)).collect();
        self.look_up(importer, rows, &columns).await?;
        for (at, (row, columns)) in rows.iter().zip(&columns).enumerate() {
            let taken = match columns {
                Ok(columns) => {
                    let minted = match row.id {
                        None if importer.is_new(columns) => Some(self.mint(importer).await?),
                        _ => None,
                    };
                    importer.take(row, columns, minted)
                }
                Err(why) => importer.refuse(row.id.map(TargetId::get), why.clone()),
            };
            match taken {
                Taken::Inserted => report.inserted += 1,
                Taken::Updated => report.updated += 1,
                Taken::Unchanged => report.unchanged += 1,
                Taken::Refused(why) => report.refused.push((base + at, why)),
            }
        }
        self.write_changes(importer).await
    }

    /// Reads every stored row that `rows` may meet.
    async fn look_up(
        &mut self,
        importer: &mut Importer,
        rows: &[ImportRow],
        columns: &[Result<Columns<'_>, FieldError>],
    ) -> Result<()> {
        importer.begin_part();
        let urls = columns.iter().flatten().map(|columns| columns.key().0);
        let urls: HashSet<&str> = urls.collect();
        let ids: Vec<Value> = rows
            .iter()
            .filter_map(|row| row.id.map(|id| Value::Int(id.get())))
            .collect();
        let urls = urls.into_iter().map(Value::from).collect();
        for (sql, keys) in [(&*BY_URL, urls), (&*BY_ID, ids.clone())] {
            for row in self.fetch_many((sql, ""), &[], keys).await? {
                let (id, active) = (self.integer(&row, 0)?, self.integer(&row, 1)? != 0);
                let generation = self.integer(&row, 2)?;
                let stored = Stored {
                    active,
                    generation,
                    config: row.unwrap().split_off(HEAD_LEN),
                };
                importer.knows(id, stored);
            }
        }
        let known = importer.stored.keys().map(|id| Value::Int(*id));
        let known = known.chain(ids).collect();
        let import = [Value::Int(importer.import)];
        for row in self.fetch_many((MEMBERS, ""), &import, known).await? {
            importer.members.insert(self.integer(&row, 0)?);
        }
        let without = rows.iter().filter(|row| row.id.is_none()).count();
        let first = importer.counters.target_id + 1;
        let sql = "SELECT id FROM jetpack_monitor_check_targets WHERE id BETWEEN ? AND ?";
        let range = vec![Value::Int(first), Value::Int(first + whole(without))];
        for row in self.fetch(sql, range).await? {
            importer.taken_ids.insert(self.integer(&row, 0)?);
        }
        importer.free_until = first + whole(without);
        Ok(())
    }

    /// The next id that no row has. Ids that a source brought may be in the way: then it goes on
    /// after the highest of them, and above 2⁵³ one by one.
    async fn mint(&mut self, importer: &mut Importer) -> Result<TargetId> {
        importer.counters.target_id += 1;
        let mut id = importer.counters.target_id;
        if self.is_taken(importer, id).await? {
            let sql = "SELECT COALESCE(MAX(id), 0) FROM jetpack_monitor_check_targets WHERE id < ?";
            let highest = self.number(sql, vec![Value::Int(MINT_BELOW)]).await?;
            let given = importer.stored.keys().filter(|id| **id < MINT_BELOW).max();
            let highest = highest.max(given.copied()).unwrap_or(0);
            id = id.max(highest + 1);
            while self.is_taken(importer, id).await? {
                id += 1;
            }
            importer.counters.target_id = id;
        }
        Ok(TargetId::new(id).expect("the counter starts at 0 and only rises"))
    }

    async fn is_taken(&mut self, importer: &Importer, id: i64) -> Result<bool> {
        if importer.stored.contains_key(&id) || importer.taken_ids.contains(&id) {
            return Ok(true);
        }
        if id <= importer.free_until {
            return Ok(false);
        }
        let sql = "SELECT 1 FROM jetpack_monitor_check_targets WHERE id = ?";
        Ok(self.number(sql, vec![Value::Int(id)]).await?.is_some())
    }

    /// Targets that move to another key first, in their order: what one leaves the next may take.
    async fn write_changes(&mut self, importer: &mut Importer) -> Result<()> {
        for row in std::mem::take(&mut importer.moved) {
            self.execute(&MOVE, row).await?;
        }
        let [head, row, tail] = &*PUT;
        let put = std::mem::take(&mut importer.put);
        self.execute_many(Many::insert(head, row, tail), put)
            .await?;
        let (head, row, tail) = ADD_MEMBERS;
        let import = importer.import;
        let mut members = std::mem::take(&mut importer.new_members);
        members.sort_unstable();
        members.dedup();
        let members = members.into_iter();
        let members = members.map(|id| vec![Value::Int(import), Value::Int(id)]);
        self.execute_many(Many::insert(head, row, tail), members)
            .await?;
        Ok(())
    }
}

enum Taken {
    Inserted,
    Updated,
    Unchanged,
    Refused(FieldError),
}

/// Numbers that only rise, read once and written once per transaction.
#[derive(Default)]
struct Counters {
    target_id: i64,
    change: i64,
}

impl Counters {
    fn next_change(&mut self) -> i64 {
        self.change += 1;
        self.change
    }
}

/// A row as it is now, whether it was read or is about to be written.
struct Stored {
    active: bool,
    generation: i64,
    /// In the order of [`CONFIG`].
    config: Vec<Value>,
}

impl Stored {
    fn key(&self) -> Key {
        // Places of URL, method and name among the columns.
        [2, 4, 0].map(|at| match self.config.get(at) {
            Some(Value::Bytes(bytes)) => bytes.clone(),
            _ => Vec::new(),
        })
    }
}

type Key = [Vec<u8>; 3];

fn key(columns: &Columns<'_>) -> Key {
    let (url, method, name) = columns.key();
    [url, method, name].map(|text| text.as_bytes().to_vec())
}

/// The rows of one part of a list against the stored ones.
#[derive(Default)]
struct Importer {
    import: i64,
    counters: Counters,
    stored: HashMap<i64, Stored>,
    by_key: HashMap<Key, i64>,
    /// Targets that the import named.
    members: HashSet<i64>,
    /// Ids that rows have, of those up to `free_until`.
    taken_ids: HashSet<i64>,
    free_until: i64,
    moved: Vec<Vec<Value>>,
    put: Vec<Vec<Value>>,
    new_members: Vec<i64>,
}

impl Importer {
    /// Forgets what earlier parts met: it is in the tables.
    fn begin_part(&mut self) {
        self.stored.clear();
        self.by_key.clear();
        self.members.clear();
        self.taken_ids.clear();
    }

    fn knows(&mut self, id: i64, stored: Stored) {
        self.by_key.insert(stored.key(), id);
        self.stored.insert(id, stored);
    }

    /// Whether a row without an id is a target that is not there yet.
    fn is_new(&self, columns: &Columns<'_>) -> bool {
        !self.by_key.contains_key(&key(columns))
    }

    /// Takes one row; `minted` is an id for it when it has none and needs one.
    fn take(&mut self, row: &ImportRow, columns: &Columns<'_>, minted: Option<TargetId>) -> Taken {
        let values = columns.values();
        let holder = self.by_key.get(&key(columns)).copied();
        let found = match (row.id, holder) {
            (Some(id), Some(holder)) if holder != id.get() => {
                self.add_member(holder);
                return self.refuse(Some(id.get()), taken_key(id, holder));
            }
            (_, Some(holder)) => Some(holder),
            (Some(id), None) => Some(id.get()).filter(|id| self.stored.contains_key(id)),
            (None, None) => None,
        };
        match (found, row.id.or(minted)) {
            (Some(found), _) => self.change(found, row, &values),
            (None, Some(id)) => self.add(id, &values),
            (None, None) => unreachable!("a new row without an id has a minted one"),
        }
    }

    /// Refuses a row; the stored target that it meant stays active when the import is pruned.
    fn refuse(&mut self, meant: Option<i64>, why: FieldError) -> Taken {
        if let Some(id) = meant {
            self.add_member(id);
        }
        Taken::Refused(why)
    }

    fn add_member(&mut self, id: i64) {
        if self.members.insert(id) {
            self.new_members.push(id);
        }
    }

    fn change(&mut self, id: i64, row: &ImportRow, values: &[Field<'_>; CONFIG_LEN]) -> Taken {
        let Some(stored) = self.stored.get_mut(&id) else {
            unreachable!("only ids of stored rows are found");
        };
        let (mut same, mut same_probe) = (true, true);
        for ((column, new), old) in CONFIG.iter().zip(values).zip(&stored.config) {
            if field(Some(old)) != *new {
                same = false;
                same_probe &= !column.probed;
            }
        }
        if same && stored.active {
            self.add_member(id);
            return Taken::Unchanged;
        }
        if self.members.contains(&id) && !same {
            return Taken::Refused(twice(row.id, &row.config.name));
        }
        let old_key = stored.key();
        stored.active = true;
        stored.generation += i64::from(!same_probe);
        stored.config = values.map(value).into();
        let (generation, new_key) = (stored.generation, stored.key());
        self.add_member(id);
        let change = self.counters.next_change();
        if old_key == new_key {
            self.put(id, generation, change, values);
        } else {
            self.by_key.remove(&old_key);
            self.by_key.insert(new_key, id);
            let head = [generation, change].map(Value::Int).into_iter();
            let config = values.iter().copied().map(value);
            self.moved
                .push(head.chain(config).chain([Value::Int(id)]).collect());
        }
        Taken::Updated
    }

    fn add(&mut self, id: TargetId, values: &[Field<'_>; CONFIG_LEN]) -> Taken {
        let stored = Stored {
            active: true,
            generation: 1,
            config: values.map(value).into(),
        };
        let change = self.counters.next_change();
        self.put(id.get(), 1, change, values);
        self.knows(id.get(), stored);
        self.add_member(id.get());
        Taken::Inserted
    }

    fn put(&mut self, id: i64, generation: i64, change: i64, values: &[Field<'_>; CONFIG_LEN]) {
        let shard = TargetId::new(id).map_or(0, |id| id.shard().get());
        let head = [id, shard.into(), generation, change].map(Value::Int);
        let config = values.iter().copied().map(value);
        self.put.push(head.into_iter().chain(config).collect());
    }
}
