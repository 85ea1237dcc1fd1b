//! The catalogue of faults: every one that the farm knows, what the node must say of it, and when
//! it happens. Data and arithmetic only.

use std::fmt::Write as _;

use model::limits::{CONFIRM_AFTER, FIRST_FAILURE_HOLD_MS, GRID_RETURN_MS, SUSPECT_RECHECK_MS};
use model::schedule::{cadence_ms, effective_timeout_ms};

/// Every n-th site of the farm speaks HTTPS.
pub(super) const HTTPS_EVERY: u32 = 10;
/// How most sites are checked.
const GET: &str = "GET";
/// Sites that a case breaks.
const SITES: u32 = 9;
/// Numbers that each case has for itself, so that none shares a site with another one.
const STRIDE: u32 = 100;
/// Sites behind the last case that nothing is ever wrong with.
const HEALTHY: u32 = 1_000;
/// The node may need this long from its start to its first check.
const START_ALLOWANCE_MS: u32 = 3_000;
/// Times that a site which flaps is broken.
const BLIPS: u32 = 2;

/// What the node must say of a site while it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Down for this class, after it was in doubt.
    Down(&'static str),
    /// The same of DNS: nothing is said before it is confirmed.
    DownAtOnce(&'static str),
    /// A note of this type and state; up and down are not touched.
    Note(&'static str, &'static str),
    /// It goes up and down: blips that are never confirmed, and a note that it flaps.
    Flapping,
    /// Nothing: it is up.
    Up,
    /// Nothing: neither up nor down, for this class.
    Unknown(&'static str),
}

impl Expected {
    /// What every check in the fault comes to.
    pub(super) fn verdict(self) -> &'static str {
        match self {
            Self::Down(_) | Self::DownAtOnce(_) => "down",
            Self::Note("tls_deprecated", _) => "degraded",
            Self::Flapping => "up and down",
            Self::Note(..) | Self::Up => "up",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The failure class, or the type of a note.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Down(class) | Self::DownAtOnce(class) | Self::Unknown(class) => class,
            Self::Note(kind, _) => kind,
            Self::Flapping => "http.status, flapping",
            Self::Up => "–",
        }
    }

    /// States that the event of a site goes through, for a reader.
    pub(super) fn sequence(self) -> String {
        match self {
            Self::Down(_) => "Seems Down, Down, Resolved".to_owned(),
            Self::DownAtOnce(_) => "Down, Resolved".to_owned(),
            Self::Note(_, state) => format!("{state}, Resolved"),
            Self::Flapping => "Seems Down, Resolved; again; Degraded".to_owned(),
            Self::Up | Self::Unknown(_) => "–".to_owned(),
        }
    }

    pub(super) fn is_down(self) -> bool {
        matches!(self, Self::Down(_) | Self::DownAtOnce(_))
    }
}

/// Which sites a case is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sites {
    /// Those of plain HTTP.
    Plain,
    /// Those of HTTPS, of a fault that the farm gives to no other.
    Secure,
    /// One site of HTTPS, of a fault that any site can have.
    OneSecure,
    /// A part of a range, chosen by the farm.
    Part,
}

/// One fault and what must come of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// What it is called on the page.
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// More keys of its entry.
    extra: &'static str,
    sites: Sites,
    /// How its sites are checked.
    method: &'static str,
    pub(super) expected: Expected,
}

const fn plain(name: &'static str, kind: &'static str, expected: Expected) -> Case {
    Case {
        name,
        kind,
        extra: "",
        sites: Sites::Plain,
        method: GET,
        expected,
    }
}

/// A kind whose name says enough.
const fn down(kind: &'static str, class: &'static str) -> Case {
    plain(kind, kind, Expected::Down(class))
}

const fn dns(kind: &'static str, class: &'static str) -> Case {
    plain(kind, kind, Expected::DownAtOnce(class))
}

const fn up(kind: &'static str) -> Case {
    plain(kind, kind, Expected::Up)
}

const fn tls(kind: &'static str, expected: Expected) -> Case {
    of(plain(kind, kind, expected), Sites::Secure)
}

const fn of(case: Case, sites: Sites) -> Case {
    Case { sites, ..case }
}

