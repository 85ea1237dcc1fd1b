//! `ladder verifier`: how many checks a minute one `ringwatch verifier` makes for askers on
//! loopback, in full batches over kept connections. Real processes; what was checked is what it
//! answers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use crate::bar::{self, Bar, Bound};
use crate::baseline::BenchOptions;
use crate::children::Running;
use crate::clock::Stopwatch;
use crate::farm::{Farm, FarmPlan, Ready, TlsChain};
use crate::machine::Machine;
use crate::procfs;
use crate::table::{Table, grouped};

/// Checks of one request: as many as it takes.
const BATCH: usize = 64;
const SITES: u32 = 20_000;
const INTERVAL_S: u32 = 300;
const TIMEOUT_MS: u32 = 10_000;
const TOKEN: &str = "ladder";
/// Names are resolved and connections stand before anything is counted.
const WARM_UP: Duration = Duration::from_secs(5);
const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// What the engine that this one follows was held against, per machine.
const BAR_PER_MINUTE: f64 = 1_000_000.0;

/// What to run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct VerifierOptions {
    #[command(flatten)]
    bench: BenchOptions,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Batches that are asked for at a time.
    #[arg(long, default_value_t = 32)]
    askers: usize,
    /// Every n-th site speaks HTTPS, 0 = none.
    #[arg(long, default_value_t = 0)]
    https_every: u32,
    /// Exit with 1 when the bar is missed.
    #[arg(long)]
    gate: bool,
}

/// What the askers were told.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Told {
    up: u64,
    down: u64,
    unknown: u64,
    /// Whole batches.
    refused: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    seconds: f64,
    askers: usize,
    https_every: u32,
    told: Told,
    checks_per_minute: f64,
    cpu_us_per_check: f64,
    rss_bytes: u64,
    bars: Vec<Bar>,
}

/// A running service.
struct Service {
    running: Running,
    log: PathBuf,
    address: SocketAddr,
}

/// Measures and writes the report.
///
/// # Errors
/// When a child fails, or, with `--gate`, the bar is missed.
pub(crate) async fn run(options: &VerifierOptions) -> Result<()> {
    options.bench.check_cpus()?;
    let machine = Machine::read();
    println!("{}", machine.line());
    let folder = options.bench.folder("verifier")?;
    let plan = FarmPlan {
        program: options.bench.farm.clone(),
        sites: SITES,
        interval_s: INTERVAL_S,
        https_every: options.https_every,
        tls_chain: TlsChain::Ecdsa,
        tls_tickets: false,
        scenario: None,
        silent_max: None,
        dns_ttl_s: None,
        cpu: Some(options.bench.farm_cpu),
    };
    let mut farm = Farm::start(&plan, &folder.join("farm")).await?;
    let list = folder.join("targets.csv");
    farm.write_targets(INTERVAL_S, TIMEOUT_MS, &list).await?;
    let batches = batches(&std::fs::read_to_string(&list)?);
    let mut service = Service::start(options, &folder, &farm.ready).await?;
    let asked = measure(options, &mut service, batches).await?;
    service.running.stop(STOP_LIMIT).await?;
    farm.stop().await?;
    let report = report(options, machine, &asked);
    let markdown = markdown(&report);
    println!("{markdown}");
    options.bench.write(&report, &markdown)?;
    if options.gate {
        bar::require(&report.bars)?;
    }
    Ok(())
}

/// The sites of `list` in full batches, as they are sent.
fn batches(list: &str) -> Vec<Bytes> {
    let urls: Vec<&str> = list
        .lines()
        .skip(1)
        .filter_map(|line| line.split(',').next())
        .collect();
    let batch = |(number, urls): (usize, &[&str])| {
        let requests = urls.iter().enumerate().map(|(index, url)| {
            json!({ "request_id": index.to_string(), "url": url, "timeout_ms": TIMEOUT_MS })
        });
        let requests: Vec<Value> = requests.collect();
        let body = json!({ "batch_id": number.to_string(), "requests": requests });
        Bytes::from(body.to_string())
    };
    urls.chunks_exact(BATCH).enumerate().map(batch).collect()
}

