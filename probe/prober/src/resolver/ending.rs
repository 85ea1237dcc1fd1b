//! How a question ends: with addresses, with old addresses, or with a failure.
//!
//! | the name | what follows |
//! |---|---|
//! | has addresses, and both families are wanted | the other family is a new question |
//! | has addresses | they are kept for their TTL |
//! | has none, and the other family was not asked for | the other family is a new question |
//! | has none, or does not exist ([`denial`](super::denial)) | remembered as long as the SOA says |
//! | could not be asked for | the last known addresses, marked stale, for an hour past their TTL |
//! | has such addresses, and one try was silent | who waits has them; the question goes on |
//! | has such addresses, and there is no room to ask | the same; where it is in the queue it ends |
//! | could not, none are known, other family not asked for | that one, with one try |
//! | could not, and none are known | remembered for 5 s, so that one name cannot storm |
//!
//! What we could not ask at all (`connect.local`) is not remembered, and no failure takes the
//! place of addresses within their TTL: a prefetch may fail. With `both` each family must have
//! addresses; else a family that fails is of no account once the other one is there, and can be
//! asked for again as soon as a failure of its own would be forgotten.
//!
//! A question for records ends with them or with its failure, and nothing of it is remembered.
//!
//! Where the preferred family cannot be had and the other one can, what is found lives for the
//! shortest TTL: the preferred one may be back. Where neither can, it is the first failure that is
//! told. The other family is not asked for while the resolvers are sick.
//!
//! Each end is told to the health of the resolvers; while they are sick, timeouts and SERVFAIL
//! speak of them and not of the name. That every upstream refuses or does not listen does at once.

use model::limits::{DNS_NEGATIVE_TTL_MIN_MS, DNS_TRIES_MAX, DNS_TTL_MAX_MS, DNS_TTL_MIN_MS};
use model::{FailureClass, MonoUs};

use super::answer::{Addresses, DnsFailure, ResolvedName, Scope};
use super::denial::Denial;
use super::flights::{Found, Trouble};
use super::line::{Life, Negative, Positive, Width};
use super::{HostId, IpPolicy, Lookup, Resolver, Source};

/// The response code of an answer.
const NOERROR: u16 = 0;

impl Resolver {
    /// Addresses of the family that was asked for.
    pub(super) fn on_addresses(
        &mut self,
        flight: u32,
        addresses: Addresses,
        ttl_ms: u64,
        now: MonoUs,
    ) {
        let last = self.policy.families().len() - 1;
        let entry = self.flights.get_mut(flight);
        let server = entry.upstream;
        let max_ms = match entry.failed {
            Some(_) => DNS_TTL_MIN_MS,
            None => DNS_TTL_MAX_MS,
        };
        let ttl_ms = ttl_ms.min(max_ms);
        let new = Found {
            positive: Positive { addresses, server },
            until: now.plus_ms(ttl_ms),
            ttl_ms,
            asked: true,
        };
        match entry.found.take() {
            Some(first) if now < first.until => self.succeed(flight, &first.joined(&new), now),
            Some(_) if self.policy == IpPolicy::Both => self.give_up(flight, now),
            None if entry.wide && usize::from(entry.step) < last => {
                entry.found = Some(new);
                self.ask_next_family(flight, now);
            }
            // What came first, if anything did, is too old by now.
            Some(_) | None => self.succeed(flight, &new, now),
        }
    }

    /// No address of the family that was asked for.
    pub(super) fn on_empty(&mut self, flight: u32, ttl_ms: u64, now: MonoUs) {
        let last = self.policy.families().len() - 1;
        let needs_each = self.policy == IpPolicy::Both;
        let entry = self.flights.get_mut(flight);
        entry.empty_ttl_ms = entry.empty_ttl_ms.min(ttl_ms);
        let asks_addresses = entry.question.is_none();
        if usize::from(entry.step) < last && !needs_each && asks_addresses {
            return self.ask_next_family(flight, now);
        }
        let ttl_ms = entry.empty_ttl_ms;
        self.fail(
            flight,
            FailureClass::DnsNoAddress,
            Some(NOERROR),
            ttl_ms,
            now,
        );
    }

    /// The next family is a new question, to the upstream that has just answered.
    fn ask_next_family(&mut self, flight: u32, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        entry.step += 1;
        (entry.tries, entry.spent, entry.trouble) = (0, 0, Trouble::Local);
        let upstream = entry.upstream;
        self.ask(flight, upstream, now);
    }