const fn by_head(case: Case) -> Case {
    Case {
        method: "HEAD",
        ..case
    }
}

const fn with(case: Case, name: &'static str, extra: &'static str) -> Case {
    Case {
        name,
        extra,
        ..case
    }
}

const STATUS: Case = down("status", "http.status");
const GET_BROKEN: &str = "status = 500\nmethod = \"GET\"\n";
const HEAD_BROKEN: &str = "status = 500\nmethod = \"HEAD\"\n";
const SLOW: Case = down("slow_first_byte", "http.timeout");

/// Every case.
pub(super) const CASES: &[Case] = &[
    dns("dns_nxdomain", "dns.nxdomain"),
    dns("dns_cname_nxdomain", "dns.nxdomain"),
    up("dns_cname_chain"),
    dns("dns_cname_long", "dns.malformed"),
    dns("dns_empty", "dns.no_address"),
    dns("dns_servfail", "dns.servfail"),
    dns("dns_a_servfail", "dns.servfail"),
    dns("dns_timeout", "dns.timeout"),
    up("dns_truncated"),
    dns("dns_malformed", "dns.malformed"),
    with(up("dns_slow"), "dns_slow, 300 ms", "delay_ms = 300\n"),
    with(
        dns("dns_slow", "dns.timeout"),
        "dns_slow, a minute",
        "delay_ms = 60000\n",
    ),
    down("refuse", "connect.refused"),
    down("black_hole", "connect.timeout"),
    down("close_at_accept", "http.truncated"),
    of(
        with(
            down("close_at_accept", "tls.handshake"),
            "close_at_accept, TLS",
            "",
        ),
        Sites::OneSecure,
    ),
    down("reset_at_accept", "http.reset"),
    of(
        with(
            down("reset_at_accept", "tls.handshake"),
            "reset_at_accept, TLS",
            "",
        ),
        Sites::OneSecure,
    ),
    down("silence_at_accept", "http.timeout"),
    of(
        with(
            down("silence_at_accept", "tls.timeout"),
            "silence_at_accept, TLS",
            "",
        ),
        Sites::OneSecure,
    ),
    tls("tls_expired", Expected::Down("tls.expired")),
    tls("tls_expiring", Expected::Note("tls_expiry", "Degraded")),
    tls("tls_not_yet_valid", Expected::Down("tls.not_yet_valid")),
    tls("tls_wrong_name", Expected::Down("tls.name")),
    tls("tls_self_signed", Expected::Down("tls.untrusted")),
    tls("tls_incomplete_chain", Expected::Down("tls.untrusted")),
    tls(
        "tls_deprecated",
        Expected::Note("tls_deprecated", "Warning"),
    ),
    tls(
        "tls_unsupported",
        Expected::Note("tls_deprecated", "Warning"),
    ),
    tls("tls_refused", Expected::Down("tls.handshake")),
    tls("tls_unknown_name", Expected::Down("tls.alert")),
    tls("tls_silence", Expected::Down("tls.timeout")),
    with(STATUS, "status 503", "status = 503\n"),
    of(
        with(STATUS, "status 404, TLS", "status = 404\n"),
        Sites::OneSecure,
    ),
    with(up("status"), "status 204", "status = 204\n"),
    with(STATUS, "GET alone broken", GET_BROKEN),
    with(up("status"), "HEAD alone broken", HEAD_BROKEN),
    by_head(with(
        up("status"),
        "GET alone broken, checked by HEAD",
        GET_BROKEN,
    )),
    by_head(with(
        STATUS,
        "HEAD alone broken, checked by HEAD",
        HEAD_BROKEN,
    )),
    of(
        with(
            STATUS,
            "storm: half of a range",
            "status = 500\nrate = 0.5\nseed = 7\n",
        ),
        Sites::Part,
    ),
    plain("flapping", "status", Expected::Flapping),
    with(
        up("slow_first_byte"),
        "slow_first_byte, 300 ms",
        "delay_ms = 300\n",
    ),
    with(SLOW, "slow_first_byte, a minute", "delay_ms = 60000\n"),
    down("silence", "http.timeout"),
    down("silence_body", "http.timeout"),
    down("drip", "http.timeout"),
    down("truncated", "http.truncated"),
    down("reset", "http.reset"),
    down("reset_head", "http.reset"),
    down("reset_body", "http.reset"),
    down("bad_chunk", "http.bad_chunk"),
    down("bad_gzip", "http.bad_encoding"),
    up("duplicate_length"),
    down("conflicting_length", "http.malformed"),
    down("header_flood", "http.too_many_headers"),
    down("large_head", "http.header_too_large"),
    down("redirect_loop", "redirect.loop"),
    down("redirect_chain", "redirect.limit"),
    plain(
        "redirect_private",
        "redirect_private",
        Expected::Unknown("safety.blocked"),
    ),
    down("redirect_bad_location", "redirect.bad_location"),
    down("keyword_missing", "body.keyword_missing"),
    down("forbidden_text", "body.forbidden"),
];

