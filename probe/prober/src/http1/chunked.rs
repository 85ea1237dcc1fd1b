//! The chunked coding (RFC 9112 §7.1), validated as it streams by; the data is handed on.
//!
//! ```text
//! Size ─► SizeSpace ─► Extension ─► SizeEnd ─► Data ─► DataEnd ─► DataLf ─► Size
//!                                      └ size 0 ─► Trailer (name, colon, value) ─► End
//! ```
//! It keeps a few bytes of state and never looks back, so the pieces do not matter.

use model::FailureClass;

use super::{Flaw, is_token};

/// Where in the coding the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Hexadecimal digits of a size; how many there were.
    Size {
        digits: u8,
    },
    /// Blanks after the digits.
    SizeSpace,
    /// After `;`, up to the end of the line.
    Extension,
    /// The LF after a size line's CR.
    SizeLf,
    /// Bytes of the chunk.
    Data,
    /// CR LF after the chunk.
    DataEnd,
    DataLf,
    /// Start of a line after the last chunk; whether there was a field before it.
    TrailerStart {
        after_field: bool,
    },
    TrailerName,
    /// Blanks before the colon.
    TrailerSpace,
    TrailerValue,
    TrailerLf,
    /// The LF of the last, empty line.
    LastLf {
        after_field: bool,
    },
    End,
}

/// A chunked body in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunked {
    state: State,
    /// Of the size line: its value so far. Of data: bytes still to come.
    left: u64,
    /// A bare LF, a blank after a size, or a folded trailer was tolerated.
    pub(crate) sloppy: bool,
}

const fn bad(why: &'static str) -> Flaw {
    Flaw {
        class: FailureClass::HttpBadChunk,
        why,
    }
}

impl Chunked {
    pub(crate) const START: Self = Self {
        state: State::Size { digits: 0 },
        left: 0,
        sloppy: false,
    };

