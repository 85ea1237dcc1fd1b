//! The corpus of responses under `tests/responses`: its format, and every case in it.
//!
//! ```text
//! # a comment
//! [file/name]
//! about: why it is here
//! method: HEAD                      (default GET)
//! redirect, expect_status, keyword, forbidden: as the fields of a target
//! ends: silence | reset             (default close)
//! expect: up 200, body 5, hops 1, sloppy, alert
//! |bytes of the first connection, with \r \n \t \0 \\ \xHH
//! |\rep{3}{bytes again} \hex{1f8b} \gzip{bytes}
//! next:
//! |bytes of the connection after it
//! ```
//! A line's own end is no byte. `expect` has `up` or the failure class, the status (0: none), the
//! bytes of body that were looked at (left out where a rule may end the check at any of them), and
//! what is not zero of the redirects that were followed and the flags.

use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use model::outcome::flags;
use model::target::{Method, TargetSpec};
use prober::Rules;

use crate::driver::{ECONNRESET, End};

/// One exchange and what must be said of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) method: Method,
    /// What a target with this check has besides its defaults.
    pub(crate) rules: Option<Rules>,
    /// What each connection brings, the first one first.
    pub(crate) connections: Vec<Vec<u8>>,
    pub(crate) end: End,
    pub(crate) expected: Expected,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// `None`: up.
    pub(crate) class: Option<String>,
    pub(crate) status: u16,
    pub(crate) body_bytes: Option<u32>,
    pub(crate) hops: u8,
    /// Of the flags that a response sets.
    pub(crate) flags: u16,
}

/// The flags that a response sets.
pub(crate) const FLAGS: u16 =
    flags::HTTP_SLOPPY | flags::REDIRECT_ALERT | flags::REDIRECT_DOWNGRADE;

/// Every case, in the order of the files.
pub(crate) fn all() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(read);
    &CASES
}

/// The cases without the largest ones, which say nothing more of a property that is tried often.
pub(crate) fn small() -> &'static [&'static Case] {
    static CASES: LazyLock<Vec<&Case>> =
        LazyLock::new(|| all().iter().filter(|case| case.bytes() < 20_000).collect());
    &CASES
}

impl Case {
    /// Of all connections.
    pub(crate) fn bytes(&self) -> usize {
        self.connections.iter().map(Vec::len).sum()
    }
}

fn read() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/responses");
    let listed = std::fs::read_dir(&folder).expect("the corpus is checked in");
    let mut files: Vec<_> = listed
        .map(|entry| entry.expect("a folder can be read").path())
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file of the corpus is text");
        for block in text.split("\n[").skip(1) {
            cases.push(parse(block));
        }
    }
    cases
}

/// A case from its name's closing bracket on.
fn parse(block: &str) -> Case {
    let (name, lines) = block.split_once("]\n").expect("a name ends in a bracket");
    let mut spec = TargetSpec {
        url: "http://e.test:8080/".to_owned(),
        ..TargetSpec::default()
    };
    let plain = spec.clone();
    let mut case = Case {
        name: name.to_owned(),
        about: String::new(),
        method: Method::Get,
        rules: None,
        connections: vec![Vec::new()],
        end: End::Eof,
        expected: Expected::default(),
    };
    for line in lines.lines().filter(|line| !line.is_empty()) {
        if let Some(text) = line.strip_prefix('|') {
            let connection = case.connections.last_mut().expect("there is one");
            connection.extend(decode(text));
            continue;
        }
        let (key, value) = line.split_once(':').expect(line);
        let value = value.trim();
        match key {
            "about" => value.clone_into(&mut case.about),
            "method" => case.method = value.parse().expect(line),
            "redirect" => spec.redirect = Some(value.to_owned()),
            "expect_status" => spec.expect_status = Some(value.to_owned()),
            "keyword" => spec.keyword = Some(value.to_owned()),
            "forbidden" => spec.forbidden.push(value.to_owned()),
            "ends" => case.end = end(value),
            "expect" => case.expected = expected(value),
            "next" => case.connections.push(Vec::new()),
            _ => panic!("{name}: {line:?} is no line of a case"),
        }
    }
    if spec != plain {
        case.rules = Rules::from_config(&spec.parse().expect(name));
    }
    case
}

