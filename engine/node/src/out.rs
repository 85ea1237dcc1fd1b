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
    /// What the command says goes to `place`.
    pub(crate) fn to(place: W) -> Self {
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

/// What a stranger said (a server, a verifier), for a terminal: nothing in it commands that, or
/// looks like a line of ours. Lines after the first begin with `indent`; of other controls the
/// number is shown.
pub(crate) fn printable(text: &str, indent: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.replace("\r\n", "\n").chars() {
        match letter {
            '\n' => shown.extend(["\n", indent]),
            '\t' => shown.push('\t'),
            control if control.is_control() => {
                shown.extend(["\\x", &format!("{:02x}", u32::from(control))]);
            }
            turning if turns_lines(turning) => shown.extend(turning.escape_unicode()),
            other => shown.push(other),
        }
    }
    shown
}

/// Whether a terminal that knows scripts from right to left would change the order of a line.
fn turns_lines(letter: char) -> bool {
    matches!(
        letter,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
    ) || matches!(letter, '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_commands_no_terminal() {
        let said = "HTTP/1.1 503 \u{1b}[2J\u{9b}31m\r\nx:\ty\rz\u{7}\u{7f}\n\u{202e}pu é 網";
        let shown = "HTTP/1.1 503 \\x1b[2J\\x9b31m\n  x:\ty\\x0dz\\x07\\x7f\n  \\u{202e}pu é 網";
        assert_eq!(printable(said, "  "), shown);
    }

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
