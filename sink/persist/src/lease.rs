//! The sink's right to write, as a pure machine: when to renew it, that it was lost, and when to
//! ask for it again. Knows no store and no clock.
//!
//! ```text
//!          ┌── Renewed / Failed ──┐          Fenced              ┌─ Refused / Failed ─┐
//!          └───────► Held ────────┘ ───────────────────► Lost ───┴────────◄───────────┘
//!                     ▲                                   │ Granted (store loaded again)
//!                     └───────────────────────────────────┘
//! ```
//!
//! A lease that could not be renewed in time has *lapsed*: the store is away, and another node may
//! take over. Until one does, the right is still there, and the journal grows meanwhile.

use model::MonoUs;

/// A lease is renewed so many times in its length.
const RENEWALS: u64 = 3;
/// Pause after a question that failed, in ms.
const RETRY_MS: u64 = 1_000;

/// What the store is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// To renew the lease.
    Renew,
    /// For a new epoch, and everything that is known there.
    Acquire,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The lease runs again.
    Renewed,
    /// The right is back, under this epoch, and what the store knows is in memory. The lease runs
    /// from `since` on.
    Granted { epoch: u64, since: MonoUs },
    /// Somebody else has a lease for so long.
    Refused { left_ms: u64 },
    /// The store could not be asked.
    Failed,
    /// The right was taken.
    Fenced,
}

/// How the right stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Held = 0,
    /// Not renewed in time, and not taken as far as is known.
    Lapsed = 1,
    /// Taken: nothing may be written or checked.
    Fenced = 2,
}

/// The right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// How long it runs.
    length_ms: u64,
    epoch: u64,
    is_lost: bool,
    /// The question under way, and when it was asked.
    asked: Option<(Ask, MonoUs)>,
    next: MonoUs,
    /// The lease runs until then at least: counted from when it was asked for.
    runs_until: MonoUs,
}

impl Lease {
    /// A right that was granted to a question of `now`.
    pub(crate) fn granted(length_ms: u64, epoch: u64, now: MonoUs) -> Self {
        Self {
            length_ms,
            epoch,
            is_lost: false,
            asked: None,
            next: now.plus_ms(length_ms / RENEWALS),
            runs_until: now.plus_ms(length_ms),
        }
    }

    /// When it was asked for, or renewed the last time.
    pub(crate) fn since(&self) -> MonoUs {
        MonoUs(self.runs_until.0.saturating_sub(self.length_ms * 1_000))
    }

