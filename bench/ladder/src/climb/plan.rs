//! What the ladder climbs: its rungs, their order, and how long each is measured. Pure.

use clap::ValueEnum;
use model::schedule::cadence_ms;
use serde::{Deserialize, Serialize};

/// Deadline of a check, in ms.
pub(super) const TIMEOUT_MS: u32 = 5_000;
/// Every n-th site of a mixed fleet speaks HTTPS.
const MIXED_HTTPS_EVERY: u32 = 10;
/// How long an address may be kept, in s: as most sites of the world have it, and as the hasty do.
const DNS_TTL_S: u32 = 3_600;
const DNS_TTL_HASTY_S: u32 = 60;
/// The shortest interval of a target: what short forms use.
const SHORT_INTERVAL_S: u32 = 10;
/// Intervals up to this are measured [`SHORT_INTERVALS_MIN`] times at least.
const SHORT_INTERVAL_MAX_S: u32 = 30;
const SHORT_INTERVALS_MIN: u32 = 6;
/// A full rung is measured so long at least.
const FULL_WINDOW_MIN_S: u32 = 120;
/// A fleet with fewer sites has no place for every kind of fault.
const SITES_MIN: u32 = 2_000;

/// (sites, interval in s) of the full ladder.
const FULL: [(u32, u32); 12] = [
    (10_000, 300),
    (50_000, 300),
    (100_000, 300),
    (250_000, 300),
    (500_000, 300),
    (1_000_000, 300),
    (2_000_000, 300),
    (5_000_000, 300),
    (100_000, 60),
    (250_000, 60),
    (500_000, 60),
    (1_000_000, 60),
];
/// The fleet whose names expire while it is watched.
const DNS_HEAVY: (u32, u32) = (500_000, 300);
/// The fleet that is pressed: with room on the farm's side when the core has little.
const PRESSED: (u32, u32) = (250_000, 60);
const OVERLOADS: [u32; 2] = [2, 4];

/// What the sites speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scheme {
    Http,
    /// A full handshake in every check, its chain verified every time.
    HttpsFull,
    /// Sessions are resumed.
    HttpsResumed,
    /// One site of ten speaks HTTPS, with full handshakes.
    Mixed,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpsFull => "https-full",
            Self::HttpsResumed => "https-resumed",
            Self::Mixed => "mixed",
        }
    }

    /// Every n-th site speaks HTTPS; 0: none.
    pub(super) fn https_every(self) -> u32 {
        match self {
            Self::Http => 0,
            Self::HttpsFull | Self::HttpsResumed => 1,
            Self::Mixed => MIXED_HTTPS_EVERY,
        }
    }

    /// Whether the farm hands out session tickets.
    pub(super) fn has_tickets(self) -> bool {
        matches!(self, Self::HttpsResumed)
    }
}

/// Where targets and facts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum StoreKind {
    Sqlite,
    /// A real `MariaDB`.
    Mysql,
}

impl StoreKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Mysql => "mysql",
        }
    }
}

/// Which sites are broken while the rung is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FaultMix {
    /// Some of each kind.
    #[default]
    Usual,
    None,
}

/// How thorough a climb is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Form {
    Full,
    /// Three rungs at the rates of the full ladder with short intervals: five minutes.
    Quick,
    /// One small rung that judges what is right or wrong and nothing that a busy machine changes.
    Mini,
}

impl Form {
    /// Also of its folder.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quick => "quick",
            Self::Mini => "mini",
        }
    }
}

/// One rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rung {
    pub(super) sites: u32,
    pub(super) interval_s: u32,
    pub(super) scheme: Scheme,
    pub(super) store: StoreKind,
    pub(super) faults: FaultMix,
    pub(super) dns_ttl_s: u32,
    /// How many times more there is to do than the probe core is left CPU for; absent: it has all.
    pub(super) overload: Option<u32>,
}

