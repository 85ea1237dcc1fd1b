//! A target's URL, parsed once: invalid ones are unrepresentable.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::limits::{LOCATION_MAX_BYTES, URL_MAX_BYTES};
use crate::record::RecordType;
use crate::target::FieldError;

/// How the URL of a check begins: what is spoken with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// HTTP in cleartext.
    Http,
    /// HTTP inside TLS.
    Https,
    /// A connection, and perhaps a few bytes each way.
    Tcp,
    /// A TLS handshake and nothing in it.
    Tls,
    /// A question to the DNS.
    Dns,
}

impl Scheme {
    /// Every scheme, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Http, Self::Https, Self::Tcp, Self::Tls, Self::Dns];

    /// The word before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dns => "dns",
        }
    }

    /// The port of a URL that names none; 0 where it must name one, or has none at all.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https | Self::Tls => 443,
            Self::Tcp | Self::Dns => 0,
        }
    }

    /// Whether a request is made.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// Whether everything goes inside TLS.
    pub fn is_secured(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// The scheme of `url`, in any case; `None` for those that cannot be checked.
    pub fn of(url: &str) -> Option<Self> {
        let (word, _) = url.trim_start().split_once("://")?;
        Self::ALL
            .into_iter()
            .find(|scheme| word.eq_ignore_ascii_case(scheme.as_str()))
    }
}

/// What the field `url` takes, in words.
pub(crate) const SCHEMES: &str =
    "a URL that starts with http://, https://, tcp://, tls:// or dns://";

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

/// A host and a port without anything behind them: what `tcp://` and `tls://` URLs name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: Host,
    port: u16,
}

impl Endpoint {
    /// Parses `text`, a URL of `scheme`, whose default port is filled in: IDNA host.
    ///
    /// # Errors
    /// [`FieldError`] for the field `url` when it does not parse, has userinfo, no port where
    /// there is no default, or anything after the port.
    pub fn parse(text: &str, scheme: Scheme) -> Result<Self, FieldError> {
        let form = match scheme.default_port() {
            0 => format!("{}://host:port", scheme.as_str()),
            port => format!("{}://host[:port], {port} without a port", scheme.as_str()),
        };
        let refuse = |why: &str| FieldError::new("url", text, &format!("{form}{why}"));
        if text.len() > URL_MAX_BYTES {
            return Err(refuse(", at most 2083 bytes"));
        }
        let parsed = url::Url::parse(text.trim()).map_err(|e| refuse(&format!(" ({e})")))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(refuse(", without user name and password"));
        }
        let rest = !matches!(parsed.path(), "" | "/");
        if rest || parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(refuse(", and nothing after it"));
        }
        // The URL standard leaves the hosts of schemes that it does not know as they are.
        let host = parsed
            .host_str()
            .and_then(|host| url::Host::parse(host).ok());
        let host = parse_host(host).ok_or_else(|| refuse(" with a valid host"))?;
        match parsed.port().unwrap_or(scheme.default_port()) {
            0 => Err(refuse(" with a port from 1 to 65535")),
            port => Ok(Self { host, port }),
        }
    }

    /// The host, a name or an address.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Writes the canonical URL with `scheme`.
    pub(crate) fn write(&self, scheme: Scheme, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", scheme.as_str(), self.host)?;
        if self.port != scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

/// A DNS name and what is asked of it: `dns://name?type=MX`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsName {
    /// Always a name.
    host: Host,
    kind: RecordType,
}

impl DnsName {
    /// Parses `text`, a URL with the scheme `dns`; without a type it asks for A records.
    ///
    /// # Errors
    /// [`FieldError`] for the field `url` when it is none, has anything but a name and a type, or
    /// asks for a type that is not known.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let refuse = |why: &str| FieldError::new("url", text, &format!("dns://name?type=A{why}"));
        if text.len() > URL_MAX_BYTES {
            return Err(refuse(", at most 2083 bytes"));
        }
        let parsed = url::Url::parse(text.trim()).map_err(|e| refuse(&format!(" ({e})")))?;
        let has_user = !parsed.username().is_empty() || parsed.password().is_some();
        let has_rest = !matches!(parsed.path(), "" | "/") || parsed.fragment().is_some();
        if has_user || has_rest || parsed.port().is_some() {
            // RFC 4501 has a server before the name; it would be taken for the name.
            return Err(refuse(
                " and nothing else: the node's own resolvers are asked",
            ));
        }
        let Some(kind) = asked_type(parsed.query()) else {
            let types: Vec<&str> = RecordType::ALL.iter().map(|kind| kind.as_str()).collect();
            return Err(refuse(&format!(", with a type of {}", types.join(", "))));
        };
        // The URL standard leaves the hosts of schemes that it does not know as they are.
        let host = parsed
            .host_str()
            .and_then(|host| url::Host::parse(host).ok());
        match parse_host(host) {
            Some(host @ Host::Name(_)) => Ok(Self { host, kind }),
            Some(Host::Address(_)) => Err(refuse(
                ", with a name; that of an address is 1.2.0.192.in-addr.arpa",
            )),
            None => Err(refuse(", with a valid name")),
        }
    }

    /// The name.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What is asked of it.
    pub fn kind(&self) -> RecordType {
        self.kind
    }
}

