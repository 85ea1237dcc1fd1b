//! The part of the report: bars and tables.

use anyhow::Result;

use super::super::filled::{LEGACY, OWN, SQLITE};
use super::super::{Found, Place};
use super::{CHANGES, Change, Effect, Regular, SWEPT, Seen};
use crate::bar::Bar;
use crate::baseline::median;
use crate::table::{Table, grouped};

const MAX_S: f64 = 1.0;
/// Without a stream: whatever is switched.
const SWITCHED_MAX_S: f64 = 60.0;
/// Of as many as a million: what grows with the fleet is far above.
const ROWS_READ_MAX: f64 = 1_000.0;
/// Regular reading, in a window without a change, may cost so much of a core.
const REGULAR_CPU_MAX: f64 = 0.05;
const STORES: [&str; 4] = [SQLITE, OWN, LEGACY, SWEPT];
/// Where a change is told, and what it makes a server do can be told from the rest.
const TOLD: [&str; 2] = [OWN, LEGACY];
const NOTE: &str = "From just before the command is started (our own tables: `targets import` of \
    a list of one row, `targets pause`) or the statement is sent (the legacy table) until the \
    gauges of the probe core show it; the targets are checked once a day. Rows, statements and \
    CPU are all that the server did meanwhile, the change itself, whole tables and the node's \
    small questions included; what the count itself costs is taken off. The node's CPU is all of \
    it, with an answer to `/metrics` every 10 ms; the CPU of a change during which a thread \
    ended is not known and left out, that of windows is the process's, in ticks of 10 ms. A \
    change during which the node counted or compared legacy rows or looked for old rows to \
    delete, as it does every 30 s, every minute and every hour whatever happens, counts for its \
    time alone: such reading is a table of its own, of a window in which nothing changes. \
    Without a stream there is always such reading: the sweep finds edits, of rows that are \
    spread over the whole table, and counts of buckets what is switched, at the same time. Bars \
    are held against the longest, and against the most rows.";

pub(super) fn found(place: &Place<'_>, seen: &Seen) -> Result<Found> {
    Ok(Found {
        title: "One change among many",
        note: NOTE,
        bars: bars(place, seen),
        table: format!("{}\n{}", table(&seen.effects), regular_table(&seen.regular)),
        numbers: serde_json::to_value(seen)?,
    })
}

fn of<'e>(effects: &'e [Effect], store: &str, change: Change) -> impl Iterator<Item = &'e Effect> {
    let is_meant = move |effect: &&Effect| (effect.store, effect.change) == (store, change);
    effects.iter().filter(is_meant)
}

/// How soon a change has to be in effect.
fn max_s(store: &str, change: Change, sweep_s: u32) -> f64 {
    match change {
        _ if store != SWEPT => MAX_S,
        Change::Changed => sweep_s.into(),
        Change::Added | Change::SwitchedOff => SWITCHED_MAX_S,
    }
}

/// In time for every store; in work where it depends on the change.
fn bars(place: &Place<'_>, Seen { effects, regular }: &Seen) -> Vec<Bar> {
    let sites = grouped(place.sizes.start_sites.into());
    let each = |store: &'static str| CHANGES.map(|change| (store, change));
    let in_effect = STORES.into_iter().flat_map(each).map(|(store, change)| {
        let seconds = of(effects, store, change).map(|effect| effect.seconds);
        let what = format!("one of {sites} {}, {store}", change.words());
        let max_s = max_s(store, change, place.sizes.sweep_s);
        Bar::new(what, seconds.reduce(f64::max), (max_s, "s"), place.flaw())
    });
    let work = TOLD.into_iter().flat_map(each).map(|(store, change)| {
        let what = format!("rows read for one of {sites} {}, {store}", change.words());
        let most = most_rows(effects, store, change).map(|rows| rows as f64);
        Bar::new(what, most, (ROWS_READ_MAX, "rows"), place.flaw())
    });
    let at_rest = regular.iter().map(|one| {
        let what = format!("server while nothing changes, {}", one.store);
        let bound = (REGULAR_CPU_MAX, "of a core");
        Bar::new(what, one.cpu(), bound, place.flaw())
    });
    in_effect.chain(work).chain(at_rest).collect()
}

fn most_rows(effects: &[Effect], store: &str, change: Change) -> Option<u64> {
    let works = of(effects, store, change).filter_map(|one| one.server);
    works.map(|work| work.rows_read).max()
}

