//! The response head: httparse with every tolerance of `monitor.md` §2 "Heads" set explicitly,
//! and the framing of the body that follows from it (RFC 9112 §6.3).

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{Error, Header, ParserConfig, Response};
use model::FailureClass;
use model::limits::RESPONSE_HEADERS_MAX;
use model::target::Method;

use super::Flaw;

/// A complete response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// 100..=599.
    pub(crate) status: u16,
    /// How the body is framed.
    pub(crate) framing: Framing,
    /// How the body is coded, framing apart.
    pub(crate) content: Content,
    /// Where the value of the one Location lies, if there is one that is not empty.
    pub(crate) location: Location,
    /// A tolerance was needed, those of line ends apart.
    pub(crate) sloppy: bool,
    /// Once the answer has ended, its server waits for another request (RFC 9112 §9.3).
    pub(crate) lasts: bool,
    /// It says when to come again (RFC 9110 §10.2.3).
    pub(crate) has_retry_after: bool,
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none, or it is not read.
    Absent,
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked,
    /// When the connection is closed.
    ToClose,
}

impl Framing {
    /// Whether the answer ends with its head.
    pub(crate) fn is_empty(self) -> bool {
        matches!(self, Self::Absent | Self::Length(0))
    }
}

/// A Location field, as offsets into the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Location {
    #[default]
    Absent,
    /// Start and end.
    At(u32, u32),
    /// Start and end of the first of two fields that differ, and of the other one.
    Ambiguous([(u32, u32); 2]),
}

/// The content codings of a body (RFC 9110 §8.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Content {
    #[default]
    Plain,
    Once(Coding),
    /// The one that was put on first, and the one over it.
    Twice(Coding, Coding),
    /// More of them, or a name that we do not know.
    Strange {
        /// Start and end in the head of the value of the first field that says it.
        field: (u32, u32),
        /// One of the names at least is that of a coding that there is: by those names, the body is
        /// not what its bytes are.
        hides: bool,
    },
}

/// A content coding that we can take off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    /// zlib, or what some servers send under that name: deflate without it.
    Deflate,
    Brotli,
}

/// The other codings that there are (IANA's "HTTP Content Coding Registry"): all that is called
/// something else is a mistake, `UTF-8` mostly, and no coding of anything.
const CODINGS_WE_LACK: [&str; 8] = [
    "aes128gcm",
    "compress",
    "dcb",
    "dcz",
    "exi",
    "pack200-gzip",
    "x-compress",
    "zstd",
];

/// What the fields say of the body.
#[derive(Default)]
struct Fields {
    content: Content,
    location: Location,
    length: Option<Result<u64, Flaw>>,
    coding: Option<bool>,
    event_stream: bool,
    connection: Connection,
    retry_after: bool,
    sloppy: bool,
}

/// What the Connection fields ask for (RFC 9110 §7.6.1); other options are of no interest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Connection {
    #[default]
    Unsaid,
    KeepAlive,
    /// Whatever else is said.
    Close,
}

/// Parses `head`, which ends with its empty line, as the answer to a request of `method`.
///
/// # Errors
/// The [`Flaw`] that makes it malformed.
pub(crate) fn parse(head: &[u8], method: Method) -> Result<Head, Flaw> {
    match parse_as_is(head, method) {
        Err(flaw) if flaw.class == FailureClass::HttpMalformed => match repaired(head) {
            Cow::Owned(copy) => {
                let head = parse_as_is(&copy, method)?;
                Ok(Head {
                    sloppy: true,
                    lasts: false,
                    ..head
                })
            }
            Cow::Borrowed(_) => Err(flaw),
        },
        other => other,
    }
}

/// Checks a complete status line whose fields have not arrived yet.
///
/// # Errors
/// A [`Flaw`] when no fields could make it a response head.
pub(crate) fn check_status_line(line: &[u8]) -> Result<(), Flaw> {
    let line = repaired(line);
    let mut response = Response::new(&mut []);
    let parsed = config().parse_response(&mut response, &line);
    judge(parsed.err(), response.code).map(|_| ())
}

fn config() -> ParserConfig {
    let mut config = ParserConfig::default();
    config
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_space_before_first_header_name(false)
        .ignore_invalid_headers_in_responses(false);
    config
}