    /// The epoch, also when it is over.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost
    }

    pub(crate) fn standing(&self, now: MonoUs) -> Standing {
        if self.is_lost {
            Standing::Fenced
        } else if now >= self.runs_until {
            Standing::Lapsed
        } else {
            Standing::Held
        }
    }

    /// What to ask now; one question at a time. `may_acquire`: a right that was lost is wanted
    /// back.
    pub(crate) fn poll(&mut self, now: MonoUs, may_acquire: bool) -> Option<Ask> {
        if self.asked.is_some() || now < self.next || (self.is_lost && !may_acquire) {
            return None;
        }
        let ask = if self.is_lost {
            Ask::Acquire
        } else {
            Ask::Renew
        };
        self.asked = Some((ask, now));
        Some(ask)
    }

    /// Takes the answer to the question under way; whether the right was lost by it.
    pub(crate) fn answered(&mut self, answer: Answer, now: MonoUs) -> bool {
        let Some((ask, asked)) = self.asked.take() else {
            return false;
        };
        match (ask, answer) {
            (Ask::Acquire, Answer::Granted { epoch, since }) => {
                *self = Self::granted(self.length_ms, epoch, since);
            }
            // The answer to a question of an epoch that is over says nothing.
            (Ask::Renew, _) if self.is_lost => {}
            (Ask::Renew, Answer::Renewed) => {
                self.runs_until = asked.plus_ms(self.length_ms);
                self.next = asked.plus_ms(self.length_ms / RENEWALS);
            }
            (_, Answer::Fenced) => return self.lost(now),
            (_, Answer::Refused { left_ms }) => {
                self.next = now.plus_ms(left_ms.clamp(RETRY_MS, self.length_ms.max(RETRY_MS)));
            }
            _ => self.next = now.plus_ms(RETRY_MS.min(self.length_ms / RENEWALS)),
        }
        false
    }

    /// A write under `epoch` was refused; whether the right was lost by it.
    pub(crate) fn refused(&mut self, epoch: u64, now: MonoUs) -> bool {
        epoch == self.epoch && !self.is_lost && self.lost(now)
    }

    fn lost(&mut self, now: MonoUs) -> bool {
        let news = !self.is_lost;
        self.is_lost = true;
        self.next = if news { now } else { now.plus_ms(RETRY_MS) };
        news
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE_MS: u64 = 30_000;

    fn at(ms: u64) -> MonoUs {
        MonoUs(ms * 1_000)
    }

    #[test]
    fn a_lease_is_renewed_three_times_in_its_length_and_lapses_without() {
        let mut lease = Lease::granted(LEASE_MS, 1, at(0));
        assert_eq!(lease.poll(at(9_999), true), None);
        assert_eq!(lease.poll(at(10_000), true), Some(Ask::Renew));
        assert_eq!(lease.poll(at(29_000), true), None, "one at a time");
        lease.answered(Answer::Renewed, at(29_500));
        assert_eq!(lease.standing(at(39_999)), Standing::Held);
        assert_eq!(
            lease.standing(at(40_000)),
            Standing::Lapsed,
            "from the question on"
        );
        assert_eq!(lease.poll(at(40_000), false), Some(Ask::Renew));
        lease.answered(Answer::Failed, at(41_000));
        assert_eq!(lease.poll(at(41_999), true), None);
        assert_eq!(lease.poll(at(42_000), true), Some(Ask::Renew));
        lease.answered(Answer::Renewed, at(42_001));
        assert_eq!(lease.standing(at(42_002)), Standing::Held);
    }

    #[test]
    fn a_lost_right_is_asked_for_when_it_is_wanted_and_whoever_has_it_is_waited_for() {
        let mut lease = Lease::granted(LEASE_MS, 4, at(0));
        assert!(!lease.refused(3, at(5)), "an old epoch's write");
        assert!(lease.refused(4, at(5)) && !lease.refused(4, at(6)));
        assert_eq!(lease.standing(at(6)), Standing::Fenced);
        assert_eq!(lease.poll(at(6), false), None);
        assert_eq!(lease.poll(at(7), true), Some(Ask::Acquire));
        lease.answered(Answer::Refused { left_ms: 20_000 }, at(10));
        assert_eq!(lease.poll(at(20_009), true), None);
        assert_eq!(lease.poll(at(20_010), true), Some(Ask::Acquire));
        let since = at(20_015);
        lease.answered(Answer::Granted { epoch: 6, since }, at(20_020));
        assert_eq!(
            (lease.epoch(), lease.standing(at(20_021)), lease.since()),
            (6, Standing::Held, since)
        );
    }

    fn answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            Just(Answer::Renewed),
            (2u64..9).prop_map(|epoch| Answer::Granted {
                epoch,
                since: at(0)
            }),
            (0u64..90_000).prop_map(|left_ms| Answer::Refused { left_ms }),
            Just(Answer::Failed),
            Just(Answer::Fenced),
        ]
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pass(u64),
        Answer(Answer),
        Refuse(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u64..12_000).prop_map(Step::Pass),
            3 => answer().prop_map(Step::Answer),
            1 => (1u64..9).prop_map(Step::Refuse),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_a_lost_right_is_only_asked_for_and_a_held_one_only_renewed(
            steps in prop::collection::vec(step(), 1..80)
        ) {
            let mut lease = Lease::granted(LEASE_MS, 1, at(0));
            let (mut ms, mut losses, mut grants) = (0, 0, 0);
            let mut under_way = None;
            for step in steps {
                let was_lost = lease.is_lost();
                match step {
                    Step::Pass(passed) => ms += passed,
                    Step::Answer(answer) => {
                        let answer = match answer {
                            Answer::Granted { epoch, .. } => Answer::Granted {
                                epoch,
                                since: at(ms),
                            },
                            other => other,
                        };
                        let lost = lease.answered(answer, at(ms));
                        losses += u32::from(lost);
                        prop_assert!(!lost || !was_lost, "lost once");
                        let granted = was_lost && !lease.is_lost();
                        grants += u32::from(granted);
                        prop_assert!(!granted || under_way == Some(Ask::Acquire));
                        under_way = None;
                    }
                    Step::Refuse(epoch) => {
                        let lost = lease.refused(epoch, at(ms));
                        losses += u32::from(lost);
                        prop_assert!(!lost || epoch == lease.epoch());
                    }
                }
                prop_assert_eq!(losses - grants, u32::from(lease.is_lost()));
                let asked = lease.poll(at(ms), true);
                prop_assert!(asked.is_none() || under_way.is_none(), "one at a time");
                if let Some(ask) = asked {
                    prop_assert_eq!(ask == Ask::Acquire, lease.is_lost());
                    under_way = Some(ask);
                }
                // Nobody who is alone waits for ever.
                if under_way.is_none() {
                    let later = at(ms + LEASE_MS);
                    prop_assert!(lease.clone().poll(later, true).is_some());
                }
            }
        }
    }
}
