//! What is checked of a target: a page, a port, a TLS handshake, a DNS answer. Each kind has the
//! settings that mean something for it and no others, so that a check which exists can be made.

use std::fmt;

use crate::limits::TCP_TEXT_MAX_BYTES;
use crate::record::RecordValue;
use crate::target::{ExpectStatus, FieldError, Header, Method, Profile, Redirect};
use crate::url::{DnsName, Endpoint, Host, Scheme, TargetUrl};

/// What is checked, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A request and its answer.
    Http(HttpCheck),
    /// A connection, and perhaps a few bytes each way.
    Tcp(TcpCheck),
    /// A handshake and the certificate in it.
    Tls(TlsCheck),
    /// A question to the DNS and its answer.
    Dns(DnsCheck),
}

/// A check of `http://` and `https://` URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpCheck {
    /// Where to.
    pub url: TargetUrl,
    /// GET or HEAD.
    pub method: Method,
    /// How much is judged.
    pub profile: Profile,
    /// What a redirect means.
    pub redirect: Redirect,
    /// Text that the body must have.
    pub keyword: Option<String>,
    /// Texts that the body must not have.
    pub forbidden: Vec<String>,
    /// Custom headers.
    pub headers: Vec<Header>,
    /// Which statuses are a success.
    pub expect_status: ExpectStatus,
}

/// A check of `tcp://` URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpCheck {
    /// Where to.
    pub endpoint: Endpoint,
    /// Said as soon as the connection stands.
    pub send: Option<TcpText>,
    /// Must be among the first KiB that comes.
    pub expect: Option<TcpText>,
}

/// A check of `tls://` URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsCheck {
    /// Where to.
    pub endpoint: Endpoint,
}

/// A check of `dns://` URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DnsCheck {
    /// What is asked.
    pub name: DnsName,
    /// Exactly these records must be answered, in whatever order; here in their own, each once.
    /// Empty: at least one, whichever.
    pub expect: Vec<RecordValue>,
}

impl Check {
    /// How its URL begins.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Http(check) => check.url.scheme(),
            Self::Tcp(_) => Scheme::Tcp,
            Self::Tls(_) => Scheme::Tls,
            Self::Dns(_) => Scheme::Dns,
        }
    }

    /// The host that is connected to, a name or an address; of a question, its name.
    pub fn host(&self) -> &Host {
        match self {
            Self::Http(check) => check.url.host(),
            Self::Tcp(check) => check.endpoint.host(),
            Self::Tls(check) => check.endpoint.host(),
            Self::Dns(check) => check.name.host(),
        }
    }

    /// Whether anything is connected to; a question is asked of the node's resolvers.
    pub fn connects(&self) -> bool {
        !matches!(self, Self::Dns(_))
    }

    /// The port that is connected to; 0 of a question.
    pub fn port(&self) -> u16 {
        match self {
            Self::Http(check) => check.url.port(),
            Self::Tcp(check) => check.endpoint.port(),
            Self::Tls(check) => check.endpoint.port(),
            Self::Dns(_) => 0,
        }
    }

    /// Path and query of a request; `/` where none is made.
    pub fn path(&self) -> &str {
        self.http().map_or("/", |check| check.url.path())
    }

    /// The settings of a request; `None` where none is made.
    pub fn http(&self) -> Option<&HttpCheck> {
        match self {
            Self::Http(check) => Some(check),
            Self::Tcp(_) | Self::Tls(_) | Self::Dns(_) => None,
        }
    }

    /// Whether an answer is judged by its head alone, as the profiles `simple` and `legacy` do.
    pub fn is_head_only(&self) -> bool {
        self.http()
            .is_some_and(|check| check.profile != Profile::Full)
    }

    /// The word of the request's method; empty where no request is made.
    pub fn method_word(&self) -> &'static str {
        self.http().map_or("", |check| check.method.as_str())
    }
}

