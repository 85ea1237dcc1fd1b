//! Which addresses are connected to, and when: those of the preferred family one after the other,
//! and beside them those of the other one (happy eyeballs, RFC 8305).
//!
//! ```text
//! first  ─► address ─► next address ─► … ─► spent ──────────────┐
//!             └ 250 ms without a connection ┐                   │ at once
//! other     (asked for, if it was not) ◄────┴───────────────────┘
//!             └► address ─► next address ─► … ─► spent
//! ```
//! The first connection that stands wins, the other one is closed. With `both` each family begins
//! at once, a connection of the other one is closed as soon as it stands, and the check goes on
//! when both have stood. An address that is one of several gets its share of the time that is left.
//!
//! Addresses of the first family are in the hop. Those of the other one are in a [`Race`], in a box
//! of its own: few attempts need it.

use std::net::SocketAddr;

use model::FailureClass;
use model::limits::{CONNECTIONS_PER_ATTEMPT, FAMILY_DELAY_MS};
use model::outcome::flags;
use model::time::{MonoUs, Now};

use super::reuse::Carrier;
use super::route::{Finding, Route, Weight};
use super::spec::{Command, Conn, ErrnoAt};
use super::{Attempt, NO_TIMER, Stage, bit, errno, pending};
use crate::resolver::{DnsFailure, ResolvedName, Scope};
use crate::shared::Shared;

/// Which of the two families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The preferred one, or the only one.
    First,
    Other,
}

/// What there is of the other family.
#[derive(Debug)]
pub(super) enum Other {
    /// Nothing, or nothing that the policy wants.
    Nothing,
    /// It can be asked for.
    Unasked,
    /// It is being asked for.
    Asked,
    /// Its addresses are behind those of the first one.
    AtHand,
    /// It is being connected to, or was.
    Raced(Box<Race>),
}

/// The other family, beside the first one.
#[derive(Debug)]
pub(super) struct Race {
    route: Route,
    conn: Conn,
    /// Until when its current address may take.
    limit: MonoUs,
}

/// What the shell is to say [`Event::Timer`](super::Event::Timer) for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alarm {
    /// The current address of the lane has had its share of the time.
    Limit(Lane),
    /// The other family is due.
    OtherFamily,
}

impl Attempt {
    /// The addresses are known: the first connections.
    pub(super) fn start_connecting(&mut self, scope: Scope, shared: &Shared, now: Now) {
        self.hop.each = scope == Scope::Each;
        if self.hop.each {
            self.carrier = Carrier::Single;
        }
        self.hop.other = match scope {
            _ if self.hop.route.has_spare() => Other::AtHand,
            Scope::Narrow => Other::Unasked,
            Scope::Wide | Scope::Each => Other::Nothing,
        };
        self.open(Lane::First, shared, now);
        if self.hop.each && self.stage == Stage::Connecting {
            self.start_other(shared, now);
        }
        self.arm();
    }

    /// What came of the question for the other family.
    pub(super) fn on_other_resolved(
        &mut self,
        answer: Result<&ResolvedName, DnsFailure>,
        shared: &Shared,
        now: Now,
    ) {
        if !matches!(self.hop.other, Other::Asked) {
            return;
        }
        let is_first_v4 = self.hop.route.is_ipv4();
        let route = answer.map_or(Route::EMPTY, |name| {
            self.flags |= if name.stale { flags::DNS_STALE } else { 0 };
            let addresses = name.addresses.iter();
            Route::new(addresses.filter(|address| address.is_ipv4() != is_first_v4))
        });
        if route.is_empty() {
            self.hop.other = Other::Nothing;
            if self.hop.route.is_spent() {
                self.give_up(now);
            }
            return;
        }
        self.race(route, shared, now);
        self.arm();
    }

    /// Asks for the other family, or connects to it.
    fn start_other(&mut self, shared: &Shared, now: Now) {
        match self.hop.other {
            Other::Unasked => {
                self.hop.other = Other::Asked;
                self.pending |= pending::WIDEN;
            }
            Other::AtHand => {
                let route = self.hop.route.split_off();
                self.race(route, shared, now);
            }
            Other::Nothing | Other::Asked | Other::Raced(_) => {}
        }
    }

    fn race(&mut self, route: Route, shared: &Shared, now: Now) {
        self.hop.other = Other::Raced(Box::new(Race {
            route,
            conn: Conn(0),
            limit: NO_TIMER,
        }));
        self.open(Lane::Other, shared, now);
    }

    /// Opens a connection to the lane's next address that is permitted.
    pub(super) fn open(&mut self, lane: Lane, shared: &Shared, now: Now) {
        let own = match (lane, self.race_of()) {
            (Lane::Other, Some(race)) => race.conn,
            _ => self.conn,
        };
        let conn = self.free_conn(own);
        let deadline = self.started.plus_ms(u64::from(self.timeout_ms));
        // An attempt lasts for a minute at most.
        let now_us = now.mono.since(self.started) as u32;
        let Some((route, own, limit)) = self.lane_mut(lane) else {
            return;
        };
        *limit = NO_TIMER;
        if !route.open(&shared.guard, now_us) {
            return self.on_spent(lane, shared, now);
        }
        *own = conn;
        let others = route.left();
        if others > 0 {
            // A black hole may have its share of the time, not all of it.
            *limit = now.mono.plus_us(deadline.since(now.mono) / (others + 1));
        }
        self.pending |= match lane {
            Lane::First => pending::CONNECT,
            Lane::Other => pending::RACE,
        };
    }

