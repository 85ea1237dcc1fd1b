//! Failure classes: stable strings, legacy codes and the verdict that each one carries.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a check says of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The target answered as it should.
    Up,
    /// The target answered, with something that needs attention.
    Degraded,
    /// The target failed.
    Down,
    /// We cannot say: the trouble is ours, or the check was refused.
    Unknown,
}

impl Verdict {
    /// Every verdict, in the order of metrics and reports.
    pub const ALL: [Self; 4] = [Self::Up, Self::Degraded, Self::Down, Self::Unknown];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! failure_classes {
    ($($number:literal $variant:ident $name:literal $legacy:expr, $verdict:ident;)*) => {
        /// Why a check did not end `up`. The string is the same in config, API, metrics and docs;
        /// the number is stored in outcomes and never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum FailureClass {
            $(#[doc = concat!("`", $name, "`")] $variant = $number,)*
        }

        impl FailureClass {
            /// Every class, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The class numbered `raw`; `None` for 0 (no failure) and for unknown numbers.
            pub fn from_u8(raw: u8) -> Option<Self> {
                match raw { $($number => Some(Self::$variant),)* _ => None }
            }

            /// The stable name, such as `connect.refused`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The legacy error code that readers of the old tables know; `None` where it has none.
            pub fn legacy_code(self) -> Option<u8> {
                match self { $(Self::$variant => $legacy,)* }
            }

            /// The verdict that this class carries.
            pub fn verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict,)* }
            }
        }
    };
}

failure_classes! {
    1 DnsNxdomain "dns.nxdomain" Some(2), Down;
    2 DnsNoAddress "dns.no_address" Some(2), Down;
    3 DnsServfail "dns.servfail" Some(2), Down;
    4 DnsTimeout "dns.timeout" Some(1), Down;
    5 DnsMalformed "dns.malformed" Some(2), Down;
    6 DnsResolverSick "dns.resolver_sick" None, Unknown;
    10 ConnectRefused "connect.refused" Some(2), Down;
    11 ConnectReset "connect.reset" Some(2), Down;
    12 ConnectUnreachable "connect.unreachable" Some(2), Down;
    13 ConnectTimeout "connect.timeout" Some(1), Down;
    14 ConnectLocal "connect.local" None, Unknown;
    20 TlsHandshake "tls.handshake" Some(3), Down;
    21 TlsUntrusted "tls.untrusted" Some(3), Down;
    22 TlsName "tls.name" Some(3), Down;
    23 TlsAlert "tls.alert" Some(3), Down;
    24 TlsExpired "tls.expired" Some(6), Down;
    25 TlsNotYetValid "tls.not_yet_valid" Some(6), Down;
    26 TlsTimeout "tls.timeout" Some(1), Down;
    27 TlsDeprecated "tls.deprecated" Some(7), Degraded;
    28 TlsUnsupported "tls.unsupported" Some(7), Degraded;
    40 HttpStatus "http.status" Some(0), Down;
    41 HttpTimeout "http.timeout" Some(1), Down;
    42 HttpMalformed "http.malformed" Some(2), Down;
    43 HttpHeaderTooLarge "http.header_too_large" Some(2), Down;
    44 HttpTooManyHeaders "http.too_many_headers" Some(2), Down;
    45 Latency "latency" Some(0), Degraded;
    46 HttpReset "http.reset" Some(8), Down;
    47 HttpTruncated "http.truncated" Some(8), Down;
    48 HttpBadChunk "http.bad_chunk" Some(8), Down;
    49 HttpBadEncoding "http.bad_encoding" Some(8), Down;
    60 RedirectLimit "redirect.limit" Some(4), Down;
    61 RedirectLoop "redirect.loop" Some(4), Down;
    62 RedirectRefused "redirect.refused" Some(4), Down;
    63 RedirectBadLocation "redirect.bad_location" Some(4), Down;
    70 BodyKeywordMissing "body.keyword_missing" Some(5), Down;
    71 BodyForbidden "body.forbidden" Some(5), Down;
    80 SafetyBlocked "safety.blocked" Some(9), Unknown;
    90 LocalPressure "local.pressure" None, Unknown;
    91 LocalShed "local.shed" None, Unknown;
    92 LocalCancelled "local.cancelled" None, Unknown;
}

