//! The table: every check that is made of a server, and what must come of it. Pure.

use model::inbox::OneShotReport;
use model::outcome::{Phases, flags};
use model::{FailureClass as C, TargetSpec, Verdict};

use super::{Brand, Coding, Framing, LAST_WORDS, PAGE_BYTES, Ports};
use crate::conformance::peers::SITE;

/// Flags that the checks before decide, or that every check here has.
const NOT_TOLD: u16 =
    flags::DNS_CACHED | flags::TLS_RESUMED | flags::TLS_CHAIN_CACHED | flags::COMMANDED;
/// Asks for a packed page where no rule does.
const WANTS_GZIP: &str = "Accept-Encoding: gzip";

/// What is seen of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) class: Option<C>,
    pub(super) verdict: Verdict,
    /// 0: none.
    pub(super) status: u16,
    pub(super) hops: u8,
    pub(super) flags: u16,
    /// Bits in the order of [`Phases::NAMES`].
    pub(super) phases: u8,
    /// The version, where the last connection was secured.
    pub(super) tls: &'static str,
}

const DNS: u8 = 1;
const CONNECT: u8 = 1 << 1;
const TLS: u8 = 1 << 2;
const TTFB: u8 = 1 << 3;
const BODY: u8 = 1 << 4;
const TOTAL: u8 = 1 << 5;

impl Seen {
    /// An answer of the status; a success.
    pub(super) const fn up(status: u16) -> Self {
        Self {
            class: None,
            verdict: Verdict::Up,
            status,
            hops: 0,
            flags: 0,
            phases: DNS | CONNECT | TTFB | BODY | TOTAL,
            tls: "",
        }
    }

    /// An answer of the status, or none for 0; a failure.
    pub(super) const fn down(class: C, status: u16) -> Self {
        Self {
            class: Some(class),
            verdict: Verdict::Down,
            ..Self::up(status)
        }
    }

    /// No request was answered.
    pub(super) const fn unanswered(self) -> Self {
        Self {
            status: 0,
            phases: self.phases & !TTFB & !BODY,
            ..self
        }
    }

    /// The request was written, and the connection closed without a byte.
    pub(super) const fn unheard(self) -> Self {
        Self {
            phases: self.phases & !BODY,
            ..self
        }
    }

    /// By way of so many redirects.
    const fn after(self, hops: u8) -> Self {
        Self { hops, ..self }
    }

    const fn flagged(self, flags: u16) -> Self {
        Self {
            flags: self.flags | flags,
            ..self
        }
    }

    /// Over TLS, at least once.
    const fn secured(self) -> Self {
        Self {
            phases: self.phases | TLS,
            ..self
        }
    }

    /// Over this version of TLS at last.
    const fn over(self, version: &'static str) -> Self {
        Self {
            tls: version,
            ..self.secured()
        }
    }

    fn of(report: &OneShotReport) -> Self {
        let (outcome, evidence) = (&report.outcome, &report.evidence);
        let phases = outcome.phases.values();
        let reached = phases.iter().enumerate().filter(|(_, us)| us.is_some());
        let version = evidence.tls.as_ref().map_or("", |tls| &tls.version);
        let known = ["TLSv1.2", "TLSv1.3"]
            .into_iter()
            .find(|name| *name == version);
        Self {
            class: outcome.failure(),
            verdict: outcome.verdict(),
            status: outcome.status,
            hops: outcome.hops,
            flags: outcome.flags & !NOT_TOLD,
            phases: reached.fold(0, |bits, (at, _)| bits | 1 << at),
            tls: known.unwrap_or_default(),
        }
    }
}

/// One check.
pub(super) struct Cell {
    pub(super) spec: TargetSpec,
    /// What is known of the bytes that its body takes on the wire: at least so many.
    pub(super) body_bytes: u64,
    seen: Seen,
    /// How the answer must be framed and coded, by its own head.
    way: Option<(Framing, Coding)>,
}

impl Cell {
    fn new(url: String, seen: Seen) -> Self {
        Self {
            spec: TargetSpec {
                url,
                ..TargetSpec::default()
            },
            body_bytes: 0,
            seen,
            way: None,
        }
    }

