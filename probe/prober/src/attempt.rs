//! One check of one target, from its name to its verdict, as a machine without sockets or clock.
//!
//! ```text
//! Resolving ─► Connecting ─► Handshaking ─► Sending ─► Awaiting ─► Head ─► Body ─► Ended
//!     │ literal ▲    │ families.rs ▲   └ https only         1xx ┘ ▲  │
//!     └─────────┘    └──────────────┘                             └──┘
//!     ▲────────────────────────────── Turning ◄─ redirect ────────────┘
//! ```
//! A bare TCP check ends once it has connected and said its text, or goes on to the Body, which is
//! all that comes; a TLS check ends after the handshake, a DNS check with the answer.
//!
//! It owns the order of things, the phases and the classes. It knows nothing of slots, schedules
//! or deadlines other than being told that one has passed. What belongs to one hop is in `Hop`,
//! so that a redirect replaces it as a whole.
//!
//! A plain check allocates nothing once its buffers have grown: addresses are inline, the request
//! is written into `out`, and a head that arrives in one read is parsed where it lies.

mod dns;
mod ending;
mod errno;
mod evidence;
mod exchange;
mod families;
mod pending;
mod question;
mod redirect;
mod refused_session;
mod reuse;
mod route;
mod second_look;
mod secure;
mod spec;
mod talk;

use model::FailureClass;
use model::limits::{
    ATTEMPT_CARRY_KEPT_MAX_BYTES, ATTEMPT_OUT_KEPT_MAX_BYTES, ATTEMPT_READ_MAX_BYTES,
};
use model::outcome::{PHASE_ABSENT, Phases, flags};
use model::target::Method;
use model::time::{MonoUs, Now};
use model::url::Scheme;

use crate::http1::body::Body;
use crate::http1::request::{self, Credentials};
use crate::http1::scan::Scan;
use crate::resolver::{DnsFailure, NamesFailing, ResolvedName, Scope};
use crate::rules::Search;
use crate::shared::Shared;
use crate::tls::TlsLink;
use dns::Dns;
use errno::Errno;
use families::{Lane, Other};
use redirect::Journey;
use reuse::{After, Carrier};
use route::Route;
pub use spec::{AttemptSpec, Buffers, Command, Conn, ErrnoAt, Event, HostRef, Report, Rules};
pub(crate) use talk::Talk;

/// No timer is armed.
const NO_TIMER: MonoUs = MonoUs(u64::MAX);

/// Where the attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Stage {
    Resolving,
    Connecting,
    Handshaking,
    /// The request is on its way out.
    Sending,
    /// The request is written, no byte has come.
    Awaiting,
    Head,
    Body,
    /// A redirect was read, or nothing on a kept connection; the next hop, or the same one on a
    /// connection of its own, has not begun.
    Turning,
    Ended,
}

/// One request and its answer.
#[derive(Debug)]
struct Hop {
    /// The addresses of the preferred family.
    route: Route,
    other: Other,
    /// Of which family the connection in use is, or the verdict.
    lane: Lane,
    /// Each family must work.
    each: bool,
    dns: Dns,
    port: u16,
    scheme: Scheme,
    method: Method,
    /// 1xx responses skipped.
    interims: u8,
    scan: Scan,
    body: Option<Body>,
    /// Where rules look into the body.
    search: Option<Box<Search>>,
}

/// One check in flight.
#[derive(Debug)]
pub struct Attempt {
    buffers: Buffers,
    rules: Option<Rules>,
    tls: Option<Box<TlsLink>>,
    hop: Hop,
    /// Where redirects have led.
    journey: Option<Box<Journey>>,
    started: MonoUs,
    /// Start of the phase that runs.
    mark: MonoUs,
    timer: MonoUs,
    phases: Phases,
    timeout_ms: u32,
    /// Bytes that are still read, whatever they turn out to be.
    read_left: u32,
    stage: Stage,
    head_only: bool,
    /// The shell will look in on the attempt by itself: no timer is needed for that.
    watched: bool,
    pending: u8,
    /// The connection in use; until one stands, that of the preferred family.
    conn: Conn,
    /// Connections that the shell has open, and those among them to be closed; by bit.
    opened: u8,
    closing: u8,
    /// Both of the hop that runs; in it they would take 8 B more.
    carrier: Carrier,
    after: After,
    /// Whether a Send is outstanding.
    sending: bool,
    hops: u8,
    class: Option<FailureClass>,
    flags: u16,
    status: u16,
    errno: Option<i32>,
    /// Why the request could not be written; told only when no answer came either.
    send_errno: Option<Errno>,
    /// Of how many names our resolvers fail, where that is the verdict; in the hop it would take
    /// 8 B more.
    many: Option<NamesFailing>,
    /// A phrase for people; empty when the class says it all.
    why: &'static str,
}

