//! Answers that are wrong on purpose, or lead elsewhere: their bytes, made once at the start.
//! Pure; which request gets which answer, and how its connection ends, is in `pages`.

use crate::faults::FaultKind;
use crate::pages::{BODY_BYTES, CANARY, Page, page_body};

/// A string that is in the body of a page with `forbidden_text` alone.
pub(crate) const DEFACEMENT: &str = "ringwatch-farm-defacement";
/// Redirects of `redirect_chain` before the page comes.
pub(crate) const CHAIN_HOPS: u8 = 15;
/// What the path of the n-th redirect of a chain begins with.
pub(crate) const HOP_PATH: &str = "/hop/";
/// Fields of a `header_flood`, and of a `large_head` with their size in bytes.
const FLOOD_FIELDS: usize = 200;
const LARGE_FIELDS: usize = 20;
const LARGE_FIELD_BYTES: usize = 4_096;
/// The beginning of a gzip file (RFC 1952 §2.3), and a block of a kind that there is not (RFC 1951
/// §3.2.3).
const NO_GZIP: [u8; 12] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff];

/// The answer of a site that suffers `kind`; `None`: it has no answer of its own.
pub(crate) fn answer(kind: FaultKind) -> Option<Page> {
    let body = page_body(200, CANARY);
    let length = format!("Content-Length: {}\r\n", body.len());
    Some(match kind {
        FaultKind::BadChunk => {
            let body = "5\r\nfirst\r\nsecond\r\nsecond\r\n0\r\n\r\n";
            Page::new(200, "Transfer-Encoding: chunked\r\n", body.as_bytes())
        }
        FaultKind::BadGzip => {
            let fields = format!(
                "Content-Encoding: gzip\r\nContent-Length: {}\r\n",
                NO_GZIP.len()
            );
            Page::new(200, &fields, &NO_GZIP)
        }
        FaultKind::DuplicateLength => Page::new(200, &length.repeat(2), body.as_bytes()),
        FaultKind::ConflictingLength => {
            let fields = format!("{length}Content-Length: {}\r\n", body.len() / 2);
            Page::new(200, &fields, body.as_bytes())
        }
        FaultKind::HeaderFlood => {
            let flood = repeated(FLOOD_FIELDS, |number| format!("X-Flood-{number}: x\r\n"));
            Page::new(200, &(flood + &length), body.as_bytes())
        }
        FaultKind::LargeHead => {
            let value = "x".repeat(LARGE_FIELD_BYTES);
            let field = |number| format!("X-Large-{number}: {value}\r\n");
            let large = repeated(LARGE_FIELDS, field);
            Page::new(200, &(large + &length), body.as_bytes())
        }
        FaultKind::RedirectLoop => redirect("/loop"),
        FaultKind::RedirectPrivate => redirect("http://10.0.0.1/"),
        FaultKind::RedirectBadLocation => redirect("mailto:hostmaster@farm.test"),
        FaultKind::KeywordMissing => with_text("something else"),
        FaultKind::ForbiddenText => with_text(&format!("{CANARY} {DEFACEMENT}")),
        _ => return None,
    })
}

/// The redirects of a chain, in their order.
pub(crate) fn chain() -> Vec<Page> {
    let hop = |number| redirect(&format!("{HOP_PATH}{number}"));
    (1..=CHAIN_HOPS).map(hop).collect()
}

/// So many fields, one after the other.
fn repeated(count: usize, field: impl Fn(usize) -> String) -> String {
    let fields: Vec<String> = (0..count).map(field).collect();
    fields.concat()
}

fn redirect(location: &str) -> Page {
    let fields = format!("Location: {location}\r\nContent-Length: 0\r\n");
    Page::new(302, &fields, b"")
}

/// A page as the healthy one, with `text` in place of the canary.
fn with_text(text: &str) -> Page {
    let fields = format!("Content-Length: {BODY_BYTES}\r\n");
    Page::new(200, &fields, page_body(200, text).as_bytes())
}

