//! A target's configuration as columns: what is written, compared and read back.
//!
//! The one list [`CONFIG`] fixes the order of every statement about the configuration and says
//! which columns the probes depend on. It knows no database: a backend turns its own values into
//! [`Field`]s and back.

use std::hash::{DefaultHasher, Hash, Hasher};

use model::check::{Check, HttpCheck, TcpText};
use model::ids::Generation;
use model::target::{ExpectStatus, Maintenance, Method, Profile, Redirect, TargetConfig};
use model::{FieldError, Target, TargetId, TargetSpec};

use crate::answer::{ChangePage, FoundTargets};

/// A value of a column, as every database has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Field<'a> {
    Null,
    Whole(i64),
    /// UTF-8, unless somebody else wrote it.
    Text(&'a [u8]),
    /// Something that none of our columns holds, by the name of its type.
    Other(&'static str),
}

/// One column of the configuration.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// Whether another value makes another probe, and so another generation.
    pub(crate) probed: bool,
}

const fn probed(name: &'static str) -> Column {
    Column { name, probed: true }
}

const fn kept(name: &'static str) -> Column {
    Column {
        name,
        probed: false,
    }
}

/// Number of configuration columns.
pub(crate) const CONFIG_LEN: usize = 18;

/// The columns of the configuration, in the order of [`Columns::values`].
pub(crate) const CONFIG: [Column; CONFIG_LEN] = [
    kept("name"),
    kept("blog_id"),
    probed("monitor_url"),
    probed("check_interval_sec"),
    probed("request_method"),
    probed("detection_profile"),
    probed("timeout_ms"),
    probed("redirect_policy"),
    probed("check_keyword"),
    probed("forbidden_keywords"),
    probed("custom_headers"),
    probed("expect_status"),
    kept("maintenance_start"),
    kept("maintenance_end"),
    kept("alert_cooldown_minutes"),
    probed("max_latency_ms"),
    probed("send_text"),
    probed("expected_values"),
];

/// `name, blog_id, …`: the columns of [`CONFIG`] as a statement lists them.
pub(crate) fn config_list() -> String {
    CONFIG.each_ref().map(|column| column.name).join(", ")
}

/// A configuration in the form in which it is stored, owned where it has no text of its own.
pub(crate) struct Columns<'a> {
    config: &'a TargetConfig,
    /// The columns of a request are empty without one.
    http: Option<&'a HttpCheck>,
    group_id: i64,
    url: String,
    forbidden: Option<String>,
    headers: Option<String>,
    expect_status: String,
    maintenance: Option<(i64, i64)>,
    send: Option<String>,
    expected: Option<String>,
}

impl<'a> Columns<'a> {
    /// The columns of `config`; integers of the database end at 2⁶³−1.
    pub(crate) fn of(config: &'a TargetConfig) -> Result<Self, FieldError> {
        let http = config.check.http();
        let headers = http.iter().flat_map(|http| &http.headers);
        let headers: Vec<String> = headers
            .map(|header| format!("{}: {}", header.name(), header.value()))
            .collect();
        let (send, expected) = texts(&config.check);
        Ok(Self {
            config,
            http,
            group_id: integer("group_id", config.group_id)?,
            url: config.check.to_string(),
            forbidden: http.and_then(|http| json_list(&http.forbidden)),
            headers: json_list(&headers),
            expect_status: http.map_or_else(String::new, |http| http.expect_status.to_string()),
            maintenance: match config.maintenance {
                None => None,
                Some(Maintenance { start_ms, end_ms }) => Some((
                    integer("maintenance", start_ms)?,
                    integer("maintenance", end_ms)?,
                )),
            },
            send,
            expected: json_list(&expected),
        })
    }

    /// The unique key: canonical URL, method, name.
    pub(crate) fn key(&self) -> (&str, &'static str, &'a str) {
        (
            &self.url,
            self.config.check.method_word(),
            &self.config.name,
        )
    }

