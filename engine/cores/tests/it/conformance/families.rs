//! Happy eyeballs on io_uring, on epoll and in the simulator: names whose addresses answer, refuse
//! or are dark, by family. Nobody leaves loopback: `127/8` and `::1`.

mod loopback;
mod simulated;
mod zone;

use std::net::IpAddr;

use cores::Driver;
use model::inbox::OneShotReport;
use model::{FailureClass, evidence::AddressTried};
use prober::resolver::IpPolicy;

use super::{TRIES, drivers};
use loopback::Loopback;
use simulated::Simulated;

/// What an address does to whoever connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Answers,
    Refuses,
    /// Nothing comes back.
    Dark,
}

/// Ports by what `::1` does there; `127.0.0.1` answers on each, `127.0.0.2` refuses, and
/// `127.0.0.3` is dark.
#[derive(Clone, Copy, Debug)]
struct Ports {
    answers: u16,
    refuses: u16,
    dark: u16,
}

trait Town {
    fn ports(&self) -> Ports;
    /// Asks for one check.
    fn tell(&mut self, url: &str, timeout_ms: i64);
    /// What came of the next one.
    fn report(&mut self) -> OneShotReport;
    /// Drains the core and sees that it ends well.
    fn stop(self);
}

/// Checks once; again when the machine of the test was too busy for the core to judge.
fn check(town: &mut impl Town, url: &str, timeout_ms: i64) -> OneShotReport {
    let was_judged =
        |report: &OneShotReport| report.outcome.failure() != Some(FailureClass::LocalPressure);
    let once = |_| {
        town.tell(url, timeout_ms);
        town.report()
    };
    let judged = (0..TRIES).map(once).find(was_judged);
    judged.expect("the core could judge once")
}

/// Name, port, deadline in ms; class, and the address that the report is about.
type Case = (&'static str, u16, i64, Option<FailureClass>, &'static str);

/// The report is about the address that was tried last, or connected.
fn decisive(tried: &[AddressTried], class: Option<FailureClass>) -> Vec<IpAddr> {
    let is_decisive = |tried: &&AddressTried| class.is_some() || tried.errno.is_none();
    let decisive = tried.iter().filter(is_decisive);
    decisive.map(|tried| tried.address.ip()).collect()
}

fn judge(town: &mut impl Town, cases: &[Case]) {
    for &(name, port, timeout_ms, class, address) in cases {
        let url = format!("http://{name}:{port}/ok");
        let report = check(town, &url, timeout_ms);
        let evidence = &report.evidence;
        assert_eq!(report.outcome.failure(), class, "{url}: {evidence:?}");
        let address: IpAddr = address.parse().expect("an address");
        let decisive = decisive(&evidence.addresses, class);
        assert!(decisive.contains(&address), "{url}: {evidence:?}");
        let place = std::net::SocketAddr::new(address, port).to_string();
        let is_told = class.is_none() || evidence.text.starts_with(&place);
        assert!(is_told, "{url}: {}", evidence.text);
    }
}

fn prefers_v4(mut town: impl Town) {
    use FailureClass as C;
    let at = town.ports();
    judge(
        &mut town,
        &[
            ("v4-1.v6-1.test", at.answers, 5_000, None, "127.0.0.1"),
            ("v4-2.v6-1.test", at.answers, 5_000, None, "::1"),
            ("v4-3.v6-1.test", at.answers, 5_000, None, "::1"),
            ("v6-1.test", at.answers, 5_000, None, "::1"),
            ("v4-2-1.v6-1.test", at.dark, 5_000, None, "127.0.0.1"),
            ("v4-3-1.test", at.dark, 4_000, None, "127.0.0.1"),
            ("v4-1.v6-1.test", at.dark, 5_000, None, "127.0.0.1"),
            (
                "v4-2.v6-1.test",
                at.refuses,
                5_000,
                Some(C::ConnectRefused),
                "127.0.0.2",
            ),
            (
                "v4-2.v6-1.test",
                at.dark,
                1_000,
                Some(C::ConnectRefused),
                "127.0.0.2",
            ),
            (
                "v4-3.v6-1.test",
                at.dark,
                1_000,
                Some(C::ConnectTimeout),
                "127.0.0.3",
            ),
            ("localhost", at.dark, 5_000, None, "127.0.0.1"),
        ],
    );
    the_winner_serves_redirects_too(&mut town);
    what_lost_is_evidence(&mut town);
    many_at_once(&mut town);
    town.stop();
}

fn the_winner_serves_redirects_too(town: &mut impl Town) {
    let url = format!("http://v4-3.v6-1.again.test:{}/hop", town.ports().answers);
    let report = check(town, &url, 5_000);
    assert_eq!(report.outcome.failure(), None, "{:?}", report.evidence);
    assert_eq!(report.outcome.hops, 1);
    let [_, connect_us, _, _, _, total_us] = report.outcome.phases.values();
    let (connect_us, total_us) = (connect_us.expect("it did"), total_us.expect("it ended"));
    // Each hop waited for 250 ms, which is in the total alone.
    assert!(total_us >= 500_000, "{total_us} µs");
    assert!(
        connect_us < total_us - 490_000,
        "{connect_us} of {total_us} µs"
    );
}

