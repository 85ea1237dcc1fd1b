//! What a node takes from the machine: CPUs and open files. Pure arithmetic over what was found;
//! only `adopt_*` touch the process.

use anyhow::Context;
use model::limits::{
    DNS_SOCKETS_PER_UPSTREAM, DNS_STREAMS_MAX, FILES_PLANNED_PERCENT, IN_FLIGHT_DEFAULT_MAX,
    KEPT_PER_CORE_MAX,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::{Config, IpWord, ReuseWord};
use crate::exit::bad_input;

/// Files of the process itself: log, store, journal, sockets, clients of both listeners.
const FILES_OF_PROCESS: u64 = 128;
/// Files of a core besides its sockets: ring, timer, wake-up.
const FILES_OF_CORE: u64 = 16;
/// A socket of the resolver is opened once for sending and once for receiving.
const FILES_OF_DNS_SOCKET: usize = 2;
/// Fewest attempts in flight that are worth a start.
const IN_FLIGHT_MIN: u64 = 32;

/// CPUs by role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus {
    /// All that this process may use.
    pub(crate) allowed: Vec<usize>,
    /// One probe core each.
    pub(crate) probe: Vec<usize>,
    /// The sink, and next to it the control plane and the store.
    pub(crate) sink: usize,
    /// What is left for the control plane; all when the probe cores take everything.
    pub(crate) control: Vec<usize>,
}

impl Cpus {
    /// All of `allowed` but the first probe; on one CPU, that one. `chosen` overrides.
    pub(crate) fn assign(allowed: Vec<usize>, chosen: &[usize]) -> anyhow::Result<Self> {
        if let Some(absent) = chosen.iter().find(|cpu| !allowed.contains(cpu)) {
            return bad_input(format!(
                "probe_cores: found {absent}, accepted are the CPUs that this process may use: \
                 {allowed:?}"
            ));
        }
        let probe = match (chosen, &allowed[..]) {
            ([], [_, rest @ ..]) if !rest.is_empty() => rest.to_vec(),
            ([], all) => all.to_vec(),
            (chosen, _) => chosen.to_vec(),
        };
        let free = |cpu: &&usize| !probe.contains(cpu);
        let control: Vec<usize> = allowed.iter().filter(free).copied().collect();
        let control = if control.is_empty() {
            allowed.clone()
        } else {
            control
        };
        let sink = control
            .first()
            .copied()
            .context("the process may use no CPU at all")?;
        Ok(Self {
            allowed,
            probe,
            sink,
            control,
        })
    }

    /// The CPUs that this process may use, by number.
    pub(crate) fn allowed() -> anyhow::Result<Vec<usize>> {
        let set = sched_getaffinity(None).context("the CPUs of this process cannot be read")?;
        Ok((0..CpuSet::MAX_CPU)
            .filter(|&cpu| set.is_set(cpu))
            .collect())
    }

    /// Keeps this thread, and those that it starts without a CPU of their own, off the probe cores.
    pub(crate) fn adopt_control(&self) -> anyhow::Result<()> {
        let mut set = CpuSet::new();
        self.control.iter().for_each(|&cpu| set.set(cpu));
        sched_setaffinity(None, &set)
            .context("the control plane cannot be moved off the probe cores")
    }
}

/// Open files, by need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilesPlan {
    /// Attempts in flight per core.
    pub(crate) max_in_flight: u32,
    /// Connections that a core keeps for later checks.
    pub(crate) kept: u32,
    /// The limit needed for that: [`FILES_PLANNED_PERCENT`] of it are in use at most.
    pub(crate) needed: u64,
}

