//! The page of false and true downs. Pure: text from a report.

use model::limits::DNS_STALE_MAX_MS;

use super::Report;
use super::judge::Row;
use super::plain::Plain;
use super::plan::{FAILING, INTERVAL_S, TIMEOUT_MS, Trouble};
use super::truedown::TrueDown;
use crate::demo::gate_list;
use crate::gates::Gate;
use crate::scenarios::spread;
use crate::table::{Table, grouped};

/// What no run of minutes can show.
const HELD: &str = "Our own pressure for ten minutes is one operator incident: on virtual time in \
    `incident::pressure::each_signal_of_local_pressure_makes_us_doubt_and_ten_minutes_of_it_are_\
    one_incident` and `persist::sink::beside::the_operator_is_told_once_that_failures_are_not_\
    believed_for_five_minutes`.";

/// The whole report, as Markdown that reads well in a terminal.
pub(super) fn markdown(report: &Report, gates: &[Gate]) -> String {
    let mut parts = vec![
        "# False and true downs".to_owned(),
        "`cargo xtask falsedown`".to_owned(),
        report.machine.line(),
    ];
    if !report.rows.is_empty() {
        parts.push(format!(
            "{} sites, half of them HTTPS, every {INTERVAL_S} s with a deadline of {TIMEOUT_MS} \
             ms; the probe core alone on its CPU, of which it needs {:.0} %, farm and store \
             (MariaDB) on the other one. In each trouble of ours {FAILING} sites really answer \
             503; everything else is well all the time.",
            grouped(report.sites.into()),
            100.0 * report.needed
        ));
        parts.push(troubles(&report.rows));
        parts.push(checks(&report.rows));
    }
    parts.extend(
        report
            .plain
            .as_ref()
            .map(|plain| comparison(plain, &report.rows)),
    );
    if let Some(true_down) = &report.true_down {
        parts.push("## Nothing wrong with us".to_owned());
        parts.push(true_downs(true_down));
    }
    parts.push(HELD.to_owned());
    parts.extend(
        report
            .left_out
            .iter()
            .map(|why| format!("Left out: {why}.")),
    );
    parts.push("## Gates".to_owned());
    parts.push(gate_list(gates) + "\n");
    parts.join("\n\n").replace("\n\n\n", "\n\n")
}

fn troubles(rows: &[Row]) -> String {
    let head = [
        "trouble",
        "lasts",
        "false incidents",
        "their classes",
        "found",
        "Down after, s",
        "within, s",
        "farm busy",
        "its lag p99",
        "valid",
    ];
    let mut table = Table::new(&head);
    for row in rows {
        let classes = row.false_classes.iter();
        let classes: Vec<String> = classes.map(|(class, n)| format!("{class} {n}")).collect();
        table.row([
            name(row),
            format!("{} s", row.slot.relief_s - row.slot.from_s),
            grouped(row.false_downs),
            if classes.is_empty() {
                "–".to_owned()
            } else {
                classes.join(", ")
            },
            format!("{} of {FAILING}", row.found),
            spread(row.delay),
            format!("{:.1}", f64::from(row.within_ms) / 1_000.0),
            format!("{:.0} %", 100.0 * row.seen.farm_busy),
            format!("{:.1} ms", row.seen.farm_lag_p99_ms),
            row.void.clone().unwrap_or_else(|| "yes".to_owned()),
        ]);
    }
    table.markdown()
}

/// An overload has its measure in its name.
fn name(row: &Row) -> String {
    let name = row.slot.trouble.name();
    match row.slot.trouble {
        Trouble::Overload => format!("{name}, {:.1} times", row.overload),
        _ => name.to_owned(),
    }
}

fn checks(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "trouble",
        "up",
        "down",
        "unknown",
        "shed",
        "failures by class",
        "what the trouble did",
    ]);
    for row in rows {
        let of = |verdict: &str| grouped(row.seen.verdicts.get(verdict).copied().unwrap_or(0));
        let classes = row.seen.classes.iter();
        let classes: Vec<String> = classes.map(|(class, n)| format!("{class} {n}")).collect();
        table.row([
            row.slot.trouble.name().to_owned(),
            of("up"),
            of("down"),
            of("unknown"),
            grouped(row.seen.shed),
            classes.join(", "),
            row.seen.bite.told(row.slot.trouble),
        ]);
    }
    format!(
        "Checks of each trouble and the calm after it:\n\n{}",
        table.markdown()
    )
}