// What every plain attempt in flight costs besides its buffers and its task; 136 B of it are the
// addresses.
const _: () = assert!(size_of::<Attempt>() <= 488);

impl Attempt {
    /// Starts a check of `spec`; ask [`Attempt::next`] for its first command.
    pub fn start(spec: &AttemptSpec<'_>, shared: &Shared, mut buffers: Buffers, now: Now) -> Self {
        for buffer in [&mut buffers.out, &mut buffers.carry, &mut buffers.url] {
            buffer.clear();
        }
        let out = &mut buffers.out;
        if spec.scheme.is_http() {
            shared.fields.write(spec, Credentials::Kept, out);
            request::write_url(spec, &mut buffers.url);
        } else {
            Talk::write(spec, out);
        }
        let mut attempt = Self {
            buffers,
            rules: spec.rules.cloned(),
            tls: TlsLink::of(spec),
            hop: Hop::new(spec),
            journey: None,
            started: now.mono,
            mark: now.mono,
            timer: NO_TIMER,
            phases: Phases::NONE,
            timeout_ms: spec.timeout_ms,
            read_left: ATTEMPT_READ_MAX_BYTES,
            stage: Stage::Resolving,
            head_only: spec.head_only,
            watched: matches!(spec.host, HostRef::Name(_)),
            pending: pending::RESOLVE,
            conn: Conn(0),
            opened: 0,
            closing: 0,
            carrier: Carrier::of(spec, shared),
            after: After::Close,
            sending: false,
            hops: 0,
            class: None,
            flags: 0,
            status: 0,
            errno: None,
            send_errno: None,
            many: None,
            why: "",
        };
        attempt.start_hop(spec.host, shared, now);
        attempt
    }

    /// Writes the hello, and resolves; or connects at once, to a literal. A name that the guard
    /// forbids is not asked for.
    fn start_hop(&mut self, host: HostRef<'_>, shared: &Shared, now: Now) {
        let forbidden = match host {
            HostRef::Name(name) => shared.guard.forbids(name),
            HostRef::Address(_) => None,
        };
        if let Some(label) = forbidden {
            self.stage = Stage::Resolving;
            self.why = label;
            self.finish(Some(FailureClass::SafetyBlocked), now);
            self.phases.dns_us = PHASE_ABSENT;
            return;
        }
        self.prepare_tls(shared, now);
        if self.hop.route.is_empty() {
            (self.stage, self.pending) = (Stage::Resolving, pending::RESOLVE);
        } else {
            (self.stage, self.pending) = (Stage::Connecting, 0);
            self.start_connecting(Scope::Wide, shared, now);
        }
    }

    /// The name to resolve once redirects have led away from the spec's host, ASCII and lower
    /// case; `None` before.
    pub fn redirected_to(&self) -> Option<&str> {
        self.journey.as_ref()?.name()
    }

    /// The shell takes the attempt up only now: what it waited until here is no part of it. Of a
    /// spec with a name the shell says [`Event::Timer`] once, [`FAMILY_DELAY_MS`] after this,
    /// without a command: most attempts are over by then, and none needs a timer of its own for it.
    ///
    /// [`FAMILY_DELAY_MS`]: model::limits::FAMILY_DELAY_MS
    pub fn begin(&mut self, now: Now) {
        (self.started, self.mark) = (now.mono, now.mono);
    }

    /// Whether it waits for the answer to [`Command::Resolve`].
    pub fn is_resolving(&self) -> bool {
        self.stage == Stage::Resolving
    }

    /// Whether [`Attempt::next`] has more to say than [`Command::Wait`] or [`Command::Done`].
    pub fn has_commands(&self) -> bool {
        self.pending != 0 || self.closing != 0
    }

    /// Whether `conn` stands and is the one that the attempt goes on with.
    pub fn is_using(&self, conn: Conn) -> bool {
        self.stage != Stage::Ended && self.connected(conn)
    }

