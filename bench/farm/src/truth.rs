//! The ground truth: which site was broken from when to when, and what a monitor must have
//! found. Pure; the control thread writes the lines out.

use model::FailureClass;
use serde::Serialize;

use crate::clock::FarmMs;
use crate::faults::Circumstances;
use crate::scenario::Fault;
use crate::sites::Sites;
use crate::world::World;

/// One line of the truth.
#[derive(Debug, Serialize)]
struct Line<'a> {
    site: u32,
    host: &'a str,
    fault: &'static str,
    /// The expected failure class; null: nothing that counts as a failure.
    class: Option<&'static str>,
    start_ms: u64,
    end_ms: u64,
}

/// When a site could not be judged by the observer, on the farm's clock.
#[derive(Clone, Copy, Debug)]
struct Window {
    site: u32,
    start_ms: FarmMs,
    end_ms: FarmMs,
}

/// A site with the class that a monitor must find.
type Broken = (u32, Option<FailureClass>);

/// What has been said of a fault.
#[derive(Debug, Default)]
struct Stage {
    /// How often it held that was told.
    told: u32,
    /// It holds, and nobody knows until when.
    open: Option<Vec<Broken>>,
}

/// Everything said so far.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Zero of the running scenario: on the farm's clock, and in Unix ms.
    zero: Option<(FarmMs, u64)>,
    stages: Vec<Stage>,
    windows: Vec<Window>,
    lines: Vec<u8>,
}

impl Truth {
    /// The scenario starts (again); nothing of it has been told.
    pub(crate) fn start(&mut self, zero_ms: FarmMs, zero_unix_ms: u64) {
        self.zero = Some((zero_ms, zero_unix_ms));
        self.stages.clear();
    }

    /// Tells of every fault that has begun by `now`, and whose end is known; returns the new lines.
    ///
    /// The classes of a fault are set when it begins, not before: whether a resolver still holds
    /// an answer for a site is known only then.
    pub(crate) fn advance(&mut self, world: &World, now: FarmMs) -> &[u8] {
        let told_before = self.lines.len();
        let Some(at) = self.zero.and(world.moment(now)) else {
            return &[];
        };
        let faults = world.scenario.faults();
        self.stages.resize_with(faults.len(), Stage::default);
        for (index, fault) in faults.iter().enumerate() {
            while let Some((start_ms, end_ms)) = fault.spell(self.stages[index].told, at)
                && start_ms <= at.elapsed_ms
            {
                let stage = &mut self.stages[index];
                let sites = stage.open.take().unwrap_or_else(|| broken(fault, world));
                let Some(end_ms) = end_ms else {
                    stage.open = Some(sites);
                    break;
                };
                stage.told += 1;
                self.tell(fault, start_ms, end_ms, &sites);
            }
        }
        &self.lines[told_before..]
    }

    fn tell(&mut self, fault: &Fault, start_ms: u32, end_ms: u32, sites: &[Broken]) {
        let Some((zero_ms, zero_unix_ms)) = self.zero else {
            return;
        };
        for &(site, class) in sites {
            if class.is_some() {
                self.windows.push(Window {
                    site,
                    start_ms: zero_ms + start_ms,
                    end_ms: zero_ms + end_ms,
                });
            }
            let line = Line {
                site,
                host: &Sites::host(site),
                fault: fault.kind.name(),
                class: class.map(FailureClass::as_str),
                start_ms: zero_unix_ms + u64::from(start_ms),
                end_ms: zero_unix_ms + u64::from(end_ms),
            };
            serde_json::to_writer(&mut self.lines, &line)
                .expect("a line is plain numbers and strings, written to memory");
            self.lines.push(b'\n');
        }
    }

    /// Every line so far.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The sites whose fault, and two intervals after it, touch `from_ms..=to_ms`: true by number.
    pub(crate) fn unjudged(&self, sites: &Sites, from_ms: FarmMs, to_ms: FarmMs) -> Vec<bool> {
        let grace_ms = sites.interval_s.saturating_mul(2_000);
        let touches = |window: &&Window| {
            window.start_ms <= to_ms && window.end_ms.saturating_add(grace_ms) > from_ms
        };
        let over = self
            .windows
            .iter()
            .filter(touches)
            .map(|window| window.site);
        let open = self.stages.iter().flat_map(|stage| stage.open.iter());
        let open = open.flatten().filter(|(_, class)| class.is_some());
        let mut unjudged = vec![false; sites.count as usize];
        for site in over.chain(open.map(|&(site, _)| site)) {
            unjudged[site as usize] = true;
        }
        unjudged
    }
}

