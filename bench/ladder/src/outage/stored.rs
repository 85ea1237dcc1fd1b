//! What is in the tables after an outage, asked of the server itself: stories that are whole, in
//! order, and told once.

use anyhow::{Context, Result};

use super::Complaints;
use crate::mariadb::MariaDb;

/// Counts of rows, and of rows that should not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) events: u64,
    pub(super) transitions: u64,
    pub(super) jobs: u64,
    wrong: Vec<(&'static str, u64)>,
}

/// Rows that break a story, and what it means when there are any.
const WRONG: [(&str, &str); 7] = [
    (
        "transitions that do not begin where the one before them ended",
        "SELECT COUNT(*) FROM (SELECT state_before, LAG(state_after) OVER (PARTITION BY event_id \
         ORDER BY id) AS previous FROM jetpack_monitor_event_transitions) AS t \
         WHERE NOT (state_before <=> previous)",
    ),
    (
        "transitions of a target that are older than the one before them",
        "SELECT COUNT(*) FROM (SELECT changed_at, LAG(changed_at) OVER (PARTITION BY endpoint_id \
         ORDER BY id) AS previous FROM jetpack_monitor_event_transitions) AS t \
         WHERE changed_at < previous",
    ),
    (
        "events of a target that begin before the one before them ended",
        "SELECT COUNT(*) FROM (SELECT started_at, ended_at, LAG(ended_at) OVER (PARTITION BY \
         endpoint_id ORDER BY id) AS previous FROM jetpack_monitor_events) AS e \
         WHERE started_at < previous",
    ),
    (
        "events whose last transition says another state",
        "SELECT COUNT(*) FROM jetpack_monitor_events AS e JOIN \
         jetpack_monitor_event_transitions AS t ON t.id = (SELECT MAX(l.id) FROM \
         jetpack_monitor_event_transitions AS l WHERE l.event_id = e.id) WHERE e.ended_at IS NOT \
         NULL AND t.state_after <> 'Resolved'",
    ),
    (
        "events without a transition",
        "SELECT COUNT(*) FROM jetpack_monitor_events AS e WHERE NOT EXISTS (SELECT 1 FROM \
         jetpack_monitor_event_transitions AS t WHERE t.event_id = e.id)",
    ),
    (
        "transitions without exactly one job",
        "SELECT COUNT(*) FROM jetpack_monitor_event_transitions AS t WHERE (SELECT COUNT(*) FROM \
         jetpack_monitor_jobs AS j WHERE j.incident_id = t.event_id AND j.transition_id = t.id) \
         <> 1",
    ),
    (
        "sites that are up and are not said to be",
        "SELECT COUNT(*) FROM jetpack_monitor_check_targets AS s WHERE s.site_status <> 1 AND NOT \
         EXISTS (SELECT 1 FROM jetpack_monitor_events AS e WHERE e.endpoint_id = s.id AND \
         e.ended_at IS NULL)",
    ),
];

impl Stored {
    pub(super) fn read(server: &MariaDb, database: &str) -> Result<Self> {
        let number = |sql: &str| -> Result<u64> {
            let text = server.sql(&format!("USE {database}; {sql}"))?;
            text.parse().with_context(|| format!("no number: {text}"))
        };
        // Each job is looked for by its transition, which no key of the node's knows.
        server.sql(&format!(
            "USE {database}; CREATE INDEX ladder_jobs ON jetpack_monitor_jobs (transition_id)"
        ))?;
        let count = |table: &str| number(&format!("SELECT COUNT(*) FROM jetpack_monitor_{table}"));
        let mut stored = Self {
            events: count("events")?,
            transitions: count("event_transitions")?,
            jobs: count("jobs")?,
            wrong: Vec::new(),
        };
        for (what, sql) in WRONG {
            stored.wrong.push((what, number(sql)?));
        }
        Ok(stored)
    }

    pub(super) fn complaints(&self) -> Complaints {
        let wrong = self.wrong.iter().filter(|(_, count)| *count > 0);
        let mut complaints: Complaints = wrong
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        if self.events == 0 {
            complaints.push("no event is stored".to_owned());
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_should_not_be_are_complained_of() {
        let stored = |count, events| Stored {
            events,
            wrong: vec![("odd ones", 0), ("events without a transition", count)],
            ..Stored::default()
        };
        assert!(stored(0, 1).complaints().is_empty());
        assert_eq!(stored(3, 1).complaints(), ["3 events without a transition"]);
        assert_eq!(stored(0, 0).complaints(), ["no event is stored"]);
    }
}
