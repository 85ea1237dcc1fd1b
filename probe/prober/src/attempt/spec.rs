//! What goes into an attempt and what comes out: spec, events, commands, report. Plain data; the
//! machine itself is in `attempt`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::FailureClass;
use model::check::Check;
use model::outcome::Phases;
use model::target::{ExpectStatus, Header, Method, Redirect, TargetConfig};
use model::time::MonoUs;
use model::url::Scheme;

use super::question::Question;
use super::route::Route;
use super::talk::Talk;
use crate::resolver::{DnsFailure, Records, ResolvedName};
use crate::rules::BodyRules;

/// What to probe, borrowed: a plain target allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct AttemptSpec<'a> {
    /// What is spoken.
    pub scheme: Scheme,
    /// Name or address.
    pub host: HostRef<'a>,
    /// Port, the scheme's default filled in.
    pub port: u16,
    /// Path and query of a request, starting with `/`.
    pub path: &'a str,
    /// GET or HEAD, of a request.
    pub method: Method,
    /// The effective deadline in ms. The shell arms it; here it only divides the time between
    /// several addresses.
    pub timeout_ms: u32,
    /// The answer is judged by its head alone: a body, if it comes, is not read.
    pub head_only: bool,
    /// What only few targets have.
    pub rules: Option<&'a Rules>,
}

impl AttemptSpec<'_> {
    /// The one address of a literal; empty for a name.
    pub(super) fn route(&self) -> Route {
        match self.host {
            HostRef::Name(_) => Route::EMPTY,
            HostRef::Address(address) => Route::new([address]),
        }
    }
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRef<'a> {
    /// A DNS name in ASCII; the attempt asks for its addresses.
    Name(&'a str),
    /// A literal; nothing is resolved.
    Address(IpAddr),
}

/// The settings that few targets have; shared, so that an attempt can keep them.
#[derive(Clone, Debug)]
pub struct Rules(Arc<RuleSet>);

/// See [`Rules`].
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    pub(crate) headers: Vec<Header>,
    pub(crate) expect_status: ExpectStatus,
    pub(crate) max_latency_ms: Option<u32>,
    pub(crate) redirect: Redirect,
    pub(crate) body: Option<BodyRules>,
    pub(crate) talk: Option<Talk>,
    pub(crate) question: Option<Box<Question>>,
}

impl RuleSet {
    fn of(config: &TargetConfig) -> Self {
        let mut set = Self {
            max_latency_ms: config.max_latency_ms,
            ..Self::default()
        };
        match &config.check {
            Check::Http(http) => {
                set.headers.clone_from(&http.headers);
                set.expect_status.clone_from(&http.expect_status);
                set.redirect = http.redirect;
                set.body = BodyRules::of(http);
            }
            Check::Tcp(tcp) => set.talk = Talk::of(tcp),
            Check::Tls(_) => {}
            Check::Dns(dns) => set.question = Question::of(dns).map(Box::new),
        }
        set
    }

    /// Whether all is the default.
    fn is_plain(&self) -> bool {
        self.headers.is_empty()
            && self.expect_status == ExpectStatus::default()
            && self.max_latency_ms.is_none()
            && self.redirect == Redirect::default()
            && self.body.is_none()
            && self.talk.is_none()
            && self.question.is_none()
    }
}

impl Rules {
    /// The rules of `config`; `None` when all of them are the default.
    pub fn from_config(config: &TargetConfig) -> Option<Self> {
        let set = RuleSet::of(config);
        (!set.is_plain()).then(|| Self(Arc::new(set)))
    }

    pub(crate) fn set(&self) -> &RuleSet {
        &self.0
    }
}

/// Buffers of an attempt, pooled by the core: cleared on return, capacity kept.
#[derive(Debug, Default)]
pub struct Buffers {
    /// What is sent.
    pub out: Vec<u8>,
    /// The response head: what has arrived of it, then its first KiB as evidence.
    pub carry: Vec<u8>,
    /// The target's URL, which redirects are relative to.
    pub url: Vec<u8>,
}

impl Buffers {
    /// Memory that they hold, in bytes.
    pub fn bytes(&self) -> usize {
        self.out.capacity() + self.carry.capacity() + self.url.capacity()
    }
}

/// One connection of an attempt, 0..3. A number is used again after its connection has ended by
/// [`Event::ConnectError`] or was given up by [`Command::CloseConn`] or [`Command::Keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn(pub u8);

/// Where the errno of a failed connect came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrnoAt {
    /// `socket()`, `bind()` or `connect()` returned it: the trouble is ours.
    Syscall,
    /// `SO_ERROR` told it later: it is the remote's, or the network's.
    Async,
}

