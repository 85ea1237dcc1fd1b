//! Our targets as rows of the legacy table, when somebody exports them. What such a row has no
//! place for is refused, so that reading it again gives the same target. The id of a target is its
//! key: rows of others are updated only under an id that is given, and none is ever removed.

use std::collections::HashSet;

use model::target::{ExpectStatus, Profile, TargetConfig};
use model::{FieldError, Target};
use mysql_async::Value;
use serde_json::{Map, Value as Json};

use super::super::insert::Many;
use super::super::session::{Session, read};
use super::super::structure;
use super::settings_table;
use crate::Result;
use crate::answer::LegacyReport;
use crate::legacy::{Legacy, LegacyColumns, Name};

/// The settings that an export writes, in the order of [`settings_row`].
const SETTINGS: &str = "source_site_id, blog_id, request_method, detection_profile, \
    check_keyword, forbidden_keyword, forbidden_keywords, custom_headers, timeout_seconds, \
    redirect_policy, alert_cooldown_minutes, maintenance_start, maintenance_end";
const SETTINGS_ROW: &str = "(?,?,?,?,?,?,?,?,?,?,?,\
    CAST('1970-01-01' AS DATETIME) + INTERVAL ? SECOND,\
    CAST('1970-01-01' AS DATETIME) + INTERVAL ? SECOND)";

/// Longest pause of alerts that the column of every older system takes, in minutes.
const COOLDOWN_MAX: i32 = 32_767;

/// What the columns of the legacy table hold.
#[derive(Clone, Copy, Debug)]
struct Room {
    url_bytes: usize,
    minutes: u32,
}

impl Session {
    /// Writes `targets` into the legacy table, in one transaction.
    pub(crate) async fn put_legacy(&mut self, targets: &[Target]) -> Result<LegacyReport> {
        let legacy = self.named_legacy()?;
        self.connect().await?;
        self.require_transactions(&legacy.table).await?;
        let room = room(&legacy, &structure::columns(self).await?);
        let mut report = LegacyReport::default();
        let mut good = Vec::with_capacity(targets.len());
        for target in targets {
            match fits(&target.config, room) {
                Ok(()) => good.push(target),
                Err(why) => report.refused.push((target.id.get(), why)),
            }
        }
        let (inserted, updated) = self
            .write(async |session: &mut Self| session.put_rows(&legacy, &good).await)
            .await?;
        (report.inserted, report.updated) = (inserted, updated);
        Ok(report)
    }

    async fn put_rows(&mut self, legacy: &Legacy, good: &[&Target]) -> Result<(u64, u64)> {
        let ids: Vec<Value> = good
            .iter()
            .map(|target| Value::Int(target.id.get()))
            .collect();
        let (id, table) = (legacy.columns.id.quoted(), legacy.table.quoted());
        let there = format!("SELECT {id} FROM {table} WHERE {id} IN");
        let there = self.ids(&there, ids.clone()).await?;
        let is_there = |target: &&Target| there.contains(&target.id.get());
        let (old, new): (Vec<&Target>, Vec<&Target>) = good.iter().copied().partition(is_there);
        let (head, row) = insert(&legacy.columns, &table);
        let rows = new.iter().map(|target| site_row(target, legacy));
        self.execute_many(Many::insert(&head, &row, ""), rows)
            .await?;
        let [head, row, tail] = update(&legacy.columns, &table);
        let rows = old.iter().map(|target| changed_row(target));
        self.execute_many(Many::join(&head, &row, &tail), rows)
            .await?;
        self.put_settings(legacy, good, ids).await?;
        Ok((new.len() as u64, old.len() as u64))
    }

    /// A row of settings where there is one, or where a default would not do.
    async fn put_settings(
        &mut self,
        legacy: &Legacy,
        good: &[&Target],
        ids: Vec<Value>,
    ) -> Result<()> {
        let table = settings_table(legacy);
        let there = format!("SELECT source_site_id FROM {table} WHERE source_site_id IN");
        let there = self.ids(&there, ids).await?;
        let inherits = legacy.blog_config_table.is_some();
        let rows = good.iter().filter(|target| {
            inherits || there.contains(&target.id.get()) || !is_plain(&target.config)
        });
        let rows = rows.map(|target| settings_row(target, inherits));
        let head = format!("INSERT INTO {table} ({SETTINGS}) VALUES");
        let columns = SETTINGS.split(", ").map(str::trim);
        let set: Vec<String> = columns
            .map(|column| format!("{column} = VALUES({column})"))
            .collect();
        let tail = format!("ON DUPLICATE KEY UPDATE {}", set.join(", "));
        self.execute_many(Many::insert(&head, SETTINGS_ROW, &tail), rows)
            .await?;
        Ok(())
    }

