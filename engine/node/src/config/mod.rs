//! The effective configuration: every value parsed, ranged and named once. Must not know what is
//! done with it.

mod effective;
pub(crate) mod keys;
mod layers;
mod legacy;
mod read;
pub(crate) mod upstreams;
pub(crate) mod verifiers;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use model::limits::{
    CANARY_TIMEOUT_MS, CONFIRM_AFTER, DNS_QUERIES_PER_S, DRAIN_DEFAULT_S, JOURNAL_MAX_BYTES,
    LEASE_DEFAULT_S, PROJECTION_INTERVAL_MS, PROJECTION_INTERVAL_S_RANGE, TLS_CHAINS_MAX,
    TLS_FULL_EVERY_DEFAULT_S, TLS_FULL_EVERY_MAX_S,
};
use model::target::TargetConfig;
use model::url::Host;
use model::{FieldError, TargetSpec, TargetUrl};
use persist::HistoryMode;
use prober::{Allowed, Cidr, DEFAULT_USER_AGENT};
use store::{Legacy, StoreUrl};

use crate::exit::bad_input;
use read::Reader;
use verifiers::{Serving, Verifiers};

pub(crate) use layers::Layers;

/// Default of `data_dir`.
pub(crate) const DATA_DIR: &str = "ringwatch-data";
/// Default store: this file inside `data_dir`.
pub(crate) const STORE_FILE: &str = "ringwatch.db";
/// Default of `admin`.
pub(crate) const ADMIN: &str = "127.0.0.1:9470";
/// Default of `histogram_interval_s`.
const HISTOGRAM_INTERVAL_S: u32 = 10;
/// Default of `journal_max_mib`, and what it may be: 1 TiB at most.
const JOURNAL_MAX_MIB: u32 = (JOURNAL_MAX_BYTES >> 20) as u32;
const JOURNAL_MIB_RANGE: (u32, u32) = (1, 1 << 20);

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogForm {
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

/// Which kernel interface drives the probe cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DriverWord {
    /// `io_uring`, or epoll where it is refused.
    Auto,
    /// `io_uring` only.
    IoUring,
    /// epoll only.
    Epoll,
}

/// Which address family is used first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpWord {
    /// IPv4, then IPv6.
    V4First,
    /// IPv6, then IPv4.
    V6First,
    /// IPv4 only.
    V4Only,
    /// IPv6 only.
    V6Only,
    /// Both, and each must work.
    Both,
}

/// How connections of checks are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseWord {
    /// In order.
    Fin,
    /// By a reset.
    Reset,
}

/// Whether a connection carries more than one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReuseWord {
    /// Each check opens its own.
    Never,
    /// Cleartext HTTP to the same address and port may share one.
    ByAddress,
}

impl From<CloseWord> for cores::Close {
    fn from(word: CloseWord) -> Self {
        match word {
            CloseWord::Fin => Self::Fin,
            CloseWord::Reset => Self::Reset,
        }
    }
}

macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal,)* }) => {
        impl $name {
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(concat!("one of:" $(, " ", $word)*)),
                }
            }
        }
    };
}

words! { LogForm { Text = "text", Json = "json", } }
words! { CloseWord { Fin = "fin", Reset = "reset", } }
words! { ReuseWord { Never = "never", ByAddress = "by_address", } }
words! { DriverWord { Auto = "auto", IoUring = "io_uring", Epoll = "epoll", } }
words! {
    IpWord {
        V4First = "v4_first",
        V6First = "v6_first",
        V4Only = "v4_only",
        V6Only = "v6_only",
        Both = "both",
    }
}

/// Default of `history_days`.
const HISTORY_DAYS: u32 = 30;
/// Default of `audit_days`.
const AUDIT_DAYS: u32 = 365;
/// What the days of retention may be at most: a century.
const DAYS_MAX: u32 = 36_500;
/// What `lease_s` may be.
const LEASE_RANGE_S: (u32, u32) = (5, 3_600);

