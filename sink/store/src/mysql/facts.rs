//! Applies facts. Everything a state change owes is written if, and only if, its transition row is
//! new; that also decides whether the fact may touch its event at all.
//!
//! The rows that a batch is about are read first, what becomes of them is decided in memory
//! ([`Decided`]), fact by fact, and then written with a few statements for all of them: nobody else
//! writes these rows meanwhile: the shards are this node's, and the other half of a large batch
//! ([`super::halves`]) is of other targets.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::fact::{Batch, Event, Fact, Job, Reason, State, Transition};
use model::{FactId, TargetId};
use mysql_async::Value;

use self::decide::{Decided, EventChange, within};
use super::by_key::{ByKey, Column, Rows};
use super::insert::Many;
use super::legacy;
use super::session::{Session, read};
use crate::answer::Applied;
use crate::false_alarm::FalsePositive;
use crate::lease::Fence;
use crate::metadata;
use crate::rules::{JOB_ATTEMPTS_MAX, QUEUE_INTERNAL};
use crate::{Result, StoreError};

mod decide;

const ADVANCE: &str = "UPDATE jetpack_monitor_journals SET journal_seq = ? \
    WHERE journal_id = ? AND journal_seq < ? AND journal_seq >= ?";

const POSITION: &str = "SELECT journal_seq FROM jetpack_monitor_journals WHERE journal_id = ?";

const EVENTS: &str = "SELECT id, endpoint_id, check_type, discriminator, state, \
    ended_at IS NOT NULL, fail_count FROM jetpack_monitor_events WHERE id IN";

/// The index that a statement names: without it under this name no fact is ever applied.
pub(super) const FORCED_INDEX: &str = "jetpack_monitor_events_open";

/// Whoever may hold an identity of a target is among them. While the table grows the server knows
/// it as it was, and read all of it for the first batches: hence the index, [`FORCED_INDEX`].
const OPEN_EVENTS: &str = "SELECT id, endpoint_id, check_type, discriminator, state, \
    ended_at IS NOT NULL, fail_count FROM jetpack_monitor_events \
    FORCE INDEX (jetpack_monitor_events_open) WHERE ended_at IS NULL AND endpoint_id IN";

const TRANSITIONS: &str = "SELECT id FROM jetpack_monitor_event_transitions WHERE id IN";

const FLOORS: &str = "SELECT shard, newest_fact FROM jetpack_monitor_shards WHERE shard IN";

const INSERT_TRANSITIONS: (&str, &str) = (
    "INSERT INTO jetpack_monitor_event_transitions (id, event_id, blog_id, endpoint_id, \
     severity_before, severity_after, state_before, state_after, reason, source, metadata, \
     changed_at) VALUES",
    "(?,?,?,?,?,?,?,?,?,?,?,?)",
);

/// `started_at` and the identity never move.
const UPSERT_EVENTS: (&str, &str, &str) = (
    "INSERT INTO jetpack_monitor_events (id, blog_id, endpoint_id, check_type, discriminator, \
     severity, state, started_at, ended_at, resolution_reason, fail_count, failure_class, \
     updated_at) VALUES",
    "(?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "ON DUPLICATE KEY UPDATE severity = VALUES(severity), state = VALUES(state), \
     ended_at = VALUES(ended_at), resolution_reason = VALUES(resolution_reason), \
     fail_count = VALUES(fail_count), failure_class = VALUES(failure_class), \
     updated_at = VALUES(updated_at)",
);

/// A job that is there already, by its id or as active work of the same kind, stays as it is.
const INSERT_JOBS: (&str, &str, &str) = (
    "INSERT INTO jetpack_monitor_jobs (id, kind, queue, endpoint_id, incident_id, transition_id, \
     seq, run_at, max_attempts, ukey, created_at) VALUES",
    "(?,?,?,?,?,?,?,?,?,?,?)",
    "ON DUPLICATE KEY UPDATE id = id",
);

const INSERT_FALSE_POSITIVES: (&str, &str, &str) = (
    "INSERT INTO jetpack_monitor_false_positives (id, blog_id, http_code, error_code, created_at) \
     VALUES",
    "(?,?,?,?,?)",
    "ON DUPLICATE KEY UPDATE id = id",
);

const RAISE_COUNTS: ByKey<1> = ByKey {
    table: Cow::Borrowed("jetpack_monitor_events"),
    key: Cow::Borrowed("id"),
    columns: [Column::plain("fail_count")],
};

