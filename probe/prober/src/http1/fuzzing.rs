//! Fuzz bodies of the response head and of the chunked coding. The first byte of an input chooses
//! the request's method and the pieces, the rest is what a server sends.

use model::target::Method;

use super::Flaw;
use super::chunked::Chunked;
use super::head::{self, Framing};
use super::is_token;
use super::scan::{Found, Scan};
use crate::fuzzing::pieces;

/// What matters of a head that was accepted.
#[derive(Debug, PartialEq, Eq)]
struct Accepted {
    end: usize,
    status: u16,
    framing: Framing,
    sloppy: bool,
    lasts: bool,
}

/// Whatever the pieces, a head is the same; and an accepted head is one.
pub(crate) fn head(data: &[u8]) {
    let Some((&control, bytes)) = data.split_first() else {
        return;
    };
    let method = [Method::Get, Method::Head][usize::from(control & 1)];
    let whole = read_head([bytes], method);
    assert_eq!(read_head(pieces(bytes, control), method), whole);
    assert_eq!(read_head(bytes.chunks(1), method), whole);
    let Ok(Some(accepted)) = whole else {
        return;
    };
    let head = &bytes[..accepted.end];
    assert_eq!(
        read_head([head], method),
        Ok(Some(judge_head(accepted, head, method)))
    );
}

/// Gathers pieces as an attempt does; `None` when they end before the head.
fn read_head<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    method: Method,
) -> Result<Option<Accepted>, Flaw> {
    let (mut scan, mut gathered) = (Scan::default(), Vec::new());
    for piece in pieces {
        gathered.extend_from_slice(piece);
        if let Found::End(end) = scan.run(&gathered)? {
            let head = head::parse(&gathered[..end], method)?;
            return Ok(Some(Accepted {
                end,
                status: head.status,
                framing: head.framing,
                sloppy: head.sloppy || scan.sloppy(),
                // Only the scan sees line ends: what it tolerates is for its caller to count.
                lasts: head.lasts && !scan.sloppy(),
            }));
        }
    }
    Ok(None)
}

/// What holds for every accepted head, which is given back.
fn judge_head(accepted: Accepted, head: &[u8], method: Method) -> Accepted {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    assert!((100..=599).contains(&accepted.status));
    assert!(text.contains(&accepted.status.to_string()));
    assert!(text.ends_with("\n\r\n") || text.ends_with("\n\n"));
    assert!(!head.contains(&0), "a NUL was accepted");
    let bodiless = method == Method::Head || matches!(accepted.status, 100..=199 | 204 | 304);
    match accepted.framing {
        Framing::Absent => assert!(bodiless || text.contains("text/event-stream")),
        Framing::Length(length) => assert!(!bodiless && text.contains(&length.to_string())),
        Framing::Chunked => assert!(!bodiless && text.contains("chunked")),
        Framing::ToClose => assert!(!bodiless),
    }
    if accepted.lasts {
        assert!(!accepted.sloppy && accepted.status != 101);
        let options = connection_options(&text);
        assert!(
            !options.contains(&"close"),
            "it is to be closed: {options:?}"
        );
        let old = text.trim_start().starts_with("http/1.0");
        assert!(!old || options.contains(&"keep-alive"), "{options:?}");
    }
    accepted
}

/// The options of every Connection field of a head in lower case and without tolerances.
fn connection_options(text: &str) -> Vec<&str> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields
        .filter(|(name, _)| *name == "connection")
        .flat_map(|(_, value)| {
            value
                .split(',')
                .map(|option| option.trim_matches([' ', '\t']))
        })
        .collect()
}

/// How far a chunked body came.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    complete: bool,
    sloppy: bool,
    complete_at_eof: bool,
    data: Vec<u8>,
}

/// Whatever the pieces, a chunked body is the same; what is complete without a tolerance is what
/// a strict reader of the whole accepts, and nothing else.
pub(crate) fn chunked(data: &[u8]) {
    let Some((&control, bytes)) = data.split_first() else {
        return;
    };
    let whole = read_chunks([bytes]);
    assert_eq!(read_chunks(pieces(bytes, control)), whole);
    assert_eq!(read_chunks(bytes.chunks(1)), whole);
    let strict = whole.as_ref().ok();
    let strict = strict.filter(|progress| progress.complete && !progress.sloppy);
    let payload_bytes = strict.map(|progress| progress.data.len());
    assert_eq!(strict_payload_bytes(bytes), payload_bytes);
    if whole.is_ok_and(|progress| progress.complete_at_eof) {
        let completes = |end: &&[u8]| read_chunks([bytes, *end]).is_ok_and(|after| after.complete);
        let ends: [&[u8]; 3] = [b"", b"\n", b"\r\n"];
        assert!(
            ends.iter().any(completes),
            "complete at an EOF, but not after an empty line"
        );
    }
}

fn read_chunks<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Progress, Flaw> {
    let (mut body, mut complete) = (Chunked::START, false);
    let mut data = Vec::new();
    for piece in pieces {
        let after = body.feed(piece, &mut |bytes| data.extend_from_slice(bytes))?;
        let after = after.is_some();
        assert!(
            after >= complete || piece.is_empty(),
            "a complete body became incomplete"
        );
        complete = after;
    }
    Ok(Progress {
        complete,
        sloppy: body.sloppy,
        complete_at_eof: body.complete_at_eof(),
        data,
    })
}

/// Bytes of data in a chunked body that is complete and exactly as RFC 9112 §7.1 has it.
fn strict_payload_bytes(mut bytes: &[u8]) -> Option<usize> {
    let mut payload = 0;
    loop {
        let (line, rest) = strict_line(bytes)?;
        let digits = line.split(|&byte| byte == b';').next()?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::try_from(u64::from_str_radix(digits, 16).ok()?).ok()?;
        if size == 0 {
            return strict_trailer(rest).then_some(payload);
        }
        bytes = rest.get(size..)?.strip_prefix(b"\r\n")?;
        payload += size;
    }
}

fn strict_trailer(mut bytes: &[u8]) -> bool {
    while let Some((line, rest)) = strict_line(bytes) {
        if line.is_empty() {
            return true;
        }
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if name.is_empty() || name.len() == line.len() || !name.iter().copied().all(is_token) {
            return false;
        }
        bytes = rest;
    }
    false
}

/// A line up to its CR LF, and what follows; none with another control of lines in it, or a NUL.
fn strict_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes
        .iter()
        .position(|byte| matches!(byte, 0 | b'\r' | b'\n'))?;
    let rest = bytes[end..].strip_prefix(b"\r\n")?;
    Some((&bytes[..end], rest))
}
