//! Local ports: how many this machine has towards one destination, and how many the checks of the
//! known targets hold there. Pure arithmetic over what was found; only [`LocalPorts::find`] looks
//! at the machine. Must not know how targets are kept or probed.
//!
//! A port serves many destinations, but each of them only once per local address: from its connect
//! to a minute after its close (`TIME_WAIT`, where our side closed first). The kernel gives out
//! every second port first: once half of them is taken, each connect searches through that half.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use cores::Close;
use model::limits::{
    ADDRESS_IN_FLIGHT_MAX, ADDRESS_STARTS_PER_S_MAX, KEPT_PER_ADDRESS_MAX, TIME_WAIT_MS,
    TIME_WAIT_REUSE_MS, TIMEOUT_MAX_MS,
};
use model::target::TargetConfig;
use model::url::{Host, Scheme};
use prober::{Cidr, Guard};

use crate::config::{Config, ReuseWord};
use crate::exit::bad_input;

/// Checks per 10⁹ s of one check per millisecond.
const PER_GS: u64 = 1_000_000_000_000;
/// The widest range that is advised: below are the ports of servers.
const WIDEST: u32 = 65_535 - 1_024 + 1;

/// How the checks of the known targets fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// With room; what is known, for people.
    Ample(String),
    /// They fit, but connects will be slow; and what helps.
    Tight(String),
}

/// For whom the kernel uses a port in `TIME_WAIT` again (`tcp_tw_reuse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reuse {
    Nobody,
    Loopback,
    Everybody,
}

/// The local ports of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalPorts {
    low: u16,
    high: u16,
    /// Of those, kept for others.
    reserved: u32,
    reuse: Reuse,
}

impl LocalPorts {
    /// What the kernel says; `None` when it does not.
    pub(crate) fn find() -> Option<Self> {
        let of = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        // Older kernels have not all of them.
        let optional = |name: &str| of(name).unwrap_or_default();
        Self::parse(
            &of("ip_local_port_range").ok()?,
            &optional("ip_local_reserved_ports"),
            &optional("tcp_tw_reuse"),
            &optional("tcp_timestamps"),
        )
    }

    fn parse(range: &str, reserved: &str, reuse: &str, timestamps: &str) -> Option<Self> {
        let mut ends = range.split_whitespace().map_while(|word| word.parse().ok());
        let (low, high) = (ends.next()?, ends.next()?);
        let reuse = match (reuse.trim(), timestamps.trim()) {
            // Without time stamps old segments cannot be told from new ones.
            (_, "0") => Reuse::Nobody,
            ("1", _) => Reuse::Everybody,
            ("2", _) => Reuse::Loopback,
            _ => Reuse::Nobody,
        };
        (low <= high).then(|| Self {
            low,
            high,
            reserved: reserved_in(reserved, low, high),
            reuse,
        })
    }

    /// Ports towards one destination from one address.
    pub(crate) fn count(&self) -> u32 {
        u32::from(self.high - self.low) + 1 - self.reserved
    }

    /// How long a port stays taken after the close of a connection to `to`, in ms.
    fn time_wait_ms(&self, close: Close, to: IpAddr) -> u64 {
        match (close, self.reuse) {
            (Close::Reset, _) => 0,
            (Close::Fin, Reuse::Everybody) => TIME_WAIT_REUSE_MS,
            (Close::Fin, Reuse::Loopback) if to.is_loopback() => TIME_WAIT_REUSE_MS,
            (Close::Fin, _) => TIME_WAIT_MS,
        }
    }

    /// The range, for people.
    pub(crate) fn shown(&self) -> String {
        let reserved = match self.reserved {
            0 => String::new(),
            some => format!(" less {some} reserved"),
        };
        format!("{} to {}{reserved}", self.low, self.high)
    }
}

/// How many of the ports from `low` to `high` are in the kernel's list, such as `8080,9000-9100`.
fn reserved_in(list: &str, low: u16, high: u16) -> u32 {
    let part = |part: &str| -> Option<u32> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        let (from, to) = (from.max(low), to.min(high));
        (from <= to).then(|| u32::from(to - from) + 1)
    };
    list.trim().split(',').filter_map(part).sum()
}