impl FilesPlan {
    /// Divides `limit` files among `cores` cores with `upstreams` resolvers each; where no name is
    /// looked up, 0. `chosen` = 0 means as many in flight as fit, up to the documented default.
    /// Where both families of a name may be connected to, an attempt has two sockets: in an outage
    /// of one family most of them do. Where connections are kept there are as many more, up to
    /// [`KEPT_PER_CORE_MAX`].
    pub(crate) fn make(
        limit: u64,
        cores: usize,
        upstreams: usize,
        (chosen, ip, reuse): (u32, IpWord, ReuseWord),
    ) -> anyhow::Result<Self> {
        let each = match ip {
            _ if upstreams == 0 => 1,
            IpWord::V4Only | IpWord::V6Only => 1,
            IpWord::V4First | IpWord::V6First | IpWord::Both => 2,
        };
        let sockets = DNS_SOCKETS_PER_UPSTREAM * FILES_OF_DNS_SOCKET * upstreams;
        let streams = if upstreams == 0 { 0 } else { DNS_STREAMS_MAX };
        let dns = (sockets + streams) as u64;
        let kept = |in_flight: u64| match reuse {
            ReuseWord::Never => 0,
            ReuseWord::ByAddress => in_flight.min(u64::from(KEPT_PER_CORE_MAX)),
        };
        let needed = |in_flight: u64| {
            let sockets = each * in_flight + kept(in_flight);
            FILES_OF_PROCESS + cores as u64 * (FILES_OF_CORE + dns + sockets)
        };
        let limit_for = |files: u64| (files * 100).div_ceil(FILES_PLANNED_PERCENT);
        let planned = (u128::from(limit) * u128::from(FILES_PLANNED_PERCENT) / 100) as u64;
        let share = planned.saturating_sub(needed(0)) / cores.max(1) as u64;
        // What is kept grows with what is in flight, up to its limit.
        let fits = (share / (each + kept(1))).max((share - kept(share)) / each);
        let wanted = if chosen == 0 {
            u64::from(IN_FLIGHT_DEFAULT_MAX)
        } else {
            u64::from(chosen)
        };
        let least = if chosen == 0 { IN_FLIGHT_MIN } else { wanted };
        if fits < least {
            let too = match kept(least) {
                0 => String::new(),
                kept => format!(", {kept} kept connections"),
            };
            let plan = format!(
                "{cores} probe core(s) with {least} attempts in flight of up to {each} \
                 socket(s){too}, and {dns} files for DNS, each"
            );
            let advice = if chosen == 0 || fits < IN_FLIGHT_MIN {
                String::new()
            } else {
                format!(", or set max_in_flight to {fits}")
            };
            let needed = limit_for(needed(least));
            return bad_input(format!(
                "nofile is {limit}, too low for the plan: {plan} need {needed} open files; raise \
                 it with `ulimit -n {needed}` or LimitNOFILE={needed}{advice}"
            ));
        }
        let in_flight = fits.min(wanted);
        Ok(Self {
            max_in_flight: in_flight as u32,
            kept: kept(in_flight) as u32,
            needed: limit_for(needed(in_flight)),
        })
    }

    /// The plan of `config` under the limits of this process.
    pub(crate) fn adopt(config: &Config, cores: usize, upstreams: usize) -> anyhow::Result<Self> {
        let wanted = (config.max_in_flight, config.ip, config.reuse);
        Self::make(raise_nofile(), cores, upstreams, wanted)
    }
}

