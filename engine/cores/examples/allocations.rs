//! Allocations per healthy plain check on the real reactor, by driver and by whether the target
//! is an address or a name in the DNS cache. Prints one JSON object; `ladder baseline` runs it.
//!
//! The allocator counts the whole process; while it counts, only the core's thread allocates. What
//! our code and what the runtime allocates there cannot be told apart; that our own code allocates
//! nothing is shown by `tests/allocations`, on the simulator.
//!
//! `cargo run --release -p cores --example allocations`

use std::alloc::System;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use cores::{Clock, CoreConfig, CoreError, CoreHandle, DestinationCaps, Driver, LocalEnd};
use model::inbox::CoreCommand;
use model::{CoreIndex, Generation, Slot, Target, TargetId, TargetSpec, Verdict};
use prober::resolver::{IpPolicy, ResolverConfig};
use prober::{Guard, Roots, SharedConfig};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// 1,111 checks a second at the shortest interval.
const TARGETS: u32 = 10_000;
/// Every target once, and a tenth of them twice: every name is in the cache by then.
const WARM_UP: usize = 11_000;
const MEASURED: usize = 5_000;
/// Far longer than the core waits between two checks.
const PATIENCE: Duration = Duration::from_secs(30);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
/// Bytes of the header of a DNS message, and of type and class behind a name.
const DNS_HEADER: usize = 12;
const DNS_TYPE_AND_CLASS: usize = 4;
/// A pointer to the name in the question, A, IN, 3,600 s, 4 bytes: 127.0.0.1.
const DNS_ANSWER: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 127, 0, 0, 1];

/// What the URLs of the targets name.
#[derive(Clone, Copy)]
enum Host {
    Literal,
    Name,
}

impl Host {
    /// The word in the output.
    fn as_str(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Name => "name",
        }
    }

    fn url(self, id: u32, server: SocketAddr) -> String {
        match self {
            Self::Literal => format!("http://{server}/{id}"),
            Self::Name => format!("http://s-{id}.bench.test:{}/", server.port()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    for driver in [Driver::IoUring, Driver::Epoll] {
        for host in [Host::Literal, Host::Name] {
            match start(driver) {
                Ok((core, server)) => rows.push(measure(core, server, host)?),
                Err(error) if is_refusal(error.as_ref()) => {
                    eprintln!("allocations: {driver:?} is left out: {error}");
                }
                Err(error) => return Err(error),
            }
        }
    }
    let rows = rows.join(",");
    println!("{{\"counted\":\"whole thread\",\"rows\":[{rows}]}}");
    Ok(())
}

/// Whether the kernel refuses the driver: then there is nothing to count on it.
fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(CoreError::Driver { .. }))
}

/// A core with a web server and a name server of its own.
fn start(driver: Driver) -> Result<(CoreHandle, SocketAddr), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = listener.local_addr()?;
    std::thread::spawn(move || serve(&listener));
    let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let upstream = names.local_addr()?;
    std::thread::spawn(move || answer_names(&names));
    Ok((spawn(driver, upstream)?, server))
}

fn spawn(driver: Driver, upstream: SocketAddr) -> Result<CoreHandle, Box<dyn Error>> {
    let config = CoreConfig {
        index: CoreIndex(0),
        cpu: None,
        max_in_flight: 1_024,
        destination_caps: DestinationCaps::share(1, vec!["127.0.0.0/8".parse().expect("a block")]),
        local_end: LocalEnd::default(),
        driver,
        resolver: ResolverConfig {
            upstreams: vec![upstream],
            policy: IpPolicy::V4First,
            seed: [1; 32],
            sockets_per_upstream: 1,
            ..ResolverConfig::default()
        },
        shared: SharedConfig {
            user_agent: "ringwatch/bench".to_owned(),
            roots: Roots::WebPki,
            tls: prober::TlsPolicy::default(),
            guard: Guard::public_only(vec!["127.0.0.0/8".parse()?]),
            reuse: false,
        },
        // A new set of histograms is made once per interval: none falls into the measurement.
        histogram_interval_ms: 600_000,
    };
    cores::spawn(config, Clock::start()).map_err(Box::<dyn Error>::from)
}