/// What the checks of some targets do to one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    targets: u64,
    /// Checks per 10⁹ s.
    per_gs: u64,
    /// The longest deadline.
    timeout_ms: u32,
    /// Connections of some of them may be kept for others.
    keeps: bool,
}

/// What ports there are, and who is given them.
#[derive(Clone, Debug)]
pub(crate) struct PortsPlan {
    ports: LocalPorts,
    sources: Vec<IpAddr>,
    close: Close,
    reuse: ReuseWord,
    uncapped: Vec<Cidr>,
    guard: Guard,
    loads: HashMap<SocketAddr, Load>,
    /// Destinations that a cap holds below what there is are left out.
    only_uncapped: bool,
    /// Targets whose address is known, and of those whose name has to be resolved.
    literal: u64,
    named: u64,
}

/// The ports that one destination takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    to: SocketAddr,
    load: Load,
    capped: bool,
    time_wait_ms: u64,
    /// Of connections that are kept for later checks.
    kept: u64,
    needed: u64,
    available: u64,
}

impl PortsPlan {
    /// A plan without targets.
    pub(crate) fn new(ports: LocalPorts, config: &Config) -> Self {
        Self {
            ports,
            sources: config.source_addresses.clone(),
            close: config.close.into(),
            reuse: config.reuse,
            uncapped: config.uncapped.clone(),
            guard: Guard::allowing(&config.allow),
            loads: HashMap::new(),
            only_uncapped: false,
            literal: 0,
            named: 0,
        }
    }

    /// Whether targets have to be looked at: where caps hold every destination below what there
    /// is, whatever they are, they fit.
    pub(crate) fn needs_targets(&self) -> bool {
        !self.uncapped.is_empty() || !self.caps_suffice()
    }

    /// Without the destinations that a cap holds below what there is, now and later: what is left
    /// is short wherever the whole is.
    pub(crate) fn without_capped(mut self) -> Self {
        self.only_uncapped = self.caps_suffice();
        if self.only_uncapped {
            let uncapped = &self.uncapped;
            self.loads.retain(|to, _| is_among(uncapped, *to));
        }
        self
    }

    /// Targets that connect to somewhere.
    pub(crate) fn targets(&self) -> u64 {
        self.literal + self.named
    }

    /// Destinations whose ports are kept count of.
    pub(crate) fn destinations(&self) -> usize {
        self.loads.len()
    }

    fn caps_suffice(&self) -> bool {
        let per_gs = cap_per_gs();
        let hold_ms = TIME_WAIT_MS + u64::from(TIMEOUT_MAX_MS);
        let kept = match self.reuse {
            ReuseWord::Never => 0,
            ReuseWord::ByAddress => u64::from(ADDRESS_IN_FLIGHT_MAX),
        };
        let needed = held(per_gs, hold_ms) + kept;
        needed <= u64::from(self.ports.count() / 2)
    }

    /// Adds an active target; one that connects to nothing takes no local port.
    pub(crate) fn add(&mut self, target: &TargetConfig) {
        if !target.check.connects() {
            return;
        }
        let Host::Address(address) = target.check.host() else {
            self.named += 1;
            return;
        };
        // One that may not be probed is never connected to.
        if !self.guard.permits(*address) {
            return;
        }
        self.literal += 1;
        // A mapped address is the same destination to the kernel.
        let to = SocketAddr::new(address.to_canonical(), target.check.port());
        if self.only_uncapped && !is_among(&self.uncapped, to) {
            return;
        }
        let load = self.loads.entry(to).or_default();
        load.targets += 1;
        load.per_gs += PER_GS / u64::from(target.cadence_ms());
        load.timeout_ms = load.timeout_ms.max(target.effective_timeout_ms());
        load.keeps |= self.reuse == ReuseWord::ByAddress && target.check.scheme() == Scheme::Http;
    }

    /// The destination that is shortest of ports, and how many have too few.
    fn worst(&self) -> (Option<Need>, usize) {
        let needs = || self.loads.iter().map(|(to, load)| self.need(*to, *load));
        // In permille of what there is; the address decides between equals, so that two looks
        // say the same.
        let share = |need: &Need| need.needed * 1_000 / need.available.max(1);
        let worst = needs().max_by_key(|need| (share(need), need.to));
        let short = needs().filter(|need| need.needed > need.available).count();
        (worst, short)
    }

