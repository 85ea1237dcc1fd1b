//! Redirects: where a response sends the attempt, whether it goes there, and how the next hop
//! starts. It knows policies and limits; what a Location means is in `model::url`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use model::FailureClass;
use model::evidence::{HopSeen, shorten};
use model::limits::{ATTEMPT_READ_MAX_BYTES, REDIRECTS_MAX};
use model::outcome::{PHASE_ABSENT, Phases, flags};
use model::target::Redirect;
use model::time::{MonoUs, Now};
use model::url::{Host, LocationError, Scheme, TargetUrl};

use super::dns::Dns;
use super::families::{Lane, Other};
use super::reuse::{After, Carrier};
use super::{Attempt, AttemptSpec, Conn, Hop, HostRef, NO_TIMER, Rules, Stage, bit, pending};
use crate::http1::Flaw;
use crate::http1::head::{Head, Location};
use crate::http1::request::Credentials;
use crate::http1::scan::Scan;
use crate::shared::Shared;
use crate::tls::TlsLink;

/// Statuses that send somewhere else, if a Location says where.
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
/// Longest URL of a hop that is kept for evidence, in bytes.
const URL_KEPT_MAX_BYTES: usize = 256;
/// Longest Location that an error text quotes, in bytes, its quotes and escapes included.
const QUOTED_MAX_BYTES: usize = 200;

/// The way of an attempt that was redirected at least once.
#[derive(Debug)]
pub(super) struct Journey {
    /// Of the first hop: credentials are meant for it.
    origin: TargetUrl,
    /// Of the hop that runs.
    url: TargetUrl,
    /// Fingerprints of every URL so far.
    seen: Vec<u64>,
    /// Hops that are over.
    hops: Vec<HopSeen>,
    /// Their phases, added up.
    sum: Phases,
    /// The earliest expiry that their certificates showed, 0 = none.
    not_after_days: u16,
    hop_started: MonoUs,
    /// What it was not led by, quoted; empty while there is no such.
    not_followed: String,
    /// The connection of a hop that is over, to be kept, and where it leads.
    pub(super) left: Option<(Conn, SocketAddr)>,
    /// Kept connections that brought no answer, in hops that are over.
    pub(super) reuses_refused: u32,
    /// Flags, and bytes that are still read, as the hops that are over have left them.
    pub(super) before: (u16, u32),
}

impl Journey {
    fn new(url: TargetUrl, started: MonoUs) -> Self {
        Self {
            origin: url.clone(),
            seen: vec![fingerprint(&url)],
            url,
            hops: Vec::new(),
            sum: Phases::NONE,
            not_after_days: 0,
            hop_started: started,
            not_followed: String::new(),
            left: None,
            reuses_refused: 0,
            before: (0, ATTEMPT_READ_MAX_BYTES),
        }
    }

    /// Where `location` leads, if that is somewhere new.
    fn next(&self, location: &[u8]) -> Result<TargetUrl, Flaw> {
        if self.hops.len() >= usize::from(REDIRECTS_MAX) {
            return Err(Flaw {
                class: FailureClass::RedirectLimit,
                why: "more than 10 redirects",
            });
        }
        let next = self.url.join(location).map_err(|error| Flaw {
            class: FailureClass::RedirectBadLocation,
            why: match error {
                LocationError::Scheme => "the Location is neither http nor https",
                LocationError::TooLong => "the Location is longer than 8 KiB",
                LocationError::Invalid => "the Location does not parse as a URL",
            },
        })?;
        if self.seen.contains(&fingerprint(&next)) {
            return Err(Flaw {
                class: FailureClass::RedirectLoop,
                why: "the redirects lead back to a URL that they came from",
            });
        }
        Ok(next)
    }

