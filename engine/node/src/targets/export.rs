//! `targets export`: what the store holds as a list that an import reads back the same.
//!
//! The targets are read twice: first for the columns that some of them need, then for the lines, so
//! that a million of them are never in memory.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use model::limits::{ALERT_COOLDOWN_DEFAULT_MIN, TIMEOUT_DEFAULT_MS};
use model::target::{ExpectStatus, Method, Profile, Redirect, TargetConfig};
use model::{Check, Target};
use store::Store;

use super::columns::Column;
use crate::out::{self, Out};

/// Targets of one page.
const PAGE: usize = 5_000;

/// What came of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exported {
    /// Lines written.
    pub(crate) rows: u64,
    /// Of those, targets that are paused: a list has no word for that.
    pub(crate) paused: u64,
    /// Targets that are left out; each was named.
    pub(crate) refused: u64,
}

impl Exported {
    /// One line for a person.
    pub(crate) fn sentence(self) -> String {
        let Self {
            rows,
            paused,
            refused,
        } = self;
        let all = rows + refused;
        format!(
            "{all} targets: {rows} exported{}, {refused} refused",
            and_paused(paused)
        )
    }
}

impl Exported {
    /// The error: some targets are not in the list.
    pub(crate) fn require_whole(self) -> anyhow::Result<()> {
        if self.refused == 0 {
            return Ok(());
        }
        anyhow::bail!(
            "{} targets are not in the list, see above: it is no copy of the store, and imported \
             with --prune it switches them off",
            self.refused
        )
    }
}

/// What is said of paused ones among exported targets: who takes them elsewhere has to know.
pub(super) fn and_paused(paused: u64) -> String {
    if paused == 0 {
        return String::new();
    }
    format!(" ({paused} of them paused here, which only this store knows)")
}

/// Writes the targets of `store`, paused or not, to a new file that nobody else may read: headers
/// may be secrets.
///
/// # Errors
/// The store's; a file that is there already or cannot be written.
pub(crate) async fn to_file(store: &Store, path: &Path) -> anyhow::Result<Exported> {
    let failed = || format!("the list cannot be written to {}", path.display());
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = BufWriter::new(file.with_context(failed)?);
    let mut write = |line: &str| writeln!(file, "{line}").map(|()| true);
    let written = lines(store, &mut write).await;
    let written = written.and_then(|done| file.flush().with_context(failed).map(|()| done));
    if written.is_err() {
        // Half a list, imported with --prune, would switch off the other half.
        std::fs::remove_file(path).with_context(failed)?;
    }
    written
}

/// Writes the targets of `store`, paused or not, to `out`, until nobody takes more.
///
/// # Errors
/// The store's.
pub(crate) async fn to_out(store: &Store, out: &mut Out) -> anyhow::Result<Exported> {
    let mut write = |line: &str| {
        out.line(line);
        Ok(!out.is_closed())
    };
    lines(store, &mut write).await
}

/// Gives every line to `write`, which says whether more are wanted.
async fn lines(
    store: &Store,
    write: &mut dyn FnMut(&str) -> std::io::Result<bool>,
) -> anyhow::Result<Exported> {
    let failed = "the list cannot be written to its end";
    let columns = Widths::of(store).await?;
    let mut goes_on = write(&columns.header()).context(failed)?;
    let (mut done, mut after) = (Exported::default(), None);
    while goes_on {
        let page = store.listed_targets(after, PAGE).await?;
        for (id, error) in &page.refused {
            done.refused += 1;
            out::remark(format_args!("target {id} in the store: {error}"));
        }
        for target in &page.targets {
            match columns.line(target) {
                Ok(line) => {
                    goes_on = write(&line).context(failed)?;
                    done.rows += 1;
                    done.paused += u64::from(!target.active);
                }
                Err(column) => {
                    done.refused += 1;
                    out::remark(torn(target, column));
                }
            }
        }
        goes_on &= page.last.is_some();
        after = page.last;
    }
    Ok(done)
}

fn torn(target: &Target, column: Column) -> String {
    let (id, column) = (target.id, column.name());
    format!(
        "target {id}: {column}: a list has no place for line breaks, nor for blanks at the ends"
    )
}

/// How often each column is in the list.
struct Widths(Vec<(Column, usize)>);

impl Widths {
    async fn of(store: &Store) -> anyhow::Result<Self> {
        let mut widths = Self::least();
        let mut after = None;
        loop {
            let page = store.listed_targets(after, PAGE).await?;
            page.targets.iter().for_each(|target| widths.widen(target));
            if page.last.is_none() {
                return Ok(widths);
            }
            after = page.last;
        }
    }

    /// The columns that every list has.
    fn least() -> Self {
        let always = [Column::Id, Column::Url, Column::IntervalS];
        let width = |&column: &Column| (column, usize::from(always.contains(&column)));
        Self(Column::ALL.iter().map(width).collect())
    }

