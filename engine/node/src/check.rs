//! `ringwatch check`: one-shots on one probe core, the same code that a running node probes with;
//! no store, no second driver.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use cores::{Clock, CoreConfig, CoreHandle, DestinationCaps, Driver};
use model::inbox::{CoreCommand, OneShotReport};
use model::outcome::{Phases, flags};
use model::{
    CoreIndex, Evidence, Generation, Outcome, Target, TargetId, TargetSpec, Ticket, Verdict,
};
use serde_json::{Map, Value, json};

use crate::config::{Config, Layers, upstreams};
use crate::exit::bad_input;
use crate::out::{self, Out};
use crate::report::human;
use crate::run::parts;
use crate::run::plan::{FilesPlan, raise_nofile};
use crate::run::sources;

/// Attempts in flight of one `check` at most; there are no more than URLs.
const IN_FLIGHT: u32 = 64;
/// How long the core may be silent before it is taken for dead: longer than any two deadlines,
/// since a check whose time went into a kept connection is made again.
const SILENCE: Duration = Duration::from_secs(150);

/// Checks every spec once and prints the results in the order given.
pub(crate) fn run(
    config: &Config,
    layers: &Layers,
    specs: &[TargetSpec],
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let targets = parse(specs)?;
    let reports = probe(config, layers, &targets)?;
    let mut worst = 0;
    let mut out = Out::start();
    for (target, report) in targets.iter().zip(&reports) {
        let (outcome, evidence) = (&report.outcome, &report.evidence);
        if as_json {
            out.line(object(target, outcome, evidence));
        } else {
            out.line(line(target, outcome, evidence));
        }
        worst = worse(worst, code(outcome.verdict()));
    }
    out.end()?;
    Ok(ExitCode::from(worst))
}

/// Checks every target once on a core of its own; the reports come back in the order of targets.
pub(crate) fn probe(
    config: &Config,
    layers: &Layers,
    targets: &[Target],
) -> anyhow::Result<Vec<OneShotReport>> {
    let core = spawn(config, layers, targets)?;
    let reports = collect(&core, targets);
    // The core ends with the process; a drain only lets it say goodbye to its connections.
    let _ = core.inbox.send(CoreCommand::Drain { within_ms: 0 });
    let _ = core.thread.join();
    reports
}

/// 0 up, 1 down, 3 unknown, 4 degraded.
pub(crate) fn code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Up => 0,
        Verdict::Down => 1,
        Verdict::Unknown => 3,
        Verdict::Degraded => 4,
    }
}

/// Of several URLs the worst decides: down, then unknown, then degraded, then up.
fn worse(left: u8, right: u8) -> u8 {
    let order = [1, 3, 4, 0];
    order
        .into_iter()
        .find(|&code| code == left || code == right)
        .unwrap_or(0)
}

fn parse(specs: &[TargetSpec]) -> anyhow::Result<Vec<Target>> {
    let parse = |(index, spec): (usize, &TargetSpec)| match spec.parse() {
        Ok(config) => {
            let id = TargetId::new(index as i64 + 1).context("more URLs than ids")?;
            Ok(Target {
                id,
                generation: Generation(1),
                active: true,
                config,
            })
        }
        Err(error) => bad_input(error.to_string()),
    };
    specs.iter().enumerate().map(parse).collect()
}

fn spawn(config: &Config, layers: &Layers, targets: &[Target]) -> anyhow::Result<CoreHandle> {
    let clock = Clock::start();
    let names = targets
        .iter()
        .any(|t| matches!(t.config.check.host(), model::url::Host::Name(_)));
    // Addresses need no resolver, so a machine without one can check them.
    let upstreams = match upstreams::find(&config.dns) {
        Ok(found) => found,
        Err(error) if names => return Err(error),
        Err(_) => Vec::new(),
    };
    let chosen = match config.max_in_flight {
        0 => IN_FLIGHT,
        chosen => chosen,
    };
    // A redirect may lead from an address to a name, which takes a socket or two of the reserve.
    let resolvers = if names { upstreams.len() } else { 0 };
    let in_flight = chosen.min(targets.len() as u32);
    let wanted = (in_flight, config.ip, config.reuse);
    let files = FilesPlan::make(raise_nofile(), 1, resolvers, wanted)?;
    config.check_sources(layers)?;
    let shared = config.prober(layers)?;
    let local_end = sources::local_end(config, 1, files.kept);
    let resolver = parts::resolver(config, &upstreams, 1)?;
    let make = |driver: Driver| CoreConfig {
        index: CoreIndex(0),
        cpu: None,
        max_in_flight: files.max_in_flight,
        destination_caps: DestinationCaps::share(1, Vec::new()),
        local_end: local_end.clone(),
        driver,
        resolver: resolver.clone(),
        shared: shared.clone(),
        histogram_interval_ms: u64::from(config.histogram_interval_s) * 1_000,
    };
    let (core, note) =
        parts::spawn_first(config.driver, |driver| cores::spawn(make(driver), clock))?;
    if let Some(note) = note {
        tracing::debug!("{note}");
    }
    Ok(core)
}