    /// Whether the other family may do better than one that fails like that.
    fn is_other_left(&mut self, flight: u32, class: FailureClass) -> bool {
        use FailureClass as F;
        let is_of_name = matches!(class, F::DnsServfail | F::DnsTimeout | F::DnsMalformed);
        let prefers = matches!(self.policy, IpPolicy::V4First | IpPolicy::V6First);
        let sick = self.health.is_sick();
        let entry = self.flights.get_mut(flight);
        is_of_name && prefers && !sick && entry.step == 0 && entry.question.is_none()
    }

    /// The preferred family cannot be had: the other one has one try, so that a name which fails
    /// altogether does not take twice as long.
    fn ask_other_family(&mut self, flight: u32, failed: Negative, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        entry.failed = Some(failed);
        entry.step += 1;
        (entry.tries, entry.spent, entry.trouble) = (DNS_TRIES_MAX - 1, 0, Trouble::Local);
        let upstream = self.turns.take(now);
        self.ask(flight, upstream, now);
    }

    /// Ends the question with what is known of its trouble.
    pub(super) fn give_up(&mut self, flight: u32, now: MonoUs) {
        if self.end_by_denial(flight, now) {
            return;
        }
        let (class, rcode) = match self.flights.get_mut(flight).trouble {
            Trouble::Local => (FailureClass::ConnectLocal, None),
            Trouble::Refused { rcode } => (FailureClass::DnsResolverSick, rcode),
            Trouble::Silent => (FailureClass::DnsTimeout, None),
            Trouble::Answered { class, rcode } => (class, rcode),
        };
        self.fail(flight, class, rcode, DNS_NEGATIVE_TTL_MIN_MS, now);
    }

    fn succeed(&mut self, flight: u32, found: &Found, now: MonoUs) {
        let last = self.policy.families().len() - 1;
        let width = if usize::from(self.flights.get_mut(flight).step) == last {
            Width::Wide
        } else {
            Width::Narrow
        };
        self.observe(flight, false, now);
        let tries = self.flights.get_mut(flight).tries_made();
        self.conclude(flight, found, width, (Some(NOERROR), tries), now);
    }

    /// Remembers what was found, and gives it to who waits, with the code and the tries of the
    /// question.
    fn conclude(
        &mut self,
        flight: u32,
        found: &Found,
        width: Width,
        (rcode, tries): (Option<u16>, u8),
        now: MonoUs,
    ) {
        let entry = self.flights.get_mut(flight);
        let host = entry.host;
        let life = Life {
            until: found.until,
            ttl_ms: found.ttl_ms,
            width,
            lacks: entry.failed.map(|failed| failed.class),
        };
        self.hosts.keep(host, &found.positive, life);
        let scope = self.scope(width.is_wide(now));
        let name = ResolvedName {
            rcode,
            tries,
            ..self.resolved(host, found.positive, scope, Source::Asked)
        };
        self.land(flight, Ok(name));
    }

    /// The question failed: what it gives nevertheless, or the failure.
    pub(super) fn fail(
        &mut self,
        flight: u32,
        class: FailureClass,
        rcode: Option<u16>,
        ttl_ms: u64,
        now: MonoUs,
    ) {
        let entry = self.flights.get_mut(flight);
        let mut negative = Negative {
            class,
            tries: entry.tries,
            server: entry.upstream,
            rcode,
            agreed: entry.denial == Denial::Agreed,
        };
        let mut ttl_ms = ttl_ms;
        // That the name does not exist holds for every family.
        if let Some(first) = entry.failed.filter(|_| class != FailureClass::DnsNxdomain) {
            (negative, ttl_ms) = (first, DNS_NEGATIVE_TTL_MIN_MS);
        }
        self.settle_failure(flight, negative, ttl_ms, now);
    }

