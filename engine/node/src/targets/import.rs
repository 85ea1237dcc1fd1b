//! A target list into the store, in chunks: a million lines are never held in memory. With `strict`
//! it is one transaction, and every line is judged by the store before one is kept.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::{ImportId, ImportPart, ImportReport, Store};
use tokio::sync::mpsc;

use super::chunks::{Chunk, Chunks};
use super::file::Refused;
use crate::exit::bad_input;

/// Refused lines that are kept word for word; all of them are counted.
const REFUSED_SHOWN_MAX: usize = 1_000;

/// What to import and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportOrder {
    /// The list.
    pub(crate) path: PathBuf,
    /// Targets that are absent from it become inactive.
    #[serde(default)]
    pub(crate) prune: bool,
    /// A list with a bad line is refused as a whole.
    #[serde(default)]
    pub(crate) strict: bool,
}

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImportSummary {
    /// Records in the list.
    pub(crate) rows: u64,
    /// New targets.
    pub(crate) inserted: u64,
    /// Changed targets.
    pub(crate) updated: u64,
    /// Targets that were stored like this already.
    pub(crate) unchanged: u64,
    /// Refused records.
    pub(crate) refused: u64,
    /// Targets that became inactive.
    pub(crate) pruned: u64,
    /// Why the list was not pruned although that was asked for.
    pub(crate) not_pruned: Option<String>,
    /// The first refused lines.
    pub(crate) refused_lines: Vec<String>,
    /// What a running node says of its local ports, where they are short for its targets now.
    pub(crate) local_ports: Option<String>,
}

impl ImportSummary {
    /// Counts a refused line and keeps its words while there is room.
    pub(super) fn refuse(&mut self, refused: &impl std::fmt::Display) {
        self.refused += 1;
        if self.refused_lines.len() < REFUSED_SHOWN_MAX {
            self.refused_lines.push(refused.to_string());
        }
    }

    /// Adds what the store did.
    pub(super) fn add(&mut self, report: &ImportReport) {
        self.inserted += report.inserted;
        self.updated += report.updated;
        self.unchanged += report.unchanged;
    }

    /// One line for a person.
    pub(crate) fn sentence(&self) -> String {
        let mut parts = vec![format!(
            "{} rows: {} inserted, {} updated, {} unchanged, {} refused",
            self.rows, self.inserted, self.updated, self.unchanged, self.refused
        )];
        if self.pruned > 0 {
            parts.push(format!("{} switched off", self.pruned));
        }
        if let Some(why) = &self.not_pruned {
            parts.push(format!("not pruned because {why}"));
        }
        parts.join(", ")
    }
}

