//! What a command says: results to standard output, remarks to standard error. The only place that
//! writes to either, since the macros of the standard library panic where nobody takes the text.

use std::fmt::{Arguments, Display};
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use anyhow::Context;

/// The result of a command on its way to standard output.
///
/// Writing never fails at the call: after the first failure the rest is dropped, so that a command
/// goes on to what it has to do and to the exit code that it earns. [`Out::end`] tells.
pub(crate) struct Out<W: Write = StdoutLock<'static>> {
    to: BufWriter<W>,
    written: io::Result<()>,
}

impl Out {
    /// Standard output, for as long as this lives.
    pub(crate) fn start() -> Self {
        Self::to(io::stdout().lock())
    }
}

impl<W: Write> Out<W> {
    fn to(place: W) -> Self {
        Self {
            to: BufWriter::new(place),
            written: Ok(()),
        }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.write(format_args!("{line}\n"));
    }

    /// Adds text that has its line ends.
    pub(crate) fn text(&mut self, text: impl Display) {
        self.write(format_args!("{text}"));
    }

    fn write(&mut self, text: Arguments<'_>) {
        if self.written.is_ok() {
            self.written = self.to.write_fmt(text);
        }
    }

    /// Hands over what was added so far.
    pub(crate) fn flush(&mut self) {
        if self.written.is_ok() {
            self.written = self.to.flush();
        }
    }

    /// Whether nothing more can be written: a long list need not be read to its end for it.
    pub(crate) fn is_closed(&self) -> bool {
        self.written.is_err()
    }

    /// The end of the result. A reader that went away (`| head`) has seen enough.
    ///
    /// # Errors
    /// A result that was not written for another reason, such as a full disk.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.flush();
        match self.written {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("the result cannot be written to where standard output leads")
            }
            _ => Ok(()),
        }
    }
}

/// The whole result of a command, in one line.
///
/// # Errors
/// As [`Out::end`].
pub(crate) fn line(line: impl Display) -> anyhow::Result<()> {
    let mut out = Out::start();
    out.line(line);
    out.end()
}

/// The whole result of a command, as text that has its line ends.
///
/// # Errors
/// As [`Out::end`].
pub(crate) fn text(text: impl Display) -> anyhow::Result<()> {
    let mut out = Out::start();
    out.text(text);
    out.end()
}

/// A remark of this command, on standard error.
pub(crate) fn remark(remark: impl Display) {
    plain_remark(format_args!("ringwatch: {remark}"));
}

/// A remark that has its own beginning, such as the place in a list.
pub(crate) fn plain_remark(line: impl Display) {
    // One write, so that no other process writes into it. Where it cannot be written there is
    // nobody left to tell.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place that takes so many bytes and then fails.
    struct Place(usize, ErrorKind);

    impl Write for Place {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(self.1.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_ends_the_result_quietly() {
        let mut out = Out::to(Place(3, ErrorKind::BrokenPipe));
        out.line("one");
        assert!(!out.is_closed());
        out.flush();
        assert!(out.is_closed());
        out.text("two\n");
        out.end().expect("it has seen enough");
    }

    #[test]
    fn a_result_that_cannot_be_written_is_an_error_also_when_only_its_end_is_missing() {
        let mut out = Out::to(Place(3, ErrorKind::StorageFull));
        out.line("one");
        let error = out.end().expect_err("one byte is missing");
        let said = format!("{error:#}");
        let expected = "the result cannot be written to where standard output leads: ";
        assert!(said.starts_with(expected), "{said}");
        Out::to(Place(4, ErrorKind::StorageFull))
            .end()
            .expect("nothing to write");
    }
}