    /// The values, in the order of [`CONFIG`].
    pub(crate) fn values(&self) -> [Field<'_>; CONFIG_LEN] {
        let config = self.config;
        let text = |text: &'a str| Field::Text(text.as_bytes());
        let whole = Field::Whole;
        let http = |word: fn(&HttpCheck) -> &'static str| text(self.http.map_or("", word));
        let keyword = self.http.and_then(|http| http.keyword.as_deref());
        [
            text(&config.name),
            whole(self.group_id),
            own_text(&self.url),
            whole(config.interval_s.into()),
            http(|http| http.method.as_str()),
            http(|http| http.profile.as_str()),
            whole(config.timeout_ms.into()),
            http(|http| http.redirect.as_str()),
            keyword.map_or(Field::Null, text),
            self.forbidden.as_deref().map_or(Field::Null, own_text),
            self.headers.as_deref().map_or(Field::Null, own_text),
            own_text(&self.expect_status),
            self.maintenance
                .map_or(Field::Null, |(start, _)| whole(start)),
            self.maintenance.map_or(Field::Null, |(_, end)| whole(end)),
            whole(config.alert_cooldown_min.into()),
            config
                .max_latency_ms
                .map_or(Field::Null, |ms| whole(ms.into())),
            self.send.as_deref().map_or(Field::Null, own_text),
            self.expected.as_deref().map_or(Field::Null, own_text),
        ]
    }
}

/// What is compared of a configuration from one reading of a row to the next, where a row has no
/// change number. It is that of one process: nothing keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of the columns that probes depend on.
    pub probed: u32,
    /// Of all others.
    pub kept: u32,
}

impl Fingerprint {
    /// That of `config`. Two that differ are taken for the same once in 2³².
    ///
    /// # Errors
    /// A number that no column holds.
    pub fn of(config: &TargetConfig) -> Result<Self, FieldError> {
        let columns = Columns::of(config)?;
        let (mut probed, mut kept) = (DefaultHasher::new(), DefaultHasher::new());
        for (column, value) in CONFIG.iter().zip(columns.values()) {
            value.hash(if column.probed {
                &mut probed
            } else {
                &mut kept
            });
        }
        Ok(Self {
            probed: (probed.finish() >> 32) as u32,
            kept: (kept.finish() >> 32) as u32,
        })
    }
}

/// What a check sends and what it expects, as people write it.
fn texts(check: &Check) -> (Option<String>, Vec<String>) {
    match check {
        Check::Http(_) | Check::Tls(_) => (None, Vec::new()),
        Check::Dns(dns) => (None, dns.expect.iter().map(ToString::to_string).collect()),
        Check::Tcp(tcp) => {
            let written = |text: &Option<TcpText>| text.as_ref().map(ToString::to_string);
            (
                written(&tcp.send),
                written(&tcp.expect).into_iter().collect(),
            )
        }
    }
}

fn own_text(text: &str) -> Field<'_> {
    Field::Text(text.as_bytes())
}

fn integer(field: &'static str, value: u64) -> Result<i64, FieldError> {
    i64::try_from(value)
        .map_err(|_| FieldError::new(field, &value.to_string(), "a number below 2^63"))
}

fn json_list(texts: &[String]) -> Option<String> {
    let list = serde_json::Value::from(texts.to_vec());
    (!texts.is_empty()).then(|| list.to_string())
}

/// The columns of a target's row before its configuration.
pub(crate) struct Head {
    pub(crate) id: i64,
    pub(crate) generation: i64,
    pub(crate) active: bool,
    /// Whether the row is known to have nothing but defaults where [`plain`] looks.
    pub(crate) plain: bool,
}

/// A row that is a target, or one that is not.
pub(crate) type ReadTarget = Result<Target, BadTarget>;

/// A row that is no target.
pub(crate) struct BadTarget {
    pub(crate) id: i64,
    /// Whether it would be checked.
    pub(crate) active: bool,
    pub(crate) why: FieldError,
}

