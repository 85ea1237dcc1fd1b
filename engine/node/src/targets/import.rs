//! A target list into the store, in chunks: a million lines are never held in memory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use store::{ImportId, ImportRow, Store};

use super::file::{Refused, TargetFile};
use crate::exit::bad_input;

/// Rows given to the store at once.
const CHUNK_ROWS: usize = 5_000;
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
    /// Targets with a rule that this release stores but does not judge.
    pub(crate) unjudged: u64,
    /// The first refused lines.
    pub(crate) refused_lines: Vec<String>,
}

impl ImportSummary {
    /// Counts a refused line and keeps its words while there is room.
    fn refuse(&mut self, refused: &Refused) {
        self.refused += 1;
        if self.refused_lines.len() < REFUSED_SHOWN_MAX {
            self.refused_lines.push(refused.to_string());
        }
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
        if self.unjudged > 0 {
            parts.push(format!(
                "{} with keyword, forbidden or redirect rules, which are kept but not judged by \
                 this release",
                self.unjudged
            ));
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
    if order.strict {
        refuse_bad_lines(&order.path)?;
    }
    let mut summary = ImportSummary::default();
    let mut file = TargetFile::open(&order.path)?;
    let (mut rows, mut lines) = (
        Vec::with_capacity(CHUNK_ROWS),
        Vec::with_capacity(CHUNK_ROWS),
    );
    while let Some(next) = file.next()? {
        summary.rows += 1;
        match next {
            Ok(row) => {
                summary.unjudged += u64::from(has_unjudged_rules(&row.config));
                lines.push(row.line);
                rows.push(ImportRow {
                    id: row.id,
                    config: row.config,
                });
            }
            Err(refused) => summary.refuse(&refused),
        }
        if rows.len() == CHUNK_ROWS {
            flush(store, &file, id, &mut rows, &mut lines, &mut summary).await?;
            progress(summary.rows);
        }
    }
    flush(store, &file, id, &mut rows, &mut lines, &mut summary).await?;
    progress(summary.rows);
    if order.prune {
        prune(store, id, &mut summary).await?;
    }
    Ok(summary)
}

/// A rule of the next releases: stored, shown, and not judged yet.
pub(crate) fn has_unjudged_rules(config: &model::target::TargetConfig) -> bool {
    config.keyword.is_some()
        || !config.forbidden.is_empty()
        || config.redirect != model::target::Redirect::Follow
}

async fn flush<R: std::io::BufRead>(
    store: &Store,
    file: &TargetFile<R>,
    id: ImportId,
    rows: &mut Vec<ImportRow>,
    lines: &mut Vec<u64>,
    summary: &mut ImportSummary,
) -> anyhow::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let chunk = std::mem::replace(rows, Vec::with_capacity(CHUNK_ROWS));
    let report = store.import(chunk, id).await?;
    summary.inserted += report.inserted;
    summary.updated += report.updated;
    summary.unchanged += report.unchanged;
    for (index, error) in report.refused {
        summary.refuse(&file.refused(lines[index], error));
    }
    lines.clear();
    Ok(())
}

/// A line that is bad today may be a target of yesterday: a list with refused lines switches
/// nothing off.
async fn prune(store: &Store, id: ImportId, summary: &mut ImportSummary) -> anyhow::Result<()> {
    if summary.refused > 0 {
        summary.not_pruned = Some(format!("{} lines were refused", summary.refused));
        return Ok(());
    }
    summary.pruned = store.prune(id).await?;
    Ok(())
}

/// Reads the whole list once and refuses it when a line is bad.
fn refuse_bad_lines(path: &Path) -> anyhow::Result<()> {
    let mut file = TargetFile::open(path)?;
    let mut summary = ImportSummary::default();
    while let Some(next) = file.next()? {
        if let Err(refused) = next {
            summary.refuse(&refused);
        }
    }
    if summary.refused == 0 {
        return Ok(());
    }
    bad_input(format!(
        "the list is refused as a whole because of --strict ({} bad lines):\n{}",
        summary.refused,
        summary.refused_lines.join("\n")
    ))
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
