//! The command line's end of the control socket: one request, one answer, plain blocking I/O.

use std::io::{BufRead, BufReader, Write};
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
    stream: UnixStream,
    path: PathBuf,
}

impl Client {
    /// Connects to the node of `data_dir`; `None` when no node answers there.
    pub(crate) fn connect(data_dir: &Path) -> Option<Self> {
        let path = data_dir.join(SOCKET);
        UnixStream::connect(&path)
            .ok()
            .map(|stream| Self { stream, path })
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
        self.stream.set_read_timeout(within)?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream
            .write_all(&line)
            .with_context(|| format!("the node at {at} hung up"))?;
        let mut answer = String::new();
        BufReader::new(&self.stream)
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

    /// Waits until the node ends, for `within` at most; whether it did.
    pub(crate) fn wait_for_end(self, within: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(within));
        let mut rest = String::new();
        matches!(BufReader::new(self.stream).read_line(&mut rest), Ok(0))
    }
}
