//! Forgetting what is old: checks of the history, closed events and what operators had done,
//! once an hour, in small steps with pauses between them, so that facts are never waited for longer
//! than one step takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::{TargetId, UnixMs};
use store::{Forgotten, Store, StoreError};
use tracing::{info, warn};

use super::lease::Right;
use super::view::View;
use crate::config::Config;

/// Time between two looks.
const EVERY: Duration = Duration::from_hours(1);
/// After a start the store has other things to do.
const FIRST_AFTER: Duration = Duration::from_mins(1);
/// Shortest pause between two steps, in ms: at most 50,000 rows a second go.
const PAUSE_MIN_MS: u64 = 20;
/// A step is followed by a pause of so many times its length: the store has two thirds of the time
/// for others.
const PAUSE_FACTOR: u64 = 2;
/// Shards that were taken from a journal which did not come back are forgotten after so many days.
const TAKEN_DAYS: u32 = 90;
/// Check times of targets that are gone are forgotten after so many days: a table may be away for a
/// moment while another one is put in its place.
const GONE_DAYS: u32 = 7;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How many days are kept; 0 = all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "units come last")]
pub(crate) struct Retention {
    pub(crate) history_days: u32,
    pub(crate) events_days: u32,
    pub(crate) audit_days: u32,
}

impl Retention {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            history_days: config.history_days,
            events_days: config.events_days,
            audit_days: config.audit_days,
        }
    }
}

/// What was forgotten since the start.
#[derive(Debug, Default)]
pub(crate) struct RetentionStats {
    history: AtomicU64,
    events: AtomicU64,
    transitions: AtomicU64,
    audit: AtomicU64,
    taken: AtomicU64,
    freshness: AtomicU64,
    steps: AtomicU64,
    failed: AtomicU64,
}

