//! Names and texts as zone files write them (RFC 1035 §5.1), and back. What dig shows is read, and
//! what is written here is read by anybody.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Field;

/// Longest label, and longest name with the lengths of its labels, in bytes (RFC 1035 §2.3.4).
const LABEL_MAX_BYTES: usize = 63;
const NAME_MAX_BYTES: usize = 255;

/// Bytes of a label that would mean something in a zone file.
const SPECIAL: &[u8] = b".\\\"();@$";

/// Appends the written form of `field`.
pub(super) fn write(field: &Field<'_>, out: &mut String) {
    match field {
        Field::Address(address) => {
            let _ = write!(out, "{address}");
        }
        Field::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Field::Name(labels) if labels.is_empty() => out.push('.'),
        Field::Name(labels) => {
            for (at, label) in labels.iter().enumerate() {
                if at > 0 {
                    out.push('.');
                }
                write_label(label, out);
            }
        }
        Field::Word(word) => write_label(word, out),
        Field::Text(bytes) => match plain(bytes) {
            Some(text) => out.push_str(text),
            None => write_quoted(bytes, out),
        },
        Field::Quoted(bytes) => write_quoted(bytes, out),
    }
}

fn write_label(label: &[u8], out: &mut String) {
    for byte in label.iter().map(u8::to_ascii_lowercase) {
        if SPECIAL.contains(&byte) {
            out.push('\\');
        }
        write_byte(byte, byte.is_ascii_graphic(), out);
    }
}

fn write_quoted(bytes: &[u8], out: &mut String) {
    out.push('"');
    for &byte in bytes {
        if matches!(byte, b'"' | b'\\') {
            out.push('\\');
        }
        write_byte(byte, matches!(byte, b' '..=b'~'), out);
    }
    out.push('"');
}

fn write_byte(byte: u8, is_shown: bool, out: &mut String) {
    if is_shown {
        out.push(char::from(byte));
    } else {
        let _ = write!(out, "\\{byte:03}");
    }
}

/// The bytes as they are, if they are read as the same without quotes.
fn plain(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_plain = !text.is_empty()
        && text.trim() == text
        && !text.starts_with('"')
        && !text.contains(char::is_control);
    is_plain.then_some(text)
}

/// A text as it is, or the strings in quotes that it is made of.
pub(super) fn text(written: &str) -> Option<Cow<'_, [u8]>> {
    if written.starts_with('"') {
        strings(written).map(Cow::Owned)
    } else {
        (!written.is_empty()).then_some(Cow::Borrowed(written.as_bytes()))
    }
}

/// `"one" "two"`, joined.
fn strings(mut written: &str) -> Option<Vec<u8>> {
    let mut joined = Vec::new();
    while !written.is_empty() {
        let mut bytes = written.strip_prefix('"')?.as_bytes();
        while *bytes.first()? != b'"' {
            let (byte, rest) = next_byte(bytes)?;
            joined.push(byte);
            bytes = rest;
        }
        // What is behind an ASCII character begins with a whole one.
        written = std::str::from_utf8(&bytes[1..]).ok()?.trim_start();
    }
    Some(joined)
}

/// The byte that is written next, and what follows it.
fn next_byte(written: &[u8]) -> Option<(u8, &[u8])> {
    match written {
        [b'\\', a, b, c, rest @ ..] if [a, b, c].iter().all(|byte| byte.is_ascii_digit()) => {
            let digits = [a, b, c].map(|byte| u16::from(byte - b'0'));
            let value = digits.iter().fold(0, |value, digit| value * 10 + digit);
            Some((u8::try_from(value).ok()?, rest))
        }
        [b'\\', byte, rest @ ..] if !byte.is_ascii_digit() => Some((*byte, rest)),
        [b'\\', ..] | [] => None,
        [byte, rest @ ..] => Some((*byte, rest)),
    }
}

/// The labels of a name, whose last dot may be left out; letters that are not ASCII as IDNA writes
/// them.
pub(super) fn labels(written: &str) -> Option<Vec<Cow<'_, [u8]>>> {
    if written == "." {
        return Some(Vec::new());
    }
    let labels = if written.is_ascii() {
        split(written.as_bytes())?
    } else {
        let Ok(url::Host::Domain(ascii)) = url::Host::parse(written) else {
            return None;
        };
        split(ascii.as_bytes())?
    };
    let length: usize = labels.iter().map(|label| label.len() + 1).sum();
    let is_label = |label: &Vec<u8>| (1..=LABEL_MAX_BYTES).contains(&label.len());
    let is_name = !labels.is_empty() && length < NAME_MAX_BYTES && labels.iter().all(is_label);
    is_name.then(|| labels.into_iter().map(Cow::Owned).collect())
}

fn split(mut written: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut labels = vec![Vec::new()];
    while !written.is_empty() {
        if let [b'.', rest @ ..] = written {
            written = rest;
            if !written.is_empty() {
                labels.push(Vec::new());
            }
            continue;
        }
        let (byte, rest) = next_byte(written)?;
        labels.last_mut()?.push(byte);
        written = rest;
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(field: &Field<'_>) -> String {
        let mut out = String::new();
        write(field, &mut out);
        out
    }

    #[test]
    fn names_have_their_sizes() {
        let label = "a".repeat(LABEL_MAX_BYTES);
        let name = [&label[..], &label, &label, &label[2..]].join(".");
        assert_eq!(name.len(), 253);
        assert!(labels(&name).is_some());
        assert!(labels(&(name.clone() + ".")).is_some());
        for bad in [
            name + "a",
            label + "a",
            ".a".into(),
            "a..b".into(),
            String::new(),
        ] {
            assert_eq!(labels(&bad), None, "{bad}");
        }
    }

    #[test]
    fn escapes_are_those_of_zone_files() {
        let read = |text: &str| strings(text);
        assert_eq!(read(r#""\065\"\\" "b""#), Some(b"A\"\\b".to_vec()));
        for bad in [
            r#""a"#,
            r#""\256""#,
            r#""\6""#,
            r#""\"#,
            r#""a" b"#,
            r#""a"b"#,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let label = Field::Name(vec![Cow::Borrowed(&b"J.D\xff "[..])]);
        assert_eq!(written(&label), r"j\.d\255\032");
    }

    proptest! {
        #[test]
        fn any_bytes_of_a_text_are_written_on_one_line_and_read_back(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "[ a\"\\\\\u{fc}\t;]{0,12}".prop_map(String::into_bytes),
            ],
        ) {
            for field in [Field::Text((&bytes).into()), Field::Quoted((&bytes).into())] {
                let out = written(&field);
                prop_assert!(!out.contains(char::is_control) && out.trim() == out);
                let read = text(&out);
                prop_assert_eq!(read.as_deref(), Some(&bytes[..]), "{}", out);
            }
        }

        #[test]
        fn any_labels_are_written_and_read_back_in_lower_case(
            given in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..6),
        ) {
            let lower: Vec<Cow<'_, [u8]>> = given
                .iter()
                .map(|label| Cow::Owned(label.to_ascii_lowercase()))
                .collect();
            let out = written(&Field::Name(given.iter().map(Cow::from).collect()));
            prop_assert!(out.bytes().all(|byte| byte.is_ascii_graphic()), "{}", out);
            prop_assert_eq!(labels(&out), Some(lower), "{}", out);
        }
    }
}