impl Rung {
    fn new((sites, interval_s): (u32, u32), scheme: Scheme, store: StoreKind) -> Self {
        Self {
            sites,
            interval_s,
            scheme,
            store,
            faults: FaultMix::Usual,
            dns_ttl_s: DNS_TTL_S,
            overload: None,
        }
    }

    /// Checks a second that the fleet asks for.
    pub(super) fn rate(&self) -> f64 {
        f64::from(self.sites) * 1_000.0 / f64::from(cadence_ms(self.interval_s))
    }

    /// Short enough for a folder, and different for every rung of a ladder.
    pub(super) fn name(&self) -> String {
        let (scheme, store) = (self.scheme.name(), self.store.name());
        let fleet = format!("{}@{}", size(self.sites), self.interval_s);
        self.with_what_is_special(format!("{scheme}-{store}-{fleet}"))
    }

    /// The same without the size of the fleet.
    pub(super) fn column(&self) -> String {
        let (scheme, store) = (self.scheme.name(), self.store.name());
        self.with_what_is_special(format!("{scheme}-{store}@{}", self.interval_s))
    }

    fn with_what_is_special(&self, name: String) -> String {
        let mut parts = vec![name];
        if self.dns_ttl_s != DNS_TTL_S {
            parts.push(format!("ttl{}", self.dns_ttl_s));
        }
        match (self.overload, self.faults) {
            (Some(factor), _) => parts.push(format!("overload{factor}x")),
            (None, FaultMix::None) => parts.push("nofaults".to_owned()),
            (None, FaultMix::Usual) => {}
        }
        parts.join("-")
    }

    /// The same checks a second, of fewer sites that are checked as often as may be.
    fn shortened(self) -> Self {
        let (short, own) = (cadence_ms(SHORT_INTERVAL_S), cadence_ms(self.interval_s));
        let sites = u64::from(self.sites) * u64::from(short) / u64::from(own);
        Self {
            sites: (sites as u32).max(SITES_MIN),
            interval_s: SHORT_INTERVAL_S,
            ..self
        }
    }

    /// Whole intervals that are measured.
    pub(super) fn intervals(&self, form: Form) -> u32 {
        let least_s = match form {
            Form::Full => FULL_WINDOW_MIN_S,
            Form::Quick | Form::Mini => 1,
        };
        let least = if self.interval_s <= SHORT_INTERVAL_MAX_S {
            SHORT_INTERVALS_MIN
        } else {
            1
        };
        least_s.div_ceil(self.interval_s).max(least)
    }

    /// Length of the measured window, in s.
    pub(super) fn window_s(&self, form: Form) -> u32 {
        self.intervals(form) * self.interval_s
    }

    /// Whether `other` asks the same of the machine, but more of it.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        let same = Self {
            sites: other.sites,
            interval_s: other.interval_s,
            ..*self
        };
        same == *other && self.sites <= other.sites && self.rate() <= other.rate()
    }
}

/// 10k, 2M, or the number itself.
pub(super) fn size(sites: u32) -> String {
    match sites {
        _ if sites.is_multiple_of(1_000_000) => format!("{}M", sites / 1_000_000),
        _ if sites.is_multiple_of(1_000) => format!("{}k", sites / 1_000),
        _ => sites.to_string(),
    }
}

/// What is asked for of a ladder; an empty list: all that the form has.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Choice {
    /// Only these fleets, as `SITES@INTERVAL_S`: 100000@60,1000000@300. They need not be among
    /// those of the form; short forms check fewer sites more often, at the same rate.
    #[arg(long, value_delimiter = ',', value_parser = parse_fleet)]
    pub(super) fleets: Vec<(u32, u32)>,
    /// Only these schemes.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) schemes: Vec<Scheme>,
    /// Only these stores.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(super) stores: Vec<StoreKind>,
    /// Only rungs whose name contains one of these, as `overload` or `ttl60`.
    #[arg(long, value_delimiter = ',')]
    pub(super) only: Vec<String>,
    /// Break sites of every kind, or none.
    #[arg(long, value_enum, default_value_t = FaultMix::Usual)]
    pub(super) faults: FaultMix,
}