    fn method(mut self, method: &str) -> Self {
        self.spec.method = Some(method.to_owned());
        self
    }

    /// The page comes in this way. It is read to its end when it has a length, or when the check
    /// looks for its last words.
    fn comes(mut self, framing: Framing, coding: Coding) -> Self {
        self.way = Some((framing, coding));
        let is_whole = framing == Framing::Length || self.looks_for(LAST_WORDS);
        if is_whole && coding == Coding::Identity {
            self.body_bytes = PAGE_BYTES as u64;
        }
        self
    }

    fn looks_for(&self, text: &str) -> bool {
        let mut rules = self.spec.keyword.iter().chain(&self.spec.forbidden);
        rules.any(|rule| rule == text)
    }

    /// What is not as the table says.
    pub(super) fn judge(&self, report: &OneShotReport) -> Option<String> {
        let (outcome, evidence) = (&report.outcome, &report.evidence);
        let seen = Seen::of(report);
        let secured = seen.tls.is_empty() || outcome.not_after_days > 0;
        let way = way(&evidence.head);
        let comes = self.way.is_none_or(|wanted| way == wanted);
        let length = length(&evidence.head);
        let is_whole = self.body_bytes == 0 || length.is_none_or(|length| length == PAGE_BYTES);
        let is_right = seen == self.seen && secured && comes && is_whole;
        (!is_right).then(|| {
            format!(
                "{:?}:\n  {seen:?}, {way:?}, {length:?}\n  and not {:?}, {:?}\n  {} {}",
                self.spec, self.seen, self.way, evidence.text, evidence.head
            )
        })
    }
}

/// How the answer with this head is framed and coded.
fn way(head: &str) -> (Framing, Coding) {
    let has = |line: &str| head.lines().any(|found| found.eq_ignore_ascii_case(line));
    let framing = if has("Transfer-Encoding: chunked") {
        Framing::Chunked
    } else if length(head).is_some() {
        Framing::Length
    } else {
        Framing::Close
    };
    let coding = if has("Content-Encoding: gzip") {
        Coding::Gzip
    } else {
        Coding::Identity
    };
    (framing, coding)
}

fn length(head: &str) -> Option<usize> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case("Content-Length"))?;
    value.parse().ok()
}

/// Every check of a server of this kind.
pub(super) fn cells(brand: &Brand, ports: Ports) -> Vec<Cell> {
    let mut cells = Vec::new();
    for scheme in [Scheme::http(ports), Scheme::https(ports)] {
        cells.extend(pages(brand, &scheme));
        cells.extend(statuses(&scheme));
        cells.extend(redirects(&scheme));
    }
    cells.extend(handshakes(brand, ports));
    cells
}

/// HTTP or HTTPS.
struct Scheme {
    base: String,
    is_secured: bool,
    /// Where it leads to the other one, over which version that is, and the flag for it.
    other: (&'static str, &'static str, u16),
}

/// What is agreed on with a server that has both versions.
const LATEST: &str = "TLSv1.3";

impl Scheme {
    fn http(ports: Ports) -> Self {
        Self {
            base: format!("http://{SITE}:{}", ports.http),
            is_secured: false,
            other: ("/secure", LATEST, 0),
        }
    }

    fn https(ports: Ports) -> Self {
        Self {
            base: format!("https://{SITE}:{}", ports.https),
            is_secured: true,
            other: ("/plain", "", flags::REDIRECT_DOWNGRADE),
        }
    }

    fn cell(&self, path: &str, seen: Seen) -> Cell {
        let seen = if self.is_secured {
            seen.over(LATEST)
        } else {
            seen
        };
        Cell::new(format!("{}{path}", self.base), seen)
    }
}

