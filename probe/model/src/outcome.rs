//! `Outcome`: the one fixed-size record that a finished check puts on the channel to the sink.

use serde::{Deserialize, Serialize};

use crate::class::{FailureClass, Verdict};
use crate::ids::{Generation, Slot};
use crate::time::UnixMs;

/// A phase that was not reached: absent, not 0.
pub const PHASE_ABSENT: u32 = u32::MAX;

/// Flag bits of [`Outcome::flags`].
pub mod flags {
    /// The DNS answer was older than its TTL, served because the resolver failed.
    pub const DNS_STALE: u16 = 1;
    /// The name was answered from the cache.
    pub const DNS_CACHED: u16 = 1 << 1;
    /// The response head needed tolerance (`monitor.md` §2 "Heads").
    pub const HTTP_SLOPPY: u16 = 1 << 2;
    /// Completed after its deadline was due but before it was judged.
    pub const LATE: u16 = 1 << 3;
    /// The TLS handshake resumed an earlier session.
    pub const TLS_RESUMED: u16 = 1 << 4;
    /// The chain came from the verified-chain cache.
    pub const TLS_CHAIN_CACHED: u16 = 1 << 5;
    /// Many sites of the address asked for fewer requests: they are checked half as often.
    pub const THROTTLED: u16 = 1 << 6;
    /// A redirect went from https to http.
    pub const REDIRECT_DOWNGRADE: u16 = 1 << 7;
    /// HTTP was verified although the verdict is `degraded`.
    pub const HTTP_VERIFIED: u16 = 1 << 8;
    /// A suspect re-check, a `CheckNow`, or a check that is made again since it had spent its time
    /// on a kept connection; not the routine check.
    pub const COMMANDED: u16 = 1 << 9;
    /// The target was redirected, and is configured to say so (`redirect = alert`).
    pub const REDIRECT_ALERT: u16 = 1 << 10;
    /// A handshake with a TLS session that the server had given out failed; the attempt went on
    /// with a full one on a second connection.
    pub const TLS_SESSION_REFUSED: u16 = 1 << 11;
    /// A request of the check went over a connection that had carried another one before: its phase
    /// `connect` is absent.
    pub const CONNECTION_REUSED: u16 = 1 << 12;
    /// Two upstreams say that the name does not exist.
    pub const DNS_AGREED: u16 = 1 << 13;
    /// The site asked for fewer requests: 429, or 503 with Retry-After.
    pub const SLOW_DOWN: u16 = 1 << 14;
    /// Not a check: the last word on a removed slot; after it the slot may be reused.
    pub const SLOT_RELEASED: u16 = 1 << 15;

    /// What was tolerated of a target, or is worth a look although it changes no verdict: flag and
    /// stable name, the same in JSON, on a terminal and in the guide.
    pub const MARKS: [(u16, &str); 9] = [
        (CONNECTION_REUSED, "connection_reused"),
        (DNS_AGREED, "dns_agreed"),
        (DNS_STALE, "dns_stale"),
        (HTTP_SLOPPY, "http_sloppy"),
        (LATE, "late"),
        (REDIRECT_ALERT, "redirect_alert"),
        (REDIRECT_DOWNGRADE, "redirect_downgrade"),
        (THROTTLED, "throttled"),
        (TLS_SESSION_REFUSED, "tls_session_refused"),
    ];

    /// The names of those among [`MARKS`] that are set.
    pub fn marks(flags: u16) -> impl Iterator<Item = &'static str> {
        let set = MARKS.into_iter().filter(move |(flag, _)| flags & flag != 0);
        set.map(|(_, name)| name)
    }
}

/// Milliseconds since the Unix epoch in two halves, so that [`Outcome`] has an alignment of 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SplitMs([u32; 2]);

impl From<UnixMs> for SplitMs {
    fn from(at: UnixMs) -> Self {
        Self([(at.0 >> 32) as u32, at.0 as u32])
    }
}

impl SplitMs {
    /// The instant as one number.
    pub fn get(self) -> UnixMs {
        UnixMs(u64::from(self.0[0]) << 32 | u64::from(self.0[1]))
    }
}

/// Phases of a check in µs; [`PHASE_ABSENT`] where a phase was not reached. Where they are kept,
/// they are a list in the order of [`Phases::NAMES`] that has nothing where one was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[Option<u32>; 6]", into = "[Option<u32>; 6]")]
#[repr(C)]
pub struct Phases {
    /// Name to addresses.
    pub dns_us: u32,
    /// First socket action to an established connection.
    pub connect_us: u32,
    /// TLS handshake.
    pub tls_us: u32,
    /// Request written to first byte of the answer.
    pub ttfb_us: u32,
    /// First byte to the end of what was read.
    pub body_us: u32,
    /// The whole attempt.
    pub total_us: u32,
}

impl Phases {
    /// No phase reached.
    pub const NONE: Self = Self {
        dns_us: PHASE_ABSENT,
        connect_us: PHASE_ABSENT,
        tls_us: PHASE_ABSENT,
        ttfb_us: PHASE_ABSENT,
        body_us: PHASE_ABSENT,
        total_us: PHASE_ABSENT,
    };

