//! The faults of a rung: which kinds, on which sites, and when they must have been found. They hold
//! from the begin of the measured window until the node has confirmed all of them. Pure.

use std::fmt::Write as _;

use model::limits::{CONFIRM_AFTER, GRID_RETURN_MS, SUPPRESSION_MAX_MS, SUSPECT_RECHECK_MS};
use model::schedule::cadence_ms;

use super::plan::{FaultMix, Rung, TIMEOUT_MS};

/// Sites that each kind breaks: as many plain ones are between two HTTPS sites of a mixed fleet.
const SITES_PER_FAULT: u32 = 9;
/// First site of the first kind, and from one kind to the next.
const FIRST: u32 = 100;
const STEP: u32 = 100;
/// Beyond the node's own time: on a busy machine it doubts itself, and suppresses failures of sites
/// for so long at most. A run gets longer by it, and not red.
const PATIENCE_MS: u32 = SUPPRESSION_MAX_MS as u32 + 60_000;
/// What a busy machine may take to see that all is well.
const RECOVERY_PATIENCE_MS: u32 = 120_000;

/// (kind, more lines) of every fleet, and of one with full TLS handshakes: who resumes a session is
/// shown no certificate.
const PLAIN: [(&str, &str); 6] = [
    ("status", "status = 503\n"),
    ("refuse", ""),
    ("silence", ""),
    ("truncated", ""),
    ("bad_chunk", ""),
    ("reset", ""),
];
const TLS: [(&str, &str); 2] = [("tls_expired", ""), ("tls_self_signed", "")];

fn kinds(rung: &Rung) -> impl Iterator<Item = (&'static str, &'static str)> {
    let has_tls = rung.scheme.https_every() > 0 && !rung.scheme.has_tickets();
    let tls = TLS.into_iter().filter(move |_| has_tls);
    let any = rung.faults == FaultMix::Usual;
    PLAIN.into_iter().chain(tls).filter(move |_| any)
}

/// The scenario as the farm reads it.
pub(super) fn toml(rung: &Rung) -> String {
    let mut text = String::new();
    for ((kind, more), from) in kinds(rung).zip((FIRST..).step_by(STEP as usize)) {
        // Behind an HTTPS site of a mixed fleet; TLS faults break every HTTPS site of a longer
        // range.
        let (first_site, count) = if kind.starts_with("tls_") {
            (from, SITES_PER_FAULT * rung.scheme.https_every())
        } else {
            (from + 1, SITES_PER_FAULT)
        };
        let _ = write!(
            text,
            "[[fault]]\nkind = \"{kind}\"\n{more}first_site = {first_site}\ncount = {count}\n\
             offset_s = 0\nduration_s = \"until-ended\"\n\n"
        );
    }
    text
}

/// Every kind with the number of sites that it breaks.
pub(super) fn planned(rung: &Rung) -> Vec<(&'static str, usize)> {
    let sites = SITES_PER_FAULT as usize;
    kinds(rung).map(|(kind, _)| (kind, sites)).collect()
}

/// Sites that must be Down before the faults end.
pub(super) fn sites_down(rung: &Rung) -> u64 {
    kinds(rung).count() as u64 * u64::from(SITES_PER_FAULT)
}

/// When they all are, from their begin, by the node's own constants: up to a cadence until the
/// first failing check, then the checks that confirm it, each until its deadline.
pub(super) fn confirmed_ms(rung: &Rung) -> u32 {
    let cadence = cadence_ms(rung.interval_s);
    let recheck = cadence.min(SUSPECT_RECHECK_MS);
    cadence + (CONFIRM_AFTER - 1) * recheck + CONFIRM_AFTER * TIMEOUT_MS
}

/// When they are given up, from their begin.
pub(super) fn given_up_ms(rung: &Rung) -> u32 {
    confirmed_ms(rung) + PATIENCE_MS
}

/// How long the node may take to see that all are well again.
pub(super) fn recovered_ms(rung: &Rung) -> u32 {
    cadence_ms(rung.interval_s) + GRID_RETURN_MS as u32 + TIMEOUT_MS
}

/// When the recovery is given up.
pub(super) fn not_recovered_ms(rung: &Rung) -> u32 {
    recovered_ms(rung) + RECOVERY_PATIENCE_MS
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Scheme, StoreKind};
    use super::*;

    fn rung(scheme: Scheme, faults: FaultMix) -> Rung {
        Rung {
            sites: 2_000,
            interval_s: 10,
            scheme,
            store: StoreKind::Sqlite,
            faults,
            dns_ttl_s: 3_600,
            overload: None,
        }
    }

    #[test]
    fn every_kind_has_sites_of_its_own_in_the_smallest_fleet() {
        use Scheme::{Http, HttpsFull, HttpsResumed, Mixed};
        for scheme in [Http, HttpsFull, HttpsResumed, Mixed] {
            let rung = rung(scheme, FaultMix::Usual);
            let file: toml::Table = toml(&rung).parse().expect("valid TOML");
            let faults = file["fault"].as_array().expect("tables");
            assert_eq!(faults.len(), planned(&rung).len());
            let number = |fault: &toml::Value, key: &str| fault[key].as_integer().expect("whole");
            let ranges: Vec<(u32, u32)> = faults
                .iter()
                .map(|f| (number(f, "first_site") as u32, number(f, "count") as u32))
                .collect();
            assert!(ranges.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
            assert!(
                ranges
                    .iter()
                    .all(|(first, count)| first + count <= rung.sites)
            );
            for (fault, (first, count)) in faults.iter().zip(ranges) {
                let every = scheme.https_every();
                let https = (first..first + count).filter(|s| every > 0 && s % every == 0);
                let is_tls = fault["kind"].as_str().is_some_and(|k| k.starts_with("tls"));
                let wanted = match scheme {
                    Mixed if !is_tls => 0,
                    Http => 0,
                    _ => SITES_PER_FAULT as usize,
                };
                assert_eq!(https.count(), wanted, "{fault}");
            }
        }
    }

    #[test]
    fn without_faults_there_is_nothing_to_find() {
        let rung = rung(Scheme::Http, FaultMix::None);
        assert_eq!((toml(&rung).as_str(), sites_down(&rung)), ("", 0));
        assert!(planned(&rung).is_empty());
    }

    #[test]
    fn the_time_to_confirm_grows_with_the_interval_and_not_with_its_rechecks() {
        let at = |interval_s| {
            confirmed_ms(&Rung {
                interval_s,
                ..rung(Scheme::Http, FaultMix::Usual)
            })
        };
        assert_eq!(at(10), 9_000 + 2 * 9_000 + 15_000);
        assert_eq!(at(300), 285_000 + 2 * 60_000 + 15_000);
        let rung = rung(Scheme::Http, FaultMix::Usual);
        assert!(given_up_ms(&rung) > confirmed_ms(&rung));
        assert!(not_recovered_ms(&rung) > recovered_ms(&rung));
    }
}
