//! Fuzz body of target lists: a function of bytes that panics when a property fails.
//!
//! It is compiled for this crate's tests only, which replay its corpus with it. The node is a
//! program without a library, so `tools/fuzz` takes this file and those it reads by their paths.

use std::io::{BufRead, BufReader};

use super::file::{Row, TargetFile};

/// A line that is refused whatever stands around it.
const BAD_LINE: &[u8] = b"\"an open quote\n";
/// Name of the list in messages.
const NAME: &str = "t.csv";

/// What a list says: rows without their line numbers, and the lines that were refused.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    rows: Vec<String>,
    refused: Vec<u64>,
}

/// A list says the same in whatever pieces it is read; without its bad lines, and with others
/// among them, the rows of the good lines are the same. A bad line before the first record may be
/// its header line, and refuses the list.
pub(crate) fn csv(data: &[u8]) {
    let whole = read(data);
    let capacity = usize::from(data.first().copied().unwrap_or(0)) % 7 + 1;
    assert_eq!(read(BufReader::with_capacity(capacity, data)), whole);
    let Some(whole) = whole else {
        return;
    };
    let lines: Vec<&[u8]> = data.split_inclusive(|&byte| byte == b'\n').collect();
    let good_lines = (1..)
        .zip(&lines)
        .filter(|(n, _)| !whole.refused.contains(n));
    let good: Vec<u8> = good_lines.flat_map(|(_, line)| *line).copied().collect();
    let alone = read(&good[..]).expect("bad lines hold nothing that the list needs");
    assert_eq!(
        alone,
        Read {
            rows: whole.rows,
            refused: Vec::new()
        }
    );

    assert_eq!(read(&[BAD_LINE, &good[..]].concat()[..]), None);
    let (mut mixed, mut has_begun, mut bad) = (Vec::new(), false, 0);
    for line in good.split_inclusive(|&byte| byte == b'\n') {
        mixed.extend_from_slice(line);
        has_begun |= is_record(line);
        if has_begun && line.ends_with(b"\n") {
            mixed.extend_from_slice(BAD_LINE);
            bad += 1;
        }
    }
    let mixed = read(&mixed[..]).expect("a bad line harms itself only");
    assert_eq!((mixed.rows, mixed.refused.len()), (alone.rows, bad));
}

/// Whether `line` is neither blank nor a comment.
fn is_record(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    !text.trim().is_empty() && !text.trim().starts_with('#')
}

/// `None` when the list is refused as a whole, which must be said with its name.
fn read(reader: impl BufRead) -> Option<Read> {
    let mut file = TargetFile::new(NAME, reader);
    let (mut rows, mut refused, mut last) = (Vec::new(), Vec::new(), 0);
    loop {
        let line = match file.next() {
            Ok(None) => return Some(Read { rows, refused }),
            Ok(Some(Ok(row))) => {
                rows.push(shown(&row));
                row.line
            }
            Ok(Some(Err(line))) => {
                assert!(
                    line.to_string()
                        .starts_with(&format!("{NAME}:{}: ", line.line))
                );
                refused.push(line.line);
                line.line
            }
            Err(error) => {
                assert!(error.to_string().contains(NAME), "{error}");
                return None;
            }
        };
        assert!(line > last, "a line was read twice");
        last = line;
    }
}

fn shown(row: &Row) -> String {
    assert!(row.id.is_none_or(|id| id.get() > 0));
    format!("{:?} {:?}", row.id, row.config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_input_of_the_corpus_keeps_the_properties() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/csv");
        let inputs: Vec<_> = std::fs::read_dir(folder)
            .expect("the corpus is checked in")
            .map(|entry| entry.expect("a folder can be read").path())
            .collect();
        assert!((1..=200).contains(&inputs.len()), "{} inputs", inputs.len());
        for input in inputs {
            // Shown when the body panics.
            println!("{}", input.display());
            let bytes = std::fs::read(&input).expect("a file of the corpus can be read");
            assert!(bytes.len() <= 4_096);
            csv(&bytes);
        }
    }
}
