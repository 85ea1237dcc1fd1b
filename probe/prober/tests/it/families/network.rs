//! A network with two families of addresses, and a shell for one attempt in it, in virtual time.

use model::FailureClass;
use model::limits::{CONNECTIONS_PER_ATTEMPT, FAMILY_DELAY_MS};
use model::time::{MonoUs, Now};
use prober::resolver::{DnsFailure, ResolvedName, Scope};
use prober::{
    Attempt, AttemptSpec, Buffers, Cidr, Command, Conn, ErrnoAt, Event, Guard, Roots, Shared,
    SharedConfig,
};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::driver::{at, config};

/// µs of a millisecond.
pub(super) const MS: u64 = 1_000;

/// What an address does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Stands after so many µs.
    Accepts(u64),
    /// ECONNREFUSED after so many µs.
    Refuses(u64),
    Silent,
    /// Our own kernel knows no way there: EADDRNOTAVAIL, at once.
    NoWay,
    /// Our own kernel has no descriptor left: EMFILE, at once.
    Short,
    /// The guard forbids it.
    Blocked,
}

impl Fate {
    /// How long it takes to say something, in µs.
    pub(super) fn takes_us(self) -> u64 {
        match self {
            Self::Accepts(us) | Self::Refuses(us) => us,
            Self::Silent => u64::MAX,
            Self::NoWay | Self::Short | Self::Blocked => 0,
        }
    }

    /// What it says.
    pub(super) fn errno(self) -> Option<i32> {
        match self {
            Self::Accepts(_) => None,
            Self::Refuses(_) => Some(111),
            Self::Silent => Some(110),
            Self::Short => Some(24),
            Self::NoWay | Self::Blocked => Some(99),
        }
    }
}

/// How the addresses of the other family become known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// The first answer has them.
    WithTheFirst,
    /// So many µs after they are asked for.
    After(u64),
    /// The answer has none of them.
    Lacking(u64),
    /// There is no answer.
    Failing(u64),
    /// Nothing comes.
    Never,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Eof,
    Silence,
}

#[derive(Clone, Debug)]
pub(super) struct Network {
    /// Addresses of IPv4, which is preferred.
    pub(super) first: Vec<Fate>,
    /// Addresses of IPv6.
    pub(super) other: Vec<Fate>,
    /// Of the first answer, where the rest of this does not say it.
    pub(super) scope: Option<Scope>,
    pub(super) answer: Other,
    /// What IPv4 could not be had for: `first` are addresses of IPv6.
    pub(super) lacks: Option<FailureClass>,
    /// How long names take, in µs.
    pub(super) dns_us: u64,
    /// The shell writes first flights with the connect.
    pub(super) early: bool,
    /// What falls together happens in the reverse order.
    pub(super) reversed: bool,
    /// What each connection says that goes on, in their order.
    pub(super) replies: Vec<&'static [u8]>,
    pub(super) end: End,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            first: Vec::new(),
            other: Vec::new(),
            scope: None,
            answer: Other::WithTheFirst,
            lacks: None,
            dns_us: MS,
            early: false,
            reversed: false,
            replies: vec![super::OK],
            end: End::Silence,
        }
    }
}

/// The third byte of an address that the guard forbids.
const FORBIDDEN: u8 = 66;

impl Network {
    pub(super) fn first_address(&self, n: usize) -> IpAddr {
        let of = if self.first[n] == Fate::Blocked {
            FORBIDDEN
        } else {
            0
        };
        Ipv4Addr::new(127, 0, of, n as u8 + 1).into()
    }

    pub(super) fn other_address(&self, n: usize) -> IpAddr {
        let of = if self.other[n] == Fate::Blocked {
            u16::from(FORBIDDEN)
        } else {
            0
        };
        Ipv6Addr::new(0xfd00, 0, 0, of, 0, 0, 0, n as u16 + 1).into()
    }

    pub(super) fn fate(&self, address: IpAddr) -> Fate {
        let first = (0..self.first.len()).find(|n| self.first_address(*n) == address);
        let other = (0..self.other.len()).find(|n| self.other_address(*n) == address);
        match (first, other) {
            (Some(n), _) => self.first[n],
            (_, Some(n)) => self.other[n],
            _ => panic!("nobody gave {address}"),
        }
    }

    fn name(&self, has_other: bool) -> ResolvedName {
        let first = (0..self.first.len()).map(|n| self.first_address(n));
        let other = (0..self.other.len()).map(|n| self.other_address(n));
        let dual = self.answer == Other::WithTheFirst || has_other;
        let narrow = self.answer != Other::WithTheFirst && !has_other;
        let scope = if narrow { Scope::Narrow } else { Scope::Wide };
        ResolvedName {
            addresses: first.chain(other.filter(|_| dual)).collect(),
            scope: self.scope.unwrap_or(scope),
            stale: false,
            cached: true,
            lacks: self.lacks,
            server: None,
            rcode: None,
            tries: 0,
        }
    }

