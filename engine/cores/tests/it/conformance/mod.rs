//! The same checks on io_uring and on epoll, over real loopback sockets, and in the simulator.

mod bare;
mod endless;
mod families;
mod name_servers;
mod names;
mod openssl;
mod peers;
mod real;
mod reset;
mod reuse;
mod servers;
mod sessions;
mod simulated;
mod sources;
mod unreachable;

use std::net::{Ipv4Addr, SocketAddr};

use cores::{Clock, CoreError, CoreHistograms, Driver};
use model::inbox::{CoreCommand, OneShotReport};
use model::outcome::flags;
use model::{FailureClass, Generation, Outcome, Slot, Target, TargetId, TargetSpec, Ticket};
use prober::{Guard, Roots, SharedConfig};

use crate::world::shared_config;
use peers::{SITE, Tls};
use real::RealRig;
use simulated::SimRig;

/// Of a check on a busy machine.
const TRIES: usize = 20;

/// Where the peers are.
#[derive(Clone, Copy)]
struct Addresses {
    /// Plain HTTP.
    plain: SocketAddr,
    /// TLS with a certificate for [`SITE`].
    tls: SocketAddr,
    /// The same from an authority that nobody trusts.
    untrusted: SocketAddr,
    /// Nobody listens.
    closed: SocketAddr,
}

/// A core, its peers, and the other ends of its channels.
trait Rig {
    fn addresses(&self) -> Addresses;
    fn tell(&mut self, command: CoreCommand);
    /// The next answer to a one-shot.
    fn report(&mut self) -> OneShotReport;
    /// The next result of a scheduled check.
    fn outcome(&mut self) -> Outcome;
    /// The next finished interval of histograms.
    fn interval(&mut self) -> Box<CoreHistograms>;
    /// Drains the core and sees that it ends well.
    fn stop(self)
    where
        Self: Sized;
}

/// The prober's settings: loopback is allowed, and the good authority trusted.
fn shared(tls: &Tls) -> SharedConfig {
    SharedConfig {
        guard: Guard::public_only(vec!["127.0.0.0/8".parse().expect("a CIDR")]),
        roots: Roots::Pem(tls.ca_pem.clone().into_bytes()),
        ..shared_config()
    }
}

fn target(url: &str, timeout_ms: i64) -> Box<Target> {
    let spec = TargetSpec {
        url: url.to_owned(),
        timeout_ms: Some(timeout_ms),
        interval_s: Some(10),
        ..TargetSpec::default()
    };
    target_of(&spec)
}

fn target_of(spec: &TargetSpec) -> Box<Target> {
    let config = spec.parse().expect("the test's target is valid");
    let id = TargetId::new(1).expect("positive");
    Box::new(Target {
        id,
        generation: Generation(1),
        active: true,
        config,
    })
}

/// URL, deadline in ms, class.
type Case = (String, i64, Option<FailureClass>);

/// What each URL must come to.
fn cases(at: Addresses) -> Vec<Case> {
    use FailureClass as C;
    let bases = [
        format!("http://{}", at.plain),
        format!("https://{SITE}:{}", at.tls.port()),
    ];
    let mut cases = Vec::new();
    for base in bases {
        for (path, timeout_ms, class) in [
            ("/ok", 5_000, None),
            ("/big", 5_000, None),
            ("/error", 5_000, Some(C::HttpStatus)),
            ("/short", 5_000, Some(C::HttpTruncated)),
            ("/noise", 5_000, Some(C::HttpMalformed)),
            ("/reset", 5_000, Some(C::HttpReset)),
            // Long enough for a server that gets no CPU to finish a handshake first.
            ("/silent", 6_000, Some(C::HttpTimeout)),
            ("/hop", 5_000, None),
            ("/name", 5_000, None),
            ("/loop", 5_000, Some(C::RedirectLoop)),
            ("/ftp", 5_000, Some(C::RedirectBadLocation)),
        ] {
            cases.push((format!("{base}{path}"), timeout_ms, class));
        }
    }
    let other = |url: String, class| (url, 5_000, class);
    let (tls, plain) = (at.tls.port(), at.plain.port());
    cases.extend([
        other(format!("http://{SITE}:{plain}/ok"), None),
        other(format!("https://other.test:{tls}/ok"), Some(C::TlsName)),
        other(
            format!("https://{SITE}:{}/ok", at.untrusted.port()),
            Some(C::TlsUntrusted),
        ),
        other(format!("https://{SITE}:{plain}/ok"), Some(C::TlsHandshake)),
        other(format!("http://{}/", at.closed), Some(C::ConnectRefused)),
        other("http://host.nowhere/".to_owned(), Some(C::DnsNxdomain)),
        other("http://10.1.2.3/".to_owned(), Some(C::SafetyBlocked)),
    ]);
    cases
}