    /// Whether credentials may go to the hop that runs: it is the host they are meant for, and
    /// nobody can read along who could not before.
    fn credentials(&self) -> Credentials {
        let (from, to) = (&self.origin, &self.url);
        let same_host = from.host() == to.host();
        let same_port = from.scheme() == to.scheme() && from.port() == to.port();
        let default_port = |url: &TargetUrl| url.port() == url.scheme().default_port();
        let upgraded = (from.scheme(), to.scheme()) == (Scheme::Http, Scheme::Https)
            && default_port(from)
            && default_port(to);
        if same_host && (same_port || upgraded) {
            Credentials::Kept
        } else {
            Credentials::Withheld
        }
    }

    /// The phases of the whole way; `last` are those of the hop that runs.
    pub(super) fn phases(&self, last: &Phases) -> Phases {
        let add = |one: u32, other: u32| match (one, other) {
            (PHASE_ABSENT, us) | (us, PHASE_ABSENT) => us,
            (one, other) => one.saturating_add(other).min(PHASE_ABSENT - 1),
        };
        Phases {
            dns_us: add(self.sum.dns_us, last.dns_us),
            connect_us: add(self.sum.connect_us, last.connect_us),
            tls_us: add(self.sum.tls_us, last.tls_us),
            ttfb_us: add(self.sum.ttfb_us, last.ttfb_us),
            body_us: add(self.sum.body_us, last.body_us),
            total_us: last.total_us,
        }
    }

    /// The earliest expiry of all hops, `last` among them; 0 = no TLS.
    pub(super) fn not_after_days(&self, last: u16) -> u16 {
        match (self.not_after_days, last) {
            (0, days) | (days, 0) => days,
            (one, other) => one.min(other),
        }
    }

    /// The Location that is not followed, quoted; both where two differ.
    pub(super) fn not_followed(&self) -> &str {
        &self.not_followed
    }

    pub(super) fn hops(&self) -> &[HopSeen] {
        &self.hops
    }

    /// The name of the hop that runs; `None` for a literal.
    pub(super) fn name(&self) -> Option<&str> {
        match self.url.host() {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }
}

/// Two URLs with the same fingerprint are taken for one.
fn fingerprint(url: &TargetUrl) -> u64 {
    let mut hasher = DefaultHasher::new();
    url.hash(&mut hasher);
    hasher.finish()
}

/// What a response with such a status says of the place to go to.
#[derive(Debug)]
pub(super) enum Redirected {
    /// The bytes of its Location.
    To(Vec<u8>),
    /// Those of the two that differ.
    Ambiguously([Vec<u8>; 2]),
}

impl Redirected {
    /// Where the response with `head`, which lies at the start of `bytes`, leads to; `None`:
    /// nowhere.
    pub(super) fn of(head: &Head, bytes: &[u8]) -> Option<Self> {
        if !STATUSES.contains(&head.status) {
            return None;
        }
        let text = |(start, end): (u32, u32)| bytes[start as usize..end as usize].to_vec();
        match head.location {
            Location::Absent => None,
            Location::At(start, end) => Some(Self::To(text((start, end)))),
            Location::Ambiguous(both) => Some(Self::Ambiguously(both.map(text))),
        }
    }