/// Sites of the farm.
pub(super) fn sites() -> u32 {
    CASES.len() as u32 * STRIDE + HEALTHY
}

/// The farm's list of targets, `csv`, with the method that each site is checked by.
pub(super) fn with_methods(csv: &str) -> String {
    let mut lines = csv.lines();
    let head = lines.next().map(|head| format!("{head},method\n"));
    let method = |site| case_of(site).map_or(GET, |case| case.method);
    // The farm lists its sites in their order.
    let rows = (0..)
        .zip(lines)
        .map(|(site, row)| format!("{row},{}\n", method(site)));
    head.into_iter().chain(rows).collect()
}

/// The case that has `site`.
pub(super) fn case_of(site: u32) -> Option<&'static Case> {
    CASES.get((site / STRIDE) as usize)
}

impl Case {
    /// The first site of the case at `index`, and how many numbers its entry covers.
    fn range(&self, index: usize) -> (u32, u32) {
        let base = index as u32 * STRIDE;
        match self.sites {
            Sites::Plain => (base + 1, SITES),
            Sites::Secure => (base, STRIDE - HTTPS_EVERY),
            Sites::OneSecure => (base, 1),
            Sites::Part => (base + 1, 2 * SITES),
        }
    }

    /// Sites that it breaks; `None`: the farm's choice.
    pub(super) fn planned(&self) -> Option<u64> {
        match self.sites {
            Sites::Plain | Sites::Secure => Some(SITES.into()),
            Sites::OneSecure => Some(1),
            Sites::Part => None,
        }
    }

    /// Whether a name must be sick from the first: an answer that a resolver already holds is
    /// served over a sick name server (RFC 8767).
    fn is_from_the_start(&self) -> bool {
        self.kind.starts_with("dns_")
    }
}

/// When what happens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timetable {
    pub(super) interval_s: u32,
    pub(super) timeout_ms: u32,
}

impl Timetable {
    pub(super) fn cadence_ms(self) -> u32 {
        cadence_ms(self.interval_s)
    }

    fn deadline_ms(self) -> u32 {
        effective_timeout_ms(self.timeout_ms, self.cadence_ms())
    }

    /// When every site has been checked once.
    pub(super) fn warm_up_ms(self) -> u32 {
        START_ALLOWANCE_MS + self.cadence_ms() + 1_000
    }

    /// When the faults begin that a site must have been healthy before.
    fn faults_ms(self) -> u32 {
        self.warm_up_ms() + 1_000
    }

    /// How long a fault that begins is in doubt at most: until the first check, its deadline, and
    /// the time that a first failure is held for.
    pub(super) fn suspected_ms(self) -> u32 {
        self.cadence_ms() + self.deadline_ms() + FIRST_FAILURE_HOLD_MS as u32
    }

    /// How long it is not confirmed at most: the re-checks too, each until its deadline.
    pub(super) fn confirmed_ms(self) -> u32 {
        let recheck = self.cadence_ms().min(SUSPECT_RECHECK_MS) + self.deadline_ms();
        self.suspected_ms() + (CONFIRM_AFTER - 1) * recheck
    }

    /// A site that flaps is broken for so long, well for as long, and so on: longer than between
    /// two checks, shorter than two re-checks.
    fn blip_ms(self) -> u32 {
        self.cadence_ms() + 1_000
    }

    /// When each fault has had its time.
    pub(super) fn faults_over_ms(self) -> u32 {
        let flapped = 2 * BLIPS * self.blip_ms();
        self.faults_ms() + self.confirmed_ms().max(flapped)
    }

