//! The bytes of every answer, made once at the start, and the plan that a request is answered
//! by. Pure: a plan says what to write and how to end, a shell does it.

use std::collections::BTreeMap;

use crate::request::Parsed;
use crate::scenario::{FaultKind, Method, Scenario};

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

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    /// How long the first byte waits, in ms.
    pub(crate) delay_ms: u32,
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
}

impl Outcome {
    /// Number of slots that [`Outcome::slot`] can name.
    pub(crate) const SLOTS: usize = 604;

    /// A dense index for counters.
    pub(crate) fn slot(self) -> usize {
        match self {
            Self::Status(status) => usize::from(status.min(599)),
            Self::Silence => 600,
            Self::SilenceBody => 601,
            Self::Truncated => 602,
            Self::Reset => 603,
        }
    }

    /// What the counter of `slot` is called.
    pub(crate) fn slot_name(slot: usize) -> String {
        match slot {
            600 => FaultKind::Silence.name().to_owned(),
            601 => FaultKind::SilenceBody.name().to_owned(),
            602 => FaultKind::Truncated.name().to_owned(),
            603 => FaultKind::Reset.name().to_owned(),
            status => status.to_string(),
        }
    }
}

/// One prepared answer: head, then body.
#[derive(Debug)]
struct Page {
    bytes: Vec<u8>,
    head_bytes: usize,
}

impl Page {
    fn new(status: u16) -> Self {
        let body = if matches!(status, 204 | 304) {
            String::new()
        } else {
            body(status)
        };
        // RFC 9110 §8.6: no Content-Length in a 204.
        let length = match status {
            204 => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nServer: farm\r\nContent-Type: text/html\r\n{length}\
             Connection: close\r\n\r\n",
            reason(status)
        );
        Self {
            head_bytes: head.len(),
            bytes: [head.into_bytes(), body.into_bytes()].concat(),
        }
    }

    fn answer(&self, method: Method) -> &[u8] {
        match method {
            Method::Get => &self.bytes,
            Method::Head => &self.bytes[..self.head_bytes],
        }
    }
}

fn body(status: u16) -> String {
    let start = format!("<!doctype html><title>{status}</title><p>{CANARY}</p><!-- ");
    let end = " -->\n";
    let filling = ".".repeat(BODY_BYTES - start.len() - end.len());
    start + &filling + end
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
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
}

impl Pages {
    /// The pages that the farm and `scenario` need.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let statuses = scenario
            .faults()
            .iter()
            .filter_map(|fault| match fault.kind {
                FaultKind::Status(status) => Some(status),
                _ => None,
            });
        let others = [400, 404, 405].into_iter().chain(statuses);
        Self {
            ok: Page::new(200),
            others: others.map(|status| (status, Page::new(status))).collect(),
        }
    }

    /// The plan for a parsed request whose site suffers `fault`.
    pub(crate) fn plan(&self, parsed: Parsed, fault: Option<FaultKind>) -> Plan<'_> {
        match parsed {
            Parsed::Request { method, .. } => match fault {
                None => self.status(200, method),
                Some(fault) => self.faulted(fault, method),
            },
            Parsed::UnknownHost(method) => self.status(404, method),
            Parsed::BadMethod => self.status(405, Method::Get),
            Parsed::Malformed | Parsed::Partial => self.status(400, Method::Get),
        }
    }

    fn status(&self, status: u16, method: Method) -> Plan<'_> {
        let page = self.others.get(&status).unwrap_or(&self.ok);
        let outcome = Outcome::Status(status);
        Plan {
            delay_ms: 0,
            bytes: page.answer(method),
            end: End::Close,
            outcome,
        }
    }

    fn faulted(&self, fault: FaultKind, method: Method) -> Plan<'_> {
        let whole = self.status(200, method);
        let nothing: &[u8] = &[];
        let head = &self.ok.bytes[..self.ok.head_bytes];
        match fault {
            FaultKind::Status(status) => self.status(status, method),
            FaultKind::SlowFirstByte(delay_ms) => Plan { delay_ms, ..whole },
            FaultKind::Silence => Plan {
                bytes: nothing,
                end: End::Silence,
                outcome: Outcome::Silence,
                ..whole
            },
            // A HEAD answer has no body to withhold or to cut: half a head is what is left.
            FaultKind::SilenceBody => {
                let bytes = if method == Method::Head {
                    &head[..head.len() / 2]
                } else {
                    head
                };
                Plan {
                    bytes,
                    end: End::Silence,
                    outcome: Outcome::SilenceBody,
                    ..whole
                }
            }
            FaultKind::Truncated => {
                let bytes = &whole.bytes[..whole.bytes.len() / 2];
                Plan {
                    bytes,
                    end: End::Cut,
                    outcome: Outcome::Truncated,
                    ..whole
                }
            }
            FaultKind::Reset => Plan {
                bytes: nothing,
                end: End::Reset,
                outcome: Outcome::Reset,
                ..whole
            },
            // These fail before there is a request; one that still comes is answered well.
            FaultKind::Refuse
            | FaultKind::DnsNxdomain
            | FaultKind::DnsServfail
            | FaultKind::DnsTimeout
            | FaultKind::TlsExpired
            | FaultKind::TlsSelfSigned => whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(fault: Option<FaultKind>, method: Method) -> (Vec<u8>, Plan<'static>) {
        let pages: &'static Pages = Box::leak(Box::new(Pages::new(&Scenario::default())));
        let plan = pages.plan(Parsed::Request { method, site: 1 }, fault);
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
    fn a_204_carries_no_length_and_no_body() {
        let page = Page::new(204);
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
        ];
        let mut slots: Vec<usize> = outcomes.iter().map(|outcome| outcome.slot()).collect();
        slots.dedup();
        assert_eq!(slots.len(), outcomes.len());
        assert!(slots.iter().all(|&slot| slot < Outcome::SLOTS));
    }
}
