//! The bytes of every answer, made once at the start, and the plan that a request is answered
//! by. Pure: a plan says what to write and how to end, a shell does it.

use std::collections::BTreeMap;

use crate::broken;
use crate::faults::FaultKind;
use crate::request::Parsed;
use crate::scenario::{Method, Scenario};

/// A string that is in the body of every healthy page.
pub(crate) const CANARY: &str = "ringwatch-farm-canary";
/// Size of the body of a page, in bytes.
pub(crate) const BODY_BYTES: usize = 1_024;

/// How a connection ends once the bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Close in order.
    Close,
    /// Close in the middle: no `close_notify`, a plain FIN.
    Cut,
    /// RST.
    Reset,
    /// Keep the connection and say nothing more.
    Silence,
}

/// How fast the bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    AtOnce,
    BytePerSecond,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    /// How long the first byte waits, in ms.
    pub(crate) delay_ms: u32,
    pub(crate) pace: Pace,
    pub(crate) bytes: &'a [u8],
    pub(crate) end: End,
    pub(crate) outcome: Outcome,
}

/// What the observer counts a request as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Status(u16),
    Silence,
    SilenceBody,
    Truncated,
    Reset,
    Drip,
}

impl Outcome {
    /// Number of slots that [`Outcome::slot`] can name.
    pub(crate) const SLOTS: usize = 605;

    /// A dense index for counters.
    pub(crate) fn slot(self) -> usize {
        match self {
            Self::Status(status) => usize::from(status.min(599)),
            Self::Silence => 600,
            Self::SilenceBody => 601,
            Self::Truncated => 602,
            Self::Reset => 603,
            Self::Drip => 604,
        }
    }

    /// What the counter of `slot` is called.
    pub(crate) fn slot_name(slot: usize) -> String {
        match slot {
            600 => FaultKind::Silence.name().to_owned(),
            601 => FaultKind::SilenceBody.name().to_owned(),
            602 => FaultKind::Truncated.name().to_owned(),
            603 => FaultKind::Reset.name().to_owned(),
            604 => FaultKind::Drip.name().to_owned(),
            status => status.to_string(),
        }
    }
}

/// One prepared answer: head, then body.
#[derive(Debug)]
pub(crate) struct Page {
    status: u16,
    bytes: Vec<u8>,
    head_bytes: usize,
}

impl Page {
    /// An answer with these `fields`, each with its line end, beside those of every answer.
    pub(crate) fn new(status: u16, fields: &str, body: &[u8]) -> Self {
        let head = format!(
            "HTTP/1.1 {status} {}\r\nServer: farm\r\nContent-Type: text/html\r\n{fields}\
             Connection: close\r\n\r\n",
            reason(status)
        );
        Self {
            status,
            head_bytes: head.len(),
            bytes: [head.as_bytes(), body].concat(),
        }
    }

    /// The page that says `status` and nothing else.
    fn of(status: u16) -> Self {
        let body = if matches!(status, 204 | 304) {
            String::new()
        } else {
            page_body(status, CANARY)
        };
        // RFC 9110 §8.6: no Content-Length in a 204.
        let length = match status {
            204 => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        Self::new(status, &length, body.as_bytes())
    }

    /// What a request of `method` is answered.
    pub(crate) fn answer(&self, method: Method) -> &[u8] {
        match method {
            Method::Get => &self.bytes,
            Method::Head => &self.bytes[..self.head_bytes],
        }
    }

    /// The answer, cut in the middle of its body. That to HEAD has no body: half a head is left.
    fn half(&self, method: Method) -> &[u8] {
        let whole = self.answer(method);
        &whole[..whole.len() / 2]
    }

    /// Half of the head.
    fn half_head(&self) -> &[u8] {
        &self.bytes[..self.head_bytes / 2]
    }
}

/// A body of [`BODY_BYTES`] with `text` in it.
pub(crate) fn page_body(status: u16, text: &str) -> String {
    let start = format!("<!doctype html><title>{status}</title><p>{text}</p><!-- ");
    let end = " -->\n";
    let filling = ".".repeat(BODY_BYTES - start.len() - end.len());
    start + &filling + end
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// Every page of a run.
#[derive(Debug)]
pub(crate) struct Pages {
    ok: Page,
    others: BTreeMap<u16, Page>,
    /// The answers of the scenario's faults that have one of their own.
    broken: Vec<(FaultKind, Page)>,
    /// The redirects of a chain, if the scenario has one.
    chain: Vec<Page>,
}

impl Pages {
    /// The pages that the farm and `scenario` need.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let kinds = || scenario.faults().iter().map(|fault| fault.kind);
        let statuses = kinds().filter_map(|kind| match kind {
            FaultKind::Status(status) => Some(status),
            _ => None,
        });
        let others = [400, 404, 405].into_iter().chain(statuses);
        let has_chain = kinds().any(|kind| kind == FaultKind::RedirectChain);
        Self {
            ok: Page::of(200),
            others: others.map(|status| (status, Page::of(status))).collect(),
            broken: kinds()
                .filter_map(|kind| Some((kind, broken::answer(kind)?)))
                .collect(),
            chain: if has_chain {
                broken::chain()
            } else {
                Vec::new()
            },
        }
    }

    /// The plan for a parsed request whose site suffers `fault`.
    pub(crate) fn plan(&self, parsed: Parsed, fault: Option<FaultKind>) -> Plan<'_> {
        match parsed {
            Parsed::Request { method, hop, .. } => match fault {
                None => self.status(200, method),
                Some(FaultKind::RedirectChain) => {
                    let hop = self.chain.get(usize::from(hop));
                    Plan::of(hop.unwrap_or(&self.ok), method)
                }
                Some(fault) => self.faulted(fault, method),
            },
            Parsed::UnknownHost(method) => self.status(404, method),
            Parsed::BadMethod => self.status(405, Method::Get),
            Parsed::Malformed | Parsed::Partial => self.status(400, Method::Get),
        }
    }

