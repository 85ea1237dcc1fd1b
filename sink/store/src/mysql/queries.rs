//! Events and transitions on their way out, where a restart resumes, and counts.

use std::collections::HashMap;

use model::fact::{CheckType, Event, Reason, State, Transition};
use model::{FactId, TargetId, UnixMs};
use mysql_async::{Row, Value};

use super::legacy;
use super::session::{Session, read};
use super::targets::whole;
use crate::answer::{EventFilter, Floors, OpenEvent, StoreCounts};
use crate::lease::Fence;
use crate::metadata;
use crate::rules::IS_CHECKED;
use crate::{Result, StoreError};

const EVENTS: &str = "jetpack_monitor_events";
const TRANSITIONS: &str = "jetpack_monitor_event_transitions";

/// Rows of one statement that reads open events.
const OPEN_EVENTS_PAGE: usize = 2_000;

const EVENT_COLUMNS: &str = "id, blog_id, endpoint_id, check_type, discriminator, state, \
    started_at, ended_at, resolution_reason, fail_count, failure_class";

const TRANSITION_COLUMNS: &str = "id, event_id, endpoint_id, state_before, state_after, reason, \
    source, metadata, changed_at";

/// Shards that have facts.
const NEWEST: &str = "SELECT shard, newest_fact FROM jetpack_monitor_shards \
    WHERE newest_fact > 0 ORDER BY shard";

type EventRow = (
    i64,
    i64,
    i64,
    String,
    Option<String>,
    String,
    i64,
    Option<i64>,
    Option<String>,
    u32,
    u8,
);

type TransitionRow = (
    i64,
    i64,
    i64,
    Option<String>,
    String,
    String,
    String,
    Option<String>,
    i64,
);

impl Session {
    pub(crate) async fn open_events(&mut self) -> Result<Vec<OpenEvent>> {
        self.read(async |session: &mut Self| {
            let events = session.all_open_events().await?;
            let ids = events.iter().map(|event| Value::Int(event.id.get()));
            let head = format!("SELECT event_id, COUNT(*) FROM {TRANSITIONS} WHERE event_id IN");
            let rows = session
                .fetch_many((&head, "GROUP BY event_id"), &[], ids.collect())
                .await?;
            let mut counts = HashMap::new();
            for row in rows {
                let (event, count): (i64, u32) = read(session.url(), row)?;
                counts.insert(event, count);
            }
            let open = events.into_iter().map(|event| OpenEvent {
                transitions: counts.get(&event.id.get()).copied().unwrap_or(0),
                event,
            });
            Ok(open.collect())
        })
        .await
    }