    /// No address of the lane is left.
    fn on_spent(&mut self, lane: Lane, shared: &Shared, now: Now) {
        match lane {
            _ if self.hop.each => self.give_up(now),
            Lane::First => {
                self.start_other(shared, now);
                let waits = match &self.hop.other {
                    Other::Asked => true,
                    Other::Raced(race) => !race.route.is_spent(),
                    Other::Nothing | Other::Unasked | Other::AtHand => false,
                };
                if !waits && self.stage == Stage::Connecting {
                    self.give_up(now);
                }
            }
            Lane::Other if self.hop.route.is_spent() => self.give_up(now),
            Lane::Other => {}
        }
    }

    /// Every address that counts has failed: what to say of it.
    fn give_up(&mut self, now: Now) {
        let class = self.connect_verdict();
        self.finish(Some(class), now);
    }

    /// What the connections that were opened so far say, now that they are the last ones.
    pub(super) fn connect_verdict(&mut self) -> FailureClass {
        let (lane, finding) = self.finding();
        (self.hop.lane, self.errno) = (lane, finding.errno);
        let unreached = finding.weight == Weight::NoWay;
        let Some(lacking) = self.hop.dns.lacks().filter(|_| unreached) else {
            return finding.class;
        };
        // Whoever has the preferred family alone, as we do, finds the name out of order.
        self.hop.dns.blame_lacking();
        self.errno = None;
        lacking
    }

    /// With `both`, what the family that fails says. Else whatever says most, of the preferred
    /// family before the other one: that it was turned down says more than that the other one was
    /// silent. Where the preferred family could not be had, this host need not have a way to the
    /// one that was.
    fn finding(&self) -> (Lane, Finding) {
        let (route, each) = (&self.hop.route, self.hop.each);
        let needed = self.hop.dns.lacks().is_none();
        let first = (Lane::First, route.finding(needed));
        let Some(race) = self.race_of() else {
            return first;
        };
        let other = (Lane::Other, race.route.finding(each));
        let is_other = if each {
            route.is_connected() || race.route.is_spent() && !route.is_spent()
        } else {
            other.1.weight > first.1.weight
        };
        if is_other { other } else { first }
    }

    /// The lane whose current connection is being opened under this number.
    pub(super) fn lane_of(&self, conn: Conn) -> Option<Lane> {
        if self.stage != Stage::Connecting || self.opened & bit(conn) == 0 {
            return None;
        }
        if conn == self.conn && self.hop.route.is_opening() {
            return Some(Lane::First);
        }
        let race = self.race_of().filter(|race| race.conn == conn)?;
        race.route.is_opening().then_some(Lane::Other)
    }

    /// Whether what is opened now may say something as soon as it stands: nothing else can win.
    pub(super) fn is_alone(&self, lane: Lane) -> bool {
        let has_rival = match lane {
            Lane::First => self.race_of().is_some_and(|race| race.route.is_opening()),
            Lane::Other => self.hop.route.is_opening(),
        };
        !has_rival && !self.hop.each
    }

    /// A connection stands. Whether the attempt goes on with it, or waits for the other family.
    pub(super) fn has_connected(&mut self, lane: Lane) -> bool {
        let Some((route, own, limit)) = self.lane_mut(lane) else {
            return false;
        };
        let (conn, opened_us) = (*own, route.opened_us());
        route.connected();
        *limit = NO_TIMER;
        if self.hop.each {
            if lane == Lane::Other {
                self.closing |= bit(conn);
            }
            let other = self.race_of().is_some_and(|race| race.route.is_connected());
            self.arm();
            return other && self.hop.route.is_connected();
        }
        let rival = match lane {
            Lane::First => self.race_of().map(|race| (race.conn, &race.route)),
            Lane::Other => Some((self.conn, &self.hop.route)),
        };
        let lost = rival.filter(|(_, route)| route.is_opening());
        self.closing |= lost.map_or(0, |(conn, _)| bit(conn) & self.opened);
        self.pending &= !(pending::CONNECT | pending::RACE | pending::WIDEN);
        (self.conn, self.hop.lane) = (conn, lane);
        // Of the connection that won; what the others took is in `total` alone.
        self.mark = self.started.plus_us(u64::from(opened_us));
        true
    }

    /// The lane's connection failed: its next address.
    pub(super) fn on_connect_error(
        &mut self,
        conn: Conn,
        (errno, at): (i32, ErrnoAt),
        shared: &Shared,
        now: Now,
    ) {
        let Some(lane) = self.lane_of(conn) else {
            return;
        };
        self.opened &= !bit(conn);
        self.try_next(lane, errno, at, shared, now);
        self.arm();
    }

