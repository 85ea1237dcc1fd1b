//! A response body: where it ends, how much of it is read, and what an EOF means. Its bytes are
//! handed on as they come, and kept by nobody here.

use model::limits::BODY_MAX_BYTES;

use super::Flaw;
use super::chunked::Chunked;
use super::head::Framing;

/// A body in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    kind: Kind,
    /// Bytes on the wire that are still looked at before the limit makes it a success; of a body
    /// that is searched as many as the attempt reads, the search counts what it looks at.
    budget: u32,
    /// Bytes handed on so far, framing taken off.
    data_bytes: u32,
}

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// More of it is to be read.
    More,
    /// It is over; whether bytes came that follow it.
    Whole { surplus: bool },
    /// No more of it is looked at.
    Enough,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Length(u64),
    Chunked(Chunked),
    ToClose,
}

impl Body {
    /// The body that `framing` announces; `None` when there is nothing to read. Whether it is
    /// `searched` says whose limit holds: framing must not take room from what is looked for.
    pub(crate) fn new(framing: Framing, searched: bool) -> Option<Self> {
        let kind = match framing {
            Framing::Absent | Framing::Length(0) => return None,
            Framing::Length(length) => Kind::Length(length),
            Framing::Chunked => Kind::Chunked(Chunked::START),
            Framing::ToClose => Kind::ToClose,
        };
        Some(Self {
            kind,
            budget: if searched {
                u32::MAX
            } else {
                BODY_MAX_BYTES as u32
            },
            data_bytes: 0,
        })
    }

    /// Whether the time budget ends it: its size is not known, or above the limit.
    pub(crate) fn is_open_ended(&self) -> bool {
        let come = u64::from(self.data_bytes);
        !matches!(self.kind, Kind::Length(left) if left.saturating_add(come) <= BODY_MAX_BYTES)
    }

    /// Takes in `bytes` and gives what they carry, framing taken off, to `data`; how far it
    /// has come.
    ///
    /// # Errors
    /// A [`Flaw`] when the chunked coding is broken within the limit.
    pub(crate) fn feed(&mut self, bytes: &[u8], data: &mut impl FnMut(&[u8])) -> Result<Fed, Flaw> {
        let looked_at = &bytes[..bytes.len().min(self.budget as usize)];
        let handed_on = &mut self.data_bytes;
        let mut data = |piece: &[u8]| {
            *handed_on += piece.len() as u32;
            data(piece);
        };
        // Bytes after the end, once that has come.
        let after = match &mut self.kind {
            Kind::Length(left) => {
                let piece = &looked_at[..looked_at.len().min(*left as usize)];
                data(piece);
                *left -= piece.len() as u64;
                (*left == 0).then_some(looked_at.len() - piece.len())
            }
            Kind::Chunked(chunked) => chunked.feed(looked_at, &mut data)?,
            Kind::ToClose => {
                data(looked_at);
                None
            }
        };
        self.budget -= looked_at.len() as u32;
        Ok(match (after, self.budget) {
            (Some(after), _) => Fed::Whole {
                surplus: after > 0 || looked_at.len() < bytes.len(),
            },
            (None, 0) => Fed::Enough,
            (None, _) => Fed::More,
        })
    }

    /// Judges the end of the connection before the end of the body.
    ///
    /// # Errors
    /// A [`Flaw`] of class `http.truncated` when something is missing.
    pub(crate) fn eof(&self) -> Result<(), Flaw> {
        match &self.kind {
            Kind::Length(_) => Err(Flaw::truncated(
                "the body is shorter than its Content-Length",
            )),
            Kind::Chunked(chunked) if !chunked.complete_at_eof() => {
                Err(Flaw::truncated("the body ends before its last chunk"))
            }
            Kind::Chunked(_) | Kind::ToClose => Ok(()),
        }
    }

    /// Bytes that were handed on, framing taken off: at most a mebibyte, unless it is searched and
    /// coded.
    pub(crate) fn data_bytes(&self) -> u32 {
        self.data_bytes
    }

    /// Whether the framing needed a tolerance.
    pub(crate) fn sloppy(&self) -> bool {
        matches!(&self.kind, Kind::Chunked(chunked) if chunked.sloppy)
    }
}