fn parse_fleet(text: &str) -> Result<(u32, u32), String> {
    let parse = || {
        let (sites, interval_s) = text.split_once('@')?;
        Some((sites.parse().ok()?, interval_s.parse().ok()?))
    };
    let (sites, interval_s) = parse().ok_or("SITES@INTERVAL_S is wanted, as 100000@60")?;
    if !(SITES_MIN..=10_000_000).contains(&sites) || !(10..=600).contains(&interval_s) {
        return Err(format!(
            "{SITES_MIN} to 10000000 sites at 10 to 600 s are accepted"
        ));
    }
    Ok((sites, interval_s))
}

/// The rungs of a form that are chosen, each fleet in the order in which it grows.
pub(super) fn rungs(form: Form, choice: &Choice) -> Vec<Rung> {
    let all = match (choice.fleets.is_empty(), form) {
        (true, _) => of_form(form, choice),
        (false, Form::Full) => columns(&choice.fleets, choice),
        (false, Form::Quick | Form::Mini) => {
            let rungs = columns(&choice.fleets, choice).into_iter();
            rungs.map(Rung::shortened).collect()
        }
    };
    let is_wanted = |rung: &Rung| {
        let name = rung.name();
        choice.only.is_empty() || choice.only.iter().any(|part| name.contains(part.as_str()))
    };
    let with_faults = |rung: Rung| match rung.overload {
        Some(_) => rung,
        None => Rung {
            faults: choice.faults,
            ..rung
        },
    };
    all.into_iter().map(with_faults).filter(is_wanted).collect()
}

fn of_form(form: Form, choice: &Choice) -> Vec<Rung> {
    let chosen = |rungs: Vec<Rung>| {
        let is_chosen = |rung: &Rung| {
            (choice.schemes.is_empty() || choice.schemes.contains(&rung.scheme))
                && (choice.stores.is_empty() || choice.stores.contains(&rung.store))
        };
        rungs.into_iter().filter(is_chosen).collect()
    };
    match form {
        Form::Full => {
            let mut rungs = columns(&FULL, choice);
            rungs.extend(chosen(special()));
            rungs
        }
        Form::Quick => chosen(quick()),
        Form::Mini => chosen(vec![Rung::new(
            (5_000, SHORT_INTERVAL_S),
            Scheme::Http,
            StoreKind::Sqlite,
        )]),
    }
}

/// Every fleet for every scheme and store: all fleets of one column before the next.
fn columns(fleets: &[(u32, u32)], choice: &Choice) -> Vec<Rung> {
    let (mut schemes, mut stores) = (choice.schemes.clone(), choice.stores.clone());
    if schemes.is_empty() {
        schemes = vec![Scheme::Http, Scheme::HttpsFull, Scheme::HttpsResumed];
    }
    if stores.is_empty() {
        stores = vec![StoreKind::Sqlite, StoreKind::Mysql];
    }
    let mut rungs = Vec::new();
    for &store in &stores {
        for &scheme in &schemes {
            rungs.extend(fleets.iter().map(|&fleet| Rung::new(fleet, scheme, store)));
        }
    }
    rungs
}

/// Rungs that are no column: names that expire, and a core that is left too little CPU.
fn special() -> Vec<Rung> {
    let dns_heavy = Rung {
        dns_ttl_s: DNS_TTL_HASTY_S,
        ..Rung::new(DNS_HEAVY, Scheme::Http, StoreKind::Sqlite)
    };
    let pressed = OVERLOADS.map(pressed);
    [vec![dns_heavy], pressed.to_vec()].concat()
}

fn pressed(factor: u32) -> Rung {
    Rung {
        overload: Some(factor),
        faults: FaultMix::None,
        ..Rung::new(PRESSED, Scheme::Http, StoreKind::Sqlite).shortened()
    }
}

