//! Questions into batches, batches to one verifier of each vantage, answers to the sink.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use cores::Clock;
use crossbeam_channel::Sender;
use model::FactId;
use model::limits::{
    VERIFIER_BATCH_MAX, VERIFIER_BATCHES_MAX, VERIFIER_HEADROOM_MS, VERIFIER_QUICK_BATCHES_MAX,
};
use persist::{Answer, Question, Questions, Says, SinkCommand};
use store::Store;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::link::TooLong;
use super::panel::{Member, Panel};
use super::reading::{Asked, Reading, read, set_aside_edited};
use super::stats::NonVote;
use super::supervised::{AGAIN, count_broken, keep_going};
use super::targets::{Found, Targets};
use crate::config::Config;
use crate::config::verifiers::Verifier;
use crate::run::send::send;
use crate::run::view::View;
use crate::verifier::protocol::{CHECK, CheckBatch, CheckRequest};

/// How long questions are gathered while nothing is under way, and at most.
const GATHER: Duration = Duration::from_millis(20);
const GATHER_MAX: Duration = Duration::from_secs(1);
/// What an answer may take on its way back, in ms.
const WAY_BACK_MS: u64 = 1_000;

/// Asks what the sink wants to know.
pub(crate) struct Asker {
    shared: Arc<Shared>,
}

struct Shared {
    panel: Panel,
    targets: Targets,
    sink: Sender<SinkCommand>,
    view: Arc<View>,
    clock: Clock,
}

impl Asker {
    /// `None` where there is nobody to ask.
    ///
    /// # Errors
    /// When certificates of verifiers cannot be read.
    pub(crate) fn new(
        config: &Config,
        store: Store,
        sink: Sender<SinkCommand>,
        view: &Arc<View>,
    ) -> anyhow::Result<Option<Self>> {
        if config.verifiers.vantages() == 0 {
            return Ok(None);
        }
        for words in config.verifiers.0.iter().filter_map(Verifier::in_clear) {
            tracing::warn!("{words}");
        }
        let shared = Shared {
            panel: Panel::new(&config.verifiers, view.clock)?,
            targets: Targets {
                store,
                are_legacy: config.legacy.load,
            },
            sink,
            view: Arc::clone(view),
            clock: view.clock,
        };
        Ok(Some(Self {
            shared: Arc::new(shared),
        }))
    }

    /// Asks until nobody has a question any more, also after a task of it broke. What is under way
    /// ends with it.
    pub(crate) async fn run(self, questions: Questions) {
        let questions = Arc::new(Mutex::new(questions));
        let start = || {
            let (shared, questions) = (Arc::clone(&self.shared), Arc::clone(&questions));
            async move { shared.take_all(&mut *questions.lock().await).await }
        };
        keep_going(&self.shared.view.verifiers, AGAIN, start).await;
    }
}

impl Shared {
    /// Asks until nobody has a question any more: those of each pace for themselves, since the
    /// service answers a batch when its last check ends.
    async fn take_all(self: Arc<Self>, questions: &mut Questions) {
        let lanes = Arc::new(Lanes::default());
        let Questions { quick, slow } = questions;
        tokio::join!(
            Arc::clone(&self).take(quick, &lanes, |lanes| &lanes.quick),
            Arc::clone(&self).take(slow, &lanes, |lanes| &lanes.slow),
        );
    }

    async fn take(
        self: Arc<Self>,
        questions: &mut mpsc::Receiver<Question>,
        lanes: &Arc<Lanes>,
        lane: fn(&Lanes) -> &Lane,
    ) {
        let mut under_way = JoinSet::new();
        let Lane { places, .. } = lane(lanes);
        while let Some(batch) = lane(lanes).gather(questions).await {
            let Ok(place) = Arc::clone(places).acquire_owned().await else {
                return;
            };
            let (shared, all) = (Arc::clone(&self), Arc::clone(lanes));
            under_way.spawn(async move {
                Arc::clone(&shared).ask(batch).await;
                drop(place);
                shared.publish(&all);
            });
            count_broken(&mut under_way, &self.view.verifiers);
            self.publish(lanes);
        }
    }
}

/// Places of the batches that are under way, by pace.
struct Lanes {
    quick: Lane,
    slow: Lane,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            quick: Lane::new(VERIFIER_QUICK_BATCHES_MAX),
            slow: Lane::new(VERIFIER_BATCHES_MAX - VERIFIER_QUICK_BATCHES_MAX),
        }
    }
}

impl Lanes {
    fn under_way(&self) -> usize {
        self.quick.under_way() + self.slow.under_way()
    }
}

struct Lane {
    places: Arc<Semaphore>,
    max: usize,
}