const PROJECT_STATUSES: ByKey<2> = ByKey {
    table: Cow::Borrowed("jetpack_monitor_check_targets"),
    key: Cow::Borrowed("id"),
    columns: [
        Column::plain("site_status"),
        Column::plain("last_status_change"),
    ],
};

const RAISE_FLOORS: (&str, &str, &str) = (
    "INSERT INTO jetpack_monitor_shards (shard, node_id, since_epoch, newest_fact) VALUES",
    "(?,?,?,?)",
    "ON DUPLICATE KEY UPDATE newest_fact = GREATEST(newest_fact, VALUES(newest_fact))",
);

impl Session {
    /// Applies `batch` and moves the position of its journal.
    pub(super) async fn apply(
        &mut self,
        fence: Fence,
        batch: &Batch,
        acknowledged: u64,
    ) -> Result<Applied> {
        self.connect().await?;
        let facts: Vec<&Fact> = batch.facts.iter().collect();
        // Each statement has its time limit, the whole has none: a server that is far away, or
        // slow, gets its facts late, but it gets them.
        self.write(async |session: &mut Self| {
            session.require(fence).await?;
            if session
                .move_to(fence, batch.journal_seq, acknowledged)
                .await?
            {
                return session.apply_facts(fence, &facts).await;
            }
            Ok(Applied::already(facts.len()))
        })
        .await
    }

    /// Applies `facts`, a part of a batch whose position is moved afterwards.
    pub(super) async fn apply_part(&mut self, fence: Fence, facts: &[&Fact]) -> Result<Applied> {
        self.connect().await?;
        self.write(async |session: &mut Self| {
            session.require(fence).await?;
            session.apply_facts(fence, facts).await
        })
        .await
    }

    /// Whether the store has the batch `seq` by its position.
    pub(super) async fn has_batch(
        &mut self,
        fence: Fence,
        seq: u64,
        acknowledged: u64,
    ) -> Result<bool> {
        self.write(async |session: &mut Self| {
            session.require(fence).await?;
            Ok(session.position(fence, acknowledged).await? >= seq)
        })
        .await
    }

    /// Moves the position of the journal to the batch `seq`, all of which is there.
    pub(super) async fn advance(
        &mut self,
        fence: Fence,
        seq: u64,
        acknowledged: u64,
    ) -> Result<()> {
        self.write(async |session: &mut Self| {
            session.require(fence).await?;
            session.move_to(fence, seq, acknowledged).await.map(drop)
        })
        .await
    }

    /// Commits are as durable as the server's `innodb_flush_log_at_trx_commit` makes them: there
    /// is nothing to add, but that the server is there.
    pub(crate) async fn sync(&mut self) -> Result<()> {
        self.begin(&["START TRANSACTION"]).await?;
        self.commit().await
    }

    /// Moves the position of the journal to the batch `seq`, unless it is there, or beyond it.
    async fn move_to(&mut self, fence: Fence, seq: u64, acknowledged: u64) -> Result<bool> {
        let position = [seq as i64, fence.journal, seq as i64, acknowledged as i64];
        let position = position.map(Value::Int).into();
        if self.execute(ADVANCE, position).await? > 0 {
            return Ok(true);
        }
        self.position(fence, acknowledged).await?;
        Ok(false)
    }

    /// How far the store is; the error: it has less than it acknowledged.
    async fn position(&mut self, fence: Fence, acknowledged: u64) -> Result<u64> {
        let journal = vec![Value::Int(fence.journal)];
        let position = self.number(POSITION, journal).await?;
        let found = position.unwrap_or(0) as u64;
        if position.is_none() || found < acknowledged {
            return Err(StoreError::SetBack {
                store: self.url().to_string(),
                found,
                acknowledged,
            });
        }
        Ok(found)
    }

    async fn apply_facts(&mut self, fence: Fence, facts: &[&Fact]) -> Result<Applied> {
        let mut decided = self.look(facts).await?;
        for fact in facts {
            decided.take(fact);
        }
        let jobs = self.write_decided(&decided).await?;
        self.raise_floors(fence, facts).await?;
        let mut applied = decided.applied;
        applied.jobs = jobs;
        Ok(applied)
    }