/// Imports the list of `order`; `progress` hears the number of records so far.
///
/// # Errors
/// A list that cannot be read, a bad line with `strict` (then nothing is imported), the store's.
pub(crate) async fn import_file(
    store: &Store,
    order: &ImportOrder,
    id: ImportId,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<ImportSummary> {
    let mut summary = if order.strict {
        import_whole(store, &order.path, id, progress).await?
    } else {
        import_good_lines(store, &order.path, id, progress).await?
    };
    end(store, id, order.prune, &mut summary).await?;
    Ok(summary)
}

/// Ends an import whose rows are all in the store.
pub(super) async fn end(
    store: &Store,
    id: ImportId,
    does_prune: bool,
    summary: &mut ImportSummary,
) -> anyhow::Result<()> {
    if does_prune {
        return prune(store, id, summary).await;
    }
    Ok(store.end_import(id).await?)
}

/// Keeps what is good, chunk by chunk.
async fn import_good_lines(
    store: &Store,
    path: &Path,
    id: ImportId,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<ImportSummary> {
    let mut summary = ImportSummary::default();
    let mut list = Chunks::of(path)?;
    loop {
        let mut chunk = list.next().await?;
        summary.rows += chunk.records;
        chunk.refused.iter().for_each(|line| summary.refuse(line));
        let report = store.import(std::mem::take(&mut chunk.rows), id).await?;
        summary.add(&report);
        for (at, error) in report.refused {
            summary.refuse(&list.refused(chunk.lines[at], error));
        }
        progress(summary.rows);
        if chunk.is_last() {
            return Ok(summary);
        }
    }
}

/// Keeps the whole list, or nothing of it when a line is bad by itself or refused by the store.
async fn import_whole(
    store: &Store,
    path: &Path,
    id: ImportId,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<ImportSummary> {
    let mut list = Chunks::of(path)?;
    // The transaction keeps others from the store: it begins when there is something to read.
    let first = list.next().await?;
    let (parts, received) = mpsc::channel(1);
    let feeding = feed(first, &mut list, parts, progress);
    let (kept, fed) = tokio::join!(store.import_whole(received, id), feeding);
    let (kept, fed) = (kept?, fed?);
    let Some(report) = kept else {
        anyhow::bail!("the target list {} was not read to its end", path.display());
    };
    let mut refused = fed.refused;
    for (at, error) in &report.refused {
        refused.push(list.refused(fed.lines[*at], error.clone()));
    }
    refused.sort_by_key(|refused| refused.line);
    let mut summary = ImportSummary {
        rows: fed.rows,
        ..ImportSummary::default()
    };
    summary.add(&report);
    for line in &refused {
        summary.refuse(line);
    }
    if summary.refused == 0 {
        return Ok(summary);
    }
    bad_input(format!(
        "the list is refused as a whole because of --strict ({} bad lines{}):\n{}",
        summary.refused,
        if fed.is_cut { " or more" } else { "" },
        summary.refused_lines.join("\n")
    ))
}

/// What a whole list brought while it was read.
#[derive(Default)]
struct Fed {
    rows: u64,
    /// Lines that are bad by themselves.
    refused: Vec<Refused>,
    /// Line of each row that was given to the store.
    lines: Vec<u64>,
    /// There are more bad lines than are worth reading.
    is_cut: bool,
}

/// Gives the rows of `list` to the store until the end, or until enough is refused.
async fn feed(
    first: Chunk,
    list: &mut Chunks,
    parts: mpsc::Sender<ImportPart>,
    progress: &mut dyn FnMut(u64),
) -> anyhow::Result<Fed> {
    let (mut fed, mut chunk) = (Fed::default(), first);
    loop {
        let is_last = chunk.is_last();
        fed.rows += chunk.records;
        fed.refused.extend(chunk.refused);
        fed.lines.extend(chunk.lines);
        fed.is_cut = !is_last && fed.refused.len() >= REFUSED_SHOWN_MAX;
        if parts.send(ImportPart::Rows(chunk.rows)).await.is_err() {
            // The store has seen enough, or failed: it says which.
            fed.is_cut = true;
            return Ok(fed);
        }
        progress(fed.rows);
        if is_last || fed.is_cut {
            let keep = fed.refused.is_empty();
            // As above.
            let _ = parts.send(ImportPart::End { keep }).await;
            return Ok(fed);
        }
        chunk = list.next().await?;
    }
}

/// A line that is bad today may be a target of yesterday: a list with refused lines switches
/// nothing off.
async fn prune(store: &Store, id: ImportId, summary: &mut ImportSummary) -> anyhow::Result<()> {
    if summary.refused > 0 {
        summary.not_pruned = Some(format!("{} lines were refused", summary.refused));
        return Ok(store.end_import(id).await?);
    }
    summary.pruned = store.prune(id).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::UnixMs;

    use super::*;

    fn order(dir: &tempfile::TempDir, text: &str) -> ImportOrder {
        let path = dir.path().join("t.csv");
        std::fs::write(&path, text).expect("written");
        ImportOrder {
            path,
            prune: false,
            strict: false,
        }
    }

    async fn open(dir: &tempfile::TempDir) -> Store {
        let url = store::StoreUrl::Sqlite(dir.path().join("s.db"));
        Store::open(&url).await.expect("a new store opens")
    }

    #[tokio::test]
    async fn the_good_rest_is_imported_and_the_refused_are_counted() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = open(&dir).await;
        let order = order(&dir, "http://a.example/\nnope\nhttp://b.example/,60\n");
        let mut seen = 0;
        let summary = import_file(&store, &order, ImportId(UnixMs(1)), &mut |rows| seen = rows)
            .await
            .expect("imported");
        assert_eq!(
            (summary.rows, summary.inserted, summary.refused, seen),
            (3, 2, 1, 3)
        );
        assert!(summary.refused_lines[0].contains("t.csv:2: url: found \"nope\""));
    }

    #[tokio::test]
    async fn strict_imports_nothing_from_a_list_with_a_bad_line() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = open(&dir).await;
        let order = ImportOrder {
            strict: true,
            ..order(&dir, "http://a.example/\nnope\n")
        };
        let error = import_file(&store, &order, ImportId(UnixMs(1)), &mut |_| ())
            .await
            .expect_err("refused");
        assert!(error.is::<crate::exit::BadInput>());
        assert_eq!(store.counts().await.expect("counted").targets, 0);
    }

    #[tokio::test]
    async fn strict_imports_nothing_from_a_list_that_the_store_refuses_in_part() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = open(&dir).await;
        let given = order(&dir, "id,url\n7,http://seven.example/\n");
        import_file(&store, &given, ImportId(UnixMs(1)), &mut |_| ())
            .await
            .expect("imported");
        let text = "id,url,interval_s\n,http://a.example/,60\nx,http://b.example/,60\n\
                    ,http://a.example/,30\n8,http://seven.example/,\n";
        let bad = order(&dir, text);
        let strict = ImportOrder {
            strict: true,
            ..bad.clone()
        };
        let error = import_file(&store, &strict, ImportId(UnixMs(2)), &mut |_| ())
            .await
            .expect_err("refused");
        assert!(error.is::<crate::exit::BadInput>());
        let said = error.to_string();
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0].ends_with("(3 bad lines):"), "{said}");
        assert!(
            lines[1].contains("t.csv:3: id: found \"x\", accepted is "),
            "{said}"
        );
        assert!(
            lines[2].contains("t.csv:4: name: found \"\", accepted is one row"),
            "{said}"
        );
        assert!(
            lines[3].contains("t.csv:5: id: found \"8\", accepted is 7, "),
            "{said}"
        );
        assert_eq!(store.counts().await.expect("counted").targets, 1);
        let rest = import_file(&store, &bad, ImportId(UnixMs(3)), &mut |_| ())
            .await
            .expect("imported");
        assert_eq!((rest.rows, rest.inserted, rest.refused), (4, 1, 3));
        assert_eq!(store.counts().await.expect("counted").targets, 2);
    }

    #[tokio::test]
    async fn a_hopeless_strict_list_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = open(&dir).await;
        let good = "http://a.example/,60\n".repeat(20_000);
        for bad in ["nope\n", "http://a.example/,30\n"] {
            let order = ImportOrder {
                strict: true,
                ..order(&dir, &format!("{good}{}", bad.repeat(20_000)))
            };
            let mut seen = 0;
            let error = import_file(&store, &order, ImportId(UnixMs(1)), &mut |rows| seen = rows)
                .await
                .expect_err("refused");
            assert!(
                error.to_string().contains(" bad lines or more):"),
                "{error}"
            );
            assert!(seen < 40_000, "{seen}");
            assert_eq!(store.counts().await.expect("counted").targets, 0);
        }
    }

    #[tokio::test]
    async fn prune_switches_off_what_is_absent_but_not_when_a_line_was_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = open(&dir).await;
        let import = |text: &str, at| {
            let order = ImportOrder {
                prune: true,
                ..order(&dir, text)
            };
            let store = store.clone();
            async move {
                import_file(&store, &order, ImportId(UnixMs(at)), &mut |_| ())
                    .await
                    .expect("ok")
            }
        };
        import("http://a.example/\nhttp://b.example/\n", 1).await;
        let kept = import("http://a.example/\nhttp//b.example/\n", 2).await;
        assert_eq!((kept.pruned, kept.not_pruned.is_some()), (0, true));
        let pruned = import("http://a.example/\n", 3).await;
        assert_eq!(pruned.pruned, 1);
        assert_eq!(store.counts().await.expect("counted").active, 1);
    }
}
