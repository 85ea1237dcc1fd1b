//! The request head, in the pinned form of `monitor.md` §2, written into a reused buffer.

use std::io::Write;
use std::net::IpAddr;

use model::mask;
use model::target::Header;
use model::url::Scheme;

use crate::attempt::{AttemptSpec, HostRef, Rules};

/// The fields that every request carries after `Host`, written once per core.
#[derive(Clone, Debug)]
pub(crate) struct CommonFields {
    user_agent: String,
    /// Those of a request without custom fields, up to `Connection`.
    plain: Vec<u8>,
    /// The last field of requests in cleartext.
    end: &'static [u8],
}

const ACCEPT: &str = "Accept: */*\r\n";
const ACCEPT_ENCODING: &str = "Accept-Encoding: identity\r\n";
/// Where a rule looks into the body: what can be decoded.
const ACCEPT_CODINGS: &str = "Accept-Encoding: gzip, deflate, br\r\n";
const END: &[u8] = b"Connection: close\r\n\r\n";
/// What servers of HTTP/1.0 have to be told, and those of HTTP/1.1 take for granted.
const END_TO_KEEP: &[u8] = b"Connection: keep-alive\r\n\r\n";
/// Nearly every request is shorter. Its buffer has been another's, and would else grow with each
/// target that is a little longer than those before.
const USUAL_BYTES: usize = 512;

/// Which of the custom fields go along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    Kept,
    /// A redirect left the host that they are meant for: no Authorization, no Cookie.
    Withheld,
}

impl CommonFields {
    /// With `reuse` requests in cleartext ask for a connection that lasts.
    pub(crate) fn new(user_agent: &str, reuse: bool) -> Self {
        let user_agent = format!("User-Agent: {user_agent}\r\n");
        Self {
            plain: format!("{user_agent}{ACCEPT}{ACCEPT_ENCODING}").into_bytes(),
            user_agent,
            end: if reuse { END_TO_KEEP } else { END },
        }
    }