    fn widened(&self) -> Option<(u64, Result<ResolvedName, DnsFailure>)> {
        match self.answer {
            Other::After(us) => Some((us, Ok(self.name(true)))),
            Other::Lacking(us) => {
                let name = self.name(false);
                let scope = Scope::Wide;
                Some((us, Ok(ResolvedName { scope, ..name })))
            }
            Other::Failing(us) => Some((us, Err(FAILURE))),
            Other::Never => None,
            Other::WithTheFirst => panic!("all of it was given"),
        }
    }
}

const FAILURE: DnsFailure = DnsFailure {
    class: FailureClass::DnsServfail,
    rcode: Some(2),
    server: None,
    tries: 3,
    many: None,
    agreed: false,
};

/// What will happen.
#[derive(Debug)]
enum What {
    Resolved(Result<ResolvedName, DnsFailure>),
    /// A connection comes to something; the number of its connect tells it from others.
    Opened(Conn, usize, Fate),
    Sent(Conn, Vec<u8>),
    Read(Conn, usize),
    Timer,
    LookIn,
    Deadline,
}

/// One finished attempt.
pub(super) struct Run {
    pub(super) attempt: Attempt,
    pub(super) commands: Vec<Command>,
}

/// The shell of one attempt.
struct Shell<'a> {
    network: &'a Network,
    now_us: u64,
    queue: BinaryHeap<Reverse<(u64, i64, usize)>>,
    happenings: Vec<Option<What>>,
    /// Open connections: the number of the connect, whether the first flight goes with it.
    open: HashMap<u8, (usize, bool)>,
    connects: usize,
    /// Reads of the connection in use that were answered, and hops that were.
    read: HashMap<usize, usize>,
    served: Vec<usize>,
    timer: Option<u64>,
}

fn kept_shared() -> &'static Shared {
    thread_local! {
        static SHARED: &'static Shared = Box::leak(Box::new(guarded()));
    }
    SHARED.with(|shared| *shared)
}

fn guarded() -> Shared {
    let allow: Vec<Cidr> = ["127.0.0.0/24", "fd00::/64"]
        .map(|block| block.parse().expect("a block"))
        .to_vec();
    let guard = Guard::public_only(allow);
    let config = SharedConfig {
        guard,
        ..config(Roots::WebPki)
    };
    Shared::new(config).expect("the settings are valid")
}

/// Runs a check in the network; judges what no attempt may do in any.
pub(super) fn run(spec: &AttemptSpec<'_>, network: &Network, deadline_ms: u64) -> Run {
    let spec = AttemptSpec {
        timeout_ms: deadline_ms as u32,
        ..*spec
    };
    let mut shell = Shell {
        network,
        now_us: 0,
        queue: BinaryHeap::new(),
        happenings: Vec::new(),
        open: HashMap::new(),
        connects: 0,
        read: HashMap::new(),
        served: Vec::new(),
        timer: None,
    };
    let mut attempt = Attempt::start(&spec, kept_shared(), Buffers::default(), at(0));
    attempt.begin(at(0));
    shell.later(FAMILY_DELAY_MS * MS, What::LookIn);
    shell.later(deadline_ms * MS, What::Deadline);
    let mut commands = Vec::new();
    loop {
        shell.obey(&mut attempt, &mut commands);
        if commands.last() == Some(&Command::Done) {
            break;
        }
        shell.happen(&mut attempt);
    }
    assert!(shell.open.is_empty(), "left open: {commands:?}");
    assert!(commands.len() < 100, "{commands:?}");
    Run { attempt, commands }
}