    fn need(&self, to: SocketAddr, load: Load) -> Need {
        let time_wait_ms = self.ports.time_wait_ms(self.close, to.ip());
        let mut need = Need {
            to,
            load,
            capped: !is_among(&self.uncapped, to),
            time_wait_ms,
            kept: 0,
            needed: 0,
            available: u64::from(self.ports.count()) * self.sources_for(to) as u64,
        };
        need.kept = match (load.keeps, need.capped) {
            (false, _) => 0,
            // As many as may be in flight there, whatever the ports and sources.
            (true, true) => u64::from(ADDRESS_IN_FLIGHT_MAX),
            (true, false) => u64::from(KEPT_PER_ADDRESS_MAX) * self.sources_for(to) as u64,
        };
        need.needed = held(need.per_gs(), need.hold_ms()) + need.kept;
        need
    }

    /// Addresses that connections to `to` may come from; one when the kernel chooses.
    fn sources_for(&self, to: SocketAddr) -> usize {
        let same = |source: &&IpAddr| source.is_ipv4() == to.ip().is_ipv4();
        self.sources.iter().filter(same).count().max(1)
    }

    /// What is known of the plan, for people.
    ///
    /// # Errors
    /// When a destination needs more ports than there are: what to change.
    pub(crate) fn judge(&self) -> anyhow::Result<Fit> {
        let unknown = match self.named {
            0 => String::new(),
            some => {
                format!("; where {some} named target(s) are is not known before they are resolved")
            }
        };
        match self.worst() {
            (None, _) => Ok(Fit::Ample(format!(
                "no target at a literal address{unknown}"
            ))),
            (Some(worst), 0) if worst.needed > worst.available / 2 => Ok(Fit::Tight(format!(
                "{}; with more than half of them taken each connect searches through that half: \
                 give {} source_addresses{unknown}",
                worst.shown(&self.ports),
                self.sources_wanted(&worst),
            ))),
            (Some(worst), 0) => Ok(Fit::Ample(format!(
                "{} target(s) at literal addresses fit; {}{unknown}",
                self.literal,
                worst.shown(&self.ports)
            ))),
            (Some(worst), short) => {
                let others = match short {
                    1 => String::new(),
                    some => format!(" ({} more destinations are short as well)", some - 1),
                };
                bad_input(format!(
                    "local ports are too few for the plan: {}{others}: {}",
                    worst.shown(&self.ports),
                    self.advice(&worst)
                ))
            }
        }
    }

    /// Addresses with which it is ample.
    fn sources_wanted(&self, need: &Need) -> u64 {
        need.needed
            .div_ceil(u64::from(self.ports.count() / 2).max(1))
    }

    /// What helps; each alone is enough.
    fn advice(&self, worst: &Need) -> String {
        let ports = u64::from(self.ports.count()).max(1);
        let mut ways = vec![format!(
            "give {} source_addresses",
            self.sources_wanted(worst)
        )];
        let by_reset = held(worst.per_gs(), u64::from(worst.load.timeout_ms)) + worst.kept;
        if self.close == Close::Fin && by_reset <= worst.available {
            ways.push(format!("set close = \"reset\" ({by_reset} ports)"));
        }
        let widest = u64::from(WIDEST) * (worst.available / ports);
        if u64::from(self.ports.count()) < u64::from(WIDEST) && worst.needed <= widest {
            ways.push("set sysctl net.ipv4.ip_local_port_range=\"1024 65535\"".to_owned());
        }
        ways.push("check its targets less often".to_owned());
        ways.join(", or ")
    }
}

impl Need {
    fn per_gs(&self) -> u64 {
        if self.capped {
            self.load.per_gs.min(cap_per_gs())
        } else {
            self.load.per_gs
        }
    }

    fn hold_ms(&self) -> u64 {
        self.time_wait_ms + u64::from(self.load.timeout_ms)
    }