    async fn ids(&mut self, sql: &str, ids: Vec<Value>) -> Result<HashSet<i64>> {
        let mut found = HashSet::new();
        for row in self.fetch_many((sql, ""), &[], ids).await? {
            let (id,) = read(self.url(), row)?;
            found.insert(id);
        }
        Ok(found)
    }
}

/// What the columns of the table that is there hold: nothing is cut off silently.
fn room(legacy: &Legacy, found: &structure::Columns) -> Room {
    let kind = |column: &Name| {
        let table = found.get(legacy.table.as_str());
        let kind = table.and_then(|table| table.get(&column.as_str().to_ascii_lowercase()));
        kind.map_or("", String::as_str)
    };
    let length = kind(&legacy.columns.url).split(['(', ')']).nth(1);
    let minutes = if kind(&legacy.columns.interval).starts_with("tinyint") {
        127
    } else {
        u32::MAX
    };
    Room {
        url_bytes: length
            .and_then(|length| length.parse().ok())
            .unwrap_or(usize::MAX),
        minutes,
    }
}

/// Start and end of a window that is none, in s: one that is over as it begins.
const NO_WINDOW_S: u64 = 24 * 60 * 60;

/// Whether a legacy row and its settings can say all of `config`.
fn fits(config: &TargetConfig, room: Room) -> Result<(), FieldError> {
    let refuse = |field, found: &str, accepted: &str| Err(FieldError::new(field, found, accepted));
    let url = config.check.to_string();
    let Some(http) = config.check.http() else {
        return refuse("url", &url, "http:// or https:// in a legacy table");
    };
    if url.len() > room.url_bytes {
        let accepted = format!("at most {} bytes in the legacy table", room.url_bytes);
        return refuse("url", &url, &accepted);
    }
    let minutes = config.interval_s / 60;
    if !config.interval_s.is_multiple_of(60) || minutes > room.minutes {
        let accepted = format!(
            "whole minutes, up to {} in the legacy table",
            room.minutes.min(1_440)
        );
        return refuse("interval_s", &config.interval_s.to_string(), &accepted);
    }
    if !config.name.is_empty() {
        return refuse("name", &config.name, "none: a legacy row has no name");
    }
    if !config.timeout_ms.is_multiple_of(1_000) {
        let accepted = "whole seconds in a legacy table";
        return refuse("timeout_ms", &config.timeout_ms.to_string(), accepted);
    }
    if http.expect_status != ExpectStatus::default() {
        let accepted = "the default, which a legacy row cannot change";
        return refuse("expect_status", &http.expect_status.to_string(), accepted);
    }
    if let Some(ms) = config.max_latency_ms {
        return refuse("max_latency_ms", &ms.to_string(), "none in a legacy row");
    }
    if let Some(window) = &config.maintenance
        && ![window.start_ms, window.end_ms]
            .iter()
            .all(|ms| ms.is_multiple_of(1_000))
    {
        let found = format!("{} to {} ms", window.start_ms, window.end_ms);
        return refuse("maintenance", &found, "whole seconds in a legacy table");
    }
    if config.alert_cooldown_min > COOLDOWN_MAX {
        let found = config.alert_cooldown_min.to_string();
        return refuse("alert_cooldown_min", &found, "at most 32767");
    }
    let names: HashSet<&str> = http
        .headers
        .iter()
        .map(model::target::Header::name)
        .collect();
    if names.len() < http.headers.len() {
        return refuse("headers", "a name twice", "each name once in a legacy row");
    }
    Ok(())
}

/// Whether nothing but defaults would be in a row of settings.
fn is_plain(config: &TargetConfig) -> bool {
    let bare = model::TargetSpec {
        url: config.check.to_string(),
        interval_s: Some(config.interval_s.into()),
        group_id: Some(config.group_id),
        ..model::TargetSpec::default()
    };
    bare.parse().is_ok_and(|bare| bare == *config)
}

fn insert(columns: &LegacyColumns, table: &str) -> (String, String) {
    let names = [
        &columns.id,
        &columns.group,
        &columns.bucket,
        &columns.url,
        &columns.active,
        &columns.interval,
    ];
    let names = names.map(Name::quoted).join(", ");
    let head = format!("INSERT INTO {table} ({names}) VALUES");
    (head, "(?,?,?,?,?,?)".to_owned())
}

/// The bucket of a row stays: its host does not change by an export.
fn update(columns: &LegacyColumns, table: &str) -> [String; 3] {
    let LegacyColumns {
        id,
        group,
        url,
        active,
        interval,
        ..
    } = columns;
    let [id, group, url, active, interval] = [id, group, url, active, interval].map(Name::quoted);
    [
        format!("UPDATE {table} AS t JOIN ("),
        "SELECT CAST(? AS SIGNED) AS id, CAST(? AS SIGNED) AS blog, CAST(? AS CHAR(2083)) AS url, \
         CAST(? AS SIGNED) AS active, CAST(? AS SIGNED) AS minutes"
            .to_owned(),
        format!(
            ") AS v ON v.id = t.{id} SET t.{group} = v.blog, t.{url} = v.url, \
             t.{active} = v.active, t.{interval} = v.minutes"
        ),
    ]
}

