//! The node's end of the control socket: reads request lines, hands them on, writes the answers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Request, SOCKET};

/// Longest request line, in bytes.
const REQUEST_MAX_BYTES: u64 = 64 * 1024;
/// Connections at once.
const CONNECTIONS_MAX: usize = 32;
/// Time after which a connection is waited for again when none could be had.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// Requests that wait for the control plane.
const REQUESTS_MAX: usize = 64;

/// Answers `status` without the control plane's help, so that a node that is busy still tells.
pub(crate) type Look = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>;

/// Asks the node to stop and says what was asked for. The control plane may wait for a full
/// channel just then: nothing that it waits for may keep a node from being stopped.
pub(crate) type Drain = Arc<dyn Fn() -> Value + Send + Sync>;

/// What is answered without the control plane.
#[derive(Clone)]
pub(crate) struct AtOnce {
    /// `status`.
    pub(crate) look: Look,
    /// `drain`.
    pub(crate) drain: Drain,
}

/// A request and where its answer goes.
#[derive(Debug)]
pub(crate) struct Call {
    /// What is asked.
    pub(crate) request: Request,
    /// An object with `ok`, or with `error`.
    pub(crate) reply: oneshot::Sender<Value>,
}

/// The answer to a request that was refused.
pub(crate) fn refusal(why: &str) -> Value {
    json!({ "ok": false, "error": why })
}

/// The listening socket; its file goes away with it.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A file that is gone already needs no removal.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl ControlSocket {
    /// Listens in `data_dir`, readable and writable for this user only. The caller holds the
    /// directory's lock, so a socket file that exists is a dead node's.
    pub(crate) fn bind(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join(SOCKET);
        let _ = std::fs::remove_file(&path);
        let before = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(&path);
        rustix::process::umask(before);
        let listener = bound.with_context(|| {
            format!(
                "the control socket {} cannot be made (a path of at most 107 bytes in a writable \
                 directory is needed): name another --data-dir",
                path.display()
            )
        })?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("the rights of {} cannot be set", path.display()))?;
        Ok(Self { listener, path })
    }

    /// Serves until dropped: what `at_once` does not answer is a [`Call`].
    pub(crate) async fn serve(self, at_once: AtOnce, calls: mpsc::Sender<Call>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut refused = 0u64;
        loop {
            let Ok(permit) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Mostly for want of files: asking again at once would only burn CPU.
                    refused += 1;
                    if refused.is_power_of_two() {
                        tracing::warn!(times = refused, "no control connection: {error}");
                    }
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            refused = 0;
            let (at_once, calls) = (at_once.clone(), calls.clone());
            tokio::spawn(async move {
                // A client that hangs up has no use for an answer.
                let _ = connection(stream, at_once, calls).await;
                drop(permit);
            });
        }
    }
}

/// A queue for [`Call`]s.
pub(crate) fn calls() -> (mpsc::Sender<Call>, mpsc::Receiver<Call>) {
    mpsc::channel(REQUESTS_MAX)
}

async fn connection(
    stream: UnixStream,
    at_once: AtOnce,
    calls: mpsc::Sender<Call>,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut reader = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(REQUEST_MAX_BYTES)
            .read_until(b'\n', &mut line)
            .await?;
        if read == 0 {
            return Ok(());
        }
        let answer = if read as u64 == REQUEST_MAX_BYTES && line.last() != Some(&b'\n') {
            refusal("a request is one line of at most 65536 bytes")
        } else {
            answer(&line, &at_once, &calls).await
        };
        let mut bytes = serde_json::to_vec(&answer)?;
        bytes.push(b'\n');
        write.write_all(&bytes).await?;
    }
}

async fn answer(line: &[u8], at_once: &AtOnce, calls: &mpsc::Sender<Call>) -> Value {
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => {
            let known = "status, drain, reload, pause, trigger, import";
            return refusal(&format!(
                "not a request ({error}); `cmd` is one of: {known}"
            ));
        }
    };
    match request {
        Request::Status => return (at_once.look)().await,
        Request::Drain => return (at_once.drain)(),
        _ => {}
    }
    let (reply, answered) = oneshot::channel();
    if calls.send(Call { request, reply }).await.is_err() {
        return refusal("the node is stopping");
    }
    answered
        .await
        .unwrap_or_else(|_| refusal("the node is stopping"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::client::Client;
    use super::*;

    async fn ask(data_dir: PathBuf, request: Request) -> anyhow::Result<Value> {
        tokio::task::spawn_blocking(move || {
            let mut client = Client::connect_or_refuse(&data_dir)?;
            client.ask(&request, Some(Duration::from_secs(20)))
        })
        .await
        .expect("the client does not panic")
    }

    fn pid_one() -> AtOnce {
        AtOnce {
            look: Arc::new(|| Box::pin(async { json!({ "ok": true, "pid": 1 }) })),
            drain: Arc::new(|| json!({ "ok": true, "drain_s": 7 })),
        }
    }

    #[tokio::test]
    async fn the_socket_is_private_and_answers_lines() {
        let dir = tempfile::tempdir().expect("temp dir");
        let socket = ControlSocket::bind(dir.path()).expect("bound");
        let path = dir.path().join(SOCKET);
        let mode = std::fs::metadata(&path)
            .expect("exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let (calls, mut received) = calls();
        let server = tokio::spawn(socket.serve(pid_one(), calls));
        let worker = tokio::spawn(async move {
            while let Some(call) = received.recv().await {
                let answer = match call.request {
                    Request::Reload => json!({ "ok": true }),
                    _ => refusal("not now"),
                };
                let _ = call.reply.send(answer);
            }
        });
        let data_dir = dir.path().to_owned();
        let status = ask(data_dir.clone(), Request::Status)
            .await
            .expect("answered");
        assert_eq!(status["pid"], 1);
        ask(data_dir.clone(), Request::Reload)
            .await
            .expect("answered");
        let refused = ask(data_dir.clone(), Request::Pause { on: true })
            .await
            .expect_err("refused")
            .to_string();
        assert_eq!(refused, "the node refused: not now");
        worker.abort();
        let drain = ask(data_dir, Request::Drain).await.expect("answered");
        assert_eq!(drain["drain_s"], 7);
        server.abort();
        let _ = server.await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn nonsense_is_answered_with_what_is_accepted() {
        let (calls, _received) = calls();
        let said = answer(b"{\"cmd\":\"stop\"}", &pid_one(), &calls).await;
        assert!(
            said["error"]
                .as_str()
                .is_some_and(|text| text.contains("drain")),
            "{said}"
        );
    }
}