    /// By pages along the index of open events: in a large outage they are hundreds of thousands,
    /// and no statement may run into its time limit for that.
    async fn all_open_events(&mut self) -> Result<Vec<Event>> {
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM {EVENTS} WHERE ended_at IS NULL AND endpoint_id >= ? \
             AND (endpoint_id > ? OR id > ?) ORDER BY endpoint_id, id LIMIT {OPEN_EVENTS_PAGE}"
        );
        let mut all = Vec::new();
        let mut after = [0; 3];
        loop {
            let rows = self.fetch(&sql, after.map(Value::Int).into()).await?;
            let page = self.events_of(rows)?;
            let Some(last) = page.last() else {
                all.sort_unstable_by_key(|event: &Event| event.id);
                return Ok(all);
            };
            let target = last.target.get();
            after = [target, target, last.id.get()];
            all.extend(page);
        }
    }

    pub(crate) async fn events(&mut self, filter: &EventFilter) -> Result<Vec<Event>> {
        let which = if filter.open_only {
            "ended_at IS NULL"
        } else {
            "TRUE"
        };
        let (whose, mut parameters) = match filter.target {
            Some(target) => ("endpoint_id = ?", vec![Value::Int(target.get())]),
            None => ("TRUE", Vec::new()),
        };
        parameters.push(Value::Int(whole(filter.limit)));
        let sql = format!(
            "SELECT {EVENT_COLUMNS} FROM {EVENTS} WHERE {which} AND {whose}
             ORDER BY id DESC LIMIT ?"
        );
        self.read(async |session: &mut Self| {
            let rows = session.fetch(&sql, parameters).await?;
            session.events_of(rows)
        })
        .await
    }

    pub(crate) async fn transitions(&mut self, event: FactId) -> Result<Vec<Transition>> {
        let sql = format!(
            "SELECT {TRANSITION_COLUMNS} FROM {TRANSITIONS} WHERE event_id = ? ORDER BY id"
        );
        let rows = self.ask(&sql, vec![Value::Int(event.get())]).await?;
        self.transitions_of(rows)
    }

    pub(crate) async fn transitions_between(
        &mut self,
        after: i64,
        upto: FactId,
        limit: usize,
    ) -> Result<Vec<Transition>> {
        let sql = format!(
            "SELECT {TRANSITION_COLUMNS} FROM {TRANSITIONS} WHERE id > ? AND id <= ? \
             ORDER BY id LIMIT ?"
        );
        let range = [after, upto.get(), whole(limit)].map(Value::Int);
        let rows = self.ask(&sql, range.into()).await?;
        self.transitions_of(rows)
    }

    fn transitions_of(&self, rows: Vec<Row>) -> Result<Vec<Transition>> {
        rows.into_iter()
            .map(|row| transition(read(self.url(), row)?))
            .collect()
    }

    pub(crate) async fn event(&mut self, event: FactId) -> Result<Option<Event>> {
        let sql = format!("SELECT {EVENT_COLUMNS} FROM {EVENTS} WHERE id = ?");
        let rows = self.ask(&sql, vec![Value::Int(event.get())]).await?;
        Ok(self.events_of(rows)?.pop())
    }

    pub(crate) async fn newest_facts(&mut self) -> Result<Vec<FactId>> {
        let rows = self.ask(NEWEST, Vec::new()).await?;
        self.newest_of(rows)
    }

    fn newest_of(&self, rows: Vec<Row>) -> Result<Vec<FactId>> {
        let newest = |row: Row| {
            let (shard, raw): (i64, i64) = read(self.url(), row)?;
            fact_id("jetpack_monitor_shards", shard, "newest_fact", raw)
        };
        rows.into_iter().map(newest).collect()
    }

    pub(crate) async fn floors(&mut self, fence: Fence) -> Result<Floors> {
        // One snapshot: a position without its ids would let an id be minted twice.
        self.read(async |session: &mut Self| {
            let newest = session.fetch(NEWEST, Vec::new()).await?;
            Ok(Floors {
                newest: session.newest_of(newest)?,
                journal_seq: session.journal_seq("journal_id = ?", fence.journal).await?,
                superseded: session.superseded(fence.journal).await?,
            })
        })
        .await
    }

    pub(crate) async fn counts(&mut self) -> Result<StoreCounts> {
        self.read(async |session: &mut Self| {
            let (targets, active) = match session.source() {
                Some(legacy) => session.legacy_counts(&legacy).await?,
                None => (
                    session.count("check_targets").await?,
                    session
                        .count(&format!("check_targets WHERE {IS_CHECKED}"))
                        .await?,
                ),
            };
            Ok(StoreCounts {
                targets,
                active,
                events: session.count("events").await?,
                open_events: session.count("events WHERE ended_at IS NULL").await?,
                transitions: session.count("event_transitions").await?,
                jobs: session.count("jobs").await?,
                freshness: session.count("site_runtime").await?,
                latest_change: session.latest_change().await?,
                journal_seq: session.journal_seq("? = 0", 0).await?,
            })
        })
        .await
    }

    pub(crate) async fn active_targets(&mut self) -> Result<u64> {
        let sql = match self.source() {
            Some(legacy) => legacy::count_checked(&legacy),
            None => {
                format!("SELECT COUNT(*) FROM jetpack_monitor_check_targets WHERE {IS_CHECKED}")
            }
        };
        Ok(self.number(&sql, Vec::new()).await?.unwrap_or(0) as u64)
    }

    async fn count(&mut self, rest: &str) -> Result<u64> {
        let sql = format!("SELECT COUNT(*) FROM jetpack_monitor_{rest}");
        Ok(self.number(&sql, Vec::new()).await?.unwrap_or(0) as u64)
    }

    async fn journal_seq(&mut self, which: &str, journal: i64) -> Result<u64> {
        let sql = format!("SELECT MAX(journal_seq) FROM jetpack_monitor_journals WHERE {which}");
        let found = self.number(&sql, vec![Value::Int(journal)]).await?;
        Ok(found.unwrap_or(0) as u64)
    }

    fn events_of(&self, rows: Vec<Row>) -> Result<Vec<Event>> {
        rows.into_iter()
            .map(|row| event(read(self.url(), row)?))
            .collect()
    }
}

