//! Events and transitions on their way out, where a restart resumes, and counts.

use model::fact::{CheckType, Event, Reason, State, Transition};
use model::{FactId, TargetId, UnixMs};
use rusqlite::{Connection, Params, Row};

use super::connection::Db;
use super::failure::Failure;
use super::lease;
use crate::Result;
use crate::answer::{EventFilter, Floors, OpenEvent, StoreCounts};
use crate::lease::Fence;
use crate::metadata;
use crate::rules::IS_CHECKED;

const EVENTS: &str = "jetpack_monitor_events";
const TRANSITIONS: &str = "jetpack_monitor_event_transitions";

/// Shards that have facts.
const NEWEST: &str = "SELECT shard, newest_fact FROM jetpack_monitor_shards
    WHERE newest_fact > 0 ORDER BY shard";

const EVENT_COLUMNS: &str = "id, blog_id, endpoint_id, check_type, discriminator, state, \
    started_at, ended_at, resolution_reason, fail_count, failure_class";

const TRANSITION_COLUMNS: &str = "id, event_id, endpoint_id, state_before, state_after, reason, \
    source, metadata, changed_at";

/// Without statistics the planner would walk every closed event to find the few open ones.
const OPEN: &str = "INDEXED BY jetpack_monitor_events_open WHERE ended_at IS NULL";

impl Db {
    pub(crate) fn open_events(&mut self) -> Result<Vec<OpenEvent>> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS},
                    (SELECT count(*) FROM {TRANSITIONS} WHERE event_id = {EVENTS}.id)
             FROM {EVENTS} {OPEN} ORDER BY id"
        );
        self.run(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([])?;
            let mut open = Vec::new();
            while let Some(row) = rows.next()? {
                open.push(OpenEvent {
                    event: read_event(row)?,
                    transitions: row.get(11)?,
                });
            }
            Ok(open)
        })
    }

    pub(crate) fn events(&mut self, filter: &EventFilter) -> Result<Vec<Event>> {
        let which = if filter.open_only { OPEN } else { "WHERE true" };
        let (whose, target) = match filter.target {
            Some(target) => ("endpoint_id = ?2", target.get()),
            None => ("?2 = 0", 0),
        };
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM {EVENTS} {which} AND {whose}
             ORDER BY id DESC LIMIT ?1"
        );
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        self.run(|connection| read_events(connection, &sql, (limit, target)))
    }

    pub(crate) fn transitions(&mut self, event: FactId) -> Result<Vec<Transition>> {
        let sql = format!(
            "SELECT {TRANSITION_COLUMNS} FROM {TRANSITIONS} WHERE event_id = ?1 ORDER BY id"
        );
        self.run(|connection| read_transitions(connection, &sql, [event.get()]))
    }

    pub(crate) fn event(&mut self, event: FactId) -> Result<Option<Event>> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM {EVENTS} WHERE id = ?1");
        self.run(|connection| Ok(read_events(connection, &sql, [event.get()])?.pop()))
    }

    pub(crate) fn newest_facts(&mut self) -> Result<Vec<FactId>> {
        self.run(|connection| newest_facts(connection))
    }

    pub(crate) fn transitions_between(
        &mut self,
        after: i64,
        upto: FactId,
        limit: usize,
    ) -> Result<Vec<Transition>> {
        let sql = format!(
            "SELECT {TRANSITION_COLUMNS} FROM {TRANSITIONS}
             WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3"
        );
        self.run(|connection| read_transitions(connection, &sql, (after, upto.get(), limit as i64)))
    }

    pub(crate) fn floors(&mut self, fence: Fence) -> Result<Floors> {
        self.run(|connection| {
            // One snapshot: a position without its ids would let an id be minted twice.
            let snapshot = connection.transaction()?;
            Ok(Floors {
                newest: newest_facts(&snapshot)?,
                journal_seq: journal_seq(&snapshot, "journal_id = ?1", fence.journal)?,
                superseded: lease::superseded(&snapshot, fence.journal)?,
            })
        })
    }

    pub(crate) fn active_targets(&mut self) -> Result<u64> {
        self.run(|connection| {
            let sql =
                format!("SELECT count(*) FROM jetpack_monitor_check_targets WHERE {IS_CHECKED}");
            let rows: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
            Ok(rows as u64)
        })
    }

    pub(crate) fn counts(&mut self) -> Result<StoreCounts> {
        self.run(|connection| {
            let snapshot = connection.transaction()?;
            let count = |rest: &str| -> Result<u64, Failure> {
                let sql = format!("SELECT count(*) FROM jetpack_monitor_{rest}");
                let rows: i64 = snapshot.query_row(&sql, [], |row| row.get(0))?;
                Ok(rows as u64)
            };
            Ok(StoreCounts {
                targets: count("check_targets")?,
                active: count(&format!("check_targets WHERE {IS_CHECKED}"))?,
                events: count("events")?,
                open_events: count("events WHERE ended_at IS NULL")?,
                transitions: count("event_transitions")?,
                jobs: count("jobs")?,
                freshness: count("site_runtime")?,
                latest_change: super::targets::latest_change(&snapshot)?,
                journal_seq: journal_seq(&snapshot, "?1 = 0", 0)?,
            })
        })
    }
}

