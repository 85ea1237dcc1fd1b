//! The keys of the configuration: one table for the file, the environment, the flags and the
//! documents.

/// What a value looks like; the environment and the flags give text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Whole,
    /// `true` or `false`.
    Flag,
    /// Strings; comma-separated in the environment.
    Texts,
    /// Whole numbers; comma-separated in the environment.
    Wholes,
    /// A list of tables; TOML in the environment, too.
    Tables,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Name in the file; upper case after `RINGWATCH_` in the environment.
    pub(crate) name: &'static str,
    /// Form of its value.
    pub(crate) kind: Kind,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// Every key, in the order in which `validate` prints them.
pub(crate) const KEYS: [Key; 37] = [
    key("data_dir", Kind::Text),
    key("store", Kind::Text),
    key("store_file", Kind::Text),
    key("node_id", Kind::Text),
    key("lease_s", Kind::Whole),
    key("targets", Kind::Text),
    key("prune", Kind::Flag),
    key("strict", Kind::Flag),
    key("admin", Kind::Text),
    key("dns", Kind::Texts),
    key("dns_queries_per_s", Kind::Whole),
    key("dns_canaries", Kind::Texts),
    key("canaries", Kind::Texts),
    key("ip", Kind::Text),
    key("allow", Kind::Texts),
    key("uncapped", Kind::Texts),
    key("source_addresses", Kind::Texts),
    key("close", Kind::Text),
    key("reuse", Kind::Text),
    key("ca_file", Kind::Text),
    key("user_agent", Kind::Text),
    key("tls_full_every_s", Kind::Whole),
    key("tls_chains_max", Kind::Whole),
    key("probe_cores", Kind::Wholes),
    key("driver", Kind::Text),
    key("max_in_flight", Kind::Whole),
    key("confirm_after", Kind::Whole),
    key("projection_interval_s", Kind::Whole),
    key("journal_max_mib", Kind::Whole),
    key("history", Kind::Text),
    key("history_days", Kind::Whole),
    key("events_days", Kind::Whole),
    key("audit_days", Kind::Whole),
    key("histogram_interval_s", Kind::Whole),
    key("drain_s", Kind::Whole),
    key("log", Kind::Text),
    key("log_level", Kind::Text),
];

/// The keys of the table `[legacy]`: they have no flags.
const LEGACY: [Key; 18] = [
    key("legacy.load", Kind::Flag),
    key("legacy.table", Kind::Text),
    key("legacy.config_table", Kind::Text),
    key("legacy.blog_config_table", Kind::Text),
    key("legacy.status", Kind::Flag),
    key("legacy.freshness", Kind::Text),
    key("legacy.id_column", Kind::Text),
    key("legacy.group_column", Kind::Text),
    key("legacy.bucket_column", Kind::Text),
    key("legacy.url_column", Kind::Text),
    key("legacy.active_column", Kind::Text),
    key("legacy.interval_column", Kind::Text),
    key("legacy.status_column", Kind::Text),
    key("legacy.status_changed_column", Kind::Text),
    key("legacy.last_checked_column", Kind::Text),
    key("legacy.next_check_column", Kind::Text),
    key("legacy.buckets", Kind::Whole),
    key("legacy.sweep_s", Kind::Whole),
];

/// Who is asked about failing targets, and the keys of the table `[verifier]` of who answers: they
/// have no flags, since tokens are among them.
const VERIFIERS: [Key; 11] = [
    key("verifiers", Kind::Tables),
    key("verifier.listen", Kind::Text),
    key("verifier.token", Kind::Text),
    key("verifier.token_file", Kind::Text),
    key("verifier.tls_cert", Kind::Text),
    key("verifier.tls_key", Kind::Text),
    key("verifier.concurrency", Kind::Whole),
    key("verifier.queue", Kind::Whole),
    key("verifier.vantage", Kind::Text),
    key("verifier.region", Kind::Text),
    key("verifier.provider", Kind::Text),
];

/// The tables of a file.
pub(crate) const SECTIONS: [&str; 2] = ["legacy", "verifier"];

fn all() -> impl Iterator<Item = Key> {
    KEYS.into_iter().chain(LEGACY).chain(VERIFIERS)
}

/// The key called `name`.
pub(crate) fn find(name: &str) -> Option<Key> {
    all().find(|key| key.name == name)
}

/// The key of the environment variable that ends in `name`, in small letters.
pub(crate) fn of_variable(name: &str) -> Option<Key> {
    all().find(|key| key.name.replace('.', "_") == name)
}

/// Names of all keys.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|key| key.name)
}