    /// What a failure comes to.
    fn settle_failure(&mut self, flight: u32, negative: Negative, ttl_ms: u64, now: MonoUs) {
        let class = negative.class;
        let entry = self.flights.get_mut(flight);
        let found = entry.found.filter(|found| now < found.until);
        let is_ours = matches!(
            class,
            FailureClass::ConnectLocal | FailureClass::LocalPressure
        );
        if let Some(found) = found.filter(|_| self.policy != IpPolicy::Both) {
            if found.asked || !is_ours {
                self.observe(flight, !found.asked && is_of_resolvers(class), now);
            }
            let width = Width::WideUntil(now.plus_ms(ttl_ms));
            let said = (negative.rcode, negative.tries);
            return self.conclude(flight, &found, width, said, now);
        }
        let (host, question) = (entry.host, entry.question);
        if !is_ours {
            self.observe(flight, is_of_resolvers(class), now);
        }
        if let Some(question) = question {
            let failure = self.failure(negative);
            return self.answer(flight, question, Err(failure));
        }
        let fresh = self.hosts.is_fresh(host, now);
        if (is_ours || is_of_resolvers(class))
            && let Some(old) = self.hosts.stale(host, DNS_NEGATIVE_TTL_MIN_MS, now)
        {
            let scope = self.known_scope(host, now);
            let source = if fresh { Source::Cache } else { Source::Stale };
            let name = ResolvedName {
                rcode: negative.rcode,
                tries: negative.tries,
                ..self.resolved(host, old, scope, source)
            };
            return self.land(flight, Ok(name));
        }
        if self.is_other_left(flight, class) {
            return self.ask_other_family(flight, negative, now);
        }
        if !is_ours && !fresh {
            self.hosts.fail(host, negative, ttl_ms, now);
        }
        let failure = self.failure(negative);
        self.land(flight, Err(failure));
    }

    /// Gives those who wait the addresses past their TTL, if there are some: a check may be over
    /// before the last try would be (RFC 8767, section 5). A datagram may only have been lost, so
    /// the question goes on, and says nothing of the resolvers until its end.
    pub(super) fn stand_in(&mut self, flight: u32, now: MonoUs) {
        let entry = self.flights.get_mut(flight);
        let is_first = entry.found.is_none() && entry.failed.is_none();
        let is_first = is_first && !entry.denial.is_by_one();
        let (host, tries) = (entry.host, entry.tries);
        if !is_first || entry.question.is_some() || self.hosts.is_fresh(host, now) {
            return;
        }
        if let Some(old) = self.stale_name(host, now) {
            // For what is owed to them now, beside the flight's own.
            self.hosts.retain(host);
            self.flights
                .serve(flight, Ok(ResolvedName { tries, ..old }));
        }
    }

    /// What is said of a host that cannot be asked for.
    pub(super) fn not_asked(&mut self, host: HostId, failure: DnsFailure, now: MonoUs) -> Lookup {
        match self.stale_name(host, now) {
            Some(old) => {
                self.stats.stale_hits += 1;
                Lookup::Hit(old)
            }
            None => Lookup::Failed(failure),
        }
    }

    /// The addresses past their TTL, if there are some that may still be used.
    fn stale_name(&mut self, host: HostId, now: MonoUs) -> Option<ResolvedName> {
        let old = self.hosts.stale(host, DNS_NEGATIVE_TTL_MIN_MS, now)?;
        let scope = self.known_scope(host, now);
        Some(self.resolved(host, old, scope, Source::Stale))
    }

    /// Somebody waits for this name who has not the time for a second try: as after a silent try,
    /// also where the first one waits for its turn.
    pub fn hurry(&mut self, host: HostId, now: MonoUs) {
        if let Some(flight) = self.hosts.flight(host) {
            self.stand_in(flight, now);
        }
    }

    /// There was no turn for the question in time.
    pub(super) fn give_up_queued(&mut self, flight: u32, now: MonoUs) {
        let negative = Negative {
            class: FailureClass::LocalPressure,
            tries: 0,
            rcode: None,
            server: u8::MAX,
            agreed: false,
        };
        self.settle_failure(flight, negative, DNS_NEGATIVE_TTL_MIN_MS, now);
    }

    /// What an answer from the line of the host is.
    pub(super) fn known_scope(&self, host: HostId, now: MonoUs) -> Scope {
        self.scope(self.hosts.life(host).width.is_wide(now))
    }

    /// What an answer is that is `wide` or not.
    fn scope(&self, wide: bool) -> Scope {
        match (self.policy, wide) {
            (IpPolicy::Both, _) => Scope::Each,
            (_, true) => Scope::Wide,
            (_, false) => Scope::Narrow,
        }
    }