    fn status(&self, status: u16, method: Method) -> Plan<'_> {
        Plan::of(self.others.get(&status).unwrap_or(&self.ok), method)
    }

    fn faulted(&self, fault: FaultKind, method: Method) -> Plan<'_> {
        let whole = Plan::of(&self.ok, method);
        let cut = |bytes, end, outcome| Plan {
            bytes,
            end,
            outcome,
            ..whole
        };
        let silent = |bytes, outcome| cut(bytes, End::Silence, outcome);
        let reset = |bytes| cut(bytes, End::Reset, Outcome::Reset);
        match fault {
            FaultKind::Status(status) => self.status(status, method),
            FaultKind::SlowFirstByte(delay_ms) => Plan { delay_ms, ..whole },
            FaultKind::Silence => silent(&[], Outcome::Silence),
            // A HEAD answer has no body to withhold or to cut: half a head is what is left.
            FaultKind::SilenceBody => match method {
                Method::Head => silent(self.ok.half_head(), Outcome::SilenceBody),
                Method::Get => silent(self.ok.answer(Method::Head), Outcome::SilenceBody),
            },
            FaultKind::Drip => Plan {
                pace: Pace::BytePerSecond,
                outcome: Outcome::Drip,
                ..whole
            },
            FaultKind::Truncated => cut(self.ok.half(method), End::Cut, Outcome::Truncated),
            FaultKind::Reset => reset(&[]),
            FaultKind::ResetHead => reset(self.ok.half_head()),
            FaultKind::ResetBody => reset(self.ok.half(method)),
            // The others fail before there is a request; one that still comes is answered well.
            other => {
                let own = self.broken.iter().find(|(kind, _)| *kind == other);
                own.map_or(whole, |(_, page)| Plan::of(page, method))
            }
        }
    }
}