    /// For an error text.
    fn quoted(&self) -> String {
        match self {
            Self::To(location) => quoted(location),
            Self::Ambiguously([one, other]) => format!("{} and {}", quoted(one), quoted(other)),
        }
    }
}

/// A Location in quotes, what is no text in it escaped, without a user's name and password.
fn quoted(location: &[u8]) -> String {
    let text = String::from_utf8_lossy(location);
    let (place, query) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let mut shown = String::new();
    for (index, segment) in place.split_inclusive(['/', '\\']).enumerate() {
        // What stands before the first slash may be a scheme.
        let scheme = segment
            .find(':')
            .filter(|_| index == 0)
            .map_or(0, |at| at + 1);
        match segment.rfind('@').filter(|at| *at > scheme) {
            Some(at) => shown.extend([&segment[..scheme], "…", &segment[at..]]),
            None => shown.push_str(segment),
        }
    }
    let mut quoted = format!("{:?}", shown + query);
    if quoted.len() > QUOTED_MAX_BYTES {
        shorten(&mut quoted, QUOTED_MAX_BYTES - 1);
        quoted.push('"');
    }
    quoted
}

impl Attempt {
    /// The response redirects.
    pub(super) fn on_redirect(&mut self, status: u16, redirected: &Redirected, now: Now) {
        let rules = self.rules.as_ref().map(Rules::set);
        let policy = rules.map_or(Redirect::default(), |rules| rules.redirect);
        let journey = self.journey.take();
        let mut journey =
            journey.unwrap_or_else(|| Box::new(Journey::new(self.first_url(), self.started)));
        let next = match redirected {
            _ if policy == Redirect::Fail => Err(Flaw {
                class: FailureClass::RedirectRefused,
                why: "it answers with a redirect, which `redirect = fail` forbids",
            }),
            Redirected::To(location) => journey.next(location),
            Redirected::Ambiguously(_) => Err(Flaw {
                class: FailureClass::RedirectBadLocation,
                why: "two Location fields differ",
            }),
        };
        if next.is_err() {
            journey.not_followed = redirected.quoted();
        }
        self.journey = Some(journey);
        match next {
            Ok(url) => self.leave_hop(status, url, policy, now),
            Err(flaw) => self.fail(flaw, now),
        }
    }

    /// Where the attempt began.
    fn first_url(&self) -> TargetUrl {
        let text = std::str::from_utf8(&self.buffers.url).unwrap_or_default();
        TargetUrl::parse(text).expect("the URL of a target is in its canonical form")
    }

    /// Ends the hop that runs; the next one begins with [`Attempt::turn`]. Its body need not
    /// arrive.
    fn leave_hop(&mut self, status: u16, next: TargetUrl, policy: Redirect, now: Now) {
        self.enter(Stage::Turning, now);
        let alert = policy == Redirect::Alert;
        self.flags |= if alert { flags::REDIRECT_ALERT } else { 0 };
        let days = self.tls.as_ref().map_or(0, |link| link.not_after_days());
        let journey = self.journey.as_mut().expect("a redirect makes a journey");
        if (journey.url.scheme(), next.scheme()) == (Scheme::Https, Scheme::Http) {
            self.flags |= flags::REDIRECT_DOWNGRADE;
        }
        let total_us = now.mono.since(journey.hop_started);
        self.phases.total_us = total_us.min(u64::from(PHASE_ABSENT - 1)) as u32;
        let mut url = std::mem::replace(&mut journey.url, next).to_string();
        shorten(&mut url, URL_KEPT_MAX_BYTES);
        journey.hops.push(HopSeen {
            url,
            status,
            phases_us: self.phases.values(),
        });
        journey.seen.push(fingerprint(&journey.url));
        journey.sum = journey.phases(&self.phases);
        journey.not_after_days = journey.not_after_days(days);
        journey.hop_started = now.mono;
        self.hops += 1;
    }

    /// Starts what follows a turn: the next hop, or this one anew.
    pub(super) fn turn(&mut self, shared: &Shared, now: Now) {
        if self.carrier == Carrier::Refused {
            self.ask_afresh(shared, now);
        } else {
            self.start_next_hop(shared, now);
        }
    }