impl RetentionStats {
    fn add(&self, step: &Forgotten) {
        self.history.fetch_add(step.history, Ordering::Relaxed);
        self.events.fetch_add(step.events, Ordering::Relaxed);
        self.transitions
            .fetch_add(step.transitions, Ordering::Relaxed);
        self.audit.fetch_add(step.audit, Ordering::Relaxed);
        self.taken.fetch_add(step.taken, Ordering::Relaxed);
        self.freshness.fetch_add(step.freshness, Ordering::Relaxed);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Rows by table.
    pub(crate) fn rows(&self) -> [(&'static str, u64); 6] {
        [
            ("check_history", self.history.load(Ordering::Relaxed)),
            ("events", self.events.load(Ordering::Relaxed)),
            (
                "event_transitions",
                self.transitions.load(Ordering::Relaxed),
            ),
            ("audit_log", self.audit.load(Ordering::Relaxed)),
            ("shards_taken", self.taken.load(Ordering::Relaxed)),
            ("site_runtime", self.freshness.load(Ordering::Relaxed)),
        ]
    }

    /// Steps that are over, those that found nothing old included.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Steps that failed; the next look does them again.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Forgets for ever.
pub(super) async fn run(store: Store, retention: Retention, view: Arc<View>) {
    let (mut wait, mut order) = (FIRST_AFTER, What::ALL);
    loop {
        tokio::time::sleep(wait).await;
        wait = EVERY;
        if Right::of(&view.sink_counters()) == Right::Fenced {
            continue;
        }
        if let Err(error) = sweep(&store, retention, &view, &mut order).await {
            view.retention.failed.fetch_add(1, Ordering::Relaxed);
            warn!("old rows could not be deleted, the next try is in an hour: {error}");
        }
    }
}

/// What is forgotten.
#[derive(Clone, Copy, Debug)]
enum What {
    History,
    Events,
    Audit,
    Taken,
    CheckTimes,
}

impl What {
    /// In the order in which it is forgotten first.
    const ALL: [Self; 5] = [
        Self::History,
        Self::Events,
        Self::Audit,
        Self::Taken,
        Self::CheckTimes,
    ];

    /// How many days of it are kept; 0 = all.
    fn days(self, retention: Retention) -> u32 {
        match self {
            Self::History => retention.history_days,
            Self::Events => retention.events_days,
            Self::Audit => retention.audit_days,
            Self::Taken => TAKEN_DAYS,
            Self::CheckTimes => GONE_DAYS,
        }
    }
}

/// Forgets everything that is old now, in `order`. What the store refuses keeps nothing else from
/// it. Where the store is away nothing else is tried, since all of it would wait for the same; the
/// next look begins behind what was tried, in case that alone takes too long. Of several failures
/// the first is told.
async fn sweep(
    store: &Store,
    retention: Retention,
    view: &View,
    order: &mut [What],
) -> store::Result<()> {
    let now = earlier(view.clock.now().unix, store.server_time().await?);
    let mut all = Forgotten::default();
    let mut done = Ok(());
    for _ in 0..order.len() {
        let what = order[0];
        // After all of them it is as it was.
        order.rotate_left(1);
        let days = what.days(retention);
        if days == 0 {
            continue;
        }
        let before = UnixMs(now.0.saturating_sub(u64::from(days) * DAY_MS));
        let forgotten = forget(store, view, &mut all, (what, before)).await;
        let is_away = forgotten.as_ref().is_err_and(StoreError::is_transient);
        done = done.and(forgotten);
        if is_away {
            break;
        }
    }
    if all != Forgotten::default() {
        info!(
            checks = all.history,
            events = all.events,
            transitions = all.transitions,
            audit = all.audit,
            taken = all.taken,
            check_times = all.freshness,
            "old rows were deleted"
        );
    }
    done
}

/// Every step of one kind.
async fn forget(
    store: &Store,
    view: &View,
    all: &mut Forgotten,
    which: (What, UnixMs),
) -> store::Result<()> {
    let mut after = None;
    while take_step(store, view, all, which, &mut after).await? {}
    Ok(())
}

/// One step and the pause after it; whether there may be more. Check times are those of targets
/// that are gone: a walk through all of them, on from the target `after`.
async fn take_step(
    store: &Store,
    view: &View,
    all: &mut Forgotten,
    (what, before): (What, UnixMs),
    after: &mut Option<TargetId>,
) -> store::Result<bool> {
    let begun = view.clock.mono();
    let done = match what {
        What::History => store.forget_history(before).await?,
        What::Events => store.forget_events(before).await?,
        What::Audit => store.forget_audit(before).await?,
        What::Taken => store.forget_taken(before).await?,
        What::CheckTimes => {
            let (done, next) = store.forget_freshness(before, *after).await?;
            *after = next;
            done
        }
    };
    let took_ms = view.clock.mono().since(begun) / 1_000;
    view.retention.add(&done);
    all.history += done.history;
    all.events += done.events;
    all.transitions += done.transitions;
    all.audit += done.audit;
    all.taken += done.taken;
    all.freshness += done.freshness;
    if done.more {
        tokio::time::sleep(pause(took_ms)).await;
    }
    Ok(done.more)
}

/// What is deleted is gone: a machine whose clock is years ahead must not take everything for old
/// as long as the server's clock says otherwise.
fn earlier(own: UnixMs, server: Option<UnixMs>) -> UnixMs {
    server.map_or(own, |server| own.min(server))
}

fn pause(took_ms: u64) -> Duration {
    Duration::from_millis((took_ms * PAUSE_FACTOR).max(PAUSE_MIN_MS))
}

#[cfg(test)]
mod tests {
    use model::FactId;
    use model::outcome::Phases;
    use rig::mariadb;
    use store::{
        ALL_SHARDS, AuditRow, Claim, Fence, FreshnessRow, HistoryRow, JournalId, StoreUrl,
    };

    use super::*;
    use crate::run::view::testbed::view;

    /// A check of `days` before `now`.
    fn check(now: UnixMs, days: u64, nth: i64) -> HistoryRow {
        let at = UnixMs(now.0 - days * DAY_MS);
        let raw = ((at.0 - model::limits::FACT_EPOCH_UNIX_MS) << 22) as i64 + nth;
        HistoryRow {
            id: FactId::new(raw).expect("positive"),
            target: TargetId::new(1).expect("positive"),
            group_id: 0,
            method: "GET",
            status: 200,
            class: None,
            phases: Phases::NONE,
            checked_at: at,
        }
    }

    const DAYS: Retention = Retention {
        history_days: 30,
        events_days: 1,
        audit_days: 365,
    };

    /// A store that has no rows yet, with the right to write it.
    async fn opened(url: &StoreUrl) -> (Store, Fence) {
        let store = Store::open(url).await.expect("opens");
        let claim = Claim {
            node: "test".to_owned(),
            holder: "here".to_owned(),
            journal: JournalId::new(1).expect("positive"),
            lease_ms: 1_000,
            shards: ALL_SHARDS,
            alone: true,
            lost: None,
        };
        let fence = store.acquire(&claim).await.expect("granted");
        (store, fence)
    }

    /// Check times of `days` before `now`, of a target that is none.
    fn times(now: UnixMs, days: u64) -> FreshnessRow {
        FreshnessRow {
            target: TargetId::new(1 + days as i64).expect("positive"),
            last_checked: UnixMs(now.0 - days * DAY_MS),
            next_check: now,
        }
    }

    /// A line of the trail of `days` before `now`.
    fn noted(now: UnixMs, days: u64) -> AuditRow {
        AuditRow {
            event_type: "reload",
            source: "ringwatch:n".to_owned(),
            detail: String::new(),
            at: UnixMs(now.0 - days * DAY_MS),
            subject: None,
        }
    }

    #[tokio::test]
    async fn what_is_older_than_its_days_goes_and_zero_days_keep_all() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (store, fence) = opened(&StoreUrl::Sqlite(dir.path().join("s.db"))).await;
        let view = view();
        let now = view.clock.now().unix;
        let rows = (0..2_500).map(|nth| check(now, 31, nth));
        let rows = rows.chain((0..10).map(|nth| check(now, 29, nth)));
        store
            .write_history(fence, rows.collect())
            .await
            .expect("written");
        let keep_all = Retention {
            history_days: 0,
            events_days: 0,
            audit_days: 0,
        };
        let mut order = What::ALL;
        let swept = sweep(&store, keep_all, &view, &mut order).await;
        swept.expect("nothing to do");
        assert_eq!(view.retention.rows()[0].1, 0);
        let times = [6, 8].map(|days| times(now, days)).to_vec();
        let written = store.write_freshness(fence, times);
        assert_eq!(written.await.all().expect("written"), 2);
        let noted = [364, 366].map(|days| noted(now, days)).to_vec();
        store.write_audit(noted).await.expect("noted");
        let swept = sweep(&store, DAYS, &view, &mut order).await;
        swept.expect("swept");
        assert_eq!(view.retention.rows()[0], ("check_history", 2_500));
        assert_eq!(view.retention.rows()[3], ("audit_log", 1));
        assert_eq!(view.retention.rows()[5], ("site_runtime", 1));
        let steps = view.retention.steps();
        let swept = sweep(&store, DAYS, &view, &mut order).await;
        swept.expect("nothing left");
        assert_eq!(view.retention.rows()[0].1, 2_500);
        assert_eq!(
            view.retention.steps(),
            steps + 5,
            "each table was looked at"
        );
    }

    /// A store on a server, in the database of this name.
    async fn on_server() -> (String, Store, Fence) {
        let (server, database) = (mariadb::shared(), mariadb::fresh_name());
        server.sql(&format!("CREATE DATABASE {database}"));
        let url = server.address("ringwatch", &database);
        let url: StoreUrl = url.parse().expect("an address");
        Store::migrate(&url).await.expect("migrated");
        let (store, fence) = opened(&url).await;
        (database, store, fence)
    }

    /// Lesson: one table that could not be swept kept all others from it, hour by hour.
    #[tokio::test]
    async fn what_cannot_be_forgotten_keeps_nothing_else_and_is_told_at_the_end() {
        let (database, store, fence) = on_server().await;
        let view = view();
        let now = view.clock.now().unix;
        let noted = [noted(now, 366)].to_vec();
        store.write_audit(noted).await.expect("noted");
        let written = store.write_freshness(fence, vec![times(now, 8)]);
        assert_eq!(written.await.all().expect("written"), 1);
        for gone in ["check_history", "shards_taken"] {
            mariadb::shared().sql(&format!("DROP TABLE {database}.jetpack_monitor_{gone}"));
        }
        let mut order = What::ALL;
        let swept = sweep(&store, DAYS, &view, &mut order).await;
        let error = swept.expect_err("a table is gone");
        let sentence = error.to_string();
        assert!(sentence.contains("check_history"), "{sentence}");
        let rows = view.retention.rows();
        assert_eq!(rows[3], ("audit_log", 1));
        assert_eq!(rows[5], ("site_runtime", 1));
    }

    /// Lesson: at a server that went away each of the five kinds waited for a timeout of its own.
    #[tokio::test]
    async fn where_the_store_is_away_nothing_else_is_tried_and_the_next_look_begins_behind_it() {
        let (database, store, fence) = on_server().await;
        let view = view();
        let now = view.clock.now().unix;
        let written = store.write_history(fence, vec![check(now, 31, 0)]);
        written.await.expect("written");
        let noted = [noted(now, 366)].to_vec();
        store.write_audit(noted).await.expect("noted");
        mariadb::shared().sql(&format!(
            "CREATE TRIGGER {database}.gone BEFORE DELETE \
             ON {database}.jetpack_monitor_check_history FOR EACH ROW \
             SIGNAL SQLSTATE '08S01' SET MYSQL_ERRNO = 1053, MESSAGE_TEXT = 'Server shutdown'"
        ));
        let mut order = What::ALL;
        for (steps, noted) in [(0, 0), (4, 1)] {
            let swept = sweep(&store, DAYS, &view, &mut order).await;
            let error = swept.expect_err("the server goes away");
            assert!(error.is_transient(), "{error}");
            assert_eq!(view.retention.steps(), steps);
            assert_eq!(view.retention.rows()[3], ("audit_log", noted));
        }
    }

    #[test]
    fn of_two_clocks_the_one_that_deletes_less_is_believed() {
        let (early, late) = (UnixMs(5), UnixMs(9));
        assert_eq!(earlier(late, Some(early)), early);
        assert_eq!(earlier(early, Some(late)), early);
        assert_eq!(earlier(late, None), late);
    }

    #[test]
    fn a_step_is_followed_by_twice_its_length() {
        assert_eq!(pause(0), Duration::from_millis(20));
        assert_eq!(pause(9), Duration::from_millis(20));
        assert_eq!(pause(400), Duration::from_millis(800));
    }
}
