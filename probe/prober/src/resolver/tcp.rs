//! Questions over streams, inside the time limit of the try that led to them.
//!
//! | what came by datagram | what the stream brings |
//! |---|---|
//! | cut short (TC) | the whole answer; a refusal is an answer too |
//! | our question in other letters | the answer, which nobody on the side can forge |
//!
//! An upstream whose stream does not repeat our letters either, or that has no answer on a stream
//! for a misspelled one, does not keep letters: from then on its questions are in lower case, and
//! port and id alone guard its answers (RFC 5452). A misspelled datagram beside a well spelled
//! stream was a forgery.
//!
//! A stream that ends without an answer is a malformed one; one that fails is silence, or an
//! upstream that does not listen. A question for which no stream is left is our own trouble.

use model::{FailureClass, MonoUs};

use super::case::Case;
use super::codec::{self, Reply};
use super::flights::{Query, Trouble};
use super::streams::{Question, Reason};
use super::{DnsCommand, DnsStream, Resolver};

impl Resolver {
    /// Asks the upstream of the last try again, over a stream.
    pub(super) fn ask_by_stream(&mut self, flight: u32, reason: Reason, now: MonoUs) {
        let id = self.random.next() as u16;
        let question = Question { flight, id, reason };
        let Some(stream) = self.streams.open(question) else {
            self.stats.streams_refused += 1;
            return self.on_refusal(flight, Trouble::Local, now);
        };
        let family = self.family(flight);
        let entry = self.flights.get_mut(flight);
        entry.query = Some(Query::Stream(stream));
        let upstream = self.sockets.upstreams()[usize::from(entry.upstream)];
        let mut bytes = self.buffers.pop().unwrap_or_default();
        let name = self.hosts.name(entry.host);
        codec::encode(name, entry.style, family, id, &mut bytes);
        let length = bytes.len() as u16;
        bytes.splice(..0, length.to_be_bytes());
        self.commands.push_back(DnsCommand::OpenStream {
            stream,
            upstream,
            bytes,
        });
        self.bucket.take();
        self.stats.queries += 1;
        self.stats.stream_queries += 1;
    }

    /// Bytes of a stream; with the last one of its message the question is answered.
    pub(super) fn on_stream_bytes(&mut self, stream: DnsStream, bytes: &[u8], now: MonoUs) {
        let Some((question, message)) = self.streams.push(stream, bytes) else {
            return;
        };
        self.commands.push_back(DnsCommand::CloseStream { stream });
        let Question { flight, id, reason } = question;
        let family = self.family(flight);
        let entry = self.flights.get_mut(flight);
        entry.query = None;
        self.turns.note_answer(entry.upstream);
        let said = (codec::id_of(&message) == Some(id))
            .then(|| {
                codec::read(
                    &message,
                    self.hosts.name(entry.host),
                    entry.style.case,
                    family,
                )
            })
            .flatten();
        let spelled = said.as_ref().map(|said| said.spelled);
        let reply = match said.map(|said| said.reply) {
            // A stream has room for everything.
            None | Some(Reply::Truncated) => Reply::Malformed,
            Some(reply) => reply,
        };
        match (reason, spelled) {
            (_, Some(false)) | (Reason::Misspelled, None) => self.trust_without_letters(flight),
            (Reason::Misspelled, Some(true)) => self.stats.ignored += 1,
            (Reason::Truncated, _) => {}
        }
        self.count(&reply);
        self.on_reply(flight, reply, now);
    }

    /// The upstream closed the stream.
    pub(super) fn on_stream_end(&mut self, stream: DnsStream, now: MonoUs) {
        let class = FailureClass::DnsMalformed;
        if let Some(flight) = self.lose_stream(stream) {
            self.stats.malformed += 1;
            self.on_refusal(flight, Trouble::Answered { class, rcode: None }, now);
        }
    }

    /// The stream could not be opened, or failed.
    pub(super) fn on_stream_error(&mut self, stream: DnsStream, errno: i32, now: MonoUs) {
        if let Some(flight) = self.lose_stream(stream) {
            self.stats.socket_errors += 1;
            self.ask_elsewhere(flight, Trouble::of(errno), now);
        }
    }

    /// The stream is over without an answer: whose question it was.
    fn lose_stream(&mut self, stream: DnsStream) -> Option<u32> {
        let question = self.streams.close(stream)?;
        self.commands.push_back(DnsCommand::CloseStream { stream });
        self.flights.get_mut(question.flight).query = None;
        if question.reason == Reason::Misspelled {
            self.trust_without_letters(question.flight);
        }
        Some(question.flight)
    }

    /// The time limit of the try is over.
    pub(super) fn drop_stream(&mut self, stream: DnsStream) {
        self.lose_stream(stream);
    }

    /// The upstream of the last try does not keep letters.
    fn trust_without_letters(&mut self, flight: u32) {
        let entry = self.flights.get_mut(flight);
        if entry.style.case != Case::Lower {
            self.letterless |= 1 << entry.upstream;
        }
    }
}
