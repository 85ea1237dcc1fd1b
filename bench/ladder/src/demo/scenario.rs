//! The demo's timetable: which faults, on which sites, from when on. A fault lasts until the node
//! has confirmed all of them, so that a busy machine makes the demo longer and not red; arithmetic
//! over the node's own constants says how long that takes.

use model::limits::{CONFIRM_AFTER, GRID_RETURN_MS, SUSPECT_RECHECK_MS};
use model::schedule::cadence_ms;

/// Sites of the demo.
pub(crate) const SITES: u32 = 10_000;
/// How often each is checked, in seconds.
pub(crate) const INTERVAL_S: u32 = 10;
/// Every n-th site speaks HTTPS.
pub(crate) const HTTPS_EVERY: u32 = 10;
/// Deadline of a check, in ms.
pub(crate) const TIMEOUT_MS: u32 = 2_000;
/// Sites that each kind of fault breaks.
const SITES_PER_FAULT: u32 = 9;

/// The node may need this long from its start to its first check, in ms.
const START_ALLOWANCE_MS: u32 = 8_000;
/// When every site has been checked once and the measurement begins, in ms.
pub(crate) const WARM_UP_MS: u32 = START_ALLOWANCE_MS + 4_000;
/// When the faults begin that a site must have been healthy before, in ms.
const FAULTS_START_MS: u32 = WARM_UP_MS + 1_000;
/// Faults end after this long, found or not, in ms.
pub(crate) const FAULTS_MAX_MS: u32 = 300_000;
/// The run ends this long after the faults, recovered or not, in ms.
pub(crate) const RECOVERY_MAX_MS: u32 = 120_000;

/// A kind of fault in the scenario's file.
#[derive(Clone, Copy)]
struct Entry {
    kind: &'static str,
    extra: &'static str,
    when: When,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the node starts. An answer that a resolver already holds is served over a sick
    /// name server (RFC 8767), and an answer is kept for 30 s: a name must be sick from the first.
    FromTheStart,
    /// Once every site has been seen healthy.
    AfterWarmUp,
}

const fn entry(kind: &'static str, extra: &'static str, when: When) -> Entry {
    Entry { kind, extra, when }
}

const ENTRIES: [Entry; 12] = [
    entry("dns_nxdomain", "", When::FromTheStart),
    entry("dns_servfail", "", When::FromTheStart),
    entry("dns_timeout", "", When::FromTheStart),
    entry("status", "status = 503\n", When::AfterWarmUp),
    entry("refuse", "", When::AfterWarmUp),
    entry("silence", "", When::AfterWarmUp),
    entry("silence_body", "", When::AfterWarmUp),
    entry("truncated", "", When::AfterWarmUp),
    entry("reset", "", When::AfterWarmUp),
    entry("slow_first_byte", "delay_ms = 6000\n", When::AfterWarmUp),
    entry("tls_expired", "", When::AfterWarmUp),
    entry("tls_self_signed", "", When::AfterWarmUp),
];

impl Entry {
    fn start_ms(&self) -> u32 {
        match self.when {
            When::FromTheStart => 0,
            When::AfterWarmUp => FAULTS_START_MS,
        }
    }

    /// TLS faults break every HTTPS site of a longer range.
    fn range(&self) -> u32 {
        let spread = if self.kind.starts_with("tls_") {
            HTTPS_EVERY
        } else {
            1
        };
        SITES_PER_FAULT * spread
    }
}

/// The scenario as the farm reads it. Ranges begin behind an HTTPS site, so that the plain kinds
/// break plain sites.
pub(crate) fn toml() -> String {
    let mut text = String::from("# The demo's faults; times count from the scenario's start.\n");
    for (index, entry) in ENTRIES.iter().enumerate() {
        let first_site = 101 + 500 * index as u32;
        let offset_s = f64::from(entry.start_ms()) / 1_000.0;
        text.push_str("\n[[fault]]\n");
        for line in [
            format!("kind = \"{}\"\n", entry.kind),
            entry.extra.to_owned(),
            format!("first_site = {first_site}\ncount = {}\n", entry.range()),
            format!("offset_s = {offset_s:.1}\nduration_s = \"until-ended\"\n"),
        ] {
            text.push_str(&line);
        }
    }
    text
}

/// Every kind of fault with the number of sites that it breaks.
pub(crate) fn planned() -> [(&'static str, usize); ENTRIES.len()] {
    ENTRIES.map(|entry| (entry.kind, SITES_PER_FAULT as usize))
}

/// Sites that must be Down before the faults end.
pub(crate) const SITES_DOWN: u32 = SITES_PER_FAULT * ENTRIES.len() as u32;

/// When the run ends on a machine that keeps up, in ms: up to a cadence until the first failing
/// check, the re-checks, each until its deadline, and one more cadence to see the recovery.
pub(crate) fn expected_end_ms() -> u32 {
    let cadence = cadence_ms(INTERVAL_S);
    let recheck = cadence.min(SUSPECT_RECHECK_MS);
    let confirmed = cadence + (CONFIRM_AFTER - 1) * recheck + CONFIRM_AFTER * TIMEOUT_MS;
    FAULTS_START_MS + confirmed + cadence + GRID_RETURN_MS as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_takes_about_a_minute() {
        assert!((50_000..=75_000).contains(&expected_end_ms()));
        assert!(
            FAULTS_MAX_MS > 3 * expected_end_ms(),
            "a busy machine is given its time"
        );
    }

    #[test]
    fn the_file_has_every_kind_on_its_own_sites() {
        let file: toml::Table = toml().parse().expect("valid TOML");
        let faults = file["fault"].as_array().expect("an array of tables");
        let number = |fault: &toml::Value, key: &str| fault[key].as_integer().expect("a number");
        let mut ranges: Vec<(i64, i64)> = faults
            .iter()
            .map(|fault| (number(fault, "first_site"), number(fault, "count")))
            .collect();
        ranges.sort_unstable();
        assert_eq!(ranges.len(), 12);
        assert!(
            ranges
                .windows(2)
                .all(|pair| pair[0].0 + pair[0].1 <= pair[1].0)
        );
        assert!(
            ranges
                .iter()
                .all(|(first, count)| first + count <= i64::from(SITES))
        );
    }

    #[test]
    fn plain_faults_spare_https_sites_and_tls_faults_hit_as_many() {
        for (index, entry) in ENTRIES.iter().enumerate() {
            let first = 101 + 500 * index as u32;
            let range = first..first + entry.range();
            let https = range
                .filter(|site| site.is_multiple_of(HTTPS_EVERY))
                .count() as u32;
            let expected = if entry.kind.starts_with("tls_") {
                SITES_PER_FAULT
            } else {
                0
            };
            assert_eq!(https, expected, "{}", entry.kind);
        }
    }
}
