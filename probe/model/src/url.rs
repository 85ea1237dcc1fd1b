//! A target's URL, parsed once: invalid ones are unrepresentable.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::limits::{LOCATION_MAX_BYTES, URL_MAX_BYTES};
use crate::target::FieldError;

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Where a URL points: a name to resolve (ASCII, lower case, no trailing dot), or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name in its ASCII (punycode) form.
    Name(String),
    /// An IPv4 or IPv6 literal.
    Address(IpAddr),
}

impl fmt::Display for Host {
    /// As in a `Host` field: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(v4)) => v4.fmt(f),
            Self::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
        }
    }
}

/// A canonical http(s) URL without userinfo and fragment: ≤ 2,083 bytes as parsed, ≤ 8 KiB where a
/// redirect led to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetUrl {
    scheme: Scheme,
    host: Host,
    port: u16,
    path: String,
}

/// Why a `Location` cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Not a URL, or one without a host that can be resolved.
    #[error("it does not parse as a URL")]
    Invalid,
    /// `ftp:`, `mailto:`, an app of its own.
    #[error("it is neither http nor https")]
    Scheme,
    /// Above [`LOCATION_MAX_BYTES`].
    #[error("it is longer than 8 KiB")]
    TooLong,
}

impl TargetUrl {
    /// Parses and canonicalises `text`: IDNA host, default port dropped, fragment dropped.
    ///
    /// # Errors
    /// [`FieldError`] for the field `url` when it is too long, not http(s), has userinfo, no host,
    /// port 0, or does not parse.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let refuse = |accepted: &str| FieldError::new("url", text, accepted);
        if text.len() > URL_MAX_BYTES {
            return Err(refuse("a URL of at most 2083 bytes"));
        }
        let parsed = url::Url::parse(text.trim())
            .map_err(|error| refuse(&format!("an absolute http or https URL ({error})")))?;
        let Some(scheme) = scheme_of(&parsed) else {
            return Err(refuse("a URL that starts with http:// or https://"));
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(refuse("a URL without user name and password"));
        }
        let host = parse_host(parsed.host()).ok_or_else(|| refuse("a URL with a valid host"))?;
        let url =
            Self::of(&parsed, scheme, host).ok_or_else(|| refuse("a port from 1 to 65535"))?;
        if url.to_string().len() > URL_MAX_BYTES {
            return Err(refuse("a URL of at most 2083 bytes in its canonical form"));
        }
        Ok(url)
    }

    /// Where a redirect from this URL to `location`, the bytes of the field, leads: resolved as
    /// browsers do (WHATWG URL), whatever userinfo it carries left out.
    ///
    /// # Errors
    /// [`LocationError`] when it leads nowhere that can be checked.
    pub fn join(&self, location: &[u8]) -> Result<Self, LocationError> {
        if location.len() > LOCATION_MAX_BYTES {
            return Err(LocationError::TooLong);
        }
        let base = url::Url::parse(&self.to_string()).map_err(|_| LocationError::Invalid)?;
        let joined = base
            .join(&text_of(location))
            .map_err(|_| LocationError::Invalid)?;
        let scheme = scheme_of(&joined).ok_or(LocationError::Scheme)?;
        let host = parse_host(joined.host()).ok_or(LocationError::Invalid)?;
        let url = Self::of(&joined, scheme, host).ok_or(LocationError::Invalid)?;
        if url.to_string().len() > LOCATION_MAX_BYTES {
            return Err(LocationError::TooLong);
        }
        Ok(url)
    }

    /// `None`: port 0.
    fn of(parsed: &url::Url, scheme: Scheme, host: Host) -> Option<Self> {
        let port = parsed.port().unwrap_or(scheme.default_port());
        let path = match parsed.query() {
            Some(query) => format!("{}?{query}", parsed.path()),
            None => parsed.path().to_owned(),
        };
        (port != 0).then_some(Self {
            scheme,
            host,
            port,
            path,
        })
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, resolved or literal.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, the scheme's default filled in.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, starting with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for TargetUrl {
    /// The canonical form: the unique key of targets is made of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path)
    }
}

fn scheme_of(url: &url::Url) -> Option<Scheme> {
    match url.scheme() {
        "http" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        _ => None,
    }
}

