//! A target: parsed from a `TargetSpec` of optional raw fields, valid once it exists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, TargetId};
use crate::limits::{
    ALERT_COOLDOWN_DEFAULT_MIN, FORBIDDEN_MAX, HEADER_MAX_BYTES, HEADERS_MAX, INTERVAL_DEFAULT_S,
    INTERVAL_MAX_S, INTERVAL_MIN_S, KEYWORD_MAX_BYTES, NAME_MAX_BYTES, TIMEOUT_DEFAULT_MS,
    TIMEOUT_MAX_MS, TIMEOUT_MIN_MS,
};
use crate::mask;
use crate::schedule::{cadence_ms, effective_timeout_ms};
use crate::url::TargetUrl;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Failures after this instant are swallowed.
    pub start_ms: u64,
    /// Failures before this instant are swallowed.
    pub end_ms: u64,
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
    /// Where to.
    pub url: TargetUrl,
    /// 10..86,400 s.
    pub interval_s: u32,
    /// GET or HEAD.
    pub method: Method,
    /// How much is judged.
    pub profile: Profile,
    /// 100..60,000 ms, before the cadence cuts it.
    pub timeout_ms: u32,
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

/// A target as a file, a table or the command line gives it: every field optional but the URL.
/// `None` and 0 mean the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TargetSpec {
    /// Identity, when the source has one.
    pub id: Option<i64>,
    /// Name, ≤ 128 bytes.
    pub name: Option<String>,
    /// Group.
    pub group_id: Option<u64>,
    /// URL.
    pub url: String,
    /// Interval in seconds.
    pub interval_s: Option<i64>,
    /// `GET` or `HEAD`.
    pub method: Option<String>,
    /// `full`, `simple` or `legacy`.
    pub profile: Option<String>,
    /// Deadline in ms.
    pub timeout_ms: Option<i64>,
    /// `follow`, `alert` or `fail`.
    pub redirect: Option<String>,
    /// Text that the body must have.
    pub keyword: Option<String>,
    /// Texts that the body must not have.
    pub forbidden: Vec<String>,
    /// Custom headers as `Name: value`.
    pub headers: Vec<String>,
    /// Such as `200,204,300-399`.
    pub expect_status: Option<String>,
    /// Window in which failures are swallowed.
    pub maintenance: Option<Maintenance>,
    /// Minutes between two alerts.
    pub alert_cooldown_min: Option<i32>,
    /// Above it a success is `degraded`.
    pub max_latency_ms: Option<i64>,
}

impl TargetSpec {
    /// Checks every field and fills in the defaults.
    ///
    /// # Errors
    /// The first [`FieldError`], in the order of the fields.
    pub fn parse(&self) -> Result<TargetConfig, FieldError> {
        let name = text("name", self.name.as_ref(), NAME_MAX_BYTES)?.unwrap_or_default();
        let profile = word(self.profile.as_ref())?;
        let redirect = word(self.redirect.as_ref())?;
        let full = profile == Profile::Full;
        let forbidden = self.forbidden_texts()?;
        let method = word(self.method.as_ref())?;
        let keyword = text("keyword", self.keyword.as_ref(), KEYWORD_MAX_BYTES)?;
        if full && method == Method::Head {
            refuse_body_rules(keyword.as_ref(), &forbidden)?;
        }
        let maintenance = self.maintenance.map(checked_window).transpose()?;
        Ok(TargetConfig {
            name,
            group_id: self.group_id.unwrap_or(0),
            url: TargetUrl::parse(&self.url)?,
            interval_s: number(
                "interval_s",
                self.interval_s,
                INTERVAL_DEFAULT_S,
                (INTERVAL_MIN_S, INTERVAL_MAX_S),
            )?,
            method,
            profile,
            timeout_ms: number(
                "timeout_ms",
                self.timeout_ms,
                TIMEOUT_DEFAULT_MS,
                (TIMEOUT_MIN_MS, TIMEOUT_MAX_MS),
            )?,
            redirect: if full { redirect } else { Redirect::Follow },
            keyword: keyword.filter(|_| full),
            forbidden: if full { forbidden } else { Vec::new() },
            headers: self.parsed_headers()?,
            expect_status: word(self.expect_status.as_ref())?,
            maintenance,
            alert_cooldown_min: self
                .alert_cooldown_min
                .unwrap_or(ALERT_COOLDOWN_DEFAULT_MIN),
            max_latency_ms: match self.max_latency_ms {
                None | Some(0) => None,
                some => Some(number("max_latency_ms", some, 0, (1, TIMEOUT_MAX_MS))?),
            },
        })
    }