#[cfg(test)]
mod tests {
    use model::limits::{HEAD_MAX_BYTES, RESPONSE_HEADERS_MAX};

    use super::*;
    use crate::faults::NAMES;
    use crate::scenario::Method;

    fn text(kind: FaultKind) -> String {
        let page = answer(kind).expect("an answer of its own");
        String::from_utf8_lossy(page.answer(Method::Get)).into_owned()
    }

    fn split(kind: FaultKind) -> (String, String) {
        let text = text(kind);
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn every_answer_is_a_response_that_ends_its_connection() {
        for kind in NAMES.iter().filter_map(|name| FaultKind::plain(name)) {
            let Some(page) = answer(kind) else { continue };
            let head = page.answer(Method::Head);
            assert!(head.starts_with(b"HTTP/1.1 "), "{}", kind.name());
            assert!(head.ends_with(b"\r\n\r\n"), "{}", kind.name());
            let head = String::from_utf8_lossy(head);
            assert!(head.contains("Connection: close\r\n"), "{}", kind.name());
        }
    }

    #[test]
    fn lengths_are_given_twice() {
        let lengths = |kind| {
            let (head, body) = split(kind);
            let of = |line: &str| Some(line.strip_prefix("Content-Length: ")?.to_owned());
            let found: Vec<String> = head.lines().filter_map(of).collect();
            (found, body.len().to_string())
        };
        let (found, length) = lengths(FaultKind::DuplicateLength);
        assert_eq!(found, [length.clone(), length]);
        let (found, length) = lengths(FaultKind::ConflictingLength);
        assert!(found.len() == 2 && found[0] == length && found[1] != length);
    }

    #[test]
    fn one_head_has_too_many_fields_and_the_other_too_many_bytes() {
        let (flood, _) = split(FaultKind::HeaderFlood);
        assert!(flood.lines().count() > RESPONSE_HEADERS_MAX + 1);
        assert!(flood.len() < HEAD_MAX_BYTES / 2, "{}", flood.len());
        let (large, _) = split(FaultKind::LargeHead);
        assert!(large.lines().count() < RESPONSE_HEADERS_MAX / 2);
        assert!(large.len() > HEAD_MAX_BYTES, "{}", large.len());
    }

    #[test]
    fn texts_are_there_and_missing_as_promised() {
        let (_, missing) = split(FaultKind::KeywordMissing);
        assert!(!missing.contains(CANARY) && !missing.contains(DEFACEMENT));
        let (_, forbidden) = split(FaultKind::ForbiddenText);
        assert!(forbidden.contains(CANARY) && forbidden.contains(DEFACEMENT));
        assert_eq!((missing.len(), forbidden.len()), (BODY_BYTES, BODY_BYTES));
    }

    #[test]
    fn the_second_chunk_has_no_size() {
        let (head, body) = split(FaultKind::BadChunk);
        assert!(head.contains("Transfer-Encoding: chunked"));
        assert!(body.starts_with("5\r\nfirst\r\nsecond\r\n"));
    }

    #[test]
    fn redirects_lead_where_they_should() {
        for (kind, location) in [
            (FaultKind::RedirectLoop, "/loop"),
            (FaultKind::RedirectPrivate, "http://10.0.0.1/"),
            (FaultKind::RedirectBadLocation, "mailto:"),
        ] {
            let (head, _) = split(kind);
            assert!(head.starts_with("HTTP/1.1 302 "), "{head}");
            assert!(
                head.contains(&format!("\r\nLocation: {location}")),
                "{head}"
            );
        }
        let chain = chain();
        assert_eq!(chain.len(), usize::from(CHAIN_HOPS));
        let last = String::from_utf8_lossy(chain[14].answer(Method::Get)).into_owned();
        assert!(last.contains("\r\nLocation: /hop/15\r\n"), "{last}");
    }
}
