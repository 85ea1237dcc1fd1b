//! What a second look with a legacy hello found out about a server that refused ours, and the
//! memory of it.

use std::cell::RefCell;

use model::FailureClass;
use model::limits::{TLS_SECOND_LOOK_KEPT_S, TLS_SECOND_LOOKS_MAX};
use rustls::CipherSuite;

use super::fingerprint::Fingerprint;
use super::legacy_hello;
use super::lru::Lru;
use super::server_hello::ServerHelloSeen;

/// How a server refused our hello; another way is another story, which is looked at anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Alert 40 or 70.
    Alert(u8),
    /// Not a byte, then a close or a reset.
    Closed,
    /// A server hello of TLS 1.1 or older: what servers answer that know no `supported_versions`.
    OldHello,
}

/// What the second look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The server speaks this version at most; 0x0300 to 0x0302.
    Deprecated { version: u16, suite: u16 },
    /// The server speaks 1.2 with this suite, which we do not have.
    Unsupported { suite: u16 },
    /// It refuses an old client as well, or would take one with a suite of ours.
    Refused,
}

impl Finding {
    /// `None` while the server has not said enough; `has` tells which suites are ours.
    pub(super) fn of(seen: ServerHelloSeen, has: impl Fn(u16) -> bool) -> Option<Self> {
        Some(match seen {
            ServerHelloSeen::Partial => return None,
            // A server that chooses what it was not offered is broken, not old.
            ServerHelloSeen::Hello { suite, .. } if !legacy_hello::offers(suite) => Self::Refused,
            ServerHelloSeen::Hello { version, suite } if version < 0x0303 => {
                Self::Deprecated { version, suite }
            }
            ServerHelloSeen::Hello { suite, .. } if !has(suite) => Self::Unsupported { suite },
            ServerHelloSeen::Hello { .. } | ServerHelloSeen::Alert(_) | ServerHelloSeen::Other => {
                Self::Refused
            }
        })
    }

    pub(crate) fn class(self) -> FailureClass {
        match self {
            Self::Deprecated { .. } => FailureClass::TlsDeprecated,
            Self::Unsupported { .. } => FailureClass::TlsUnsupported,
            Self::Refused => FailureClass::TlsHandshake,
        }
    }

    /// The version and the suite that the server chose.
    pub(super) fn chosen(self) -> Option<(&'static str, String)> {
        let (version, suite) = match self {
            Self::Deprecated { version, suite } => (version_name(version), suite),
            Self::Unsupported { suite } => ("TLSv1.2", suite),
            Self::Refused => return None,
        };
        Some((version, suite_name(suite)))
    }
}

fn version_name(version: u16) -> &'static str {
    match version {
        0x0302 => "TLSv1.1",
        0x0301 => "TLSv1.0",
        _ => "SSLv3",
    }
}

fn suite_name(suite: u16) -> String {
    let name = CipherSuite::from(suite);
    name.as_str()
        .map_or_else(|| format!("0x{suite:04x}"), str::to_owned)
}

/// Findings of one core, by name and port.
#[derive(Debug)]
pub(super) struct SecondLooks(RefCell<Lru<Fingerprint, Remembered>>);

#[derive(Clone, Copy, Debug)]
struct Remembered {
    refusal: Refusal,
    finding: Finding,
    /// Seconds since the Unix epoch.
    at: u64,
    until: u64,
}

impl SecondLooks {
    pub(super) fn new() -> Self {
        Self(RefCell::new(Lru::new(TLS_SECOND_LOOKS_MAX)))
    }

    /// What a look found at most 24 h ago, if the server refuses us in the same way.
    pub(super) fn known(&self, place: &Fingerprint, refusal: Refusal, now: u64) -> Option<Finding> {
        let mut kept = self.0.borrow_mut();
        let known = kept.get(place)?;
        let holds = known.refusal == refusal && (known.at..known.until).contains(&now);
        holds.then_some(known.finding)
    }

    pub(super) fn remember(
        &self,
        place: Fingerprint,
        refusal: Refusal,
        finding: Finding,
        now: u64,
    ) {
        let until = now + TLS_SECOND_LOOK_KEPT_S;
        let remembered = Remembered {
            refusal,
            finding,
            at: now,
            until,
        };
        self.0.borrow_mut().insert(place, remembered);
    }

    /// A handshake has succeeded: what was found before does not speak of this server any more.
    pub(super) fn forget(&self, place: &Fingerprint) {
        let mut kept = self.0.borrow_mut();
        if kept.len() > 0
            && let Some(known) = kept.get(place)
        {
            known.until = 0;
        }
    }

    /// Findings that are kept.
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u16 = 0xc02f;
    const CBC: u16 = 0xc013;

    #[test]
    fn each_answer_has_its_finding() {
        use FailureClass as C;
        let hello = |version, suite| ServerHelloSeen::Hello { version, suite };
        for (seen, class) in [
            (ServerHelloSeen::Partial, None),
            (hello(0x0300, 0x0005), Some(C::TlsDeprecated)),
            (hello(0x0301, 0x002f), Some(C::TlsDeprecated)),
            (hello(0x0302, CBC), Some(C::TlsDeprecated)),
            (hello(0x0303, CBC), Some(C::TlsUnsupported)),
            (hello(0x0303, OURS), Some(C::TlsHandshake)),
            (hello(0x0303, 0x1301), Some(C::TlsHandshake)),
            (hello(0x0302, 0x0000), Some(C::TlsHandshake)),
            (ServerHelloSeen::Alert(70), Some(C::TlsHandshake)),
            (ServerHelloSeen::Other, Some(C::TlsHandshake)),
        ] {
            let finding = Finding::of(seen, |suite| suite == OURS);
            assert_eq!(finding.map(Finding::class), class, "{seen:?}");
        }
    }

    #[test]
    fn what_the_server_chose_has_its_standard_names() {
        let version = 0x0302;
        let old = Finding::Deprecated {
            version,
            suite: CBC,
        };
        let cbc = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA".to_owned();
        assert_eq!(old.chosen(), Some(("TLSv1.1", cbc.clone())));
        let unsupported = Finding::Unsupported { suite: CBC };
        assert_eq!(unsupported.chosen(), Some(("TLSv1.2", cbc)));
        assert_eq!(Finding::Refused.chosen(), None);
    }

    #[test]
    fn a_finding_is_remembered_for_a_day_of_the_same_refusal() {
        let looks = SecondLooks::new();
        let [one, other] = [b"one", b"two"].map(|name| Fingerprint::of([&name[..]]));
        let finding = Finding::Unsupported { suite: CBC };
        let at = 1_000_000;
        looks.remember(one, Refusal::Alert(40), finding, at);
        let known = |place, refusal, now| looks.known(&place, refusal, now);
        for (place, refusal, now, expected) in [
            (one, Refusal::Alert(40), at, Some(finding)),
            (one, Refusal::Alert(40), at + 86_399, Some(finding)),
            (one, Refusal::Alert(40), at + 86_400, None),
            (one, Refusal::Alert(40), at - 1, None),
            (one, Refusal::Alert(70), at, None),
            (one, Refusal::Closed, at, None),
            (other, Refusal::Alert(40), at, None),
        ] {
            assert_eq!(known(place, refusal, now), expected, "{refusal:?} {now}");
        }
        looks.forget(&other);
        assert_eq!(known(one, Refusal::Alert(40), at), Some(finding));
        looks.forget(&one);
        assert_eq!(known(one, Refusal::Alert(40), at), None);
    }
}
