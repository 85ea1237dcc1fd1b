//! How far a node believes its own checks, and the signals of its own trouble: their names, and
//! their numbers in the journal. It must not decide: that is the incident machine.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How far failing checks are believed. The order is the number in the journal.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Stance {
    /// As they are.
    #[default]
    Clear,
    /// Connect and timeout failures of targets that are up count from the second in a row on.
    Deferring,
    /// Connect and timeout failures of targets that are up say nothing.
    Doubting,
    /// No failure says anything.
    Isolated,
}

impl Stance {
    /// Whether failures are suppressed, and not only delayed.
    pub fn suppresses(self) -> bool {
        matches!(self, Self::Doubting | Self::Isolated)
    }

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Deferring => "deferring",
            Self::Doubting => "doubting",
            Self::Isolated => "isolated",
        }
    }
}

/// A set of signals of our own trouble. Their bits are in the journal; for people, and in the
/// store, they are a list of names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Signals(u16);

impl Signals {
    /// No trouble.
    pub const NONE: Self = Self(0);
    /// The loop of a core lags: p99 above 50 ms.
    pub const LOOP_LAG: Self = Self(1);
    /// Cores hold results because the sink does not take them.
    pub const RESULTS_HELD: Self = Self(1 << 1);
    /// More than 90 % of the file descriptors are used.
    pub const DESCRIPTORS: Self = Self(1 << 2);
    /// More than 90 % of the local ports are used.
    pub const PORTS: Self = Self(1 << 3);
    /// The resolvers are sick.
    pub const RESOLVER_SICK: Self = Self(1 << 4);
    /// Many checks fail, and the canaries do not say that the trouble is not ours.
    pub const FAILURES: Self = Self(1 << 5);
    /// Our own network is gone.
    pub const ISOLATION: Self = Self(1 << 6);
    /// Nothing was told of the node for a while: it stood still, or who tells of it did.
    pub const STALLED: Self = Self(1 << 7);
    /// Checks go on ending without a verdict because a core stood still meanwhile. Doubts nothing
    /// further: each of those checks is not known already. It is there to be told of.
    pub const CHECKS_EXCUSED: Self = Self(1 << 8);
    /// Our own kernel began to find no way to targets that were well: a route went away.
    pub const CUT_OFF: Self = Self(1 << 9);
    /// No canary answers, and no target did since.
    pub const CANARIES_SILENT: Self = Self(1 << 10);
    /// Our own kernel goes on finding no way to targets that were well. Doubts nothing further.
    pub const NO_ROUTE: Self = Self(1 << 11);
    /// Our resolvers go on saying nothing of names of targets that were well. Doubts nothing
    /// further.
    pub const NO_RESOLVER: Self = Self(1 << 12);
    /// Failing targets go on waiting for confirmation: too few verifiers say anything of them.
    /// Doubts nothing further.
    pub const UNCONFIRMED: Self = Self(1 << 13);
    /// Those of checks that are not known, or not confirmed, one by one: nobody doubts another
    /// check for them. They are there to be told of.
    pub const TOLD_ONLY: Self = Self::CHECKS_EXCUSED
        .and(Self::NO_ROUTE)
        .and(Self::NO_RESOLVER)
        .and(Self::UNCONFIRMED);

    /// How many there are.
    pub const COUNT: usize = 14;

    const NAMES: [(Self, &'static str); Self::COUNT] = [
        (Self::LOOP_LAG, "loop_lag"),
        (Self::RESULTS_HELD, "results_held"),
        (Self::DESCRIPTORS, "descriptors"),
        (Self::PORTS, "ports"),
        (Self::RESOLVER_SICK, "resolver_sick"),
        (Self::FAILURES, "failures"),
        (Self::ISOLATION, "isolation"),
        (Self::STALLED, "stalled"),
        (Self::CHECKS_EXCUSED, "checks_excused"),
        (Self::CUT_OFF, "cut_off"),
        (Self::CANARIES_SILENT, "canaries_silent"),
        (Self::NO_ROUTE, "no_route"),
        (Self::NO_RESOLVER, "no_resolver"),
        (Self::UNCONFIRMED, "unconfirmed"),
    ];

    /// The set as one number, for a counter.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The set that [`Signals::bits`] made.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The stable name of every signal, and whether it is among these.
    pub fn each(self) -> impl Iterator<Item = (&'static str, bool)> {
        let of = move |(signal, name)| (name, self.has(signal));
        Self::NAMES.into_iter().map(of)
    }

    /// These and `others`.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These but for `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Whether any of `others` is among these.
    pub fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether all of `others` are among these.
    pub fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// The stable names of those that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = self.each().filter(|(_, is_set)| *is_set);
        set.map(|(name, _)| name)
    }

    /// Those of `names` that are known: a row may be of a later release.
    fn named(names: &[String]) -> Self {
        let is_named = |name: &str| names.iter().any(|other| other == name);
        let found = Self::NAMES.into_iter().filter(|(_, name)| is_named(name));
        found.fold(Self::NONE, |all, (signal, _)| all.and(signal))
    }
}

impl Serialize for Signals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_seq(self.names())
        } else {
            // A number of any length: there may be more of them one day.
            u32::from(self.0).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Signals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Vec::<String>::deserialize(deserializer).map(|names| Self::named(&names))
        } else {
            u32::deserialize(deserializer).map(|bits| Self(bits as u16))
        }
    }
}

/// Canary targets: outside of the fleet, over the same resolvers and routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canaries {
    /// How many there are that can be asked; 0 = none are configured.
    pub configured: u8,
    /// How many answered last.
    pub answering: u8,
}

impl Canaries {
    /// Whether at least two of three answer; `None` where there are none.
    pub fn are_well(self) -> Option<bool> {
        let two_thirds = u16::from(self.answering) * 3 >= u16::from(self.configured) * 2;
        (self.configured > 0).then_some(two_thirds)
    }

    /// Whether there are some, and none answers.
    pub fn are_silent(self) -> bool {
        self.configured > 0 && self.answering == 0
    }
}

/// How far failing checks were believed at a moment, and what told against them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belief {
    /// How far.
    pub stance: Stance,
    /// The signals in force.
    pub signals: Signals,
    /// What the canaries said.
    pub canaries: Canaries,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_and_stances_have_the_names_and_numbers_that_readers_know() {
        // The place in the list is the bit in the journal.
        let names = [
            "loop_lag",
            "results_held",
            "descriptors",
            "ports",
            "resolver_sick",
            "failures",
            "isolation",
            "stalled",
            "checks_excused",
            "cut_off",
            "canaries_silent",
            "no_route",
            "no_resolver",
            "unconfirmed",
        ];
        for (bit, name) in names.into_iter().enumerate() {
            assert_eq!(Signals(1 << bit).names().collect::<Vec<_>>(), [name]);
        }
        let stances = [
            Stance::Clear,
            Stance::Deferring,
            Stance::Doubting,
            Stance::Isolated,
        ];
        for (number, stance) in stances.into_iter().enumerate() {
            assert_eq!(stance as usize, number);
        }
        assert_eq!(
            stances.map(Stance::as_str),
            ["clear", "deferring", "doubting", "isolated"]
        );
    }

    #[test]
    fn names_of_a_later_release_are_passed_over() {
        let names = ["ports", "moon_phase", "loop_lag"].map(str::to_owned);
        assert_eq!(
            Signals::named(&names),
            Signals::LOOP_LAG.and(Signals::PORTS)
        );
    }
}
