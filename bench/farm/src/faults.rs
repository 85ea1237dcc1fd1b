//! Every way in which a site can be broken: its name in a scenario, the part of a check that it
//! breaks, and what a monitor must find. Pure; when and where a fault holds is in `scenario`.

use model::FailureClass;
use model::limits::DNS_TRY_MS;

/// The part of a check that a fault breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Dns,
    /// At the accept, before a byte is read: such sites have a port of their own.
    Connect,
    Tls,
    Http,
}

/// What a monitor has to do with a site, as far as it decides what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// The deadline of a check.
    pub(crate) timeout_ms: u32,
    /// Whether a resolver may still hold an answer for the site: over a SERVFAIL or a silent
    /// server it then serves that one (RFC 8767), and the site is not down.
    pub(crate) resolved: bool,
    /// Whether the site speaks HTTPS.
    pub(crate) https: bool,
}

/// What a target must look for in the body, so that a fault of the body is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// The string that every healthy page has.
    Keyword,
    /// The string that only a page with `forbidden_text` has.
    Forbidden,
}

macro_rules! plain_kinds {
    ($($(#[$doc:meta])+ $kind:ident $name:literal $layer:ident $class:expr;)*) => {
        /// What goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum FaultKind {
            /// Answer with this status.
            Status(u16),
            /// Answer well, but only after so many ms.
            SlowFirstByte(u32),
            /// Answer a DNS query well, but only after so many ms.
            DnsSlow(u32),
            $($(#[$doc])+ $kind,)*
        }

        /// Names of all kinds, in a scenario file and in the truth.
        pub(crate) const NAMES: &[&str] = &["status", "slow_first_byte", "dns_slow", $($name,)*];

        impl FaultKind {
            /// The kind called `name`, if it is one that needs no number.
            pub(crate) fn plain(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$kind),)*
                    _ => None,
                }
            }

            /// The name of this kind in a scenario file and in the truth.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    Self::Status(_) => "status",
                    Self::SlowFirstByte(_) => "slow_first_byte",
                    Self::DnsSlow(_) => "dns_slow",
                    $(Self::$kind => $name,)*
                }
            }

            /// The part of a check that this fault breaks.
            pub(crate) fn layer(self) -> Layer {
                match self {
                    Self::Status(_) | Self::SlowFirstByte(_) => Layer::Http,
                    Self::DnsSlow(_) => Layer::Dns,
                    $(Self::$kind => Layer::$layer,)*
                }
            }

            /// What a monitor must find whatever the circumstances.
            fn usual_class(self) -> Option<FailureClass> {
                use FailureClass as C;
                match self {
                    Self::Status(200..=399) => None,
                    Self::Status(_) => Some(C::HttpStatus),
                    Self::SlowFirstByte(_) => Some(C::HttpTimeout),
                    Self::DnsSlow(_) => Some(C::DnsTimeout),
                    $(Self::$kind => $class,)*
                }
            }
        }
    };
}