    fn end(&self, scheme: Scheme) -> &'static [u8] {
        if scheme == Scheme::Http {
            self.end
        } else {
            END
        }
    }

    /// Appends the request head for `spec` to `out`.
    pub(crate) fn write(
        &self,
        spec: &AttemptSpec<'_>,
        credentials: Credentials,
        out: &mut Vec<u8>,
    ) {
        out.reserve(USUAL_BYTES);
        let parts =
            [spec.method.as_str(), " ", spec.path, " HTTP/1.1\r\nHost: "].map(str::as_bytes);
        for part in parts {
            out.extend_from_slice(part);
        }
        write_authority(spec, out);
        out.extend_from_slice(b"\r\n");
        let Some(rules) = spec.rules.map(Rules::set) else {
            out.extend_from_slice(&self.plain);
            out.extend_from_slice(self.end(spec.scheme));
            return;
        };
        let headers: &[Header] = &rules.headers;
        let codings = if rules.body.is_some() {
            ACCEPT_CODINGS
        } else {
            ACCEPT_ENCODING
        };
        let ours = [
            ("user-agent", self.user_agent.as_str()),
            ("accept", ACCEPT),
            ("accept-encoding", codings),
        ];
        // A custom field takes the place of ours: two User-Agents would help nobody.
        for (name, line) in ours {
            if !headers
                .iter()
                .any(|header| header.name().eq_ignore_ascii_case(name))
            {
                out.extend_from_slice(line.as_bytes());
            }
        }
        let goes =
            |header: &&Header| credentials == Credentials::Kept || !mask::is_secret(header.name());
        for header in headers.iter().filter(goes) {
            let parts = [header.name(), ": ", header.value(), "\r\n"].map(str::as_bytes);
            for part in parts {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(self.end(spec.scheme));
    }
}

/// Writes the URL of `spec` to `out`, in the canonical form of a target's URL.
pub(crate) fn write_url(spec: &AttemptSpec<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(spec.scheme.as_str().as_bytes());
    out.extend_from_slice(b"://");
    write_authority(spec, out);
    out.extend_from_slice(spec.path.as_bytes());
}

/// `host[:port]`, the scheme's default port left out, IPv6 in brackets.
fn write_authority(spec: &AttemptSpec<'_>, out: &mut Vec<u8>) {
    let written = match spec.host {
        HostRef::Name(name) => {
            out.extend_from_slice(name.as_bytes());
            Ok(())
        }
        HostRef::Address(IpAddr::V4(v4)) => write!(out, "{v4}"),
        HostRef::Address(IpAddr::V6(v6)) => write!(out, "[{v6}]"),
    };
    let port = if spec.port == spec.scheme.default_port() {
        written
    } else {
        written.and_then(|()| write!(out, ":{}", spec.port))
    };
    port.expect("writing to a Vec does not fail");
}

#[cfg(test)]
mod tests {
    use model::target::{Method, TargetSpec};

    use super::*;

    fn spec<'a>(host: HostRef<'a>, port: u16, rules: Option<&'a Rules>) -> AttemptSpec<'a> {
        AttemptSpec {
            scheme: Scheme::Http,
            host,
            port,
            path: "/a?b=c",
            method: Method::Get,
            timeout_ms: 10_000,
            head_only: false,
            rules,
        }
    }

    fn head(spec: &AttemptSpec<'_>) -> String {
        let mut out = Vec::new();
        let fields = CommonFields::new("ringwatch/1 (+https://ringwatch.test)", false);
        fields.write(spec, Credentials::Kept, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn only_cleartext_asks_for_a_connection_that_lasts_and_only_where_that_is_wanted() {
        let config = TargetSpec {
            url: "http://e.test/".into(),
            headers: vec!["X-A: 1".into()],
            ..TargetSpec::default()
        };
        let rules = Rules::from_config(&config.parse().expect("valid"));
        for rules in [None, rules.as_ref()] {
            let plain = spec(HostRef::Name("e.test"), 80, rules);
            let secure = AttemptSpec {
                scheme: Scheme::Https,
                port: 443,
                ..plain
            };
            let written = |spec, reuse| {
                let mut out = Vec::new();
                let fields = CommonFields::new("me", reuse);
                fields.write(spec, Credentials::Kept, &mut out);
                String::from_utf8(out).expect("ASCII")
            };
            let closing = written(&plain, false);
            assert!(closing.ends_with("\r\nConnection: close\r\n\r\n"));
            let kept = closing.replace("close", "keep-alive");
            assert_eq!(written(&plain, true), kept);
            assert_eq!(written(&secure, true), written(&secure, false));
            assert!(written(&secure, true).ends_with("\r\nConnection: close\r\n\r\n"));
        }
    }

    #[test]
    fn the_request_head_has_the_pinned_form() {
        assert_eq!(
            head(&spec(HostRef::Name("example.com"), 80, None)),
            "GET /a?b=c HTTP/1.1\r\nHost: example.com\r\n\
             User-Agent: ringwatch/1 (+https://ringwatch.test)\r\nAccept: */*\r\n\
             Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn ports_and_literals_stand_in_the_host_field() {
        let host = |host, port| {
            let head = head(&spec(host, port, None));
            head.lines().nth(1).map(str::to_owned)
        };
        let v6: IpAddr = "2001:db8::1".parse().expect("v6");
        let v4: IpAddr = "192.0.2.1".parse().expect("v4");
        assert_eq!(
            host(HostRef::Name("e.test"), 8080).as_deref(),
            Some("Host: e.test:8080")
        );
        assert_eq!(
            host(HostRef::Address(v4), 80).as_deref(),
            Some("Host: 192.0.2.1")
        );
        assert_eq!(
            host(HostRef::Address(v6), 81).as_deref(),
            Some("Host: [2001:db8::1]:81")
        );
    }

    #[test]
    fn custom_headers_come_before_connection_and_replace_ours() {
        let config = TargetSpec {
            url: "http://e.test/".into(),
            headers: vec!["X-A: 1".into(), "user-agent: me".into()],
            ..TargetSpec::default()
        }
        .parse()
        .expect("valid");
        let rules = Rules::from_config(&config).expect("has headers");
        let head = head(&spec(HostRef::Name("e.test"), 80, Some(&rules)));
        assert_eq!(
            head,
            "GET /a?b=c HTTP/1.1\r\nHost: e.test\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\
             X-A: 1\r\nuser-agent: me\r\nConnection: close\r\n\r\n"
        );
    }
}
