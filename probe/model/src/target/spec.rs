//! A target as it is given: optional raw fields, and how they become a valid configuration.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{FieldError, Header, Maintenance, Method, Profile, Redirect, TargetConfig};
use crate::check::{Check, DnsCheck, HttpCheck, TcpCheck, TcpText, TlsCheck};
use crate::limits::{
    ALERT_COOLDOWN_DEFAULT_MIN, FORBIDDEN_MAX, HEADERS_MAX, INTERVAL_DEFAULT_S, INTERVAL_MAX_S,
    INTERVAL_MIN_S, KEYWORD_MAX_BYTES, NAME_MAX_BYTES, RECORDS_EXPECTED_MAX, TIMEOUT_DEFAULT_MS,
    TIMEOUT_MAX_MS, TIMEOUT_MIN_MS,
};
use crate::record::{RecordType, RecordValue};
use crate::url::{DnsName, Endpoint, Scheme, TargetUrl};

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
    /// What is said to a TCP connection, with escapes such as `\r\n`.
    pub send: Option<String>,
    /// What a TCP connection must bring, with the same escapes; or the records of a DNS answer.
    pub expect: Vec<String>,
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
    /// The first [`FieldError`].
    pub fn parse(&self) -> Result<TargetConfig, FieldError> {
        Ok(TargetConfig {
            name: text("name", self.name.as_ref(), NAME_MAX_BYTES)?.unwrap_or_default(),
            group_id: self.group_id.unwrap_or(0),
            check: self.check()?,
            interval_s: number(
                "interval_s",
                self.interval_s,
                INTERVAL_DEFAULT_S,
                (INTERVAL_MIN_S, INTERVAL_MAX_S),
            )?,
            timeout_ms: number(
                "timeout_ms",
                self.timeout_ms,
                TIMEOUT_DEFAULT_MS,
                (TIMEOUT_MIN_MS, TIMEOUT_MAX_MS),
            )?,
            maintenance: self.maintenance.map(checked_window).transpose()?,
            alert_cooldown_min: self
                .alert_cooldown_min
                .unwrap_or(ALERT_COOLDOWN_DEFAULT_MIN),
            max_latency_ms: match self.max_latency_ms {
                None | Some(0) => None,
                some => Some(number("max_latency_ms", some, 0, (1, TIMEOUT_MAX_MS))?),
            },
        })
    }

    /// What the URL's scheme makes of it; a URL of no scheme that can be checked is refused as
    /// that of a page.
    fn check(&self) -> Result<Check, FieldError> {
        let scheme = Scheme::of(&self.url).unwrap_or(Scheme::Http);
        self.refuse_foreign_fields(scheme)?;
        let endpoint = || Endpoint::parse(&self.url, scheme);
        Ok(match scheme {
            Scheme::Http | Scheme::Https => Check::Http(self.http_check()?),
            Scheme::Tcp => Check::Tcp(TcpCheck {
                endpoint: endpoint()?,
                send: TcpText::parse("send", self.send.as_deref().unwrap_or_default())?,
                expect: self.one_expected()?,
            }),
            Scheme::Tls => Check::Tls(TlsCheck {
                endpoint: endpoint()?,
            }),
            Scheme::Dns => {
                let name = DnsName::parse(&self.url)?;
                let expect = self.expected_records(name.kind())?;
                Check::Dns(DnsCheck { name, expect })
            }
        })
    }

    /// A field that means nothing for the check would be ignored in silence.
    fn refuse_foreign_fields(&self, scheme: Scheme) -> Result<(), FieldError> {
        let pages = [
            ("method", first(&self.method)),
            ("profile", first(&self.profile)),
            ("redirect", first(&self.redirect)),
            ("keyword", first(&self.keyword)),
            ("forbidden", first(&self.forbidden)),
            ("headers", first(&self.headers)),
            ("expect_status", first(&self.expect_status)),
        ];
        let web = "http:// and https:// have";
        let pages = pages.map(|(field, given)| (field, given, scheme.is_http(), web));
        let expects = matches!(scheme, Scheme::Tcp | Scheme::Dns);
        let ports = [
            (
                "send",
                first(&self.send),
                scheme == Scheme::Tcp,
                "tcp:// has",
            ),
            (
                "expect",
                first(&self.expect),
                expects,
                "tcp:// and dns:// have",
            ),
        ];
        for (field, given, belongs, owner) in pages.into_iter().chain(ports) {
            if let Some(found) = given.filter(|_| !belongs) {
                let scheme = scheme.as_str();
                let accepted = format!("nothing with a URL of {scheme}://, only {owner} it");
                return Err(FieldError::new(field, found, &accepted));
            }
        }
        Ok(())
    }

    fn http_check(&self) -> Result<HttpCheck, FieldError> {
        let profile = word(self.profile.as_ref())?;
        let redirect = word(self.redirect.as_ref())?;
        let full = profile == Profile::Full;
        let forbidden = self.forbidden_texts()?;
        let method = word(self.method.as_ref())?;
        let keyword = text("keyword", self.keyword.as_ref(), KEYWORD_MAX_BYTES)?;
        if full && method == Method::Head {
            refuse_body_rules(keyword.as_ref(), &forbidden)?;
        }
        Ok(HttpCheck {
            url: TargetUrl::parse(&self.url)?,
            method,
            profile,
            redirect: if full { redirect } else { Redirect::Follow },
            keyword: keyword.filter(|_| full),
            forbidden: if full { forbidden } else { Vec::new() },
            headers: self.parsed_headers()?,
            expect_status: word(self.expect_status.as_ref())?,
        })
    }

    fn expected_records(&self, kind: RecordType) -> Result<Vec<RecordValue>, FieldError> {
        let given = self.expect.iter().filter(|text| !text.is_empty());
        let values: Result<Vec<_>, _> = given.map(|text| RecordValue::parse(kind, text)).collect();
        let mut values = values?;
        values.sort_unstable();
        values.dedup();
        if values.len() > RECORDS_EXPECTED_MAX {
            let found = values.len().to_string();
            return Err(FieldError::new("expect", &found, "at most 32 values"));
        }
        Ok(values)
    }

    fn one_expected(&self) -> Result<Option<TcpText>, FieldError> {
        let mut given = self.expect.iter().filter(|text| !text.is_empty());
        let first = given.next().map_or("", String::as_str);
        if let Some(second) = given.next() {
            return Err(FieldError::new("expect", second, "one text with tcp://"));
        }
        TcpText::parse("expect", first)
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

/// The first text that says something.
fn first<'a>(texts: impl IntoIterator<Item = &'a String>) -> Option<&'a str> {
    let mut texts = texts.into_iter().map(String::as_str);
    texts.find(|text| !text.is_empty())
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
    use super::super::ExpectStatus;
    use super::*;

    fn spec(url: &str) -> TargetSpec {
        TargetSpec {
            url: url.to_owned(),
            ..TargetSpec::default()
        }
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
    fn a_bare_url_gets_the_documented_defaults() {
        let target = spec("http://example.com").parse().expect("valid");
        assert_eq!((target.interval_s, target.timeout_ms), (300, 10_000));
        let http = target.check.http().expect("a page");
        assert_eq!(http.method, Method::Get);
        assert!(http.expect_status.accepts(200) && http.expect_status.accepts(399));
        assert!(!http.expect_status.accepts(400) && !http.expect_status.accepts(101));
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
        let http = target.check.http().expect("a page");
        assert_eq!((&http.keyword, http.forbidden.len()), (&None, 0));
        assert_eq!(http.redirect, Redirect::Follow);
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
        let config = head.parse().expect("valid");
        assert_eq!(config.check.http().map(|http| &http.keyword), Some(&None));
        head.profile = None;
        (head.keyword, head.forbidden) = (None, vec!["fatal error".into()]);
        assert_eq!(head.parse().map_err(|error| error.field), Err("forbidden"));
    }

    #[test]
    fn a_port_and_a_handshake_take_their_own_fields() {
        let tcp = TargetSpec {
            send: Some(r"EHLO x\r\n".into()),
            expect: vec![String::new(), "250".into()],
            max_latency_ms: Some(40),
            ..spec("tcp://Mail.example:25")
        };
        let config = tcp.parse().expect("valid");
        assert_eq!(config.check.to_string(), "tcp://mail.example:25");
        assert_eq!((config.check.port(), config.check.method_word()), (25, ""));
        let Check::Tcp(check) = config.check else {
            panic!("{:?} is no port", config.check)
        };
        assert_eq!(check.send.expect("given").as_bytes(), b"EHLO x\r\n");
        assert_eq!(check.expect.expect("given").as_bytes(), b"250");
        let tls = spec("tls://mail.example:993").parse().expect("valid");
        assert_eq!(tls.check.scheme(), Scheme::Tls);
    }

    #[test]
    fn a_field_that_means_nothing_for_the_check_is_refused_by_its_name() {
        type Change = fn(&mut TargetSpec);
        let of_pages: [(&str, Change); 7] = [
            ("method", |spec| spec.method = Some("GET".into())),
            ("profile", |spec| spec.profile = Some("full".into())),
            ("redirect", |spec| spec.redirect = Some("follow".into())),
            ("keyword", |spec| spec.keyword = Some("x".into())),
            ("forbidden", |spec| spec.forbidden = vec!["x".into()]),
            ("headers", |spec| spec.headers = vec!["A: b".into()]),
            ("expect_status", |spec| {
                spec.expect_status = Some("200".into());
            }),
        ];
        let of_ports: [(&str, Change); 2] = [
            ("send", |spec| spec.send = Some("x".into())),
            ("expect", |spec| spec.expect = vec!["x".into()]),
        ];
        let refused = |url: &str, (field, change): (&str, Change)| {
            let mut changed = spec(url);
            change(&mut changed);
            let error = changed.parse().expect_err(field);
            assert_eq!(error.field, field, "{url}");
            assert!(
                error.accepted.starts_with("nothing with a URL of"),
                "{error}"
            );
        };
        for case in of_pages {
            refused("tcp://a.example:25", case);
            refused("tls://a.example", case);
        }
        for case in of_ports {
            refused("tls://a.example", case);
            refused("http://a.example/", case);
        }
        // An empty field says nothing.
        let empty = TargetSpec {
            method: Some(String::new()),
            keyword: Some(String::new()),
            expect: vec![String::new()],
            ..spec("tls://a.example")
        };
        assert!(empty.parse().is_ok());
    }

    #[test]
    fn a_question_takes_the_values_of_its_type_in_any_order() {
        let question = |url: &str, expect: &[&str]| {
            let dns = TargetSpec {
                expect: expect.iter().map(|&text| text.into()).collect(),
                ..spec(url)
            };
            dns.parse()
        };
        let of = |expect: &[&str]| question("dns://Example.com?type=mx", expect);
        let two = of(&["20 b.example.", "", "10 A.example", "20 B.example"]).expect("valid");
        assert_eq!(two.check.to_string(), "dns://example.com?type=MX");
        assert_eq!(two, of(&["10 a.example", "20 b.example"]).expect("valid"));
        assert!(question("dns://example.com", &[]).is_ok());
        assert_eq!(
            of(&["a.example"]).map_err(|error| error.field),
            Err("expect")
        );
        let many: Vec<String> = (0..33).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(question("dns://example.com", &many[1..]).is_ok());
        assert!(question("dns://example.com", &many).is_err());
        let sent = TargetSpec {
            send: Some("x".into()),
            ..spec("dns://example.com")
        };
        assert_eq!(sent.parse().map_err(|error| error.field), Err("send"));
    }

    #[test]
    fn bad_texts_of_a_port_are_named() {
        let refused = |send: &str, expect: &[&str]| {
            let tcp = TargetSpec {
                send: Some(send.into()),
                expect: expect.iter().map(|&text| text.into()).collect(),
                ..spec("tcp://a.example:25")
            };
            tcp.parse().expect_err("bad").field
        };
        assert_eq!(refused(r"\q", &[]), "send");
        assert_eq!(refused("", &[r"\x1"]), "expect");
        assert_eq!(refused("", &["a", "b"]), "expect");
        assert_eq!(refused("", &[&"x".repeat(1_025)]), "expect");
    }
}
