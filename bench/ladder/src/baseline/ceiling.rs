//! `ladder ceiling`: new plain connections a second that the farm serves on one core, from a load
//! generator on another one. A monitor cannot be faster than what it is measured against: the gates
//! of every other measurement use a share of this.
//!
//! The generator is as little as a client can be: blocking sockets, six system calls per
//! connection, no bare ACK (as a probe core sends none), and so many connections under way at a
//! time that neither side waits for the other. It waits for the oldest one first, which is the
//! first to be answered.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use serde::Serialize;
use tokio::time::sleep;

use super::child::{self, USER_AGENT};
use super::median;
use super::peers::{self, Peer};
use super::tally::{Sample, Tally};
use super::{BenchOptions, TIMEOUT_MS};
use crate::bar::{self, Bar, Bound};
use crate::children::Running;
use crate::clock::Stopwatch;
use crate::farm::{Farm, FarmPlan, TlsChain};
use crate::machine::Machine;
use crate::table::{Table, grouped};

/// Connections a second that a quiet machine of this class must show.
const BAR_PER_S: f64 = 30_000.0;
/// A farm that had less of its core than this was not at its end: the generator was.
const BUSY_MIN: f64 = 0.95;
/// One for each of the farm's addresses, so that no local port is short.
const SITES: u32 = 4_096;
const INTERVAL_S: u32 = 300;
/// Seconds that the generator runs before it counts.
const WARM_UP_S: u64 = 1;
/// What it may take to start and to end.
const TIME_FOR_A_CHILD: Duration = Duration::from_secs(30);
/// Longest that a connection may take: past it the farm, or the machine, stands still.
const PATIENCE: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 4_096;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CeilingOptions {
    #[command(flatten)]
    bench: BenchOptions,
    /// Rounds.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of one round.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Connections under way at a time.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    in_flight: u32,
    /// Exit with 1 when the bar is missed.
    #[arg(long)]
    gate: bool,
}

/// Flags of the generator; it is started by `ladder ceiling` only.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadOptions {
    /// File with one `address authority` a line.
    #[arg(long)]
    peers: PathBuf,
    /// Connections under way at a time.
    #[arg(long)]
    in_flight: u32,
    /// Seconds before the window.
    #[arg(long)]
    warm_up_s: u64,
    /// Seconds of the window.
    #[arg(long)]
    seconds: u64,
    /// CPU to run on.
    #[arg(long)]
    cpu: usize,
}

/// One round.
#[derive(Clone, Copy, Debug, Serialize)]
struct Round {
    /// Requests that the farm's observer saw.
    served_per_s: f64,
    /// Part of its core that the farm had, and that the generator had of its own.
    farm_busy: f64,
    generator_busy: f64,
    /// CPU of the farm per connection.
    farm_us: f64,
    farm_lag_p99_us: f64,
    generator_failed: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    seconds: u64,
    in_flight: u32,
    farm_shell: String,
    rounds: Vec<Round>,
    bars: Vec<Bar>,
}

/// Measures and writes the report.
///
/// # Errors
/// When a child fails, or, with `--gate`, the bar is missed.
pub(crate) async fn run(options: &CeilingOptions) -> Result<()> {
    options.bench.check_cpus()?;
    let machine = Machine::read();
    println!("{}", machine.line());
    let folder = options.bench.folder("ceiling")?;
    let mut farm = Farm::start(&plan(options), &folder.join("farm")).await?;
    let (targets, peers) = (folder.join("targets.csv"), folder.join("peers"));
    farm.write_targets(INTERVAL_S, TIMEOUT_MS, &targets).await?;
    let csv = std::fs::read_to_string(&targets)?;
    peers::write(&peers::resolve_all(&csv, farm.ready.dns)?, &peers)?;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let round = measure(options, &farm, &peers).await?;
        println!(
            "round {number}/{}: {:.0} connections/s, farm {:.0} % busy, generator {:.0} %",
            options.rounds,
            round.served_per_s,
            100.0 * round.farm_busy,
            100.0 * round.generator_busy
        );
        rounds.push(round);
        farm.must_run()?;
    }
    farm.stop().await?;
    let report = Report {
        machine,
        seconds: options.seconds,
        in_flight: options.in_flight,
        farm_shell: farm.ready.shell.clone(),
        bars: vec![bar(&rounds)],
        rounds,
    };
    let markdown = markdown(&report);
    println!("{markdown}");
    options.bench.write(&report, &markdown)?;
    if options.gate {
        bar::require(&report.bars)?;
    }
    Ok(())
}

fn plan(options: &CeilingOptions) -> FarmPlan {
    FarmPlan {
        program: options.bench.farm.clone(),
        sites: SITES,
        interval_s: INTERVAL_S,
        https_every: 0,
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: None,
        silent_max: None,
        dns_ttl_s: None,
        cpu: Some(options.bench.farm_cpu),
    }
}

