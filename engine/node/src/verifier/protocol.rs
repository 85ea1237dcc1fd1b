//! What is said between a node and its verifiers: `POST /v2/check` and `GET /v2/status`, as JSON.
//! It must not know how it is carried, nor what is made of it.

use std::collections::BTreeMap;

use model::check::Check;
use model::target::{Header, TargetConfig};
use model::{FieldError, Target, TargetSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Path of checks.
pub(super) const CHECK: &str = "/v2/check";
/// Path of the status.
pub(super) const STATUS: &str = "/v2/status";
/// The version of all this.
pub(super) const PROTOCOL: &str = "v2";
/// Legacy code of a target that must not, or cannot, be checked.
pub(super) const PROBE_SAFETY: u8 = 9;

/// Checks to be made: the body of a request to [`CHECK`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CheckBatch {
    /// Comes back in the answer.
    pub(super) batch_id: String,
    /// How long the asker waits, in ms; 0 = as long as a check may take.
    #[serde(default)]
    pub(super) deadline_ms: u64,
    /// The checks.
    pub(super) requests: Vec<CheckRequest>,
}

/// One check. What is absent has the default of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CheckRequest {
    /// Comes back in the result.
    pub(super) request_id: String,
    /// Comes back in the result.
    #[serde(default)]
    pub(super) blog_id: u64,
    /// Where to.
    pub(super) url: String,
    /// `GET` or `HEAD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<String>,
    /// `full`, `simple_http` or `legacy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detection_profile: Option<String>,
    /// Deadline of the check, in ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout_ms: Option<i64>,
    /// Custom headers by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    /// The same, one by one, where a name has several: what a list of them would be is left to no
    /// reading, and may be longer than a header is. Not in the protocol of old.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) header_lines: Vec<String>,
    /// `follow`, `alert` or `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) redirect_policy: Option<String>,
    /// Texts of the body.
    #[serde(default, skip_serializing_if = "BodyRules::is_empty")]
    pub(super) body_rules: BodyRules,
    /// Such as `200,204,300-399`; not in the protocol of old, as the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expect_status: Option<String>,
    /// What is said to a TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) send: Option<String>,
    /// What a TCP connection must bring, or the records of a DNS answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) expect: Vec<String>,
}

/// Texts that a body must have, at most one, and must not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BodyRules {
    /// Must have.
    #[serde(default)]
    pub(super) required: Vec<String>,
    /// Must not have.
    #[serde(default)]
    pub(super) forbidden: Vec<String>,
}

impl BodyRules {
    fn is_empty(&self) -> bool {
        self.required.is_empty() && self.forbidden.is_empty()
    }
}

impl CheckRequest {
    /// The check of `target`, called `request_id`.
    pub(super) fn of(request_id: String, target: &Target) -> Self {
        let config = &target.config;
        let mut request = Self {
            request_id,
            blog_id: config.group_id,
            url: config.check.to_string(),
            timeout_ms: Some(config.effective_timeout_ms().into()),
            ..Self::default()
        };
        match &config.check {
            Check::Http(_) => request.add_http(config),
            Check::Tcp(tcp) => {
                request.send = tcp.send.as_ref().map(ToString::to_string);
                request.expect = tcp.expect.iter().map(ToString::to_string).collect();
            }
            Check::Dns(dns) => {
                request.expect = dns.expect.iter().map(ToString::to_string).collect();
            }
            Check::Tls(_) => {}
        }
        request
    }

    fn add_http(&mut self, config: &TargetConfig) {
        let Some(http) = config.check.http() else {
            return;
        };
        self.method = Some(http.method.as_str().to_owned());
        self.detection_profile = Some(match http.profile.as_str() {
            "simple" => "simple_http".to_owned(),
            other => other.to_owned(),
        });
        self.redirect_policy = Some(http.redirect.as_str().to_owned());
        self.expect_status = Some(http.expect_status.to_string());
        self.body_rules = BodyRules {
            required: http.keyword.iter().cloned().collect(),
            forbidden: http.forbidden.clone(),
        };
        for header in &http.headers {
            // Several fields of a name are one with a list (RFC 9110, section 5.3); cookies are not
            // apart by commas (RFC 6265, section 4.2.1).
            let is_cookie = header.name().eq_ignore_ascii_case("cookie");
            let comma = if is_cookie { "; " } else { ", " };
            let value = self.headers.entry(header.name().to_owned()).or_default();
            if !value.is_empty() {
                value.push_str(comma);
            }
            value.push_str(header.value());
        }
        if self.headers.len() < http.headers.len() {
            let line = |header: &Header| format!("{}: {}", header.name(), header.value());
            self.header_lines = http.headers.iter().map(line).collect();
        }
    }