    fn forbidden_texts(&self) -> Result<Vec<String>, FieldError> {
        let given = self.forbidden.iter().filter(|text| !text.is_empty());
        let texts: Result<Vec<String>, FieldError> = given
            .map(|item| {
                text("forbidden", Some(item), KEYWORD_MAX_BYTES).map(Option::unwrap_or_default)
            })
            .collect();
        let texts = texts?;
        if texts.len() > FORBIDDEN_MAX {
            return Err(FieldError::new(
                "forbidden",
                &texts.len().to_string(),
                "at most 16 texts",
            ));
        }
        Ok(texts)
    }

    fn parsed_headers(&self) -> Result<Vec<Header>, FieldError> {
        if self.headers.len() > HEADERS_MAX {
            let found = self.headers.len().to_string();
            return Err(FieldError::new("headers", &found, "at most 32 headers"));
        }
        self.headers.iter().map(|header| header.parse()).collect()
    }
}

/// A rule that could never hold, or never fail, would be worse than none.
fn refuse_body_rules(keyword: Option<&String>, forbidden: &[String]) -> Result<(), FieldError> {
    const ACCEPTED: &str = "none with method HEAD, whose answer has no body; use GET";
    let keyword = keyword.map(|text| ("keyword", text));
    let forbidden = forbidden.first().map(|text| ("forbidden", text));
    match keyword.or(forbidden) {
        Some((field, text)) => Err(FieldError::new(field, text, ACCEPTED)),
        None => Ok(()),
    }
}

fn checked_window(window: Maintenance) -> Result<Maintenance, FieldError> {
    if window.start_ms < window.end_ms {
        return Ok(window);
    }
    let found = format!("{}..{}", window.start_ms, window.end_ms);
    Err(FieldError::new(
        "maintenance",
        &found,
        "a start before its end",
    ))
}

/// `None` and the empty text mean the default.
fn word<T: FromStr<Err = FieldError> + Default>(given: Option<&String>) -> Result<T, FieldError> {
    match given {
        Some(text) if !text.trim().is_empty() => text.parse(),
        _ => Ok(T::default()),
    }
}

fn text(
    field: &'static str,
    given: Option<&String>,
    max_bytes: usize,
) -> Result<Option<String>, FieldError> {
    match given {
        Some(text) if text.len() > max_bytes => Err(FieldError::new(
            field,
            text,
            &format!("at most {max_bytes} bytes"),
        )),
        Some(text) if !text.is_empty() => Ok(Some(text.clone())),
        _ => Ok(None),
    }
}

