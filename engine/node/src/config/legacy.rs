//! The table `[legacy]`: what the tables of an older system are called, and what is read from and
//! written to them.

use store::{Legacy, LegacyColumns, LegacyFreshness, Name, OpenOptions, StoreUrl};
use toml::Value;

use super::read::Reader;
use super::{Config, refuse};

/// Default of `legacy.buckets`, and what it may be.
const BUCKETS: u32 = 1_000;
const BUCKETS_RANGE: (u32, u32) = (1, 65_536);
/// Default of `legacy.sweep_s`, and what it may be.
const SWEEP_S: u32 = 300;
const SWEEP_RANGE_S: (u32, u32) = (10, 86_400);

impl Reader<'_> {
    /// The whole table.
    pub(super) fn legacy(&self, store: &StoreUrl) -> anyhow::Result<Legacy> {
        let load = self.flag("legacy.load")?;
        if load && matches!(store, StoreUrl::Sqlite(_)) {
            let source = self.0.source("legacy.load");
            let accepted = "false, or true with a store that is mysql://USER:PASS@HOST:PORT/DB";
            return refuse(&source, "legacy.load", "true", accepted);
        }
        if load && let Some((list, source)) = self.0.get("targets") {
            let accepted = "no list where legacy.load is true: the targets are the legacy rows";
            return refuse(source, "targets", &list.to_string(), accepted);
        }
        Ok(Legacy {
            load,
            table: self.name("legacy.table", "jetpack_monitor_sites")?,
            columns: self.legacy_columns()?,
            config_table: self.optional_name("legacy.config_table")?,
            blog_config_table: self.optional_name("legacy.blog_config_table")?,
            status: self.flag_or("legacy.status", true)?,
            freshness: self.word("legacy.freshness", LegacyFreshness::Sidecar)?,
            buckets: self.whole("legacy.buckets", BUCKETS, BUCKETS_RANGE)?,
        })
    }

    /// In which the whole table is read again.
    pub(super) fn legacy_sweep_s(&self) -> anyhow::Result<u32> {
        self.whole("legacy.sweep_s", SWEEP_S, SWEEP_RANGE_S)
    }

    fn legacy_columns(&self) -> anyhow::Result<LegacyColumns> {
        Ok(LegacyColumns {
            id: self.name("legacy.id_column", "jetpack_monitor_site_id")?,
            group: self.name("legacy.group_column", "blog_id")?,
            bucket: self.name("legacy.bucket_column", "bucket_no")?,
            url: self.name("legacy.url_column", "monitor_url")?,
            active: self.name("legacy.active_column", "monitor_active")?,
            interval: self.name("legacy.interval_column", "check_interval")?,
            status: self.name("legacy.status_column", "site_status")?,
            status_changed: self.name("legacy.status_changed_column", "last_status_change")?,
            last_checked: self.name("legacy.last_checked_column", "last_checked_at")?,
            next_check: self.name("legacy.next_check_column", "next_check_at")?,
        })
    }

    /// `default` when absent or empty.
    fn name(&self, key: &str, default: &str) -> anyhow::Result<Name> {
        let text = self.text(key, default)?;
        match text.parse() {
            Ok(name) => Ok(name),
            Err(accepted) => refuse(&self.0.source(key), key, &format!("{text:?}"), accepted),
        }
    }

    /// `None` when absent or empty.
    fn optional_name(&self, key: &str) -> anyhow::Result<Option<Name>> {
        if self.text(key, "")?.is_empty() {
            return Ok(None);
        }
        self.name(key, "").map(Some)
    }
}