/// The page in every way in which the server sends it.
fn pages(brand: &Brand, scheme: &Scheme) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (framing, coding, path) in brand.ways {
        let Ok(path) = path else { continue };
        let unruled = || {
            let mut cell = scheme.cell(path, Seen::up(200));
            if coding == Coding::Gzip {
                cell.spec.headers.push(WANTS_GZIP.to_owned());
            }
            cell
        };
        cells.push(unruled().comes(framing, coding));
        cells.push(unruled().method("HEAD"));
        for (keyword, forbidden, class) in [
            (LAST_WORDS, "", None),
            ("", "a text that is not there", None),
            ("a text that is not there", "", Some(C::BodyKeywordMissing)),
            ("", LAST_WORDS, Some(C::BodyForbidden)),
        ] {
            let seen = class.map_or(Seen::up(200), |class| Seen::down(class, 200));
            let mut cell = scheme.cell(path, seen);
            cell.spec.keyword = Some(keyword.to_owned());
            cell.spec.forbidden = vec![forbidden.to_owned()];
            cells.push(cell.comes(framing, coding));
        }
    }
    cells
}

fn statuses(scheme: &Scheme) -> Vec<Cell> {
    let mut cells = Vec::new();
    for method in ["GET", "HEAD"] {
        for (path, seen) in [
            ("/empty", Seen::up(204)),
            ("/absent", Seen::down(C::HttpStatus, 404)),
            ("/down", Seen::down(C::HttpStatus, 503)),
        ] {
            cells.push(scheme.cell(path, seen).method(method));
        }
        let mut expected = scheme.cell("/down", Seen::up(503)).method(method);
        expected.spec.expect_status = Some("503".to_owned());
        cells.push(expected);
    }
    cells
}

fn redirects(scheme: &Scheme) -> Vec<Cell> {
    let mut cells = Vec::new();
    // The last page tells the methods apart: that of the request is kept.
    for (method, status) in [("GET", 200), ("HEAD", 204)] {
        let same = scheme.cell("/moved", Seen::up(status).after(1));
        let (path, version, flag) = scheme.other;
        let crossing = Seen {
            tls: version,
            ..Seen::up(status).after(1).flagged(flag).secured()
        };
        let other = Cell::new(format!("{}{path}", scheme.base), crossing);
        for Cell { spec, seen, .. } in [same, other] {
            let refused = scheme.cell("", Seen::down(C::RedirectRefused, 301)).seen;
            for (policy, seen) in [
                ("follow", seen),
                ("alert", seen.flagged(flags::REDIRECT_ALERT)),
                ("fail", refused),
            ] {
                let mut cell = Cell::new(spec.url.clone(), seen).method(method);
                cell.spec.redirect = Some(policy.to_owned());
                cells.push(cell);
            }
        }
        let looped = Seen::down(C::RedirectLoop, 301);
        cells.push(scheme.cell("/loop", looped).method(method));
    }
    cells
}

/// Versions of TLS, names, and the wrong port for a scheme.
fn handshakes(brand: &Brand, ports: Ports) -> Vec<Cell> {
    let mut cells = Vec::new();
    let alone = [(ports.tls12, "TLSv1.2"), (ports.tls13, "TLSv1.3")];
    for (port, version) in alone.into_iter().chain([(ports.https, LATEST)]) {
        let page = format!("https://{SITE}:{port}/by-method");
        cells.push(Cell::new(page.clone(), Seen::up(200).over(version)));
        cells.push(Cell::new(page, Seen::up(204).over(version)).method("HEAD"));
        let bare = format!("tls://{SITE}:{port}");
        cells.push(Cell::new(bare, Seen::up(0).unanswered().over(version)));
        let named = format!("https://other.test:{port}/by-method");
        cells.push(Cell::new(
            named,
            Seen::down(C::TlsName, 0).unanswered().over(version),
        ));
    }
    let unspoken = Seen::down(C::TlsHandshake, 0).unanswered().secured();
    let page = |scheme: &str, port| format!("{scheme}://{SITE}:{port}/by-method");
    cells.push(Cell::new(page("https", ports.http), unspoken));
    cells.push(Cell::new(page("http", ports.https), brand.unsecured));
    cells
}

#[test]
fn every_phase_has_its_bit() {
    for (bit, name) in [DNS, CONNECT, TLS, TTFB, BODY, TOTAL]
        .iter()
        .zip(Phases::NAMES)
    {
        let at = Phases::NAMES.iter().position(|found| *found == name);
        assert_eq!(at, Some(bit.trailing_zeros() as usize));
    }
}