/// Who calls sites down that are well, when it is short of CPU itself.
fn comparison(plain: &Plain, rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "who, short of CPU",
        "overload",
        "sites",
        "failed checks",
        "sites with one",
        "healthy sites called down",
        "valid",
    ]);
    let own = rows
        .iter()
        .find(|row| row.slot.trouble == Trouble::Overload);
    if let Some(row) = own {
        table.row([
            "ringwatch".to_owned(),
            format!("{:.1} times", row.overload),
            grouped(plain.sites.into()),
            "–".to_owned(),
            "–".to_owned(),
            grouped(row.false_downs),
            row.void.clone().unwrap_or_else(|| "yes".to_owned()),
        ]);
    }
    let told = &plain.told;
    table.row([
        "tokio + hyper, a timeout".to_owned(),
        format!("{:.1} times", plain.overload),
        grouped(plain.sites.into()),
        format!(
            "{} of {}; {} by the timeout, {} for want of files or ports",
            grouped(told.failed),
            grouped(told.checks),
            grouped(told.timed_out),
            grouped(told.refused_here)
        ),
        grouped(told.sites_failed),
        format!(
            "{} ({})",
            grouped(told.sites_down),
            percent(told.sites_down, plain.sites)
        ),
        plain.void.clone().unwrap_or_else(|| "yes".to_owned()),
    ]);
    format!(
        "## The same, written plainly\n\nA client of tokio and hyper in the place of the node: the \
         same sites, interval, deadline and CPU, left a quarter of what it needs itself ({:.0} % \
         of a CPU) for {} s by the same burners. It is given its addresses, and calls a site down \
         after three failing checks in a row; every site is well. No client in another language \
         is run: what is compared is whether a timeout is taken for the site's fault, and that \
         takes no other toolchain.\n\n{}",
        100.0 * plain.needed,
        plain.lasts_s,
        table.markdown()
    )
}

fn percent(part: u64, of: u32) -> String {
    format!("{:.0} %", 100.0 * part as f64 / f64::from(of.max(1)))
}

fn true_downs(found: &TrueDown) -> String {
    let mut table = Table::new(&[
        "what fails",
        "sites",
        "found",
        "Down after, s",
        "well again",
    ]);
    for row in &found.rows {
        table.row([
            row.kind.clone(),
            row.sites.to_string(),
            row.confirmed.to_string(),
            spread(row.down),
            row.recovered.to_string(),
        ]);
    }
    format!(
        "Three tenths of the names SERVFAIL, then two fifths of the sites drop every connect, for \
         {} s each; canaries answer.{}\n\nThe names fail from before the node's start: one that \
         was answered before is checked at its last address for {} min beyond its TTL (RFC 8767), \
         so that a name server which fails later says nothing of its sites until then.\n\n{}",
        found.lasts_s,
        if found.doubts.suppressing {
            " `node_suppressing` was opened."
        } else {
            ""
        },
        DNS_STALE_MAX_MS / 60_000,
        table.markdown()
    )
}

#[cfg(test)]
mod tests {
    use super::super::plain::Told;
    use super::*;

    #[test]
    fn the_plain_client_is_shown_with_how_many_healthy_sites_it_calls_down() {
        let plain = Plain {
            sites: 9_000,
            needed: 0.25,
            overload: 4.2,
            lasts_s: 85,
            told: Told {
                failed_before: 0,
                checks: 70_000,
                failed: 40_000,
                timed_out: 39_990,
                refused_here: 10,
                unfinished: 0,
                sites_failed: 8_999,
                sites_down: 7_740,
            },
            farm_busy: 0.2,
            farm_lag_p99_ms: 1.0,
            void: None,
        };
        let text = comparison(&plain, &[]);
        for said in ["4.2 times", "40,000 of 70,000", "7,740 (86 %)", " yes |"] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
}
