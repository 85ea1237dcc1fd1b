//! The embedded store: conformance, what it refuses to open, and kill -9.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use store::{OpenOptions, Store, StoreError, StoreUrl};
use tempfile::TempDir;

use crate::conformance::conformance;
use crate::fixture::{Backend, Incident, Writer, batch, import_id, open, row, sites, target};

pub(crate) struct Sqlite {
    directory: TempDir,
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }

    fn connection(&self) -> Connection {
        Connection::open(self.path()).expect("a second connection")
    }
}

impl Backend for Sqlite {
    const RANDOM_CASES: u32 = 48;
    const NOW_MS: &str = "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";

    fn fresh() -> Self {
        Self {
            directory: TempDir::new().expect("a temporary directory"),
        }
    }

    fn url(&self) -> StoreUrl {
        StoreUrl::Sqlite(self.path())
    }

    fn number(&self, sql: &str) -> Option<i64> {
        self.connection()
            .query_row(sql, [], |row| row.get(0))
            .optional()
            .expect("a number")
    }
}

conformance!(Sqlite);

/// The sentence with which the file at `path` is refused.
async fn refusal(path: &Path) -> (StoreError, String) {
    let options = OpenOptions {
        busy_timeout: Duration::ZERO,
        ..OpenOptions::default()
    };
    let url = StoreUrl::Sqlite(path.to_path_buf());
    let error = Store::open_with(&url, options).await.expect_err("refused");
    let sentence = error.to_string();
    assert!(
        sentence.contains(&path.display().to_string()),
        "names the file: {sentence}"
    );
    (error, sentence)
}

#[tokio::test]
async fn a_missing_directory_is_made() {
    let backend = Sqlite::fresh();
    let path = backend.directory.path().join("a/b/c.db");
    Store::open(&StoreUrl::Sqlite(path.clone()))
        .await
        .expect("opens")
        .close()
        .await
        .expect("ok");
    assert!(path.is_file());
    assert!(
        !path.with_extension("db-wal").exists(),
        "closing leaves one complete file"
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let backend = Sqlite::fresh();
    fs::write(backend.path(), "a file where a directory should be").expect("written");
    let path = backend.path().join("store.db");
    let url = StoreUrl::Sqlite(path.clone());
    let error = Store::open(&url).await.expect_err("refused");
    assert!(
        matches!(&error, StoreError::CannotCreateDirectory { path, .. }
        if *path == backend.path()),
        "{error}"
    );
    assert_eq!(error.to_string().matches("os error").count(), 1, "{error}");
    assert!(
        std::error::Error::source(&error).is_none(),
        "it would be said twice"
    );
    // A file system that takes no files, whoever asks.
    let (error, _) = refusal(Path::new("/proc/self/ringwatch.db")).await;
    assert!(matches!(error, StoreError::CannotOpen { .. }), "{error}");
}

#[tokio::test]
async fn looking_at_a_store_that_is_not_there_makes_none() {
    let backend = Sqlite::fresh();
    let error = Store::open_existing(&backend.url())
        .await
        .expect_err("refused");
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    assert!(!backend.path().exists());
    open(&backend).await.close().await.expect("made");
    Store::open_existing(&backend.url())
        .await
        .expect("now it is there");
}

#[tokio::test]
async fn looking_at_a_store_neither_migrates_nor_writes_it() {
    let backend = Sqlite::fresh();
    // Older than this build: a store whose migrations are not recorded.
    backend
        .connection()
        .execute_batch(
            "CREATE TABLE jetpack_monitor_schema_version (
                 version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum INTEGER NOT NULL
             ) STRICT",
        )
        .expect("a table");
    let bytes = fs::read(backend.path()).expect("the file");
    let error = Store::open_existing(&backend.url())
        .await
        .expect_err("refused");
    let is_older = matches!(error, StoreError::OlderSchema { found: 0, .. });
    assert!(
        is_older && error.to_string().contains("start a node on it"),
        "{error}"
    );
    assert_eq!(fs::read(backend.path()).expect("the file"), bytes);
    open(&backend).await.close().await.expect("migrated");
    let bytes = fs::read(backend.path()).expect("the file");
    let looking = Store::open_existing(&backend.url()).await.expect("opens");
    assert_eq!(looking.counts().await.expect("counted").targets, 0);
    let refused = looking.import(sites(1), import_id(0)).await;
    assert!(
        matches!(refused, Err(StoreError::ReadOnly { .. })),
        "{refused:?}"
    );
    looking.close().await.expect("closed");
    assert_eq!(fs::read(backend.path()).expect("the file"), bytes);
    assert!(!backend.path().with_extension("db-wal").exists());
}