    /// One sentence with every number that it follows from.
    fn shown(&self, ports: &LocalPorts) -> String {
        let count = u64::from(ports.count());
        let sources = self.available / count.max(1);
        let cap = if self.per_gs() < self.load.per_gs {
            " (its cap)"
        } else {
            ""
        };
        let kept = match self.kept {
            0 => String::new(),
            kept => format!(" and {kept} kept connections one each"),
        };
        format!(
            "{} with {} target(s) and {:.1} checks a second{cap}, each of which holds a port for \
             up to {:.1} s ({:.1} s deadline, {:.0} s TIME_WAIT){kept}, needs {} ports of {} ({} \
             address(es) × {}, {})",
            self.to,
            self.load.targets,
            self.per_gs() as f64 / 1e9,
            self.hold_ms() as f64 / 1e3,
            f64::from(self.load.timeout_ms) / 1e3,
            self.time_wait_ms as f64 / 1e3,
            self.needed,
            self.available,
            sources,
            count,
            ports.shown(),
        )
    }
}

fn is_among(blocks: &[Cidr], to: SocketAddr) -> bool {
    blocks.iter().any(|block| block.contains(to.ip()))
}

/// The cap of an address.
fn cap_per_gs() -> u64 {
    u64::from(ADDRESS_STARTS_PER_S_MAX) * 1_000_000_000
}

/// Ports that are held at a time by so many checks per 10⁹ s of so many ms each.
fn held(per_gs: u64, hold_ms: u64) -> u64 {
    let product = u128::from(per_gs) * u128::from(hold_ms);
    product.div_ceil(u128::from(PER_GS)) as u64
}

#[cfg(test)]
pub(in crate::run) mod tests {
    use std::net::Ipv4Addr;

    use cores::KeptLimits;
    use model::TargetSpec;

    use super::*;
    use crate::config::Layers;

    pub(in crate::run) const RANGE: &str = "32768\t60999\n";

    pub(in crate::run) fn config(lines: &str) -> Config {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("c.toml");
        // A block that is not public (RFC 5737), so that no test names anybody's address.
        let allow = "allow = ['203.0.113.0/24']";
        fs::write(&file, format!("{allow}\n{lines}")).expect("written");
        let layers = Layers::read(Some(&file), std::iter::empty(), Vec::new());
        Config::resolve(&layers.expect("readable")).expect("valid")
    }

    pub(in crate::run) fn ports(range: &str, reserved: &str, reuse: &str) -> LocalPorts {
        LocalPorts::parse(range, reserved, reuse, "1").expect("a range")
    }

    /// `count` targets at `url`, each every 10 s (a cadence of 9 s) with the default deadline.
    fn plan(ports: LocalPorts, lines: &str, url: &str, count: u32) -> PortsPlan {
        let mut plan = PortsPlan::new(ports, &config(lines));
        let spec = TargetSpec {
            url: url.to_owned(),
            interval_s: Some(10),
            ..TargetSpec::default()
        };
        let target = spec.parse().expect("valid");
        (0..count).for_each(|_| plan.add(&target));
        plan
    }

    fn worst(plan: &PortsPlan) -> Need {
        plan.worst().0.expect("a destination")
    }

