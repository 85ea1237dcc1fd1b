//! A farm as a child process, and plain clients for it.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a client waits before it calls a farm silent, where nothing will ever come.
pub(crate) const PATIENCE: Duration = Duration::from_millis(400);
/// How long a client waits for an answer that must come.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// How often a change that must come is looked for; each look is a round trip.
const LOOKS: usize = 20_000;

/// The runtimes to test: both, or tokio alone where `io_uring` is refused.
pub(crate) fn shells() -> &'static [&'static str] {
    static REFUSED: OnceLock<bool> = OnceLock::new();
    let refused = *REFUSED.get_or_init(|| {
        let refused = Farm::try_start("glommio", "", &[]).is_none();
        if refused {
            eprintln!("io_uring is refused on this machine: only the tokio shell is tested");
        }
        refused
    });
    if refused {
        &["tokio"]
    } else {
        &["glommio", "tokio"]
    }
}

/// A running farm; killed when dropped.
pub(crate) struct Farm {
    child: Child,
    pub(crate) ready: Value,
    pub(crate) dir: TempDir,
}

impl Farm {
    /// A farm of 100 sites at 10 s, every tenth on HTTPS, whose scenario has started.
    pub(crate) fn with(shell: &str, scenario: &str) -> Self {
        let farm = Self::start(shell, scenario, &[]);
        let (status, _) = farm.control("POST", "/scenario/start");
        assert_eq!(status, 200);
        farm
    }

    /// The same, before the start of its scenario.
    pub(crate) fn start(shell: &str, scenario: &str, more: &[&str]) -> Self {
        Self::try_start(shell, scenario, more).expect("the farm starts")
    }

    /// A farm of so many sites without a fault.
    pub(crate) fn of_sites(count: u32, shell: &str) -> Self {
        Self::try_run(count, shell, "", &[]).expect("the farm starts")
    }

    /// The most memory that it had at any time.
    pub(crate) fn most_resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the farm is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.and_then(|kib| kib.parse::<u64>().ok())
            .expect("a number")
            * 1_024
    }

    fn try_start(shell: &str, scenario: &str, more: &[&str]) -> Option<Self> {
        Self::try_run(100, shell, scenario, more)
    }

    fn try_run(sites: u32, shell: &str, scenario: &str, more: &[&str]) -> Option<Self> {
        let dir = TempDir::new().expect("a directory");
        let file = dir.path().join("scenario.toml");
        std::fs::write(&file, scenario).expect("a scenario");
        let mut child = Command::new(env!("CARGO_BIN_EXE_farm"))
            .args(["run", "--sites", &sites.to_string()])
            .args(["--interval-s", "10", "--https-every", "10"])
            .args(["--shell", shell, "--out"])
            .arg(dir.path().join("out"))
            .arg("--scenario")
            .arg(file)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the farm runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("stdout is text");
        if line.is_empty() {
            assert!(!child.wait().expect("it ends").success());
            return None;
        }
        let ready = serde_json::from_str(&line).expect("the ready line is JSON");
        Some(Self { child, ready, dir })
    }

    /// The port that the ready line names `key`.
    pub(crate) fn port(&self, key: &str) -> u16 {
        let port = self.ready[key]
            .as_u64()
            .expect("the ready line has the port");
        u16::try_from(port).expect("a port")
    }

    /// The address that the ready line names `key`.
    pub(crate) fn address(&self, key: &str) -> SocketAddr {
        self.ready[key]
            .as_str()
            .expect("an address")
            .parse()
            .expect("an address")
    }

    /// A connection to the port that the ready line names `key`.
    pub(crate) fn connect(&self, key: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::new(127, 1, 2, 3), self.port(key)))?;
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(stream)
    }

    /// A connection over which a request for `site` has been sent.
    pub(crate) fn ask(&self, method: &str, site: u32) -> TcpStream {
        let mut stream = self.connect("http_port").expect("a connection");
        stream
            .write_all(request(method, site).as_bytes())
            .expect("sent");
        stream
    }

    /// Everything that comes as the answer to a request for `site`.
    pub(crate) fn fetch(&self, method: &str, site: u32) -> io::Result<String> {
        let mut answer = String::new();
        self.ask(method, site)
            .read_to_string(&mut answer)
            .map(|_| answer)
    }

    /// Status and body of a request to the control port.
    pub(crate) fn control(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address("control")).expect("a control port");
        let request =
            format!("{method} {path} HTTP/1.0\r\nHost: farm\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        let status = head
            .split(' ')
            .nth(1)
            .expect("a status")
            .parse()
            .expect("a number");
        (status, body.to_owned())
    }

    /// The observer's summary.
    pub(crate) fn summary(&self) -> Value {
        let (status, body) = self.control("GET", "/observe/summary");
        assert_eq!(status, 200);
        serde_json::from_str(&body).expect("JSON")
    }

    /// Looks until `seen` says yes; every look includes a round trip to the control port.
    pub(crate) fn until(&self, what: &str, mut seen: impl FnMut() -> bool) {
        let found = (0..LOOKS).any(|_| {
            let (status, _) = self.control("GET", "/metrics");
            assert_eq!(status, 200);
            seen()
        });
        assert!(found, "{what} never came: {}", self.ready);
    }

    /// Ends the farm with `signal`.
    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the farm is there");
        self.child.wait().expect("it ends")
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as a monitor sends it.
pub(crate) fn request(method: &str, site: u32) -> String {
    format!(
        "{method} / HTTP/1.1\r\nHost: s-{site:07}.farm.test:80\r\nUser-Agent: test\r\n\
         Connection: close\r\n\r\n"
    )
}

/// One `[[fault]]` from its keys, at the scenario's zero and longer than any test.
pub(crate) fn fault(keys: &str) -> String {
    format!(
        "[[fault]]\nduration_s = 3600\n{}\n",
        keys.replace(", ", "\n")
    )
}