/// Rates of the full ladder, in five minutes.
fn quick() -> Vec<Rung> {
    let rung = |fleet, scheme, store| Rung::new(fleet, scheme, store).shortened();
    vec![
        rung((500_000, 60), Scheme::Http, StoreKind::Sqlite),
        rung((250_000, 60), Scheme::Http, StoreKind::Mysql),
        rung((100_000, 60), Scheme::HttpsResumed, StoreKind::Sqlite),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_full_ladder_has_every_fleet_in_every_scheme_and_store() {
        let rungs = rungs(Form::Full, &Choice::default());
        assert_eq!(rungs.len(), 12 * 3 * 2 + 3);
        let names: BTreeSet<String> = rungs.iter().map(Rung::name).collect();
        assert_eq!(names.len(), rungs.len(), "a folder each");
        for name in [
            "http-sqlite-10k@300",
            "https-resumed-mysql-1M@60",
            "http-sqlite-500k@300-ttl60",
        ] {
            assert!(names.contains(name), "{name} of {names:?}");
        }
        let overloads: Vec<u32> = rungs.iter().filter_map(|rung| rung.overload).collect();
        assert_eq!(overloads, [2, 4]);
    }

    #[test]
    fn what_is_chosen_narrows_the_ladder_and_fleets_may_be_new() {
        let choice = Choice {
            fleets: vec![(3_000, 10), (6_000, 10)],
            schemes: vec![Scheme::Http],
            stores: vec![StoreKind::Sqlite],
            ..Choice::default()
        };
        let named: Vec<String> = rungs(Form::Full, &choice).iter().map(Rung::name).collect();
        assert_eq!(named, ["http-sqlite-3k@10", "http-sqlite-6k@10"]);
        let short = Choice {
            fleets: vec![(1_000_000, 60)],
            ..choice.clone()
        };
        assert_eq!(
            rungs(Form::Quick, &short)[0].name(),
            "http-sqlite-157894@10"
        );
        let only = Choice {
            only: vec!["overload".to_owned()],
            faults: FaultMix::None,
            ..Choice::default()
        };
        assert_eq!(rungs(Form::Full, &only).len(), 2);
        let none = Choice {
            faults: FaultMix::None,
            ..choice
        };
        assert!(rungs(Form::Full, &none)[0].name().ends_with("-nofaults"));
        assert!(parse_fleet("100000@60").is_ok());
        for wrong in ["100000", "1@60", "100000@5", "x@60"] {
            assert!(parse_fleet(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shortened_rung_asks_for_the_same_rate() {
        let full = Rung::new((1_000_000, 60), Scheme::Http, StoreKind::Sqlite);
        let short = full.shortened();
        assert_eq!(short.interval_s, 10);
        assert!((short.rate() / full.rate() - 1.0).abs() < 0.001);
        assert!(full.is_below(&Rung {
            sites: 2_000_000,
            ..full
        }));
        assert!(!full.is_below(&Rung {
            sites: 500_000,
            ..full
        }));
        assert!(!full.is_below(&Rung {
            scheme: Scheme::Mixed,
            ..full
        }));
        let slow = Rung {
            sites: 2_000_000,
            interval_s: 300,
            ..full
        };
        assert!(!full.is_below(&slow), "more sites, fewer checks");
    }

    #[test]
    fn windows_are_whole_intervals_and_long_enough() {
        let at = |interval_s| Rung::new((10_000, interval_s), Scheme::Http, StoreKind::Sqlite);
        let of = |interval_s, form| at(interval_s).intervals(form);
        assert_eq!([10, 30, 60, 300].map(|s| of(s, Form::Full)), [12, 6, 2, 1]);
        assert_eq!([10, 30, 60].map(|s| of(s, Form::Quick)), [6, 6, 1]);
        assert_eq!(at(10).window_s(Form::Mini), 60);
    }

    #[test]
    fn the_quick_form_has_three_rungs_of_a_minute() {
        let rungs = rungs(Form::Quick, &Choice::default());
        let window_s: u32 = rungs.iter().map(|rung| rung.window_s(Form::Quick)).sum();
        assert_eq!((rungs.len(), window_s), (3, 180));
    }
}