    /// Takes in what happened. After [`Command::Done`] nothing changes any more.
    pub fn on(&mut self, event: Event<'_>, shared: &Shared, now: Now) {
        if let Event::Sent { conn, buffer } = event {
            self.on_sent(conn, buffer, now);
            return;
        }
        if self.stage == Stage::Ended
            || self.on_refused_session(&event, shared, now)
            || self.on_second_look(&event, shared, now)
        {
            return;
        }
        match event {
            Event::Resolved(answer) if self.stage == Stage::Resolving => {
                self.on_resolved(answer, shared, now);
            }
            Event::Resolved(answer) if self.stage == Stage::Connecting => {
                self.on_other_resolved(answer, shared, now);
            }
            Event::Answered(answer) if self.stage == Stage::Resolving => {
                self.on_answer(answer, now);
            }
            Event::Connected { conn, sent } => self.on_connected(conn, sent, shared, now),
            Event::Reused { conn } => self.on_reused(conn, now),
            Event::ConnectError { conn, errno, at } => {
                self.on_connect_error(conn, (errno, at), shared, now);
            }
            Event::IoError { conn, errno } if self.stage == Stage::Connecting => {
                self.on_first_flight_error(conn, errno, shared, now);
            }
            Event::Bytes { conn, bytes } if self.connected(conn) => {
                self.on_bytes(bytes, shared, now);
            }
            Event::Eof { conn } if self.connected(conn) => self.on_eof(now),
            Event::IoError { conn, errno } if self.connected(conn) => self.on_io_error(errno, now),
            Event::Timer => self.on_timer(shared, now),
            Event::Deadline { ours: true } => {
                self.why = "it stood still for so long that the time of the check was up";
                self.finish(Some(FailureClass::LocalPressure), now);
            }
            Event::Deadline { ours: false } => self.on_deadline(now),
            Event::Cancelled => self.finish(Some(FailureClass::LocalCancelled), now),
            // Of a connection that was given up, or an answer that nobody waits for.
            _ => {}
        }
        if self.stage == Stage::Turning {
            self.turn(shared, now);
        }
    }

