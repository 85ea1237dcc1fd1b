//! What is spoken in one course of `ladder baseline`, and what proves that it was. Pure.

use serde::Serialize;

use super::engine::EngineWindow;
use crate::farm::TlsChain;

/// What a check may know of a site when it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Handshake {
    /// Nothing: full, and the chain verified in every check; of the authorities above it their
    /// certificates, as always.
    Verified,
    /// Its chain: full, and the chain found among the verified ones.
    Remembered,
    /// Its session: resumed.
    Resumed,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scheme {
    Http,
    Https(TlsChain, Handshake),
}

/// Every course, in the order of the report.
pub(super) const SCHEMES: [Scheme; 7] = {
    use Handshake::{Remembered, Resumed, Verified};
    use TlsChain::{Ecdsa, Rsa3};
    [
        Scheme::Http,
        Scheme::Https(Rsa3, Verified),
        Scheme::Https(Ecdsa, Verified),
        Scheme::Https(Rsa3, Remembered),
        Scheme::Https(Ecdsa, Remembered),
        Scheme::Https(Rsa3, Resumed),
        Scheme::Https(Ecdsa, Resumed),
    ]
};

impl Scheme {
    pub(super) fn name(self) -> String {
        let Self::Https(chain, handshake) = self else {
            return "HTTP".to_owned();
        };
        let chain = match chain {
            TlsChain::Ecdsa => "ECDSA chain of 2",
            TlsChain::Rsa3 => "RSA chain of 3",
        };
        let handshake = match handshake {
            Handshake::Verified => "full, chain verified",
            Handshake::Remembered => "full, verified before",
            Handshake::Resumed => "resumed",
        };
        format!("HTTPS {handshake}, {chain}")
    }

    /// The name of its folder.
    pub(super) fn folder(self) -> String {
        let words = format!("{self:?}").to_lowercase();
        let words = words.split(|letter: char| !letter.is_alphanumeric());
        words
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-")
    }

    pub(super) fn is_https(self) -> bool {
        self != Self::Http
    }

    /// Whether the floor is measured with it, which speaks no TLS.
    pub(super) fn has_floor(self) -> bool {
        !self.is_https()
    }

    /// Checks per second of each variant: what was asked for of HTTP or of HTTPS, and more where
    /// the farm signs less. The rarer a check, the more of it is waking up, which is the same for
    /// all variants and hides what tells them apart.
    pub(super) fn rate(self, http: u32, https: u32) -> u32 {
        match self {
            Self::Http => http,
            Self::Https(TlsChain::Rsa3, Handshake::Verified | Handshake::Remembered) => https,
            // Only hyper's handshakes are signed.
            Self::Https(TlsChain::Rsa3, Handshake::Resumed) => 2 * https,
            // A signature of ECDSA costs the farm far less than one of RSA.
            Self::Https(TlsChain::Ecdsa, _) => 3 * https,
        }
    }

    /// What healthy sites show.
    pub(super) fn chain(self) -> TlsChain {
        match self {
            Self::Http => TlsChain::Ecdsa,
            Self::Https(chain, _) => chain,
        }
    }

    /// Whether the farm hands out session tickets.
    pub(super) fn has_tickets(self) -> bool {
        matches!(self, Self::Https(_, Handshake::Resumed))
    }

    /// Flags of the node that make it so.
    pub(super) fn node_flags(self) -> Vec<String> {
        let flags: &[&str] = match self {
            Self::Https(_, Handshake::Verified) => &["--tls-chains-max", "0"],
            _ => &[],
        };
        flags.iter().map(ToString::to_string).collect()
    }

    /// The bar of the engine against hyper, which verifies in full every time.
    pub(super) fn bar_against_hyper(self) -> f64 {
        match self {
            Self::Http => 0.75,
            Self::Https(_, Handshake::Verified) => 0.90,
            Self::Https(_, Handshake::Remembered) => 0.80,
            Self::Https(_, Handshake::Resumed) => 0.50,
        }
    }
}

/// How the good HTTPS checks of the engine's windows came to their session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Handshakes {
    pub(super) good: u64,
    pub(super) full: u64,
    /// Of the full ones, those whose chain had been verified before.
    pub(super) remembered: u64,
}

impl Handshakes {
    /// Adds one window.
    pub(super) fn add(&mut self, window: &EngineWindow) {
        self.good += window.sample.checks - window.sample.failed;
        self.full += window.full_handshakes;
        self.remembered += window.remembered_chains;
    }

    /// Why they are not what `scheme` says. The counters of a window are not read in one moment:
    /// one in a hundred may be off where many are wanted, and none where none may be.
    pub(super) fn flaw(&self, scheme: Scheme) -> Option<String> {
        let Scheme::Https(_, handshake) = scheme else {
            return None;
        };
        let most = |part: u64, of: u64| part * 100 >= of * 99;
        let resumed = self.good.saturating_sub(self.full);
        let (full, good, remembered) = (self.full, self.good, self.remembered);
        match handshake {
            Handshake::Resumed => {
                (!most(resumed, good)).then(|| format!("{full} of {good} handshakes were full"))
            }
            _ if !most(full, good) => Some(format!("{resumed} handshakes were resumed")),
            Handshake::Verified => (remembered > 0)
                .then(|| format!("{remembered} of {full} chains had been verified before")),
            Handshake::Remembered => (!most(remembered, full))
                .then(|| format!("only {remembered} of {full} chains had been verified before")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshakes(good: u64, full: u64, remembered: u64) -> Handshakes {
        Handshakes {
            good,
            full,
            remembered,
        }
    }

    #[test]
    fn a_course_counts_only_with_the_handshakes_that_it_names() {
        use Handshake::{Remembered, Resumed, Verified};
        for (handshake, seen, flaw) in [
            (Verified, handshakes(100, 100, 0), None),
            (
                Verified,
                handshakes(100, 100, 1),
                Some("1 of 100 chains had been"),
            ),
            (
                Verified,
                handshakes(100, 98, 0),
                Some("2 handshakes were resumed"),
            ),
            (Remembered, handshakes(100, 100, 99), None),
            (Remembered, handshakes(100, 100, 98), Some("only 98 of 100")),
            (
                Remembered,
                handshakes(100, 90, 90),
                Some("10 handshakes were resumed"),
            ),
            (Resumed, handshakes(100, 1, 1), None),
            (
                Resumed,
                handshakes(100, 2, 0),
                Some("2 of 100 handshakes were full"),
            ),
        ] {
            let found = seen.flaw(Scheme::Https(TlsChain::Rsa3, handshake));
            match flaw {
                None => assert_eq!(found, None, "{seen:?}"),
                Some(flaw) => assert!(found.expect(flaw).starts_with(flaw), "{seen:?}"),
            }
        }
        assert_eq!(handshakes(5, 0, 0).flaw(Scheme::Http), None);
    }

    #[test]
    fn courses_differ_in_name_and_folder() {
        use std::collections::BTreeSet;
        let folders: BTreeSet<String> = SCHEMES.map(Scheme::folder).into();
        let names: BTreeSet<String> = SCHEMES.map(Scheme::name).into();
        assert_eq!((folders.len(), names.len()), (SCHEMES.len(), SCHEMES.len()));
        assert!(folders.contains("https-rsa3-verified"), "{folders:?}");
    }
}