    /// Takes in `bytes` and gives the data in them to `data`; how many of them follow the end, once
    /// the body is complete. Those are not looked at.
    ///
    /// # Errors
    /// A [`Flaw`] of class `http.bad_chunk` at the first byte that breaks the coding.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        data: &mut impl FnMut(&[u8]),
    ) -> Result<Option<usize>, Flaw> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                State::End => return Ok(Some(bytes.len())),
                State::Data => {
                    let length = self.left.min(bytes.len() as u64);
                    self.left -= length;
                    let (piece, rest) = bytes.split_at(length as usize);
                    data(piece);
                    bytes = rest;
                    if self.left == 0 {
                        self.state = State::DataEnd;
                    }
                }
                _ => {
                    self.state = self.step(byte)?;
                    bytes = rest;
                }
            }
        }
        Ok((self.state == State::End).then_some(0))
    }

    /// Whether an EOF here leaves nothing out: the last chunk's size line is complete and no
    /// trailer has begun.
    pub(crate) fn complete_at_eof(&self) -> bool {
        matches!(
            self.state,
            State::TrailerStart { after_field: false } | State::LastLf { after_field: false }
        ) || self.state == State::End
    }

    fn step(&mut self, byte: u8) -> Result<State, Flaw> {
        match self.state {
            State::Size { .. } | State::SizeSpace | State::Extension | State::SizeLf => {
                self.size_line(byte)
            }
            State::Data | State::DataEnd => match byte {
                b'\r' => Ok(State::DataLf),
                b'\n' => Ok(self.bare(State::Size { digits: 0 })),
                _ => Err(bad("a chunk is longer than its size")),
            },
            State::DataLf if byte == b'\n' => Ok(State::Size { digits: 0 }),
            State::DataLf => Err(bad("a chunk is not followed by CR LF")),
            _ => self.trailer(byte),
        }
    }

    fn size_line(&mut self, byte: u8) -> Result<State, Flaw> {
        match (self.state, byte) {
            (State::SizeLf, b'\n') => Ok(self.sized()),
            (State::SizeLf, _) => Err(bad("a chunk size line has a bare CR")),
            (State::Size { digits: 0 }, _) if !byte.is_ascii_hexdigit() => {
                Err(bad("a chunk size is not a hexadecimal number"))
            }
            (State::Size { digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from((byte as char).to_digit(16).unwrap_or(0));
                let shifted = self
                    .left
                    .checked_mul(16)
                    .ok_or(bad("a chunk size is too large"))?;
                self.left = shifted + digit;
                Ok(State::Size {
                    digits: digits.saturating_add(1),
                })
            }
            (_, b'\r') => Ok(State::SizeLf),
            (_, b'\n') => {
                let next = self.sized();
                Ok(self.bare(next))
            }
            (State::Extension, 0) => Err(bad("a chunk extension has a NUL")),
            (State::Extension, _) | (_, b';') => Ok(State::Extension),
            (_, b' ' | b'\t') => Ok(self.bare(State::SizeSpace)),
            _ => Err(bad("a chunk size is not a hexadecimal number")),
        }
    }

    /// After a size line.
    fn sized(&self) -> State {
        if self.left == 0 {
            State::TrailerStart { after_field: false }
        } else {
            State::Data
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Flaw> {
        match (self.state, byte) {
            (State::LastLf { .. }, b'\n') => Ok(State::End),
            (State::TrailerStart { after_field }, b'\r') => Ok(State::LastLf { after_field }),
            (State::TrailerStart { .. }, b'\n') => Ok(self.bare(State::End)),
            (State::TrailerStart { after_field: true }, b' ' | b'\t') => {
                Ok(self.bare(State::TrailerValue))
            }
            (State::TrailerStart { .. } | State::TrailerName, _) if is_token(byte) => {
                Ok(State::TrailerName)
            }
            (State::TrailerName | State::TrailerSpace, b' ' | b'\t') => {
                Ok(self.bare(State::TrailerSpace))
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\n') => {
                Ok(self.bare(State::TrailerStart { after_field: true }))
            }
            (State::TrailerValue, 0) => Err(bad("a trailer has a NUL")),
            (State::TrailerValue, _) | (State::TrailerName | State::TrailerSpace, b':') => {
                Ok(State::TrailerValue)
            }
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart { after_field: true }),
            (State::LastLf { .. } | State::TrailerLf, _) => Err(bad("a trailer has a bare CR")),
            _ => Err(bad("a trailer has no colon or an invalid name")),
        }
    }

    /// `next`, reached by a tolerance.
    fn bare(&mut self, next: State) -> State {
        self.sloppy = true;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (bytes after the end, sloppy) after all of `text`, whole and byte by byte.
    fn feed(text: &str) -> Result<(Option<usize>, bool), &'static str> {
        let run = |pieces: Vec<&[u8]>| {
            let mut body = Chunked::START;
            let mut after = None;
            for piece in pieces {
                let more = body.feed(piece, &mut |_| {}).map_err(|flaw| flaw.why)?;
                after = more.map(|bytes| bytes + after.unwrap_or(0));
            }
            Ok((after, body.sloppy))
        };
        let whole = run(vec![text.as_bytes()]);
        assert_eq!(run(text.as_bytes().chunks(1).collect()), whole, "{text:?}");
        whole
    }

    #[test]
    fn well_framed_bodies_are_complete() {
        for (text, after, sloppy) in [
            ("0\r\n\r\n", 0, false),
            ("5\r\nhello\r\n0\r\n\r\n", 0, false),
            ("A\r\n0123456789\r\n000\r\n\r\nand more", 8, false),
            ("5;a=b;c\r\nhello\r\n0;x\r\nDigest: 1\r\n\r\n", 0, false),
            ("5\nhello\n0\n\n", 0, true),
            ("5 \r\nhello\r\n0\r\n\r\n", 0, true),
            ("0\r\nA : b\r\n c\r\n\r\n", 0, true),
        ] {
            assert_eq!(feed(text), Ok((Some(after), sloppy)), "{text:?}");
        }
    }

    #[test]
    fn broken_framing_is_told() {
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "0x5\r\n",
            "5\rX",
            "5 5\r\n",
            "5\r\nhelloX",
            "5\r\nhello\rX",
            "11111111111111111\r\n",
            "0\r\n: b\r\n",
            "0\r\nno colon\r\n",
            "0\r\nA: \0\r\n",
            "0\r\nA: b\rX",
            "0\r\n\rX",
            "0\r\n b: c\r\n",
            "5;\0\r\n",
        ] {
            assert!(feed(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_eof_is_complete_only_after_the_last_size_line() {
        for (text, complete) in [
            ("", false),
            ("5", false),
            ("5\r\nhel", false),
            ("5\r\nhello", false),
            ("5\r\nhello\r\n", false),
            ("0", false),
            ("0\r", false),
            ("0\r\n", true),
            ("0\r\n\r", true),
            ("0\n", true),
            ("0\r\nA: b\r\n", false),
            ("0\r\nA: b\r\n\r", false),
        ] {
            let mut body = Chunked::START;
            assert_eq!(
                body.feed(text.as_bytes(), &mut |_| {}),
                Ok(None),
                "{text:?}"
            );
            assert_eq!(body.complete_at_eof(), complete, "{text:?}");
        }
    }
}