/// The sites of a fault that begins now.
fn broken(fault: &Fault, world: &World) -> Vec<Broken> {
    let class = |site| {
        fault.kind.class(Circumstances {
            timeout_ms: world.deadline_ms(),
            resolved: world.was_resolved(site),
            https: world.sites.is_https(site),
        })
    };
    let sites = fault.sites(&world.sites);
    sites.map(|site| (site, class(site))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::scenario_file;

    const TEXT: &str = "[[fault]]\nkind='status'\nstatus=500\nfirst_site=2\ncount=2\n\
        offset_s=1\nduration_s=3\n\
        [[fault]]\nkind='slow_first_byte'\ndelay_ms=50\nfirst_site=9\noffset_s=5\nduration_s=1\n\
        [[fault]]\nkind='dns_servfail'\nfirst_site=20\ncount=2\noffset_s=5\nduration_s=1\n";

    fn world() -> World {
        world_of(TEXT)
    }

    fn world_of(text: &str) -> World {
        let sites = Sites {
            count: 50,
            interval_s: 10,
            https_every: 0,
            addresses: 256,
        };
        let scenario = scenario_file::parse(text, &sites).expect("a valid scenario");
        World::new(sites, scenario, Clock::start(), 3_600, 10_000, false)
    }

    #[test]
    fn a_fault_is_told_once_when_it_begins() {
        let (world, mut truth) = (world(), Truth::default());
        assert!(truth.advance(&world, 5_000).is_empty());
        assert!(world.start_scenario(1_000));
        truth.start(1_000, 1_700_000_000_000);
        assert!(truth.advance(&world, 1_999).is_empty());
        let told = String::from_utf8(truth.advance(&world, 2_000).to_vec()).expect("UTF-8");
        assert_eq!(
            told.lines().next(),
            Some(
                "{\"site\":2,\"host\":\"s-0000002.farm.test\",\"fault\":\"status\",\
                 \"class\":\"http.status\",\"start_ms\":1700000001000,\"end_ms\":1700000004000}"
            )
        );
        assert_eq!(told.lines().count(), 2);
        assert!(truth.advance(&world, 2_001).is_empty());
    }

    #[test]
    fn a_fault_without_a_duration_is_told_when_it_ends_and_unjudged_before() {
        let world = world_of(&TEXT.replace("duration_s=3", "duration_s='until-ended'"));
        let mut truth = Truth::default();
        assert!(world.start_scenario(1_000));
        truth.start(1_000, 1_700_000_000_000);
        assert!(truth.advance(&world, 3_000).is_empty());
        assert!(truth.unjudged(&world.sites, 0, 3_000)[2]);
        assert!(world.end_scenario(4_500));
        let told = String::from_utf8(truth.advance(&world, 4_550).to_vec()).expect("UTF-8");
        assert_eq!(told.matches("\"end_ms\":1700000003500}").count(), 2);
        assert!(truth.unjudged(&world.sites, 24_499, 30_000)[2]);
        assert!(!truth.unjudged(&world.sites, 24_500, 30_000)[2]);
    }

    #[test]
    fn a_fault_that_flaps_is_told_each_time_it_begins() {
        let text = "[[fault]]\nkind='reset'\nfirst_site=4\noffset_s=1\nduration_s=5\nperiod_s=2\n";
        let (world, mut truth) = (world_of(text), Truth::default());
        assert!(world.start_scenario(0));
        truth.start(0, 0);
        let mut told = Vec::new();
        for now in (0..8_000).step_by(50) {
            let lines = String::from_utf8(truth.advance(&world, now).to_vec()).expect("UTF-8");
            told.extend(lines.lines().map(|line| {
                let (_, times) = line.split_once("\"start_ms\":").expect("a start");
                (now, times.trim_end_matches('}').to_owned())
            }));
        }
        let expected = [(1_000, 2_000), (3_000, 4_000), (5_000, 6_000)];
        let expected = expected.map(|(from, to)| (from, format!("{from},\"end_ms\":{to}")));
        assert_eq!(told, expected);
        assert!(truth.unjudged(&world.sites, 25_999, 30_000)[4]);
        assert!(!truth.unjudged(&world.sites, 26_000, 30_000)[4]);
    }

    #[test]
    fn what_is_no_failure_has_a_null_class_and_stays_judged() {
        let (world, mut truth) = (world(), Truth::default());
        world.note_resolved(20);
        assert!(world.start_scenario(0));
        truth.start(0, 0);
        truth.advance(&world, 5_000);
        let text = String::from_utf8(truth.lines().to_vec()).expect("UTF-8");
        let classes: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split("\"class\":").nth(1)?.split(',').next())
            .collect();
        let status = "\"http.status\"";
        assert_eq!(
            classes,
            [status, status, "null", "null", "\"dns.servfail\""]
        );
        let unjudged = truth.unjudged(&world.sites, 0, 5_000);
        let sites: Vec<usize> = (0..50).filter(|&site| unjudged[site]).collect();
        assert_eq!(sites, [2, 3, 21]);
    }

    #[test]
    fn a_site_is_judged_again_two_intervals_after_its_fault() {
        let (world, mut truth) = (world(), Truth::default());
        assert!(world.start_scenario(0));
        truth.start(0, 0);
        truth.advance(&world, 2_000);
        assert!(truth.unjudged(&world.sites, 23_999, 30_000)[2]);
        assert!(!truth.unjudged(&world.sites, 24_000, 30_000)[2]);
        assert!(!truth.unjudged(&world.sites, 0, 999)[2], "before the fault");
    }
}