    fn widen(&mut self, target: &Target) {
        for (column, width) in &mut self.0 {
            *width = values(target, *column).len().max(*width);
        }
    }

    fn header(&self) -> String {
        let names = self
            .0
            .iter()
            .flat_map(|(column, width)| std::iter::repeat_n(column.name(), *width));
        names.collect::<Vec<_>>().join(",")
    }

    /// The line of `target`, or the column that cannot be in one.
    fn line(&self, target: &Target) -> Result<String, Column> {
        let mut fields = Vec::new();
        for (column, width) in &self.0 {
            let mut values = values(target, *column);
            let torn = |value: &String| value.trim() != value || value.contains(['\n', '\r']);
            if values.iter().any(torn) {
                return Err(*column);
            }
            values.resize(*width, String::new());
            fields.extend(values.iter().map(|value| quoted(value)));
        }
        Ok(fields.join(","))
    }
}

fn quoted(value: &str) -> String {
    if value.contains(['"', ',']) || value.starts_with('#') {
        return format!("\"{}\"", value.replace('"', "\"\""));
    }
    value.to_owned()
}

/// What `target` has in `column`; nothing where it is the default.
fn values(target: &Target, column: Column) -> Vec<String> {
    let config = &target.config;
    match column {
        Column::Id => vec![target.id.to_string()],
        Column::Url => vec![config.check.to_string()],
        Column::IntervalS => vec![config.interval_s.to_string()],
        Column::Name => unless(&config.name, &String::new()),
        Column::GroupId => unless(&config.group_id, &0),
        Column::TimeoutMs => unless(&config.timeout_ms, &TIMEOUT_DEFAULT_MS),
        Column::AlertCooldownMin => unless(&config.alert_cooldown_min, &ALERT_COOLDOWN_DEFAULT_MIN),
        Column::MaxLatencyMs => config
            .max_latency_ms
            .iter()
            .map(ToString::to_string)
            .collect(),
        Column::Maintenance => window(config).into_iter().collect(),
        column => of_check(&config.check, column),
    }
}