    /// What is to be checked.
    ///
    /// # Errors
    /// The first field that no target can have.
    pub(super) fn parse(&self) -> Result<TargetConfig, FieldError> {
        if let [_, second, ..] = &self.body_rules.required[..] {
            return Err(FieldError::new("required", second, "one text at most"));
        }
        let profile = self.detection_profile.as_deref().map(|word| match word {
            "simple_http" => "simple",
            other => other,
        });
        let header = |(name, value): (&String, &String)| format!("{name}: {value}");
        let headers = if self.header_lines.is_empty() {
            self.headers.iter().map(header).collect()
        } else {
            self.header_lines.clone()
        };
        let spec = TargetSpec {
            group_id: Some(self.blog_id),
            url: self.url.clone(),
            method: self.method.clone(),
            profile: profile.map(str::to_owned),
            timeout_ms: self.timeout_ms,
            redirect: self.redirect_policy.clone(),
            keyword: self.body_rules.required.first().cloned(),
            forbidden: self.body_rules.forbidden.clone(),
            headers,
            expect_status: self.expect_status.clone(),
            send: self.send.clone(),
            expect: self.expect.clone(),
            ..TargetSpec::default()
        };
        spec.parse()
    }
}

/// Where somebody looks from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vantage {
    /// Whose vote it is.
    #[serde(default)]
    pub(super) id: String,
    /// Part of the world.
    #[serde(default)]
    pub(super) region: String,
    /// Whose machine it is.
    #[serde(default)]
    pub(super) provider: String,
}

/// Which process answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agent {
    /// Unlike every other one's.
    #[serde(default)]
    pub(super) id: String,
    /// Its machine.
    #[serde(default)]
    pub(super) host: String,
    /// Its version.
    #[serde(default)]
    pub(super) version: String,
    /// What it speaks.
    #[serde(default)]
    pub(super) protocol: String,
}

/// The answer to a [`CheckBatch`]. Its results are read one by one: a bad one costs no other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CheckAnswer<R> {
    /// Of the request.
    pub(super) batch_id: String,
    /// Where the checks were made.
    #[serde(default)]
    pub(super) vantage: Vantage,
    /// By whom.
    #[serde(default)]
    pub(super) agent: Agent,
    /// One for each check.
    pub(super) results: Vec<R>,
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The target works.
    Up,
    /// It works, and something is not as it should be.
    Degraded,
    /// It does not.
    Down,
    /// The verifier cannot say.
    Unknown,
    /// The verifier has too much to do.
    AgentOverloaded,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CheckResult {
    /// Of the check.
    pub(super) request_id: String,
    /// Of the check.
    #[serde(default)]
    pub(super) blog_id: u64,
    /// Of the check.
    #[serde(default)]
    pub(super) url: String,
    /// Where it was made.
    #[serde(default)]
    pub(super) vantage_id: String,
    /// By whom.
    #[serde(default)]
    pub(super) agent_id: String,
    /// What it came to.
    pub(super) outcome: Outcome,
    /// Whether the target works.
    pub(super) success: bool,
    /// HTTP status, 0 = none.
    #[serde(default)]
    pub(super) http_code: u16,
    /// Legacy code of the failure, 0 = none.
    #[serde(default)]
    pub(super) error_code: u8,
    /// How long it took.
    #[serde(default)]
    pub(super) rtt_ms: u64,
    /// Its phases, in ms; one that was not reached is absent.
    #[serde(default)]
    pub(super) timings_ms: Value,
    /// Class, text and address of a failure, for people.
    #[serde(default)]
    pub(super) diagnostics: Value,
}

