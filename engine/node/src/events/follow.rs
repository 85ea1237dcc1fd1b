//! `events follow`: transitions as they come into the store, by a question a second. It survives
//! the end of the node, and says where it can be gone on with.

use std::time::Duration;

use anyhow::Context;
use model::fact::Transition;
use model::limits::{FACT_EPOCH_UNIX_MS, SHARDS};
use model::{Evidence, FactId, FailureClass, UnixMs};
use serde_json::Value;
use store::{Store, StoreError};
use tokio::signal::unix::{SignalKind, signal};

use super::{Urls, transition_object};
use crate::json_ids::json_id;
use crate::out::{self, Out};
use crate::windows::occurrences::at;

/// Time between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// Transitions of one question.
const PAGE: usize = 1_000;
/// URLs that are remembered.
const URLS_MAX: usize = 100_000;
/// What comes at once of a part of the fleet that was quiet may be so old: a store was away.
const SPAN_MS: u64 = 24 * 60 * 60 * 1_000;

/// Where somebody is: the newest fact of each shard that was shown, or was there before.
#[derive(Clone, Debug)]
struct Cursor {
    known: Vec<i64>,
    /// It goes on from an id that somebody named: however old that is, nothing is left out.
    is_resumed: bool,
}

impl Cursor {
    /// After everything that there is.
    fn at(newest: &[FactId]) -> Self {
        let mut cursor = Self {
            known: vec![0; usize::from(SHARDS)],
            is_resumed: false,
        };
        cursor.reach(newest);
        cursor
    }

    /// After the transition `id`.
    fn after(id: FactId) -> Self {
        Self {
            known: vec![id.get(); usize::from(SHARDS)],
            is_resumed: true,
        }
    }

    fn of(&mut self, id: FactId) -> &mut i64 {
        &mut self.known[usize::from(id.shard().get())]
    }

    /// The ids among which everything is that is new by `newest`: above the first, up to the
    /// second.
    fn range(&mut self, newest: &[FactId]) -> Option<(i64, FactId)> {
        let (mut after, mut upto) = (i64::MAX, None);
        for &id in newest {
            let known = *self.of(id);
            if id.get() <= known {
                continue;
            }
            let floor = if self.is_resumed { 0 } else { first_id(id) };
            after = after.min(known.max(floor));
            upto = upto.max(Some(id));
        }
        upto.map(|upto| (after, upto))
    }

    /// Whether a transition was not shown yet; it counts as shown from now on. Those of one shard
    /// come in the order of their ids.
    fn take(&mut self, id: FactId) -> bool {
        let known = self.of(id);
        let is_new = id.get() > *known;
        *known = id.get().max(*known);
        is_new
    }

    /// Everything up to `newest` was shown.
    fn reach(&mut self, newest: &[FactId]) {
        for &id in newest {
            let known = self.of(id);
            *known = id.get().max(*known);
        }
        self.is_resumed = false;
    }
}

/// No id that was minted [`SPAN_MS`] before `id` is above it.
fn first_id(id: FactId) -> i64 {
    let ms = id
        .minted_at()
        .0
        .saturating_sub(FACT_EPOCH_UNIX_MS + SPAN_MS);
    (ms << 22) as i64
}

/// Prints what comes until Ctrl-C, SIGTERM, or a reader that goes away; from now on, or after the
/// transition `after`.
pub(crate) async fn run(
    store: &Store,
    after: Option<FactId>,
    as_json: bool,
    out: &mut Out,
) -> anyhow::Result<()> {
    let mut int = signal(SignalKind::interrupt()).context("signals cannot be listened to")?;
    let mut term = signal(SignalKind::terminate()).context("signals cannot be listened to")?;
    let cursor = match after {
        Some(id) => Cursor::after(id),
        None => Cursor::at(&store.newest_facts().await?),
    };
    let mut follow = Follow {
        store,
        cursor,
        urls: Urls::default(),
        as_json,
        last: after,
        is_away: false,
    };
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    out::remark("following: transitions are printed as they come, until Ctrl-C");
    loop {
        tokio::select! {
            _ = int.recv() => break,
            _ = term.recv() => break,
            _ = turns.tick() => follow.look(out).await?,
        }
        if out.is_closed() {
            return Ok(());
        }
    }
    if let Some(last) = follow.last {
        out::remark(format!("go on from here with --after {last}"));
    }
    Ok(())
}

struct Follow<'s> {
    store: &'s Store,
    cursor: Cursor,
    urls: Urls,
    as_json: bool,
    /// The transition that was printed last.
    last: Option<FactId>,
    is_away: bool,
}