    /// Ends the flight.
    pub(super) fn land(&mut self, flight: u32, result: Result<ResolvedName, DnsFailure>) {
        let entry = self.flights.get_mut(flight);
        let host = entry.host;
        if let (Some(question), Err(failure)) = (entry.question, result) {
            return self.answer(flight, question, Err(failure));
        }
        self.hosts.set_flight(host, None);
        self.flights.land(flight, result);
    }

    /// Tells the health of the resolvers what came of a name.
    pub(super) fn observe(&mut self, flight: u32, failed: bool, now: MonoUs) {
        let host = self.flights.get_mut(flight).host;
        match self.canaries.iter().position(|canary| *canary == host) {
            Some(at) => self.health.note_canary(at, failed, now),
            None if self.hosts.is_ours(host) => {
                self.health.note(self.hosts.name_hash(host), failed, now);
            }
            None => {}
        }
    }

    /// Asks for every canary, ahead of the queue: sick resolvers make it long.
    pub(super) fn ask_canaries(&mut self, now: MonoUs) {
        if self.sockets.upstreams().is_empty() {
            return;
        }
        for at in 0..self.canaries.len() {
            let host = self.canaries[at];
            if self.hosts.flight(host).is_some() {
                continue;
            }
            let flight = self
                .flights
                .start_at_once(host, self.policy == IpPolicy::Both);
            self.hosts.retain(host);
            self.hosts.set_flight(host, Some(flight));
            let upstream = self.turns.take(now);
            self.ask(flight, upstream, now);
        }
    }

    /// The waiter's time is over before its answer came: why, as far as that is known by now.
    pub fn overdue(&mut self, host: HostId, waiter: u64) -> DnsFailure {
        let flight = self.questions.get(&waiter).copied();
        let flight = flight.or_else(|| self.hosts.flight(host));
        let Some(entry) = flight.map(|flight| self.flights.get_mut(flight)) else {
            return self.failure(Negative {
                class: FailureClass::DnsTimeout,
                tries: 0,
                rcode: None,
                server: u8::MAX,
                agreed: false,
            });
        };
        if let Some(first) = entry.failed.or(entry.denial.so_far(entry.tries)) {
            return self.failure(first);
        }
        let trouble = entry.query.is_none().then_some(entry.trouble);
        let class = match (entry.tries, trouble) {
            // It waits in our own queue; which is long when the resolvers are sick.
            (0, _) if !self.health.is_sick() => FailureClass::LocalPressure,
            (1.., Some(Trouble::Local)) => FailureClass::ConnectLocal,
            (1.., Some(Trouble::Refused { .. })) => FailureClass::DnsResolverSick,
            _ => FailureClass::DnsTimeout,
        };
        let asked = entry.tries > 0;
        let negative = Negative {
            class,
            tries: entry.tries,
            rcode: None,
            server: if asked { entry.upstream } else { u8::MAX },
            agreed: false,
        };
        self.failure(negative)
    }

    /// What is said of a failure: while the resolvers are sick it is theirs.
    pub(super) fn failure(&mut self, negative: Negative) -> DnsFailure {
        let Negative {
            class,
            tries,
            rcode,
            server,
            agreed,
        } = negative;
        let many = self.health.sick().filter(|_| is_of_resolvers(class));
        let class = self.told(class);
        self.stats.sick_answers += u64::from(class == FailureClass::DnsResolverSick);
        let server = self.sockets.upstreams().get(usize::from(server)).copied();
        DnsFailure {
            class,
            rcode,
            server,
            tries,
            many,
            agreed,
        }
    }

    /// What a failure of this class is called now: while the resolvers are sick it is theirs.
    pub(super) fn told(&self, class: FailureClass) -> FailureClass {
        if is_of_resolvers(class) && self.health.is_sick() {
            FailureClass::DnsResolverSick
        } else {
            class
        }
    }
}

impl Found {
    /// These and then `other`, for as long as all of them last.
    fn joined(&self, other: &Self) -> Self {
        let first = if self.until <= other.until {
            self
        } else {
            other
        };
        Self {
            positive: Positive {
                addresses: self.positive.addresses.joined(&other.positive.addresses),
                ..self.positive
            },
            ..*first
        }
    }
}

/// Failures that sick resolvers would cause too.
fn is_of_resolvers(class: FailureClass) -> bool {
    use FailureClass as F;
    matches!(class, F::DnsTimeout | F::DnsServfail | F::DnsResolverSick)
}