fn parse_as_is(head: &[u8], method: Method) -> Result<Head, Flaw> {
    let mut slots = [const { MaybeUninit::<Header<'_>>::uninit() }; RESPONSE_HEADERS_MAX];
    let mut response = Response::new(&mut []);
    let parsed = config().parse_response_with_uninit_headers(&mut response, head, &mut slots);
    let status = judge(parsed.err(), response.code)?;
    let mut fields = Fields::default();
    for header in response.headers.iter() {
        fields.note(head, header);
    }
    let old = response.version == Some(0);
    let framing = fields.framing(status, method, old)?;
    Ok(Head {
        status,
        framing,
        content: fields.content,
        location: fields.location,
        sloppy: fields.sloppy,
        lasts: fields.lasts(status, method, old),
        has_retry_after: fields.retry_after,
    })
}

/// The status of what was parsed. One out of range is told before a reason or a field that is
/// wrong, whether the line came alone or with its fields.
fn judge(error: Option<Error>, code: Option<u16>) -> Result<u16, Flaw> {
    let Some(error) = error else {
        return status(code);
    };
    code.map_or(Ok(0), |code| status(Some(code)))?;
    Err(flaw(error))
}

fn status(code: Option<u16>) -> Result<u16, Flaw> {
    code.filter(|code| (100..=599).contains(code))
        .ok_or(Flaw::malformed(
            "the status is not a number from 100 to 599",
        ))
}

fn flaw(error: Error) -> Flaw {
    match error {
        Error::TooManyHeaders => Flaw {
            class: FailureClass::HttpTooManyHeaders,
            why: "the response head has more than 128 fields",
        },
        Error::HeaderName => Flaw::malformed("a field line has no colon or an invalid name"),
        Error::HeaderValue => Flaw::malformed("a field value has a NUL or a bare CR"),
        Error::Status => Flaw::malformed("the status line does not parse"),
        Error::Version | Error::Token => Flaw::malformed("the protocol is not HTTP/1.x"),
        Error::NewLine => Flaw::malformed("a line of the response head does not end in CR LF"),
    }
}

/// What browsers open although httparse does not: control bytes other than NUL, CR and LF in
/// values and reasons, and minor versions above 1. They are replaced in a copy; a name that has
/// such a byte stays invalid, since `?` is no token byte.
fn repaired(head: &[u8]) -> Cow<'_, [u8]> {
    let control = |byte: u8| byte.is_ascii_control() && !matches!(byte, 0 | b'\t' | b'\r' | b'\n');
    let start = head
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or(0);
    let minor = start + b"HTTP/1.".len();
    let newer = head
        .get(minor)
        .is_some_and(|digit| matches!(digit, b'2'..=b'9'));
    if !newer && !head.iter().copied().any(control) {
        return Cow::Borrowed(head);
    }
    let mut copy = head.to_vec();
    if newer {
        copy[minor] = b'1';
    }
    copy.iter_mut()
        .filter(|byte| control(**byte))
        .for_each(|byte| *byte = b'?');
    Cow::Owned(copy)
}

impl Fields {
    /// Takes in one field; `head` is where its slices point into.
    fn note(&mut self, head: &[u8], header: &Header<'_>) {
        let name_end = header.name.as_ptr() as usize - head.as_ptr() as usize + header.name.len();
        self.sloppy |= head[name_end] != b':';
        match header.name.len() {
            8 if header.name.eq_ignore_ascii_case("location") => {
                self.note_location(head, header.value);
            }
            10 if header.name.eq_ignore_ascii_case("connection") => {
                self.note_connection(header.value);
            }
            11 => self.retry_after |= header.name.eq_ignore_ascii_case("retry-after"),
            12 if header.name.eq_ignore_ascii_case("content-type") => {
                let kind = header
                    .value
                    .split(|&byte| byte == b';')
                    .next()
                    .unwrap_or_default();
                self.event_stream |= kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream");
            }
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let at = header.value.as_ptr() as usize - head.as_ptr() as usize;
                let after = head[at + header.value.len()];
                self.sloppy |= matches!(after, b' ' | b'\t');
                self.note_length(header.value);
            }
            16 if header.name.eq_ignore_ascii_case("content-encoding") => {
                self.note_content(head, header.value);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                // Codings add up over several fields: the last of all frames the body.
                let last = header.value.rsplit(|&byte| byte == b',');
                let last = last
                    .map(<[u8]>::trim_ascii)
                    .find(|coding| !coding.is_empty());
                if let Some(last) = last {
                    self.coding = Some(last.eq_ignore_ascii_case(b"chunked"));
                }
            }
            _ => {}
        }
    }

    fn note_location(&mut self, head: &[u8], value: &[u8]) {
        let value = value.trim_ascii();
        if value.is_empty() {
            return;
        }
        let start = value.as_ptr() as usize - head.as_ptr() as usize;
        let (start, end) = (start as u32, (start + value.len()) as u32);
        self.location = match self.location {
            Location::Absent => Location::At(start, end),
            Location::At(from, to) if head[from as usize..to as usize] == *value => {
                Location::At(start, end)
            }
            Location::At(from, to) => Location::Ambiguous([(from, to), (start, end)]),
            ambiguous @ Location::Ambiguous(_) => ambiguous,
        };
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.connection = Connection::Close;
            } else if option.eq_ignore_ascii_case(b"keep-alive")
                && self.connection == Connection::Unsaid
            {
                self.connection = Connection::KeepAlive;
            }
        }
    }

    fn note_content(&mut self, head: &[u8], value: &[u8]) {
        let start = value.as_ptr() as usize - head.as_ptr() as usize;
        let here = (start as u32, (start + value.len()) as u32);
        for name in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            let coding = match name {
                _ if ["", "identity", "none"].into_iter().any(is) => continue,
                _ if is("gzip") || is("x-gzip") => Some(Coding::Gzip),
                _ if is("deflate") => Some(Coding::Deflate),
                _ if is("br") => Some(Coding::Brotli),
                _ => None,
            };
            let exists = coding.is_some() || CODINGS_WE_LACK.into_iter().any(is);
            self.content = match (self.content, coding) {
                (Content::Plain, Some(coding)) => Content::Once(coding),
                (Content::Once(first), Some(coding)) => Content::Twice(first, coding),
                (Content::Strange { field, hides }, _) => Content::Strange {
                    field,
                    hides: hides || exists,
                },
                (known, _) => Content::Strange {
                    field: here,
                    hides: exists || known != Content::Plain,
                },
            };
        }
    }

    /// A list of equal lengths counts as one (RFC 9110 §8.6); kept as a flaw until it is known
    /// that no Transfer-Encoding makes it void.
    fn note_length(&mut self, value: &[u8]) {
        for item in value.split(|&byte| byte == b',') {
            let found = number(item.trim_ascii());
            self.length = Some(match (self.length, found) {
                (None, found) => found,
                (Some(Err(flaw)), _) | (_, Err(flaw)) => Err(flaw),
                (Some(Ok(known)), Ok(again)) if known == again => {
                    self.sloppy = true;
                    Ok(known)
                }
                _ => Err(Flaw::malformed("two Content-Length fields differ")),
            });
        }
    }

    /// Whether the connection is meant to last, and nothing of this answer can come after its end:
    /// not an upgrade, not a stream that is not read, not a body where none may be.
    fn lasts(&self, status: u16, method: Method, old: bool) -> bool {
        let meant = match self.connection {
            Connection::Close => false,
            Connection::KeepAlive => true,
            Connection::Unsaid => !old,
        };
        let has_body = self.coding.is_some() || !matches!(self.length, None | Some(Ok(0)));
        let belied = status == 204 && method != Method::Head && has_body;
        meant && status != 101 && !self.event_stream && !belied && !self.sloppy
    }

    fn framing(&mut self, status: u16, method: Method, old: bool) -> Result<Framing, Flaw> {
        let by_fields = match (self.coding, self.length) {
            (Some(chunked), length) => {
                // RFC 9112 §6.1: HTTP/1.0 does not know the field, its framing is not trusted.
                self.sloppy |= length.is_some() || old;
                if chunked && !old {
                    Framing::Chunked
                } else {
                    Framing::ToClose
                }
            }
            (None, Some(length)) => Framing::Length(length?),
            (None, None) => Framing::ToClose,
        };
        let absent =
            method == Method::Head || matches!(status, 100..=199 | 204 | 304) || self.event_stream;
        Ok(if absent { Framing::Absent } else { by_fields })
    }
}