/// Raises the soft limit of open files to the hard one and returns what then holds.
pub(crate) fn raise_nofile() -> u64 {
    let found = getrlimit(Resource::Nofile);
    // A kernel that refuses leaves the soft limit, which is then what the plan has to fit.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: found.maximum,
            ..found
        },
    );
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use model::limits::DESCRIPTORS_SHARE_PERCENT;

    use super::*;

    #[test]
    fn all_cpus_but_the_first_probe() {
        let of = |allowed: &[usize], chosen: &[usize]| {
            let cpus = Cpus::assign(allowed.to_vec(), chosen).expect("valid");
            (cpus.probe, cpus.sink, cpus.control)
        };
        assert_eq!(of(&[0, 1, 2, 3], &[]), (vec![1, 2, 3], 0, vec![0]));
        assert_eq!(of(&[5], &[]), (vec![5], 5, vec![5]));
        assert_eq!(of(&[0, 1, 2, 3], &[0, 2]), (vec![0, 2], 1, vec![1, 3]));
        assert_eq!(of(&[0, 1], &[0, 1]), (vec![0, 1], 0, vec![0, 1]));
        let error = Cpus::assign(vec![0, 1], &[7])
            .expect_err("absent")
            .to_string();
        assert!(
            error.contains("found 7") && error.contains("[0, 1]"),
            "{error}"
        );
    }

    #[test]
    fn files_are_divided_among_the_cores() {
        let plan =
            FilesPlan::make(1_000_000, 4, 2, (0, IpWord::V4First, ReuseWord::Never)).expect("fits");
        assert_eq!(plan.max_in_flight, IN_FLIGHT_DEFAULT_MAX);
        let plan =
            FilesPlan::make(20_000, 4, 1, (0, IpWord::V4Only, ReuseWord::Never)).expect("fits");
        assert_eq!(plan.max_in_flight, 4_010);
        assert!(plan.needed <= 20_000);
        // All of it used is no shortage: that is told of from 90 % on.
        let in_use = plan.needed * FILES_PLANNED_PERCENT / 100;
        assert!(in_use * 100 <= 20_000 * DESCRIPTORS_SHARE_PERCENT);
        assert_eq!(
            FilesPlan::make(20_000, 4, 1, (100, IpWord::V4Only, ReuseWord::Never))
                .expect("fits")
                .max_in_flight,
            100
        );
    }

    #[test]
    fn where_families_are_raced_an_attempt_has_two_files() {
        let make = |ip| FilesPlan::make(20_000, 4, 1, (0, ip, ReuseWord::Never)).expect("fits");
        let one = make(IpWord::V4Only);
        for ip in [IpWord::V4First, IpWord::V6First, IpWord::Both] {
            assert_eq!(make(ip).max_in_flight, one.max_in_flight / 2);
            assert!(make(ip).needed <= 20_000);
        }
    }

    #[test]
    fn connections_that_are_kept_have_files_of_their_own() {
        let make = |limit, chosen, reuse| {
            let wanted = (chosen, IpWord::V4Only, reuse);
            FilesPlan::make(limit, 4, 1, wanted).map_err(|error| error.to_string())
        };
        let most = u64::from(KEPT_PER_CORE_MAX);
        for limit in [2_000, 20_000, 40_000, 60_000, 1_000_000] {
            let never = make(limit, 0, ReuseWord::Never).expect("fits");
            let kept = make(limit, 0, ReuseWord::ByAddress).expect("fits");
            assert_eq!(never.kept, 0);
            let expected = u64::from(kept.max_in_flight).min(most);
            assert_eq!(u64::from(kept.kept), expected, "{limit}");
            let sockets = |plan: FilesPlan| plan.max_in_flight + plan.kept;
            assert!(kept.needed <= limit);
            if kept.max_in_flight < IN_FLIGHT_DEFAULT_MAX {
                let left = sockets(never) - sockets(kept);
                assert!(left <= 1, "no file is left for another attempt: {limit}");
            }
        }
        let error = make(1_000, 5_000, ReuseWord::ByAddress).expect_err("too low");
        assert!(
            error.contains("socket(s), 4096 kept connections, and"),
            "{error}"
        );
    }

    #[test]
    fn one_address_without_a_name_needs_few_files() {
        let plan =
            FilesPlan::make(171, 1, 0, (1, IpWord::V4First, ReuseWord::Never)).expect("fits");
        assert_eq!((plan.max_in_flight, plan.needed), (1, 171));
    }

    #[test]
    fn a_limit_that_is_too_low_says_the_number_needed() {
        let error = FilesPlan::make(200, 1, 1, (0, IpWord::V4Only, ReuseWord::Never))
            .expect_err("too low")
            .to_string();
        assert!(
            error.starts_with("nofile is 200, too low for the plan"),
            "{error}"
        );
        assert!(error.contains("ulimit -n 433"), "{error}");
        let error = FilesPlan::make(1_000, 1, 1, (5_000, IpWord::V4Only, ReuseWord::Never))
            .expect_err("too low")
            .to_string();
        assert!(
            error.contains("ulimit -n 6278") && error.ends_with("max_in_flight to 514"),
            "{error}"
        );
    }
}