#[tokio::test]
async fn targets_of_an_older_store_are_what_they_were() {
    let backend = Sqlite::fresh();
    let store = open(&backend).await;
    let rows = || vec![row(7, "http://a.test/x"), row(8, "https://b.test/")];
    store.import(rows(), import_id(0)).await.expect("import");
    let before = store.targets(None, 9, false).await.expect("a page").targets;
    store.close().await.expect("closed");
    // As a build before the check types left it.
    let older = "
        ALTER TABLE jetpack_monitor_check_targets DROP COLUMN send_text;
        ALTER TABLE jetpack_monitor_check_targets DROP COLUMN expected_values;
        DROP TABLE jetpack_monitor_node_names;
        DROP TABLE jetpack_monitor_journals;
        DROP TABLE jetpack_monitor_shards_taken;
        DROP TABLE jetpack_monitor_check_history;
        DROP TABLE jetpack_monitor_audit_log;
        DROP TABLE jetpack_monitor_false_positives;
        DROP TABLE jetpack_monitor_maintenance_windows;
        DROP TABLE jetpack_monitor_paused_targets;
        DROP INDEX jetpack_monitor_events_ended;
        DELETE FROM jetpack_monitor_schema_version WHERE version > 1;";
    backend.connection().execute_batch(older).expect("older");
    let looking = Store::open_existing(&backend.url()).await;
    assert!(
        matches!(looking, Err(StoreError::OlderSchema { found: 1, .. })),
        "looking migrates nothing"
    );
    let store = open(&backend).await;
    let page = store.targets(None, 9, false).await.expect("a page");
    assert_eq!((page.targets, page.refused.len()), (before, 0));
    let again = store.import(rows(), import_id(1)).await.expect("import");
    assert_eq!((again.unchanged, again.updated), (2, 0));
}

