//! Applies facts. Everything a state change owes is written if, and only if, its transition row is
//! new; that one insert also decides whether the fact may touch its event at all.

use std::collections::BTreeMap;

use model::fact::{Batch, CheckType, Event, Fact, Job, Reason, State, Transition};
use model::{FactId, TargetId, UnixMs};
use rusqlite::{CachedStatement, OptionalExtension, Transaction, named_params};

use super::connection::Db;
use super::failure::Failure;
use super::lease;
use crate::Result;
use crate::answer::Applied;
use crate::false_alarm::FalsePositive;
use crate::lease::Fence;
use crate::metadata;
use crate::rules::{JOB_ATTEMPTS_MAX, QUEUE_INTERNAL};

/// Nothing is inserted for a transition that is known or whose event is closed.
const INSERT_TRANSITION: &str = "
    INSERT INTO jetpack_monitor_event_transitions
        (id, event_id, blog_id, endpoint_id, severity_before, severity_after, state_before,
         state_after, reason, source, metadata, changed_at)
    SELECT :id, :event, :blog, :target, :severity_before, :severity_after, :before, :after,
           :reason, :source, :metadata, :changed_at
    WHERE NOT EXISTS (SELECT 1 FROM jetpack_monitor_events
                      WHERE id = :event AND ended_at IS NOT NULL)
    ON CONFLICT (id) DO NOTHING";

/// Whether another event holds the identity, unless this fact would be skipped in any case.
const OTHER_OPEN: &str = "
    SELECT 1 FROM jetpack_monitor_events
    WHERE dedup_key = :key AND id <> :event
      AND NOT EXISTS (SELECT 1 FROM jetpack_monitor_event_transitions WHERE id = :transition)
      AND NOT EXISTS (SELECT 1 FROM jetpack_monitor_events AS own
                      WHERE own.id = :event AND own.ended_at IS NOT NULL)";

/// `started_at` and the identity never move; a closed event never changes.
const UPSERT_EVENT: &str = "
    INSERT INTO jetpack_monitor_events
        (id, blog_id, endpoint_id, check_type, discriminator, severity, state, started_at,
         ended_at, resolution_reason, fail_count, failure_class, updated_at)
    VALUES (:id, :blog, :target, :check_type, :discriminator, :severity, :state, :started_at,
            :ended_at, :resolution, :fail_count, :class, :updated_at)
    ON CONFLICT (id) DO UPDATE SET
        severity = excluded.severity, state = excluded.state, ended_at = excluded.ended_at,
        resolution_reason = excluded.resolution_reason,
        fail_count = max(fail_count, excluded.fail_count),
        failure_class = excluded.failure_class, updated_at = excluded.updated_at
    WHERE ended_at IS NULL";

const INSERT_JOB: &str = "
    INSERT INTO jetpack_monitor_jobs
        (id, kind, queue, endpoint_id, incident_id, transition_id, seq, run_at, max_attempts,
         ukey, created_at)
    VALUES (:id, :kind, :queue, :target, :event, :transition, :seq, :run_at, :max_attempts,
            :ukey, :created_at)
    ON CONFLICT DO NOTHING";

const INSERT_FALSE_POSITIVE: &str = "
    INSERT INTO jetpack_monitor_false_positives (id, blog_id, http_code, error_code, created_at)
    VALUES (:id, :blog, :http_code, :error_code, :created_at)
    ON CONFLICT (id) DO NOTHING";

/// The legacy status of a target: Down before Seems Down before up, whichever events are open.
const PROJECT_STATUS: &str = "
    UPDATE jetpack_monitor_check_targets
    SET site_status = open.status, last_status_change = :at
    FROM (SELECT CASE WHEN max(state = :down) THEN :down_status
                      WHEN max(state = :seems_down) THEN :seems_down_status
                      ELSE :up_status END AS status
          FROM jetpack_monitor_events
          WHERE endpoint_id = :target AND ended_at IS NULL AND check_type = :check_type) AS open
    WHERE id = :target AND site_status <> open.status";

const RAISE_COUNT: &str = "
    UPDATE jetpack_monitor_events SET fail_count = :count
    WHERE id = :event AND ended_at IS NULL AND fail_count < :count";

const RAISE_FLOOR: &str = "
    INSERT INTO jetpack_monitor_shards (shard, node_id, since_epoch, newest_fact)
    VALUES (:shard, :node, :epoch, :newest)
    ON CONFLICT (shard) DO UPDATE SET newest_fact = max(newest_fact, excluded.newest_fact)";

