//! What all threads of the farm share: sites, scenario, clock, the scenario's zero.
//!
//! Everything is immutable or a plain atomic with one writer, so that the control thread never
//! makes the serving thread wait.

use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::clock::{Clock, FarmMs};
use crate::faults::{FaultKind, Layer};
use crate::scenario::{Method, Moment, Scenario, deadline_ms};
use crate::sites::Sites;

/// TTL of a site that DNS ever fails for, and the SOA minimum of its negative answers, in
/// seconds: the smallest that a resolver is likely to honour.
const FAULTED_TTL_S: u32 = 5;
/// SOA minimum of every other negative answer, in seconds.
const NEGATIVE_TTL_S: u32 = 60;
/// Says that the scenario has not been started.
const NOT_STARTED: u64 = u64::MAX;
/// Says that the faults without a duration have not been ended.
const NOT_ENDED: u32 = u32::MAX;

/// The facts of one farm.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) sites: Sites,
    pub(crate) scenario: Scenario,
    pub(crate) clock: Clock,
    dns_ttl_s: u32,
    /// Whether sites are served over IPv6 too.
    ipv6: bool,
    timeout_ms: AtomicU32,
    zero_ms: AtomicU64,
    /// Since zero.
    ended_ms: AtomicU32,
    /// Whether the name server answers nobody.
    dns_is_silent: AtomicBool,
    /// One bit per site, used for sites with a DNS fault: a resolver may hold an answer.
    resolved: Vec<AtomicU32>,
}

/// What DNS says of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteDns {
    /// What is broken, if anything.
    pub(crate) fault: Option<FaultKind>,
    /// TTL of an address, in seconds.
    pub(crate) ttl_s: u32,
    /// SOA minimum of an answer without records, in seconds.
    pub(crate) negative_ttl_s: u32,
}

