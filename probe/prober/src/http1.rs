//! HTTP/1.1 as a client: request head, response head, bodies, and whether more may follow.
//! Bytes in, facts out; nothing here knows of connections, time or verdicts.

pub(crate) mod body;
pub(crate) mod chunked;
pub(crate) mod coding;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod head;
pub(crate) mod request;
pub(crate) mod scan;

use model::FailureClass;

/// Why a response cannot be used: its class, and a phrase for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) class: FailureClass,
    pub(crate) why: &'static str,
}

impl Flaw {
    pub(crate) const fn malformed(why: &'static str) -> Self {
        Self {
            class: FailureClass::HttpMalformed,
            why,
        }
    }

    pub(crate) const fn truncated(why: &'static str) -> Self {
        Self {
            class: FailureClass::HttpTruncated,
            why,
        }
    }
}

/// A byte of a field name (RFC 9110 §5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