impl Service {
    async fn start(options: &VerifierOptions, folder: &Path, farm: &Ready) -> Result<Self> {
        let (config, log) = (folder.join("verifier.toml"), folder.join("verifier.log"));
        let lines = format!(
            "probe_cores = [{}]\n[verifier]\nlisten = '127.0.0.1:0'\ntoken = '{TOKEN}'\n",
            options.bench.probe_cpu
        );
        std::fs::write(&config, lines)?;
        let mut command = Command::new(&options.bench.ringwatch);
        command.arg("verifier").arg("--config").arg(&config);
        command.args(["--allow", "127.0.0.0/8", "--dns", &farm.dns.to_string()]);
        command.arg("--ca-file").arg(&farm.ca_file);
        let running = Running::start("ringwatch", &mut command, &log, Stdio::null())?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self {
            running,
            log,
            address,
        };
        let watch = Stopwatch::start();
        while watch.elapsed() < READY_LIMIT {
            service.running.must_run(&service.log)?;
            if let Some(address) = listening(&std::fs::read_to_string(&service.log)?) {
                service.address = address;
                return Ok(service);
            }
            sleep(POLL).await;
        }
        bail!("ringwatch verifier was not ready within {READY_LIMIT:?}");
    }
}

/// Where the service listens, as its log says once it is ready.
fn listening(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listen=")?;
    let (address, _) = rest.split_once(char::is_whitespace)?;
    address.parse().ok()
}

/// What was counted, in how long, with how much CPU of the service.
struct Asked {
    told: Told,
    seconds: f64,
    cpu: Duration,
    rss_bytes: u64,
}

async fn measure(
    options: &VerifierOptions,
    service: &mut Service,
    batches: Vec<Bytes>,
) -> Result<Asked> {
    if batches.is_empty() {
        bail!("the farm has fewer sites than a batch");
    }
    let pid = service.running.pid();
    let batches = Rc::new(batches);
    let total = Rc::new(std::cell::Cell::new(Told::default()));
    let asking = async {
        let mut askers = JoinSet::new();
        for asker in 0..options.askers {
            let (batches, total) = (Rc::clone(&batches), Rc::clone(&total));
            // Each begins elsewhere, so that no two ask for the same sites at a time.
            let first = asker * batches.len() / options.askers;
            askers.spawn_local(ask(service.address, batches, first, total));
        }
        // None of them ends but by an error.
        match askers.join_next().await {
            Some(Ok(ended)) => ended,
            _ => bail!("an asker ended"),
        }
    };
    let watching = async {
        sleep(WARM_UP).await;
        total.take();
        let (watch, before) = (Stopwatch::start(), procfs::process_cpu(pid)?);
        sleep(Duration::from_secs(options.seconds)).await;
        let cpu = procfs::process_cpu(pid)?.saturating_sub(before);
        Ok(Asked {
            told: total.get(),
            seconds: watch.seconds(),
            cpu,
            rss_bytes: procfs::rss_bytes(pid)?,
        })
    };
    let local = LocalSet::new();
    let measured = local.run_until(async {
        tokio::select! {
            asked = watching => asked,
            ended = asking => ended.and_then(|()| bail!("an asker ended")),
        }
    });
    let asked = measured.await;
    service.running.must_run(&service.log)?;
    asked
}

impl Told {
    fn and(self, more: Self) -> Self {
        Self {
            up: self.up + more.up,
            down: self.down + more.down,
            unknown: self.unknown + more.unknown,
            refused: self.refused + more.refused,
        }
    }
}

/// Sends one batch after the other from the one at `first` on, over one connection.
async fn ask(
    address: SocketAddr,
    batches: Rc<Vec<Bytes>>,
    first: usize,
    total: Rc<std::cell::Cell<Told>>,
) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    let mut at = first;
    loop {
        let came = exchange(&mut sender, batches[at % batches.len()].clone()).await?;
        total.set(total.get().and(came));
        at += 1;
    }
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, body: Bytes) -> Result<Told> {
    sender.ready().await?;
    let request = Request::post("/v2/check")
        .header("host", "verifier")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let is_good = response.status().is_success();
    let body = response.into_body().collect().await?.to_bytes();
    let mut told = Told::default();
    if !is_good {
        told.refused = 1;
        return Ok(told);
    }
    let answer: Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
    for result in answer["results"].as_array().into_iter().flatten() {
        match result["outcome"].as_str() {
            Some("up" | "degraded") => told.up += 1,
            Some("down") => told.down += 1,
            _ => told.unknown += 1,
        }
    }
    Ok(told)
}