/// Everything that can be configured, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Lock, socket, journal, histograms, and the default store.
    pub(crate) data_dir: PathBuf,
    /// Where facts and targets are kept.
    pub(crate) store: StoreUrl,
    /// Whether somebody chose the store; else it is the default one.
    pub(crate) store_chosen: bool,
    /// Name of the node in the store; that of the machine when there is none.
    pub(crate) node_id: Option<String>,
    /// How long another node waits for this one when it is silent.
    pub(crate) lease_s: u32,
    /// Target list that is imported at the start and on reload.
    pub(crate) targets: Option<PathBuf>,
    /// Targets that are absent from the list become inactive.
    pub(crate) prune: bool,
    /// A list with a bad line is refused as a whole.
    pub(crate) strict: bool,
    /// Metrics and health; port 0 = a free one.
    pub(crate) admin: SocketAddr,
    /// Upstream resolvers; empty = those of the system.
    pub(crate) dns: Vec<SocketAddr>,
    /// Cap on queries of the node.
    pub(crate) dns_queries_per_s: u32,
    /// Names outside of the fleet that tell sick resolvers from sick names.
    pub(crate) dns_canaries: Vec<String>,
    /// Targets outside of the fleet that tell an outage of our own network from one of theirs.
    pub(crate) canaries: Vec<TargetConfig>,
    /// Address family policy.
    pub(crate) ip: IpWord,
    /// Addresses and names that may be probed although they are not public.
    pub(crate) allow: Vec<Allowed>,
    /// Addresses without caps of attempts.
    pub(crate) uncapped: Vec<Cidr>,
    /// Local addresses that checks come from, in turn; empty = the kernel's choice.
    pub(crate) source_addresses: Vec<IpAddr>,
    /// How connections of checks are closed.
    pub(crate) close: CloseWord,
    /// Whether connections of checks are kept for the next ones.
    pub(crate) reuse: ReuseWord,
    /// Trust anchors instead of the built-in ones.
    pub(crate) ca_file: Option<PathBuf>,
    /// `User-Agent` of requests.
    pub(crate) user_agent: String,
    /// Between two full TLS handshakes with a name sessions may be resumed; 0 = never.
    pub(crate) tls_full_every_s: u32,
    /// Verified chains that a core remembers; 0 = every chain is verified every time.
    pub(crate) tls_chains_max: u32,
    /// CPUs of the probe cores; empty = all but the first.
    pub(crate) probe_cores: Vec<usize>,
    /// Kernel interface.
    pub(crate) driver: DriverWord,
    /// Attempts in flight per core; 0 = as many as the open files allow.
    pub(crate) max_in_flight: u32,
    /// Failures that confirm an incident.
    pub(crate) confirm_after: u32,
    /// How often freshness of a target is written at most.
    pub(crate) projection_interval_s: u32,
    /// Disk that the journal may take, in MiB.
    pub(crate) journal_max_mib: u32,
    /// Which checks the history keeps.
    pub(crate) history: HistoryMode,
    /// Days for which it keeps them; 0 = for ever.
    pub(crate) history_days: u32,
    /// Days for which closed events are kept; 0 = for ever.
    pub(crate) events_days: u32,
    /// Days for which it is kept what operators had done; 0 = for ever.
    pub(crate) audit_days: u32,
    /// Length of a histogram interval.
    pub(crate) histogram_interval_s: u32,
    /// Time to finish what runs at shutdown.
    pub(crate) drain_s: u32,
    /// Form of the log.
    pub(crate) log: LogForm,
    /// Filter of the log, such as `info` or `warn,ringwatch=debug`.
    pub(crate) log_level: String,
    /// The tables of an older system.
    pub(crate) legacy: Legacy,
    /// In which the whole legacy table is read again, in s.
    pub(crate) legacy_sweep_s: u32,
    /// Who is asked whether a failing target is down.
    pub(crate) verifiers: Verifiers,
    /// How `ringwatch verifier` serves.
    pub(crate) verifier: Serving,
}