fn number(digits: &[u8]) -> Result<u64, Flaw> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Flaw::malformed("Content-Length is not a number"));
    }
    digits
        .iter()
        .try_fold(0_u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .ok_or(Flaw::malformed("Content-Length is too large for any body"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(head: &str) -> Result<Head, FailureClass> {
        parse(head.as_bytes(), Method::Get).map_err(|flaw| flaw.class)
    }

    fn framing(fields: &str) -> (Framing, bool) {
        let head = get(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).expect(fields);
        (head.framing, head.sloppy)
    }

    #[test]
    fn framing_follows_the_fields() {
        for (fields, expected, sloppy) in [
            ("", Framing::ToClose, false),
            ("Content-Length: 5\r\n", Framing::Length(5), false),
            ("content-length:\t5\r\n", Framing::Length(5), false),
            ("Content-Length: 5 \r\n", Framing::Length(5), true),
            ("Content-Length : 5\r\n", Framing::Length(5), true),
            (
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                Framing::Length(5),
                true,
            ),
            ("Content-Length: 5, 5\r\n", Framing::Length(5), true),
            ("Content-Length:\r\n 5\r\n", Framing::Length(5), false),
            ("Transfer-Encoding: chunked\r\n", Framing::Chunked, false),
            (
                "Transfer-Encoding: gzip, Chunked\r\n",
                Framing::Chunked,
                false,
            ),
            (
                "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
                Framing::Chunked,
                false,
            ),
            (
                "Transfer-Encoding: chunked, gzip\r\n",
                Framing::ToClose,
                false,
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
                Framing::Chunked,
                true,
            ),
            (
                "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
                Framing::Chunked,
                true,
            ),
            (
                "Content-Type: text/event-stream\r\n",
                Framing::Absent,
                false,
            ),
            (
                "Content-Type: Text/Event-Stream;charset=utf-8\r\n",
                Framing::Absent,
                false,
            ),
        ] {
            assert_eq!(framing(fields), (expected, sloppy), "{fields:?}");
        }
    }

    #[test]
    fn heads_are_malformed_exactly_as_listed() {
        for bad in [
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 600 High\r\n\r\n",
            "HTTP/1.x 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nna me: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nna\u{1}me: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded: b\r\n\r\n",
        ] {
            assert_eq!(get(bad), Err(FailureClass::HttpMalformed), "{bad:?}");
        }
    }

    #[test]
    fn what_browsers_open_is_tolerated_and_flagged() {
        for sloppy in [
            "HTTP/1.1 200 OK\r\nA: b\u{1}c\r\n\r\n",
            "HTTP/1.1 200 O\u{7}K\r\nA: b\r\n\r\n",
            "HTTP/1.3 200 OK\r\nA: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA\t : b\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            let head = get(sloppy).expect(sloppy);
            assert_eq!((head.status, head.sloppy), (200, true), "{sloppy:?}");
        }
        for clean in [
            "HTTP/1.1 200\r\n\r\n",
            "HTTP/1.1 200 \r\n\r\n",
            "HTTP/1.0 200 \u{e9}\r\n\r\n",
        ] {
            assert_eq!(get(clean).map(|head| head.sloppy), Ok(false), "{clean:?}");
        }
    }

    #[test]
    fn the_content_coding_is_what_the_fields_add_up_to() {
        use Coding::{Brotli, Deflate, Gzip};
        for (fields, content) in [
            ("", Content::Plain),
            ("Content-Encoding: identity\r\n", Content::Plain),
            ("Content-Encoding: None, ,\r\n", Content::Plain),
            ("Content-Encoding: GZIP\r\n", Content::Once(Gzip)),
            ("Content-Encoding: , x-gzip\r\n", Content::Once(Gzip)),
            ("Content-Encoding: deflate\r\n", Content::Once(Deflate)),
            ("content-encoding: br, identity\r\n", Content::Once(Brotli)),
            (
                "Content-Encoding: gzip, br\r\n",
                Content::Twice(Gzip, Brotli),
            ),
            (
                "Content-Encoding: br\r\nContent-Encoding: gzip\r\n",
                Content::Twice(Brotli, Gzip),
            ),
        ] {
            let head = get(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).expect(fields);
            assert_eq!((head.content, head.sloppy), (content, false), "{fields:?}");
        }
        for (fields, named, hidden) in [
            ("Content-Encoding: UTF-8\r\n", "UTF-8", false),
            ("Content-Encoding: utf-8, none\r\n", "utf-8, none", false),
            ("Content-Encoding: x\r\nContent-Encoding: y\r\n", "x", false),
            ("Content-Encoding: ZStd\r\n", "ZStd", true),
            ("Content-Encoding: utf-8, gzip\r\n", "utf-8, gzip", true),
            ("Content-Encoding: gzip, utf-8\r\n", "gzip, utf-8", true),
            ("Content-Encoding: br, br,br\r\n", "br, br,br", true),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            let head = get(&text).expect(fields);
            let Content::Strange { field, hides } = head.content else {
                panic!("{fields:?}: {:?}", head.content);
            };
            let value = &text[field.0 as usize..field.1 as usize];
            assert_eq!((value, hides), (named, hidden), "{fields:?}");
        }
    }

    #[test]
    fn one_location_is_found_and_two_that_differ_are_ambiguous() {
        for (fields, found) in [
            ("", Ok("")),
            ("Location:  \r\n", Ok("")),
            ("Location: /a b \r\n", Ok("/a b")),
            ("LOCATION: /x\r\nLocation: /x\r\n", Ok("/x")),
            ("Location: /x\r\nLocation: /y\r\n", Err(())),
        ] {
            let text = format!("HTTP/1.1 302 Found\r\n{fields}\r\n");
            let location = match get(&text).expect(fields).location {
                Location::Absent => Ok(""),
                Location::At(start, end) => Ok(&text[start as usize..end as usize]),
                Location::Ambiguous(_) => Err(()),
            };
            assert_eq!(location, found, "{fields:?}");
        }
    }

    #[test]
    fn a_connection_lasts_where_both_sides_know_it_and_nothing_can_follow_the_answer() {
        let lasts = |line: &str, fields: &str, method| {
            let text = format!("HTTP/1.{line} X\r\n{fields}\r\n");
            parse(text.as_bytes(), method).expect(&text).lasts
        };
        for (line, fields, expected) in [
            ("1 200", "", true),
            ("1 200", "Content-Length: 5\r\n", true),
            ("1 200", "Connection: keep-alive, Upgrade\r\n", true),
            (
                "1 200",
                "Connection: upgrade\r\nCONNECTION: a,\tClose \r\n",
                false,
            ),
            (
                "1 200",
                "Connection: close\r\nConnection: keep-alive\r\n",
                false,
            ),
            ("1 200", "Connection: closed\r\n", true),
            ("0 200", "", false),
            ("0 200", "Connection: Keep-Alive\r\n", true),
            ("0 200", "Connection: keep-alive, close\r\n", false),
            (
                "0 200",
                "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
                false,
            ),
            (
                "1 200",
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                false,
            ),
            ("1 200", "Content-Length: 5\r\nContent-Length: 5\r\n", false),
            ("1 200", "Content-Type: text/event-stream\r\n", false),
            ("1 101", "", false),
            ("1 204", "", true),
            ("1 204", "Content-Length: 0\r\n", true),
            ("1 204", "Content-Length: 5\r\n", false),
            ("1 204", "Transfer-Encoding: chunked\r\n", false),
            ("1 304", "Content-Length: 5\r\n", true),
            ("3 200", "", false),
        ] {
            assert_eq!(
                lasts(line, fields, Method::Get),
                expected,
                "{line} {fields:?}"
            );
        }
        assert!(lasts("1 200", "Content-Length: 5\r\n", Method::Head));
        assert!(lasts("1 204", "Content-Length: 5\r\n", Method::Head));
    }

    #[test]
    fn some_statuses_and_head_have_no_body() {
        let head = |status: u16, method| {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
            parse(text.as_bytes(), method).map(|head| head.framing)
        };
        for status in [100, 101, 103, 204, 304] {
            assert_eq!(head(status, Method::Get), Ok(Framing::Absent));
        }
        assert_eq!(head(200, Method::Head), Ok(Framing::Absent));
        assert_eq!(head(500, Method::Get), Ok(Framing::Length(5)));
    }

    #[test]
    fn a_hundred_and_twenty_eight_fields_are_enough() {
        let head = |count: usize| {
            let fields = "A: b\r\n".repeat(count);
            get(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))
        };
        assert!(head(128).is_ok());
        assert_eq!(head(129), Err(FailureClass::HttpTooManyHeaders));
    }

    #[test]
    fn a_status_line_alone_is_judged_as_with_its_fields() {
        for line in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.5 404 a\u{1}b\n",
            "\r\nHTTP/1.0 599\r\n",
        ] {
            assert_eq!(check_status_line(line.as_bytes()), Ok(()), "{line:?}");
        }
        for line in [
            "HTTP/1.1 600 OK\r\n",
            "HTTP/1.1 2\r\n",
            "HTTP/1.1 200 a\0b\r\n",
        ] {
            assert!(check_status_line(line.as_bytes()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_bad_status_line_has_the_same_reason_alone_and_with_its_fields() {
        for line in [
            "HTTP/1.1 600' reason\r\n",
            "HTTP/1.1 600 a\0b\r\n",
            "HTTP/1.1 200 a\0b\r\n",
            "HTTP/1.1 200x\r\n",
        ] {
            let alone = check_status_line(line.as_bytes()).expect_err(line);
            let head = format!("{line}A: b\r\n\r\n");
            assert_eq!(parse(head.as_bytes(), Method::Get), Err(alone), "{line:?}");
        }
    }
}
