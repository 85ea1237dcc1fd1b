//! Answers as people read them.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use store::{IndexStep, MigrationPlan, MigrationStep, StoreUrl};

use super::commands::number;
use crate::out::{self, Out};
use crate::report::human;
use crate::targets::doubles::Doubles;
use crate::targets::file::{Row, TargetFile};
use crate::targets::import::ImportSummary;

/// Targets with a cut timeout that are named; all are counted.
const CUT_NAMED_MAX: u64 = 20;

/// Failure classes that `status` names.
const CLASSES_NAMED_MAX: usize = 3;

/// Rows from one line of progress to the next where there is no terminal.
const ROWS_PER_LINE: u64 = 100_000;

/// What `migrate` would do, with the statements.
pub(super) fn migration_plan(url: &StoreUrl, plan: &MigrationPlan) -> String {
    let MigrationPlan { found, known, .. } = plan;
    if plan.steps.is_empty() {
        return format!("{url} is up to date: schema version {known}\n");
    }
    let mut out =
        format!("{url} has schema version {found}, this ringwatch needs {known}. To run:\n");
    for step in &plan.steps {
        let sql = step.sql.trim().trim_end_matches(';');
        write!(out, "\n-- file {}\n{sql};\n", step.file).expect("a String takes every write");
    }
    out
}

/// What `migrate` did.
pub(super) fn migrated(url: &StoreUrl, steps: &[MigrationStep]) -> String {
    let Some(last) = steps.last() else {
        return format!("{url} is up to date: nothing to do\n");
    };
    let files: Vec<&str> = steps.iter().map(|step| step.file.as_str()).collect();
    format!(
        "{url} is now at schema version {}: {}\n",
        last.version,
        files.join(", ")
    )
}

/// The optional indexes that `migrate` would add, with the statements.
pub(super) fn time_index_plan(steps: &[IndexStep]) -> String {
    if steps.is_empty() {
        return "the optional time indexes are there\n".to_owned();
    }
    let mut out = "\nOptional, because of --with-time-indexes:\n".to_owned();
    for step in steps {
        writeln!(out, "\n{};", step.sql).expect("a String takes every write");
    }
    out
}

/// The optional indexes that `migrate` added.
pub(super) fn time_indexes_added(steps: &[IndexStep]) -> String {
    if steps.is_empty() {
        return "the optional time indexes are there: nothing to do\n".to_owned();
    }
    let columns: Vec<&str> = steps.iter().map(|step| step.column).collect();
    format!("added the optional time indexes: {}\n", columns.join(", "))
}

/// What came of an import.
pub(super) fn imported(summary: &ImportSummary, as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        out::line(serde_json::to_string(summary)?)?;
    } else {
        summary.refused_lines.iter().for_each(out::plain_remark);
        summary.local_ports.iter().for_each(out::plain_remark);
        out::line(summary.sentence())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How far a list was read: a counter on a terminal, a line now and then elsewhere.
pub(super) struct RowProgress {
    counter: Option<ProgressBar>,
    lines: u64,
}

impl RowProgress {
    pub(super) fn start() -> Self {
        let style = ProgressStyle::with_template("{spinner} {human_pos} rows, {per_sec}")
            .expect("the template is valid");
        let counter = || ProgressBar::no_length().with_style(style);
        Self {
            counter: std::io::stderr().is_terminal().then(counter),
            lines: 0,
        }
    }

    /// So many rows were read; the line to say about it where there is no terminal.
    pub(super) fn reach(&mut self, rows: u64) -> Option<String> {
        if let Some(counter) = &self.counter {
            counter.set_position(rows);
            return None;
        }
        let lines = rows / ROWS_PER_LINE;
        let is_news = std::mem::replace(&mut self.lines, lines) < lines;
        is_news.then(|| format!("{rows} rows so far"))
    }

    pub(super) fn finish(&self) {
        if let Some(counter) = &self.counter {
            counter.finish_and_clear();
        }
    }
}

/// Something takes its time elsewhere: a clock on a terminal, one line before it elsewhere.
pub(super) struct Waiting(Option<ProgressBar>);

impl Waiting {
    pub(super) fn start(what: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            out::remark(format!("{what}: a million rows take about a minute"));
            return Self(None);
        }
        let style = ProgressStyle::with_template("{spinner} {msg}, {elapsed}")
            .expect("the template is valid");
        let clock = ProgressBar::new_spinner().with_style(style);
        clock.set_message(what);
        clock.enable_steady_tick(Duration::from_millis(200));
        Self(Some(clock))
    }

    pub(super) fn finish(self) {
        if let Some(clock) = self.0 {
            clock.finish_and_clear();
        }
    }
}