/// Every key of the table with its effective value, in the order of the list of keys.
pub(super) fn effective(legacy: &Legacy, sweep_s: u32) -> Vec<(&'static str, Value)> {
    let name = |name: &Name| Value::String(name.to_string());
    let optional =
        |given: &Option<Name>| Value::String(given.as_ref().map_or(String::new(), Name::to_string));
    let columns = &legacy.columns;
    vec![
        ("legacy.load", Value::Boolean(legacy.load)),
        ("legacy.table", name(&legacy.table)),
        ("legacy.config_table", optional(&legacy.config_table)),
        (
            "legacy.blog_config_table",
            optional(&legacy.blog_config_table),
        ),
        ("legacy.status", Value::Boolean(legacy.status)),
        (
            "legacy.freshness",
            Value::String(legacy.freshness.as_str().to_owned()),
        ),
        ("legacy.id_column", name(&columns.id)),
        ("legacy.group_column", name(&columns.group)),
        ("legacy.bucket_column", name(&columns.bucket)),
        ("legacy.url_column", name(&columns.url)),
        ("legacy.active_column", name(&columns.active)),
        ("legacy.interval_column", name(&columns.interval)),
        ("legacy.status_column", name(&columns.status)),
        (
            "legacy.status_changed_column",
            name(&columns.status_changed),
        ),
        ("legacy.last_checked_column", name(&columns.last_checked)),
        ("legacy.next_check_column", name(&columns.next_check)),
        ("legacy.buckets", Value::Integer(legacy.buckets.into())),
        ("legacy.sweep_s", Value::Integer(sweep_s.into())),
    ]
}

impl Config {
    /// `options`, with the legacy tables where targets are read from them.
    pub(crate) fn opening(&self, mut options: OpenOptions) -> OpenOptions {
        let legacy = Some(&self.legacy).filter(|legacy| legacy.load);
        options.legacy = legacy.map(|legacy| legacy.clone().into());
        options
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Layers};

    fn resolve(file: &str, variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c.toml");
        std::fs::write(&path, file).expect("written");
        let variables = variables.iter().map(|&(n, v)| (n.to_owned(), v.to_owned()));
        Config::resolve(&Layers::read(Some(&path), variables, Vec::new())?)
    }

    const STORE: &str = "store = 'mysql://u@h/d'\n";

    #[test]
    fn a_section_says_only_what_differs() {
        let file = format!("{STORE}[legacy]\nload = true\ntable = 'pages'\nid_column = 'no'");
        let variables = [("RINGWATCH_LEGACY_FRESHNESS", "columns")];
        let legacy = resolve(&file, &variables).expect("valid").legacy;
        assert!(legacy.load && legacy.status);
        assert_eq!(legacy.table.as_str(), "pages");
        assert_eq!(legacy.columns.id.as_str(), "no");
        assert_eq!(legacy.columns.url.as_str(), "monitor_url");
        assert_eq!(legacy.freshness, store::LegacyFreshness::Columns);
        assert_eq!(legacy.config_table, None);
        let plain = resolve("", &[]).expect("valid").legacy;
        assert!(!plain.load);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        let of = |lines: &str| format!("{STORE}[legacy]\n{lines}");
        for (file, key) in [
            (of("table = 'a b'"), "legacy.table"),
            (of("url_column = 'a`b'"), "legacy.url_column"),
            (of("freshness = 'on'"), "legacy.freshness"),
            (of("status = 'no'"), "legacy.status"),
            (of("buckets = -1"), "legacy.buckets"),
            (of("sweep_s = 9"), "legacy.sweep_s"),
            ("[legacy]\nload = true".to_owned(), "legacy.load"),
            (
                format!("targets = 'a.csv'\n{}", of("load = true")),
                "targets",
            ),
            ("legacy = true".to_owned(), "legacy"),
        ] {
            let error = resolve(&file, &[]).expect_err(key).to_string();
            assert!(error.contains(&format!("{key}: found ")), "{error}");
        }
        let error = resolve(&of("\ntabel = 'x'"), &[]).expect_err("unknown");
        let said = error.to_string();
        let expected = "c.toml:4: unknown key `legacy.tabel`; did you mean `legacy.table`?";
        assert!(said.ends_with(expected), "{said}");
    }
}