impl Follow<'_> {
    /// Prints what is new. A store that is away is asked again: it is said once.
    async fn look(&mut self, out: &mut Out) -> anyhow::Result<()> {
        match self.print_new(out).await {
            Ok(()) if self.is_away => out::remark("the store answers again"),
            Ok(()) => {}
            Err(error) if error.is::<StoreError>() && !is_final(&error) => {
                if !self.is_away {
                    out::remark(format!("{error:#}; it is asked again"));
                }
                self.is_away = true;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.is_away = false;
        Ok(())
    }

    async fn print_new(&mut self, out: &mut Out) -> anyhow::Result<()> {
        let newest = self.store.newest_facts().await?;
        let Some((mut after, upto)) = self.cursor.range(&newest) else {
            return Ok(());
        };
        loop {
            let page = self.store.transitions_between(after, upto, PAGE).await?;
            let count = page.len();
            for transition in page {
                after = transition.id.get();
                if self.cursor.take(transition.id) {
                    self.print(&transition, out).await?;
                }
            }
            out.flush();
            if count < PAGE || out.is_closed() {
                break;
            }
        }
        self.cursor.reach(&newest);
        Ok(())
    }

    async fn print(&mut self, transition: &Transition, out: &mut Out) -> anyhow::Result<()> {
        self.urls.forget_beyond(URLS_MAX);
        let url = self.urls.of(self.store, transition.target).await?;
        if self.as_json {
            out.line(object(transition, url.as_deref()));
        } else {
            out.line(line(transition, url.as_deref()));
        }
        self.last = Some(transition.id);
        Ok(())
    }
}

/// Whether asking again cannot help.
fn is_final(error: &anyhow::Error) -> bool {
    let store = error.downcast_ref::<StoreError>();
    store
        .is_some_and(|error| matches!(error, StoreError::BadRow { .. } | StoreError::Closed { .. }))
}

fn object(transition: &Transition, url: Option<&str>) -> Value {
    let mut object = transition_object(transition);
    object["event"] = json_id(transition.event.get());
    object["target"] = json_id(transition.target.get());
    object["url"] = url.into();
    object
}

fn line(transition: &Transition, url: Option<&str>) -> String {
    let UnixMs(ms) = transition.changed_at;
    let when = at(UnixMs(ms))
        .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string();
    let before = transition.before.map_or("-", model::fact::State::as_str);
    let class = transition.evidence.as_deref().and_then(Evidence::failure);
    let class = class.map_or("-", FailureClass::as_str);
    let url = url.unwrap_or("(the target is gone)");
    let (after, reason) = (transition.after.as_str(), transition.reason);
    format!(
        "{when}  {before:<10}  {after:<10}  {reason:<20}  {class:<18}  {url}  by {}  [{}]",
        transition.source, transition.id
    )
}

#[cfg(test)]
mod tests {
    use model::TargetId;
    use model::ids::{FactMint, Shard};

    use super::*;

    const NOW: UnixMs = UnixMs(1_795_305_600_000);
    const HOUR_MS: u64 = 3_600_000;

    fn shard(raw: u16) -> Shard {
        Shard::new(raw).expect("a shard")
    }

    #[test]
    fn what_is_new_of_any_shard_is_found_once() {
        let mut mint = FactMint::default();
        let mut id = |of: u16, ms: u64| mint.mint(shard(of), NOW.plus_ms(ms));
        let (a, b) = (id(1, 0), id(2, 5));
        let mut cursor = Cursor::at(&[a, b]);
        assert_eq!(cursor.range(&[a, b]), None);
        // A shard whose clock is behind is not passed over.
        let (late, newer) = (id(1, 1), id(2, 9));
        let (after, upto) = cursor.range(&[late, newer]).expect("something");
        assert!(after < late.get() && after >= a.get());
        assert_eq!(upto, newer);
        assert!(cursor.take(late) && cursor.take(newer));
        assert!(!cursor.take(late) && !cursor.take(b));
        cursor.reach(&[late, newer]);
        assert_eq!(cursor.range(&[late, newer]), None);
    }

    #[test]
    fn a_clock_that_stepped_back_hides_no_transition_of_a_quiet_part() {
        let mut mint = FactMint::default();
        let first = mint.mint(shard(1), NOW);
        let mut cursor = Cursor::at(&[first]);
        let earlier = mint.mint(shard(2), UnixMs(NOW.0 - HOUR_MS));
        assert!(earlier < first);
        let (after, upto) = cursor.range(&[first, earlier]).expect("something");
        assert!(after < earlier.get() && upto == earlier);
        assert!(cursor.take(earlier));
    }

    #[test]
    fn a_shard_that_was_quiet_for_years_makes_nobody_read_years() {
        let mut mint = FactMint::default();
        let old = mint.mint(shard(1), UnixMs(NOW.0 - 10_000 * HOUR_MS));
        let mut cursor = Cursor::at(&[old]);
        let new = mint.mint(shard(1), NOW);
        let (after, _) = cursor.range(&[new]).expect("something");
        let from = FactId::new(after).expect("positive").minted_at();
        assert_eq!(NOW.0 - from.0, SPAN_MS);
        // But who names an id gets everything after it.
        let mut cursor = Cursor::after(old);
        assert_eq!(cursor.range(&[new]), Some((old.get(), new)));
    }

    #[test]
    fn a_transition_is_a_line_or_an_object_with_what_is_needed_to_go_on() {
        let transition = Transition {
            id: FactId::new(247_000_000_000_000_002).expect("positive"),
            event: FactId::new(247_000_000_000_000_001).expect("positive"),
            target: TargetId::new(7).expect("positive"),
            before: Some(model::fact::State::SeemsDown),
            after: model::fact::State::Down,
            reason: model::fact::Reason::VerifierConfirmed,
            source: "local".into(),
            changed_at: NOW,
            evidence: None,
            metadata: None,
        };
        let line = line(&transition, Some("http://a.example/"));
        assert!(
            line.starts_with("2026-11-22T00:00:00.000Z  Seems Down  Down  "),
            "{line}"
        );
        assert!(
            line.ends_with("http://a.example/  by local  [247000000000000002]"),
            "{line}"
        );
        let object = object(&transition, None);
        assert_eq!(object["id"], "247000000000000002");
        assert_eq!(
            (&object["event"], &object["url"]),
            (&"247000000000000001".into(), &Value::Null)
        );
    }
}