    /// The next command. Call until [`Command::Wait`] or [`Command::Done`].
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends: Wait is not the last one"
    )]
    pub fn next(&mut self) -> Command {
        if self.closing != 0 {
            let conn = Conn(self.closing.trailing_zeros() as u8);
            self.closing &= self.closing - 1;
            self.opened &= !bit(conn);
            return Command::CloseConn { conn };
        }
        let first = self.pending & self.pending.wrapping_neg();
        self.pending &= !first;
        match first {
            pending::KEEP => self.give_keep(),
            pending::RESOLVE => Command::Resolve,
            pending::WIDEN => Command::Widen,
            pending::CONNECT => self.give_connect(false),
            pending::RACE => self.give_connect(true),
            pending::SEND => {
                self.sending = true;
                Command::Send { conn: self.conn }
            }
            pending::RECV => Command::Recv { conn: self.conn },
            pending::TIMER => Command::Timer {
                at: self.next_alarm(),
            },
            _ if self.stage == Stage::Ended => Command::Done,
            _ => Command::Wait,
        }
    }

    /// What may be written to a connection that is being opened, without asking whether it stands
    /// yet: the request, or the TLS hello. A copy of it stays here, for the next address. Empty
    /// when there is nothing to say, or while another connection may be the one that counts.
    pub fn first_flight(&self, conn: Conn) -> &[u8] {
        let in_clear = self.tls.as_ref().is_some_and(|link| !link.is_open());
        let speaks = self.lane_of(conn).is_some_and(|lane| self.is_alone(lane));
        if speaks && !in_clear {
            &self.buffers.out
        } else {
            &[]
        }
    }

    /// The bytes for [`Command::Send`]; handed back by [`Event::Sent`].
    pub fn take_outgoing(&mut self, conn: Conn) -> Vec<u8> {
        if conn == self.conn {
            std::mem::take(&mut self.buffers.out)
        } else {
            Vec::new()
        }
    }

    /// What is known so far; final after [`Command::Done`].
    pub fn report(&self) -> Report {
        let not_after_days = self.tls.as_ref().map_or(0, |link| link.not_after_days());
        let journey = self.journey.as_ref();
        Report {
            class: self.class,
            status: self.status,
            phases: journey.map_or(self.phases, |journey| journey.phases(&self.phases)),
            flags: self.flags,
            hops: self.hops,
            not_after_days: journey.map_or(not_after_days, |journey| {
                journey.not_after_days(not_after_days)
            }),
            errno: self.errno,
            address: self.route().address(),
        }
    }

    /// Bytes of the last answer's body that were looked at, framing taken off and coding left on:
    /// at most a mebibyte, or what is read of one that is coded and looked into.
    pub fn body_bytes(&self) -> u32 {
        self.hop.body.map_or(0, |body| body.data_bytes())
    }

    /// The buffers, for the next attempt; this one is over. What they grew by for a long head or a
    /// long request is given back: most checks need none of it, and it would be kept for each
    /// attempt that was ever in flight.
    pub fn take_buffers(&mut self) -> Buffers {
        let kept = |buffer: &mut Vec<u8>, max_bytes| {
            let mut buffer = std::mem::take(buffer);
            buffer.clear();
            buffer.shrink_to(max_bytes);
            buffer
        };
        Buffers {
            out: kept(&mut self.buffers.out, ATTEMPT_OUT_KEPT_MAX_BYTES),
            carry: kept(&mut self.buffers.carry, ATTEMPT_CARRY_KEPT_MAX_BYTES),
            url: kept(&mut self.buffers.url, ATTEMPT_OUT_KEPT_MAX_BYTES),
        }
    }

    fn connected(&self, conn: Conn) -> bool {
        self.stage > Stage::Connecting && conn == self.conn && self.opened & bit(conn) != 0
    }

    fn on_resolved(
        &mut self,
        answer: Result<&ResolvedName, DnsFailure>,
        shared: &Shared,
        now: Now,
    ) {
        match answer {
            Ok(name) => {
                self.hop.dns = Dns::of_name(name);
                self.flags |= if name.cached { flags::DNS_CACHED } else { 0 };
                self.flags |= if name.stale { flags::DNS_STALE } else { 0 };
                self.hop.route = Route::new(name.addresses.iter());
                let lacks_one = name.scope == Scope::Each && !self.hop.route.has_spare();
                if self.hop.route.is_empty() || lacks_one {
                    return self.finish(Some(FailureClass::DnsNoAddress), now);
                }
                self.enter(Stage::Connecting, now);
                self.start_connecting(name.scope, shared, now);
            }
            Err(failure) => self.on_no_answer(failure, now),
        }
    }

    fn on_no_answer(&mut self, failure: DnsFailure, now: Now) {
        self.hop.dns = Dns::of_failure(&failure);
        self.many = failure.many;
        self.flags |= if failure.agreed { flags::DNS_AGREED } else { 0 };
        self.finish(Some(failure.class), now);
    }

    /// The first flight goes out as soon as the connection stands: what its send met tells which
    /// of both failed.
    fn on_first_flight_error(&mut self, conn: Conn, errno: i32, shared: &Shared, now: Now) {
        if self.lane_of(conn).is_some() && errno::was_established(errno) {
            self.send_errno = Some(Errno::new(errno));
            self.on_connected(conn, true, shared, now);
            self.on_send_error(errno);
        } else {
            self.on_connect_error(conn, (errno, ErrnoAt::Async), shared, now);
        }
    }

    fn on_connected(&mut self, conn: Conn, sent: bool, shared: &Shared, now: Now) {
        let lane = self.lane_of(conn);
        if !lane.is_some_and(|lane| self.has_connected(lane)) {
            return;
        }
        if sent {
            // A copy went out; no further address needs it.
            self.buffers.out.clear();
        }
        self.timer = NO_TIMER;
        self.pending &= !pending::TIMER;
        match self.hop.scheme {
            Scheme::Http if sent => {
                self.enter(Stage::Awaiting, now);
                self.pending |= pending::RECV;
            }
            Scheme::Http => {
                self.enter(Stage::Sending, now);
                self.pending |= pending::SEND;
            }
            Scheme::Https | Scheme::Tls => {
                self.enter(Stage::Handshaking, now);
                self.start_tls(sent, shared, now);
            }
            // A question connects to nothing.
            Scheme::Tcp | Scheme::Dns => self.start_talk(sent, now),
        }
    }

    fn on_sent(&mut self, conn: Conn, mut buffer: Vec<u8>, now: Now) {
        buffer.clear();
        if self.buffers.out.capacity() == 0 {
            self.buffers.out = buffer;
        }
        if !self.connected(conn) || self.stage == Stage::Ended {
            return;
        }
        self.sending = false;
        if self.stage == Stage::Sending {
            // ttfb is counted from here; what the writing took is in `total` only.
            (self.stage, self.mark) = (Stage::Awaiting, now.mono);
        }
        if self.stage == Stage::Awaiting && !self.hop.scheme.is_http() {
            self.on_said(now);
        } else {
            self.pending |= pending::RECV;
        }
    }

    fn on_bytes(&mut self, bytes: &[u8], shared: &Shared, now: Now) {
        let mut rest = bytes;
        // More than once where the head that is in it lets more be read.
        while !rest.is_empty() && self.read_left > 0 && self.stage < Stage::Turning {
            let (piece, later) = rest.split_at(rest.len().min(self.read_left as usize));
            self.read_left -= piece.len() as u32;
            rest = later;
            self.on_piece(piece, shared, now);
        }
        if !rest.is_empty() {
            self.unsettle();
        }
        let busy = self.pending & (pending::CONNECT | pending::SEND) != 0 || self.sending;
        if self.stage == Stage::Turning {
            return;
        }
        if self.read_left == 0 {
            self.on_enough_read(now);
        } else if self.stage != Stage::Ended && !busy {
            self.pending |= pending::RECV;
        }
    }

    fn on_piece(&mut self, bytes: &[u8], shared: &Shared, now: Now) {
        if self.tls.is_some() {
            self.on_records(bytes, shared, now);
        } else if self.hop.scheme == Scheme::Tcp {
            self.on_talk(bytes, now);
        } else {
            self.on_plaintext(bytes, shared, now);
            self.judge_body(now);
        }
    }

    fn on_io_error(&mut self, errno: i32, now: Now) {
        // Nothing is looked at after a handshake that is all there is to a check.
        let listens = self.hop.scheme != Scheme::Tls || self.stage == Stage::Handshaking;
        if self.sending && self.send_errno.is_none() && listens {
            return self.on_send_error(errno);
        }
        let errno = self.send_errno.map_or(errno, Errno::get);
        self.errno = Some(errno);
        let class = match self.stage {
            Stage::Handshaking => errno::handshake_class(errno),
            _ if self.hop.scheme == Scheme::Tls => errno::handshake_class(errno),
            _ => errno::exchange_class(errno),
        };
        self.finish(Some(class), now);
    }

    /// The remote may have answered before it closed: what it said counts more than that it did
    /// not listen to the end.
    fn on_send_error(&mut self, errno: i32) {
        self.sending = false;
        self.send_errno = Some(Errno::new(errno));
        self.pending |= pending::RECV;
    }

    fn on_eof(&mut self, now: Now) {
        let send_errno = self.send_errno.map(Errno::get);
        if let (Some(errno), true) = (send_errno, self.stage < Stage::Head) {
            return self.on_io_error(errno, now);
        }
        if self.stage == Stage::Handshaking {
            self.why = "the connection was closed during the TLS handshake";
            return self.finish(Some(FailureClass::TlsHandshake), now);
        }
        if self.is_talked_out() {
            return self.finish(Some(FailureClass::BodyKeywordMissing), now);
        }
        self.on_end_of_stream(now);
    }

    fn on_timer(&mut self, shared: &Shared, now: Now) {
        self.watched = false;
        match self.stage {
            Stage::Connecting => self.on_connect_timer(shared, now),
            // Enough was read of a body without a known end.
            Stage::Body if now.mono >= self.timer => self.finish_unread(None, now),
            Stage::Body => self.arm(),
            _ => {}
        }
    }

    /// Closes the connection in use; the next one has another number.
    fn leave_connection(&mut self) {
        self.closing |= bit(self.conn) & self.opened;
        self.conn = self.free_conn(self.conn);
    }

    fn set_timer(&mut self, at: MonoUs) {
        self.timer = at;
        self.pending |= pending::TIMER;
    }
}

fn bit(conn: Conn) -> u8 {
    1_u8.checked_shl(u32::from(conn.0)).unwrap_or(0)
}
