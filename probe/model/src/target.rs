//! A target: parsed from a `TargetSpec` of optional raw fields, valid once it exists.

mod spec;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::ids::{Generation, TargetId};
use crate::limits::HEADER_MAX_BYTES;
use crate::mask;
use crate::schedule::{cadence_ms, effective_timeout_ms};
use crate::time::UnixMs;

pub use spec::TargetSpec;

/// A field that was refused: which, what was found, what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: found {found:?}, accepted is {accepted}")]
pub struct FieldError {
    /// Name of the field, as in CSV headers and config keys.
    pub field: &'static str,
    /// The value as it was given, without credentials, cut to 120 characters.
    pub found: String,
    /// What would have been accepted.
    pub accepted: String,
}

impl FieldError {
    /// A refusal of `field`. What was found is shown and logged: credentials are masked here.
    pub fn new(field: &'static str, found: &str, accepted: &str) -> Self {
        let found = match field {
            "headers" => mask::header(found),
            // A URL may also stand in the wrong column.
            _ if field == "url" || found.contains("://") => mask::userinfo(found),
            _ => found.into(),
        };
        Self {
            field,
            found: found.chars().take(120).collect(),
            accepted: accepted.to_owned(),
        }
    }
}

macro_rules! word_enum {
    (
        $(#[$meta:meta])*
        $name:ident $field:literal { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vmeta])* $variant,)* }

        impl $name {
            /// The word used in files, tables and flags.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl FromStr for $name {
            type Err = FieldError;

            fn from_str(text: &str) -> Result<Self, FieldError> {
                let word = text.trim();
                $(if word.eq_ignore_ascii_case($word) { return Ok(Self::$variant); })*
                Err(FieldError::new($field, text, concat!("one of:" $(, " ", $word)*)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

word_enum! {
    /// Request method.
    Method "method" {
        /// The whole response.
        #[default]
        Get = "GET",
        /// The response head only.
        Head = "HEAD",
    }
}

word_enum! {
    /// How much of a response is judged.
    Profile "profile" {
        /// Everything that is configured.
        #[default]
        Full = "full",
        /// Status, connect and timeout only.
        Simple = "simple",
        /// As `simple`, for rows of the legacy table.
        Legacy = "legacy",
    }
}

word_enum! {
    /// What a redirect means.
    Redirect "redirect" {
        /// Follow up to 10 hops.
        #[default]
        Follow = "follow",
        /// Follow, and say that it happened.
        Alert = "alert",
        /// A redirect is a failure.
        Fail = "fail",
    }
}

/// Which HTTP statuses are a success: a sorted set of ranges, default 200–399.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectStatus(Vec<(u16, u16)>);

impl Default for ExpectStatus {
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

impl ExpectStatus {
    /// Whether `status` is a success.
    pub fn accepts(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|&(low, high)| (low..=high).contains(&status))
    }
}

impl FromStr for ExpectStatus {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let refuse = || {
            FieldError::new(
                "expect_status",
                text,
                "statuses 100-599 such as 200,204,300-399",
            )
        };
        let parse = |part: &str| -> Option<(u16, u16)> {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let range = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            (100 <= range.0 && range.0 <= range.1 && range.1 <= 599).then_some(range)
        };
        let ranges: Option<Vec<_>> = text.split(',').map(parse).collect();
        let mut ranges = ranges.ok_or_else(refuse)?;
        ranges.sort_unstable();
        Ok(Self(ranges))
    }
}

impl fmt::Display for ExpectStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

/// A maintenance window in ms since the Unix epoch; both ends are outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Maintenance {
    /// Failures after this instant are swallowed.
    pub start_ms: u64,
    /// Failures before this instant are swallowed.
    pub end_ms: u64,
}

impl Maintenance {
    /// Whether it is active at `now`.
    pub fn is_active(&self, now: UnixMs) -> bool {
        self.start_ms < now.0 && now.0 < self.end_ms
    }

    /// Of `windows` the one that counts at `now`: of those that are active the one that ends last.
    pub fn of_several(windows: impl IntoIterator<Item = Self>, now: UnixMs) -> Option<Self> {
        let active = windows.into_iter().filter(|window| window.is_active(now));
        active.max_by_key(|window| window.end_ms)
    }
}

/// A custom request header: name is a token that is not ours to set, value has no control byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    name: String,
    value: String,
}

/// Fields that frame or route the request: a custom header may not set them.
const FORBIDDEN_HEADERS: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Header {
    /// Field name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Field value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for Header {
    type Err = FieldError;

    /// From `Name: value`.
    fn from_str(text: &str) -> Result<Self, FieldError> {
        let refuse = |accepted| FieldError::new("headers", text, accepted);
        let (name, value) = text.split_once(':').ok_or_else(|| refuse("Name: value"))?;
        let (name, value) = (name.trim(), value.trim());
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(refuse("a header name made of token characters"));
        }
        let lower = name.to_ascii_lowercase();
        if FORBIDDEN_HEADERS.contains(&lower.as_str()) || lower.starts_with("proxy-") {
            return Err(refuse("a header that does not frame or route the request"));
        }
        if value
            .bytes()
            .any(|byte| byte != b'\t' && byte.is_ascii_control())
        {
            return Err(refuse("a header value without control characters"));
        }
        if name.len() + value.len() > HEADER_MAX_BYTES {
            return Err(refuse("a header of at most 4096 bytes"));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// A target that is ready to be probed. It can only be made by [`TargetSpec::parse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Identity; minted by the store when the spec had none.
    pub id: TargetId,
    /// Version of this configuration.
    pub generation: Generation,
    /// Whether it is probed at all.
    pub active: bool,
    /// Everything else.
    pub config: TargetConfig,
}

/// What a target's owner configures, all fields valid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetConfig {
    /// Tells apart two monitors of one URL; may be empty.
    pub name: String,
    /// The legacy `blog_id`, or 0.
    pub group_id: u64,
    /// What is checked.
    pub check: Check,
    /// 10..86,400 s.
    pub interval_s: u32,
    /// 100..60,000 ms, before the cadence cuts it.
    pub timeout_ms: u32,
    /// Window in which failures are swallowed.
    pub maintenance: Option<Maintenance>,
    /// Minutes between two alerts; ≤ 0 disables the cooldown.
    pub alert_cooldown_min: i32,
    /// Above it a success is `degraded`.
    pub max_latency_ms: Option<u32>,
}

impl TargetConfig {
    /// Milliseconds between two routine checks.
    pub fn cadence_ms(&self) -> u32 {
        cadence_ms(self.interval_s)
    }

    /// The deadline that is really applied, in ms.
    pub fn effective_timeout_ms(&self) -> u32 {
        effective_timeout_ms(self.timeout_ms, self.cadence_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start_ms: u64, end_ms: u64) -> Maintenance {
        Maintenance { start_ms, end_ms }
    }

    #[test]
    fn both_ends_of_a_window_are_outside_of_it() {
        let at = [99, 100, 101, 199, 200, 201];
        let active = at.map(|ms| window(100, 200).is_active(UnixMs(ms)));
        assert_eq!(active, [false, false, true, true, false, false]);
    }

    #[test]
    fn of_several_windows_the_active_one_that_ends_last_counts() {
        let all = [window(100, 200), window(150, 300), window(290, 900)];
        let of = |ms| Maintenance::of_several(all, UnixMs(ms));
        assert_eq!(of(160), Some(all[1]), "though it is not the last of all");
        assert_eq!((of(120), of(295)), (Some(all[0]), Some(all[2])));
        assert_eq!((of(50), of(900)), (None, None));
    }
}