impl Lane {
    fn new(max: usize) -> Self {
        let places = Arc::new(Semaphore::new(max));
        Self { places, max }
    }

    fn under_way(&self) -> usize {
        self.max - self.places.available_permits()
    }

    /// The next questions, at most a batch of them; `None`: there will be no more. The more is
    /// under way, the longer they are gathered, so that a storm goes out in full batches.
    async fn gather(&self, questions: &mut mpsc::Receiver<Question>) -> Option<Vec<Question>> {
        // Nothing is taken before it can be handed on: what waits is seen to wait.
        let permit = self.places.acquire().await.ok()?;
        drop(permit);
        let pause = (GATHER * (1 + self.under_way() as u32)).min(GATHER_MAX);
        let mut batch = Vec::new();
        batch.push(questions.recv().await?);
        if questions.len() + 1 < VERIFIER_BATCH_MAX {
            sleep(pause).await;
        }
        while batch.len() < VERIFIER_BATCH_MAX
            && let Ok(question) = questions.try_recv()
        {
            batch.push(question);
        }
        Some(batch)
    }
}

/// One batch, as it goes to each verifier.
struct Batch {
    id: String,
    requests: Vec<FactId>,
    /// By place: whether the target was edited since it was asked about.
    are_edited: Vec<bool>,
    body: Bytes,
    within: Duration,
}

impl Batch {
    fn new(asked: &[(Question, Found)]) -> Self {
        let first = asked.first().map(|(question, _)| question.request);
        let id = first.map_or_else(String::new, |request| request.to_string());
        let timeouts = asked
            .iter()
            .map(|(_, found)| found.target.config.effective_timeout_ms());
        let longest_ms = u64::from(timeouts.max().unwrap_or(0)) + VERIFIER_HEADROOM_MS;
        let request = |(question, found): &(Question, Found)| {
            CheckRequest::of(question.request.to_string(), &found.target)
        };
        let batch = CheckBatch {
            batch_id: id.clone(),
            deadline_ms: longest_ms - WAY_BACK_MS,
            requests: asked.iter().map(request).collect(),
        };
        let body = serde_json::to_vec(&batch).expect("a batch has text keys only");
        Self {
            id,
            requests: asked.iter().map(|(question, _)| question.request).collect(),
            are_edited: asked.iter().map(|(_, found)| found.is_edited).collect(),
            body: body.into(),
            within: Duration::from_millis(longest_ms),
        }
    }
}

impl Shared {
    fn publish(&self, lanes: &Lanes) {
        let stats = &self.view.verifiers;
        stats.set_under_way(lanes.under_way());
        stats.set_cooling(self.panel.cooling(self.clock.mono()));
    }

    async fn ask(self: Arc<Self>, questions: Vec<Question>) {
        let wanted: Vec<_> = questions.iter().map(|q| (q.target, q.generation)).collect();
        let targets = self.targets.read(&wanted).await;
        let mut asked = Vec::with_capacity(questions.len());
        for (question, found) in questions.into_iter().zip(targets) {
            if let Some(found) = found {
                asked.push((question, found));
                continue;
            }
            self.view.verifiers.not_voted(NonVote::NoTarget);
            self.tell(question, Vec::new()).await;
        }
        if asked.is_empty() {
            return;
        }
        let answers = self.clone().ask_all(Arc::new(Batch::new(&asked))).await;
        for ((question, _), answers) in asked.into_iter().zip(answers) {
            self.tell(question, answers).await;
        }
    }

    async fn tell(&self, question: Question, answers: Vec<Answer>) {
        let answered = SinkCommand::Answered { question, answers };
        // A sink that has ended has no use for answers.
        let _ = send(&self.sink, answered, "the sink").await;
    }

    /// Asks every vantage at the same time; the answers to each question.
    async fn ask_all(self: Arc<Self>, batch: Arc<Batch>) -> Vec<Vec<Answer>> {
        let mut asking = JoinSet::new();
        for (vantage, member) in self.panel.call(self.clock.mono()) {
            let (shared, batch) = (Arc::clone(&self), Arc::clone(&batch));
            asking.spawn(async move {
                let reading = match member {
                    Some(member) => shared.ask_one(&vantage, &member, &batch).await,
                    None => Reading::nothing(batch.requests.len(), NonVote::Cooling),
                };
                (vantage, reading)
            });
        }
        let mut readings = Vec::new();
        while let Some(asked) = asking.join_next().await {
            readings.extend(asked.ok());
        }
        let said = readings.iter_mut().map(|(_, reading)| reading);
        set_aside_edited(said, &batch.are_edited);
        let mut answers = vec![Vec::new(); batch.requests.len()];
        for (vantage, reading) in readings {
            self.count(&reading);
            for (place, told) in reading.told.into_iter().enumerate() {
                answers[place].push(Answer {
                    request: batch.requests[place],
                    vantage: vantage.to_string(),
                    says: says(told.is_down),
                    http_code: told.http_code,
                    rtt_ms: told.rtt_ms,
                    error: told.error,
                });
            }
        }
        answers
    }

