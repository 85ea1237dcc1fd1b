//! The state of a target: that of the worst of its open events, behind what people decided and what
//! is not known. Pure; knows neither store nor node.

use model::UnixMs;
use model::fact::{CheckType, Event, State};
use model::target::Maintenance;

/// What the state follows from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts<'e> {
    /// When somebody paused it.
    pub(crate) paused_at: Option<UnixMs>,
    /// It is in no list any more.
    pub(crate) is_inactive: bool,
    /// The maintenance window that it is in.
    pub(crate) window: Option<Maintenance>,
    /// Its open events.
    pub(crate) open: &'e [Event],
    /// Its last check could say nothing.
    pub(crate) is_unknown: bool,
    /// Its last check that said something.
    pub(crate) last_checked: Option<UnixMs>,
    /// When the last of its closed events ended.
    pub(crate) last_ended: Option<UnixMs>,
}

/// A state, and since when it is so, where that is known.
pub(crate) type Standing = (State, Option<UnixMs>);

/// The first that holds: paused, in maintenance, failing, not known, another open event, up.
pub(crate) fn derive(facts: &Facts<'_>) -> Standing {
    if facts.paused_at.is_some() || facts.is_inactive {
        return (State::Paused, facts.paused_at);
    }
    if let Some(window) = facts.window {
        return (State::Maintenance, Some(UnixMs(window.start_ms)));
    }
    let http = |event: &&Event| event.check_type == CheckType::Http;
    if let Some(event) = facts.open.iter().find(http) {
        return (event.state, Some(event.started_at));
    }
    if facts.is_unknown {
        return (State::Unknown, facts.last_checked);
    }
    let worst = facts.open.iter().max_by_key(|event| event.state.severity());
    match worst {
        Some(event) => (event.state, Some(event.started_at)),
        None => (State::Up, facts.last_ended),
    }
}

/// The states of the command line, in small letters with dashes.
pub(crate) fn from_word(word: &str) -> Option<State> {
    let word = word.to_ascii_lowercase().replace('_', "-");
    let states = State::ALL.iter().copied();
    let mut states = states.filter(|state| *state != State::Resolved);
    states.find(|state| word == self::word(*state))
}

/// The word of a state on the command line.
pub(crate) fn word(state: State) -> String {
    state.as_str().to_ascii_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use model::{FactId, TargetId};

    use super::*;

    fn event(check_type: CheckType, state: State, started_at: u64) -> Event {
        Event {
            id: FactId::new(1).expect("positive"),
            target: TargetId::new(7).expect("positive"),
            group_id: 0,
            check_type,
            discriminator: None,
            state,
            started_at: UnixMs(started_at),
            ended_at: None,
            resolution: None,
            fail_count: 1,
            class: 0,
        }
    }

    #[test]
    fn what_people_decided_comes_first_then_failing_then_not_known_then_advice() {
        let open = [
            event(CheckType::TlsExpiry, State::Warning, 10),
            event(CheckType::Latency, State::Degraded, 20),
            event(CheckType::Http, State::Down, 30),
        ];
        let all = Facts {
            paused_at: Some(UnixMs(1)),
            is_inactive: true,
            window: Some(Maintenance {
                start_ms: 2,
                end_ms: 9,
            }),
            open: &open,
            is_unknown: true,
            last_checked: Some(UnixMs(3)),
            last_ended: Some(UnixMs(4)),
        };
        let at = |ms| Some(UnixMs(ms));
        assert_eq!(derive(&all), (State::Paused, at(1)));
        let active = Facts {
            paused_at: None,
            is_inactive: false,
            ..all
        };
        assert_eq!(derive(&active), (State::Maintenance, at(2)));
        let outside = Facts {
            window: None,
            ..active
        };
        assert_eq!(derive(&outside), (State::Down, at(30)));
        let advice = Facts {
            open: &open[..2],
            ..outside
        };
        assert_eq!(derive(&advice), (State::Unknown, at(3)));
        let known = Facts {
            is_unknown: false,
            ..advice
        };
        assert_eq!(derive(&known), (State::Degraded, at(20)));
        let up = Facts { open: &[], ..known };
        assert_eq!(derive(&up), (State::Up, at(4)));
        assert_eq!(derive(&Facts::default()), (State::Up, None));
    }

    #[test]
    fn every_state_but_resolved_has_a_word() {
        assert_eq!(from_word("seems-down"), Some(State::SeemsDown));
        assert_eq!(from_word("Down"), Some(State::Down));
        assert_eq!(from_word("resolved"), None);
        assert_eq!(from_word("dwon"), None);
    }
}