#[cfg(test)]
mod tests {
    use model::FailureClass;

    use super::*;

    const MIB: usize = BODY_MAX_BYTES as usize;

    fn feed(body: &mut Body, bytes: &[u8]) -> Result<Fed, Flaw> {
        body.feed(bytes, &mut |_| {})
    }

    #[test]
    fn the_data_is_handed_on_without_its_framing() {
        for (framing, wire, data) in [
            (Framing::Length(5), "hello and more", "hello"),
            (
                Framing::Chunked,
                "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\nmore",
                "hello",
            ),
            (Framing::ToClose, "hello", "hello"),
        ] {
            let mut body = Body::new(framing, false).expect("something to read");
            let mut found = Vec::new();
            for byte in wire.as_bytes() {
                body.feed(&[*byte], &mut |piece| found.extend_from_slice(piece))
                    .expect("well framed");
            }
            assert_eq!(found, data.as_bytes(), "{framing:?}");
            assert_eq!(body.data_bytes(), 5, "{framing:?}");
        }
    }

    #[test]
    fn a_length_must_arrive_exactly_and_what_follows_is_ignored() {
        let mut body = Body::new(Framing::Length(5), false).expect("something to read");
        assert!(!body.is_open_ended());
        assert_eq!(feed(&mut body, b"hell"), Ok(Fed::More));
        assert_eq!(
            body.eof().map_err(|flaw| flaw.class),
            Err(FailureClass::HttpTruncated)
        );
        let mut exact = body;
        assert_eq!(feed(&mut exact, b"o"), Ok(Fed::Whole { surplus: false }));
        let whole = feed(&mut body, b"o and more");
        assert_eq!(whole, Ok(Fed::Whole { surplus: true }));
        assert_eq!(Body::new(Framing::Length(0), false), None);
    }

    #[test]
    fn a_mebibyte_is_enough_of_any_body() {
        for framing in [Framing::Length(BODY_MAX_BYTES + 1), Framing::ToClose] {
            let mut body = Body::new(framing, false).expect("something to read");
            assert!(body.is_open_ended());
            assert_eq!(feed(&mut body, &vec![0; MIB - 1]), Ok(Fed::More));
            assert_eq!(body.eof().is_err(), framing != Framing::ToClose);
            assert_eq!(feed(&mut body, &[0; 9]), Ok(Fed::Enough));
        }
        let exact = Body::new(Framing::Length(BODY_MAX_BYTES), false).expect("something to read");
        assert!(!exact.is_open_ended());
    }

    #[test]
    fn chunks_are_validated_only_as_far_as_they_are_read() {
        let mut body = Body::new(Framing::Chunked, false).expect("something to read");
        let mut bytes = b"FFFFF0\r\n".to_vec();
        bytes.resize(MIB, b'x');
        assert_eq!(
            feed(&mut body, &[&bytes[..], b"broken"].concat()),
            Ok(Fed::Enough)
        );
        let mut body = Body::new(Framing::Chunked, false).expect("something to read");
        assert_eq!(
            feed(&mut body, b"z").map_err(|flaw| flaw.class),
            Err(FailureClass::HttpBadChunk)
        );
    }

    #[test]
    fn framing_takes_no_room_from_a_body_that_is_searched() {
        let chunk = b"1\r\nx\r\n";
        for (searched, expected) in [(false, Ok(Fed::Enough)), (true, Ok(Fed::More))] {
            let mut body = Body::new(Framing::Chunked, searched).expect("something to read");
            assert_eq!(feed(&mut body, &chunk.repeat(MIB / 4)), expected);
            let mut body = Body::new(Framing::Length(BODY_MAX_BYTES), searched).expect("a length");
            assert!(!body.is_open_ended());
            assert_eq!(feed(&mut body, &[0; 9]), Ok(Fed::More));
            assert!(!body.is_open_ended(), "it is as long as before");
            let longer = Framing::Length(BODY_MAX_BYTES + 1);
            let mut body = Body::new(longer, searched).expect("something to read");
            assert_eq!(feed(&mut body, &[0; 9]), Ok(Fed::More));
            assert!(body.is_open_ended());
        }
    }
}