    /// When the run ends on a machine that keeps up.
    pub(super) fn expected_end_ms(self) -> u32 {
        self.faults_over_ms() + self.cadence_ms() + GRID_RETURN_MS as u32
    }

    /// The scenario as the farm reads it.
    pub(super) fn toml(self) -> String {
        let mut text = String::from("# Every fault; times count from the scenario's start.\n");
        for (index, case) in CASES.iter().enumerate() {
            let (first_site, count) = case.range(index);
            let head = format!(
                "\n[[fault]]\nkind = \"{}\"\nfirst_site = {first_site}\ncount = {count}\n{}",
                case.kind, case.extra
            );
            if case.expected == Expected::Flapping {
                for blip in 0..BLIPS {
                    let offset_ms = self.faults_ms() + 2 * blip * self.blip_ms();
                    let lasts = seconds(self.blip_ms());
                    let when = format!("offset_s = {}\nduration_s = {lasts}", seconds(offset_ms));
                    let _ = writeln!(text, "{head}status = 503\n{when}");
                }
                continue;
            }
            let offset_ms = if case.is_from_the_start() {
                0
            } else {
                self.faults_ms()
            };
            let offset_s = seconds(offset_ms);
            let _ = writeln!(
                text,
                "{head}offset_s = {offset_s}\nduration_s = \"until-ended\""
            );
        }
        text
    }
}

fn seconds(ms: u32) -> String {
    format!("{:.1}", f64::from(ms) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Timetable = Timetable {
        interval_s: 10,
        timeout_ms: 2_000,
    };

    #[test]
    fn the_short_run_takes_about_a_minute_and_the_long_one_less_than_ten() {
        assert!((50_000..=75_000).contains(&SHORT.expected_end_ms()));
        let long = Timetable {
            interval_s: 60,
            timeout_ms: 10_000,
        };
        assert!((300_000..=600_000).contains(&long.expected_end_ms()));
    }

    #[test]
    fn each_case_has_its_own_sites_and_its_entry_in_the_file() {
        let file: toml::Table = SHORT.toml().parse().expect("valid TOML");
        let faults = file["fault"].as_array().expect("tables");
        assert_eq!(faults.len(), CASES.len() + BLIPS as usize - 1);
        for fault in faults {
            let number = |key: &str| fault[key].as_integer().expect("a number") as u32;
            let (first, last) = (
                number("first_site"),
                number("first_site") + number("count") - 1,
            );
            let case = case_of(first).expect("a case");
            assert_eq!(fault["kind"].as_str(), Some(case.kind));
            assert_eq!(case_of(last).expect("a case").name, case.name);
            let https = (first..=last)
                .filter(|site| site % HTTPS_EVERY == 0)
                .count() as u64;
            match case.sites {
                Sites::Plain => assert_eq!(
                    (https, Some(u64::from(last - first + 1))),
                    (0, case.planned())
                ),
                Sites::Secure | Sites::OneSecure => assert_eq!(Some(https), case.planned()),
                Sites::Part => assert!(last < sites()),
            }
        }
        assert!(case_of(sites() - 1).is_none(), "the last sites are healthy");
    }

    #[test]
    fn sites_are_checked_by_the_method_of_their_case() {
        let rows: Vec<String> = (0..sites())
            .map(|site| format!("http://s-{site}/"))
            .collect();
        let list = with_methods(&format!("url\n{}\n", rows.join("\n")));
        assert!(list.starts_with("url,method\nhttp://s-0/,GET\n"));
        for (index, case) in (0..).zip(CASES) {
            let row = format!("http://s-{}/,{}\n", index * STRIDE + 1, case.method);
            assert!(list.contains(&row), "{row}");
        }
        assert_eq!(list.matches(",HEAD\n").count(), 2 * STRIDE as usize);
    }

    #[test]
    fn a_blip_is_met_by_a_check_and_never_confirmed() {
        assert!(SHORT.blip_ms() > SHORT.cadence_ms());
        assert!(SHORT.blip_ms() < 2 * SHORT.cadence_ms());
        let names: std::collections::BTreeSet<&str> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len(), "each row has its own name");
    }
}