/// Sends every target and waits for every answer; the reports come back in the order of targets.
fn collect(core: &CoreHandle, targets: &[Target]) -> anyhow::Result<Vec<OneShotReport>> {
    let mut reports = BTreeMap::new();
    let mut waiting = targets.iter().enumerate();
    let mut asked = 0;
    while reports.len() < targets.len() {
        // Fewer are asked than fit in any channel on the way.
        while asked - reports.len() < IN_FLIGHT as usize
            && let Some((index, target)) = waiting.next()
        {
            let ticket = Ticket(index as u64);
            let command = CoreCommand::OneShot {
                target: Box::new(target.clone()),
                ticket,
            };
            core.inbox.send(command).context("the probe core ended")?;
            asked += 1;
        }
        match core.one_shots.recv_timeout(SILENCE) {
            Ok(report) => reports.insert(report.ticket.0, report),
            Err(error) => bail!("the probe core does not answer ({error})"),
        };
    }
    Ok(reports.into_values().collect())
}

/// Before lines that belong to the one above them.
const UNDER: &str = "         ";
/// Why writing into a `String` is expected to work.
const STRING: &str = "a String takes every write";

/// The line for a person.
pub(crate) fn line(target: &Target, outcome: &Outcome, evidence: &Evidence) -> String {
    let mut text = format!("{:<8} {}", outcome.verdict().as_str(), target.config.check);
    if outcome.status > 0 {
        write!(text, "  {}", outcome.status).expect(STRING);
    }
    if let Some(class) = outcome.failure() {
        write!(text, "  {class}").expect(STRING);
    }
    let phases = Phases::NAMES.into_iter().zip(outcome.phases.values());
    let phases: Vec<String> = phases
        .filter_map(|(name, us)| us.map(|us| format!("{name} {}", human(u64::from(us)))))
        .collect();
    if !phases.is_empty() {
        write!(text, "  {}", phases.join(", ")).expect(STRING);
    }
    if let Some(address) = address(evidence) {
        write!(text, "  [{address}]").expect(STRING);
    }
    if outcome.failure().is_some() && !evidence.text.is_empty() {
        let said = out::printable(&evidence.text, UNDER);
        write!(text, "\n{UNDER}{said}").expect(STRING);
    }
    let marks: Vec<&str> = flags::marks(outcome.flags).collect();
    if !marks.is_empty() {
        write!(text, "\n{UNDER}flags: {}", marks.join(", ")).expect(STRING);
    }
    text
}

/// The address that answered, else the last one tried.
pub(crate) fn address(evidence: &Evidence) -> Option<IpAddr> {
    let tried = &evidence.addresses;
    let answered = tried.iter().rev().find(|tried| tried.errno.is_none());
    answered.or(tried.last()).map(|tried| tried.address.ip())
}

/// The object of `--json`.
pub(crate) fn object(target: &Target, outcome: &Outcome, evidence: &Evidence) -> Value {
    let class = outcome.failure();
    json!({
        "url": target.config.check.to_string(),
        "verdict": outcome.verdict().as_str(),
        "class": class.map(model::FailureClass::as_str),
        "legacy_code": class.and_then(model::FailureClass::legacy_code),
        "status": (outcome.status > 0).then_some(outcome.status),
        "address": address(evidence).map(|address| address.to_string()),
        "phases": phases(&outcome.phases.values()),
        "tls": tls_object(evidence, outcome.flags),
        "redirects": redirects_object(evidence),
        "evidence": evidence_object(evidence),
    })
}

/// Phases by name in µs; one that was not reached is absent.
pub(crate) fn phases(values: &[Option<u32>; 6]) -> Value {
    let named = Phases::NAMES.into_iter().zip(values);
    let map: Map<String, Value> = named
        .filter_map(|(name, us)| us.map(|us| (format!("{name}_us"), us.into())))
        .collect();
    Value::Object(map)
}

/// What TLS said to a check with these flags, as `check` and `events` show it; `null` where there
/// was no handshake.
pub(crate) fn tls_object(evidence: &Evidence, of_check: u16) -> Value {
    let has = |flag| of_check & flag != 0;
    let seen = evidence.tls.as_ref().map(|tls| {
        json!({
            "version": tls.version,
            "cipher": tls.cipher,
            "subjects": tls.subjects,
            "not_before_unix_s": tls.not_before_unix_s,
            "not_after_unix_s": tls.not_after_unix_s,
            "resumed": has(flags::TLS_RESUMED),
            "chain_cached": has(flags::TLS_CHAIN_CACHED),
        })
    });
    seen.into()
}

