//! Who may be asked: the verifiers of each vantage, in turn, without those that failed a moment
//! ago. It must not know what is asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cores::Clock;
use model::MonoUs;

use super::cooldown::Cooldown;
use super::link::{Link, links};
use super::reading::Standing;
use crate::config::verifiers::Verifiers;

/// One verifier.
pub(super) struct Member {
    /// Its address, for people.
    pub(super) address: String,
    /// The way to it.
    pub(super) link: Arc<Link>,
    cooldown: Mutex<Cooldown>,
}

/// A vantage, and its verifiers: each can answer for it.
struct Seat {
    vantage: Arc<str>,
    members: Vec<Arc<Member>>,
    turn: AtomicUsize,
}

/// All vantages.
pub(super) struct Panel(Vec<Seat>);

impl Panel {
    /// # Errors
    /// When certificates cannot be read.
    pub(super) fn new(verifiers: &Verifiers, clock: Clock) -> anyhow::Result<Self> {
        let links = links(&verifiers.0, clock)?;
        let member = |&place: &usize| {
            Arc::new(Member {
                address: verifiers.0[place].url.to_string(),
                link: Arc::clone(&links[place]),
                cooldown: Mutex::default(),
            })
        };
        let seat = |(vantage, places): (&str, Vec<usize>)| Seat {
            vantage: vantage.into(),
            members: places.iter().map(member).collect(),
            turn: AtomicUsize::new(0),
        };
        Ok(Self(verifiers.by_vantage().into_iter().map(seat).collect()))
    }

    /// For each vantage who is to be asked at `now`; `None`: all of it failed a moment ago.
    pub(super) fn call(&self, now: MonoUs) -> Vec<(Arc<str>, Option<Arc<Member>>)> {
        let call = |seat: &Seat| (Arc::clone(&seat.vantage), seat.next(now));
        self.0.iter().map(call).collect()
    }

    /// Verifiers that are not asked at `now`.
    pub(super) fn cooling(&self, now: MonoUs) -> usize {
        let members = self.0.iter().flat_map(|seat| &seat.members);
        members.filter(|member| member.is_cooling(now)).count()
    }
}

impl Seat {
    fn next(&self, now: MonoUs) -> Option<Arc<Member>> {
        let count = self.members.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut in_turn = (0..count).map(|step| &self.members[(first % count + step) % count]);
        in_turn.find(|member| !member.is_cooling(now)).cloned()
    }
}

impl Member {
    fn is_cooling(&self, now: MonoUs) -> bool {
        self.cooldown().is_on(now)
    }

    /// What its answer, or that there is none, says of it at `now`.
    pub(super) fn note(&self, standing: Standing, now: MonoUs) {
        match standing {
            Standing::Works => self.cooldown().succeeded(),
            Standing::Blank => self.cooldown().said_nothing(now),
            Standing::Failed => self.cooldown().failed(now),
        }
    }

    fn cooldown(&self) -> std::sync::MutexGuard<'_, Cooldown> {
        self.cooldown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layers};

    #[test]
    fn replicas_take_turns_and_a_vantage_is_left_out_only_when_all_of_them_failed() {
        let text = "[{url='http://127.0.0.1:1', token='t', vantage='a'},\
                    {url='http://127.0.0.1:2', token='t', vantage='b'},\
                    {url='http://127.0.0.1:3', token='t', vantage='a'}]";
        let variable = ("RINGWATCH_VERIFIERS".to_owned(), text.to_owned());
        let layers = Layers::read(None, [variable].into_iter(), Vec::new()).expect("valid");
        let config = Config::resolve(&layers).expect("valid");
        let panel = Panel::new(&config.verifiers, Clock::start()).expect("no files");
        let ports = |now: MonoUs| -> Vec<Option<String>> {
            let called = panel.call(now).into_iter();
            called
                .map(|(_, member)| member.map(|member| member.address.clone()))
                .collect()
        };
        let of = |port: u16| Some(format!("http://127.0.0.1:{port}/"));
        assert_eq!(ports(MonoUs(0)), [of(1), of(2)]);
        assert_eq!(ports(MonoUs(0)), [of(3), of(2)]);
        let first = panel.call(MonoUs(0))[0].1.clone().expect("a member");
        first.note(Standing::Failed, MonoUs(0));
        assert_eq!(ports(MonoUs(0))[0], of(3));
        assert_eq!(ports(MonoUs(0))[0], of(3));
        let third = panel.call(MonoUs(0))[0].1.clone().expect("a member");
        third.note(Standing::Failed, MonoUs(0));
        assert_eq!(
            (ports(MonoUs(0)), panel.cooling(MonoUs(0))),
            (vec![None, of(2)], 2)
        );
        third.note(Standing::Works, MonoUs(1));
        assert_eq!(ports(MonoUs(1))[0], of(3));
    }
}