impl Db {
    pub(crate) fn apply(
        &mut self,
        fence: Fence,
        batch: &Batch,
        acknowledged: u64,
    ) -> Result<Applied> {
        self.write(|transaction| {
            lease::require(transaction, fence)?;
            apply(transaction, fence, batch, acknowledged)
        })
    }
}

fn apply(
    transaction: &Transaction<'_>,
    fence: Fence,
    batch: &Batch,
    acknowledged: u64,
) -> Result<Applied, Failure> {
    if !advance_journal(transaction, fence, batch.journal_seq, acknowledged)? {
        return Ok(Applied::already(batch.facts.len()));
    }
    let mut applied = Applied::default();
    let mut statements = Statements::prepare(transaction)?;
    for fact in &batch.facts {
        match fact {
            Fact::Transitioned {
                event,
                transition,
                job,
            } => {
                statements.transitioned(event, transition, job, &mut applied)?;
            }
            Fact::Counted {
                event, fail_count, ..
            } => {
                let raise = named_params! { ":event": event.get(), ":count": fail_count };
                let raised = statements.count.execute(raise)? as u64;
                applied.counted += raised;
                applied.skipped += 1 - raised;
            }
        }
    }
    raise_floors(transaction, fence, batch)?;
    Ok(applied)
}

/// Records the journal position; `false` when it is not above the recorded one, which must not be
/// below what was acknowledged.
fn advance_journal(
    transaction: &Transaction<'_>,
    fence: Fence,
    seq: u64,
    acknowledged: u64,
) -> Result<bool, Failure> {
    let position: Option<i64> = transaction
        .prepare_cached("SELECT journal_seq FROM jetpack_monitor_journals WHERE journal_id = ?1")?
        .query_row([fence.journal], |row| row.get(0))
        .optional()?;
    let found = position.unwrap_or(0) as u64;
    if position.is_none() || found < acknowledged {
        return Err(Failure::SetBack {
            found,
            acknowledged,
        });
    }
    if seq <= found {
        return Ok(false);
    }
    transaction
        .prepare_cached(
            "UPDATE jetpack_monitor_journals SET journal_seq = ?1 WHERE journal_id = ?2",
        )?
        .execute((seq as i64, fence.journal))?;
    Ok(true)
}