#[cfg(test)]
mod tests {
    use model::{Generation, TargetId};

    use super::*;

    fn target(spec: &TargetSpec) -> Target {
        Target {
            id: TargetId::new(1).expect("positive"),
            generation: Generation(3),
            active: true,
            config: spec.parse().expect("valid"),
        }
    }

    #[test]
    fn what_is_asked_for_is_what_the_node_checks_itself() {
        let page = TargetSpec {
            url: "https://a.example/x?y".into(),
            group_id: Some(77),
            timeout_ms: Some(3_000),
            redirect: Some("fail".into()),
            keyword: Some("hello \"you\"".into()),
            forbidden: vec!["a".into(), "b".into()],
            headers: vec!["X-A: 1".into(), "X-B: 2".into()],
            expect_status: Some("200,204,500-502".into()),
            ..TargetSpec::default()
        };
        let head = TargetSpec {
            url: "http://127.0.0.1:8080/".into(),
            method: Some("HEAD".into()),
            profile: Some("simple".into()),
            ..TargetSpec::default()
        };
        let port = TargetSpec {
            url: "tcp://a.example:25".into(),
            send: Some(r"QUIT\r\n\x00".into()),
            expect: vec!["220".into()],
            ..TargetSpec::default()
        };
        let name = TargetSpec {
            url: "dns://a.example?type=A".into(),
            expect: vec!["192.0.2.1".into(), "192.0.2.2".into()],
            ..TargetSpec::default()
        };
        for spec in [page, head, port, name] {
            let target = target(&spec);
            let asked = CheckRequest::of("r".into(), &target);
            let sent = serde_json::to_string(&asked).expect("JSON");
            let came: CheckRequest = serde_json::from_str(&sent).expect("the same");
            assert_eq!(came, asked);
            assert_eq!(came.parse().expect("valid"), target.config, "{sent}");
        }
    }

    #[test]
    fn fields_of_a_name_become_one_with_a_list_for_who_knows_no_lines() {
        let spec = TargetSpec {
            url: "http://a.example/".into(),
            headers: ["X-A: 1", "Cookie: a=1", "X-A: 2", "Cookie: b=2"]
                .map(String::from)
                .into(),
            ..TargetSpec::default()
        };
        let asked = CheckRequest::of("r".into(), &target(&spec));
        assert_eq!(asked.headers["X-A"], "1, 2");
        assert_eq!(asked.headers["Cookie"], "a=1; b=2");
    }

    /// Lesson: two headers of a name were one that was too long for any target, so that no verifier
    /// could ever confirm an outage of theirs.
    #[test]
    fn headers_that_are_too_long_for_one_are_asked_for_as_they_are() {
        let long = "x".repeat(3_000);
        let spec = TargetSpec {
            url: "http://a.example/".into(),
            headers: ["X-A", "X-B", "X-A"]
                .map(|name| format!("{name}: {long}"))
                .into(),
            ..TargetSpec::default()
        };
        let target = target(&spec);
        let asked = CheckRequest::of("r".into(), &target);
        assert_eq!(asked.parse().expect("valid"), target.config);
    }

    #[test]
    fn what_askers_of_old_say_is_understood_and_what_we_do_not_know_is_passed_over() {
        let text = r#"{"batch_id":"b","deadline_ms":15000,"requests":[{"request_id":"r",
            "blog_id":7,"url":"http://a.example/","method":"HEAD",
            "detection_profile":"simple_http","timeout_ms":10000,"headers":{"X-A":"1"},
            "redirect_policy":"follow","body_read_max_bytes":65536,"keyword_read_max_ms":250,
            "body_rules":{"required":[],"forbidden":[]}}]}"#;
        let batch: CheckBatch = serde_json::from_str(text).expect("a batch");
        let config = batch.requests[0].parse().expect("valid");
        assert_eq!(config.group_id, 7);
        assert!(config.check.is_head_only());
        let two = r#"{"request_id":"r","url":"http://a/","body_rules":{"required":["a","b"]}}"#;
        let two: CheckRequest = serde_json::from_str(two).expect("a request");
        assert!(two.parse().is_err());
    }
}