    fn ample(plan: &PortsPlan) -> String {
        match plan.judge() {
            Ok(Fit::Ample(said)) => said,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_ports_of_a_machine_are_its_range_less_what_is_reserved_in_it() {
        assert_eq!(ports(RANGE, "\n", "2").count(), 28_232);
        assert_eq!(
            ports(RANGE, "80,40000-40009,60990-65535\n", "2").count(),
            28_212
        );
        assert_eq!(ports("5 5", "", "").count(), 1);
        assert_eq!(LocalPorts::parse("", "", "", ""), None);
        assert_eq!(LocalPorts::parse("9 5", "", "", ""), None);
        let shown = ports(RANGE, "40000-40009", "0").shown();
        assert_eq!(shown, "32768 to 60999 less 10 reserved");
    }

    #[test]
    fn a_closed_connection_keeps_its_port_as_long_as_the_kernel_says() {
        let far = IpAddr::from([203, 0, 113, 7]);
        let near = IpAddr::from(Ipv4Addr::LOCALHOST);
        let held = |reuse, close, to| ports(RANGE, "", reuse).time_wait_ms(close, to);
        assert_eq!(held("0", Close::Fin, near), 60_000);
        assert_eq!(
            (held("2", Close::Fin, near), held("2", Close::Fin, far)),
            (1_000, 60_000)
        );
        assert_eq!(held("1", Close::Fin, far), 1_000);
        assert_eq!(held("0", Close::Reset, far), 0);
        let without_stamps = LocalPorts::parse(RANGE, "", "1", "0").expect("a range");
        assert_eq!(without_stamps.time_wait_ms(Close::Fin, far), 60_000);
    }

    #[test]
    fn a_destination_needs_its_rate_times_deadline_and_time_wait() {
        let uncapped = "uncapped = ['203.0.113.0/24']";
        let plan = plan(ports(RANGE, "", "2"), uncapped, "http://203.0.113.7/", 900);
        // 900 / 9 s = 100 a second; the deadline of 10 s is cut to 8.5 s.
        let need = worst(&plan);
        assert_eq!((need.needed, need.available), (6_850, 28_232));
        let said = ample(&plan);
        assert_eq!(
            said,
            "900 target(s) at literal addresses fit; 203.0.113.7:80 with 900 target(s) and 100.0 \
             checks a second, each of which holds a port for up to 68.5 s (8.5 s deadline, 60 s \
             TIME_WAIT), needs 6850 ports of 28232 (1 address(es) × 28232, 32768 to 60999)"
        );
    }

    #[test]
    fn a_mapped_address_is_the_destination_that_it_maps() {
        let [plain, mapped] = ["203.0.113.7", "[::ffff:203.0.113.7]"].map(|host| {
            let ports = ports(RANGE, "", "2");
            let uncapped = "uncapped = ['203.0.113.0/24']";
            let plan = plan(ports, uncapped, &format!("http://{host}/"), 900);
            worst(&plan).shown(&ports)
        });
        assert_eq!(plain, mapped);
    }

    #[test]
    fn kept_connections_hold_ports_too_and_only_where_some_may_be_kept() {
        let uncapped = "uncapped = ['203.0.113.0/24']\n";
        let keeping = format!("{uncapped}reuse = 'by_address'\n");
        let sources = format!("{keeping}source_addresses = ['192.0.2.1', '192.0.2.2']");
        let reuse = "reuse = 'by_address'";
        for (lines, url, kept) in [
            (uncapped, "http://203.0.113.7/", 0),
            (&keeping, "https://203.0.113.7/", 0),
            (&keeping, "http://203.0.113.7/", 256),
            (&sources, "http://203.0.113.7/", 512),
            (reuse, "http://203.0.113.7/", 32),
        ] {
            let need = worst(&plan(ports(RANGE, "", "2"), lines, url, 90));
            assert_eq!(
                (need.kept, need.needed),
                (kept, 685 + kept),
                "{lines} {url}"
            );
        }
        // What the cores keep together.
        for cores in 1..=64 {
            let share = KeptLimits::share(cores, u32::MAX);
            assert!(share.per_address as usize * cores <= 256);
            assert!(share.per_capped as usize * cores <= 32, "{cores}");
        }
        let said = ample(&plan(
            ports(RANGE, "", "2"),
            &keeping,
            "http://203.0.113.7/",
            90,
        ));
        assert!(
            said.contains("60 s TIME_WAIT) and 256 kept connections one each,"),
            "{said}"
        );
    }

    #[test]
    fn a_plan_that_cannot_fit_says_every_number_and_what_helps() {
        let uncapped = "uncapped = ['203.0.113.0/24']";
        let plan = plan(
            ports(RANGE, "", "2"),
            uncapped,
            "https://203.0.113.7/",
            9_000,
        );
        let said = plan.judge().expect_err("it does not fit").to_string();
        assert_eq!(
            said,
            "local ports are too few for the plan: 203.0.113.7:443 with 9000 target(s) and 1000.0 \
             checks a second, each of which holds a port for up to 68.5 s (8.5 s deadline, 60 s \
             TIME_WAIT), needs 68500 ports of 28232 (1 address(es) × 28232, 32768 to 60999): give \
             5 source_addresses, or set close = \"reset\" (8500 \
             ports), or check its targets less often"
        );
    }

    #[test]
    fn a_plan_that_takes_more_than_half_of_the_ports_is_tight() {
        let uncapped = "uncapped = ['203.0.113.0/24']";
        let plan = plan(
            ports(RANGE, "", "2"),
            uncapped,
            "http://203.0.113.7/",
            2_000,
        );
        let Ok(Fit::Tight(said)) = plan.judge() else {
            panic!("15,223 of 28,232")
        };
        let expected = "203.0.113.7:80 with 2000 target(s) and 222.2 checks a second";
        assert!(said.starts_with(expected), "{said}");
        assert!(said.ends_with("give 2 source_addresses"), "{said}");
    }

    #[test]
    fn sources_resets_and_a_wider_range_make_room() {
        let fits = |range: &str, lines: &str| {
            let lines = format!("uncapped = ['0.0.0.0/0']\n{lines}");
            let plan = plan(ports(range, "", "2"), &lines, "http://203.0.113.7/", 5_000);
            plan.judge().map_err(|error| error.to_string())
        };
        let short = fits(RANGE, "").expect_err("38,056 ports");
        assert!(
            short.contains("ip_local_port_range=\"1024 65535\""),
            "{short}"
        );
        assert!(fits("1024 65535", "").is_ok());
        assert!(fits(RANGE, "close = 'reset'").is_ok());
        assert!(fits(RANGE, "source_addresses = ['192.0.2.1', '192.0.2.2']").is_ok());
        // One of the other family gives nothing.
        let short = fits(RANGE, "source_addresses = ['192.0.2.1', '2001:db8::1']");
        assert!(short.is_err_and(|said| said.contains("(1 address(es) × 28232")));
    }

    #[test]
    fn a_cap_bounds_what_an_address_needs_and_then_targets_need_no_look() {
        let plan = plan(ports(RANGE, "", "2"), "", "http://203.0.113.7/", 9_000);
        let need = worst(&plan);
        assert_eq!((need.needed, need.capped), (50 * 685 / 10, true));
        assert!(ample(&plan).contains("50.0 checks a second (its cap)"));
        assert!(!plan.needs_targets());
        let narrow = PortsPlan::new(ports("40000 51997", "", "2"), &config(""));
        assert!(narrow.needs_targets());
        let uncapped = config("uncapped = ['203.0.113.0/24']");
        assert!(PortsPlan::new(ports(RANGE, "", "2"), &uncapped).needs_targets());
    }

    #[test]
    fn what_is_not_known_is_said_and_what_is_never_probed_is_left_out() {
        let mut plan = plan(ports(RANGE, "", "2"), "", "http://a.example/", 3);
        let said = ample(&plan);
        let expected = "no target at a literal address; where 3 named target(s) are is not known \
                        before they are resolved";
        assert_eq!(said, expected);
        // Not allowed, and nothing that connects.
        for url in ["http://10.0.0.1/", "dns://a.example?type=MX"] {
            let other = TargetSpec {
                url: url.to_owned(),
                ..TargetSpec::default()
            };
            plan.add(&other.parse().expect("valid"));
            assert_eq!(ample(&plan), expected, "{url}");
        }
    }

    #[test]
    fn of_several_short_destinations_the_shortest_is_named() {
        let uncapped = "uncapped = ['203.0.113.0/24']";
        let mut plan = plan(
            ports(RANGE, "", "2"),
            uncapped,
            "http://203.0.113.7/",
            5_000,
        );
        let other = TargetSpec {
            url: "http://203.0.113.8/".to_owned(),
            interval_s: Some(10),
            ..TargetSpec::default()
        };
        let other = other.parse().expect("valid");
        (0..6_000).for_each(|_| plan.add(&other));
        let said = plan.judge().expect_err("short").to_string();
        assert!(said.contains("plan: 203.0.113.8:80 with 6000"), "{said}");
        assert!(
            said.contains("(1 more destinations are short as well)"),
            "{said}"
        );
    }
}
