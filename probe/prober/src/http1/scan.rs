//! Finds the end of a response head in bytes that arrive in pieces, line by line, looking at
//! every byte once. It knows line ends and the first word of a status line, nothing else.

use model::FailureClass;
use model::limits::HEAD_MAX_BYTES;

use super::Flaw;
use super::head::check_status_line;

/// How far a head has been looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    /// Where the status line starts, after the empty lines that are tolerated before it.
    start: u32,
    /// Start of the line that is not complete yet.
    line: u32,
    /// Bytes without a line end after `line`.
    seen: u32,
    /// A bare LF ended a line, a line was folded, or an empty line came first.
    sloppy: bool,
}

/// What a scan has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The head is not complete.
    Partial,
    /// The head ends before this offset.
    End(usize),
}

const PROTOCOL: &[u8] = b"HTTP/1.";

impl Scan {
    /// Whether a tolerance of lines was needed so far.
    pub(crate) fn sloppy(&self) -> bool {
        self.sloppy
    }

    /// Goes on with `head`, which starts with the bytes of every earlier call.
    ///
    /// # Errors
    /// A [`Flaw`] as soon as the bytes cannot be a status line, or the head is too large. A server
    /// of another protocol that then waits is not mistaken for a slow one.
    pub(crate) fn run(&mut self, head: &[u8]) -> Result<Found, Flaw> {
        let within = &head[..head.len().min(HEAD_MAX_BYTES)];
        let mut status_line = None;
        while let Some(at) = memchr::memchr(b'\n', &within[self.seen as usize..]) {
            let end = self.seen as usize + at + 1;
            let line = &within[self.line as usize..end];
            let empty = matches!(line, b"\n" | b"\r\n");
            self.sloppy |= !line.ends_with(b"\r\n");
            if self.line == self.start && empty {
                self.start = end as u32;
                self.sloppy = true;
            } else if self.line == self.start {
                check_protocol(line)?;
                status_line = Some(end);
            } else if empty {
                return Ok(Found::End(end));
            } else if matches!(line[0], b' ' | b'\t') {
                self.sloppy = true;
            }
            (self.line, self.seen) = (end as u32, end as u32);
        }
        self.seen = within.len() as u32;
        if let Some(end) = status_line {
            check_status_line(&within[self.start as usize..end])?;
        }
        if self.line == self.start {
            check_protocol(&within[self.line as usize..])?;
        }
        if head.len() >= HEAD_MAX_BYTES {
            let class = FailureClass::HttpHeaderTooLarge;
            return Err(Flaw {
                class,
                why: "the response head is larger than 64 KiB",
            });
        }
        Ok(Found::Partial)
    }
}

/// Whether `line`, complete or not, can still be a status line. A lone CR may become an empty line.
fn check_protocol(line: &[u8]) -> Result<(), Flaw> {
    let shared = line.len().min(PROTOCOL.len());
    if line == b"\r" || line[..shared] == PROTOCOL[..shared] {
        return Ok(());
    }
    Err(Flaw::malformed(
        "the answer does not start with an HTTP/1.x status line",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` one by one; the first thing that is not `Partial`.
    fn dribble(bytes: &[u8]) -> Option<Result<usize, FailureClass>> {
        let mut scan = Scan::default();
        (1..=bytes.len()).find_map(|len| match scan.run(&bytes[..len]) {
            Ok(Found::Partial) => None,
            Ok(Found::End(end)) => Some(Ok(end)),
            Err(flaw) => Some(Err(flaw.class)),
        })
    }

    #[test]
    fn the_end_is_found_in_one_piece_and_byte_by_byte() {
        for (head, sloppy) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\n\r\n", false),
            ("HTTP/1.1 200 OK\nA: b\n\n", true),
            ("\r\n\nHTTP/1.0 200\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n \r\n\r\n", true),
        ] {
            let bytes = [head.as_bytes(), b"body\r\n\r\n"].concat();
            let mut scan = Scan::default();
            assert_eq!(scan.run(&bytes), Ok(Found::End(head.len())), "{head:?}");
            assert_eq!(scan.sloppy(), sloppy, "{head:?}");
            assert_eq!(dribble(&bytes), Some(Ok(head.len())), "{head:?}");
        }
    }

    #[test]
    fn another_protocol_is_told_at_its_first_wrong_byte() {
        for (bytes, at) in [
            ("SSH-2.0-x", 1),
            ("HTTP/2 200 OK", 6),
            ("\r\nhttp", 3),
            ("\rX", 2),
        ] {
            let mut scan = Scan::default();
            let bad = (1..=bytes.len()).find(|&len| scan.run(&bytes.as_bytes()[..len]).is_err());
            assert_eq!(bad, Some(at), "{bytes:?}");
        }
    }

    #[test]
    fn a_head_of_64_kib_passes_and_one_byte_more_is_too_large() {
        let head = |len: usize| {
            let mut bytes = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
            bytes.resize(len - 4, b'x');
            [bytes, b"\r\n\r\n".to_vec()].concat()
        };
        let fits = head(HEAD_MAX_BYTES);
        assert_eq!(Scan::default().run(&fits), Ok(Found::End(HEAD_MAX_BYTES)));
        assert_eq!(dribble(&fits), Some(Ok(HEAD_MAX_BYTES)));
        let over = head(HEAD_MAX_BYTES + 1);
        assert_eq!(dribble(&over), Some(Err(FailureClass::HttpHeaderTooLarge)));
        assert!(Scan::default().run(&over).is_err());
    }
}