/// Whether a row has nothing but defaults in the twelve columns that few targets set. Fetching a
/// column costs more than comparing it inside of SQLite, so paging takes half the time with this.
pub(crate) fn plain() -> String {
    format!(
        "(request_method = '{}' AND detection_profile = '{}' AND redirect_policy = '{}' \
         AND expect_status = '{}' AND coalesce(check_keyword, forbidden_keywords, \
         custom_headers, maintenance_start, maintenance_end, max_latency_ms, send_text, \
         expected_values) IS NULL)",
        Method::default(),
        Profile::default(),
        Redirect::default(),
        ExpectStatus::default(),
    )
}

/// Reads a row: its first columns, and the configuration, whose columns `field` has by their
/// places in [`CONFIG`].
///
/// The configuration is parsed again: whatever wrote the row, a `Target` that exists is valid.
pub(crate) fn read_target<'a>(head: &Head, field: impl Fn(usize) -> Field<'a>) -> ReadTarget {
    let read = || {
        let id = TargetId::new(head.id)
            .ok_or_else(|| FieldError::new("id", &head.id.to_string(), "a number above 0"))?;
        let generation = u32::try_from(head.generation)
            .map(Generation)
            .map_err(|_| {
                FieldError::new(
                    "generation",
                    &head.generation.to_string(),
                    "a 32-bit number",
                )
            })?;
        let mut spec = read_plain(&field)?;
        if !head.plain {
            read_rest(&field, &mut spec)?;
        }
        Ok(Target {
            id,
            generation,
            active: head.active,
            config: spec.parse()?,
        })
    };
    read().map_err(|why| BadTarget {
        id: head.id,
        active: head.active,
        why,
    })
}

/// Rows that were read.
#[derive(Default)]
pub(crate) struct ReadTargets {
    pub(crate) targets: Vec<Target>,
    pub(crate) bad: Vec<BadTarget>,
}

impl ReadTargets {
    pub(crate) fn push(&mut self, read: ReadTarget) {
        match read {
            Ok(target) => self.targets.push(target),
            Err(bad) => self.bad.push(bad),
        }
    }

    /// The highest id, of rows that were read in their order.
    pub(crate) fn last(&self) -> Option<TargetId> {
        let last_good = self.targets.last().map_or(0, |target| target.id.get());
        let last_bad = self.bad.last().map_or(0, |bad| bad.id);
        TargetId::new(last_good.max(last_bad))
    }

    /// All that are bad, with the reason.
    pub(crate) fn found(self) -> FoundTargets {
        let refused = self.bad.into_iter().map(|bad| (bad.id, bad.why));
        FoundTargets {
            targets: self.targets,
            refused: refused.collect(),
        }
    }

    /// As changes up to the number `latest_change`.
    pub(crate) fn changed(self, latest_change: u64) -> ChangePage {
        let (bad, off): (Vec<_>, Vec<_>) = self.bad.into_iter().partition(|bad| bad.active);
        ChangePage {
            targets: self.targets,
            refused: bad.into_iter().map(|bad| (bad.id, bad.why)).collect(),
            off: off.iter().filter_map(|bad| TargetId::new(bad.id)).collect(),
            latest_change,
        }
    }
}

/// The columns that every target sets.
fn read_plain<'a>(value: impl Fn(usize) -> Field<'a>) -> Result<TargetSpec, FieldError> {
    let group_id = whole("group_id", value(1))?.unwrap_or(0);
    let cooldown = whole("alert_cooldown_min", value(14))?.map(i32::try_from);
    Ok(TargetSpec {
        name: text("name", value(0))?,
        group_id: Some(unsigned("group_id", group_id)?),
        url: text("url", value(2))?.unwrap_or_default(),
        interval_s: whole("interval_s", value(3))?,
        timeout_ms: whole("timeout_ms", value(6))?,
        alert_cooldown_min: cooldown.transpose().map_err(|error| {
            FieldError::new("alert_cooldown_min", &error.to_string(), "32 bits")
        })?,
        ..TargetSpec::default()
    })
}