/// The redirects that were followed, in order, as both show them.
pub(crate) fn redirects_object(evidence: &Evidence) -> Value {
    let hops = evidence.redirects.iter();
    let objects = hops.map(|hop| {
        json!({
            "url": hop.url, "status": hop.status, "phases": phases(&hop.phases_us),
        })
    });
    objects.collect()
}

/// What was seen beside them, as both show it.
pub(crate) fn evidence_object(evidence: &Evidence) -> Value {
    json!({
        "text": evidence.text,
        "flags": flags::marks(evidence.flags).collect::<Vec<_>>(),
        "errno": evidence.errno,
        "addresses": evidence.addresses.iter().map(|tried| json!({
            "address": tried.address.to_string(), "errno": tried.errno, "local": tried.local,
        })).collect::<Vec<_>>(),
        "dns": evidence.dns.as_ref().map(|dns| json!({
            "server": dns.server.map(|server| server.to_string()),
            "rcode": dns.rcode,
            "addresses": dns.addresses,
            "tries": dns.tries,
        })),
        "head": evidence.head,
        "excerpt": evidence.excerpt,
    })
}

#[cfg(test)]
mod tests {
    use model::evidence::AddressTried;
    use model::{FailureClass, Slot, UnixMs};

    use super::*;

    #[test]
    fn the_worst_verdict_decides_the_exit_code() {
        assert_eq!(worse(0, 4), 4);
        assert_eq!(worse(4, 3), 3);
        assert_eq!(worse(3, 1), 1);
        assert_eq!(worse(0, 0), 0);
        assert_eq!(Verdict::ALL.map(code), [0, 4, 1, 3]);
    }

    fn failing() -> (Target, Outcome, Evidence) {
        let spec = TargetSpec {
            url: "http://a.example/x".into(),
            ..TargetSpec::default()
        };
        let target = parse(&[spec]).expect("valid").remove(0);
        let mut outcome = Outcome::slot_released(Slot(0), Generation(1), UnixMs(5));
        outcome.class = FailureClass::HttpStatus as u8;
        outcome.flags = flags::HTTP_SLOPPY | flags::REDIRECT_ALERT | flags::COMMANDED;
        outcome.status = 503;
        outcome.phases = Phases {
            connect_us: 900,
            ttfb_us: 12_300,
            total_us: 14_000,
            ..Phases::NONE
        };
        let evidence = Evidence {
            status: 503,
            class: outcome.class,
            flags: outcome.flags,
            text: "the status 503 is not accepted".into(),
            head: "HTTP/1.1 503 Service Unavailable".into(),
            addresses: vec![
                AddressTried {
                    address: "192.0.2.1:80".parse().expect("address"),
                    errno: Some(111),
                    local: false,
                },
                AddressTried {
                    address: "192.0.2.2:80".parse().expect("address"),
                    errno: None,
                    local: false,
                },
            ],
            ..Evidence::default()
        };
        (target, outcome, evidence)
    }

    #[test]
    fn a_failing_check_is_told_in_three_lines() {
        let (target, outcome, evidence) = failing();
        insta::assert_snapshot!(line(&target, &outcome, &evidence));
    }

    #[test]
    fn what_a_server_says_is_told_without_its_commands_to_terminals() {
        let (target, outcome, mut evidence) = failing();
        evidence.text = "found \u{1b}]0;up\u{7}\nup       http://a.example/x".into();
        let told = line(&target, &outcome, &evidence);
        let of_server = "\n         found \\x1b]0;up\\x07\n         up       http://a.example/x";
        assert!(told.contains(of_server), "{told}");
    }

    #[test]
    fn what_is_marked_is_told_of_a_check_that_is_up_and_nothing_else_is() {
        let (target, mut outcome, evidence) = failing();
        outcome.class = 0;
        let told = line(&target, &outcome, &evidence);
        let (first, second) = told.split_once('\n').expect("two lines");
        assert!(first.starts_with("up "), "{told}");
        assert_eq!(second.trim(), "flags: http_sloppy, redirect_alert");
        outcome.flags = flags::COMMANDED | flags::DNS_CACHED;
        assert!(!line(&target, &outcome, &evidence).contains('\n'));
    }

    #[test]
    fn a_failing_check_is_told_in_json() {
        let (target, outcome, evidence) = failing();
        insta::assert_json_snapshot!(object(&target, &outcome, &evidence));
    }
}