fn what_lost_is_evidence(town: &mut impl Town) {
    let url = format!("http://v4-2-3.v6-1.test:{}/error", town.ports().answers);
    let report = check(town, &url, 5_000);
    let tried = report.evidence.addresses.iter();
    let tried: Vec<_> = tried
        .map(|tried| (tried.address.ip().to_string(), tried.errno))
        .collect();
    let has = |address: &str, errno| tried.contains(&(address.to_owned(), errno));
    assert!(has("127.0.0.2", Some(111)), "{tried:?}");
    assert!(has("127.0.0.3", Some(110)), "{tried:?}");
    assert!(has("::1", None), "{tried:?}");
    let dns = report.evidence.dns.expect("it was asked for");
    assert_eq!(dns.addresses.len(), 3);
}

/// Connections change hands while others are given up; half of the checks end in their race.
fn many_at_once(town: &mut impl Town) {
    let timeout_ms = |n| if n % 2 == 0 { 260 } else { 5_000 };
    for n in 0..40 {
        let url = format!("http://v4-3.v6-1.n{n}.test:{}/ok", town.ports().answers);
        town.tell(&url, timeout_ms(n));
    }
    let reports: Vec<OneShotReport> = (0..40).map(|_| town.report()).collect();
    let up = reports.iter().filter(|r| r.outcome.failure().is_none());
    let ours = |r: &&OneShotReport| r.outcome.failure() == Some(FailureClass::LocalPressure);
    let ours = reports.iter().filter(ours).count();
    assert!(up.count() + ours >= 20, "{reports:?}");
}

fn needs_both(mut town: impl Town) {
    use FailureClass as C;
    let at = town.ports();
    judge(
        &mut town,
        &[
            ("v4-1.v6-1.test", at.answers, 5_000, None, "127.0.0.1"),
            (
                "v4-1.v6-1.test",
                at.refuses,
                5_000,
                Some(C::ConnectRefused),
                "::1",
            ),
            (
                "v4-2.v6-1.test",
                at.answers,
                5_000,
                Some(C::ConnectRefused),
                "127.0.0.2",
            ),
            (
                "v4-1.v6-1.test",
                at.dark,
                1_000,
                Some(C::ConnectTimeout),
                "::1",
            ),
            (
                "v4-3.v6-1.test",
                at.answers,
                1_000,
                Some(C::ConnectTimeout),
                "127.0.0.3",
            ),
            ("v4-2-1.v6-1.test", at.answers, 5_000, None, "127.0.0.1"),
        ],
    );
    town.stop();
}

/// v6 first, and only one of both.
fn prefers_v6(mut town: impl Town) {
    let at = town.ports();
    judge(
        &mut town,
        &[
            ("v4-1.v6-1.test", at.answers, 5_000, None, "::1"),
            ("v4-1.v6-1.test", at.refuses, 5_000, None, "127.0.0.1"),
            ("v4-1.v6-1.test", at.dark, 5_000, None, "127.0.0.1"),
            ("v4-1.test", at.dark, 5_000, None, "127.0.0.1"),
        ],
    );
    town.stop();
}

fn wants_v6_only(mut town: impl Town) {
    use FailureClass as C;
    let at = town.ports();
    judge(
        &mut town,
        &[
            ("v4-1.v6-1.test", at.answers, 5_000, None, "::1"),
            (
                "v4-1.v6-1.test",
                at.refuses,
                5_000,
                Some(C::ConnectRefused),
                "::1",
            ),
        ],
    );
    let url = format!("http://v4-1.test:{}/ok", at.answers);
    let class = check(&mut town, &url, 5_000).outcome.failure();
    assert_eq!(class, Some(C::DnsNoAddress));
    town.stop();
}

#[test]
fn families_are_raced_in_the_simulator() {
    prefers_v4(Simulated::new(IpPolicy::V4First));
    needs_both(Simulated::new(IpPolicy::Both));
    prefers_v6(Simulated::new(IpPolicy::V6First));
    wants_v6_only(Simulated::new(IpPolicy::V6Only));
}

fn on(driver: Driver) {
    let start = |policy| Loopback::new(driver, policy);
    prefers_v4(start(IpPolicy::V4First));
    needs_both(start(IpPolicy::Both));
    prefers_v6(start(IpPolicy::V6First));
    wants_v6_only(start(IpPolicy::V6Only));
}

#[test]
fn families_are_raced_on_epoll() {
    on(Driver::Epoll);
}

#[test]
fn families_are_raced_on_io_uring_where_the_kernel_has_it() {
    if drivers().contains(&Driver::IoUring) {
        on(Driver::IoUring);
    }
}
