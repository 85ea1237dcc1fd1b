//! The binary as a child process: its output by line, its end, its control socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

/// How long anything may take before a test fails; far above what it takes.
pub(crate) const DEADLINE: Duration = Duration::from_mins(2);

/// Time between two questions to a node.
const PACE: Duration = Duration::from_millis(20);

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// `ringwatch` with a clean environment.
pub(crate) fn ringwatch() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwatch"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RINGWATCH_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs `ringwatch` with `args` to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    ringwatch().args(args).output().expect("ringwatch starts")
}

/// `ringwatch targets import LIST --data-dir DATA_DIR`; the caller may add arguments.
pub(crate) fn import_command(list: &Path, data_dir: &Path) -> Command {
    let mut command = ringwatch();
    command.args([
        "targets",
        "import",
        text(list),
        "--data-dir",
        text(data_dir),
    ]);
    command
}

/// Imports `list` into `data_dir`.
pub(crate) fn import(list: &Path, data_dir: &Path, more: &[&str]) -> Output {
    let mut command = import_command(list, data_dir);
    command.args(more).output().expect("ringwatch starts")
}

/// Targets of `data_dir`, one line of JSON each, those that are switched off included.
pub(crate) fn listed(data_dir: &Path) -> String {
    let args = ["targets", "list", "--all", "--json"];
    let output = run(&[&args[..], &["--data-dir", text(data_dir)]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    stdout(&output)
}

/// Exit code, or -1 for a signal.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless `output` says `sentence` on stderr.
#[track_caller]
pub(crate) fn assert_says(output: &Output, sentence: &str) {
    let said = stderr(output);
    assert!(said.contains(sentence), "{sentence:?} is not in: {said}");
}

/// A running node; killed when dropped.
pub(crate) struct Node {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Node {
    /// Starts `command` and follows its log.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ringwatch starts");
        let stderr = child.stderr.take().expect("a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Starts `command` with its log going to `log`, which is not followed.
    pub(crate) fn start_with_log(mut command: Command, log: impl Into<Stdio>) -> Self {
        let command = command.stdout(Stdio::null()).stderr(log);
        Self {
            child: command.spawn().expect("ringwatch starts"),
            lines: channel().1,
            seen: Vec::new(),
        }
    }

    /// A node with its own data directory, on a free port, probing loopback, loaded.
    pub(crate) fn loaded(data_dir: &Path, more: &[&str]) -> Self {
        let mut command = run_command(data_dir);
        command.args(more);
        let mut node = Self::start(command);
        node.wait_for("loaded");
        node
    }

    /// The first line, from now on, that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_all(&[text])
    }

    /// The first line, from now on, that contains each of `texts`.
    pub(crate) fn wait_for_all(&mut self, texts: &[&str]) -> String {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if texts.iter().all(|text| line.contains(text)) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {texts:?} in:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Waits until the log says that failing checks are doubted for `signal`, maybe for others too.
    pub(crate) fn wait_for_doubts(&mut self, signal: &str) {
        self.wait_for_all(&[
            "failing checks are doubted, because the trouble may be ours",
            signal,
        ]);
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for the end; the exit code and everything logged.
    pub(crate) fn end(mut self) -> (i32, String) {
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            self.seen.push(line);
        }
        let status = self.child.wait().expect("the child is ours");
        (status.code().unwrap_or(-1), self.seen.join("\n"))
    }

    /// Whether the process is over.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_some()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A child that has ended needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ringwatch run` as tests use it.
pub(crate) fn run_command(data_dir: &Path) -> Command {
    let mut command = ringwatch();
    command.arg("run").arg("--data-dir").arg(data_dir);
    command.args([
        "--admin",
        "127.0.0.1:0",
        "--allow",
        "127.0.0.0/8",
        "--dns",
        "127.0.0.1:9",
    ]);
    command.args(["--max-in-flight", "64", "--drain-s", "5"]);
    command
}

/// One request to the node of `data_dir`.
pub(crate) fn ask(data_dir: &Path, request: &str) -> Value {
    let mut stream = UnixStream::connect(data_dir.join("ringwatch.sock")).expect("a node");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    writeln!(stream, "{request}").expect("sent");
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .expect("an answer");
    serde_json::from_str(&line).expect("JSON")
}

/// Tries, again and again, until `done`; whether it came to that.
pub(crate) fn comes(mut done: impl FnMut() -> bool) -> bool {
    // Nobody sends: the channel only paces the questions.
    let (_sender, pace) = channel::<()>();
    (0..DEADLINE.as_millis() / PACE.as_millis()).any(|_| {
        done() || {
            let _ = pace.recv_timeout(PACE);
            false
        }
    })
}

/// Waits until the node of `data_dir` can be asked, for when its log does not tell.
pub(crate) fn wait_for_socket(data_dir: &Path) {
    let socket = data_dir.join("ringwatch.sock");
    let answers = comes(|| UnixStream::connect(&socket).is_ok());
    assert!(answers, "no node listens at {}", socket.display());
}

/// Asks for the status until `done` says so.
pub(crate) fn status_until(data_dir: &Path, mut done: impl FnMut(&Value) -> bool) -> Value {
    let mut status = Value::Null;
    let reached = comes(|| {
        status = ask(data_dir, r#"{"cmd":"status"}"#);
        done(&status)
    });
    assert!(reached, "not reached: {status}");
    status
}

/// `GET path` of the admin listener: status line and body.
pub(crate) fn get(admin: &str, path: &str) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(admin).expect("the admin listener");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    )
}