/// The status of a node.
pub(super) fn status(answer: &Value) -> String {
    let text = |key: &str| answer[key].as_str().unwrap_or("-").to_owned();
    let (pid, uptime) = (number(&answer["pid"]), number(&answer["uptime_s"]));
    let (state, version) = (text("state"), text("version"));
    let node = format!("{state} (pid {pid}, ringwatch {version}, up {uptime} s)");
    let mut lines = vec![
        ("node".to_owned(), node),
        ("identity".to_owned(), identity(&answer["identity"])),
        ("driver".to_owned(), text("driver")),
        ("store".to_owned(), text("store")),
        ("admin".to_owned(), format!("http://{}", text("admin"))),
        ("targets".to_owned(), targets(answer)),
        ("states".to_owned(), states(&answer["states"])),
        ("account".to_owned(), account(&answer["fleet"])),
        ("results".to_owned(), results(&answer["fleet"])),
        ("verdicts".to_owned(), verdicts(answer)),
        ("pressure".to_owned(), pressure(&answer["pressure"])),
        ("lag".to_owned(), lags(&answer["lag_us"])),
        ("journal".to_owned(), journal(&answer["sink"])),
    ];
    let waiting = number(&answer["targets"]["unconfirmed"]);
    if waiting > 0 {
        let told = format!(
            "{waiting} failing targets WAIT FOR CONFIRMATION: too few verifiers say anything of \
             them (`ringwatch doctor` asks each)"
        );
        lines.push(("verifiers".to_owned(), told));
    }
    if answer["legacy"].is_object() {
        lines.push(("legacy".to_owned(), legacy(&answer["legacy"])));
    }
    let cores = answer["cores"].as_array().into_iter().flatten();
    lines.extend(cores.map(|one| (format!("core {}", one["core"]), core(one))));
    let balanced = if answer["balanced"] == true {
        "balance"
    } else {
        "DO NOT BALANCE"
    };
    lines.push(("accounts".to_owned(), balanced.to_owned()));
    let mut out = String::new();
    for (name, value) in lines {
        writeln!(out, "{name:<9} {value}").expect("a String takes every write");
    }
    out
}

fn targets(answer: &Value) -> String {
    let of = |key: &str| number(&answer["targets"][key]);
    let (active, seems_down) = (of("active"), of("seems_down"));
    let (down, refused) = (of("down"), of("refused"));
    let rate = answer["required_rate_per_s"].as_f64().unwrap_or(0.0);
    format!(
        "{active} active, {seems_down} seem down, {down} down, {refused} refused; {rate:.1} \
         checks/s required"
    )
}

fn identity(identity: &Value) -> String {
    let text = |key: &str| identity[key].as_str().unwrap_or("-");
    let epoch = number(&identity["epoch"]);
    format!(
        "{}, epoch {epoch}, boot {}",
        text("node_id"),
        text("boot_id")
    )
}

/// States of targets, in the order in which `status` names them.
const STATES: [&str; 8] = [
    "up",
    "warning",
    "degraded",
    "seems_down",
    "down",
    "unknown",
    "maintenance",
    "paused",
];

/// Targets by state; those of which there are none are left out.
fn states(states: &Value) -> String {
    let counts = STATES.map(|name| (name, number(&states[name])));
    let some = counts
        .into_iter()
        .filter(|&(name, count)| count > 0 || name == "up");
    let told = some.map(|(name, count)| format!("{count} {}", name.replace('_', " ")));
    told.collect::<Vec<_>>().join(", ")
}

/// How far the sweep is, and what reading the rows again came to.
fn legacy(legacy: &Value) -> String {
    let (changes, sweep) = (&legacy["changes"], &legacy["sweep"]);
    let of = |key: &str| number(&changes[key]);
    let (changed, activated) = (of("changed"), of("activated"));
    let (deactivated, refused) = (of("deactivated"), of("refused"));
    let percent = sweep["progress"].as_f64().unwrap_or(0.0) * 100.0;
    let age_s = sweep["age_s"].as_f64().unwrap_or(0.0);
    let rate = number(&sweep["rows_per_s"]);
    format!(
        "{rate} rows/s read again, {percent:.0} % of the table, all as of {age_s:.0} s ago; \
         {changed} changed, {activated} activated, {deactivated} deactivated, {refused} refused"
    )
}