fn table(effects: &[Effect]) -> String {
    let mut table = Table::new(&[
        "store",
        "one target",
        "times",
        "in effect, s: median",
        "longest",
        "rows read: median",
        "most",
        "statements: median",
        "server CPU, ms: median",
        "node CPU, ms: median",
    ]);
    for store in STORES {
        for change in CHANGES {
            let all = || of(effects, store, change);
            let seconds: Vec<f64> = all().map(|one| one.seconds).collect();
            let longest = seconds.iter().copied().fold(0.0, f64::max);
            let works = || all().filter_map(|one| one.server);
            let rows = works().map(|work| work.rows_read as f64);
            let statements = works().map(|work| work.statements as f64);
            table.row([
                store.to_owned(),
                change.words().to_owned(),
                seconds.len().to_string(),
                format!("{:.3}", median(seconds)),
                format!("{longest:.3}"),
                middle(rows, |rows| grouped(rows as u64)),
                most_rows(effects, store, change).map_or_else(none, grouped),
                middle(statements, |count| grouped(count as u64)),
                middle(works().filter_map(|work| work.cpu_ms), |ms| {
                    format!("{ms:.1}")
                }),
                middle(all().filter_map(|one| one.node_cpu_ms), |ms| {
                    format!("{ms:.1}")
                }),
            ]);
        }
    }
    table.markdown()
}

fn none() -> String {
    "–".to_owned()
}

/// The median, where there is one.
fn middle(values: impl Iterator<Item = f64>, words: impl Fn(f64) -> String) -> String {
    let values: Vec<f64> = values.collect();
    if values.is_empty() {
        return none();
    }
    words(median(values))
}

fn regular_table(regular: &[Regular]) -> String {
    let mut table = Table::new(&[
        "while nothing changes",
        "s",
        "rows read",
        "rows/s",
        "statements/s",
        "server CPU, of a core",
        "the sweep's own rate, rows/s",
    ]);
    for one in regular {
        let each_s = |count: u64| count as f64 / one.seconds;
        table.row([
            one.store.to_owned(),
            format!("{:.0}", one.seconds),
            grouped(one.server.rows_read),
            grouped(each_s(one.server.rows_read) as u64),
            format!("{:.1}", each_s(one.server.statements)),
            one.cpu().map_or_else(none, |cpu| format!("{cpu:.3}")),
            grouped(one.sweep_rows_per_s as u64),
        ]);
    }
    table.markdown()
}

#[cfg(test)]
mod tests {
    use super::super::work::Work;
    use super::*;

    fn effect(store: &'static str, rows_read: Option<u64>) -> Effect {
        let work = |rows_read| Work {
            rows_read,
            statements: 7,
            cpu_ms: Some(1.5),
        };
        Effect {
            store,
            change: Change::Added,
            seconds: 0.1,
            is_whole: true,
            node_cpu_ms: Some(12.0),
            server: rows_read.map(work),
        }
    }

    #[test]
    fn the_most_rows_of_a_change_are_judged_and_none_where_no_server_counts_them() {
        let effects = [
            effect(OWN, Some(40)),
            effect(OWN, Some(1_200)),
            effect(OWN, Some(12)),
            effect(SQLITE, None),
        ];
        assert_eq!(most_rows(&effects, OWN, Change::Added), Some(1_200));
        assert_eq!(most_rows(&effects, OWN, Change::Changed), None);
        assert_eq!(most_rows(&effects, SQLITE, Change::Added), None);
        let table = table(&effects);
        let row = |store: &str| {
            let head = format!("| {store} ");
            let line = table.lines().find(|line| line.starts_with(&head));
            let cells = line.expect("a row").split('|').map(str::trim);
            cells.collect::<Vec<_>>().join(" ")
        };
        assert!(
            row(OWN).ends_with("added 3 0.100 0.100 40 1,200 7 1.5 12.0 "),
            "{table}"
        );
        assert!(
            row(SQLITE).ends_with("added 1 0.100 0.100 – – – – 12.0 "),
            "{table}"
        );
    }

    #[test]
    fn only_where_nobody_tells_of_changes_they_may_take_a_minute_or_a_sweep() {
        let of = |store| CHANGES.map(|change| max_s(store, change, 300).to_string());
        for told in [SQLITE, OWN, LEGACY] {
            assert_eq!(of(told), ["1"; 3], "{told}");
        }
        assert_eq!(of(SWEPT), ["60", "300", "60"]);
    }
}
