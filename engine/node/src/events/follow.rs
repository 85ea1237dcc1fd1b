//! `events follow`: transitions as they come into the store, by a question a second. It survives
//! the end of the node, and says where it can be gone on with.

use std::time::Duration;

use anyhow::Context;
use cores::Clock;
use model::fact::{CheckType, Event, Transition};
use model::{Evidence, FactId, FailureClass, UnixMs};
use serde_json::Value;
use store::{Store, StoreError};
use tokio::signal::unix::{SignalKind, signal};

use super::cursor::Cursor;
use super::{Urls, transition_object, whose};
use crate::exit::bad_input;
use crate::json_ids::json_id;
use crate::out::{self, Out};
use crate::windows::occurrences::at;

/// Time between two questions.
const EVERY: Duration = Duration::from_secs(1);
/// Transitions of one question.
const PAGE: usize = 1_000;
/// URLs that are remembered.
const URLS_MAX: usize = 100_000;
/// An id may be of a node whose clock is ahead by so much.
const AHEAD_MAX_MS: u64 = 60 * 60 * 1_000;

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
        Some(id) => {
            require_past(id, Clock::start().now().unix)?;
            Cursor::after(id)
        }
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
        let look = async {
            turns.tick().await;
            follow.look(out).await
        };
        tokio::select! {
            _ = int.recv() => break,
            _ = term.recv() => break,
            looked = look => looked?,
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

/// Nothing would be shown after an id that no transition has yet.
fn require_past(after: FactId, now: UnixMs) -> anyhow::Result<()> {
    let minted = after.minted_at();
    if minted.0 <= now.0 + AHEAD_MAX_MS {
        return Ok(());
    }
    let minted = at(minted).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    bad_input(format!(
        "--after {after}: a transition of this id would be of {minted}, which is to come; each \
         line of `events follow` ends with its id"
    ))
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
        let mut range = self.cursor.range(&newest);
        while let Some((after, upto)) = range {
            let page = self.store.transitions_between(after, upto, PAGE).await?;
            let last = page.last().filter(|_| page.len() == PAGE);
            range = last.map(|last| (last.id.get(), upto));
            for transition in page {
                if self.cursor.take(transition.id) {
                    self.print(&transition, out).await?;
                }
            }
            out.flush();
            if out.is_closed() {
                return Ok(());
            }
        }
        if self.cursor.looks_back() {
            // Somebody may have edited them.
            self.urls.forget_beyond(0);
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
            let event = self.store.event(transition.event).await?;
            out.line(line(transition, event.as_ref(), url.as_deref()));
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

/// `event`: as it is now; retention may have taken it.
fn line(transition: &Transition, event: Option<&Event>, url: Option<&str>) -> String {
    let UnixMs(ms) = transition.changed_at;
    let when = at(UnixMs(ms))
        .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string();
    let before = transition.before.map_or("-", model::fact::State::as_str);
    let class = transition.evidence.as_deref().and_then(Evidence::failure);
    let class = class.map_or("-", FailureClass::as_str);
    let other = event.filter(|event| event.check_type != CheckType::Http);
    let about = other.map_or(class, |event| event.check_type.as_str());
    let whose = event.map_or_else(|| "(the event is gone)".to_owned(), |it| whose(it, url));
    let (after, reason) = (transition.after.as_str(), transition.reason);
    format!(
        "{when}  {before:<10}  {after:<10}  {reason:<20}  {about:<18}  {whose}  by {}  [{}]",
        transition.source, transition.id
    )
}

#[cfg(test)]
mod tests {
    use model::TargetId;
    use model::ids::{FactMint, Shard};

    use super::*;

    const NOW: UnixMs = UnixMs(1_795_305_600_000);

    #[test]
    fn an_id_of_the_future_is_refused() {
        let mut mint = FactMint::default();
        let mut id = |ms: u64| mint.mint(Shard::new(1).expect("a shard"), NOW.plus_ms(ms));
        require_past(id(AHEAD_MAX_MS), NOW).expect("a clock may be ahead");
        let refused = require_past(id(2 * AHEAD_MAX_MS), NOW).expect_err("of the future");
        let refused = refused.to_string();
        assert!(refused.contains("2026-11-22T02:00:00"), "{refused}");
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
        let event = Event {
            id: transition.event,
            target: transition.target,
            group_id: 3,
            check_type: CheckType::Http,
            discriminator: None,
            state: model::fact::State::Down,
            started_at: NOW,
            ended_at: None,
            resolution: None,
            fail_count: 4,
            class: FailureClass::ConnectRefused as u8,
        };
        let shown = line(&transition, Some(&event), Some("http://a.example/"));
        assert!(
            shown.starts_with("2026-11-22T00:00:00.000Z  Seems Down  Down  "),
            "{shown}"
        );
        assert!(
            shown.ends_with("http://a.example/  by local  [247000000000000002]"),
            "{shown}"
        );
        let of_node = Event {
            check_type: CheckType::NodeSuppressing,
            target: TargetId::NODE,
            discriminator: Some("a".to_owned()),
            ..event
        };
        let shown = line(&transition, Some(&of_node), None);
        assert!(
            shown.contains("  node_suppressing    node a  by "),
            "{shown}"
        );
        assert!(line(&transition, None, None).contains("(the event is gone)"));
        let object = object(&transition, None);
        assert_eq!(object["id"], "247000000000000002");
        assert_eq!(
            (&object["event"], &object["url"]),
            (&"247000000000000001".into(), &Value::Null)
        );
    }
}