fn site_row(target: &Target, legacy: &Legacy) -> Vec<Value> {
    let [id, blog, url, active, minutes] = site(target);
    let bucket = target.id.get() % i64::from(legacy.buckets.max(1));
    vec![id, blog, Value::Int(bucket), url, active, minutes]
}

fn changed_row(target: &Target) -> Vec<Value> {
    site(target).into()
}

fn site(target: &Target) -> [Value; 5] {
    let config = &target.config;
    [
        Value::Int(target.id.get()),
        Value::Int(config.group_id as i64),
        Value::from(config.check.to_string()),
        Value::Int(target.active.into()),
        Value::Int((config.interval_s / 60).into()),
    ]
}

/// Everything is said, also what is the default: NULL would inherit from the blog, where there is a
/// table of blogs.
fn settings_row(target: &Target, inherits: bool) -> Vec<Value> {
    let config = &target.config;
    let http = config.check.http();
    let profile = http.map(|http| match http.profile {
        Profile::Simple => "simple_http",
        other => other.as_str(),
    });
    let forbidden = http.map_or_else(Vec::new, |http| http.forbidden.clone());
    let mut headers = Map::new();
    for header in http.iter().flat_map(|http| &http.headers) {
        headers.insert(header.name().to_owned(), header.value().into());
    }
    let keyword = http.and_then(|http| http.keyword.clone());
    let none = inherits.then_some(NO_WINDOW_S);
    let window = |at: fn(&model::target::Maintenance) -> u64| {
        let own = config.maintenance.as_ref();
        Value::from(own.map(|window| at(window) / 1_000).or(none))
    };
    vec![
        Value::Int(target.id.get()),
        Value::Int(config.group_id as i64),
        Value::from(http.map(|http| http.method.as_str())),
        Value::from(profile),
        Value::from(keyword.unwrap_or_default()),
        Value::from(""),
        Value::from(Json::from(forbidden).to_string()),
        Value::from(Json::from(headers).to_string()),
        Value::Int((config.timeout_ms / 1_000).into()),
        Value::from(http.map(|http| http.redirect.as_str())),
        Value::Int(config.alert_cooldown_min.max(0).into()),
        window(|window| window.start_ms),
        window(|window| window.end_ms),
    ]
}

#[cfg(test)]
mod tests {
    use model::TargetSpec;

    use super::*;

    #[test]
    fn what_a_legacy_row_cannot_say_is_refused() {
        let room = Room {
            url_bytes: 30,
            minutes: 127,
        };
        let spec = |url: &str| TargetSpec {
            url: url.to_owned(),
            ..TargetSpec::default()
        };
        let with = |change: fn(&mut TargetSpec)| {
            let mut spec = spec("http://a.test/");
            change(&mut spec);
            spec
        };
        let cases = [
            (spec("tcp://a.test:25"), "url"),
            (spec("http://a.test/a-rather-long-path"), "url"),
            (with(|spec| spec.interval_s = Some(90)), "interval_s"),
            (with(|spec| spec.interval_s = Some(86_400)), "interval_s"),
            (with(|spec| spec.name = Some("front".to_owned())), "name"),
            (with(|spec| spec.timeout_ms = Some(1_500)), "timeout_ms"),
            (
                with(|spec| spec.expect_status = Some("200".to_owned())),
                "expect_status",
            ),
            (
                with(|spec| spec.max_latency_ms = Some(50)),
                "max_latency_ms",
            ),
            (
                with(|spec| spec.alert_cooldown_min = Some(40_000)),
                "alert_cooldown_min",
            ),
            (
                with(|spec| {
                    spec.maintenance = Some(model::target::Maintenance {
                        start_ms: 1_500,
                        end_ms: 3_000,
                    });
                }),
                "maintenance",
            ),
        ];
        for (spec, field) in cases {
            let config = spec.parse().expect("valid");
            let error = fits(&config, room).expect_err(field);
            assert_eq!(error.field, field);
        }
        let config = with(|_| ()).parse().expect("valid");
        assert!(fits(&config, room).is_ok() && is_plain(&config));
    }

    #[test]
    fn our_own_table_of_settings_takes_what_is_exported() {
        let sql = include_str!("../../../migrations/mysql/0012_site_check_config.sql");
        assert!(sql.contains(super::super::OWN_SETTINGS));
        for column in SETTINGS.split(", ") {
            assert!(sql.contains(&format!("    {} ", column.trim())), "{column}");
        }
    }
}