    /// Starts the next hop. The connection of the last one is kept or closed.
    fn start_next_hop(&mut self, shared: &Shared, now: Now) {
        let journey = self.journey.as_ref().expect("a turn is part of a journey");
        let (url, credentials) = (journey.url.clone(), journey.credentials());
        let rules = self.rules.clone();
        let spec = self.spec_of(&url, rules.as_ref());
        self.buffers.carry.clear();
        self.write_request(&spec, credentials, shared);
        self.note_reuse();
        let (refused, before) = (self.reuses_refused(), (self.flags, self.read_left));
        let left = self.left_to_keep();
        self.leave_connection();
        self.tls = TlsLink::of(&spec);
        self.phases = Phases::NONE;
        (self.mark, self.timer) = (now.mono, NO_TIMER);
        (self.status, self.sending, self.why) = (0, false, "");
        (self.errno, self.send_errno) = (None, None);
        self.hop = Hop::new(&spec);
        (self.carrier, self.after) = (Carrier::of(&spec, shared), After::Close);
        self.start_hop(spec.host, shared, now);
        let left = left.filter(|_| self.stage != Stage::Ended);
        let journey = self.journey.as_mut();
        let journey = journey.expect("a turn is part of a journey");
        (journey.left, journey.reuses_refused) = (left, refused);
        journey.before = before;
        if let Some((conn, _)) = left {
            self.closing &= !bit(conn);
            self.pending |= pending::KEEP;
        }
    }

    /// Writes the request of the hop that runs once more.
    pub(super) fn rewrite_request(&mut self, shared: &Shared) {
        let (url, credentials) = match &self.journey {
            Some(journey) => (journey.url.clone(), journey.credentials()),
            None => (self.first_url(), Credentials::Kept),
        };
        let rules = self.rules.clone();
        let spec = self.spec_of(&url, rules.as_ref());
        self.write_request(&spec, credentials, shared);
    }

    fn write_request(&mut self, spec: &AttemptSpec<'_>, to: Credentials, shared: &Shared) {
        self.buffers.out.clear();
        shared.fields.write(spec, to, &mut self.buffers.out);
    }

    /// A hop to `url`.
    fn spec_of<'a>(&self, url: &'a TargetUrl, rules: Option<&'a Rules>) -> AttemptSpec<'a> {
        AttemptSpec {
            scheme: url.scheme(),
            host: match url.host() {
                Host::Name(name) => HostRef::Name(name),
                Host::Address(address) => HostRef::Address(*address),
            },
            port: url.port(),
            path: url.path(),
            method: self.hop.method,
            timeout_ms: self.timeout_ms,
            head_only: self.head_only,
            rules,
        }
    }
}

impl Hop {
    /// The first steps towards `spec` are still to be made.
    pub(super) fn new(spec: &AttemptSpec<'_>) -> Self {
        Self {
            route: spec.route(),
            other: Other::Nothing,
            lane: Lane::First,
            each: false,
            dns: Dns::default(),
            port: spec.port,
            scheme: spec.scheme,
            method: spec.method,
            interims: 0,
            scan: Scan::default(),
            body: None,
            search: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_quoted_so_that_it_can_be_shown() {
        for (location, shown) in [
            (&b"/loop"[..], r#""/loop""#),
            (b"", r#""""#),
            (b"mailto:a@b.test", r#""mailto:…@b.test""#),
            (b"/@user/x", r#""/@user/x""#),
            (br"\\\\user:secret@e.test", r#""\\\\\\\\…@e.test""#),
            (b"http://user:secret@e.test/a@b", r#""http://…@e.test/…@b""#),
            (b"//a:b@c@e.test?x@y", r#""//…@e.test?x@y""#),
            (
                b"https://user:secret@e.test\\@f",
                r#""https://…@e.test\\@f""#,
            ),
            (b"/a\x1b[31m\t\"\xff", "\"/a\\u{1b}[31m\\t\\\"\u{fffd}\""),
            ("/\u{202e}x".as_bytes(), r#""/\u{202e}x""#),
        ] {
            assert_eq!(quoted(location), shown);
        }
        for long in [
            vec![b'x'; 9_000],
            vec![1; 9_000],
            "é".repeat(900).into_bytes(),
        ] {
            let shown = quoted(&long);
            assert!((190..=QUOTED_MAX_BYTES).contains(&shown.len()), "{shown}");
            assert!(shown.ends_with("…\""), "{shown}");
        }
    }
}
