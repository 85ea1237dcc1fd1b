//! Lines of a target list, one record each: comments, blank lines, limits, quotes. Streams; holds
//! one line at a time.

use std::io::{self, BufRead, Read};

use model::FieldError;

/// Longest line, in bytes: a URL, a name, 32 headers and 17 texts fit many times over.
const LINE_MAX_BYTES: usize = 256 * 1024;

/// The records of a list.
pub(crate) struct Lines<R> {
    reader: R,
    number: u64,
    buffer: Vec<u8>,
}

/// Why no record follows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The list begins with a byte order mark of UTF-16, as Excel's "Unicode text" does.
    #[error("found UTF-16 text, accepted is UTF-8: save the list as \"CSV UTF-8\"")]
    Utf16,
    /// It cannot be read on.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One record: its line, and its fields or why it has none.
pub(crate) struct Record {
    /// From 1.
    pub(crate) line: u64,
    /// Trimmed fields.
    pub(crate) fields: Result<Vec<String>, FieldError>,
}

impl<R: BufRead> Lines<R> {
    /// The records of `reader`.
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            buffer: Vec::new(),
        }
    }

    /// The next record that is neither blank nor a comment.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Broken> {
        loop {
            self.buffer.clear();
            let limit = LINE_MAX_BYTES as u64;
            let read = (&mut self.reader)
                .take(limit)
                .read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.number == 1 && matches!(self.buffer[..], [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
                return Err(Broken::Utf16);
            }
            if read == LINE_MAX_BYTES && self.buffer.last() != Some(&b'\n') {
                self.reader.skip_until(b'\n')?;
                return Ok(Some(
                    self.refused("a longer line", "at most 262144 bytes per line"),
                ));
            }
            let bytes = self
                .buffer
                .strip_prefix(b"\xef\xbb\xbf")
                .unwrap_or(&self.buffer);
            if bytes.trim_ascii_start().starts_with(b"#") {
                // A comment, in whatever encoding.
                continue;
            }
            let Ok(text) = std::str::from_utf8(bytes) else {
                return Ok(Some(self.refused("other bytes", "UTF-8 text")));
            };
            let text = text.trim();
            if !text.is_empty() && !text.starts_with('#') {
                return Ok(Some(Record {
                    line: self.number,
                    fields: split(text),
                }));
            }
        }
    }

    fn refused(&self, found: &str, accepted: &str) -> Record {
        Record {
            line: self.number,
            fields: Err(FieldError::new("line", found, accepted)),
        }
    }
}

/// The fields of one CSV record (RFC 4180, without line breaks inside quotes).
fn split(text: &str) -> Result<Vec<String>, FieldError> {
    if !text.contains('"') {
        return Ok(text
            .split(',')
            .map(|field| field.trim().to_owned())
            .collect());
    }
    let quotes = text.bytes().filter(|&byte| byte == b'"').count();
    // The line itself is not shown: a header with a password may stand in it.
    let refuse = || {
        let found = format!("{quotes} quotes");
        FieldError::new("line", &found, "quotes that are closed on the same line")
    };
    if quotes % 2 == 1 {
        return Err(refuse());
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let record = reader
        .records()
        .next()
        .and_then(Result::ok)
        .ok_or_else(refuse)?;
    Ok(record.iter().map(ToOwned::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &[u8]) -> Vec<(u64, Result<Vec<String>, FieldError>)> {
        let mut lines = Lines::new(text);
        let mut all = Vec::new();
        while let Some(record) = lines.next().expect("memory does not fail") {
            all.push((record.line, record.fields));
        }
        all
    }

    #[test]
    fn comments_and_blank_lines_are_counted_but_skipped() {
        let text = b"\xef\xbb\xbf# list\r\n\r\n http://a/ , 60\r\n#x \xe9\nhttp://b/";
        let seen: Vec<(u64, Vec<String>)> = records(text)
            .into_iter()
            .map(|(n, fields)| (n, fields.expect("good")))
            .collect();
        assert_eq!(seen[0], (3, vec!["http://a/".to_owned(), "60".to_owned()]));
        assert_eq!(seen[1], (5, vec!["http://b/".to_owned()]));
        assert_eq!(seen.len(), 2);
    }

    #[test]
    fn quoted_fields_may_hold_commas_and_quotes() {
        let all = records(b"http://a/,\"x, \"\"y\"\"\"\n");
        assert_eq!(all[0].1.as_ref().expect("good")[1], "x, \"y\"");
    }

    #[test]
    fn an_open_quote_harms_its_own_line_only() {
        let all = records(b"\"http://a/\nhttp://b/\n");
        assert_eq!(all[0].1.as_ref().expect_err("open").found, "1 quotes");
        assert_eq!(all[1].1.as_ref().expect("good"), &["http://b/"]);
    }

    #[test]
    fn a_line_that_is_too_long_or_not_text_is_refused_and_passed_over() {
        let mut text = vec![b'x'; LINE_MAX_BYTES + 10];
        text.extend_from_slice(b"\nhttp://\xff/\nhttp://b/\n");
        let all = records(&text);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].1.as_ref().expect_err("long").field, "line");
        assert_eq!(all[1].1.as_ref().expect_err("bytes").accepted, "UTF-8 text");
        assert_eq!((all[2].0, all[2].1.is_ok()), (3, true));
    }
}