fn event(row: EventRow) -> Result<Event> {
    let (id, blog, target, check_type, discriminator, state, ..) = row;
    let (.., started_at, ended_at, resolution, fail_count, class) = row;
    Ok(Event {
        id: fact_id(EVENTS, id, "id", id)?,
        group_id: blog as u64,
        target: target_id(EVENTS, id, target)?,
        check_type: known(EVENTS, id, "check_type", &check_type, CheckType::from_word)?,
        discriminator,
        state: known(EVENTS, id, "state", &state, State::from_word)?,
        started_at: UnixMs(started_at as u64),
        ended_at: ended_at.map(|at| UnixMs(at as u64)),
        resolution: resolution
            .map(|word| known(EVENTS, id, "resolution_reason", &word, Reason::from_word))
            .transpose()?,
        fail_count,
        class,
    })
}

fn transition(row: TransitionRow) -> Result<Transition> {
    let (id, event, target, before, after, reason, source, metadata, changed_at) = row;
    let state = |column, word: &str| known(TRANSITIONS, id, column, word, State::from_word);
    let json = metadata.as_deref().unwrap_or("{}");
    let known_then =
        metadata::read(json).map_err(|_| bad_row(TRANSITIONS, id, "metadata", json))?;
    Ok(Transition {
        id: fact_id(TRANSITIONS, id, "id", id)?,
        event: fact_id(TRANSITIONS, id, "event_id", event)?,
        target: target_id(TRANSITIONS, id, target)?,
        before: before
            .map(|word| state("state_before", &word))
            .transpose()?,
        after: state("state_after", &after)?,
        reason: known(TRANSITIONS, id, "reason", &reason, Reason::from_word)?,
        source,
        changed_at: UnixMs(changed_at as u64),
        evidence: known_then.evidence,
        metadata: known_then.metadata,
    })
}

fn fact_id(table: &'static str, row: i64, column: &'static str, raw: i64) -> Result<FactId> {
    FactId::new(raw).ok_or_else(|| bad_row(table, row, column, &raw.to_string()))
}

fn target_id(table: &'static str, row: i64, raw: i64) -> Result<TargetId> {
    TargetId::of_incident(raw).ok_or_else(|| bad_row(table, row, "endpoint_id", &raw.to_string()))
}

fn known<T>(
    table: &'static str,
    row: i64,
    column: &'static str,
    word: &str,
    from_word: impl Fn(&str) -> Option<T>,
) -> Result<T> {
    from_word(word).ok_or_else(|| bad_row(table, row, column, word))
}

pub(super) fn bad_row(
    table: &'static str,
    id: i64,
    column: &'static str,
    found: &str,
) -> StoreError {
    StoreError::BadRow {
        table,
        id,
        column,
        found: found.chars().take(120).collect(),
    }
}