/// 0 and absent mean the default, negative and out of range are errors.
fn number(
    field: &'static str,
    given: Option<i64>,
    default: u32,
    (min, max): (u32, u32),
) -> Result<u32, FieldError> {
    match given {
        None | Some(0) => Ok(default),
        Some(value) => u32::try_from(value)
            .ok()
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| FieldError::new(field, &value.to_string(), &format!("{min} to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(url: &str) -> TargetSpec {
        TargetSpec {
            url: url.to_owned(),
            ..TargetSpec::default()
        }
    }

    #[test]
    fn a_bare_url_gets_the_documented_defaults() {
        let target = spec("http://example.com").parse().expect("valid");
        assert_eq!((target.interval_s, target.timeout_ms), (300, 10_000));
        assert_eq!(target.method, Method::Get);
        assert!(target.expect_status.accepts(200) && target.expect_status.accepts(399));
        assert!(!target.expect_status.accepts(400) && !target.expect_status.accepts(101));
        assert_eq!(target.cadence_ms(), 285_000);
    }

    /// The field that is refused when `change` is made to a good spec.
    fn refused(change: impl FnOnce(&mut TargetSpec)) -> &'static str {
        let mut changed = spec("http://example.com");
        change(&mut changed);
        changed.parse().expect_err("the change is bad").field
    }

    #[test]
    fn each_bad_number_and_word_is_named() {
        assert_eq!(refused(|spec| spec.url = "nope".into()), "url");
        assert_eq!(refused(|spec| spec.interval_s = Some(-1)), "interval_s");
        assert_eq!(refused(|spec| spec.interval_s = Some(9)), "interval_s");
        assert_eq!(refused(|spec| spec.timeout_ms = Some(60_001)), "timeout_ms");
        assert_eq!(
            refused(|spec| spec.max_latency_ms = Some(-5)),
            "max_latency_ms"
        );
        assert_eq!(refused(|spec| spec.method = Some("POST".into())), "method");
        assert_eq!(
            refused(|spec| spec.profile = Some("fast".into())),
            "profile"
        );
        assert_eq!(
            refused(|spec| spec.expect_status = Some("200-".into())),
            "expect_status"
        );
    }

    #[test]
    fn each_bad_text_and_window_is_named() {
        for header in [
            "Host: x",
            "Proxy-Foo: x",
            "A: b\r\nC: d",
            "no colon",
            ": empty",
        ] {
            assert_eq!(
                refused(|spec| spec.headers = vec![header.into()]),
                "headers"
            );
        }
        assert_eq!(
            refused(|spec| spec.keyword = Some("k".repeat(501))),
            "keyword"
        );
        assert_eq!(
            refused(|spec| spec.forbidden = vec!["x".into(); 17]),
            "forbidden"
        );
        assert_eq!(refused(|spec| spec.name = Some("n".repeat(129))), "name");
        let backwards = Maintenance {
            start_ms: 2,
            end_ms: 2,
        };
        assert_eq!(
            refused(|spec| spec.maintenance = Some(backwards)),
            "maintenance"
        );
    }

    #[test]
    fn credentials_of_a_refused_field_are_not_shown() {
        let mut refused = spec("http://example.com");
        refused.headers = vec!["Authorization: Bearer s3cret\0".into()];
        let header = refused.parse().expect_err("a control byte");
        assert_eq!(header.found, "Authorization: ***");
        let url = spec("http://u:s3cret@example.com/").parse();
        let url = url.expect_err("user name").to_string();
        assert!(
            url.starts_with("url: found \"http://***@example.com/\", "),
            "{url}"
        );
        let elsewhere = FieldError::new("name", "https://u:s3cret@a/", "x");
        assert_eq!(elsewhere.found, "https://***@a/");
    }

    #[test]
    fn simple_profiles_drop_body_rules_and_follow_redirects() {
        let target = TargetSpec {
            profile: Some("simple".into()),
            keyword: Some("x".into()),
            forbidden: vec!["y".into()],
            redirect: Some("fail".into()),
            ..spec("http://example.com")
        }
        .parse()
        .expect("valid");
        assert_eq!((target.keyword, target.forbidden.len()), (None, 0));
        assert_eq!(target.redirect, Redirect::Follow);
    }

    #[test]
    fn the_effective_timeout_ends_before_the_next_check() {
        let target = TargetSpec {
            interval_s: Some(10),
            ..spec("http://example.com")
        }
        .parse()
        .expect("ok");
        assert_eq!(target.effective_timeout_ms(), 8_500);
    }

    #[test]
    fn an_expect_status_set_is_printed_as_it_is_parsed() {
        let set: ExpectStatus = "300-399, 204,200".parse().expect("valid");
        assert_eq!(set.to_string(), "200,204,300-399");
    }

    #[test]
    fn body_rules_of_a_head_request_are_refused_unless_the_profile_ignores_them() {
        let mut head = TargetSpec {
            method: Some("HEAD".into()),
            keyword: Some("welcome".into()),
            ..spec("http://example.com/")
        };
        assert_eq!(head.parse().map_err(|error| error.field), Err("keyword"));
        head.profile = Some("legacy".into());
        assert_eq!(head.parse().map(|config| config.keyword), Ok(None));
        head.profile = None;
        (head.keyword, head.forbidden) = (None, vec!["fatal error".into()]);
        assert_eq!(head.parse().map_err(|error| error.field), Err("forbidden"));
    }
}