fn end(word: &str) -> End {
    match word {
        "reset" => End::Errno(ECONNRESET),
        "silence" => End::Silence,
        _ => panic!("{word:?} is no end of a connection"),
    }
}

fn expected(text: &str) -> Expected {
    let mut expected = Expected::default();
    for (index, item) in text.split(", ").enumerate() {
        let (word, number) = item.split_once(' ').unwrap_or((item, "0"));
        let number: u32 = number.parse().expect(text);
        match (index, word) {
            (0, class) => {
                expected.class = (class != "up").then(|| class.to_owned());
                expected.status = number as u16;
            }
            (_, "body") => expected.body_bytes = Some(number),
            (_, "hops") => expected.hops = number as u8,
            (_, "sloppy") => expected.flags |= flags::HTTP_SLOPPY,
            (_, "alert") => expected.flags |= flags::REDIRECT_ALERT,
            _ => panic!("{text:?} expects the unknown {item:?}"),
        }
    }
    expected
}

/// The bytes that a text with escapes stands for.
fn decode(mut text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((before, escaped)) = text.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        text = escape(escaped, &mut bytes);
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Adds what the escape at the start of `text` stands for; what follows it.
fn escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> &'a str {
    let (kind, rest) = text.split_at(1);
    let plain = match kind {
        "0" => Some(0),
        "\\" => Some(b'\\'),
        "n" => Some(b'\n'),
        "t" => Some(b'\t'),
        "r" if !text.starts_with("rep{") => Some(b'\r'),
        _ => None,
    };
    if let Some(byte) = plain {
        bytes.push(byte);
        return rest;
    }
    if kind == "x" {
        let (digits, rest) = rest.split_at(2);
        bytes.extend(hexadecimal(digits));
        return rest;
    }
    let (word, rest) = text.split_once('{').expect(text);
    let (inner, rest) = braced(rest);
    match word {
        "hex" => bytes.extend(hexadecimal(inner)),
        "gzip" => bytes.extend(gzip(&decode(inner))),
        "rep" => {
            let (repeated, rest) = braced(rest.strip_prefix('{').expect(rest));
            bytes.extend(decode(repeated).repeat(inner.parse().expect(inner)));
            return rest;
        }
        _ => panic!("{text:?} is no escape"),
    }
    rest
}

/// What stands before the brace that closes, and after it.
fn braced(text: &str) -> (&str, &str) {
    let mut open = 1;
    let close = text.find(|c: char| {
        open += i32::from(c == '{') - i32::from(c == '}');
        open == 0
    });
    let (inner, rest) = text.split_at(close.expect(text));
    (inner, &rest[1..])
}

fn hexadecimal(digits: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect(digits);
    (0..digits.len()).step_by(2).map(pair).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn the_corpus_is_large_and_every_case_has_a_name_and_a_reason() {
    let mut names: Vec<&str> = all().iter().map(|case| case.name.as_str()).collect();
    assert!(names.len() >= 500, "only {} responses", names.len());
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    for case in all() {
        assert!(!case.about.is_empty(), "{}", case.name);
    }
}

#[test]
fn escapes_stand_for_their_bytes() {
    for (text, bytes) in [
        (r"a\r\n\t\0\\b", b"a\r\n\t\0\\b".as_slice()),
        (r"\xff\x0a{}", b"\xff\n{}"),
        (r"\rep{3}{a\x62}c", b"abababc"),
        (r"\rep{2}{\rep{2}{a}b}", b"aabaab"),
        (r"\hex{00ff}\r", b"\0\xff\r"),
    ] {
        assert_eq!(decode(text), bytes, "{text}");
    }
    assert_eq!(decode(r"\gzip{\rep{2}{a}}"), gzip(b"aa"));
}