/// Field bytes as text: UTF-8 as it is, else every byte that is not ASCII percent-encoded, which
/// is what a server means that writes its URLs in an encoding of its own.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(3 * bytes.len());
    for &byte in bytes {
        if byte.is_ascii() {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    Cow::Owned(text)
}

fn parse_host(host: Option<url::Host<&str>>) -> Option<Host> {
    match host? {
        url::Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            is_dns_name(name).then(|| Host::Name(name.to_owned()))
        }
        url::Host::Ipv4(v4) => Some(Host::Address(v4.into())),
        url::Host::Ipv6(v6) => Some(Host::Address(v6.into())),
    }
}

/// RFC 1035 §2.3.4 sizes; underscores are allowed because real names carry them.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        TargetUrl::parse(text).expect(text).to_string()
    }

    #[test]
    fn urls_become_canonical() {
        assert_eq!(canonical("HTTP://Example.COM:80"), "http://example.com/");
        assert_eq!(
            canonical("https://example.com.:8443/a?b=c#d"),
            "https://example.com:8443/a?b=c"
        );
        assert_eq!(
            canonical("http://bücher.example/ü"),
            "http://xn--bcher-kva.example/%C3%BC"
        );
        assert_eq!(canonical("http://[::1]:8080/x"), "http://[::1]:8080/x");
        assert_eq!(canonical("http://0x7f.1/"), "http://127.0.0.1/");
    }

    #[test]
    fn what_is_not_a_target_url_is_refused_with_its_field() {
        let long = format!("http://example.com/{}", "a".repeat(URL_MAX_BYTES));
        for bad in [
            "",
            "example.com",
            "ftp://example.com/",
            "http://",
            "http://u:p@example.com/",
            "http://example.com:0/",
            "http://exa mple.com/",
            "http://a..b/",
            &long,
        ] {
            let error = TargetUrl::parse(bad).expect_err(bad);
            assert_eq!(error.field, "url");
        }
    }

    #[test]
    fn the_canonical_form_parses_to_itself() {
        let url = TargetUrl::parse("http://example.com:8080/a%20b?q=1&r").expect("valid");
        assert_eq!(TargetUrl::parse(&url.to_string()).expect("valid"), url);
    }

    fn joined(base: &str, location: &[u8]) -> Result<String, LocationError> {
        let base = TargetUrl::parse(base).expect("a base");
        base.join(location).map(|url| url.to_string())
    }

    #[test]
    fn locations_are_resolved_as_browsers_do() {
        for (location, leads_to) in [
            ("https://b.example/x#top", "https://b.example/x"),
            ("//b.example:8443/x", "http://b.example:8443/x"),
            ("/x?y=1", "http://a.example:81/x?y=1"),
            ("x", "http://a.example:81/dir/x"),
            ("../x", "http://a.example:81/x"),
            ("?q", "http://a.example:81/dir/page?q"),
            ("", "http://a.example:81/dir/page?old"),
            ("#top", "http://a.example:81/dir/page?old"),
            (" /sp ace ", "http://a.example:81/sp%20ace"),
            ("\\x", "http://a.example:81/x"),
            ("HTTP:/x", "http://a.example:81/x"),
            ("http://u:p@b.example/", "http://b.example/"),
            ("http://0x7f.1/", "http://127.0.0.1/"),
            (
                "http://B\u{fc}cher.example/",
                "http://xn--bcher-kva.example/",
            ),
        ] {
            let found = joined("http://a.example:81/dir/page?old", location.as_bytes());
            assert_eq!(found.as_deref(), Ok(leads_to), "{location:?}");
        }
        assert_eq!(
            joined("http://a.example/", b"/caf\xe9").as_deref(),
            Ok("http://a.example/caf%E9")
        );
    }

    #[test]
    fn locations_that_lead_nowhere_say_why() {
        let long = format!("/{}", "a".repeat(LOCATION_MAX_BYTES));
        for (location, why) in [
            ("ftp://a.example/", LocationError::Scheme),
            ("javascript:alert(1)", LocationError::Scheme),
            ("http://", LocationError::Invalid),
            ("http://a b/", LocationError::Invalid),
            ("http://a.example:99999/", LocationError::Invalid),
            ("http://a.example:0/", LocationError::Invalid),
            ("http://a..b/", LocationError::Invalid),
            (long.as_str(), LocationError::TooLong),
        ] {
            let found = joined("http://a.example/", location.as_bytes());
            assert_eq!(found, Err(why), "{location:?}");
        }
    }
}