/// The columns that [`plain`] looks at.
fn read_rest<'a>(
    value: impl Fn(usize) -> Field<'a>,
    spec: &mut TargetSpec,
) -> Result<(), FieldError> {
    spec.method = text("method", value(4))?;
    spec.profile = text("profile", value(5))?;
    spec.redirect = text("redirect", value(7))?;
    spec.keyword = text("keyword", value(8))?;
    spec.forbidden = list("forbidden", value(9))?;
    spec.headers = list("headers", value(10))?;
    spec.expect_status = text("expect_status", value(11))?;
    spec.max_latency_ms = whole("max_latency_ms", value(15))?;
    spec.send = text("send", value(16))?;
    spec.expect = list("expect", value(17))?;
    let start = whole("maintenance", value(12))?;
    let end = whole("maintenance", value(13))?;
    if let (Some(start), Some(end)) = (start, end) {
        spec.maintenance = Some(Maintenance {
            start_ms: unsigned("maintenance", start)?,
            end_ms: unsigned("maintenance", end)?,
        });
    }
    Ok(())
}

pub(crate) fn text(field: &'static str, value: Field<'_>) -> Result<Option<String>, FieldError> {
    match value {
        Field::Null => Ok(None),
        Field::Text(bytes) => std::str::from_utf8(bytes)
            .map(|text| Some(text.to_owned()))
            .map_err(|_| FieldError::new(field, "bytes that are not UTF-8", "UTF-8 text")),
        Field::Whole(_) => Err(FieldError::new(field, "Integer", "text")),
        Field::Other(kind) => Err(FieldError::new(field, kind, "text")),
    }
}

pub(crate) fn whole(field: &'static str, value: Field<'_>) -> Result<Option<i64>, FieldError> {
    match value {
        Field::Null => Ok(None),
        Field::Whole(number) => Ok(Some(number)),
        Field::Text(_) => Err(FieldError::new(field, "Text", "a number")),
        Field::Other(kind) => Err(FieldError::new(field, kind, "a number")),
    }
}

pub(crate) fn unsigned(field: &'static str, value: i64) -> Result<u64, FieldError> {
    u64::try_from(value).map_err(|_| FieldError::new(field, &value.to_string(), "0 or more"))
}

fn list(field: &'static str, value: Field<'_>) -> Result<Vec<String>, FieldError> {
    let Some(json) = text(field, value)? else {
        return Ok(Vec::new());
    };
    serde_json::from_str(&json).map_err(|_| FieldError::new(field, &json, "a JSON list of texts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut TargetSpec)) -> TargetConfig {
        let mut spec = TargetSpec {
            url: "http://a.example/".to_owned(),
            ..TargetSpec::default()
        };
        change(&mut spec);
        spec.parse().expect("valid")
    }

    #[test]
    fn a_fingerprint_tells_what_probes_depend_on_from_the_rest() {
        let of = |config| Fingerprint::of(&config).expect("it fits");
        let plain = of(config(|_| {}));
        // A default that is written down is no other setting.
        assert_eq!(of(config(|spec| spec.interval_s = Some(300))), plain);
        for change in [
            |spec: &mut TargetSpec| spec.url = "http://b.example/".to_owned(),
            |spec: &mut TargetSpec| spec.interval_s = Some(60),
            |spec: &mut TargetSpec| spec.method = Some("HEAD".to_owned()),
            |spec: &mut TargetSpec| spec.headers = vec!["X-A: 1".to_owned()],
        ] {
            let other = of(config(change));
            assert_ne!(other.probed, plain.probed);
            assert_eq!(other.kept, plain.kept);
        }
        for change in [
            |spec: &mut TargetSpec| spec.group_id = Some(7),
            |spec: &mut TargetSpec| spec.alert_cooldown_min = Some(5),
        ] {
            let other = of(config(change));
            assert_eq!(other.probed, plain.probed);
            assert_ne!(other.kept, plain.kept);
        }
    }
}