impl<'a> Plan<'a> {
    /// The whole of `page`, as soon as it can be written.
    fn of(page: &'a Page, method: Method) -> Self {
        Self {
            delay_ms: 0,
            pace: Pace::AtOnce,
            bytes: page.answer(method),
            end: End::Close,
            outcome: Outcome::Status(page.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::NAMES;
    use crate::scenario::Fault;

    fn plan_of(fault: Option<FaultKind>, method: Method) -> (Vec<u8>, Plan<'static>) {
        plan_at(0, fault, method)
    }

    /// The plan for the request of a site that suffers `fault`, after so many hops of a chain.
    fn plan_at(hop: u8, fault: Option<FaultKind>, method: Method) -> (Vec<u8>, Plan<'static>) {
        let faults = fault.into_iter().map(|kind| Fault {
            kind,
            first_site: 1,
            count: 1,
            start_ms: 0,
            end_ms: None,
            period_ms: None,
            rate: 1.0,
            seed: 0,
            method: None,
        });
        let scenario = Scenario::new(faults.collect());
        let pages: &'static Pages = Box::leak(Box::new(Pages::new(&scenario)));
        let request = Parsed::Request {
            method,
            site: 1,
            hop,
        };
        let plan = pages.plan(request, fault);
        (plan.bytes.to_vec(), plan)
    }

    #[test]
    fn a_healthy_page_has_its_length_and_its_canary() {
        let (bytes, plan) = plan_of(None, Method::Get);
        let text = String::from_utf8(bytes).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("Connection: close"), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
        assert!(body.contains(CANARY) && body.len() == BODY_BYTES);
        assert_eq!((plan.end, plan.outcome), (End::Close, Outcome::Status(200)));
    }

    #[test]
    fn a_head_answer_is_the_head_of_the_page() {
        let (get, _) = plan_of(None, Method::Get);
        let (head, _) = plan_of(None, Method::Head);
        assert!(head.ends_with(b"\r\n\r\n") && get.starts_with(&head));
        assert_eq!(get.len(), head.len() + BODY_BYTES);
    }

    #[test]
    fn a_truncated_page_ends_inside_what_it_promises() {
        let (whole, _) = plan_of(None, Method::Get);
        let (half, plan) = plan_of(Some(FaultKind::Truncated), Method::Get);
        assert!(whole.starts_with(&half) && half.len() < whole.len());
        assert!(
            String::from_utf8_lossy(&half).contains("\r\n\r\n"),
            "the head is whole"
        );
        assert_eq!(plan.end, End::Cut);
        let (head, _) = plan_of(Some(FaultKind::Truncated), Method::Head);
        assert!(!String::from_utf8_lossy(&head).contains("\r\n\r\n"));
    }

    #[test]
    fn silence_in_the_body_promises_a_body() {
        let (bytes, plan) = plan_of(Some(FaultKind::SilenceBody), Method::Get);
        assert!(bytes.ends_with(b"\r\n\r\n"));
        assert_eq!(plan.end, End::Silence);
    }

    #[test]
    fn resets_come_in_the_head_and_in_the_body() {
        let whole = plan_of(None, Method::Get).0;
        let head = plan_of(None, Method::Head).0;
        let (in_head, plan) = plan_of(Some(FaultKind::ResetHead), Method::Get);
        assert!(head.starts_with(&in_head) && !in_head.is_empty() && in_head.len() < head.len());
        assert_eq!((plan.end, plan.outcome), (End::Reset, Outcome::Reset));
        let (in_body, plan) = plan_of(Some(FaultKind::ResetBody), Method::Get);
        assert!(whole.starts_with(&in_body));
        assert!(in_body.len() > head.len() && in_body.len() < whole.len());
        assert_eq!((plan.end, plan.outcome), (End::Reset, Outcome::Reset));
    }

    #[test]
    fn a_drip_is_the_whole_page_in_its_own_time() {
        let (bytes, plan) = plan_of(Some(FaultKind::Drip), Method::Get);
        assert_eq!(bytes, plan_of(None, Method::Get).0);
        assert_eq!(
            (plan.pace, plan.outcome),
            (Pace::BytePerSecond, Outcome::Drip)
        );
    }

    #[test]
    fn a_chain_goes_on_from_its_hop_and_ends_with_the_page() {
        let location = |hop| {
            let (bytes, plan) = plan_at(hop, Some(FaultKind::RedirectChain), Method::Get);
            let text = String::from_utf8(bytes).expect("ASCII");
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("Location: "));
            (plan.outcome, line.map(str::to_owned))
        };
        assert_eq!(
            location(0),
            (Outcome::Status(302), Some("/hop/1".to_owned()))
        );
        assert_eq!(
            location(14),
            (Outcome::Status(302), Some("/hop/15".to_owned()))
        );
        assert_eq!(location(15), (Outcome::Status(200), None));
        assert_eq!(location(255), (Outcome::Status(200), None));
    }

    #[test]
    fn every_fault_of_http_changes_the_plan_and_no_other_one_does() {
        let healthy = plan_of(None, Method::Get).1;
        for kind in NAMES.iter().filter_map(|name| FaultKind::plain(name)) {
            let (_, plan) = plan_of(Some(kind), Method::Get);
            let is_http = kind.layer() == crate::faults::Layer::Http;
            assert_eq!(plan != healthy, is_http, "{}", kind.name());
        }
    }

    #[test]
    fn a_204_carries_no_length_and_no_body() {
        let page = Page::of(204);
        assert_eq!(page.bytes.len(), page.head_bytes);
        assert!(!String::from_utf8_lossy(&page.bytes).contains("Content-Length"));
    }

    #[test]
    fn a_malformed_request_is_answered_with_400() {
        let pages = Pages::new(&Scenario::default());
        assert!(
            pages
                .plan(Parsed::Malformed, None)
                .bytes
                .starts_with(b"HTTP/1.1 400 ")
        );
        assert!(
            pages
                .plan(Parsed::BadMethod, None)
                .bytes
                .starts_with(b"HTTP/1.1 405 ")
        );
        let unknown = pages.plan(Parsed::UnknownHost(Method::Get), None);
        assert!(unknown.bytes.starts_with(b"HTTP/1.1 404 "));
    }

    #[test]
    fn every_outcome_has_its_own_counter() {
        let outcomes = [
            Outcome::Status(200),
            Outcome::Status(503),
            Outcome::Silence,
            Outcome::SilenceBody,
            Outcome::Truncated,
            Outcome::Reset,
            Outcome::Drip,
        ];
        let mut slots: Vec<usize> = outcomes.iter().map(|outcome| outcome.slot()).collect();
        slots.dedup();
        assert_eq!(slots.len(), outcomes.len());
        assert!(slots.iter().all(|&slot| slot < Outcome::SLOTS));
    }
}