    async fn ask_one(&self, vantage: &str, member: &Member, batch: &Batch) -> Reading {
        let nothing = |why| Reading::nothing(batch.requests.len(), why);
        self.view.verifiers.sent();
        let asking = member.link.ask(Method::POST, CHECK, batch.body.clone());
        let reading = match timeout(batch.within, asking).await {
            Err(_) => {
                // Nobody may be there any more, whatever the connections look like from here.
                member.link.forget();
                nothing(NonVote::Late)
            }
            Ok(Err(error)) => {
                tracing::debug!("{}: {error:#}", member.address);
                nothing(if error.is::<TooLong>() {
                    NonVote::Unreadable
                } else {
                    NonVote::Error
                })
            }
            Ok(Ok((StatusCode::OK, body))) => {
                let asked = Asked {
                    batch_id: &batch.id,
                    vantage,
                    requests: &batch.requests,
                };
                read(&body, &asked)
            }
            Ok(Ok((StatusCode::SERVICE_UNAVAILABLE, _))) => nothing(NonVote::Overloaded),
            Ok(Ok((StatusCode::GATEWAY_TIMEOUT, _))) => nothing(NonVote::Unknown),
            Ok(Ok((status, _))) => {
                tracing::debug!("{}: it answers {status}", member.address);
                nothing(NonVote::Error)
            }
        };
        member.note(reading.standing(), self.clock.mono());
        reading
    }

    fn count(&self, reading: &Reading) {
        let stats = &self.view.verifiers;
        let reasons = reading.told.iter().filter_map(|told| told.is_down.err());
        reasons.for_each(|why| stats.not_voted(why));
        (0..reading.strays).for_each(|_| stats.not_voted(NonVote::WrongRequest));
    }
}

fn says(vote: Result<bool, NonVote>) -> Says {
    match vote {
        Ok(true) => Says::Down,
        Ok(false) => Says::Up,
        Err(NonVote::Unknown) => Says::Unknown,
        Err(NonVote::Overloaded) => Says::Overloaded,
        Err(_) => Says::Failed,
    }
}

#[cfg(test)]
mod tests {
    use model::ids::FactMint;
    use model::{CoreIndex, Generation, Slot, Target, TargetId, TargetSpec, UnixMs};

    use super::*;

    fn question(mint: &mut FactMint) -> Question {
        let target = TargetId::new(7).expect("positive");
        Question {
            request: mint.mint(target.shard(), UnixMs(1_800_000_000_000)),
            target,
            generation: Generation(1),
            core: CoreIndex(0),
            slot: Slot(0),
            class: None,
        }
    }

    #[tokio::test]
    async fn questions_that_come_together_go_together_and_no_batch_has_more_than_64() {
        let (send, mut questions) = mpsc::channel(256);
        let lane = Lane::new(2);
        let mut mint = FactMint::default();
        for _ in 0..130 {
            let asked = question(&mut mint);
            send.try_send(asked).expect("room");
        }
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let batch = lane.gather(&mut questions).await.expect("questions");
            sizes.push(batch.len());
        }
        assert_eq!(sizes, [64, 64, 2]);
        drop(send);
        assert_eq!(lane.gather(&mut questions).await, None);
    }

    #[test]
    fn a_batch_waits_as_long_as_its_longest_check_and_says_so() {
        let mut mint = FactMint::default();
        let found = |timeout_ms| {
            let spec = TargetSpec {
                url: "http://a.example/".into(),
                timeout_ms: Some(timeout_ms),
                ..TargetSpec::default()
            };
            let target = Target {
                id: TargetId::new(7).expect("positive"),
                generation: Generation(1),
                active: true,
                config: spec.parse().expect("valid"),
            };
            Found {
                target,
                is_edited: false,
            }
        };
        let asked: Vec<_> = [2_000, 9_000]
            .map(|timeout_ms| (question(&mut mint), found(timeout_ms)))
            .into();
        let batch = Batch::new(&asked);
        assert_eq!(batch.within, Duration::from_secs(14));
        let sent: CheckBatch = serde_json::from_slice(&batch.body).expect("JSON");
        assert_eq!((sent.deadline_ms, sent.requests.len()), (13_000, 2));
        assert_eq!(sent.requests[1].request_id, batch.requests[1].to_string());
    }
}