/// Ids are minted above every id that was ever applied, also when its rows are long gone.
fn raise_floors(transaction: &Transaction<'_>, fence: Fence, batch: &Batch) -> Result<(), Failure> {
    let mut newest: BTreeMap<u16, FactId> = BTreeMap::new();
    for id in batch.facts.iter().flat_map(ids) {
        newest
            .entry(id.shard().get())
            .and_modify(|top| *top = id.max(*top))
            .or_insert(id);
    }
    let mut statement = transaction.prepare_cached(RAISE_FLOOR)?;
    for (shard, id) in newest {
        let row = named_params! {
            ":shard": shard, ":node": fence.node, ":epoch": fence.epoch, ":newest": id.get(),
        };
        statement.execute(row)?;
    }
    Ok(())
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

/// The statements of one batch, looked up once.
struct Statements<'a> {
    transition: CachedStatement<'a>,
    other_open: CachedStatement<'a>,
    event: CachedStatement<'a>,
    job: CachedStatement<'a>,
    false_positive: CachedStatement<'a>,
    status: CachedStatement<'a>,
    count: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    fn prepare(transaction: &'a Transaction<'_>) -> Result<Self, Failure> {
        Ok(Self {
            transition: transaction.prepare_cached(INSERT_TRANSITION)?,
            other_open: transaction.prepare_cached(OTHER_OPEN)?,
            event: transaction.prepare_cached(UPSERT_EVENT)?,
            job: transaction.prepare_cached(INSERT_JOB)?,
            false_positive: transaction.prepare_cached(INSERT_FALSE_POSITIVE)?,
            status: transaction.prepare_cached(PROJECT_STATUS)?,
            count: transaction.prepare_cached(RAISE_COUNT)?,
        })
    }

    fn transitioned(
        &mut self,
        event: &Event,
        transition: &Transition,
        job: &Job,
        applied: &mut Applied,
    ) -> Result<(), Failure> {
        if event.ended_at.is_none() && self.has_other_open(event, transition.id)? {
            applied.conflicts.push(event.id);
            return Ok(());
        }
        if !self.insert_transition(event, transition)? {
            applied.skipped += 1;
            return Ok(());
        }
        applied.transitions += 1;
        self.upsert_event(event, transition.changed_at)?;
        applied.jobs += self.insert_job(event, transition, job)?;
        if let Some(row) = FalsePositive::of(event, transition) {
            self.insert_false_positive(row)?;
        }
        self.project_status(event.target, event.check_type, transition.changed_at)
    }

    fn has_other_open(&mut self, event: &Event, transition: FactId) -> Result<bool, Failure> {
        let discriminator = event.discriminator.as_deref().unwrap_or_default();
        let key = format!("{}:{}:{discriminator}", event.target, event.check_type);
        let row = named_params! {
            ":key": key, ":event": event.id.get(), ":transition": transition.get(),
        };
        Ok(self
            .other_open
            .query_row(row, |_| Ok(()))
            .optional()?
            .is_some())
    }

    fn insert_transition(
        &mut self,
        event: &Event,
        transition: &Transition,
    ) -> Result<bool, Failure> {
        let metadata = metadata::written(transition)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let inserted = self.transition.execute(named_params! {
            ":id": transition.id.get(),
            ":event": event.id.get(),
            ":blog": event.group_id as i64,
            ":target": event.target.get(),
            ":severity_before": transition.before.and_then(State::severity),
            ":severity_after": transition.after.severity(),
            ":before": transition.before.map(State::as_str),
            ":after": transition.after.as_str(),
            ":reason": transition.reason.as_str(),
            ":source": transition.source,
            ":metadata": metadata,
            ":changed_at": transition.changed_at.0 as i64,
        })?;
        Ok(inserted == 1)
    }

    fn upsert_event(&mut self, event: &Event, updated_at: UnixMs) -> Result<(), Failure> {
        self.event.execute(named_params! {
            ":id": event.id.get(),
            ":blog": event.group_id as i64,
            ":target": event.target.get(),
            ":check_type": event.check_type.as_str(),
            ":discriminator": event.discriminator,
            ":severity": event.state.severity(),
            ":state": event.state.as_str(),
            ":started_at": event.started_at.0 as i64,
            ":ended_at": event.ended_at.map(|at| at.0 as i64),
            ":resolution": event.resolution.map(Reason::as_str),
            ":fail_count": event.fail_count,
            ":class": event.class,
            ":updated_at": updated_at.0 as i64,
        })?;
        Ok(())
    }

    fn insert_job(
        &mut self,
        event: &Event,
        transition: &Transition,
        job: &Job,
    ) -> Result<u64, Failure> {
        let inserted = self.job.execute(named_params! {
            ":id": job.id.get(),
            ":kind": job.kind.as_u8(),
            ":queue": QUEUE_INTERNAL,
            ":target": event.target.get(),
            ":event": event.id.get(),
            ":transition": job.transition.get(),
            ":seq": job.seq,
            ":run_at": job.run_at.0 as i64,
            ":max_attempts": JOB_ATTEMPTS_MAX,
            ":ukey": format!("{}:{}", job.kind.as_u8(), job.transition),
            ":created_at": transition.changed_at.0 as i64,
        })?;
        Ok(inserted as u64)
    }

    fn insert_false_positive(&mut self, row: FalsePositive) -> Result<(), Failure> {
        self.false_positive.execute(named_params! {
            ":id": row.id.get(),
            ":blog": row.group_id as i64,
            ":http_code": row.http_code,
            ":error_code": row.error_code,
            ":created_at": row.at.0 as i64,
        })?;
        Ok(())
    }

    /// Only the HTTP check speaks for the legacy status.
    fn project_status(
        &mut self,
        target: TargetId,
        check_type: CheckType,
        at: UnixMs,
    ) -> Result<(), Failure> {
        if check_type != CheckType::Http {
            return Ok(());
        }
        self.status.execute(named_params! {
            ":target": target.get(),
            ":check_type": CheckType::Http.as_str(),
            ":at": at.0 as i64,
            ":down": State::Down.as_str(),
            ":down_status": State::Down.legacy_status(),
            ":seems_down": State::SeemsDown.as_str(),
            ":seems_down_status": State::SeemsDown.legacy_status(),
            ":up_status": State::Up.legacy_status(),
        })?;
        Ok(())
    }
}