impl World {
    /// A world whose scenario has not started; `timeout_ms` is the timeout of the targets.
    pub(crate) fn new(
        sites: Sites,
        scenario: Scenario,
        clock: Clock,
        dns_ttl_s: u32,
        timeout_ms: u32,
        ipv6: bool,
    ) -> Self {
        let words = (sites.count as usize).div_ceil(32);
        Self {
            sites,
            scenario,
            clock,
            dns_ttl_s,
            ipv6,
            timeout_ms: AtomicU32::new(timeout_ms),
            zero_ms: AtomicU64::new(NOT_STARTED),
            ended_ms: AtomicU32::new(NOT_ENDED),
            dns_is_silent: AtomicBool::new(false),
            resolved: (0..words).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Makes `now` the zero of the scenario. `false`: it is running and was left alone.
    pub(crate) fn start_scenario(&self, now: FarmMs) -> bool {
        let over = self.moment(now).is_none_or(|at| self.scenario.is_over(at));
        if over {
            // ORDERING: a serving thread that sees the new zero sees that nothing was ended.
            self.ended_ms.store(NOT_ENDED, Ordering::Relaxed);
            self.zero_ms.store(u64::from(now), Ordering::Release);
        }
        over
    }

    /// Ends the faults without a duration. `false`: none of them holds.
    pub(crate) fn end_scenario(&self, now: FarmMs) -> bool {
        let Some(at) = self.moment(now) else {
            return false;
        };
        let ends = self.scenario.waits_for_its_end(at);
        if ends {
            self.ended_ms.store(at.elapsed_ms, Ordering::Relaxed);
        }
        ends
    }

    /// How far the scenario is; `None` before its start.
    pub(crate) fn moment(&self, now: FarmMs) -> Option<Moment> {
        let zero = self.zero_ms.load(Ordering::Acquire);
        let ended_ms = self.ended_ms.load(Ordering::Relaxed);
        (zero != NOT_STARTED).then(|| Moment {
            elapsed_ms: now.saturating_sub(zero as u32),
            ended_ms: (ended_ms != NOT_ENDED).then_some(ended_ms),
        })
    }

    /// What breaks `layer` for `site` now.
    pub(crate) fn fault(
        &self,
        layer: Layer,
        site: u32,
        method: Option<Method>,
        now: FarmMs,
    ) -> Option<FaultKind> {
        let at = self.moment(now)?;
        self.scenario.active(layer, site, method, at, &self.sites)
    }

    /// From now on the name server answers nobody (or again as ever). No fault of a site: a monitor
    /// must not blame one for it.
    pub(crate) fn silence_dns(&self, is_silent: bool) {
        self.dns_is_silent.store(is_silent, Ordering::Relaxed);
    }

    /// What DNS says of `site` now.
    pub(crate) fn dns(&self, site: u32, now: FarmMs) -> SiteDns {
        let (ttl_s, negative_ttl_s) = if self.scenario.has_dns_fault(site, &self.sites) {
            (FAULTED_TTL_S.min(self.dns_ttl_s), FAULTED_TTL_S)
        } else {
            (self.dns_ttl_s, NEGATIVE_TTL_S)
        };
        let fault = if self.dns_is_silent.load(Ordering::Relaxed) {
            Some(FaultKind::DnsTimeout)
        } else {
            self.fault(Layer::Dns, site, None, now)
        };
        SiteDns {
            fault,
            ttl_s,
            negative_ttl_s,
        }
    }

    /// The IPv6 address of `site`: loopback has one for all. Sites that live on a port of their own
    /// have none.
    pub(crate) fn address6(&self, site: u32) -> Option<Ipv6Addr> {
        let gated = self.scenario.gate_index(site, &self.sites).is_some();
        (self.ipv6 && !gated).then_some(Ipv6Addr::LOCALHOST)
    }

    /// Remembers that an address of `site` was given out.
    pub(crate) fn note_resolved(&self, site: u32) {
        if self.scenario.has_dns_fault(site, &self.sites) {
            let word = &self.resolved[site as usize / 32];
            word.fetch_or(1 << (site % 32), Ordering::Relaxed);
        }
    }

    /// Whether an address of `site`, which has a DNS fault, was ever given out.
    pub(crate) fn was_resolved(&self, site: u32) -> bool {
        let word = self.resolved[site as usize / 32].load(Ordering::Relaxed);
        word & (1 << (site % 32)) != 0
    }

    /// The targets' timeout that slow answers are judged by, in ms.
    pub(crate) fn timeout_ms(&self) -> u32 {
        self.timeout_ms.load(Ordering::Relaxed)
    }

    /// Sets what [`World::timeout_ms`] says.
    pub(crate) fn set_timeout_ms(&self, timeout_ms: u32) {
        self.timeout_ms.store(timeout_ms, Ordering::Relaxed);
    }

    /// The deadline of a check: the timeout, kept below the cadence.
    pub(crate) fn deadline_ms(&self) -> u32 {
        deadline_ms(self.timeout_ms(), self.sites.interval_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario_file;

    fn world(text: &str) -> World {
        let sites = Sites {
            count: 100,
            interval_s: 10,
            https_every: 0,
            addresses: 256,
        };
        let scenario = scenario_file::parse(text, &sites).expect("a valid scenario");
        World::new(sites, scenario, Clock::start(), 3_600, 10_000, true)
    }

    const NXDOMAIN: &str =
        "[[fault]]\nkind='dns_nxdomain'\nfirst_site=3\noffset_s=1\nduration_s=2\n";

    #[test]
    fn a_silent_name_server_answers_no_site_and_then_each_again() {
        let world = world(NXDOMAIN);
        world.silence_dns(true);
        assert_eq!(world.dns(4, 0).fault, Some(FaultKind::DnsTimeout));
        world.silence_dns(false);
        assert_eq!(world.dns(4, 0).fault, None);
    }

    #[test]
    fn nothing_fails_before_the_scenario_starts() {
        let world = world(NXDOMAIN);
        assert_eq!(world.dns(3, 1_500).fault, None);
        assert!(world.start_scenario(10_000));
        assert_eq!(world.dns(3, 10_999).fault, None);
        assert_eq!(world.dns(3, 11_000).fault, Some(FaultKind::DnsNxdomain));
        assert_eq!(world.dns(4, 11_000).fault, None);
    }

    #[test]
    fn a_site_with_a_port_of_its_own_is_not_on_ipv6() {
        let world = world("[[fault]]\nkind='refuse'\nfirst_site=3\nduration_s=2\n");
        let addresses = [3, 4].map(|site| world.address6(site));
        assert_eq!(addresses, [None, Some(Ipv6Addr::LOCALHOST)]);
    }

    #[test]
    fn a_scenario_can_start_again_only_when_it_is_over() {
        let world = world(NXDOMAIN);
        assert!(world.start_scenario(0));
        assert!(!world.start_scenario(2_999));
        assert!(world.start_scenario(3_000));
        assert_eq!(world.moment(3_500).map(|at| at.elapsed_ms), Some(500));
    }

    #[test]
    fn faults_without_a_duration_end_once_and_come_back_with_a_new_start() {
        let world = world(&NXDOMAIN.replace("duration_s=2", "duration_s='until-ended'"));
        assert!(!world.end_scenario(0), "not started");
        assert!(world.start_scenario(0));
        assert!(!world.end_scenario(999), "not begun");
        assert_eq!(world.dns(3, 900_000).fault, Some(FaultKind::DnsNxdomain));
        assert!(!world.start_scenario(900_000));
        assert!(world.end_scenario(900_000));
        assert!(!world.end_scenario(900_001));
        assert_eq!(world.dns(3, 900_000).fault, None);
        assert!(world.start_scenario(900_001));
        assert_eq!(world.dns(3, 901_001).fault, Some(FaultKind::DnsNxdomain));
    }

    #[test]
    fn a_site_with_a_dns_fault_has_a_short_ttl_all_the_time() {
        let world = world(NXDOMAIN);
        assert_eq!(
            (world.dns(3, 0).ttl_s, world.dns(3, 0).negative_ttl_s),
            (5, 5)
        );
        assert_eq!(
            (world.dns(4, 0).ttl_s, world.dns(4, 0).negative_ttl_s),
            (3_600, 60)
        );
        world.note_resolved(3);
        world.note_resolved(4);
        assert!(world.was_resolved(3));
        assert!(!world.was_resolved(4));
    }
}