impl FailureClass {
    /// The class named `name`, as [`FailureClass::as_str`] writes it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|class| class.as_str() == name)
    }

    /// The name could not be resolved, or does not exist.
    pub fn is_of_dns(self) -> bool {
        (self as u8) < Self::DnsResolverSick as u8
    }

    /// A handshake that failed, or was not accepted.
    pub fn is_tls(self) -> bool {
        (Self::TlsHandshake as u8..=Self::TlsUnsupported as u8).contains(&(self as u8))
    }

    /// Connect and timeout failures: what our own overload or network also looks like.
    pub fn is_connect_or_timeout(self) -> bool {
        use FailureClass as C;
        matches!(
            self,
            C::DnsTimeout
                | C::ConnectRefused
                | C::ConnectReset
                | C::ConnectUnreachable
                | C::ConnectTimeout
                | C::TlsTimeout
                | C::HttpTimeout
        )
    }

    /// Whether our own trouble looks like this, too: what pressure casts doubt on.
    pub fn may_be_ours(self) -> bool {
        self.is_connect_or_timeout() || self.is_of_dns()
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is stored and read outside of this program: number, word, legacy code, verdict. A row
    /// may be added; none may change, and no number may be used again.
    #[rustfmt::skip]
    const PINNED: [(u8, &str, Option<u8>, &str); 40] = [
        (1, "dns.nxdomain", Some(2), "down"),
        (2, "dns.no_address", Some(2), "down"),
        (3, "dns.servfail", Some(2), "down"),
        (4, "dns.timeout", Some(1), "down"),
        (5, "dns.malformed", Some(2), "down"),
        (6, "dns.resolver_sick", None, "unknown"),
        (10, "connect.refused", Some(2), "down"),
        (11, "connect.reset", Some(2), "down"),
        (12, "connect.unreachable", Some(2), "down"),
        (13, "connect.timeout", Some(1), "down"),
        (14, "connect.local", None, "unknown"),
        (20, "tls.handshake", Some(3), "down"),
        (21, "tls.untrusted", Some(3), "down"),
        (22, "tls.name", Some(3), "down"),
        (23, "tls.alert", Some(3), "down"),
        (24, "tls.expired", Some(6), "down"),
        (25, "tls.not_yet_valid", Some(6), "down"),
        (26, "tls.timeout", Some(1), "down"),
        (27, "tls.deprecated", Some(7), "degraded"),
        (28, "tls.unsupported", Some(7), "degraded"),
        (40, "http.status", Some(0), "down"),
        (41, "http.timeout", Some(1), "down"),
        (42, "http.malformed", Some(2), "down"),
        (43, "http.header_too_large", Some(2), "down"),
        (44, "http.too_many_headers", Some(2), "down"),
        (45, "latency", Some(0), "degraded"),
        (46, "http.reset", Some(8), "down"),
        (47, "http.truncated", Some(8), "down"),
        (48, "http.bad_chunk", Some(8), "down"),
        (49, "http.bad_encoding", Some(8), "down"),
        (60, "redirect.limit", Some(4), "down"),
        (61, "redirect.loop", Some(4), "down"),
        (62, "redirect.refused", Some(4), "down"),
        (63, "redirect.bad_location", Some(4), "down"),
        (70, "body.keyword_missing", Some(5), "down"),
        (71, "body.forbidden", Some(5), "down"),
        (80, "safety.blocked", Some(9), "unknown"),
        (90, "local.pressure", None, "unknown"),
        (91, "local.shed", None, "unknown"),
        (92, "local.cancelled", None, "unknown"),
    ];

    #[test]
    fn numbers_words_legacy_codes_and_verdicts_are_those_that_readers_know() {
        let of = |class: &FailureClass| {
            let verdict = class.verdict().as_str();
            (*class as u8, class.as_str(), class.legacy_code(), verdict)
        };
        let found: Vec<_> = FailureClass::ALL.iter().map(of).collect();
        assert_eq!(found, PINNED);
        let verdicts = Verdict::ALL.map(Verdict::as_str);
        assert_eq!(verdicts, ["up", "degraded", "down", "unknown"]);
    }

    #[test]
    fn every_class_survives_its_number_and_its_name() {
        for &class in FailureClass::ALL {
            assert_eq!(FailureClass::from_u8(class as u8), Some(class));
            assert_eq!(FailureClass::from_name(class.as_str()), Some(class));
        }
        assert_eq!(FailureClass::from_u8(0), None);
        assert_eq!(FailureClass::from_u8(255), None);
    }

    #[test]
    fn a_class_without_a_legacy_code_is_never_down() {
        for &class in FailureClass::ALL {
            if class.legacy_code().is_none() {
                assert_eq!(class.verdict(), Verdict::Unknown, "{class}");
            }
        }
    }

    #[test]
    fn what_is_of_dns_is_what_the_name_or_its_servers_did() {
        let low: Vec<&str> = FailureClass::ALL
            .iter()
            .filter(|class| class.is_of_dns())
            .map(|class| class.as_str())
            .collect();
        let dns = [
            "dns.nxdomain",
            "dns.no_address",
            "dns.servfail",
            "dns.timeout",
        ];
        assert_eq!(low[..4], dns);
        assert_eq!(low[4..], ["dns.malformed"]);
    }
}