/// One round: the generator's window, seen by the farm's observer.
async fn measure(options: &CeilingOptions, farm: &Farm, peers: &Path) -> Result<Round> {
    let generator = generator(options, peers);
    let watching = async {
        sleep(Duration::from_secs(WARM_UP_S)).await;
        farm.reset_observer().await?;
        sleep(Duration::from_secs(options.seconds)).await;
        farm.summary().await
    };
    let (sample, summary) = tokio::try_join!(generator, watching)?;
    let number = |path: &str| {
        let found = summary.pointer(path).and_then(serde_json::Value::as_f64);
        found.with_context(|| format!("the observer's summary has no {path}"))
    };
    let served = number("/requests_total")?;
    Ok(Round {
        served_per_s: served * 1_000.0 / number("/elapsed_ms")?.max(1.0),
        farm_busy: number("/farm/busy")?,
        generator_busy: sample.cpu_s / sample.seconds.max(1e-9),
        farm_us: number("/farm/thread_cpu_us")? / served.max(1.0),
        farm_lag_p99_us: number("/farm/loop_lag_us/p99")?,
        generator_failed: sample.failed,
    })
}

/// Runs the generator; it goes on for a second after its window, so that the farm's is full.
async fn generator(options: &CeilingOptions, peers: &Path) -> Result<Sample> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("probe-load").arg("--peers").arg(peers);
    for (flag, value) in [
        ("--in-flight", u64::from(options.in_flight)),
        ("--warm-up-s", WARM_UP_S),
        ("--seconds", options.seconds + WARM_UP_S),
        ("--cpu", options.bench.probe_cpu as u64),
    ] {
        command.args([flag, &value.to_string()]);
    }
    let log = peers.with_extension("log");
    let mut child = Running::start("probe-load", &mut command, &log, Stdio::piped())?;
    let limit = Duration::from_secs(2 * WARM_UP_S + options.seconds) + TIME_FOR_A_CHILD;
    let text = child.finish(&log, limit).await?;
    serde_json::from_str(text.trim())
        .with_context(|| format!("the load generator wrote no sample: {text}"))
}

