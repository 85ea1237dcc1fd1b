//! What the farm can serve, with the sink and the store at work on its core as in the rung: a load
//! generator beside the warm node makes up what is asked for beyond the rung. A farm that cannot
//! serve that much measures itself.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::plan::Form;
use super::reading::Reading;
use super::record::{Ceiling, Verdict};
use crate::baseline::{Sample, peers};
use crate::children::Running;
use crate::farm::Farm;

/// What the farm must be able to serve, as a multiple of what the rung requires.
pub(super) const HEADROOM: f64 = 1.3;
/// Later than this the farm is no peer but a bottleneck: in ms, at p99 of its loop.
pub(super) const FARM_LAG_MAX_MS: f64 = 20.0;
/// A farm busier than this while a core is pressed has no room of its own.
pub(super) const FARM_BUSY_MAX: f64 = 0.7;
/// Sites that the generator asks.
const PEERS_MAX: usize = 4_096;
/// Seconds that it runs before it counts.
const WARM_UP_S: u64 = 1;
/// What it may take to start and to end.
const TIME_FOR_A_CHILD: Duration = Duration::from_secs(30);
/// The least that shows anything, in checks a second.
const RATE_MIN: u32 = 50;
/// Of its checks so many may fail; and so much of what it is asked for it must make.
const GENERATOR_FAILED_MAX: f64 = 0.01;
const GENERATOR_RATE_MIN: f64 = 0.9;

impl Ceiling {
    /// What follows from the readings: what was served, and how much more the farm could in the
    /// rest of its core, which the others leave it.
    pub(super) fn of(required: f64, served: f64, farm_busy: f64, others: f64, lag_ms: f64) -> Self {
        let room = (1.0 - others).max(farm_busy);
        let by_room = served * room / farm_busy.max(1e-6);
        Self {
            required_per_s: required,
            needed_per_s: HEADROOM * required,
            served_per_s: served,
            farm_busy,
            others_busy: others,
            farm_lag_p99_ms: lag_ms,
            generator_checks: 0,
            generator_failed: 0,
            generator_asked_per_s: 0.0,
            generator_per_s: 0.0,
            limit_per_s: by_room.max(served),
        }
    }

    /// Why the farm is too small for the rung; `None` when it is not.
    pub(super) fn farm_bound(&self) -> Option<String> {
        (self.limit_per_s < self.needed_per_s).then(|| {
            format!(
                "the farm can serve {:.0} checks/s beside the sink and the store, and {:.0} are \
                 needed ({HEADROOM} × {:.0}): it was {:.0} % busy with {:.0}/s, the others on its \
                 core {:.0} %",
                self.limit_per_s,
                self.needed_per_s,
                self.required_per_s,
                100.0 * self.farm_busy,
                self.served_per_s,
                100.0 * self.others_busy
            )
        })
    }

    /// Why it shows nothing: the load that it is the answer to was not there.
    fn void(&self) -> Option<String> {
        let (made, asked) = (self.generator_per_s, self.generator_asked_per_s);
        let (failed, checks) = (self.generator_failed, self.generator_checks);
        let is_slow = made < GENERATOR_RATE_MIN * asked;
        let is_failing = failed as f64 > GENERATOR_FAILED_MAX * checks as f64;
        (is_slow || is_failing).then(|| {
            format!(
                "nothing is known of the farm's ceiling: the load generator made {made:.0} of \
                 {asked:.0} checks/s, and {failed} of {checks} failed; give it a CPU that has room \
                 for it, or choose a smaller fleet"
            )
        })
    }

    /// Why the rung is not measured. In the mini form, on machines that are busy, a generator that
    /// fell behind is none of it.
    pub(super) fn obstacle(&self, form: Form) -> Option<(Verdict, String)> {
        let bound = self.farm_bound().map(|why| (Verdict::FarmBound, why));
        let void = || self.void().filter(|_| form != Form::Mini);
        bound.or_else(|| void().map(|why| (Verdict::Void, why)))
    }
}

/// Runs the generator for `seconds` beside the node and says what the farm can serve.
pub(super) async fn measure(
    (farm, pids): (&Farm, super::reading::Pids),
    generator: &Generator<'_>,
    required: f64,
    seconds: u64,
) -> Result<Ceiling> {
    let rate = (((HEADROOM - 1.0) * required).ceil() as u32).max(RATE_MIN);
    let more = generator.run(rate, seconds);
    let watch = async {
        sleep(Duration::from_secs(WARM_UP_S)).await;
        farm.reset_observer().await?;
        let before = Reading::of_processes(pids)?;
        sleep(Duration::from_secs(seconds)).await;
        let others = before.others_busy(&Reading::of_processes(pids)?);
        Ok((farm.summary().await?, others))
    };
    let (sample, (summary, others)) = tokio::try_join!(more, watch)?;
    let number = |path: &str| {
        let found = summary.pointer(path).and_then(serde_json::Value::as_f64);
        found.with_context(|| format!("the observer's summary has no {path}"))
    };
    let served = number("/requests_total")? * 1_000.0 / number("/elapsed_ms")?.max(1.0);
    let (busy, lag_us) = (number("/farm/busy")?, number("/farm/loop_lag_us/p99")?);
    Ok(Ceiling {
        generator_checks: sample.checks,
        generator_failed: sample.failed,
        generator_asked_per_s: rate.into(),
        generator_per_s: sample.checks as f64 / sample.seconds.max(1e-3),
        ..Ceiling::of(required, served, busy, others, lag_us / 1_000.0)
    })
}

