//! A scripted shell: it answers the commands of an attempt from a script, on a virtual clock, and
//! writes down what it was told to do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use model::target::Method;
use model::time::{MonoUs, Now, UnixMs};
use model::url::Scheme;
use prober::resolver::{DnsFailure, ResolvedName, Scope};
use prober::{
    Attempt, AttemptSpec, Buffers, Cidr, Command, Conn, ErrnoAt, Event, Guard, HostRef, Report,
    Roots, Rules, Shared, SharedConfig,
};

/// 2026-01-01T00:00:00Z.
pub(crate) const START_UNIX_MS: u64 = 1_767_225_600_000;
pub(crate) const ECONNRESET: i32 = 104;
pub(crate) const ECONNREFUSED: i32 = 111;

pub(crate) fn shared() -> Shared {
    shared_with(Roots::WebPki)
}

/// One for each thread that is kept: parsing the Mozilla roots for each of thousands of runs would
/// be most of their time.
pub(crate) fn kept_shared() -> &'static Shared {
    thread_local! {
        static SHARED: &'static Shared = Box::leak(Box::new(shared()));
    }
    SHARED.with(|shared| *shared)
}

pub(crate) fn shared_with(roots: Roots) -> Shared {
    Shared::new(config(roots)).expect("the settings are valid")
}

pub(crate) fn config(roots: Roots) -> SharedConfig {
    let allow: Vec<Cidr> = vec!["127.0.0.0/8".parse().expect("a block")];
    SharedConfig {
        roots,
        guard: Guard::public_only(allow),
        ..SharedConfig::default()
    }
}

pub(crate) fn spec(scheme: Scheme, host: HostRef<'_>) -> AttemptSpec<'_> {
    AttemptSpec {
        scheme,
        host,
        port: 8080,
        path: "/",
        method: Method::Get,
        timeout_ms: 10_000,
        head_only: false,
        rules: None,
    }
}

pub(crate) fn http<'a>() -> AttemptSpec<'a> {
    spec(Scheme::Http, HostRef::Name("e.test"))
}

pub(crate) fn with_rules(rules: &Rules) -> AttemptSpec<'_> {
    AttemptSpec {
        rules: Some(rules),
        ..http()
    }
}

pub(crate) fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

pub(crate) fn name(addresses: &[IpAddr]) -> ResolvedName {
    ResolvedName {
        addresses: addresses.iter().copied().collect(),
        scope: Scope::Wide,
        stale: false,
        cached: true,
        lacks: None,
        server: Some(SocketAddr::new(local(53), 53)),
        rcode: None,
        tries: 0,
    }
}

/// What happens to a connection that is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Open {
    Accepts,
    Fails(i32, ErrnoAt),
    /// No answer.
    Silent,
}

/// How the stream of bytes ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Eof,
    Errno(i32),
    /// Nothing more comes: the timer fires if one is armed, else the deadline.
    Silence,
}

pub(crate) struct Script<'a> {
    pub(crate) dns: Result<ResolvedName, DnsFailure>,
    /// By connection, in order.
    pub(crate) opens: Vec<Open>,
    /// Whether the shell writes the first flight with the connect.
    pub(crate) early: bool,
    pub(crate) send_error: Option<i32>,
    pub(crate) pieces: Vec<&'a [u8]>,
    /// What the connections after the first one bring, in pieces.
    pub(crate) later: Vec<Vec<&'a [u8]>>,
    pub(crate) end: End,
}

impl<'a> Script<'a> {
    /// One address that accepts, sends `pieces`, and ends with `end`.
    pub(crate) fn answering(pieces: Vec<&'a [u8]>, end: End) -> Self {
        let dns = Ok(name(&[local(1)]));
        Self {
            dns,
            opens: vec![Open::Accepts],
            early: false,
            send_error: None,
            pieces,
            later: Vec::new(),
            end,
        }
    }
}

/// One finished attempt.
pub(crate) struct Run {
    pub(crate) attempt: Attempt,
    pub(crate) commands: Vec<Command>,
    pub(crate) sent: Vec<u8>,
    /// Names that were asked for because a redirect led there.
    pub(crate) redirected_to: Vec<String>,
}

impl Run {
    pub(crate) fn report(&self) -> Report {
        self.attempt.report()
    }

    pub(crate) fn class(&self) -> Option<&'static str> {
        self.report().class.map(model::FailureClass::as_str)
    }
}

pub(crate) fn at(us: u64) -> Now {
    Now {
        mono: MonoUs(1_000_000 + us),
        unix: UnixMs(START_UNIX_MS + us / 1_000),
    }
}

/// Runs `spec` against `script`; every event takes 1 ms when `ticking`, else no time.
pub(crate) fn run(spec: &AttemptSpec<'_>, script: Script<'_>, ticking: bool) -> Run {
    run_on(kept_shared(), spec, script, ticking)
}

