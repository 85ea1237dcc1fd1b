//! Questions to the verifiers on their way out of the sink, in two lanes: what fails at once does
//! not wait behind what needs its whole time. It must not know who asks them.

use model::limits::VERIFIER_QUESTIONS_MAX;
use model::{CoreIndex, FactId, FailureClass, Generation, Slot, TargetId};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// A question to the verifiers: is this target down? Answered by
/// [`SinkCommand::Answered`](crate::SinkCommand::Answered).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the answers.
    pub request: FactId,
    /// The target.
    pub target: TargetId,
    /// The configuration with which it failed.
    pub generation: Generation,
    /// Where it sits.
    pub core: CoreIndex,
    /// Where it sits on that core.
    pub slot: Slot,
    /// What it failed with last.
    pub class: Option<FailureClass>,
}

impl Question {
    /// Whether its check needs the whole time that it has, as far as is known.
    fn is_slow(&self) -> bool {
        use FailureClass::{ConnectTimeout, DnsTimeout, HttpTimeout, TlsTimeout};
        let timeouts = [ConnectTimeout, DnsTimeout, HttpTimeout, TlsTimeout];
        self.class.is_none_or(|class| timeouts.contains(&class))
    }
}

/// What the verifiers are to be asked; at most 1,024 questions wait in each lane.
#[derive(Debug)]
pub struct Questions {
    /// Of checks that fail at once.
    pub quick: Receiver<Question>,
    /// Of checks that need their time.
    pub slow: Receiver<Question>,
}

/// Where the sink puts them.
#[derive(Debug)]
pub(crate) struct Lanes {
    quick: Sender<Question>,
    slow: Sender<Question>,
}

/// Two lanes, and their far ends.
pub(crate) fn lanes() -> (Lanes, Questions) {
    lanes_of(VERIFIER_QUESTIONS_MAX)
}

/// The same with room for `max` questions each.
pub(crate) fn lanes_of(max: usize) -> (Lanes, Questions) {
    let ((quick, quick_far), (slow, slow_far)) = (channel(max), channel(max));
    let far = Questions {
        quick: quick_far,
        slow: slow_far,
    };
    (Lanes { quick, slow }, far)
}

impl Lanes {
    /// Puts `question` if its lane has room for it beside `reserved` others, and somebody asks.
    pub(crate) fn put(&self, question: Question, reserved: usize) -> bool {
        let lane = if question.is_slow() {
            &self.slow
        } else {
            &self.quick
        };
        lane.capacity() > reserved && lane.try_send(question).is_ok()
    }

    /// Questions that wait.
    pub(crate) fn waiting(&self) -> usize {
        let of = |lane: &Sender<Question>| lane.max_capacity() - lane.capacity();
        of(&self.quick) + of(&self.slow)
    }
}

#[cfg(test)]
mod tests {
    use model::UnixMs;
    use model::ids::FactMint;

    use super::*;

    fn question(class: Option<FailureClass>) -> Question {
        let target = TargetId::new(7).expect("positive");
        Question {
            request: FactMint::default().mint(target.shard(), UnixMs(1_800_000_000_000)),
            target,
            generation: Generation(1),
            core: CoreIndex(0),
            slot: Slot(0),
            class,
        }
    }

    /// Lesson: while a network was dark, and verifiers waited for each of its sites, an outage that
    /// they would have seen at once waited behind them.
    #[test]
    fn quick_failures_have_room_however_many_slow_ones_wait() {
        let (lanes, mut far) = lanes_of(2);
        let slow = question(Some(FailureClass::ConnectTimeout));
        assert!(lanes.put(slow, 0) && lanes.put(question(None), 0) && !lanes.put(slow, 0));
        for class in [FailureClass::HttpStatus, FailureClass::ConnectRefused] {
            assert!(lanes.put(question(Some(class)), 0), "{class}");
        }
        assert_eq!(lanes.waiting(), 4);
        let taken = |lane: &mut Receiver<Question>| lane.try_recv().ok().and_then(|it| it.class);
        assert_eq!(taken(&mut far.slow), Some(FailureClass::ConnectTimeout));
        assert_eq!(taken(&mut far.quick), Some(FailureClass::HttpStatus));
        assert!(
            !lanes.put(slow, 1) && lanes.put(slow, 0),
            "what is reserved"
        );
        drop(far);
        assert!(!lanes.put(slow, 0), "nobody asks");
    }
}