fn report(options: &VerifierOptions, machine: Machine, asked: &Asked) -> Report {
    let checks = asked.told.up as f64;
    let checks_per_minute = checks / asked.seconds * 60.0;
    Report {
        machine,
        seconds: asked.seconds,
        askers: options.askers,
        https_every: options.https_every,
        told: asked.told,
        checks_per_minute,
        cpu_us_per_check: asked.cpu.as_secs_f64() * 1e6 / checks.max(1.0),
        rss_bytes: asked.rss_bytes,
        bars: bars(asked.told, checks_per_minute),
    }
}

/// Every site is well: whatever else is said of one is no check that counts, and fails.
fn bars(told: Told, checks_per_minute: f64) -> Vec<Bar> {
    let Told {
        down,
        unknown,
        refused,
        ..
    } = told;
    let bar = |what: &str, measured, bound| Bar::of(what.to_owned(), Some(measured), bound, None);
    vec![
        bar(
            "checks a minute of one verifier that found the site up, on loopback",
            checks_per_minute,
            (Bound::Min(BAR_PER_MINUTE), "checks/min"),
        ),
        bar(
            "healthy sites called down or unknown, and batches refused",
            (down + unknown + refused) as f64,
            (Bound::Max(0.0), "of them"),
        ),
    ]
}

fn markdown(report: &Report) -> String {
    let mut table = Table::new(&["what", "value"]);
    let Told {
        up,
        down,
        unknown,
        refused,
    } = report.told;
    for (what, value) in [
        ("checks a minute", grouped(report.checks_per_minute as u64)),
        ("up", grouped(up)),
        ("down", grouped(down)),
        ("unknown", grouped(unknown)),
        ("batches refused", grouped(refused)),
        (
            "CPU of the verifier per check, µs",
            format!("{:.1}", report.cpu_us_per_check),
        ),
        ("its memory, MiB", grouped(report.rss_bytes >> 20)),
    ] {
        table.row([what.to_owned(), value]);
    }
    format!(
        "# One verifier\n\n`cargo xtask bench verifier`\n\n{}\n\n{} askers \
         with batches of {BATCH} for {:.0} s, over kept \
         connections; every {}th site HTTPS (0 = none).\n\n{}\n{}",
        report.machine.line(),
        report.askers,
        report.seconds,
        report.https_every,
        table.markdown(),
        bar::table(&report.bars),
    )
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn batches_are_full_and_name_their_sites() {
        let mut list = String::from("url,interval_s,timeout_ms\n");
        for site in 0..130 {
            writeln!(list, "http://s{site}.test/,300,10000").expect("a String takes every write");
        }
        let batches = batches(&list);
        assert_eq!(batches.len(), 2);
        let second: Value = serde_json::from_slice(&batches[1]).expect("JSON");
        assert_eq!(second["requests"].as_array().map(Vec::len), Some(BATCH));
        assert_eq!(second["requests"][0]["url"], "http://s64.test/");
    }

    #[test]
    fn what_is_not_up_is_no_check_and_misses_a_bar() {
        let missed = |told: Told| {
            let bars = bars(told, 2e6);
            bars.iter().filter_map(Bar::complaint).count()
        };
        let up = |up| Told {
            up,
            ..Told::default()
        };
        assert_eq!(missed(up(5)), 0);
        let rest: [fn(&mut Told); 3] = [
            |told| told.down = 1,
            |told| told.unknown = 1,
            |told| told.refused = 1,
        ];
        for change in rest {
            let mut told = up(5);
            change(&mut told);
            assert_eq!(missed(told), 1, "{told:?}");
        }
    }

    #[test]
    fn the_address_is_read_from_the_log_once_it_is_whole() {
        let line = "INFO ringwatch: ready listen=127.0.0.1:4711 tls=false";
        assert_eq!(listening(line), "127.0.0.1:4711".parse().ok());
        assert_eq!(listening("INFO ready listen=127.0.0.1:47"), None);
    }
}