    /// Names of the phases, in the order of [`Phases::values`].
    pub const NAMES: [&'static str; 6] = ["dns", "connect", "tls", "ttfb", "body", "total"];

    /// The phases in the order of [`Phases::NAMES`].
    pub fn values(&self) -> [Option<u32>; 6] {
        // Written out: every check asks twice, and `map` of an array is a call with a loop.
        let reached = |us: u32| (us != PHASE_ABSENT).then_some(us);
        [
            reached(self.dns_us),
            reached(self.connect_us),
            reached(self.tls_us),
            reached(self.ttfb_us),
            reached(self.body_us),
            reached(self.total_us),
        ]
    }
}

impl From<[Option<u32>; 6]> for Phases {
    fn from(values: [Option<u32>; 6]) -> Self {
        let [dns_us, connect_us, tls_us, ttfb_us, body_us, total_us] =
            values.map(|us| us.unwrap_or(PHASE_ABSENT));
        Self {
            dns_us,
            connect_us,
            tls_us,
            ttfb_us,
            body_us,
            total_us,
        }
    }
}

impl From<Phases> for [Option<u32>; 6] {
    fn from(phases: Phases) -> Self {
        phases.values()
    }
}

/// The result of one check. 60 bytes, `Copy`: it crosses the channel by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Outcome {
    /// The target's slot on the core that the channel implies.
    pub slot: Slot,
    /// Generation of the target when the check started.
    pub generation: Generation,
    /// Number of this check on its core's slot, from 1. The sink keeps the last one in memory
    /// only, so that the 1 of a new boot is never stale.
    pub seq: u32,
    /// Start of the check on the wall clock.
    pub started: SplitMs,
    /// Time spent, by phase.
    pub phases: Phases,
    /// How late the check started, in µs.
    pub lag_us: u32,
    /// Upper bound of how long the last event waited for us, in µs.
    pub reap_us: u32,
    /// Days since the Unix epoch of the earliest `notAfter` in the chain; 0 = no TLS.
    pub not_after_days: u16,
    /// HTTP status, 0 = none.
    pub status: u16,
    /// Bits of [`flags`].
    pub flags: u16,
    /// [`FailureClass`] as a number, 0 = none.
    pub class: u8,
    /// Redirects followed.
    pub hops: u8,
}

const _: () = assert!(size_of::<Outcome>() == 60 && align_of::<Outcome>() == 4);

impl Outcome {
    /// The failure class, `None` when the check ended `up`.
    pub fn failure(&self) -> Option<FailureClass> {
        FailureClass::from_u8(self.class)
    }

    /// What the check says of its target.
    pub fn verdict(&self) -> Verdict {
        self.failure().map_or(Verdict::Up, FailureClass::verdict)
    }

    /// Whether the failure says little from one place and opens no event before it is confirmed:
    /// one of DNS, but for a name of which two upstreams say that it does not exist.
    pub fn is_low_confidence(&self) -> bool {
        let agreed = self.class == FailureClass::DnsNxdomain as u8 && self.has(flags::DNS_AGREED);
        self.failure().is_some_and(FailureClass::is_of_dns) && !agreed
    }

    /// Whether all bits of `mask` are set.
    pub fn has(&self, mask: u16) -> bool {
        self.flags & mask == mask
    }

    /// The marker that ends a removed slot's stream of outcomes.
    pub fn slot_released(slot: Slot, generation: Generation, at: UnixMs) -> Self {
        Self {
            slot,
            generation,
            seq: 0,
            started: at.into(),
            phases: Phases::NONE,
            lag_us: 0,
            reap_us: 0,
            not_after_days: 0,
            status: 0,
            flags: flags::SLOT_RELEASED,
            class: FailureClass::LocalCancelled as u8,
            hops: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_instant_survives_the_round_trip() {
        for ms in [0, 1, u64::from(u32::MAX), 1_795_000_000_123, u64::MAX] {
            assert_eq!(SplitMs::from(UnixMs(ms)).get(), UnixMs(ms));
        }
    }

    #[test]
    fn only_what_two_upstreams_say_of_a_name_is_sure_of_all_that_dns_says() {
        for flags in [0, flags::DNS_AGREED, flags::DNS_AGREED | flags::DNS_CACHED] {
            for class in 0..=u8::MAX {
                let outcome = Outcome {
                    flags,
                    class,
                    ..Outcome::slot_released(Slot(3), Generation(1), UnixMs(9))
                };
                let of_dns = (1..=5).contains(&class);
                let agreed = class == 1 && flags != 0;
                assert_eq!(outcome.is_low_confidence(), of_dns && !agreed, "{class}");
            }
        }
    }

    #[test]
    fn phases_are_kept_as_they_are() {
        let phases = Phases {
            connect_us: 900,
            total_us: 0,
            ..Phases::NONE
        };
        let kept = phases.values();
        assert_eq!(kept, [None, Some(900), None, None, None, Some(0)]);
        assert_eq!(Phases::from(kept), phases);
    }

    #[test]
    fn class_zero_is_up_and_a_marker_is_unknown() {
        let mut outcome = Outcome::slot_released(Slot(3), Generation(1), UnixMs(9));
        assert_eq!(outcome.verdict(), Verdict::Unknown);
        assert!(outcome.has(flags::SLOT_RELEASED));
        outcome.class = 0;
        assert_eq!((outcome.verdict(), outcome.failure()), (Verdict::Up, None));
        assert_eq!(outcome.phases.values(), [None; 6]);
    }
}
