//! The same checks on io_uring and on epoll, over real loopback sockets.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use cores::{Clock, CoreConfig, CoreError, CoreHandle, DestinationCaps, Driver};
use model::inbox::{CoreCommand, OneShotReport};
use model::outcome::flags;
use model::{CoreIndex, FailureClass, Generation, Slot, Target, TargetId, TargetSpec, Ticket};
use prober::resolver::{IpPolicy, ResolverConfig};
use prober::{Guard, SharedConfig};

use crate::world::shared_config;

/// Far beyond what any of these steps takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers by path; keeps silent connections open.
fn serve(listener: &TcpListener) {
    let mut silent = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.expect("loopback accepts");
        let mut request = [0u8; 2_048];
        let n = stream.read(&mut request).unwrap_or(0);
        let path = String::from_utf8_lossy(&request[..n]);
        let path = path.split(' ').nth(1).unwrap_or("").to_owned();
        let answer: &[u8] = match path.as_str() {
            "/ok" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "/error" => b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
            "/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
            "/noise" => b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "/big" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            _ => b"",
        };
        // The peer may be gone already; what it saw is what the test asserts.
        let _ = stream.write_all(answer);
        if path == "/big" {
            for _ in 0..40 {
                let _ = stream.write_all(format!("800\r\n{}\r\n", "x".repeat(0x800)).as_bytes());
            }
            let _ = stream.write_all(b"0\r\n\r\n");
        }
        if path == "/silent" {
            silent.push(stream);
        } else if path == "/reset" {
            reset(&stream);
        }
    }
}

fn reset(stream: &TcpStream) {
    let linger = Some(Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(stream, linger).expect("a TCP socket lingers");
}

/// Says that every name is at 127.0.0.1, except `*.nowhere`.
fn answer_dns(socket: &UdpSocket) {
    let mut query = [0u8; 1_500];
    while let Ok((n, from)) = socket.recv_from(&mut query) {
        let query = &query[..n];
        let end = 12
            + query[12..]
                .iter()
                .position(|byte| *byte == 0)
                .expect("a root label")
            + 5;
        let missing = query
            .windows(7)
            .any(|window| window.eq_ignore_ascii_case(b"nowhere"));
        let is_a = query[end - 4..end - 2] == [0, 1];
        let (rcode, answers) = (if missing { 3 } else { 0 }, u8::from(!missing && is_a));
        let mut answer = query[..2].to_vec();
        answer.extend_from_slice(&[0x81, 0x80 | rcode, 0, 1, 0, answers, 0, 0, 0, 0]);
        answer.extend_from_slice(&query[12..end]);
        if answers == 1 {
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 127, 0, 0, 1]);
        }
        socket.send_to(&answer, from).expect("loopback sends");
    }
}

struct Rig {
    core: CoreHandle,
    server: SocketAddr,
    closed: SocketAddr,
}

fn rig(driver: Driver) -> Result<Rig, CoreError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let server = listener.local_addr().expect("bound");
    std::thread::spawn(move || serve(&listener));
    let dns = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let upstream = dns.local_addr().expect("bound");
    std::thread::spawn(move || answer_dns(&dns));
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let closed = closed.local_addr().expect("bound");
    let loopback = "127.0.0.0/8".parse().expect("a CIDR");
    let config = CoreConfig {
        index: CoreIndex(0),
        cpu: None,
        max_in_flight: 256,
        destination_caps: DestinationCaps::share(1, vec!["127.0.0.0/8".parse().expect("a block")]),
        driver,
        resolver: ResolverConfig {
            upstreams: vec![upstream],
            policy: IpPolicy::V4First,
            seed: 7,
            sockets_per_upstream: 2,
        },
        shared: SharedConfig {
            guard: Guard::public_only(vec![loopback]),
            ..shared_config()
        },
        histogram_interval_ms: 1_000,
    };
    Ok(Rig {
        core: cores::spawn(config, Clock::start())?,
        server,
        closed,
    })
}

fn target(url: &str, timeout_ms: i64) -> Box<Target> {
    let spec = TargetSpec {
        url: url.to_owned(),
        timeout_ms: Some(timeout_ms),
        interval_s: Some(10),
        ..TargetSpec::default()
    };
    let config = spec.parse().expect("the test's target is valid");
    let id = TargetId::new(1).expect("positive");
    Box::new(Target {
        id,
        generation: Generation(1),
        active: true,
        config,
    })
}

impl Rig {
    fn check(&self, url: &str, timeout_ms: i64) -> OneShotReport {
        let command = CoreCommand::OneShot {
            target: target(url, timeout_ms),
            ticket: Ticket(1),
        };
        self.core.inbox.send(command).expect("the core runs");
        self.core
            .one_shots
            .recv_timeout(PATIENCE)
            .expect("an answer")
    }

