//! What a check of two addresses, one of each family, must come to: the rules once more, as
//! arithmetic on times instead of a machine.

use std::net::IpAddr;

use model::FailureClass;
use model::limits::FAMILY_DELAY_MS;

use super::network::{Fate, MS, Network, Other};

/// Class, address and length of the connect phase in µs.
pub(super) type Verdict = (Option<FailureClass>, Option<IpAddr>, u32);

/// How much it says that no connection stands, and which class it is: of the preferred family this
/// host must have a way, of the other one it need not.
fn failure(fate: Fate, preferred: bool, failed: bool) -> (u8, FailureClass) {
    match fate {
        Fate::Short => (3, FailureClass::ConnectLocal),
        Fate::NoWay if preferred => (3, FailureClass::ConnectLocal),
        Fate::NoWay => (1, FailureClass::ConnectLocal),
        Fate::Blocked => (0, FailureClass::SafetyBlocked),
        Fate::Refuses(_) if failed => (2, FailureClass::ConnectRefused),
        Fate::Refuses(_) | Fate::Accepts(_) | Fate::Silent => (2, FailureClass::ConnectTimeout),
    }
}

/// When a connection that begins at `from_us` stands, and when it fails.
fn ends(fate: Fate, from_us: u64) -> (u64, u64) {
    let at_us = from_us.saturating_add(fate.takes_us());
    match fate {
        Fate::Accepts(_) => (at_us, u64::MAX),
        _ => (u64::MAX, at_us),
    }
}

pub(super) fn expected(network: &Network, deadline_us: u64) -> Verdict {
    let (first, other) = (network.first[0], network.other[0]);
    let start = network.dns_us;
    let (first_stands, first_fails) = ends(first, start);
    let wanted_at = first_fails.min(start + FAMILY_DELAY_MS * MS);
    // When the other family begins; or it is known that there is none.
    let (known_at, lacking_at) = match network.answer {
        Other::WithTheFirst => (wanted_at, u64::MAX),
        Other::After(us) => (wanted_at + us, u64::MAX),
        Other::Lacking(us) | Other::Failing(us) => (u64::MAX, wanted_at + us),
        Other::Never => (u64::MAX, u64::MAX),
    };
    let (other_stands, other_fails) = match known_at {
        u64::MAX => (u64::MAX, lacking_at),
        at_us => ends(other, at_us),
    };
    let stands = first_stands.min(other_stands);
    let (first_ip, other_ip) = (network.first_address(0), network.other_address(0));
    if stands < deadline_us {
        let (address, fate) = if first_stands < other_stands {
            (first_ip, first)
        } else {
            (other_ip, other)
        };
        return (None, Some(address), fate.takes_us() as u32);
    }
    let end = first_fails.max(other_fails).min(deadline_us);
    let mut best = (failure(first, true, first_fails < deadline_us), first_ip);
    if known_at < deadline_us {
        let failed = failure(other, false, other_fails < deadline_us);
        if failed.0 > best.0.0 {
            best = (failed, other_ip);
        }
    }
    let ((weight, class), address) = best;
    let connect_us = match weight {
        0 => model::outcome::PHASE_ABSENT,
        _ => (end - start) as u32,
    };
    (Some(class), Some(address), connect_us)
}