plain_kinds! {
    /// The name does not exist.
    DnsNxdomain "dns_nxdomain" Dns Some(C::DnsNxdomain);
    /// The name is an alias of one that does not exist.
    DnsCnameNxdomain "dns_cname_nxdomain" Dns Some(C::DnsNxdomain);
    /// The name is an alias of an alias and so on, as many as a resolver follows, and then a site.
    DnsCnameChain "dns_cname_chain" Dns None;
    /// The same, with one alias more.
    DnsCnameLong "dns_cname_long" Dns Some(C::DnsMalformed);
    /// The name exists and has no address.
    DnsEmpty "dns_empty" Dns Some(C::DnsNoAddress);
    /// The name server cannot answer.
    DnsServfail "dns_servfail" Dns Some(C::DnsServfail);
    /// The name server cannot answer for IPv4; for IPv6 it has an address that no host connects to.
    DnsAServfail "dns_a_servfail" Dns Some(C::DnsServfail);
    /// Leave the query unanswered.
    DnsTimeout "dns_timeout" Dns Some(C::DnsTimeout);
    /// Over UDP nothing but the word that the answer does not fit; it comes over TCP.
    DnsTruncated "dns_truncated" Dns None;
    /// An answer that ends inside its last record.
    DnsMalformed "dns_malformed" Dns Some(C::DnsMalformed);

    /// The port has no listener.
    Refuse "refuse" Connect Some(C::ConnectRefused);
    /// Nobody answers a connect: it is dropped, as by a silent firewall.
    BlackHole "black_hole" Connect Some(C::ConnectTimeout);
    /// Accept, then close in order without a byte.
    CloseAtAccept "close_at_accept" Connect Some(C::HttpTruncated);
    /// Accept, then RST.
    ResetAtAccept "reset_at_accept" Connect Some(C::HttpReset);
    /// Accept, then never say a byte.
    SilenceAtAccept "silence_at_accept" Connect Some(C::HttpTimeout);

    /// A certificate of the right CA that has expired.
    TlsExpired "tls_expired" Tls Some(C::TlsExpired);
    /// A good certificate that expires within five days.
    TlsExpiring "tls_expiring" Tls None;
    /// A certificate of the right CA that is good some decades from now.
    TlsNotYetValid "tls_not_yet_valid" Tls Some(C::TlsNotYetValid);
    /// A certificate of the right CA for other names.
    TlsWrongName "tls_wrong_name" Tls Some(C::TlsName);
    /// A certificate that signed itself.
    TlsSelfSigned "tls_self_signed" Tls Some(C::TlsUntrusted);
    /// The good certificate without those between it and the root.
    TlsIncompleteChain "tls_incomplete_chain" Tls Some(C::TlsUntrusted);
    /// Alert 70 to a client of today; to one of long ago a `ServerHello` of TLS 1.1.
    TlsDeprecated "tls_deprecated" Tls Some(C::TlsDeprecated);
    /// Alert 40 to a client of today; to one of long ago a `ServerHello` of TLS 1.2 with AES-CBC.
    TlsUnsupported "tls_unsupported" Tls Some(C::TlsUnsupported);
    /// Alert 40, `handshake_failure`, to every client.
    TlsRefused "tls_refused" Tls Some(C::TlsHandshake);
    /// Alert 112, `unrecognized_name`.
    TlsUnknownName "tls_unknown_name" Tls Some(C::TlsAlert);
    /// Read the hello, never answer it.
    TlsSilence "tls_silence" Tls Some(C::TlsTimeout);

    /// Read the request, never answer.
    Silence "silence" Http Some(C::HttpTimeout);
    /// Send the head, never the body.
    SilenceBody "silence_body" Http Some(C::HttpTimeout);
    /// The whole answer, one byte per second.
    Drip "drip" Http Some(C::HttpTimeout);
    /// Close in the middle of the body.
    Truncated "truncated" Http Some(C::HttpTruncated);
    /// RST after the request was read.
    Reset "reset" Http Some(C::HttpReset);
    /// RST in the middle of the head.
    ResetHead "reset_head" Http Some(C::HttpReset);
    /// RST in the middle of the body.
    ResetBody "reset_body" Http Some(C::HttpReset);
    /// A chunk whose size is no number.
    BadChunk "bad_chunk" Http Some(C::HttpBadChunk);
    /// A body that says gzip and is none.
    BadGzip "bad_gzip" Http Some(C::HttpBadEncoding);
    /// Content-Length twice, the same each time.
    DuplicateLength "duplicate_length" Http None;
    /// Content-Length twice, each time another one.
    ConflictingLength "conflicting_length" Http Some(C::HttpMalformed);
    /// A head of 200 fields.
    HeaderFlood "header_flood" Http Some(C::HttpTooManyHeaders);
    /// A head of 80 KiB in a few fields.
    LargeHead "large_head" Http Some(C::HttpHeaderTooLarge);
    /// A redirect that leads to itself.
    RedirectLoop "redirect_loop" Http Some(C::RedirectLoop);
    /// Fifteen redirects, one after the other, and then the page.
    RedirectChain "redirect_chain" Http Some(C::RedirectLimit);
    /// A redirect to a private address.
    RedirectPrivate "redirect_private" Http Some(C::SafetyBlocked);
    /// A redirect to what is no web address.
    RedirectBadLocation "redirect_bad_location" Http Some(C::RedirectBadLocation);
    /// The page without the string that every healthy page has.
    KeywordMissing "keyword_missing" Http Some(C::BodyKeywordMissing);
    /// The page with a string that no healthy page has.
    ForbiddenText "forbidden_text" Http Some(C::BodyForbidden);
}