impl fmt::Display for Check {
    /// The canonical URL: the unique key of targets is made of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(check) => check.url.fmt(f),
            Self::Tcp(check) => check.endpoint.write(Scheme::Tcp, f),
            Self::Tls(check) => check.endpoint.write(Scheme::Tls, f),
            Self::Dns(check) => check.name.fmt(f),
        }
    }
}

/// 1 to 1,024 bytes for, or from, a TCP connection. Written as text with the escapes `\r`, `\n`,
/// `\t`, `\0`, `\\` and `\xHH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpText(Vec<u8>);

impl TcpText {
    /// The bytes that `text` stands for; `None` for an empty one.
    ///
    /// # Errors
    /// [`FieldError`] for `field` when an escape is none of those, or there are too many bytes.
    pub fn parse(field: &'static str, text: &str) -> Result<Option<Self>, FieldError> {
        let bytes = unescaped(text).ok_or_else(|| {
            let accepted = r"text with the escapes \r \n \t \0 \\ \xHH and no other backslash";
            FieldError::new(field, text, accepted)
        })?;
        if bytes.len() > TCP_TEXT_MAX_BYTES {
            return Err(FieldError::new(field, text, "at most 1024 bytes"));
        }
        Ok((!bytes.is_empty()).then_some(Self(bytes)))
    }

    /// As they go over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TcpText {
    /// What parses to the same bytes, without control characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                match letter {
                    '\r' => f.write_str(r"\r")?,
                    '\n' => f.write_str(r"\n")?,
                    '\t' => f.write_str(r"\t")?,
                    '\\' => f.write_str(r"\\")?,
                    _ if letter.is_ascii_control() => write!(f, r"\x{:02x}", u32::from(letter))?,
                    _ => write!(f, "{letter}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, r"\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// `None` when a backslash begins none of the escapes.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (byte, length) = match escape.chars().next()? {
            'r' => (b'\r', 1),
            'n' => (b'\n', 1),
            't' => (b'\t', 1),
            '0' => (0, 1),
            '\\' => (b'\\', 1),
            'x' => (hexadecimal(escape.get(1..3)?)?, 3),
            _ => return None,
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

fn hexadecimal(digits: &str) -> Option<u8> {
    let only_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| only_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Vec<u8>> {
        let text = TcpText::parse("send", text).ok()??;
        Some(text.as_bytes().to_vec())
    }

    #[test]
    fn escapes_stand_for_bytes_and_other_backslashes_are_refused() {
        assert_eq!(
            parsed(r"EHLO x\r\n\t\0\\\x00\xfF").as_deref(),
            Some(&b"EHLO x\r\n\t\0\\\x00\xff"[..])
        );
        assert_eq!(parsed("\u{fc}").as_deref(), Some("\u{fc}".as_bytes()));
        for bad in [
            r"\",
            r"\q",
            r"\x1",
            r"\x+1",
            r"\xg0",
            "\\x\u{fc}",
            "\\\u{fc}",
        ] {
            let error = TcpText::parse("expect", bad).expect_err(bad);
            assert_eq!(error.field, "expect");
        }
        assert_eq!(TcpText::parse("send", ""), Ok(None));
    }

    #[test]
    fn a_kib_is_the_most_however_it_is_written() {
        assert_eq!(parsed(&r"\x00".repeat(1_024)).map(|b| b.len()), Some(1_024));
        assert!(TcpText::parse("send", &r"\x00".repeat(1_025)).is_err());
    }

    #[test]
    fn every_byte_is_shown_so_that_it_parses_to_itself() {
        let every: Vec<u8> = (0..=255).collect();
        let mixed = [&every[..], "\u{fc}\u{80}\\x".as_bytes()].concat();
        let shown = TcpText(mixed.clone()).to_string();
        assert!(!shown.contains(|letter: char| letter.is_ascii_control()));
        assert_eq!(parsed(&shown), Some(mixed));
    }
}
