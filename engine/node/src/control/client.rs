//! The command line's end of the control socket: one request, one answer, plain blocking I/O.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::{Request, SOCKET};
use crate::exit::bad_input;

/// A connection to a running node.
#[derive(Debug)]
pub(crate) struct Client {
    /// Keeps what came after a line that was read.
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

/// How a node ended that was asked to drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything is written.
    Well,
    /// It stopped, with this error.
    Badly(String),
    /// It is gone, and did not say how.
    Unsaid,
    /// It still runs.
    NotYet,
}

impl Client {
    /// Connects to the node of `data_dir`; `None` when no node answers there.
    pub(crate) fn connect(data_dir: &Path) -> Option<Self> {
        let path = data_dir.join(SOCKET);
        let stream = BufReader::new(UnixStream::connect(&path).ok()?);
        Some(Self { stream, path })
    }

    /// Connects, or says that no node runs there.
    pub(crate) fn connect_or_refuse(data_dir: &Path) -> anyhow::Result<Self> {
        Self::connect(data_dir).with_context(|| {
            format!(
                "no node answers at {}: start one with `ringwatch run`, or name its directory \
                 with --data-dir",
                data_dir.join(SOCKET).display()
            )
        })
    }

    /// Sends `request` and waits for the answer, for `within` at most (`None`: as long as the
    /// node lives).
    ///
    /// # Errors
    /// The node's refusal, in its words, or a broken connection.
    pub(crate) fn ask(
        &mut self,
        request: &Request,
        within: Option<Duration>,
    ) -> anyhow::Result<Value> {
        let at = self.path.display();
        self.stream.get_ref().set_read_timeout(within)?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream
            .get_ref()
            .write_all(&line)
            .with_context(|| format!("the node at {at} hung up"))?;
        let mut answer = String::new();
        self.stream
            .read_line(&mut answer)
            .with_context(|| format!("the node at {at} did not answer"))?;
        if answer.is_empty() {
            bail!("the node at {at} ended before it answered");
        }
        let answer: Value = serde_json::from_str(&answer)
            .with_context(|| format!("the node at {at} answered something else than JSON"))?;
        match answer["error"].as_str() {
            Some(error) if answer["usage"] == true => {
                bad_input(format!("the node refused: {error}"))
            }
            Some(error) => bail!("the node refused: {error}"),
            None => Ok(answer),
        }
    }

    /// Waits until the node that was asked to drain ends, for `within` at most. Its process is gone
    /// when the connection ends; before that it says how.
    pub(crate) fn wait_for_end(mut self, within: Duration) -> Ended {
        let _ = self.stream.get_ref().set_read_timeout(Some(within));
        let mut told = None;
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return told.unwrap_or(Ended::Unsaid),
                Ok(_) => told = told_by(&line).or(told),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return told.unwrap_or(Ended::Unsaid);
                }
                Err(_) => return told.unwrap_or(Ended::NotYet),
            }
        }
    }
}

/// The end that `line` tells of.
fn told_by(line: &str) -> Option<Ended> {
    let said: Value = serde_json::from_str(line).ok()?;
    if said["stopped"] != true {
        return None;
    }
    Some(match said["error"].as_str() {
        Some(error) => Ended::Badly(error.to_owned()),
        None => Ended::Well,
    })
}
