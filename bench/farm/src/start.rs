//! Composition: reads the scenario, mints, binds, starts the control thread, then serves.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use crate::certificates;
use crate::clock::{self, Clock};
use crate::control::{self, Control, Observed, Ports, Told};
use crate::farm::{Farm, FarmParts};
use crate::gauges::Gauges;
use crate::listen::{self, Gate};
use crate::observer::Table;
use crate::options::{RunOptions, ShellChoice};
use crate::scenario::Scenario;
use crate::scenario_file;
use crate::serve::{self, Sockets, Speech};
use crate::shell::epoll::Epoll;
use crate::shell::uring::Uring;
use crate::sites::Sites;
use crate::tls::{TlsConfigs, Versions};
use crate::truth::Truth;
use crate::world::World;

/// Descriptors that are not connections: listeners, files, rings, the control port.
const FILES_RESERVED: usize = 256;
/// Connections that are not silent, at least.
const OPEN_MIN: usize = 256;

/// The line that says where everything is.
#[derive(Serialize)]
struct Ready<'a> {
    http_port: u16,
    https_port: u16,
    /// Those that speak TLS 1.2 and TLS 1.3 alone.
    https12_port: u16,
    https13_port: u16,
    /// The port of the first fault at the accept; `refuse_ports` has one per such fault.
    refuse_port: u16,
    refuse_ports: &'a [u16],
    dns: String,
    control: String,
    ca_file: String,
    shell: &'static str,
    pid: u32,
}