fn newest_facts(connection: &Connection) -> Result<Vec<FactId>, Failure> {
    let mut statement = connection.prepare_cached(NEWEST)?;
    let mut rows = statement.query([])?;
    let mut newest = Vec::new();
    while let Some(row) = rows.next()? {
        let (shard, raw): (i64, i64) = (row.get(0)?, row.get(1)?);
        newest.push(fact_id(
            "jetpack_monitor_shards",
            shard,
            "newest_fact",
            raw,
        )?);
    }
    Ok(newest)
}

fn read_transitions(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<Vec<Transition>, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut transitions = Vec::new();
    while let Some(row) = rows.next()? {
        transitions.push(read_transition(row)?);
    }
    Ok(transitions)
}

fn journal_seq(connection: &Connection, which: &str, journal: i64) -> Result<u64, Failure> {
    let sql =
        format!("SELECT coalesce(max(journal_seq), 0) FROM jetpack_monitor_journals WHERE {which}");
    let seq: i64 = connection.query_row(&sql, [journal], |row| row.get(0))?;
    Ok(seq as u64)
}

fn read_events(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
) -> Result<Vec<Event>, Failure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(read_event(row)?);
    }
    Ok(events)
}

fn read_event(row: &Row<'_>) -> Result<Event, Failure> {
    let id: i64 = row.get(0)?;
    let check_type: String = row.get(3)?;
    let ended_at: Option<i64> = row.get(7)?;
    Ok(Event {
        id: fact_id(EVENTS, id, "id", id)?,
        group_id: row.get::<_, i64>(1)? as u64,
        target: target_id(EVENTS, id, row.get(2)?)?,
        check_type: known(EVENTS, id, "check_type", &check_type, CheckType::from_word)?,
        discriminator: row.get(4)?,
        state: state(EVENTS, id, "state", &row.get::<_, String>(5)?)?,
        started_at: UnixMs(row.get::<_, i64>(6)? as u64),
        ended_at: ended_at.map(|at| UnixMs(at as u64)),
        resolution: match row.get::<_, Option<String>>(8)? {
            None => None,
            Some(word) => Some(known(
                EVENTS,
                id,
                "resolution_reason",
                &word,
                Reason::from_word,
            )?),
        },
        fail_count: row.get(9)?,
        class: row.get(10)?,
    })
}

fn read_transition(row: &Row<'_>) -> Result<Transition, Failure> {
    let id: i64 = row.get(0)?;
    let before: Option<String> = row.get(3)?;
    let reason: String = row.get(5)?;
    let metadata: Option<String> = row.get(7)?;
    let json = metadata.as_deref().unwrap_or("{}");
    let known_then =
        metadata::read(json).map_err(|_| Failure::row(TRANSITIONS, id, "metadata", json))?;
    Ok(Transition {
        id: fact_id(TRANSITIONS, id, "id", id)?,
        event: fact_id(TRANSITIONS, id, "event_id", row.get(1)?)?,
        target: target_id(TRANSITIONS, id, row.get(2)?)?,
        before: before
            .map(|word| state(TRANSITIONS, id, "state_before", &word))
            .transpose()?,
        after: state(TRANSITIONS, id, "state_after", &row.get::<_, String>(4)?)?,
        reason: known(TRANSITIONS, id, "reason", &reason, Reason::from_word)?,
        source: row.get(6)?,
        changed_at: UnixMs(row.get::<_, i64>(8)? as u64),
        evidence: known_then.evidence,
        metadata: known_then.metadata,
    })
}

fn fact_id(
    table: &'static str,
    row: i64,
    column: &'static str,
    raw: i64,
) -> Result<FactId, Failure> {
    FactId::new(raw).ok_or_else(|| Failure::row(table, row, column, &raw.to_string()))
}

fn target_id(table: &'static str, row: i64, raw: i64) -> Result<TargetId, Failure> {
    TargetId::of_incident(raw)
        .ok_or_else(|| Failure::row(table, row, "endpoint_id", &raw.to_string()))
}

fn state(
    table: &'static str,
    row: i64,
    column: &'static str,
    word: &str,
) -> Result<State, Failure> {
    known(table, row, column, word, State::from_word)
}

fn known<T>(
    table: &'static str,
    row: i64,
    column: &'static str,
    word: &str,
    from_word: impl Fn(&str) -> Option<T>,
) -> Result<T, Failure> {
    from_word(word).ok_or_else(|| Failure::row(table, row, column, word))
}