impl fmt::Display for DnsName {
    /// The canonical URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dns://{}?type={}", self.host, self.kind)
    }
}

/// The type that a query like `type=MX` names.
fn asked_type(query: Option<&str>) -> Option<RecordType> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Some(RecordType::default());
    };
    let (key, word) = query.split_once('=')?;
    let is_type = key.eq_ignore_ascii_case("type");
    is_type.then(|| RecordType::named(word))?
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
            .map_err(|error| refuse(&format!("{SCHEMES} ({error})")))?;
        let Some(scheme) = scheme_of(&parsed) else {
            return Err(refuse(SCHEMES));
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

    /// [`Scheme::Http`] or [`Scheme::Https`].
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

fn parse_host<S: AsRef<str>>(host: Option<url::Host<S>>) -> Option<Host> {
    match host? {
        url::Host::Domain(name) => {
            let name = name.as_ref();
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
        for spelled in ["0x7f.1", "127.1", "0177.0.0.1", "2130706433", "127.0.0.1."] {
            let url = format!("http://{spelled}/");
            assert_eq!(canonical(&url), "http://127.0.0.1/", "{spelled}");
        }
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

    /// An endpoint as the URL of its scheme.
    struct Shown(Endpoint, Scheme);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.write(self.1, f)
        }
    }

    #[test]
    fn endpoints_become_canonical_and_name_a_port_where_none_is_usual() {
        let canonical = |text: &str| {
            let scheme = Scheme::of(text).expect(text);
            let endpoint = Endpoint::parse(text, scheme)?;
            Ok::<_, FieldError>(Shown(endpoint, scheme).to_string())
        };
        for (text, shown) in [
            ("tcp://Mail.Example:25", "tcp://mail.example:25"),
            ("TCP://example.com:80/", "tcp://example.com:80"),
            (
                "tcp://b\u{fc}cher.example.:7",
                "tcp://xn--bcher-kva.example:7",
            ),
            ("tcp://0x7f.1:9", "tcp://127.0.0.1:9"),
            ("tcp://[::1]:443", "tcp://[::1]:443"),
            ("tls://example.com:443", "tls://example.com"),
            ("tls://example.com:993", "tls://example.com:993"),
            ("tls://1.2.3.4", "tls://1.2.3.4"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(shown));
            assert_eq!(canonical(shown).as_deref(), Ok(shown));
        }
        for bad in [
            "tcp://example.com",
            "tcp://example.com:0",
            "tls://example.com:0",
            "tcp://example.com:25/x",
            "tcp://example.com:25?send=x",
            "tcp://u@example.com:25",
            "tcp://:25",
            "tcp://a b:25",
            "tcp://a..b:25",
            "tls://",
            "tls://example.com#x",
        ] {
            let error = canonical(bad).expect_err(bad);
            assert_eq!(error.field, "url", "{bad}");
            assert!(error.accepted.contains("://host"), "{error}");
        }
    }

    #[test]
    fn a_question_names_what_it_asks_for() {
        let canonical = |text: &str| DnsName::parse(text).map(|name| name.to_string());
        for (text, shown) in [
            ("dns://Example.com", "dns://example.com?type=A"),
            ("DNS://example.com./?TYPE=mx", "dns://example.com?type=MX"),
            (
                "dns://_dmarc.example.com?type=TXT",
                "dns://_dmarc.example.com?type=TXT",
            ),
            (
                "dns://b\u{fc}cher.example?type=AAAA",
                "dns://xn--bcher-kva.example?type=AAAA",
            ),
            (
                "dns://4.3.2.1.in-addr.arpa?type=PTR",
                "dns://4.3.2.1.in-addr.arpa?type=PTR",
            ),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(shown));
            assert_eq!(canonical(shown).as_deref(), Ok(shown));
        }
        for bad in [
            "dns://",
            "dns://1.2.3.4",
            "dns://[::1]",
            "dns://1.1.1.1/example.com?type=A",
            "dns://example.com:53",
            "dns://example.com?type=AXFR",
            "dns://example.com?type=",
            "dns://example.com?type=A&type=MX",
            "dns://example.com?A",
            "dns://example.com#x",
            "dns://u@example.com",
            "dns://a..b",
        ] {
            let error = canonical(bad).expect_err(bad);
            assert_eq!(error.field, "url", "{bad}");
            assert!(error.accepted.starts_with("dns://name?type=A"), "{error}");
        }
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