impl Shell<'_> {
    fn later(&mut self, after_us: u64, what: What) {
        let order = self.happenings.len() as i64;
        let order = if self.network.reversed { -order } else { order };
        let at_us = self.now_us.saturating_add(after_us);
        self.queue
            .push(Reverse((at_us, order, self.happenings.len())));
        self.happenings.push(Some(what));
    }

    fn obey(&mut self, attempt: &mut Attempt, commands: &mut Vec<Command>) {
        loop {
            let command = attempt.next();
            if command == Command::Wait {
                return;
            }
            commands.push(command);
            match command {
                Command::Resolve => {
                    let name = self.network.name(false);
                    self.later(self.network.dns_us, What::Resolved(Ok(name)));
                }
                Command::Widen => {
                    if let Some((after_us, answer)) = self.network.widened() {
                        self.later(after_us, What::Resolved(answer));
                    }
                }
                Command::Connect { conn, address } => self.connect(attempt, conn, address),
                Command::Send { conn } => {
                    let buffer = attempt.take_outgoing(conn);
                    assert!(!buffer.is_empty() && self.is_only(conn));
                    self.later(0, What::Sent(conn, buffer));
                }
                Command::Recv { conn } => {
                    assert!(self.is_only(conn), "{commands:?}");
                    let (connect, _) = self.open[&conn.0];
                    self.later(0, What::Read(conn, connect));
                }
                Command::CloseConn { conn } | Command::Keep { conn, .. } => {
                    assert!(self.open.remove(&conn.0).is_some(), "{commands:?}");
                }
                Command::Timer { at } => self.arm(at),
                Command::Wait => {}
                Command::Done => return,
            }
        }
    }

    fn arm(&mut self, at: MonoUs) {
        let due_us = at.0 - 1_000_000;
        self.timer = Some(due_us);
        self.later(due_us.saturating_sub(self.now_us), What::Timer);
    }

    fn connect(&mut self, attempt: &Attempt, conn: Conn, address: SocketAddr) {
        let speaks = self.network.early && !attempt.first_flight(conn).is_empty();
        let before = self.open.insert(conn.0, (self.connects, speaks));
        assert!(before.is_none(), "the number is taken");
        assert!(self.open.len() <= CONNECTIONS_PER_ATTEMPT);
        let fate = self.network.fate(address.ip());
        assert_ne!(fate, Fate::Blocked, "the guard is asked first");
        if fate != Fate::Silent {
            let opened = What::Opened(conn, self.connects, fate);
            self.later(fate.takes_us(), opened);
        }
        self.connects += 1;
    }

    /// Whatever lost is closed before the other one is used.
    fn is_only(&self, conn: Conn) -> bool {
        self.open.len() == 1 && self.open.contains_key(&conn.0)
    }

    fn is_open(&self, conn: Conn, connect: usize) -> bool {
        let open = self.open.get(&conn.0);
        open.is_some_and(|(number, _)| *number == connect)
    }

    /// The next thing happens.
    fn happen(&mut self, attempt: &mut Attempt) {
        let Reverse((at_us, _, n)) = self.queue.pop().expect("the deadline is to come");
        self.now_us = at_us;
        let what = self.happenings[n].take().expect("it happens once");
        let now = at(at_us);
        match what {
            What::Resolved(answer) => {
                let answer = answer.as_ref().map_err(|failure| *failure);
                attempt.on(Event::Resolved(answer), kept_shared(), now);
            }
            What::Opened(conn, connect, fate) if self.is_open(conn, connect) => {
                self.opened(attempt, conn, fate, now);
            }
            What::Sent(conn, buffer) => {
                attempt.on(Event::Sent { conn, buffer }, kept_shared(), now);
            }
            What::Read(conn, connect) if self.is_open(conn, connect) => {
                self.read(attempt, conn, connect, now);
            }
            What::Timer if self.timer != Some(at_us) => {}
            What::Timer | What::LookIn => attempt.on(Event::Timer, kept_shared(), now),
            What::Deadline => attempt.on(Event::Deadline { ours: false }, kept_shared(), now),
            // Of a connection that is closed.
            What::Opened(..) | What::Read(..) => {}
        }
    }

    fn opened(&mut self, attempt: &mut Attempt, conn: Conn, fate: Fate, now: Now) {
        let (errno, at) = match fate {
            Fate::Accepts(_) => {
                let (_, sent) = self.open[&conn.0];
                return attempt.on(Event::Connected { conn, sent }, kept_shared(), now);
            }
            Fate::Refuses(_) => (111, ErrnoAt::Async),
            Fate::Short => (24, ErrnoAt::Syscall),
            _ => (99, ErrnoAt::Syscall),
        };
        self.open.remove(&conn.0);
        attempt.on(Event::ConnectError { conn, errno, at }, kept_shared(), now);
    }

    /// The reply of the connection, and then its end.
    fn read(&mut self, attempt: &mut Attempt, conn: Conn, connect: usize, now: Now) {
        if !self.served.contains(&connect) {
            self.served.push(connect);
        }
        let hop = self.served.iter().position(|n| *n == connect);
        let reply = self.network.replies.get(hop.expect("just put there"));
        let bytes = *reply.expect("as many replies as connections that go on");
        let reads = self.read.entry(connect).or_default();
        *reads += 1;
        match (*reads, self.network.end) {
            (1, _) if !bytes.is_empty() => {
                attempt.on(Event::Bytes { conn, bytes }, kept_shared(), now);
            }
            (_, End::Eof) => attempt.on(Event::Eof { conn }, kept_shared(), now),
            (_, End::Silence) => {}
        }
    }
}