/// The same on a core of its own.
pub(crate) fn run_on(
    shared: &Shared,
    spec: &AttemptSpec<'_>,
    script: Script<'_>,
    ticking: bool,
) -> Run {
    let deadline_us = u64::from(spec.timeout_ms) * 1_000;
    let mut clock_us = 0;
    let mut timer = None;
    let mut wire = Wire::new(script.pieces, script.later);
    let mut redirected_to = Vec::new();
    let mut opens = script.opens.into_iter();
    let mut commands = Vec::new();
    let mut sent = Vec::new();
    let mut attempt = Attempt::start(spec, shared, Buffers::default(), at(0));
    for _ in 0..2_000_000 {
        let command = attempt.next();
        if commands.len() < 100 {
            commands.push(command);
        }
        clock_us += if ticking { 1_000 } else { 0 };
        let event = match command {
            Command::Done => break,
            Command::Widen => panic!("there is nothing more to be had"),
            Command::Resolve => {
                redirected_to.extend(attempt.redirected_to().map(str::to_owned));
                Event::Resolved(script.dns.as_ref().map_err(|failure| *failure))
            }
            Command::Connect { conn, .. } => {
                wire.connect();
                let open = opens.next().unwrap_or(Open::Accepts);
                if script.early && matches!(open, Open::Accepts) {
                    sent.extend_from_slice(attempt.first_flight(conn));
                }
                let Some(event) = opened(open, conn, script.early, script.send_error) else {
                    continue;
                };
                event
            }
            Command::Send { conn } => {
                let buffer = attempt.take_outgoing(conn);
                sent.extend_from_slice(&buffer);
                match script.send_error {
                    Some(errno) => Event::IoError { conn, errno },
                    None => Event::Sent { conn, buffer },
                }
            }
            Command::Recv { conn } => match read(wire.pieces.next(), script.end, conn) {
                Some(event) => event,
                None => continue,
            },
            Command::CloseConn { .. } | Command::Keep { .. } => continue,
            Command::Timer { at } => {
                timer = Some(at.0 - 1_000_000);
                continue;
            }
            Command::Wait => silent(&mut timer, deadline_us, &mut clock_us),
        };
        attempt.on(event, shared, at(clock_us));
    }
    assert_eq!(attempt.next(), Command::Done, "it never ends: {commands:?}");
    Run {
        attempt,
        commands,
        sent,
        redirected_to,
    }
}

/// What the connections bring, one after the other.
struct Wire<'a> {
    pieces: std::vec::IntoIter<&'a [u8]>,
    later: std::vec::IntoIter<Vec<&'a [u8]>>,
    connected: bool,
}

impl<'a> Wire<'a> {
    fn new(pieces: Vec<&'a [u8]>, later: Vec<Vec<&'a [u8]>>) -> Self {
        Self {
            pieces: pieces.into_iter(),
            later: later.into_iter(),
            connected: false,
        }
    }

    /// A connection after the first one brings bytes of its own, if there are any.
    fn connect(&mut self) {
        if let Some(pieces) = self.connected.then(|| self.later.next()).flatten() {
            self.pieces = pieces.into_iter();
        }
        self.connected = true;
    }
}

/// What comes of a connect; `None` when nothing does.
fn opened(open: Open, conn: Conn, early: bool, send_error: Option<i32>) -> Option<Event<'static>> {
    Some(match (open, send_error) {
        (Open::Accepts, Some(errno)) if early => Event::IoError { conn, errno },
        (Open::Accepts, _) => Event::Connected { conn, sent: early },
        (Open::Fails(errno, at), _) => Event::ConnectError { conn, errno, at },
        (Open::Silent, _) => return None,
    })
}

/// What comes of a read; `None` when nothing does.
fn read(piece: Option<&[u8]>, end: End, conn: Conn) -> Option<Event<'_>> {
    match (piece, end) {
        (Some(bytes), _) => Some(Event::Bytes { conn, bytes }),
        (None, End::Eof) => Some(Event::Eof { conn }),
        (None, End::Errno(errno)) => Some(Event::IoError { conn, errno }),
        (None, End::Silence) => None,
    }
}

/// Nothing comes: the clock moves to the timer, if one is armed, or to the deadline.
fn silent(timer: &mut Option<u64>, deadline_us: u64, clock_us: &mut u64) -> Event<'static> {
    let due = timer.take().filter(|due| *due < deadline_us);
    *clock_us = (*clock_us).max(due.unwrap_or(deadline_us));
    due.map_or(Event::Deadline { ours: false }, |_| Event::Timer)
}

/// A check that has read `pieces` and goes on waiting, unless they were enough for a verdict.
pub(crate) fn begun_with<'a>(
    shared: &Shared,
    rules: &Rules,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Attempt {
    let mut attempt = Attempt::start(&with_rules(rules), shared, Buffers::default(), at(0));
    go_on(&mut attempt, shared, pieces);
    attempt
}

/// Lets a check that waits for the first of `pieces` read them, and whatever it does beside that.
fn go_on<'a>(attempt: &mut Attempt, shared: &Shared, mut pieces: impl Iterator<Item = &'a [u8]>) {
    loop {
        let event = match attempt.next() {
            Command::Resolve => {
                let name = name(&[local(1)]);
                attempt.on(Event::Resolved(Ok(&name)), shared, at(0));
                continue;
            }
            Command::Connect { conn, .. } => Event::Connected { conn, sent: true },
            Command::Recv { conn } => match pieces.next() {
                Some(bytes) => Event::Bytes { conn, bytes },
                None => return,
            },
            Command::Done => return,
            _ => continue,
        };
        attempt.on(event, shared, at(0));
    }
}

/// The check, which waits for more, reads `bytes` and waits again, or is over.
pub(crate) fn feed(attempt: &mut Attempt, shared: &Shared, bytes: &[u8]) {
    let conn = Conn(0);
    attempt.on(Event::Bytes { conn, bytes }, shared, at(0));
    go_on(attempt, shared, std::iter::empty());
}