impl Config {
    /// Resolves `layers`.
    pub(crate) fn resolve(layers: &Layers) -> anyhow::Result<Self> {
        let read = Reader(layers);
        let data_dir = PathBuf::from(read.text("data_dir", DATA_DIR)?);
        let (store, store_chosen) = read.store(&data_dir)?;
        Ok(Self {
            legacy: read.legacy(&store)?,
            legacy_sweep_s: read.legacy_sweep_s()?,
            verifiers: read.verifiers()?,
            verifier: read.serving()?,
            store,
            store_chosen,
            node_id: read.node_id()?,
            lease_s: read.whole("lease_s", LEASE_DEFAULT_S, LEASE_RANGE_S)?,
            targets: read.path("targets")?,
            prune: read.flag("prune")?,
            strict: read.flag("strict")?,
            admin: read.parsed("admin", ADMIN, "an address such as 127.0.0.1:9470")?,
            dns: read.upstreams()?,
            dns_queries_per_s: read.whole(
                "dns_queries_per_s",
                DNS_QUERIES_PER_S,
                (1, 10_000_000),
            )?,
            dns_canaries: read.dns_canaries()?,
            canaries: read.canaries()?,
            ip: read.word("ip", IpWord::V4First)?,
            allow: read.allowed("allow")?,
            uncapped: read.cidrs("uncapped")?,
            source_addresses: read.sources()?,
            close: read.word("close", CloseWord::Fin)?,
            reuse: read.word("reuse", ReuseWord::Never)?,
            ca_file: read.path("ca_file")?,
            user_agent: read.text("user_agent", DEFAULT_USER_AGENT)?,
            tls_full_every_s: read.whole_or_off(
                "tls_full_every_s",
                TLS_FULL_EVERY_DEFAULT_S,
                TLS_FULL_EVERY_MAX_S,
            )?,
            tls_chains_max: read.whole_or_off(
                "tls_chains_max",
                TLS_CHAINS_MAX as u32,
                TLS_CHAINS_MAX as u32,
            )?,
            probe_cores: read.cpus()?,
            driver: read.word("driver", DriverWord::Auto)?,
            max_in_flight: read.whole("max_in_flight", 0, (1, 1_000_000))?,
            confirm_after: read.whole("confirm_after", CONFIRM_AFTER, (1, 100))?,
            projection_interval_s: read.whole(
                "projection_interval_s",
                (PROJECTION_INTERVAL_MS / 1_000) as u32,
                PROJECTION_INTERVAL_S_RANGE,
            )?,
            journal_max_mib: read.whole("journal_max_mib", JOURNAL_MAX_MIB, JOURNAL_MIB_RANGE)?,
            history: read.history()?,
            history_days: read.whole_or_off("history_days", HISTORY_DAYS, DAYS_MAX)?,
            events_days: read.whole_or_off("events_days", 0, DAYS_MAX)?,
            audit_days: read.whole_or_off("audit_days", AUDIT_DAYS, DAYS_MAX)?,
            histogram_interval_s: read.whole(
                "histogram_interval_s",
                HISTOGRAM_INTERVAL_S,
                (1, 3_600),
            )?,
            drain_s: read.whole("drain_s", DRAIN_DEFAULT_S, (1, 600))?,
            log: read.word("log", LogForm::Text)?,
            log_level: read.log_level()?,
            data_dir,
        })
    }

    /// Names of the keys that differ and take effect only with a new start.
    pub(crate) fn needs_restart(&self, newer: &Self) -> Vec<&'static str> {
        let live = ["targets", "prune", "strict", "drain_s"];
        let (old, new) = (self.effective(), newer.effective());
        let differs = |key: &&'static str| {
            let of = |all: &[(&'static str, toml::Value)]| {
                all.iter()
                    .find(|(name, _)| name == key)
                    .map(|(_, value)| value.clone())
            };
            // Tokens are not shown, and make a difference all the same.
            let hidden = *key == "verifiers" && self.verifiers != newer.verifiers;
            of(&old) != of(&new) || hidden
        };
        keys::names()
            .filter(differs)
            .filter(|key| !live.contains(key))
            .collect()
    }

    /// Takes over from `newer` what a running node can change.
    pub(crate) fn take_live(&mut self, newer: &Self) {
        self.targets.clone_from(&newer.targets);
        self.prune = newer.prune;
        self.strict = newer.strict;
        self.drain_s = newer.drain_s;
    }
}