    fn stop(self) {
        let drain = CoreCommand::Drain { within_ms: 100 };
        self.core.inbox.send(drain).expect("the core runs");
        self.core
            .thread
            .join()
            .expect("no panic")
            .expect("a clean end");
    }
}

fn conforms(rig: Rig) {
    use FailureClass as C;
    let (server, closed) = (rig.server, rig.closed);
    let by_name = format!("http://site.test:{}/ok", server.port());
    let cases: Vec<(String, i64, Option<C>)> = vec![
        (format!("http://{server}/ok"), 5_000, None),
        (by_name, 5_000, None),
        (format!("http://{server}/big"), 5_000, None),
        (format!("http://{server}/error"), 5_000, Some(C::HttpStatus)),
        (
            format!("http://{server}/short"),
            5_000,
            Some(C::HttpTruncated),
        ),
        (
            format!("http://{server}/noise"),
            5_000,
            Some(C::HttpMalformed),
        ),
        (format!("http://{server}/reset"), 5_000, Some(C::HttpReset)),
        (format!("http://{server}/silent"), 300, Some(C::HttpTimeout)),
        (format!("http://{closed}/"), 5_000, Some(C::ConnectRefused)),
        (
            "http://host.nowhere/".to_owned(),
            5_000,
            Some(C::DnsNxdomain),
        ),
        ("http://10.1.2.3/".to_owned(), 5_000, Some(C::SafetyBlocked)),
    ];
    for (url, timeout_ms, class) in cases {
        let report = rig.check(&url, timeout_ms);
        assert_eq!(
            report.outcome.failure(),
            class,
            "{url}: {:?}",
            report.evidence
        );
        assert_eq!(report.evidence.class, report.outcome.class);
    }
    scheduled_target_probes_and_is_released(&rig);
    rig.stop();
}

fn scheduled_target_probes_and_is_released(rig: &Rig) {
    let url = format!("http://site.test:{}/ok", rig.server.port());
    let upsert = CoreCommand::Upsert {
        slot: Slot(0),
        target: target(&url, 1_000),
    };
    rig.core.inbox.send(upsert).expect("the core runs");
    rig.core
        .inbox
        .send(CoreCommand::CheckNow { slot: Slot(0) })
        .expect("the core runs");
    let outcome = rig
        .core
        .outcomes
        .recv_timeout(PATIENCE)
        .expect("an outcome");
    assert_eq!(
        (outcome.slot, outcome.failure(), outcome.status),
        (Slot(0), None, 200)
    );
    rig.core
        .inbox
        .send(CoreCommand::CheckNow { slot: Slot(0) })
        .expect("the core runs");
    let again = rig
        .core
        .outcomes
        .recv_timeout(PATIENCE)
        .expect("an outcome");
    assert!(again.has(flags::DNS_CACHED) && !outcome.has(flags::DNS_CACHED));
    rig.core
        .inbox
        .send(CoreCommand::Remove { slot: Slot(0) })
        .expect("the core runs");
    let marker = rig.core.outcomes.recv_timeout(PATIENCE).expect("a marker");
    assert!(marker.has(flags::SLOT_RELEASED));
    let histograms = rig
        .core
        .histograms
        .recv_timeout(PATIENCE)
        .expect("an interval");
    assert!(histograms.end > histograms.start);
}

#[test]
fn checks_end_with_their_class_on_epoll() {
    let rig = rig(Driver::Epoll).expect("epoll is everywhere");
    assert_eq!(rig.core.driver, Driver::Epoll);
    conforms(rig);
}

#[test]
fn checks_end_with_their_class_on_io_uring_where_the_kernel_has_it() {
    match rig(Driver::IoUring) {
        Ok(ring) => {
            assert_eq!(ring.core.driver, Driver::IoUring);
            conforms(ring);
        }
        Err(error) => {
            let refused = matches!(
                error,
                CoreError::Driver {
                    driver: Driver::IoUring,
                    ..
                }
            );
            assert!(refused, "{error}");
        }
    }
}

#[test]
fn a_cpu_that_does_not_exist_is_one_sentence() {
    let config = CoreConfig {
        index: CoreIndex(3),
        cpu: Some(1_000),
        max_in_flight: 1,
        destination_caps: DestinationCaps::share(1, vec!["127.0.0.0/8".parse().expect("a block")]),
        driver: Driver::Epoll,
        resolver: ResolverConfig {
            upstreams: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))],
            policy: IpPolicy::V4First,
            seed: 1,
            sockets_per_upstream: 1,
        },
        shared: shared_config(),
        histogram_interval_ms: 1_000,
    };
    let error = cores::spawn(config, Clock::start())
        .expect_err("no such CPU")
        .to_string();
    assert!(
        error.starts_with("probe core 3 could not be pinned to CPU 1000"),
        "{error}"
    );
}