/// What happened, told by the shell.
#[derive(Debug)]
pub enum Event<'a> {
    /// The answer to [`Command::Resolve`] or [`Command::Widen`].
    Resolved(Result<&'a ResolvedName, DnsFailure>),
    /// The answer to [`Command::Resolve`] of an attempt with a
    /// [`question`](crate::Attempt::question).
    Answered(Result<&'a Records, DnsFailure>),
    /// The connection is established.
    Connected {
        /// Which.
        conn: Conn,
        /// Whether [`Attempt::first_flight`](crate::Attempt::first_flight) is written as well:
        /// then no Send comes.
        sent: bool,
    },
    /// A connection that was kept is taken instead of a new one, see
    /// [`Attempt::may_reuse`](crate::Attempt::may_reuse). Nothing is written to it.
    Reused {
        /// Its number from now on.
        conn: Conn,
    },
    /// The connection could not be established; it is closed.
    ConnectError {
        /// Which.
        conn: Conn,
        /// Why.
        errno: i32,
        /// Who says so.
        at: ErrnoAt,
    },
    /// Everything given out for [`Command::Send`] is written.
    Sent {
        /// Which.
        conn: Conn,
        /// The buffer, handed back.
        buffer: Vec<u8>,
    },
    /// Bytes arrived; never empty.
    Bytes {
        /// Which.
        conn: Conn,
        /// What arrived, in pieces of any size.
        bytes: &'a [u8],
    },
    /// The remote closed its side.
    Eof {
        /// Which.
        conn: Conn,
    },
    /// A send or a receive failed; of a connection that is being opened, the send of the first
    /// flight.
    IoError {
        /// Which.
        conn: Conn,
        /// Why.
        errno: i32,
    },
    /// The time of [`Command::Timer`] has come; or the attempt is looked in on, see
    /// [`Attempt::begin`](crate::Attempt::begin).
    Timer,
    /// The deadline has passed.
    Deadline {
        /// Our own stall used up the time: then nothing is said of the target.
        ours: bool,
    },
    /// The target was removed, or the node stops.
    Cancelled,
}

/// What the shell is to do, one at a time in this order. At most one of Send and Recv is
/// outstanding per connection. A Connect may come while another connection is being opened: both
/// go on then, until one of them is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask for the records of [`Attempt::question`](crate::Attempt::question), if there is one.
    /// Else look up the addresses of [`Attempt::redirected_to`](crate::Attempt::redirected_to), or
    /// of the spec's host before any redirect.
    Resolve,
    /// Look up the same name once more, for addresses of the family that is not preferred too.
    Widen,
    /// Open a connection, and write
    /// [`Attempt::first_flight`](crate::Attempt::first_flight) as soon as it stands.
    Connect {
        /// Its number from now on.
        conn: Conn,
        /// Where to.
        address: SocketAddr,
    },
    /// Write everything of [`Attempt::take_outgoing`](crate::Attempt::take_outgoing).
    Send {
        /// Where.
        conn: Conn,
    },
    /// Read once; answered by `Bytes`, `Eof` or `IoError`.
    Recv {
        /// Where.
        conn: Conn,
    },
    /// Close; whatever is outstanding there is abandoned.
    CloseConn {
        /// Which.
        conn: Conn,
    },
    /// Keep the connection for a request of whoever connects there next, or close it. It is no more
    /// of this attempt. Before it is given out it must be looked at: whatever can be read from it,
    /// the end of the stream too, rules it out.
    Keep {
        /// Which; its number is free.
        conn: Conn,
        /// Where it leads.
        address: SocketAddr,
    },
    /// Say [`Event::Timer`] at this time; replaces an earlier timer.
    Timer {
        /// When.
        at: MonoUs,
    },
    /// Nothing new until an event.
    Wait,
    /// The report is final; every later event is ignored.
    Done,
}

/// The result of an attempt, final after [`Command::Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Why it is not `up`.
    pub class: Option<FailureClass>,
    /// HTTP status, 0 = none.
    pub status: u16,
    /// Time by phase; a phase that was entered is present, also when the attempt ended in it. Of
    /// an attempt that was redirected, the phases of all hops added up.
    pub phases: Phases,
    /// Bits of `model::outcome::flags`.
    pub flags: u16,
    /// Redirects followed.
    pub hops: u8,
    /// Days since the Unix epoch of the earliest `notAfter` in the chain; 0 = no TLS.
    pub not_after_days: u16,
    /// The errno that ended the attempt.
    pub errno: Option<i32>,
    /// The address that was connected to, or tried last.
    pub address: Option<IpAddr>,
}