/// The address of a store, secrets masked, for readers in any directory.
pub(crate) fn absolute_store(url: &StoreUrl) -> String {
    match url {
        StoreUrl::Sqlite(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            StoreUrl::Sqlite(path).to_string()
        }
        other => other.to_string(),
    }
}

/// Refuses an address of `--dns` with what is accepted; the port defaults to 53.
pub(crate) fn upstream(text: &str) -> Result<SocketAddr, &'static str> {
    let text = text.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(SocketAddr::new(address, 53));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        _ => Err("an IP address, with a port if it is not 53, such as 9.9.9.9 or 127.0.0.1:5353"),
    }
}

/// Which checks are kept, as it is written in the configuration.
pub(crate) fn history(text: &str) -> Result<HistoryMode, &'static str> {
    let accepted = "edges, all, or sample N (one healthy check in N, such as sample 100)";
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["edges"] => Ok(HistoryMode::Edges),
        ["all"] => Ok(HistoryMode::All),
        ["sample", one_in] => one_in
            .parse()
            .map(HistoryMode::Sample)
            .map_err(|_| accepted),
        _ => Err(accepted),
    }
}

/// The words that [`history`] reads.
pub(crate) fn history_words(mode: HistoryMode) -> String {
    match mode {
        HistoryMode::Edges => "edges".to_owned(),
        HistoryMode::All => "all".to_owned(),
        HistoryMode::Sample(one_in) => format!("sample {one_in}"),
    }
}

/// Refuses what is not the name of a host; in the form in which it is asked for.
pub(crate) fn canary(text: &str) -> Result<String, &'static str> {
    let name = text.trim().trim_end_matches('.');
    // What a URL takes as its host is what can be checked, and so what can be asked for.
    let url = TargetUrl::parse(&format!("http://{name}/")).map_err(|_| CANARY)?;
    match url.host() {
        Host::Name(host) if url.port() == 80 && url.path() == "/" => Ok(host.clone()),
        _ => Err(CANARY),
    }
}

/// A canary target, whose answer must come soon; refused as a target would be.
pub(crate) fn canary_target(url: &str) -> Result<TargetConfig, FieldError> {
    let spec = TargetSpec {
        url: url.trim().to_owned(),
        timeout_ms: Some(i64::from(CANARY_TIMEOUT_MS)),
        ..TargetSpec::default()
    };
    spec.parse()
}

/// What a canary looks like.
const CANARY: &str = "the name of a host outside of the fleet, such as example.com";

/// Refuses what no connection can come from; an IPv4 address in its own form.
pub(crate) fn source(text: &str) -> Result<IpAddr, &'static str> {
    let accepted = "one address of this machine such as 203.0.113.10 or 2001:db8::10";
    let address: IpAddr = text.trim().parse().map_err(|_| accepted)?;
    let address = address.to_canonical();
    let is_one = match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        // A link-local one says nothing without its interface.
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local(),
    };
    is_one.then_some(address).ok_or(accepted)
}