/// How much the journal has, what the store lacks of it, and whether it is in trouble.
fn journal(sink: &Value) -> String {
    let of = |key: &str| number(&sink[key]);
    let mib = |key: &str| of(key) as f64 / f64::from(1 << 20);
    let (bytes, max_bytes) = (mib("journal_bytes"), mib("journal_max_bytes"));
    let told = format!(
        "{bytes:.1} of {max_bytes:.0} MiB, the store is {} records behind",
        of("apply_lag")
    );
    let trouble = if of("journal_full") > 0 {
        "ITS DISK BUDGET IS USED UP"
    } else if of("journal_alarm") > 0 {
        "IT CANNOT BE WRITTEN OR READ"
    } else {
        return told;
    };
    format!("{told}; {trouble}, {} facts wait", of("facts_waiting"))
}

fn account(fleet: &Value) -> String {
    let of = |key: &str| number(&fleet[key]);
    let parts = [
        ("pending", "pending"),
        ("in_flight", "in flight"),
        ("probed", "probed"),
        ("shed", "shed"),
        ("stale", "stale"),
        ("cancelled", "cancelled"),
    ];
    let parts = parts.map(|(key, words)| format!("{} {words}", of(key)));
    format!("{} due = {}", of("due"), parts.join(" + "))
}

fn results(fleet: &Value) -> String {
    let of = |key: &str| number(&fleet[key]);
    let (held, sent) = (of("held"), of("sent"));
    // The sink counts for itself and a moment later: with results on their way these need not be
    // the same number.
    format!(
        "{} probed = {held} held + {sent} sent; the sink drained {}, {} queued",
        of("probed"),
        of("drained"),
        of("queued")
    )
}

/// What the checks since the start said, and mostly why they were not up.
fn verdicts(answer: &Value) -> String {
    let of = |name: &str| format!("{} {name}", number(&answer["verdicts"][name]));
    let counts = ["up", "degraded", "down", "unknown"].map(of).join(", ");
    let failures = answer["failures"].as_object().into_iter().flatten();
    let mut failures: Vec<_> = failures.map(|(class, n)| (number(n), class)).collect();
    failures.sort_by(|left, right| right.cmp(left));
    failures.truncate(CLASSES_NAMED_MAX);
    let classes: Vec<String> = failures
        .into_iter()
        .map(|(count, class)| format!("{count} {class}"))
        .collect();
    if classes.is_empty() {
        counts
    } else {
        format!("{counts}; most often {}", classes.join(", "))
    }
}

/// What the node is short of, what that does to failing checks, and who stands by to tell.
fn pressure(pressure: &Value) -> String {
    let signals = pressure["signals"].as_array().into_iter().flatten();
    let names: Vec<&str> = signals.filter_map(Value::as_str).collect();
    let mut told = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    told += match pressure["stance"].as_str() {
        Some("deferring") => "; many checks fail: connect failures and timeouts count late",
        Some("doubting") => "; CONNECT FAILURES AND TIMEOUTS ARE NOT BELIEVED",
        Some("isolated") => "; NO FAILURE IS BELIEVED",
        _ => "",
    };
    let not_known = number(&pressure["not_known"]);
    if not_known > 0 {
        write!(told, "; {not_known} targets not known").expect("a String takes every write");
    }
    let dark = number(&pressure["dark_networks"]);
    if dark > 0 {
        write!(told, "; {dark} networks do not answer").expect("a String takes every write");
    }
    if pressure["node_suppressing"] == true {
        told += "; AN INCIDENT OF THIS NODE IS OPEN";
    }
    let of = |key: &str| number(&pressure["canaries"][key]);
    if of("configured") > 0 {
        let (answering, configured) = (of("answering"), of("configured"));
        let canaries = format!("; {answering} of {configured} canaries answer");
        told += &canaries;
    }
    told
}

fn lags(lag: &Value) -> String {
    let names = [
        ("p50", "p50"),
        ("p99", "p99"),
        ("p99.9", "p99_9"),
        ("max", "max"),
    ];
    names
        .map(|(name, key)| format!("{name} {}", human(number(&lag[key]))))
        .join(", ")
}