    /// Reads every row that decides what becomes of `facts`: the open events of their targets, and
    /// what is there of their ids. New ones are not looked for: ids above the newest that was ever
    /// applied to their shard.
    async fn look<'a>(&mut self, facts: &[&'a Fact]) -> Result<Decided<'a>> {
        let mut decided = Decided::default();
        let open = self.fetch_many((OPEN_EVENTS, ""), &[], targets(facts));
        for row in open.await? {
            decided.knows_event(read(self.url(), row)?);
        }
        let floors = self.floors_of(facts).await?;
        let may_be_there = |id: &FactId| {
            let floor = floors.get(&i64::from(id.shard().get()));
            floor.is_none_or(|floor| id.get() <= *floor)
        };
        let (mut events, mut transitions) = (BTreeSet::new(), Vec::new());
        for &fact in facts {
            let (event, transition) = match fact {
                Fact::Counted { event, .. } => (*event, None),
                Fact::Transitioned {
                    event, transition, ..
                } => (event.id, Some(transition.id)),
            };
            transitions.extend(transition.filter(may_be_there));
            if may_be_there(&event) && !decided.has_event(event.get()) {
                events.insert(event.get());
            }
        }
        let events = events.into_iter().map(Value::Int).collect();
        for row in self.fetch_many((EVENTS, ""), &[], events).await? {
            decided.knows_event(read(self.url(), row)?);
        }
        let transitions = transitions.iter().map(|id| Value::Int(id.get()));
        let transitions = transitions.collect();
        for row in self.fetch_many((TRANSITIONS, ""), &[], transitions).await? {
            let (id,) = read(self.url(), row)?;
            decided.transitions.insert(id);
        }
        Ok(decided)
    }

    /// The newest id that was ever applied, by shard.
    async fn floors_of(&mut self, facts: &[&Fact]) -> Result<HashMap<i64, i64>> {
        let shards: BTreeSet<u16> = facts
            .iter()
            .flat_map(|fact| ids(fact))
            .map(|id| id.shard().get())
            .collect();
        let shards = shards.into_iter().map(|shard| Value::Int(shard.into()));
        let shards = shards.collect();
        let mut floors = HashMap::new();
        for row in self.fetch_many((FLOORS, ""), &[], shards).await? {
            let (shard, newest): (i64, i64) = read(self.url(), row)?;
            floors.insert(shard, newest);
        }
        Ok(floors)
    }

    /// Writes what was decided; says how many jobs were new.
    async fn write_decided(&mut self, decided: &Decided<'_>) -> Result<u64> {
        let mut unwritable = Ok(());
        let rows = decided
            .new
            .iter()
            .map_while(|new| match transition_row(new) {
                Ok(row) => Some(row),
                Err(error) => {
                    unwritable = Err(error);
                    None
                }
            });
        let (head, row) = INSERT_TRANSITIONS;
        self.execute_many(Many::insert(head, row, ""), rows).await?;
        unwritable?;
        let (head, row, tail) = UPSERT_EVENTS;
        let rows = decided.changes().map(event_row);
        self.execute_many(Many::insert(head, row, tail), rows)
            .await?;
        let counts = decided.counts();
        self.change(&RAISE_COUNTS, Rows::All, counts).await?;
        self.project_statuses(decided).await?;
        let (head, row, tail) = INSERT_FALSE_POSITIVES;
        let rows = decided.new.iter().filter_map(false_positive_row);
        self.execute_many(Many::insert(head, row, tail), rows)
            .await?;
        let (head, row, tail) = INSERT_JOBS;
        let rows = decided.new.iter().map(job_row);
        self.execute_many(Many::insert(head, row, tail), rows).await
    }

    async fn project_statuses(&mut self, decided: &Decided<'_>) -> Result<()> {
        self.project(&PROJECT_STATUSES, decided, 1).await?;
        if let Some(legacy) = self.source().filter(|legacy| legacy.status) {
            let statement = legacy::project_status(&legacy);
            self.project(&statement, decided, 1_000).await?;
        }
        Ok(())
    }

    /// Where the status is what it is to be, its row stays as it is.
    async fn project(
        &mut self,
        statement: &ByKey<2>,
        decided: &Decided<'_>,
        ms_per_unit: i64,
    ) -> Result<()> {
        for (which, is_changed) in [(Rows::Differing, false), (Rows::All, true)] {
            let rows = decided.projection.statuses(is_changed, ms_per_unit);
            self.change(statement, which, rows).await?;
        }
        Ok(())
    }

    /// Ids are minted above every id that was ever applied, also when its rows are long gone.
    async fn raise_floors(&mut self, fence: Fence, facts: &[&Fact]) -> Result<()> {
        let mut newest: BTreeMap<u16, FactId> = BTreeMap::new();
        for id in facts.iter().flat_map(|fact| ids(fact)) {
            newest
                .entry(id.shard().get())
                .and_modify(|top| *top = id.max(*top))
                .or_insert(id);
        }
        let row = |(shard, id): (u16, FactId)| {
            let row = [i64::from(shard), fence.node, fence.epoch, id.get()];
            row.map(Value::Int)
        };
        let rows = newest.into_iter().map(row);
        let (head, row, tail) = RAISE_FLOORS;
        self.execute_many(Many::insert(head, row, tail), rows)
            .await?;
        Ok(())
    }
}

