//! Allocations per healthy plain check on the real reactor: what the runtime allocates, since our
//! own code allocates nothing (`tests/allocations`). Prints one JSON line.
//!
//! `cargo run --release -p cores --example allocations [io_uring|epoll]`

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use cores::{Clock, CoreConfig, DriverChoice};
use model::inbox::CoreCommand;
use model::{CoreIndex, Generation, Slot, Target, TargetId, TargetSpec, Verdict};
use prober::resolver::{IpPolicy, ResolverConfig};
use prober::{Guard, Roots, SharedConfig};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TARGETS: u32 = 5_000;
const WARM_UP: usize = 6_000;
const MEASURED: usize = 5_000;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

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

fn target(id: u32, server: SocketAddr) -> Box<Target> {
    let url = format!("http://{server}/{id}");
    let spec = TargetSpec {
        url,
        interval_s: Some(10),
        ..TargetSpec::default()
    };
    Box::new(Target {
        id: TargetId::new(i64::from(id) + 1).expect("ids start at 1"),
        generation: Generation(1),
        active: true,
        config: spec.parse().expect("the URL is valid"),
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let driver = match std::env::args().nth(1).as_deref() {
        None => DriverChoice::Auto,
        Some("io_uring") => DriverChoice::IoUring,
        Some("epoll") => DriverChoice::Epoll,
        Some(other) => return Err(format!("{other}: accepted are io_uring and epoll").into()),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = listener.local_addr()?;
    std::thread::spawn(move || serve(&listener));
    let core = cores::spawn(
        CoreConfig {
            index: CoreIndex(0),
            cpu: None,
            max_in_flight: 1_024,
            driver,
            resolver: ResolverConfig {
                upstreams: vec![server],
                policy: IpPolicy::V4First,
                seed: 1,
                sockets_per_upstream: 1,
            },
            shared: SharedConfig {
                user_agent: "ringwatch/bench".to_owned(),
                roots: Roots::WebPki,
                guard: Guard::public_only(vec!["127.0.0.0/8".parse()?]),
            },
            histogram_interval_ms: 600_000,
        },
        Clock::start(),
    )?;
    for slot in 0..TARGETS {
        core.inbox.send(CoreCommand::Upsert {
            slot: Slot(slot),
            target: target(slot, server),
        })?;
    }
    let mut up = core
        .outcomes
        .iter()
        .filter(|outcome| outcome.verdict() == Verdict::Up);
    let mut take = |count| up.by_ref().take(count).count();
    take(WARM_UP);
    let region = Region::new(ALLOCATOR);
    let checks = take(MEASURED);
    let change = region.change();
    println!(
        "{{\"driver\":\"{}\",\"checks\":{checks},\"allocations_per_check\":{:.3},\
         \"bytes_per_check\":{:.1}}}",
        core.driver.as_str(),
        change.allocations as f64 / checks as f64,
        change.bytes_allocated as f64 / checks as f64,
    );
    Ok(())
}
