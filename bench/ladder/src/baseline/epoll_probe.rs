//! Baseline (b): the engine's own prober on tokio's epoll, written plainly: one thread, a task per
//! check. Between it and the engine lie the ring, the executor and the engine's bookkeeping.
//!
//! Names are resolved before anything is measured, and each has one address: no timer of an attempt
//! matters beside its deadline, and none is armed.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use model::limits::READ_BYTES;
use model::target::Method;
use model::time::{MonoUs, Now, UnixMs};
use model::url::Scheme;
use prober::resolver::{ResolvedName, Scope};
use prober::{
    Attempt, AttemptSpec, Buffers, Command, Conn, ErrnoAt, Event, Guard, HostRef, Roots, Shared,
    SharedConfig, TlsPolicy,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::child::{self, ChildOptions, USER_AGENT};
use super::open_loop;
use super::peers::{self, Peer};
use super::tally::Sample;
use crate::clock::{self, Stopwatch};

/// Deadline of a check, in ms.
const DEADLINE_MS: u32 = 5_000;

/// Runs the child and returns what it measured.
pub(super) fn run(options: &ChildOptions) -> Result<Sample> {
    child::pin(options.cpu)?;
    let checker = Checker::new(options, peers::read(&options.peers)?)?;
    open_loop::run(options, async move |number| {
        let known = &checker.known[number as usize % checker.known.len()];
        checker.check(known).await
    })
}

/// A site and where its name points.
struct Known {
    peer: Peer,
    name: ResolvedName,
}

impl Known {
    fn new(peer: Peer) -> Self {
        let name = ResolvedName {
            addresses: [peer.address.ip()].into_iter().collect(),
            scope: Scope::Wide,
            stale: false,
            cached: true,
            lacks: None,
            server: None,
            rcode: None,
            tries: 0,
        };
        Self { peer, name }
    }
}

/// What the tasks of all checks share.
struct Checker {
    known: Vec<Known>,
    scheme: Scheme,
    shared: Shared,
    /// Between two checks.
    pool: RefCell<Vec<Buffers>>,
    /// Of one read, which is over before another task runs.
    read: RefCell<Vec<u8>>,
    watch: Stopwatch,
}

impl Checker {
    fn new(options: &ChildOptions, peers: Vec<Peer>) -> Result<Self> {
        let (mut scheme, mut roots) = (Scheme::Http, Roots::WebPki);
        if let Some(file) = &options.ca_file {
            let pem = std::fs::read(file);
            let pem = pem.with_context(|| format!("cannot read {}", file.display()))?;
            (scheme, roots) = (Scheme::Https, Roots::Pem(pem));
        }
        let mut tls = TlsPolicy::default();
        tls.chains_max = options.tls_chains_max.unwrap_or(tls.chains_max);
        let shared = Shared::new(SharedConfig {
            user_agent: USER_AGENT.to_owned(),
            roots,
            tls,
            guard: Guard::public_only(vec!["127.0.0.0/8".parse()?]),
            reuse: false,
        })?;
        Ok(Self {
            known: peers.into_iter().map(Known::new).collect(),
            scheme,
            shared,
            pool: RefCell::default(),
            read: RefCell::new(vec![0; READ_BYTES]),
            watch: Stopwatch::start(),
        })
    }

    fn now(&self) -> Now {
        Now {
            mono: MonoUs(self.watch.elapsed().as_micros() as u64),
            unix: UnixMs(clock::unix_ms()),
        }
    }

    /// One check to its verdict; whether the site is up.
    async fn check(&self, known: &Known) -> bool {
        let spec = AttemptSpec {
            scheme: self.scheme,
            host: HostRef::Name(&known.peer.host),
            port: known.peer.address.port(),
            path: "/",
            method: Method::Get,
            timeout_ms: DEADLINE_MS,
            head_only: false,
            rules: None,
        };
        let buffers = self.pool.borrow_mut().pop().unwrap_or_default();
        let mut attempt = Attempt::start(&spec, &self.shared, buffers, self.now());
        let deadline = Duration::from_millis(DEADLINE_MS.into());
        if timeout(deadline, self.drive(&mut attempt, known))
            .await
            .is_err()
        {
            let late = Event::Deadline { ours: false };
            attempt.on(late, &self.shared, self.now());
        }
        let is_up = attempt.report().class.is_none();
        self.pool.borrow_mut().push(attempt.take_buffers());
        is_up
    }

    /// Carries out what the attempt asks for, one thing at a time.
    async fn drive(&self, attempt: &mut Attempt, known: &Known) {
        let mut stream = None;
        loop {
            match attempt.next() {
                Command::Done => return,
                Command::Resolve | Command::Widen => {
                    let answer = Event::Resolved(Ok(&known.name));
                    attempt.on(answer, &self.shared, self.now());
                }
                Command::Connect { conn, address } => {
                    let opened = TcpStream::connect(address).await;
                    let (connected, event) = match opened {
                        Ok(open) => (Some(open), Event::Connected { conn, sent: false }),
                        Err(error) => (None, refused(conn, &error)),
                    };
                    stream = connected;
                    attempt.on(event, &self.shared, self.now());
                }
                Command::Send { conn } => self.send(attempt, conn, stream.as_mut()).await,
                Command::Recv { conn } => self.receive(attempt, conn, stream.as_ref()).await,
                Command::CloseConn { .. } | Command::Keep { .. } => stream = None,
                Command::Timer { .. } => {}
                // Only the deadline can end it.
                Command::Wait => std::future::pending().await,
            }
        }
    }

    async fn send(&self, attempt: &mut Attempt, conn: Conn, stream: Option<&mut TcpStream>) {
        let buffer = attempt.take_outgoing(conn);
        let sent = match stream {
            Some(stream) => stream.write_all(&buffer).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        let event = match sent {
            Ok(()) => Event::Sent { conn, buffer },
            Err(error) => failed(conn, &error),
        };
        attempt.on(event, &self.shared, self.now());
    }

    async fn receive(&self, attempt: &mut Attempt, conn: Conn, stream: Option<&TcpStream>) {
        let Some(stream) = stream else {
            let gone = failed(conn, &io::ErrorKind::NotConnected.into());
            return attempt.on(gone, &self.shared, self.now());
        };
        loop {
            let ready = stream.readable().await;
            let mut bytes = self.read.borrow_mut();
            let read = ready.and_then(|()| stream.try_read(&mut bytes));
            let event = match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => failed(conn, &error),
                Ok(0) => Event::Eof { conn },
                Ok(size) => Event::Bytes {
                    conn,
                    bytes: &bytes[..size],
                },
            };
            return attempt.on(event, &self.shared, self.now());
        }
    }
}

fn refused(conn: Conn, error: &io::Error) -> Event<'static> {
    Event::ConnectError {
        conn,
        errno: error.raw_os_error().unwrap_or_default(),
        at: ErrnoAt::Async,
    }
}

fn failed(conn: Conn, error: &io::Error) -> Event<'static> {
    Event::IoError {
        conn,
        errno: error.raw_os_error().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::PathBuf;

    use super::*;

    /// Whether the site is up that answers with `page`, and closes.
    fn is_up(page: &'static [u8]) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let size = stream.read(&mut [0; 1_024]).expect("a request");
            stream.write_all(page).expect("sent");
            size
        });
        let options = ChildOptions {
            peers: PathBuf::new(),
            rate: 1,
            warm_up_s: 0,
            seconds: 1,
            cpu: 0,
            ca_file: None,
            tls_chains_max: None,
        };
        let peer = Peer {
            address,
            host: "a.farm.test".to_owned(),
            authority: format!("a.farm.test:{}", address.port()),
        };
        let checker = Checker::new(&options, vec![peer]).expect("valid");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let verdict = runtime.block_on(checker.check(&checker.known[0]));
        assert!(server.join().expect("served") > 0);
        assert_eq!(checker.pool.borrow().len(), 1, "the buffers are back");
        verdict
    }

    #[test]
    fn a_whole_page_is_up_and_a_cut_or_bad_one_is_not() {
        assert!(is_up(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
        assert!(!is_up(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"));
        assert!(!is_up(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"));
    }
}
