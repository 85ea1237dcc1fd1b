//! A farm as a child process, one site or two for each row of the table.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::programs::built;

/// A running farm, whose every second site speaks HTTPS; stopped when dropped.
pub(crate) struct Farm {
    child: Child,
    ready: Value,
    targets: Vec<String>,
    _folder: TempDir,
}

impl Farm {
    /// A farm of `sites` sites whose `scenario` has started.
    pub(crate) fn start(sites: usize, scenario: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("scenario.toml");
        std::fs::write(&file, scenario).expect("a scenario");
        let mut child = Command::new(built("farm"))
            .args(["run", "--interval-s", "60", "--https-every", "2"])
            .args(["--sites", &sites.to_string()])
            .arg("--out")
            .arg(folder.path())
            .arg("--scenario")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the farm runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("standard output is piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        read.expect("standard output is text");
        let ready = serde_json::from_str(&line).expect("the farm says where it is");
        let mut farm = Self {
            child,
            ready,
            targets: Vec::new(),
            _folder: folder,
        };
        let list = farm.control("GET", "/targets.csv");
        let urls = list.lines().skip(1).map(|line| line.split(',').next());
        farm.targets = urls.map(|url| url.unwrap_or_default().to_owned()).collect();
        farm.control("POST", "/scenario/start");
        farm
    }

    /// What the ready line says of `key`.
    pub(crate) fn ready(&self, key: &str) -> &str {
        self.ready[key].as_str().expect("a text of the ready line")
    }

    /// The port that the ready line names `key`.
    pub(crate) fn port(&self, key: &str) -> u64 {
        self.ready[key].as_u64().expect("a port of the ready line")
    }

    /// The URL of a site: of an even one `https`, of an odd one `http`.
    pub(crate) fn url(&self, site: usize) -> &str {
        &self.targets[site]
    }

    /// The body of an answer of the control port, which must be a success.
    fn control(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.ready("control")).expect("the control port");
        // A body in pieces is then framed by its end.
        let request = format!("{method} {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("HTTP/1.0 20"), "{path}: {head}");
        body.to_owned()
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