/// Runs the generator's process.
pub(crate) fn run_load(options: &LoadOptions) -> Result<()> {
    child::pin(options.cpu)?;
    let mut load = Load::new(peers::read(&options.peers)?)?;
    let from = Duration::from_secs(options.warm_up_s);
    let to = from + Duration::from_secs(options.seconds);
    let (watch, mut mark) = (Stopwatch::start(), None);
    let sample = loop {
        let elapsed = watch.elapsed();
        if mark.is_none() && elapsed >= from {
            mark = Some(load.tally.mark());
        }
        if let Some(mark) = mark.filter(|_| elapsed >= to) {
            break mark.close(&load.tally);
        }
        for _ in 0..options.in_flight {
            load.step(options.in_flight as usize);
        }
    };
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// Connections under way, the oldest first.
struct Load {
    peers: Vec<(Peer, Vec<u8>)>,
    next: usize,
    page_bytes: usize,
    open: VecDeque<TcpStream>,
    tally: Tally,
}

impl Load {
    /// Learns how long the page of a site is.
    fn new(peers: Vec<Peer>) -> Result<Self> {
        let with_request = |peer: Peer| {
            let request = format!(
                "GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\n\
                 Connection: close\r\n\r\n",
                peer.authority
            );
            (peer, request.into_bytes())
        };
        let peers: Vec<_> = peers.into_iter().map(with_request).collect();
        let Some((peer, request)) = peers.first() else {
            bail!("there is no site to load");
        };
        let mut page = Vec::new();
        let mut stream = TcpStream::connect_timeout(&peer.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        stream
            .read_to_end(&mut page)
            .context("the first site does not answer")?;
        Ok(Self {
            page_bytes: page.len(),
            peers,
            next: 0,
            open: VecDeque::new(),
            tally: Tally::default(),
        })
    }

    /// Begins a connection; ends the oldest one when as many are under way as may be.
    fn step(&mut self, in_flight: usize) {
        let (peer, request) = &self.peers[self.next];
        self.next = (self.next + 1) % self.peers.len();
        match begin(peer.address, request) {
            Ok(stream) => self.open.push_back(stream),
            Err(_) => self.tally.count(false),
        }
        if self.open.len() >= in_flight
            && let Some(oldest) = self.open.pop_front()
        {
            let is_whole = self.receive(oldest).is_ok();
            self.tally.count(is_whole);
        }
    }

    /// Reads the page.
    fn receive(&self, mut stream: TcpStream) -> Result<()> {
        let (mut buffer, mut received) = ([0; READ_BYTES], 0);
        while received < self.page_bytes {
            match stream.read(&mut buffer)? {
                0 => bail!("closed after {received} bytes"),
                bytes => received += bytes,
            }
        }
        Ok(())
    }
}

/// A connection over which the request was sent: it goes with the ACK of the handshake.
fn begin(address: SocketAddr, request: &[u8]) -> io::Result<TcpStream> {
    let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
    sockopt::set_tcp_quickack(&socket, false)?;
    connect(&socket, &address)?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(request)?;
    Ok(stream)
}

/// What the farm can, unless nobody asked it for more than that.
fn bar(rounds: &[Round]) -> Bar {
    let of = |value: fn(&Round) -> f64| {
        let values: Vec<f64> = rounds.iter().map(value).collect();
        (!values.is_empty()).then(|| median(values))
    };
    let (served, busy) = (of(|round| round.served_per_s), of(|round| round.farm_busy));
    let flaw = served.zip(busy).and_then(|(served, busy)| {
        (served < BAR_PER_S && busy < BUSY_MIN).then(|| {
            format!(
                "the generator was at its end, and the farm only {:.0} % busy: {:.0} a second \
                 would fill its core",
                100.0 * busy,
                served / busy.max(1e-6)
            )
        })
    });
    let what = "new plain connections a second, farm on one core".to_owned();
    Bar::of(what, served, (Bound::Min(BAR_PER_S), "connections/s"), flaw)
}

fn markdown(report: &Report) -> String {
    let mut table = Table::new(&[
        "round",
        "connections/s",
        "farm busy %",
        "generator busy %",
        "farm CPU µs each",
        "farm's loop late, p99 ms",
        "failed",
    ]);
    for (index, round) in report.rounds.iter().enumerate() {
        table.row([
            (index + 1).to_string(),
            grouped(round.served_per_s as u64),
            format!("{:.0}", 100.0 * round.farm_busy),
            format!("{:.0}", 100.0 * round.generator_busy),
            format!("{:.1}", round.farm_us),
            format!("{:.2}", round.farm_lag_p99_us / 1_000.0),
            grouped(round.generator_failed),
        ]);
    }
    format!(
        "# What the farm can\n\n`cargo xtask bench farm`\n\n{}\n\nThe farm ({} shell) on one CPU, \
         a load generator on another: plain HTTP, a new connection for each page of a kilobyte, {} \
         under way at a time, over 4,096 addresses. Rounds of {} s, counted by the farm's \
         observer; busy is the part of the time that the thread was on its CPU, user and system, \
         and on loopback the kernel's work for either side is done by whoever sends. The median \
         counts.\n\n{}\n{}",
        report.machine.line(),
        report.farm_shell,
        report.in_flight,
        report.seconds,
        bar::table(&report.bars),
        table.markdown(),
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::bar::Verdict;

    const PAGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

    /// Answers connections with these pages, one each, and hands back what it was asked.
    fn server(pages: Vec<&'static [u8]>) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("bound");
        let serve = move || {
            let answer = |page: &[u8]| {
                let (mut stream, _) = listener.accept().expect("accepted");
                let mut asked = [0; 1_024];
                let size = stream.read(&mut asked).expect("a request");
                stream.write_all(page).expect("answered");
                String::from_utf8_lossy(&asked[..size]).into_owned()
            };
            pages.into_iter().map(answer).collect()
        };
        (address, std::thread::spawn(serve))
    }

    fn peer(address: SocketAddr, host: &str) -> Peer {
        Peer {
            address,
            host: host.to_owned(),
            authority: format!("{host}:80"),
        }
    }

    #[test]
    fn connections_go_round_the_sites_and_a_page_cut_short_is_a_failure() {
        let (address, asked) = server(vec![PAGE, PAGE, PAGE, &PAGE[..20], PAGE]);
        let peers = vec![peer(address, "a"), peer(address, "b")];
        let mut load = Load::new(peers).expect("the page is learned");
        let mark = load.tally.mark();
        for _ in 0..4 {
            load.step(2);
        }
        // The first three are over, the fourth is under way.
        let sample = mark.close(&load.tally);
        assert_eq!((sample.checks, sample.failed, load.open.len()), (3, 1, 1));
        drop(load);
        let asked = asked.join().expect("served");
        let hosts: Vec<bool> = asked
            .iter()
            .map(|text| text.contains("Host: a:80\r\n"))
            .collect();
        assert_eq!(hosts, [true, true, false, true, false]);
    }

    fn round(served_per_s: f64, farm_busy: f64) -> Round {
        Round {
            served_per_s,
            farm_busy,
            generator_busy: 1.0,
            farm_us: 30.0,
            farm_lag_p99_us: 500.0,
            generator_failed: 0,
        }
    }

    #[test]
    fn a_generator_at_its_end_says_nothing_about_the_farm_unless_the_bar_is_reached() {
        let of = |served, busy| bar(&[round(1.0, 1.0), round(served, busy), round(9e9, busy)]);
        assert_eq!(*of(30_000.0, 0.5).verdict(), Verdict::Holds);
        assert_eq!(*of(29_999.0, 0.95).verdict(), Verdict::Missed);
        let Verdict::NotShown(why) = of(20_000.0, 0.8).verdict().clone() else {
            panic!("the farm had room");
        };
        assert!(why.contains("80 % busy: 25000 a second"), "{why}");
    }
}
