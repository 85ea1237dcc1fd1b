//! What one more attempt in flight takes of the heap, on the real reactor: counted by the
//! allocator, while a server that says nothing any more holds its connections. No clock is in it.
//!
//! One test in a process of its own, since the count is of the whole process; the server keeps
//! nothing but sockets, so that all that is counted is the core's.

mod server;

use std::alloc::System;
use std::time::Duration;

use cores::{Clock, CoreConfig, CoreError, CoreHandle, DestinationCaps, Driver, LocalEnd};
use crossbeam_channel::RecvTimeoutError;
use model::inbox::CoreCommand;
use model::limits::IN_FLIGHT_DEFAULT_MAX;
use model::{CoreIndex, Generation, Target, TargetId, TargetSpec, Ticket};
use prober::resolver::{IpPolicy, ResolverConfig};
use prober::{Guard, Roots, SharedConfig, TlsPolicy};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use server::Server;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Attempts in flight between which the slope is taken. At powers of two the tables that double
/// when they grow are full: the slope has none of what they keep in store.
const FEW: usize = 64;
const MANY: usize = 256;
/// The longest timeout: nothing ends before it was counted.
const TIMEOUT_MS: i64 = 60_000;
/// How long the core is watched between two looks at the heap, and how many equal looks are rest.
const LOOK: Duration = Duration::from_millis(20);
const EQUAL_LOOKS: usize = 10;
/// Looks after which it never came to rest.
const LOOKS_MAX: usize = 1_500;

/// What an attempt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The first byte, in clear.
    Plain,
    /// The first byte, after a handshake.
    TlsAnswer,
    /// The answer to its hello.
    TlsHandshake,
}

/// Bytes of heap per attempt, by driver. The bars of `ladder memory` are 12 and 24 kB of resident
/// memory: that has what the allocator adds on top, and the ciphers, whose memory is C's.
const FIGURES: [(Driver, Kind, i64); 6] = [
    (Driver::IoUring, Kind::Plain, 6_616),
    (Driver::IoUring, Kind::TlsAnswer, 13_817),
    (Driver::IoUring, Kind::TlsHandshake, 10_076),
    (Driver::Epoll, Kind::Plain, 6_632),
    (Driver::Epoll, Kind::TlsAnswer, 13_849),
    (Driver::Epoll, Kind::TlsHandshake, 10_108),
];
/// How far off a figure may be before it must be written anew, in percent.
const TOLERANCE_PERCENT: i64 = 3;

#[test]
fn one_more_attempt_in_flight_takes_as_much_as_is_written_here() {
    let mut wrong = Vec::new();
    for (driver, kind, figure) in FIGURES {
        let Some(bytes) = measure(driver, kind) else {
            eprintln!("{driver:?} is refused on this machine: left out");
            continue;
        };
        eprintln!("{driver:?} {kind:?}: {bytes} B");
        if (bytes - figure).abs() * 100 > figure * TOLERANCE_PERCENT {
            wrong.push(format!("{driver:?} {kind:?}: {bytes} B, not {figure}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Bytes of heap that one more attempt takes; `None` where the kernel refuses the driver.
fn measure(driver: Driver, kind: Kind) -> Option<i64> {
    let server = Server::start(kind == Kind::TlsAnswer);
    let core = match spawn(driver, server.ca_pem.clone()) {
        Ok(core) => core,
        Err(CoreError::Driver { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    let scheme = if kind == Kind::Plain { "http" } else { "https" };
    let url = format!("{scheme}://{}/", server.address);
    let few = bytes_at(&core, &server, &url, FEW);
    let many = bytes_at(&core, &server, &url, MANY);
    let drain = CoreCommand::Drain { within_ms: 0 };
    core.inbox.send(drain).expect("the core holds its inbox");
    let ended = core.thread.join().expect("the core does not panic");
    ended.expect("the core ends well");
    Some((many - few) / (MANY - FEW) as i64)
}

/// Brings `count` attempts in flight, and has the heap once all of them wait.
fn bytes_at(core: &CoreHandle, server: &Server, url: &str, count: usize) -> i64 {
    let running = core.stats.snapshot().one_shot.in_flight as usize;
    for number in running..count {
        let command = CoreCommand::OneShot {
            target: target(number, url),
            ticket: Ticket(number as u64),
        };
        core.inbox.send(command).expect("the core holds its inbox");
    }
    let (mut before, mut equal) = (0, 0);
    for _ in 0..LOOKS_MAX {
        match core.one_shots.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            ended => panic!("an attempt is over, or the core: {ended:?}"),
        }
        let in_flight = core.stats.snapshot().one_shot.in_flight as usize;
        let bytes = live_bytes();
        let is_equal = in_flight == count && server.held() == count && bytes == before;
        (before, equal) = (bytes, if is_equal { equal + 1 } else { 0 });
        if equal == EQUAL_LOOKS {
            return bytes;
        }
    }
    panic!(
        "{count} attempts never came to rest; {} held",
        server.held()
    )
}

/// What was allocated and not freed yet.
fn live_bytes() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

fn target(number: usize, url: &str) -> Box<Target> {
    let spec = TargetSpec {
        url: url.to_owned(),
        timeout_ms: Some(TIMEOUT_MS),
        interval_s: Some(300),
        ..TargetSpec::default()
    };
    Box::new(Target {
        id: TargetId::new(number as i64 + 1).expect("positive"),
        generation: Generation(1),
        active: true,
        config: spec.parse().expect("a valid target"),
    })
}

fn spawn(driver: Driver, ca_pem: String) -> Result<CoreHandle, CoreError> {
    let loopback = || "127.0.0.0/8".parse().expect("a block");
    let config = CoreConfig {
        index: CoreIndex(0),
        cpu: None,
        // Far more than needed: a core that is kept from running has fewer in flight for a while.
        max_in_flight: IN_FLIGHT_DEFAULT_MAX,
        destination_caps: DestinationCaps::share(1, vec![loopback()]),
        local_end: LocalEnd::default(),
        driver,
        resolver: ResolverConfig {
            upstreams: vec!["127.0.0.1:9".parse().expect("an address")],
            policy: IpPolicy::V4First,
            seed: [1; 32],
            sockets_per_upstream: 1,
            ..ResolverConfig::default()
        },
        shared: SharedConfig {
            user_agent: "ringwatch/test".to_owned(),
            roots: Roots::Pem(ca_pem.into_bytes()),
            tls: TlsPolicy::default(),
            guard: Guard::public_only(vec![loopback()]),
            reuse: false,
        },
        // A new set of histograms is made once per interval: none falls into the test.
        histogram_interval_ms: 600_000,
    };
    cores::spawn(config, Clock::start())
}
