//! The node's end of the control socket: reads request lines, hands them on, writes the answers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::{Request, SOCKET};

/// Longest request line, in bytes.
const REQUEST_MAX_BYTES: u64 = 64 * 1024;
/// Connections at once.
const CONNECTIONS_MAX: usize = 32;
/// Time after which a connection is waited for again when none could be had.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// Time in which the clients that asked for a drain are told how it went.
const TELL: Duration = Duration::from_secs(2);
/// Requests that wait for the control plane.
const REQUESTS_MAX: usize = 64;

/// Answers `status` without the control plane's help, so that a node that is busy still tells.
pub(crate) type Look = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Value> + Send>> + Send + Sync>;

/// Says who the node is, or asks it to stop and says what was asked for. The control plane may wait
/// for a full channel just then: nothing that it waits for may keep a node from being stopped.
pub(crate) type Say = Arc<dyn Fn() -> Value + Send + Sync>;

/// What is answered without the control plane.
#[derive(Clone)]
pub(crate) struct AtOnce {
    /// `status`.
    pub(crate) look: Look,
    /// `identity`.
    pub(crate) identity: Say,
    /// `drain`.
    pub(crate) drain: Say,
    /// How the node ended, for the connections that asked it to drain.
    pub(crate) end: End,
}

/// How the node ended: a second line for each connection that asked it to drain. Without it a
/// client could not tell a clean end from lost facts or a crash.
#[derive(Clone, Debug)]
pub(crate) struct End(watch::Sender<Option<Value>>);

impl End {
    /// It runs.
    pub(crate) fn new() -> Self {
        Self(watch::channel(None).0)
    }

    /// Tells all that asked, and waits until their lines are written.
    pub(crate) async fn tell(&self, ended: &anyhow::Result<()>) {
        self.0.send_replace(Some(match ended {
            Ok(()) => json!({ "ok": true, "stopped": true }),
            Err(error) => json!({ "ok": false, "stopped": true, "error": format!("{error:#}") }),
        }));
        // A client that does not read must not keep the node alive.
        let _ = tokio::time::timeout(TELL, self.0.closed()).await;
    }
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
    let mut end = None;
    loop {
        let mut line = Vec::new();
        let read = tokio::select! {
            read = request(&mut reader, &mut line) => read?,
            Some(how) = ended(end.as_mut()) => {
                say(&mut write, &how).await?;
                // It is told. The connection stays: its end is the end of the process.
                end = None;
                continue;
            }
        };
        if read == 0 {
            return Ok(());
        }
        let answer = match parse(&line) {
            Err(refused) => refused,
            Ok(request) => {
                if request == Request::Drain {
                    // Before the node is asked to stop, so that no end is missed.
                    end = Some(at_once.end.0.subscribe());
                }
                answer(request, &at_once, &calls).await
            }
        };
        say(&mut write, &answer).await?;
    }
}

/// Reads a line into `line`; how many bytes came.
async fn request(
    reader: &mut BufReader<OwnedReadHalf>,
    line: &mut Vec<u8>,
) -> std::io::Result<usize> {
    reader.take(REQUEST_MAX_BYTES).read_until(b'\n', line).await
}

async fn say(write: &mut OwnedWriteHalf, answer: &Value) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(answer)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await
}

/// How the node ended, for one that asked; for another one it never comes.
async fn ended(end: Option<&mut watch::Receiver<Option<Value>>>) -> Option<Value> {
    let told = end?.wait_for(Option::is_some).await.ok()?;
    told.clone()
}

/// The request in `line`, or its refusal.
fn parse(line: &[u8]) -> Result<Request, Value> {
    if line.len() as u64 == REQUEST_MAX_BYTES && line.last() != Some(&b'\n') {
        return Err(refusal("a request is one line of at most 65536 bytes"));
    }
    serde_json::from_slice(line).map_err(|error| {
        let known = "status, identity, drain, reload, pause, trigger, look, close, pause_target, \
                     add_window, remove_window, import";
        refusal(&format!(
            "not a request ({error}); `cmd` is one of: {known}"
        ))
    })
}

async fn answer(request: Request, at_once: &AtOnce, calls: &mpsc::Sender<Call>) -> Value {
    match request {
        Request::Status => return (at_once.look)().await,
        Request::Identity => return (at_once.identity)(),
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

    use super::super::client::{Client, Ended};
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
            identity: Arc::new(|| json!({ "ok": true, "node_id": "one" })),
            drain: Arc::new(|| json!({ "ok": true, "drain_s": 7 })),
            end: End::new(),
        }
    }

    /// What a client that drains hears of a node that ends like this; `None`: without a word.
    fn heard(ended: Option<anyhow::Result<()>>) -> Ended {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let node = builder.enable_all().build().expect("a runtime");
        let (asked, was_asked) = oneshot::channel();
        let data_dir = dir.path().to_owned();
        let socket = node.block_on(async { ControlSocket::bind(&data_dir) });
        let client = std::thread::spawn(move || {
            let within = Duration::from_secs(20);
            let mut client = Client::connect_or_refuse(&data_dir).expect("it listens");
            client.ask(&Request::Drain, Some(within)).expect("answered");
            asked.send(()).expect("it waits");
            client.wait_for_end(within)
        });
        node.block_on(async {
            let (calls, _received) = calls();
            let (at_once, socket) = (pid_one(), socket.expect("bound"));
            let end = at_once.end.clone();
            let server = tokio::spawn(socket.serve(at_once, calls));
            was_asked.await.expect("asked");
            if let Some(ended) = ended {
                end.tell(&ended).await;
            }
            server.abort();
        });
        // As at the end of a process: every connection is closed.
        drop(node);
        client.join().expect("the client does not panic")
    }

    #[test]
    fn who_asked_for_a_drain_hears_how_the_node_ended() {
        assert_eq!(heard(Some(Ok(()))), Ended::Well);
        let lost = anyhow::anyhow!("1 facts are lost");
        let badly = Ended::Badly("1 facts are lost".to_owned());
        assert_eq!(heard(Some(Err(lost))), badly);
        assert_eq!(heard(None), Ended::Unsaid);
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
        let identity = ask(data_dir.clone(), Request::Identity).await;
        assert_eq!(identity.expect("answered")["node_id"], "one");
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

    #[test]
    fn nonsense_is_answered_with_what_is_accepted() {
        let said = parse(b"{\"cmd\":\"stop\"}").expect_err("no command");
        assert!(
            said["error"]
                .as_str()
                .is_some_and(|text| text.contains("drain")),
            "{said}"
        );
    }
}