fn conforms(mut rig: impl Rig) {
    for (url, timeout_ms, class) in cases(rig.addresses()) {
        let report = check(&mut rig, &url, timeout_ms);
        let (outcome, evidence) = (report.outcome, report.evidence);
        assert_eq!(outcome.failure(), class, "{url}: {evidence:?}");
        let seen = (evidence.class, evidence.flags);
        assert_eq!(seen, (outcome.class, outcome.flags));
        let reached_tls = outcome.phases.values()[2].is_some();
        let spoke_tls = url.starts_with("https:") && class != Some(FailureClass::TlsHandshake);
        let connected = outcome.phases.values()[1].is_some();
        let may_connect = class != Some(FailureClass::SafetyBlocked);
        let resolved = class != Some(FailureClass::DnsNxdomain);
        assert_eq!(connected, may_connect && resolved, "{url}");
        let redirected = url.ends_with("/hop") || url.ends_with("/name");
        assert_eq!(outcome.hops, u8::from(redirected), "{url}");
        if class.is_none() {
            assert_eq!(reached_tls, spoke_tls, "{url}: {:?}", outcome.phases);
        }
    }
    bare::conform(&mut rig);
    a_scheduled_target_is_probed_and_released(&mut rig);
    leave_some_running(&mut rig);
    rig.stop();
}

/// Checks once; again when the machine of the test was too busy for the core to judge.
fn check(rig: &mut impl Rig, url: &str, timeout_ms: i64) -> OneShotReport {
    check_target(rig, || target(url, timeout_ms))
}

fn check_target(rig: &mut impl Rig, target: impl Fn() -> Box<Target>) -> OneShotReport {
    let once = |rig: &mut dyn Rig| {
        rig.tell(CoreCommand::OneShot {
            target: target(),
            ticket: Ticket(1),
        });
        rig.report()
    };
    let was_judged =
        |report: &OneShotReport| report.outcome.failure() != Some(FailureClass::LocalPressure);
    let judged = (0..TRIES).map(|_| once(rig)).find(was_judged);
    judged.expect("the core could judge once")
}

fn a_scheduled_target_is_probed_and_released(rig: &mut impl Rig) {
    // A name that no case has asked for.
    let url = format!("http://scheduled.test:{}/ok", rig.addresses().plain.port());
    let slot = Slot(0);
    rig.tell(CoreCommand::Upsert {
        slot,
        target: target(&url, 9_000),
    });
    rig.tell(CoreCommand::CheckNow { slot });
    let first = rig.outcome();
    assert_eq!(
        (first.slot, first.failure(), first.status),
        (slot, None, 200)
    );
    rig.tell(CoreCommand::CheckNow { slot });
    let again = rig.outcome();
    assert!(again.has(flags::DNS_CACHED) && !first.has(flags::DNS_CACHED));
    rig.tell(CoreCommand::Remove { slot });
    assert!(rig.outcome().has(flags::SLOT_RELEASED));
    let interval = rig.interval();
    assert!(interval.end > interval.start);
}

/// Attempts that the drain finds before their connection stands, and waiting for an answer.
fn leave_some_running(rig: &mut impl Rig) {
    let at = rig.addresses();
    for url in [
        format!("http://{}/silent", at.plain),
        format!("https://{SITE}:{}/silent", at.tls.port()),
        format!("http://{}/ok", at.plain),
    ] {
        rig.tell(CoreCommand::OneShot {
            target: target(&url, 9_000),
            ticket: Ticket(2),
        });
    }
    assert!(rig.report().outcome.failure().is_none(), "the last one");
}

#[test]
fn checks_end_with_their_class_in_the_simulator() {
    conforms(SimRig::new(&Tls::new()));
}

#[test]
fn checks_end_with_their_class_on_epoll() {
    let rig = RealRig::new(Driver::Epoll, &Tls::new()).expect("epoll is everywhere");
    assert_eq!(rig.core.driver, Driver::Epoll);
    conforms(rig);
}

/// What the kernel says to a ring of the size that a core asks for, asked past the runtime.
fn kernel_on_rings() -> std::io::Result<()> {
    io_uring::IoUring::new(4_096).map(drop)
}

/// The drivers that this kernel gives out: what is left out is left out for its sake alone.
pub(super) fn drivers() -> Vec<Driver> {
    let ring = kernel_on_rings().ok().map(|()| Driver::IoUring);
    std::iter::once(Driver::Epoll).chain(ring).collect()
}

#[test]
fn checks_end_with_their_class_on_io_uring_where_the_kernel_has_it() {
    match (
        kernel_on_rings(),
        RealRig::new(Driver::IoUring, &Tls::new()),
    ) {
        (Ok(()), ring) => {
            let ring = ring.expect("the kernel gives out rings");
            assert_eq!(ring.core.driver, Driver::IoUring);
            conforms(ring);
        }
        (Err(refusal), Err(CoreError::Driver { driver, source, .. })) => {
            println!("not run: the kernel refuses rings: {refusal}");
            assert_eq!(driver, Driver::IoUring);
            assert_eq!(source.raw_os_error(), refusal.raw_os_error());
        }
        (Err(refusal), other) => panic!("{refusal}, and yet: {:?}", other.map(|_| "a core")),
    }
}

#[test]
fn a_cpu_that_does_not_exist_is_one_sentence() {
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    let config = real::config(Driver::Epoll, Some(1_000), upstream, &Tls::new());
    let error = cores::spawn(config, Clock::start()).expect_err("no such CPU");
    let sentence = "probe core 3 could not be pinned to CPU 1000";
    assert!(error.to_string().starts_with(sentence), "{error}");
}