/// One connection after the other, without an allocation.
fn serve(listener: &TcpListener) {
    let mut request = [0u8; 1_024];
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        if stream.read(&mut request).is_ok() {
            // A prober that is gone is what the end of the run looks like from here.
            let _ = stream.write_all(ANSWER);
        }
    }
}

/// Says that every name is at 127.0.0.1 and has nothing else.
fn answer_names(socket: &UdpSocket) {
    let mut message = [0u8; 1_500];
    while let Ok((received, from)) = socket.recv_from(&mut message) {
        if let Some(length) = answer_in_place(&mut message, received) {
            // A resolver that is gone is what the end of the run looks like from here.
            let _ = socket.send_to(&message[..length], from);
        }
    }
}

/// Turns a query of `received` bytes with one question into its answer, without its EDNS; the
/// length of the answer.
fn answer_in_place(message: &mut [u8], received: usize) -> Option<usize> {
    let name = message.get(DNS_HEADER..received)?;
    let root = name.iter().position(|byte| *byte == 0)?;
    let end = DNS_HEADER + root + 1 + DNS_TYPE_AND_CLASS;
    let is_a = message.get(end - DNS_TYPE_AND_CLASS..end - 2)? == [0, 1];
    // A response, recursion desired and available; one question, at most one answer.
    let head = [0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0];
    message[2..DNS_HEADER].copy_from_slice(&head);
    if !is_a {
        return Some(end);
    }
    let answer = message.get_mut(end..end + DNS_ANSWER.len())?;
    answer.copy_from_slice(&DNS_ANSWER);
    Some(end + DNS_ANSWER.len())
}

/// Warms the core up, counts, and stops it; one object of the output.
fn measure(core: CoreHandle, server: SocketAddr, host: Host) -> Result<String, Box<dyn Error>> {
    for id in 0..TARGETS {
        core.inbox.send(CoreCommand::Upsert {
            slot: Slot(id),
            target: target(id, host.url(id, server))?,
        })?;
    }
    take(&core, WARM_UP)?;
    let asked_before = core.stats.snapshot().dns.queries;
    let region = Region::new(ALLOCATOR);
    take(&core, MEASURED)?;
    let change = region.change();
    let asked = core.stats.snapshot().dns.queries - asked_before;
    if asked > 0 {
        return Err(format!("{asked} names were asked for again: the cache did not hold").into());
    }
    let (driver, host) = (core.driver.as_str(), host.as_str());
    stop(core)?;
    let per_check = |count: usize| count as f64 / MEASURED as f64;
    Ok(format!(
        "{{\"driver\":\"{driver}\",\"host\":\"{host}\",\"checks\":{MEASURED},\
         \"allocations_per_check\":{:.3},\"bytes_per_check\":{:.1}}}",
        per_check(change.allocations + change.reallocations),
        per_check(change.bytes_allocated),
    ))
}

fn target(id: u32, url: String) -> Result<Box<Target>, Box<dyn Error>> {
    let spec = TargetSpec {
        url,
        interval_s: Some(10),
        ..TargetSpec::default()
    };
    Ok(Box::new(Target {
        id: TargetId::new(i64::from(id) + 1).ok_or("ids start at 1")?,
        generation: Generation(1),
        active: true,
        config: spec.parse()?,
    }))
}

/// Takes `count` outcomes.
///
/// # Errors
/// When one is not up: only healthy checks are counted.
fn take(core: &CoreHandle, count: usize) -> Result<(), Box<dyn Error>> {
    for _ in 0..count {
        let outcome = core.outcomes.recv_timeout(PATIENCE)?;
        if outcome.verdict() != Verdict::Up {
            return Err(format!("a check ended {:?}: {:?}", outcome.verdict(), outcome).into());
        }
    }
    Ok(())
}

fn stop(core: CoreHandle) -> Result<(), Box<dyn Error>> {
    core.inbox.send(CoreCommand::Drain { within_ms: 1_000 })?;
    let ended = core.thread.join();
    Ok(ended.map_err(|_| "the core's thread panicked")??)
}