impl FaultKind {
    /// What a monitor must find; `None`: nothing that counts as a failure (a status that is
    /// accepted by default, a first byte in time).
    pub(crate) fn class(self, seen: Circumstances) -> Option<FailureClass> {
        match self {
            Self::SlowFirstByte(delay_ms) if delay_ms < seen.timeout_ms => None,
            // Each try of a resolver has its own limit; an answer after it is not heard.
            Self::DnsSlow(delay_ms)
                if delay_ms < seen.timeout_ms && u64::from(delay_ms) < DNS_TRY_MS =>
            {
                None
            }
            Self::DnsServfail | Self::DnsAServfail | Self::DnsTimeout | Self::DnsSlow(_)
                if seen.resolved =>
            {
                None
            }
            Self::CloseAtAccept | Self::ResetAtAccept if seen.https => {
                Some(FailureClass::TlsHandshake)
            }
            Self::SilenceAtAccept if seen.https => Some(FailureClass::TlsTimeout),
            _ => self.usual_class(),
        }
    }

    /// What a target must look for, so that this fault is found.
    pub(crate) fn body_rule(self) -> Option<BodyRule> {
        match self {
            Self::KeywordMissing | Self::BadGzip => Some(BodyRule::Keyword),
            Self::ForbiddenText => Some(BodyRule::Forbidden),
            _ => None,
        }
    }

    /// Whether the fault is in the handshake itself, not in the certificate that it shows.
    pub(crate) fn is_of_handshake(self) -> bool {
        matches!(
            self,
            Self::TlsDeprecated
                | Self::TlsUnsupported
                | Self::TlsRefused
                | Self::TlsUnknownName
                | Self::TlsSilence
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Circumstances = Circumstances {
        timeout_ms: 1_000,
        resolved: false,
        https: false,
    };

    #[test]
    fn every_name_is_there_once_and_comes_back() {
        for (index, name) in NAMES.iter().enumerate() {
            assert!(!NAMES[..index].contains(name), "{name} is there twice");
            let Some(kind) = FaultKind::plain(name) else {
                assert!(index < 3, "{name} needs a number");
                continue;
            };
            assert_eq!(kind.name(), *name);
        }
    }

    #[test]
    fn the_names_of_dns_and_tls_faults_say_so() {
        for kind in NAMES.iter().filter_map(|name| FaultKind::plain(name)) {
            let name = kind.name();
            assert_eq!(
                name.starts_with("dns_"),
                kind.layer() == Layer::Dns,
                "{name}"
            );
            assert_eq!(
                name.starts_with("tls_"),
                kind.layer() == Layer::Tls,
                "{name}"
            );
        }
    }

    #[test]
    fn a_slow_first_byte_is_a_failure_only_past_the_deadline() {
        let class = |delay_ms| FaultKind::SlowFirstByte(delay_ms).class(USUAL);
        assert_eq!(class(999), None);
        assert_eq!(class(1_000), Some(FailureClass::HttpTimeout));
    }

    #[test]
    fn a_slow_name_server_is_a_failure_past_the_deadline_or_past_a_try() {
        let class = |delay_ms, timeout_ms| {
            FaultKind::DnsSlow(delay_ms).class(Circumstances {
                timeout_ms,
                ..USUAL
            })
        };
        assert_eq!(class(999, 1_000), None);
        assert_eq!(class(1_000, 1_000), Some(FailureClass::DnsTimeout));
        assert_eq!(class(1_499, 10_000), None);
        assert_eq!(class(1_500, 10_000), Some(FailureClass::DnsTimeout));
    }

    #[test]
    fn a_cached_address_hides_a_sick_server_but_not_nxdomain() {
        let resolved = Circumstances {
            resolved: true,
            ..USUAL
        };
        for sick in [
            FaultKind::DnsServfail,
            FaultKind::DnsAServfail,
            FaultKind::DnsTimeout,
            FaultKind::DnsSlow(5_000),
        ] {
            assert_eq!(sick.class(resolved), None, "{}", sick.name());
        }
        let nxdomain = FaultKind::DnsNxdomain.class(resolved);
        assert_eq!(nxdomain, Some(FailureClass::DnsNxdomain));
    }

    #[test]
    fn what_happens_at_the_accept_is_a_matter_of_tls_for_an_https_site() {
        let https = Circumstances {
            https: true,
            ..USUAL
        };
        for (kind, plain, secure) in [
            (
                FaultKind::CloseAtAccept,
                FailureClass::HttpTruncated,
                FailureClass::TlsHandshake,
            ),
            (
                FaultKind::ResetAtAccept,
                FailureClass::HttpReset,
                FailureClass::TlsHandshake,
            ),
            (
                FaultKind::SilenceAtAccept,
                FailureClass::HttpTimeout,
                FailureClass::TlsTimeout,
            ),
        ] {
            assert_eq!(kind.class(USUAL), Some(plain));
            assert_eq!(kind.class(https), Some(secure));
        }
    }
}