/// `farm run`.
///
/// # Errors
/// When the scenario, a port, a file or the runtime is refused.
pub(crate) fn run(options: &RunOptions) -> Result<()> {
    let clock = Clock::start();
    let sites = Sites {
        count: options.sites,
        interval_s: options.interval_s,
        https_every: options.https_every,
        addresses: options.addresses,
    };
    let scenario = read_scenario(options.scenario.as_deref(), &sites)?;
    let world = World::new(
        sites,
        scenario,
        clock,
        options.dns_ttl_s,
        options.timeout_ms,
        options.ipv6,
    );
    let world = Arc::new(world);
    let runtime = choose_runtime(options.shell)?;
    let out = &options.out;
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let minted = certificates::mint(options.tls_chain, &provider, clock::unix_ms())?;
    let ca_file = write_ca(out, &minted.ca_pem)?;
    let tls = TlsConfigs::new(Arc::clone(&world), minted, &provider, options.tls_tickets)?;

    let bound = Bound::open(options, &world)?;
    let gauges = Arc::new(Gauges::new());
    let table = Arc::new(Table::new(
        sites.count,
        clock.now_ms(),
        [0, clock::process_cpu_us()],
    ));
    let ready = bound.ready(&ca_file, runtime.name())?;
    let (sender, commands) = channel();
    let observed = Observed {
        table: Arc::clone(&table),
        lag_before: gauges.loop_lag_us.counts(),
    };
    let control = Control {
        world: Arc::clone(&world),
        gauges: Arc::clone(&gauges),
        ports: bound.ports,
        shell: runtime.name(),
        commands: sender,
        observed: Mutex::new(observed),
        told: Mutex::new(begin_truth(out)?),
    };
    let control = control::spawn(control, bound.control)?;
    pin(options.cpu)?;
    let silent_max = options.silent_max as usize;
    let connections_max = connections_max(listen::raise_nofile(), silent_max)?;
    let gates = bound.gates;
    let farm = Farm::new(FarmParts {
        world,
        gauges,
        tls,
        table,
        commands,
        gates,
        connections_max,
        silent_max,
    });
    runtime.serve(farm, bound.sockets, &ready)?;
    match control.join() {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Every socket of a farm.
struct Bound {
    sockets: Sockets,
    control: TcpListener,
    gates: Vec<Gate>,
    ports: Ports,
}

impl Bound {
    fn open(options: &RunOptions, world: &World) -> Result<Self> {
        let any = Ipv4Addr::UNSPECIFIED;
        let (dns, dns_tcp) = listen::dns(options.dns_port)
            .with_context(|| format!("cannot bind the DNS port {}", options.dns_port))?;
        let mut listeners = vec![(dns_tcp, Speech::Dns)];
        let mut open = |what, port, speech| -> Result<u16> {
            let socket = bind(what, any, port)?;
            let port = socket.local_addr()?.port();
            listeners.push((socket, speech));
            if options.ipv6 {
                let on_ipv6 = format!("cannot listen on the {what} port {port} of [::1]");
                listeners.push((listen::tcp6(port).context(on_ipv6)?, speech));
            }
            Ok(port)
        };
        let http = open("HTTP", options.http_port, Speech::Http)?;
        let (both, only12, only13) = (Versions::Both, Versions::Only12, Versions::Only13);
        let https = open("HTTPS", options.https_port, Speech::Https(both))?;
        let https12 = open("TLS 1.2", options.https12_port, Speech::Https(only12))?;
        let https13 = open("TLS 1.3", options.https13_port, Speech::Https(only13))?;
        let control = bind("control", Ipv4Addr::LOCALHOST, options.control_port)?;
        let gates = make_gates(world)?;
        let ports = Ports {
            http,
            https,
            https12,
            https13,
            refuse: gates.iter().map(|gate| gate.port).collect(),
        };
        Ok(Self {
            sockets: Sockets { listeners, dns },
            control,
            gates,
            ports,
        })
    }

    fn ready(&self, ca_file: &Path, shell: &'static str) -> Result<String> {
        let ready = Ready {
            http_port: self.ports.http,
            https_port: self.ports.https,
            https12_port: self.ports.https12,
            https13_port: self.ports.https13,
            refuse_port: self.ports.refuse[0],
            refuse_ports: &self.ports.refuse,
            dns: self.sockets.dns.local_addr()?.to_string(),
            control: self.control.local_addr()?.to_string(),
            ca_file: ca_file.display().to_string(),
            shell,
            pid: std::process::id(),
        };
        Ok(serde_json::to_string(&ready)?)
    }
}

fn write_ca(folder: &Path, pem: &str) -> Result<PathBuf> {
    let file = folder.join("ca.pem");
    fs::write(&file, pem).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn begin_truth(out: &Path) -> Result<Told> {
    let path = out.join("truth.jsonl");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Told {
        truth: Truth::default(),
        file,
        path,
    })
}

fn read_scenario(path: Option<&Path>, sites: &Sites) -> Result<Scenario> {
    let Some(path) = path else {
        return Ok(Scenario::default());
    };
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the scenario {}", path.display()))?;
    scenario_file::parse(&text, sites).with_context(|| path.display().to_string())
}

fn bind(what: &str, address: Ipv4Addr, port: u16) -> Result<TcpListener> {
    listen::tcp(SocketAddrV4::new(address, port)).with_context(|| {
        format!("cannot listen on the {what} port {port}; choose another, or 0 for a free one")
    })
}

/// One gate per fault at the accept; without any, one that is always open, so that there is a port
/// to name.
fn make_gates(world: &World) -> Result<Vec<Gate>> {
    let count = world.scenario.at_accept().count().max(1);
    let gates: io::Result<Vec<Gate>> = (0..count).map(|_| Gate::new()).collect();
    gates.context("cannot get a free port for the sites that fail at the accept")
}

/// Pins this thread; to be called after the control thread was started, which stays free.
fn pin(cpu: Option<usize>) -> Result<()> {
    let Some(cpu) = cpu else {
        return Ok(());
    };
    if cpu >= CpuSet::MAX_CPU {
        bail!("--cpu {cpu}: there is no such CPU");
    }
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).with_context(|| format!("cannot pin to --cpu {cpu}"))
}

/// How many connections `files` open files allow beside the silent ones.
fn connections_max(files: usize, silent_max: usize) -> Result<usize> {
    let needed = silent_max + OPEN_MIN + FILES_RESERVED;
    if files < needed {
        bail!(
            "the limit of open files is {files}, and --silent-max {silent_max} needs {needed}; \
             raise ulimit -n or lower it"
        );
    }
    Ok(files - silent_max - FILES_RESERVED)
}

/// The runtime that was chosen.
enum Runtime {
    Uring(Uring),
    Epoll,
}

fn choose_runtime(choice: ShellChoice) -> Result<Runtime> {
    if choice == ShellChoice::Tokio {
        return Ok(Runtime::Epoll);
    }
    match Uring::open() {
        Ok(uring) => Ok(Runtime::Uring(uring)),
        Err(error) if choice == ShellChoice::Auto => {
            eprintln!("farm: io_uring is refused ({error}); serving on tokio with epoll instead");
            Ok(Runtime::Epoll)
        }
        Err(error) => bail!("io_uring is refused ({error}); use --shell tokio"),
    }
}

impl Runtime {
    fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "glommio",
            Self::Epoll => "tokio",
        }
    }

    /// Serves until the farm ends; `ready` is printed once the first tick has opened every port.
    fn serve(self, farm: Rc<Farm>, sockets: Sockets, ready: &str) -> Result<()> {
        let announce = || -> io::Result<()> {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{ready}")?;
            stdout.flush()
        };
        match self {
            Self::Uring(uring) => uring.run(serve::run::<Uring>(farm, sockets, announce))?,
            Self::Epoll => Epoll::run(serve::run::<Epoll>(farm, sockets, announce))??,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_connections_leave_files_to_the_others() {
        for (files, silent_max, open) in [
            (20_000, 4_096, 15_648),
            (20_000, 11_000, 8_744),
            (4_608, 4_096, 256),
        ] {
            let found = connections_max(files, silent_max).expect("enough");
            assert_eq!(found, open, "{files} {silent_max}");
        }
        let error = connections_max(20_000, 20_000).expect_err("too few");
        let text = error.to_string();
        assert!(text.contains("--silent-max 20000 needs 20512"), "{text}");
    }
}