/// What only this kind of check has.
fn of_check(check: &Check, column: Column) -> Vec<String> {
    match (check, column) {
        (Check::Http(http), column) => match column {
            Column::Method => unless(&http.method, &Method::default()),
            Column::Profile => unless(&http.profile, &Profile::default()),
            Column::Redirect => unless(&http.redirect, &Redirect::default()),
            Column::ExpectStatus => unless(&http.expect_status, &ExpectStatus::default()),
            Column::Keyword => http.keyword.iter().cloned().collect(),
            Column::Forbidden => http.forbidden.clone(),
            Column::Headers => {
                let whole = |header: &model::target::Header| {
                    format!("{}: {}", header.name(), header.value())
                };
                http.headers.iter().map(whole).collect()
            }
            _ => Vec::new(),
        },
        (Check::Tcp(tcp), Column::Send) => tcp.send.iter().map(ToString::to_string).collect(),
        (Check::Tcp(tcp), Column::Expect) => tcp.expect.iter().map(ToString::to_string).collect(),
        (Check::Dns(dns), Column::Expect) => dns.expect.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

fn unless<T: PartialEq + ToString>(value: &T, default: &T) -> Vec<String> {
    if value == default {
        return Vec::new();
    }
    vec![value.to_string()]
}

/// `START/END`, as a list has it.
fn window(config: &TargetConfig) -> Option<String> {
    let window = config.maintenance?;
    let at = |ms: u64| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok();
    Some(format!("{}/{}", at(window.start_ms)?, at(window.end_ms)?))
}

#[cfg(test)]
mod tests {
    use model::{TargetId, TargetSpec, UnixMs};
    use store::{ImportId, StoreUrl};

    use super::*;
    use crate::targets::import::{ImportOrder, import_file};

    async fn open(dir: &tempfile::TempDir, name: &str) -> Store {
        let url = StoreUrl::Sqlite(dir.path().join(name));
        Store::open(&url).await.expect("a new store opens")
    }

    async fn import(store: &Store, path: &Path) -> u64 {
        let order = ImportOrder {
            path: path.to_owned(),
            prune: false,
            strict: true,
        };
        let summary = import_file(store, &order, ImportId(UnixMs(1)), &mut |_| ()).await;
        summary.expect("every line is good").inserted
    }

    const LIST: &str = "\
id,url,interval_s,method,name,group_id,profile,timeout_ms,redirect,keyword,forbidden,forbidden,\
headers,headers,expect_status,send,expect,expect,maintenance,alert_cooldown_min,max_latency_ms
7,http://a.example/,60,HEAD,front page,9,full,900,alert,,,,\
X-A: 1,\"X-B: a, \"\"b\"\"\",\"200,300-301\",,,,\
2026-11-21T01:00:00Z/2026-11-21T02:00:00.5Z,-1,50
8,http://b.example/?q=1;2|3,300,,#hash,,,,,k,\"f,1\",f2,,,,,,,,,
9,tcp://mail.example:25,,,,,,,,,,,,,,QUIT\\r\\n,220,,,,
10,dns://d.example?type=MX,,,,,,,,,,,,,,,10 m.example,20 n.example,,,
11,tls://t.example,,,,,,,,,,,,,,,,,,,
12,http://c.example/,,,,,,,,,,,,,,,,,,,
";

    /// Lesson: half a list was left under its name; imported with `--prune` it switched off the
    /// other half.
    #[tokio::test]
    async fn nothing_is_left_of_a_list_that_was_not_written_to_its_end() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = open(&dir, "a.db").await;
        store.clone().close().await.expect("closed");
        let path = dir.path().join("out.csv");
        to_file(&store, &path).await.expect_err("closed");
        assert!(!path.exists());
    }

    #[test]
    fn a_list_without_some_targets_is_no_success() {
        let mut exported = Exported::default();
        exported.require_whole().expect("whole");
        exported.refused = 2;
        let told = exported.require_whole().expect_err("not whole").to_string();
        assert!(
            told.contains("2 targets") && told.contains("--prune"),
            "{told}"
        );
    }

    #[tokio::test]
    async fn a_list_that_was_exported_is_imported_as_it_was() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (first, second) = (open(&dir, "a.db").await, open(&dir, "b.db").await);
        let (list, exported) = (dir.path().join("in.csv"), dir.path().join("out.csv"));
        std::fs::write(&list, LIST).expect("written");
        assert_eq!(import(&first, &list).await, 6);
        let done = to_file(&first, &exported).await.expect("exported");
        assert_eq!((done.rows, done.refused), (6, 0));
        assert_eq!(import(&second, &exported).await, 6);
        let all = |page: store::TargetPage| page.targets;
        let of = async |store: &Store| all(store.targets(None, 100, true).await.expect("a page"));
        assert_eq!(of(&second).await, of(&first).await);
        // Nobody else reads it, and it is in nobody's way.
        let rights = std::fs::metadata(&exported).expect("there").permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&rights) & 0o777,
            0o600
        );
        to_file(&first, &exported)
            .await
            .expect_err("it is there already");
    }

    /// Lesson: a paused target was left out, so that an import with --prune switched it off, and
    /// it was not checked after it was resumed.
    #[tokio::test]
    async fn a_paused_target_is_exported_and_outlives_a_prune_with_that_list() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = open(&dir, "a.db").await;
        let (list, exported) = (dir.path().join("in.csv"), dir.path().join("out.csv"));
        std::fs::write(&list, LIST).expect("written");
        import(&store, &list).await;
        let id = TargetId::new(7).expect("positive");
        let paused = store.pause_target(id, "ann".to_owned(), UnixMs(1)).await;
        assert_eq!(paused.expect("asked"), store::Switched::Done);
        let done = to_file(&store, &exported).await.expect("exported");
        assert_eq!((done.rows, done.paused, done.refused), (6, 1, 0));
        assert_eq!(
            done.sentence(),
            "6 targets: 6 exported (1 of them paused here, which only this store knows), 0 refused"
        );
        let order = ImportOrder {
            path: exported,
            prune: true,
            strict: true,
        };
        let summary = import_file(&store, &order, ImportId(UnixMs(2)), &mut |_| ()).await;
        assert_eq!(summary.expect("imported").pruned, 0);
        assert_eq!(store.active_targets().await.expect("counted"), 5);
        store.resume_target(id).await.expect("asked");
        assert_eq!(store.active_targets().await.expect("counted"), 6);
    }

    #[test]
    fn a_list_has_the_columns_that_its_targets_need_and_no_others() {
        let target = |keyword: &str| {
            let spec = TargetSpec {
                url: "http://a.example/".to_owned(),
                keyword: Some(keyword.to_owned()),
                ..TargetSpec::default()
            };
            Target {
                id: TargetId::new(5).expect("positive"),
                generation: model::Generation(1),
                active: true,
                config: spec.parse().expect("valid"),
            }
        };
        let mut widths = Widths::least();
        widths.widen(&target(""));
        assert_eq!(widths.header(), "id,url,interval_s");
        widths.widen(&target("x"));
        assert_eq!(widths.header(), "id,url,interval_s,keyword");
        let line = widths.line(&target("a \"b\""));
        assert_eq!(
            line,
            Ok("5,http://a.example/,300,\"a \"\"b\"\"\"".to_owned())
        );
        for torn in ["a\nb", " a", "a "] {
            assert_eq!(widths.line(&target(torn)), Err(Column::Keyword), "{torn:?}");
        }
    }
}