/// A refused value, in the words of every other refusal.
fn refuse<T>(source: &layers::Source, key: &str, found: &str, accepted: &str) -> anyhow::Result<T> {
    bad_input(format!(
        "{source}: {key}: found {found}, accepted is {accepted}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(file: &str) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c.toml");
        std::fs::write(&path, file).expect("written");
        Config::resolve(&Layers::read(Some(&path), std::iter::empty(), Vec::new())?)
    }

    #[test]
    fn an_empty_file_gives_the_documented_defaults() {
        let config = resolve("").expect("valid");
        assert_eq!(config.admin.to_string(), "127.0.0.1:9470");
        assert_eq!(
            config.store.to_string(),
            "sqlite:ringwatch-data/ringwatch.db"
        );
        assert_eq!((config.drain_s, config.confirm_after), (20, 3));
        assert_eq!(
            (config.histogram_interval_s, config.projection_interval_s),
            (10, 900)
        );
        assert_eq!(config.journal_max_mib, 4_096);
    }

    #[test]
    fn a_store_that_is_no_text_is_refused_and_not_shown() {
        let error = resolve("store = ['mysql://root:s3cret@h/d']").expect_err("a list");
        let sentence = error.to_string();
        assert!(
            sentence.ends_with("store: found array, accepted is a string"),
            "{sentence}"
        );
    }

    #[test]
    fn zero_means_the_default_and_negative_is_an_error() {
        assert_eq!(resolve("drain_s = 0").expect("valid").drain_s, 20);
        for bad in [
            "drain_s = -1",
            "drain_s = 601",
            "drain_s = 'x'",
            "drain_s = 1.5",
        ] {
            let error = resolve(bad).expect_err(bad).to_string();
            assert!(
                error.contains("drain_s: found ") && error.contains("1 to 600"),
                "{error}"
            );
        }
    }

    #[test]
    fn zero_turns_off_the_resumption_of_tls_sessions() {
        let of = |file| resolve(file).map(|config| config.tls_full_every_s);
        assert_eq!(of("").expect("valid"), 900);
        assert_eq!(of("tls_full_every_s = 0").expect("valid"), 0);
        assert_eq!(of("tls_full_every_s = 60").expect("valid"), 60);
        for bad in ["tls_full_every_s = -1", "tls_full_every_s = 86401"] {
            let error = of(bad).expect_err(bad).to_string();
            let accepted = "from 1 to 86400, or 0 to turn it off";
            assert!(error.ends_with(accepted), "{error}");
        }
    }

    #[test]
    fn zero_turns_off_the_memory_of_verified_chains() {
        let of = |file| resolve(file).map(|config| config.tls_chains_max);
        assert_eq!(of("").expect("valid"), 100_000);
        assert_eq!(of("tls_chains_max = 0").expect("valid"), 0);
        assert_eq!(of("tls_chains_max = 7").expect("valid"), 7);
        for bad in ["tls_chains_max = -1", "tls_chains_max = 100001"] {
            let error = of(bad).expect_err(bad).to_string();
            let accepted = "from 1 to 100000, or 0 to turn it off";
            assert!(error.ends_with(accepted), "{error}");
        }
    }

    #[test]
    fn every_bad_value_names_its_key() {
        for (key, line) in [
            ("admin", "admin = 'localhost'"),
            ("dns", "dns = ['8.8.8']"),
            ("dns", "dns = '9.9.9.9:x'"),
            ("dns_queries_per_s", "dns_queries_per_s = -5"),
            ("dns_canaries", "dns_canaries = ['192.0.2.1']"),
            ("dns_canaries", "dns_canaries = ['a b', 'example.com']"),
            ("dns_canaries", "dns_canaries = ['example.com:80/x']"),
            ("allow", "allow = ['10.0.0.0/33']"),
            ("allow", "allow = ['.example.com']"),
            ("uncapped", "uncapped = ['10.0.0/8']"),
            ("source_addresses", "source_addresses = ['10.0.0.0/8']"),
            ("source_addresses", "source_addresses = ['0.0.0.0']"),
            ("source_addresses", "source_addresses = ['fe80::1']"),
            ("source_addresses", "source_addresses = ['::1', '::1']"),
            (
                "source_addresses",
                "source_addresses = ['192.0.2.1', '::ffff:192.0.2.1']",
            ),
            ("close", "close = 'rst'"),
            ("reuse", "reuse = 'always'"),
            ("ip", "ip = 'v5_only'"),
            ("driver", "driver = 'kqueue'"),
            ("log", "log = 'xml'"),
            ("log_level", "log_level = 'inof'"),
            ("log_level", "log_level = 'warn,ringwatch=loud'"),
            ("prune", "prune = 1"),
            ("probe_cores", "probe_cores = [-1]"),
            ("probe_cores", "probe_cores = [1, 1]"),
            ("store", "store = 'postgres://x'"),
            ("node_id", "node_id = 'a b'"),
            ("lease_s", "lease_s = 4"),
            ("history", "history = 'sample'"),
            ("history", "history = 'sample 0'"),
            ("history", "history = 'none'"),
            ("history_days", "history_days = -1"),
            ("audit_days", "audit_days = 36501"),
            ("data_dir", "data_dir = 3"),
        ] {
            let error = resolve(line).expect_err(line).to_string();
            assert!(error.contains(&format!("c.toml: {key}: ")), "{error}");
        }
    }

    #[test]
    fn the_history_is_edges_a_sample_or_all() {
        for words in ["edges", "all", "sample 10"] {
            assert_eq!(history(words).map(history_words), Ok(words.to_owned()));
        }
        let config = resolve("").expect("valid");
        assert_eq!(config.history, HistoryMode::Edges);
        let days = (config.history_days, config.events_days, config.audit_days);
        assert_eq!(days, (30, 0, 365));
        assert_eq!(resolve("history_days = 0").expect("valid").history_days, 0);
    }

    #[test]
    fn canaries_are_names_in_lower_case_and_not_too_many() {
        let config = resolve("dns_canaries = ['Example.COM.', 'bücher.example']").expect("valid");
        assert_eq!(
            config.dns_canaries,
            ["example.com", "xn--bcher-kva.example"]
        );
        let many: Vec<String> = (0..17).map(|n| format!("'n{n}.example'")).collect();
        let error = resolve(&format!("dns_canaries = [{}]", many.join(", ")));
        let error = error.expect_err("too many").to_string();
        assert!(
            error.contains("found 17") && error.contains("at most 16"),
            "{error}"
        );
    }

    #[test]
    fn canary_targets_are_urls_each_once_and_not_too_many() {
        let config = resolve("canaries = ['HTTPS://Example.COM', 'http://192.0.2.1:81/x']");
        let shown: Vec<_> = config.expect("valid").canaries;
        let urls: Vec<_> = shown
            .iter()
            .map(|canary| canary.check.to_string())
            .collect();
        assert_eq!(urls, ["https://example.com/", "http://192.0.2.1:81/x"]);
        assert!(
            shown
                .iter()
                .all(|canary| canary.timeout_ms == CANARY_TIMEOUT_MS)
        );
        let refused = |value: &str| {
            let error = resolve(&format!("canaries = [{value}]")).expect_err("refused");
            error.to_string()
        };
        let many: Vec<_> = (0..9).map(|n| format!("'http://c{n}.example/'")).collect();
        assert!(refused(&many.join(", ")).ends_with("canaries: found 9, accepted is at most 8"));
        let twice = "'http://a.example', 'http://A.example/'";
        assert!(refused(twice).ends_with("twice, accepted is each URL once"));
        assert!(refused("'a.example'").contains("accepted is a URL that starts with http://"));
        assert!(!refused("'http://u:secret@a.example/'").contains("secret"));
    }

    #[test]
    fn an_upstream_may_leave_out_its_port() {
        let parse = |text| upstream(text).map(|address| address.to_string());
        assert_eq!(parse("9.9.9.9"), Ok("9.9.9.9:53".into()));
        assert_eq!(parse("127.0.0.1:5353"), Ok("127.0.0.1:5353".into()));
        assert_eq!(parse("[::1]"), Ok("[::1]:53".into()));
        assert_eq!(parse("[::1]:54"), Ok("[::1]:54".into()));
        assert!(parse("9.9.9.9:0").is_err() && parse("dns.example").is_err());
    }

    #[test]
    fn a_running_node_says_which_changes_need_a_restart() {
        let old = resolve("drain_s = 5").expect("valid");
        let new = resolve("drain_s = 6\nadmin = '127.0.0.1:1'\nprune = true").expect("valid");
        assert_eq!(old.needs_restart(&new), ["admin"]);
        let mut live = old.clone();
        live.take_live(&new);
        assert_eq!((live.drain_s, live.prune, live.admin), (6, true, old.admin));
    }
}