/// The load generator of the baselines: the floor, or hyper where the sites speak HTTPS.
pub(super) struct Generator<'a> {
    pub(super) farm: &'a Farm,
    /// Whom it asks: hyper the sites that speak HTTPS, the floor the others. Of a mixed fleet it
    /// asks one kind, the plain sites, which are most of it.
    pub(super) is_https: bool,
    pub(super) cpu: usize,
    /// For its list of sites and its log.
    pub(super) folder: &'a Path,
    /// The list of targets.
    pub(super) targets: &'a Path,
}

impl Generator<'_> {
    async fn run(&self, rate: u32, seconds: u64) -> Result<Sample> {
        let (subcommand, ca_file) = if self.is_https {
            ("probe-hyper", Some(&self.farm.ready.ca_file))
        } else {
            ("probe-floor", None)
        };
        let file = self.folder.join("peers");
        let csv = std::fs::read_to_string(self.targets)?;
        let asked = asked(&csv, self.is_https);
        peers::write(&peers::resolve_all(&asked, self.farm.ready.dns)?, &file)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(subcommand).arg("--peers").arg(&file);
        for (flag, value) in [
            ("--rate", u64::from(rate)),
            ("--warm-up-s", WARM_UP_S),
            ("--seconds", seconds),
            ("--cpu", self.cpu as u64),
        ] {
            command.args([flag, &value.to_string()]);
        }
        if let Some(ca_file) = ca_file {
            command.arg("--ca-file").arg(ca_file);
        }
        let log = self.folder.join("generator.log");
        let mut child = Running::start(subcommand, &mut command, &log, Stdio::piped())?;
        let limit = Duration::from_secs(WARM_UP_S + seconds) + TIME_FOR_A_CHILD;
        let text = child.finish(&log, limit).await?;
        serde_json::from_str(text.trim())
            .with_context(|| format!("the load generator wrote no sample: {text}"))
    }
}

/// The head of a list of targets and its first sites of one scheme.
fn asked(csv: &str, is_https: bool) -> String {
    let scheme = if is_https { "https://" } else { "http://" };
    let mut lines = csv.lines();
    let head = lines.next();
    let sites = lines.filter(|line| line.starts_with(scheme));
    let asked: Vec<&str> = head.into_iter().chain(sites.take(PEERS_MAX)).collect();
    asked.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(served: f64, farm_busy: f64, others: f64) -> Ceiling {
        Ceiling::of(10_000.0, served, farm_busy, others, 1.0)
    }

    #[test]
    fn what_was_served_is_a_ceiling_whatever_the_core() {
        let full = ceiling(13_000.0, 0.9, 0.4);
        assert!((full.limit_per_s - 13_000.0).abs() < 1e-6);
        assert_eq!(full.farm_bound(), None);
        assert!(ceiling(12_999.0, 0.9, 0.4).farm_bound().is_some());
    }

    #[test]
    fn what_the_core_leaves_is_counted_and_what_others_have_is_not() {
        // 1,000 a second in 5 % of the core.
        assert!((ceiling(1_000.0, 0.05, 0.2).limit_per_s - 16_000.0).abs() < 1e-6);
        assert_eq!(ceiling(1_000.0, 0.05, 0.35).farm_bound(), None);
        let bound = ceiling(1_000.0, 0.05, 0.36)
            .farm_bound()
            .expect("too little room");
        assert!(
            bound.contains("12800 checks/s") && bound.contains("13000 are"),
            "{bound}"
        );
    }

    #[test]
    fn a_generator_that_failed_or_fell_behind_shows_no_ceiling() {
        let of = |failed, per_s| Ceiling {
            generator_checks: 1_000,
            generator_failed: failed,
            generator_asked_per_s: 100.0,
            generator_per_s: per_s,
            ..ceiling(13_000.0, 0.9, 0.4)
        };
        assert_eq!(of(10, 90.0).void(), None);
        assert!(of(11, 100.0).void().is_some());
        let void = of(0, 89.0).void().expect("too slow");
        assert!(void.contains("89 of 100 checks/s"), "{void}");
        let verdict = |form| of(0, 89.0).obstacle(form).map(|(verdict, _)| verdict);
        assert_eq!(verdict(Form::Full), Some(Verdict::Void));
        assert_eq!(verdict(Form::Mini), None);
        let small = ceiling(12_999.0, 0.9, 0.4).obstacle(Form::Full);
        assert_eq!(small.map(|it| it.0), Some(Verdict::FarmBound));
    }

    #[test]
    fn only_sites_of_one_scheme_are_asked() {
        let csv = "url,interval_s\nhttps://a:1/,60\nhttp://b:2/,60\nhttp://c:2/,60\n";
        assert_eq!(asked(csv, true), "url,interval_s\nhttps://a:1/,60");
        let plain = "url,interval_s\nhttp://b:2/,60\nhttp://c:2/,60";
        assert_eq!(asked(csv, false), plain);
    }

    #[test]
    fn a_farm_that_did_nothing_is_no_ceiling() {
        assert!(ceiling(0.0, 0.0, 0.0).farm_bound().is_some());
    }
}
