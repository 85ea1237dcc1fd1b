//! Streams to upstreams: one question each, for answers that a datagram cannot bring.
//!
//! ```text
//! opened, the question goes out ─► bytes … ─► one message ─► closed
//!                └──────── end, error, time limit ──────────► closed
//! ```
//!
//! Their number is bounded, and so is what each may hold. It knows flights by number only.

use model::limits::DNS_STREAMS_MAX;

use super::DnsStream;
use super::frame::Frame;

/// Why a question goes over a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The datagram was cut short.
    Truncated,
    /// The datagram did not repeat the question's letters as we wrote them: it is forged, or the
    /// upstream does not keep them.
    Misspelled,
}

/// A question under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) flight: u32,
    pub(super) id: u16,
    pub(super) reason: Reason,
}

#[derive(Debug)]
struct Stream {
    number: DnsStream,
    question: Question,
    frame: Frame,
}

/// The open streams of one resolver.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Vec<Stream>,
    last: u32,
}

impl Streams {
    /// A stream for `question`; `None` when too many are open.
    pub(super) fn open(&mut self, question: Question) -> Option<DnsStream> {
        if self.open.len() >= DNS_STREAMS_MAX {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        let number = DnsStream(self.last);
        self.open.push(Stream {
            number,
            question,
            frame: Frame::default(),
        });
        Some(number)
    }

    /// Takes bytes in. When they complete the message, the stream counts as closed.
    pub(super) fn push(&mut self, number: DnsStream, bytes: &[u8]) -> Option<(Question, Vec<u8>)> {
        let stream = self.open.iter_mut().find(|open| open.number == number)?;
        let message = stream.frame.push(bytes)?.to_vec();
        Some((self.close(number)?, message))
    }

    /// The stream is over; what it was for, if it was open.
    pub(super) fn close(&mut self, number: DnsStream) -> Option<Question> {
        let at = self.open.iter().position(|open| open.number == number)?;
        Some(self.open.swap_remove(at).question)
    }

    /// Open streams.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question = Question {
        flight: 3,
        id: 4,
        reason: Reason::Truncated,
    };

    #[test]
    fn so_many_may_be_open_and_no_number_comes_back_soon() {
        let mut streams = Streams::default();
        let first = streams.open(QUESTION).expect("room");
        for _ in 1..DNS_STREAMS_MAX {
            assert!(streams.open(QUESTION).is_some());
        }
        assert_eq!(streams.open(QUESTION), None);
        assert_eq!(streams.close(first), Some(QUESTION));
        assert_eq!(streams.close(first), None);
        let next = streams.open(QUESTION).expect("room again");
        assert_ne!(next, first);
        assert_eq!(streams.push(first, &[0, 1, 7]), None, "closed");
        assert_eq!(streams.push(next, &[0, 1]), None);
        assert_eq!(streams.push(next, &[7, 8]), Some((QUESTION, vec![7])));
        assert_eq!(streams.len(), DNS_STREAMS_MAX - 1);
    }
}