    fn try_next(&mut self, lane: Lane, errno: i32, at: ErrnoAt, shared: &Shared, now: Now) {
        if let Some((route, ..)) = self.lane_mut(lane) {
            route.failed(errno, at);
        }
        self.open(lane, shared, now);
    }

    /// Time has passed while connections are being opened.
    pub(super) fn on_connect_timer(&mut self, shared: &Shared, now: Now) {
        for (alarm, at) in self.alarms() {
            if self.stage != Stage::Connecting || now.mono < at {
                continue;
            }
            match alarm {
                Alarm::OtherFamily => self.start_other(shared, now),
                Alarm::Limit(lane) => {
                    if let Some((_, conn, _)) = self.lane_mut(lane) {
                        let conn = *conn;
                        self.closing |= bit(conn) & self.opened;
                    }
                    self.try_next(lane, errno::NO_ANSWER, ErrnoAt::Async, shared, now);
                }
            }
        }
        self.arm();
    }

    fn alarms(&self) -> [(Alarm, MonoUs); 3] {
        let startable = matches!(self.hop.other, Other::Unasked | Other::AtHand);
        let other_family = if startable && !self.hop.each {
            self.mark.plus_ms(FAMILY_DELAY_MS)
        } else {
            NO_TIMER
        };
        let other = self.race_of().map_or(NO_TIMER, |race| race.limit);
        [
            (Alarm::OtherFamily, other_family),
            (Alarm::Limit(Lane::First), self.timer),
            (Alarm::Limit(Lane::Other), other),
        ]
    }

    /// The earliest alarm that the shell must be told of: it looks in on a young attempt by itself.
    pub(super) fn next_alarm(&self) -> MonoUs {
        if self.stage != Stage::Connecting {
            return self.timer;
        }
        let unwatched = |alarm: Alarm| alarm != Alarm::OtherFamily || !self.watched;
        let alarms = self.alarms().into_iter();
        let due = alarms.filter(|(alarm, _)| unwatched(*alarm));
        due.map(|(_, at)| at).min().unwrap_or(NO_TIMER)
    }

    /// Tells the shell of the next alarm, if there is one.
    pub(super) fn arm(&mut self) {
        if self.stage != Stage::Ended && self.next_alarm() != NO_TIMER {
            self.pending |= pending::TIMER;
        } else {
            self.pending &= !pending::TIMER;
        }
    }

    /// A number that no connection has: `own` if it is free, and rather one that is not about to be
    /// closed either.
    pub(super) fn free_conn(&self, own: Conn) -> Conn {
        let asked = |what: u8, conn: Conn| {
            if self.pending & what == 0 {
                0
            } else {
                bit(conn)
            }
        };
        let other = self
            .race_of()
            .map_or(0, |race| asked(pending::RACE, race.conn));
        let asked = asked(pending::CONNECT, self.conn) | other;
        if (self.opened | asked) & bit(own) == 0 {
            return own;
        }
        let free = [self.opened, self.opened & !self.closing];
        let free = free.map(|taken| (taken | asked).trailing_ones() as u8);
        let is_number = |conn: &u8| usize::from(*conn) < CONNECTIONS_PER_ATTEMPT;
        let conn = free.into_iter().find(is_number);
        Conn(conn.expect("two connections are asked for or open at most, besides closing ones"))
    }

    /// The command for a connection that is to be opened: of the race, or else to where the attempt
    /// is.
    pub(super) fn give_connect(&mut self, races: bool) -> Command {
        let (conn, route) = match self.race_of().filter(|_| races) {
            Some(race) => (race.conn, &race.route),
            None => (self.conn, self.route()),
        };
        let address = route.address().expect("a route that was opened has one");
        self.opened |= bit(conn);
        Command::Connect {
            conn,
            address: SocketAddr::new(address, self.hop.port),
        }
    }

    /// The route of the lane that the verdict is about.
    pub(super) fn route(&self) -> &Route {
        match (self.hop.lane, self.race_of()) {
            (Lane::Other, Some(race)) => &race.route,
            _ => &self.hop.route,
        }
    }

    /// Both routes, for evidence.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Route> {
        let other = self.race_of().map(|race| &race.route);
        std::iter::once(&self.hop.route).chain(other)
    }

    fn race_of(&self) -> Option<&Race> {
        match &self.hop.other {
            Other::Raced(race) => Some(race),
            _ => None,
        }
    }

    /// Addresses, connection and limit of the lane.
    fn lane_mut(&mut self, lane: Lane) -> Option<(&mut Route, &mut Conn, &mut MonoUs)> {
        match (lane, &mut self.hop.other) {
            (Lane::First, _) => Some((&mut self.hop.route, &mut self.conn, &mut self.timer)),
            (Lane::Other, Other::Raced(race)) => {
                Some((&mut race.route, &mut race.conn, &mut race.limit))
            }
            (Lane::Other, _) => None,
        }
    }
}
