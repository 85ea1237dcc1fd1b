//! What is in the tables of a store, all of it at once and by its numbers: asked in SQL, since a
//! store answers for one event at a time.

use std::collections::BTreeMap;
use std::path::Path;

use rig::mariadb;
use rusqlite::Connection;

use super::place::database;

/// Transitions without a job row, job rows without a transition, and job rows that are not the
/// first of their transition.
const WIDOWS: [&str; 3] = [
    "SELECT COUNT(*), 0 FROM jetpack_monitor_event_transitions WHERE id NOT IN \
     (SELECT transition_id FROM jetpack_monitor_jobs WHERE transition_id IS NOT NULL)",
    "SELECT COUNT(*), 0 FROM jetpack_monitor_jobs WHERE transition_id IS NULL OR transition_id \
     NOT IN (SELECT id FROM jetpack_monitor_event_transitions)",
    "SELECT COUNT(transition_id) - COUNT(DISTINCT transition_id), 0 FROM jetpack_monitor_jobs",
];
/// Transitions that do not begin where the one before ended, events that are not in the state of
/// their last transition, and targets with two open events.
const TORN: [&str; 3] = [
    "SELECT COUNT(*), 0 FROM (SELECT state_before AS own, LAG(state_after) OVER \
     (PARTITION BY event_id ORDER BY id) AS before_it FROM jetpack_monitor_event_transitions) \
     AS chain WHERE COALESCE(own, '') <> COALESCE(before_it, '')",
    "SELECT COUNT(*), 0 FROM jetpack_monitor_events AS event LEFT JOIN \
     (SELECT event_id, MAX(id) AS last FROM jetpack_monitor_event_transitions GROUP BY event_id) \
     AS chain ON chain.event_id = event.id LEFT JOIN jetpack_monitor_event_transitions AS told \
     ON told.id = chain.last WHERE COALESCE(told.state_after, '') <> \
     CASE WHEN event.ended_at IS NULL THEN event.state ELSE 'Resolved' END",
    "SELECT COUNT(*), 0 FROM (SELECT endpoint_id FROM jetpack_monitor_events \
     WHERE ended_at IS NULL GROUP BY endpoint_id HAVING COUNT(*) > 1) AS doubled",
];

/// Every row has those that it comes with, once, and every event is as its transitions tell.
pub(super) fn assert_whole(directory: &Path) {
    for sql in WIDOWS.into_iter().chain(TORN) {
        assert_eq!(ask(directory, sql), [(0, 0)], "{sql}");
    }
}

/// Transitions by number, with their targets.
pub(super) fn transitions(directory: &Path) -> BTreeMap<i64, i64> {
    let sql = "SELECT id, endpoint_id FROM jetpack_monitor_event_transitions";
    ask(directory, sql).into_iter().collect()
}

/// How many transitions there are.
pub(super) fn count(directory: &Path) -> i64 {
    ask(
        directory,
        "SELECT COUNT(*), 0 FROM jetpack_monitor_event_transitions",
    )[0]
    .0
}

/// How many events each target has, where each is over, was confirmed by three checks or more, and
/// has three transitions.
pub(super) fn whole_outages(directory: &Path) -> BTreeMap<i64, i64> {
    let odd = "SELECT COUNT(*), 0 FROM (SELECT event.id FROM jetpack_monitor_events AS event \
               JOIN jetpack_monitor_event_transitions AS told ON told.event_id = event.id \
               GROUP BY event.id, event.ended_at, event.fail_count \
               HAVING event.ended_at IS NULL OR event.fail_count < 3 OR COUNT(*) <> 3) AS odd";
    assert_eq!(ask(directory, odd), [(0, 0)], "outages that are not whole");
    let sql = "SELECT endpoint_id, COUNT(*) FROM jetpack_monitor_events GROUP BY endpoint_id";
    ask(directory, sql).into_iter().collect()
}

/// The rows of an answer of two numbers each.
fn ask(directory: &Path, sql: &str) -> Vec<(i64, i64)> {
    let Some(name) = database(directory) else {
        let file = Connection::open(directory.join("facts.db")).expect("the file opens");
        let mut asked = file.prepare(sql).expect("SQL");
        let rows = asked.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        return rows
            .expect("asked")
            .collect::<Result<_, _>>()
            .expect("rows");
    };
    let text = mariadb::shared().sql(&format!("USE {name};\n{sql};\n"));
    let number = |text: &str| text.parse().expect("a number");
    let row = |line: &str| {
        let (one, other) = line.split_once('\t').expect("two columns");
        (number(one), number(other))
    };
    text.lines().map(row).collect()
}