/// Every id of our own in `fact`: they may be of different shards.
fn ids(fact: &Fact) -> impl Iterator<Item = FactId> {
    let ids = match fact {
        Fact::Transitioned {
            event,
            transition,
            job,
        } => [Some(event.id), Some(transition.id), Some(job.id)],
        Fact::Counted { event, .. } => [Some(*event), None, None],
    };
    ids.into_iter().flatten()
}

/// The targets of `facts`, each once.
fn targets(facts: &[&Fact]) -> Vec<Value> {
    let targets: BTreeSet<i64> = facts.iter().map(|fact| fact.target().get()).collect();
    targets.into_iter().map(Value::Int).collect()
}

fn transition_row(&(event, transition, _): &(&Event, &Transition, &Job)) -> Result<[Value; 12]> {
    let metadata = metadata::written(transition).map_err(|error| StoreError::BadRow {
        table: "jetpack_monitor_event_transitions",
        id: transition.id.get(),
        column: "metadata",
        found: error.to_string(),
    })?;
    Ok([
        Value::Int(transition.id.get()),
        Value::Int(event.id.get()),
        Value::Int(event.group_id as i64),
        Value::Int(event.target.get()),
        Value::from(transition.before.and_then(State::severity)),
        Value::from(transition.after.severity()),
        Value::from(transition.before.map(State::as_str)),
        Value::from(transition.after.as_str()),
        Value::from(transition.reason.as_str()),
        Value::from(within(&transition.source)),
        Value::from(metadata),
        Value::Int(transition.changed_at.0 as i64),
    ])
}

fn false_positive_row(&(event, transition, _): &(&Event, &Transition, &Job)) -> Option<[Value; 5]> {
    let row = FalsePositive::of(event, transition)?;
    Some([
        Value::Int(row.id.get()),
        Value::Int(row.group_id as i64),
        Value::from(row.http_code),
        Value::from(row.error_code),
        Value::Int(row.at.0 as i64),
    ])
}

fn event_row(change: EventChange<'_>) -> [Value; 13] {
    let EventChange {
        first,
        last,
        fail_count,
        updated_at,
    } = change;
    [
        Value::Int(first.id.get()),
        Value::Int(first.group_id as i64),
        Value::Int(first.target.get()),
        Value::from(first.check_type.as_str()),
        Value::from(first.discriminator.as_deref().map(within)),
        Value::from(last.state.severity()),
        Value::from(last.state.as_str()),
        Value::Int(first.started_at.0 as i64),
        Value::from(last.ended_at.map(|at| at.0 as i64)),
        Value::from(last.resolution.map(Reason::as_str)),
        Value::from(fail_count),
        Value::from(last.class),
        Value::Int(updated_at.0 as i64),
    ]
}

fn job_row(&(event, transition, job): &(&Event, &Transition, &Job)) -> [Value; 11] {
    let target: TargetId = event.target;
    [
        Value::Int(job.id.get()),
        Value::from(job.kind.as_u8()),
        Value::from(QUEUE_INTERNAL),
        Value::Int(target.get()),
        Value::Int(event.id.get()),
        Value::Int(job.transition.get()),
        Value::from(job.seq),
        Value::Int(job.run_at.0 as i64),
        Value::from(JOB_ATTEMPTS_MAX),
        Value::from(format!("{}:{}", job.kind.as_u8(), job.transition)),
        Value::Int(transition.changed_at.0 as i64),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_that_a_start_looks_for_is_the_one_that_is_asked_for() {
        let named = format!("FORCE INDEX ({FORCED_INDEX})");
        assert!(OPEN_EVENTS.contains(&named), "{OPEN_EVENTS}");
    }
}
