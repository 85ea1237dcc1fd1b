//! `maintenance list`: every window with when it is now or next, as text or JSON lines.

use model::UnixMs;
use model::target::Maintenance;
use model::window::{Scope, Timing};
use serde_json::{Value, json};
use store::{Store, WindowRow};

use super::occurrences::{at, weekly_around};
use super::zones;
use crate::json_ids::json_id;
use crate::out::{self, Out};

/// Writes the windows to `out`; only those for the target `of`, when one is named.
pub(crate) async fn write(
    store: &Store,
    of: Option<(model::TargetId, u64)>,
    now: UnixMs,
    as_json: bool,
    out: &mut Out,
) -> anyhow::Result<()> {
    let list = store.windows().await?;
    let meant =
        |row: &&WindowRow| of.is_none_or(|(id, group)| row.window.scope().covers(id, group));
    let rows: Vec<&WindowRow> = list.rows.iter().filter(meant).collect();
    for row in &rows {
        if as_json {
            out.line(object(row, now));
        } else {
            out.line(line(row, now));
        }
    }
    out.flush();
    for (id, why) in &list.refused {
        out::remark(super::refusal(*id, why));
    }
    if rows.is_empty() {
        out::remark("no maintenance window: add one with `ringwatch maintenance add`");
    }
    Ok(())
}

/// The time that the window is at `now`, or comes next.
pub(crate) fn next(row: &WindowRow, now: UnixMs) -> Option<Maintenance> {
    let spans = match row.window.timing() {
        Timing::Once(span) => vec![*span],
        Timing::Weekly(weekly) => weekly_around(weekly, now)?,
    };
    let to_come = spans.into_iter().filter(|span| span.end_ms > now.0);
    to_come.min()
}

fn scope_text(scope: Scope) -> String {
    match scope {
        Scope::All => "all".to_owned(),
        Scope::Group(group) => format!("group {group}"),
        Scope::Target(target) => format!("target {target}"),
    }
}

/// One sentence on what the window is, for lists and the audit log.
pub(crate) fn sentence(row: &WindowRow) -> String {
    let when = match row.window.timing() {
        Timing::Once(Maintenance { start_ms, end_ms }) => {
            format!("{} to {}", shown(*start_ms), shown(*end_ms))
        }
        Timing::Weekly(weekly) => {
            let (hours, minutes) = (weekly.at_min() / 60, weekly.at_min() % 60);
            format!(
                "weekly {} {hours:02}:{minutes:02} for {} min, {}",
                weekly.days(),
                weekly.length_min(),
                weekly.zone()
            )
        }
    };
    let reason = match row.window.reason() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    format!(
        "window {}, {}, {when}{reason}",
        row.id.0,
        scope_text(row.window.scope())
    )
}

fn shown(ms: u64) -> String {
    at(UnixMs(ms)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn line(row: &WindowRow, now: UnixMs) -> String {
    let state = match next(row, now) {
        None if is_lost(row) => "its zone is not known".to_owned(),
        None => "over".to_owned(),
        Some(span) if span.start_ms < now.0 => format!("active until {}", shown(span.end_ms)),
        Some(span) => format!("next {}", shown(span.start_ms)),
    };
    format!("{}  ({state}; by {})", sentence(row), row.added_by)
}

/// Whether the machine's rules do not have the zone any more.
fn is_lost(row: &WindowRow) -> bool {
    match row.window.timing() {
        Timing::Once(_) => false,
        Timing::Weekly(weekly) => zones::find(weekly.zone()).is_err(),
    }
}

/// One window.
pub(crate) fn object(row: &WindowRow, now: UnixMs) -> Value {
    let (target, group) = match row.window.scope() {
        Scope::All => (None, None),
        Scope::Group(group) => (None, Some(group)),
        Scope::Target(target) => (Some(json_id(target.get())), None),
    };
    let weekly = match row.window.timing() {
        Timing::Once(_) => Value::Null,
        Timing::Weekly(weekly) => json!({
            "days": weekly.days().to_string(),
            "at_min": weekly.at_min(),
            "length_min": weekly.length_min(),
            "zone": weekly.zone(),
        }),
    };
    let next = next(row, now);
    json!({
        "id": row.id.0,
        "target": target,
        "group_id": group,
        "weekly": weekly,
        "active": next.is_some_and(|span| span.start_ms < now.0),
        "start_ms": next.map(|span| span.start_ms),
        "end_ms": next.map(|span| span.end_ms),
        "reason": row.window.reason(),
        "added_by": row.added_by,
        "added_at_ms": row.added_at.0,
    })
}

#[cfg(test)]
mod tests {
    use model::window::Weekly;
    use model::{Window, WindowId};

    use super::*;

    /// 2026-11-22T00:00:00Z, a Sunday.
    const NOW: UnixMs = UnixMs(1_795_305_600_000);

    fn row(timing: Timing) -> WindowRow {
        WindowRow {
            id: WindowId(4),
            window: Window::new(Scope::Group(3), timing, "backup").expect("a window"),
            added_by: "ann".to_owned(),
            added_at: NOW,
        }
    }

    #[test]
    fn a_window_says_when_it_is_now_or_next() {
        let once = |start: u64, end: u64| {
            let span = Maintenance {
                start_ms: NOW.0 - 1_000_000 + start,
                end_ms: NOW.0 - 1_000_000 + end,
            };
            line(&row(Timing::Once(span)), NOW)
        };
        assert!(
            once(0, 1_000_000).contains("(over; by ann)"),
            "{}",
            once(0, 1_000_000)
        );
        assert!(once(0, 1_060_000).contains("(active until 2026-11-22T00:01:00Z; by ann)"));
        assert!(once(1_060_000, 2_000_000).contains("(next 2026-11-22T00:01:00Z; by ann)"));
        let days = "mon".parse().expect("days");
        let weekly = Weekly::new(days, 150, 90, "Europe/Berlin").expect("valid");
        let weekly = row(Timing::Weekly(weekly));
        assert_eq!(
            line(&weekly, NOW),
            "window 4, group 3, weekly mon 02:30 for 90 min, Europe/Berlin: backup  (next \
             2026-11-23T01:30:00Z; by ann)"
        );
        let object = object(&weekly, NOW);
        assert_eq!(
            (&object["group_id"], &object["weekly"]["days"]),
            (&3.into(), &"mon".into())
        );
        assert_eq!(object["active"], false);
    }
}