fn core(one: &Value) -> String {
    let of = |key: &str| number(&one[key]);
    let (targets, limit) = (of("targets"), of("in_flight_limit"));
    let in_flight = number(&one["account"]["in_flight"]);
    let lag = &one["lag_us"];
    // The last interval may have had no check.
    let lag = if number(&lag["count"]) == 0 {
        "-".to_owned()
    } else {
        human(number(&lag["p99"]))
    };
    let balanced = if one["balanced"] == true {
        "balanced"
    } else {
        "NOT BALANCED"
    };
    let cpu = of("cpu");
    let waiting = match of("deferred") {
        0 => String::new(),
        waiting => format!("{waiting} waiting for their address (see `uncapped`), "),
    };
    format!(
        "on CPU {cpu}: {targets} targets, {in_flight} in flight of {limit}, {waiting}lag p99 \
         {lag}, {balanced}"
    )
}

/// What a reload did.
pub(super) fn reload(answer: &Value) -> anyhow::Result<String> {
    let mut out = String::new();
    if !answer["imported"].is_null() {
        let summary: ImportSummary = serde_json::from_value(answer["imported"].clone())?;
        summary.refused_lines.iter().for_each(out::plain_remark);
        writeln!(out, "{}", summary.sentence())?;
    }
    if let Some(short) = answer["local_ports"].as_str() {
        out::plain_remark(short);
    }
    let applied = &answer["applied"];
    writeln!(
        out,
        "reloaded: {} targets placed or changed, {} removed",
        number(&applied["upserted"]),
        number(&applied["removed"])
    )?;
    if let Some(waiting) = answer["applied"]["waiting"]
        .as_u64()
        .filter(|&some| some > 0)
    {
        writeln!(
            out,
            "{waiting} more changes wait, a minute at most: the node is short of something"
        )?;
    }
    let keys: Vec<&str> = answer["needs_restart"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !keys.is_empty() {
        writeln!(out, "needs a restart: {}", keys.join(", "))?;
    }
    Ok(out)
}

/// Prints what is wrong with a list and which timeouts are cut; returns the refused lines.
pub(super) fn examine_list(path: &Path, out: &mut Out) -> anyhow::Result<u64> {
    let mut file = TargetFile::open(path)?;
    let mut doubles = Doubles::default();
    let (mut rows, mut refused, mut cut) = (0u64, 0u64, 0u64);
    while let Some(next) = file.next()? {
        rows += 1;
        let judged = next.and_then(|row| match doubles.take(&row) {
            Ok(()) => Ok(row),
            Err(error) => Err(file.refused(row.line, error)),
        });
        let row = match judged {
            Ok(row) => row,
            Err(line) => {
                refused += 1;
                out.line(format_args!("# {line}"));
                continue;
            }
        };
        if let Some(sentence) = cut_timeout(&row) {
            cut += 1;
            if cut <= CUT_NAMED_MAX {
                out.line(format_args!(
                    "# {}:{}: {sentence}",
                    path.display(),
                    row.line
                ));
            }
        }
    }
    if cut > CUT_NAMED_MAX {
        let more = cut - CUT_NAMED_MAX;
        out.line(format_args!("# {more} more targets have a cut timeout"));
    }
    out.line(format_args!(
        "# {}: {rows} targets, {refused} refused, {cut} with a cut timeout",
        path.display()
    ));
    Ok(refused)
}

fn cut_timeout(row: &Row) -> Option<String> {
    let config = &row.config;
    let (given, effective) = (config.timeout_ms, config.effective_timeout_ms());
    let sentence = || {
        format!(
            "timeout_ms {given} is cut to {effective} (interval_s {}): {}",
            config.interval_s, config.check
        )
    };
    (effective < given).then(sentence)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn without_a_terminal_a_long_list_says_now_and_then_how_far_it_is() {
        let mut progress = RowProgress {
            counter: None,
            lines: 0,
        };
        let said: Vec<_> = (0..=250)
            .filter_map(|thousands| progress.reach(thousands * 1_000))
            .collect();
        assert_eq!(said, ["100000 rows so far", "200000 rows so far"]);
    }

    #[test]
    fn the_status_of_a_node_fits_a_screen() {
        let account = json!({ "due": 10, "pending": 1, "in_flight": 2, "probed": 7, "shed": 0,
            "stale": 0, "cancelled": 0, "held": 0, "sent": 7, "queued": 1,
            "drained": 6 });
        let lag = json!({ "p50": 900, "p99": 4_200, "p99_9": 12_000, "max": 15_100, "count": 7 });
        let answer = json!({
            "version": "0.1.0", "pid": 77, "state": "running", "uptime_s": 61,
            "driver": "io_uring", "store": "sqlite:/d/ringwatch.db", "admin": "127.0.0.1:9470",
            "balanced": true, "required_rate_per_s": 1.25, "fleet": account, "lag_us": lag,
            "targets": { "active": 9, "seems_down": 1, "down": 2, "refused": 3,
                "unconfirmed": 1 },
            "verdicts": { "up": 3, "degraded": 0, "down": 2, "unknown": 2 },
            "failures": { "connect.refused": 1, "dns.nxdomain": 1, "http.status": 0,
                "safety.blocked": 2 },
            "pressure": { "signals": [], "stance": "clear", "not_known": 2,
                "canaries": { "configured": 3, "answering": 3 } },
            "sink": { "journal_bytes": 2_621_440, "journal_max_bytes": 1_u64 << 32,
                "apply_lag": 17 },
            "legacy": { "sweep": { "rows_per_s": 3_334, "progress": 0.25, "age_s": 75.4 },
                "changes": { "changed": 4, "activated": 3, "deactivated": 2, "refused": 1 } },
            "cores": [
                { "core": 0, "cpu": 1, "targets": 9, "account": account, "deferred": 0,
                    "in_flight_limit": 500, "balanced": true, "lag_us": lag },
                { "core": 1, "cpu": 2, "targets": 9, "account": account, "deferred": 12,
                    "in_flight_limit": 500, "balanced": true, "lag_us": lag },
            ],
        });
        insta::assert_snapshot!(status(&answer));
    }

    #[test]
    fn a_node_that_doubts_itself_says_why_and_what_that_means() {
        let told = |signals: &[&str], stance: &str, answering: u8| {
            pressure(
                &json!({ "signals": signals, "stance": stance, "not_known": 0,
                "canaries": { "configured": answering, "answering": answering } }),
            )
        };
        assert_eq!(told(&[], "clear", 0), "none");
        assert_eq!(
            told(&["loop_lag", "ports"], "doubting", 2),
            "loop_lag, ports; CONNECT FAILURES AND TIMEOUTS ARE NOT BELIEVED; 2 of 2 canaries \
             answer"
        );
        assert_eq!(
            told(&["isolation"], "isolated", 0),
            "isolation; NO FAILURE IS BELIEVED"
        );
        let lasting = json!({ "signals": ["isolation"], "stance": "isolated", "not_known": 0,
            "dark_networks": 3, "node_suppressing": true });
        assert_eq!(
            pressure(&lasting),
            "isolation; NO FAILURE IS BELIEVED; 3 networks do not answer; AN INCIDENT OF THIS \
             NODE IS OPEN"
        );
    }

    #[test]
    fn trouble_of_the_journal_stands_in_the_status_in_capitals() {
        let told = |full: u8, alarm: u8| {
            journal(
                &json!({ "journal_bytes": 1 << 20, "journal_max_bytes": 1 << 20,
                "apply_lag": 9, "journal_full": full, "journal_alarm": alarm,
                "facts_waiting": 30 }),
            )
        };
        let well = "1.0 of 1 MiB, the store is 9 records behind";
        assert_eq!(told(0, 0), well);
        let full = format!("{well}; ITS DISK BUDGET IS USED UP, 30 facts wait");
        assert_eq!(told(1, 1), full);
        let broken = format!("{well}; IT CANNOT BE WRITTEN OR READ, 30 facts wait");
        assert_eq!(told(0, 1), broken);
    }

    #[test]
    fn a_fleet_without_a_failure_names_no_class() {
        let answer = json!({ "verdicts": { "up": 3 }, "failures": {} });
        assert_eq!(verdicts(&answer), "3 up, 0 degraded, 0 down, 0 unknown");
    }

    #[test]
    fn a_reload_says_what_it_did() {
        let answer = json!({
            "ok": true, "imported": null, "needs_restart": ["admin"],
            "applied": { "upserted": 2, "removed": 1, "waiting": 9 },
        });
        assert_eq!(
            reload(&answer).expect("rendered"),
            "reloaded: 2 targets placed or changed, 1 removed\n\
             9 more changes wait, a minute at most: the node is short of something\n\
             needs a restart: admin\n"
        );
    }
}