#[tokio::test]
async fn a_directory_in_place_of_the_file_is_refused() {
    let backend = Sqlite::fresh();
    let (error, _) = refusal(backend.directory.path()).await;
    assert!(matches!(error, StoreError::NotAFile { .. }), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let backend = Sqlite::fresh();
    let long = "url,interval_s\n".repeat(1_000);
    for content in ["x", "url\nhttp://a.test/\n", &long] {
        fs::write(backend.path(), content).expect("written");
        let (error, _) = refusal(&backend.path()).await;
        assert!(matches!(error, StoreError::NotADatabase { .. }), "{error}");
        assert_eq!(fs::read_to_string(backend.path()).expect("read"), content);
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let backend = Sqlite::fresh();
    backend
        .connection()
        .execute_batch("CREATE TABLE moz_places (x)")
        .expect("a table");
    let (error, sentence) = refusal(&backend.path()).await;
    assert!(
        matches!(error, StoreError::ForeignDatabase { .. }),
        "{error}"
    );
    assert!(sentence.contains("moz_places"), "{sentence}");
}

#[tokio::test]
async fn a_truncated_or_overwritten_file_is_refused() {
    let backend = Sqlite::fresh();
    let store = open(&backend).await;
    store
        .import(sites(3_000), import_id(0))
        .await
        .expect("import");
    store.close().await.expect("close");
    let whole = fs::read(backend.path()).expect("read");
    fs::write(backend.path(), &whole[..whole.len() / 2]).expect("half of it");
    let (error, sentence) = refusal(&backend.path()).await;
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(sentence.contains("backup"), "{sentence}");
    let mut holed = whole;
    holed[100..4_096].fill(0xAA);
    fs::write(backend.path(), holed).expect("a damaged schema");
    let (error, _) = refusal(&backend.path()).await;
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn damage_that_is_met_later_is_told_as_damage() {
    let backend = Sqlite::fresh();
    let store = open(&backend).await;
    store
        .import(sites(3_000), import_id(0))
        .await
        .expect("import");
    store.close().await.expect("close");
    let mut bytes = fs::read(backend.path()).expect("read");
    // The schema and the small tables are at the start, pages of targets in the middle.
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    bytes[middle..].fill(0xAA);
    fs::write(backend.path(), bytes).expect("damaged tables");
    let store = open(&backend).await;
    let error = store
        .targets(None, 5_000, false)
        .await
        .expect_err("damaged");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_newer_schema_and_an_edited_migration_are_refused() {
    let backend = Sqlite::fresh();
    open(&backend).await.close().await.expect("close");
    let set = |sql: &str| backend.connection().execute_batch(sql).expect("edited");
    set("INSERT INTO jetpack_monitor_schema_version VALUES (99, 'later', 1)");
    let (error, sentence) = refusal(&backend.path()).await;
    assert!(
        matches!(error, StoreError::NewerSchema { found: 99, .. }),
        "{error}"
    );
    assert!(sentence.contains("newer"), "{sentence}");
    set(
        "DELETE FROM jetpack_monitor_schema_version WHERE version = 99;
         UPDATE jetpack_monitor_schema_version SET checksum = checksum + 1",
    );
    let (error, _) = refusal(&backend.path()).await;
    assert!(
        matches!(error, StoreError::MigrationChanged { version: 1, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_store_that_another_process_locked_is_refused() {
    let backend = Sqlite::fresh();
    let holder = backend.connection();
    holder
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        .expect("the lock");
    let (error, sentence) = refusal(&backend.path()).await;
    assert!(
        matches!(error, StoreError::Locked { waited_ms: 0, .. }),
        "{error}"
    );
    assert!(sentence.contains("another process"), "{sentence}");
    drop(holder);
    open(&backend).await;
}

#[tokio::test]
async fn a_write_lock_of_another_process_delays_and_loses_nothing() {
    let backend = Sqlite::fresh();
    open(&backend).await.close().await.expect("close");
    let options = OpenOptions {
        busy_timeout: Duration::ZERO,
        ..OpenOptions::default()
    };
    let holder = backend.connection();
    let store = Store::open_with(&backend.url(), options).await;
    let store = Writer::of(store.expect("opens")).await;
    holder
        .execute_batch("BEGIN IMMEDIATE")
        .expect("the write lock");
    // Opening a store that needs no migration only reads.
    Store::open(&backend.url()).await.expect("opens");
    let first = batch(1, &[Incident::of(target(1), 1).open()]);
    let error = store.apply(&first).await.expect_err("locked");
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    holder.execute_batch("ROLLBACK").expect("released");
    assert_eq!(store.apply(&first).await.expect("applied").transitions, 1);
}

#[tokio::test]
async fn a_row_that_is_no_target_is_refused_by_its_id_and_the_rest_is_served() {
    let backend = Sqlite::fresh();
    let store = open(&backend).await;
    store.import(sites(4), import_id(0)).await.expect("import");
    let edit = |sql: &str| backend.connection().execute_batch(sql).expect("edited");
    edit(
        "UPDATE jetpack_monitor_check_targets SET monitor_url = 'ftp://x/' WHERE id = 2;
          UPDATE jetpack_monitor_check_targets SET custom_headers = 'no json' WHERE id = 4;",
    );
    let page = store.targets(None, 10, true).await.expect("a page");
    let good: Vec<i64> = page.targets.iter().map(|target| target.id.get()).collect();
    let bad: Vec<(i64, &str)> = page
        .refused
        .iter()
        .map(|(id, why)| (*id, why.field))
        .collect();
    assert_eq!((good, bad), (vec![1, 3], vec![(2, "url"), (4, "headers")]));
    assert_eq!(page.last, Some(target(4)));
    let changes = store.changes(0, 10).await.expect("changes");
    assert_eq!(
        (
            changes.targets.len(),
            changes.refused.len(),
            changes.latest_change
        ),
        (2, 2, 4)
    );
}

#[tokio::test]
async fn an_event_that_this_build_cannot_read_is_named() {
    let backend = Sqlite::fresh();
    let store = open(&backend).await;
    store
        .apply(&batch(1, &[Incident::of(target(1), 1).open()]))
        .await
        .expect("apply");
    let sql = "UPDATE jetpack_monitor_events SET state = 'Sideways'";
    backend.connection().execute_batch(sql).expect("edited");
    let error = store.open_events().await.expect_err("unknown state");
    assert!(
        matches!(&error, StoreError::BadRow { column: "state", found, .. }
        if found == "Sideways"),
        "{error}"
    );
}

#[tokio::test]
async fn a_path_that_looks_like_a_uri_is_a_path() {
    let backend = Sqlite::fresh();
    let path = backend.directory.path().join("file:a?mode=memory");
    Store::open(&StoreUrl::Sqlite(path.clone()))
        .await
        .expect("opens")
        .close()
        .await
        .expect("ok");
    assert!(path.is_file());
}

/// Facts per batch of the process that is killed: an incident opened, confirmed and closed.
const LIFE: [fn(&mut Incident) -> model::fact::Fact; 3] =
    [Incident::open, Incident::confirm, Incident::close];
const CHILD: &str = "RINGWATCH_TEST_STORE_TO_APPLY_TO";

/// Applies batches and says so, until it is killed.
async fn apply_forever(url: &StoreUrl) {
    let store = Writer::of(Store::open(url).await.expect("opens")).await;
    let mut seq = store.floors().await.expect("floors").journal_seq;
    loop {
        seq += 1;
        let mut facts = Vec::new();
        for id in 1..=20 {
            let mut incident = Incident::of(target(id), seq);
            facts.extend(LIFE.map(|step| step(&mut incident)));
        }
        store.apply(&batch(seq, &facts)).await.expect("apply");
        writeln!(std::io::stdout(), "applied {seq}").expect("the parent reads");
    }
}

/// Runs this very test in a process of its own, where it takes the other branch.
fn kill_after(lines: usize, url: &StoreUrl) -> u64 {
    let name = "sqlite::kill_minus_nine_leaves_nothing_half_applied";
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, url.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let seqs = output.lines().map_while(Result::ok).filter_map(|line| {
        line.strip_prefix("applied ")
            .and_then(|seq| seq.parse().ok())
    });
    let told: Vec<u64> = seqs.take(lines).collect();
    child.kill().expect("SIGKILL");
    child.wait().expect("it is gone");
    assert_eq!(told.len(), lines, "the child applied until it was killed");
    told.last().copied().unwrap_or_default()
}

#[tokio::test]
async fn kill_minus_nine_leaves_nothing_half_applied() {
    if let Ok(url) = std::env::var(CHILD) {
        apply_forever(&url.parse().expect("a store url")).await;
    }
    let backend = Sqlite::fresh();
    let store = open(&backend).await;
    store
        .import(
            (1..=20)
                .map(|id| row(id, &format!("http://s-{id}.test/")))
                .collect(),
            import_id(0),
        )
        .await
        .expect("import");
    drop(store);
    for lines in [1, 7, 23, 2, 40] {
        let told = kill_after(lines, &backend.url());
        let store = open(&backend).await;
        let counts = store.counts().await.expect("counts");
        assert!(
            counts.journal_seq >= told,
            "what was told to be applied is there"
        );
        let events = counts.journal_seq * 20;
        assert_eq!((counts.events, counts.open_events), (events, 0));
        assert_eq!((counts.transitions, counts.jobs), (events * 3, events * 3));
        assert_eq!(
            store.floors().await.expect("floors").journal_seq,
            counts.journal_seq
        );
        let check = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'";
        assert_eq!(backend.number(check), Some(0));
        let down = "SELECT count(*) FROM jetpack_monitor_check_targets WHERE site_status <> 1";
        assert_eq!(backend.number(down), Some(0));
        drop(store);
    }
}
