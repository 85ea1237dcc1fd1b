//! Groups of flags that several commands share, each turned into configuration values. A flag is
//! called as its key, in kebab-case.

use std::path::PathBuf;

use clap::Args;
use model::TargetSpec;
use toml::Value;

use crate::windows::spec::WindowSpec;

/// Values by key, as the configuration takes them.
pub(crate) type Values = Vec<(&'static str, Value)>;

/// Where the configuration is.
#[derive(Debug, Default, Args)]
pub(crate) struct ConfigFlags {
    /// Configuration file (TOML); also `RINGWATCH_CONFIG`
    #[arg(long, value_name = "F.toml")]
    pub(crate) config: Option<PathBuf>,
}

/// Which node.
#[derive(Debug, Default, Args)]
pub(crate) struct DataDirFlags {
    /// Directory of lock, socket, journal and histograms [default: ringwatch-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl DataDirFlags {
    pub(super) fn values(&self) -> Values {
        path("data_dir", self.data_dir.as_ref())
    }
}

/// A running node, found by its directory or by the configuration that names it.
#[derive(Debug, Default, Args)]
pub(crate) struct NodeFlags {
    #[command(flatten)]
    pub(crate) config: ConfigFlags,
    #[command(flatten)]
    pub(crate) data_dir: DataDirFlags,
}

/// Which store.
#[derive(Debug, Default, Args)]
pub(crate) struct StoreFlags {
    /// Store: sqlite:PATH or `mysql://USER:PASS@HOST:PORT/DB`; also `RINGWATCH_STORE` [default:
    /// sqlite:ringwatch.db in the data directory]
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// File that holds the address of the store, to keep it out of `ps`
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    pub(crate) store_file: Option<PathBuf>,
}

impl StoreFlags {
    pub(super) fn values(&self) -> Values {
        let mut values = text("store", self.store.as_ref());
        values.extend(path("store_file", self.store_file.as_ref()));
        values
    }
}

/// Where a command finds what it works on: configuration, node and store.
#[derive(Debug, Default, Args)]
pub(crate) struct PlaceFlags {
    #[command(flatten)]
    pub(crate) config: ConfigFlags,
    #[command(flatten)]
    pub(crate) data_dir: DataDirFlags,
    #[command(flatten)]
    pub(crate) store: StoreFlags,
}

impl PlaceFlags {
    pub(super) fn values(&self) -> Values {
        let mut values = self.data_dir.values();
        values.extend(self.store.values());
        values
    }
}

/// How probes reach their targets.
#[derive(Debug, Default, Args)]
pub(crate) struct ProbeFlags {
    /// Private or loopback block, or private names (.corp), that may be probed; repeatable
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow: Vec<String>,
    /// DNS upstream; repeatable [default: the system's]
    #[arg(long, value_name = "ADDR[:PORT]")]
    pub(crate) dns: Vec<String>,
    /// Address family: `v4_first`, `v6_first`, `v4_only`, `v6_only` or `both` (each must work)
    /// [default: `v4_first`]
    #[arg(long, value_name = "POLICY")]
    pub(crate) ip: Option<String>,
    /// Local address that checks come from, in turn; repeatable [default: the kernel's choice]
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub(crate) source_addresses: Vec<String>,
    /// How connections are closed: fin or reset [default: fin]
    #[arg(long, value_name = "HOW")]
    pub(crate) close: Option<String>,
    /// Whether cleartext HTTP to one address shares connections: never or `by_address`
    /// [default: never]
    #[arg(long, value_name = "HOW")]
    pub(crate) reuse: Option<String>,
    /// Trust these CA certificates instead of the built-in ones
    #[arg(long, value_name = "PEM")]
    pub(crate) ca_file: Option<PathBuf>,
    /// User-Agent of requests
    #[arg(long, value_name = "TEXT")]
    pub(crate) user_agent: Option<String>,
    /// Kernel interface: auto, `io_uring` or epoll
    #[arg(long, value_name = "DRIVER")]
    pub(crate) driver: Option<String>,
    /// Attempts in flight per probe core [default: as many as the open files allow, at most 16384]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) max_in_flight: Option<i64>,
}

impl ProbeFlags {
    pub(super) fn values(&self) -> Values {
        let mut values = texts("allow", &self.allow);
        values.extend(texts("dns", &self.dns));
        values.extend(text("ip", self.ip.as_ref()));
        values.extend(texts("source_addresses", &self.source_addresses));
        values.extend(text("close", self.close.as_ref()));
        values.extend(text("reuse", self.reuse.as_ref()));
        values.extend(path("ca_file", self.ca_file.as_ref()));
        values.extend(text("user_agent", self.user_agent.as_ref()));
        values.extend(text("driver", self.driver.as_ref()));
        values.extend(whole("max_in_flight", self.max_in_flight));
        values
    }
}

/// How a node runs.
#[derive(Debug, Default, Args)]
pub(crate) struct RunFlags {
    /// Address of /metrics and /healthz, port 0 = a free one [default: 127.0.0.1:9470]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) admin: Option<String>,
    /// DNS queries of the node per second at most [default: 20000]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) dns_queries_per_s: Option<i64>,
    /// Name outside of the fleet that tells sick resolvers from sick names; repeatable
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) dns_canaries: Vec<String>,
    /// URL outside of the fleet that tells an outage of our own network from one of theirs;
    /// repeatable
    #[arg(long, value_name = "URL")]
    pub(crate) canaries: Vec<String>,
    /// Block of addresses without caps (32 checks at once, 50 a second); repeatable
    #[arg(long, value_name = "CIDR")]
    pub(crate) uncapped: Vec<String>,
    /// TLS sessions are resumed this long after a full handshake, 0 = never [default: 900]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub(crate) tls_full_every_s: Option<i64>,
    /// Verified certificate chains that a core remembers for an hour, 0 = every chain is verified
    /// in full every time [default: 100000]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) tls_chains_max: Option<i64>,
    /// CPUs of the probe cores, comma-separated [default: all but the first]
    #[arg(
        long,
        value_name = "CPUS",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) probe_cores: Vec<i64>,
    /// Failing checks that confirm an incident [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) confirm_after: Option<i64>,
    /// Freshness of a target is written this often at most [default: 900]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub(crate) projection_interval_s: Option<i64>,
    /// Disk that the journal may take while the store is away, in MiB [default: 4096]
    #[arg(long, value_name = "MIB", allow_negative_numbers = true)]
    pub(crate) journal_max_mib: Option<i64>,
    /// Which checks are kept in the store: edges, all, or sample N [default: edges]
    #[arg(long, value_name = "WHICH")]
    pub(crate) history: Option<String>,
    /// Days for which the history is kept; 0 = for ever [default: 30]
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true)]
    pub(crate) history_days: Option<i64>,
    /// Days for which closed events are kept; 0 = for ever [default: 0]
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true)]
    pub(crate) events_days: Option<i64>,
    /// Days for which operators' actions are kept; 0 = for ever [default: 365]
    #[arg(long, value_name = "DAYS", allow_negative_numbers = true)]
    pub(crate) audit_days: Option<i64>,
    /// Name of this node in the store [default: that of the machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_id: Option<String>,
    /// How long another node waits for this one when it is silent [default: 30]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub(crate) lease_s: Option<i64>,
    /// Length of a histogram interval [default: 10]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub(crate) histogram_interval_s: Option<i64>,
    /// Time to finish running checks at shutdown [default: 20]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub(crate) drain_s: Option<i64>,
    /// Form of the log: text or json
    #[arg(long, value_name = "FORM")]
    pub(crate) log: Option<String>,
    /// Filter of the log, such as info or debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

impl RunFlags {
    pub(super) fn values(&self) -> Values {
        let mut values = text("admin", self.admin.as_ref());
        values.extend(whole("dns_queries_per_s", self.dns_queries_per_s));
        values.extend(texts("dns_canaries", &self.dns_canaries));
        values.extend(texts("canaries", &self.canaries));
        values.extend(texts("uncapped", &self.uncapped));
        values.extend(whole("tls_full_every_s", self.tls_full_every_s));
        values.extend(whole("tls_chains_max", self.tls_chains_max));
        if !self.probe_cores.is_empty() {
            let cpus = self
                .probe_cores
                .iter()
                .copied()
                .map(Value::Integer)
                .collect();
            values.push(("probe_cores", Value::Array(cpus)));
        }
        values.extend(whole("confirm_after", self.confirm_after));
        values.extend(whole("projection_interval_s", self.projection_interval_s));
        values.extend(whole("journal_max_mib", self.journal_max_mib));
        values.extend(text("history", self.history.as_ref()));
        values.extend(whole("history_days", self.history_days));
        values.extend(whole("events_days", self.events_days));
        values.extend(whole("audit_days", self.audit_days));
        values.extend(text("node_id", self.node_id.as_ref()));
        values.extend(whole("lease_s", self.lease_s));
        values.extend(whole("histogram_interval_s", self.histogram_interval_s));
        values.extend(whole("drain_s", self.drain_s));
        values.extend(text("log", self.log.as_ref()));
        values.extend(text("log_level", self.log_level.as_ref()));
        values
    }
}

/// How a target list is taken.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct ListFlags {
    /// Targets that are absent from the list become inactive
    #[arg(long)]
    pub(crate) prune: bool,
    /// Refuse the whole list, with exit code 2, when one of its lines is bad
    #[arg(long)]
    pub(crate) strict: bool,
}

impl ListFlags {
    pub(super) fn values(self) -> Values {
        let flags = [("prune", self.prune), ("strict", self.strict)];
        flags
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(key, on)| (key, Value::Boolean(on)))
            .collect()
    }
}

/// A maintenance window.
#[derive(Debug, Default, Args)]
pub(crate) struct WindowFlags {
    /// For this target
    #[arg(long, value_name = "ID", allow_negative_numbers = true)]
    pub(crate) target: Option<i64>,
    /// For the targets of this group (`group_id`)
    #[arg(long, value_name = "ID")]
    pub(crate) group: Option<u64>,
    /// For every target
    #[arg(long)]
    pub(crate) all: bool,
    /// When it begins, with the offset to UTC [default: now]
    #[arg(long, value_name = "INSTANT")]
    pub(crate) start: Option<String>,
    /// When it ends
    #[arg(long, value_name = "INSTANT")]
    pub(crate) end: Option<String>,
    /// How long it is, in whole minutes: 90m, 2h, 1d; at most 7d
    #[arg(long, value_name = "LENGTH", allow_hyphen_values = true)]
    pub(crate) length: Option<String>,
    /// Days of the week on which it begins: mon,tue,wed,thu,fri,sat,sun
    #[arg(long, value_name = "DAYS")]
    pub(crate) weekly: Option<String>,
    /// Time of the day at which a weekly one begins, by the clocks of its zone
    #[arg(long, value_name = "HH:MM")]
    pub(crate) at: Option<String>,
    /// Time zone of a weekly one, by its IANA name
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// Why, for people
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) reason: String,
}

impl WindowFlags {
    /// The window that is asked for.
    pub(super) fn spec(&self) -> WindowSpec {
        WindowSpec {
            target: self.target,
            group: self.group,
            all: self.all,
            start: self.start.clone(),
            end: self.end.clone(),
            length: self.length.clone(),
            weekly: self.weekly.clone(),
            at: self.at.clone(),
            zone: self.zone.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// Fields of a target, for `check`.
#[derive(Debug, Default, Args)]
pub(crate) struct TargetFlags {
    /// Request method: GET or HEAD
    #[arg(long)]
    pub(crate) method: Option<String>,
    /// One deadline over everything, 100 to 60000 [default: 10000]
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pub(crate) timeout_ms: Option<i64>,
    /// Statuses that are a success [default: 200-399]
    #[arg(long, value_name = "SET")]
    pub(crate) expect_status: Option<String>,
    /// What a redirect means: follow, alert or fail [default: follow]
    #[arg(long)]
    pub(crate) redirect: Option<String>,
    /// Text that the body must have
    #[arg(long, value_name = "TEXT")]
    pub(crate) keyword: Option<String>,
    /// Text that the body must not have; repeatable
    #[arg(long, value_name = "TEXT")]
    pub(crate) forbidden: Vec<String>,
    /// How much is judged: full, simple or legacy [default: full]
    #[arg(long)]
    pub(crate) profile: Option<String>,
    /// Custom request header 'Name: value'; repeatable
    #[arg(long = "header", value_name = "N: V")]
    pub(crate) headers: Vec<String>,
    /// What to say to a `tcp://` target, with escapes such as \r\n
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) send: Option<String>,
    /// What a `tcp://` target must say within its first KiB, with the same escapes; or a record
    /// that a `dns://` target must have, repeatable
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) expect: Vec<String>,
    /// Above this a success is degraded
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    pub(crate) max_latency_ms: Option<i64>,
}

impl TargetFlags {
    /// The target `url` with these fields.
    pub(super) fn spec(&self, url: &str) -> TargetSpec {
        TargetSpec {
            url: url.to_owned(),
            method: self.method.clone(),
            timeout_ms: self.timeout_ms,
            expect_status: self.expect_status.clone(),
            redirect: self.redirect.clone(),
            keyword: self.keyword.clone(),
            forbidden: self.forbidden.clone(),
            profile: self.profile.clone(),
            headers: self.headers.clone(),
            send: self.send.clone(),
            expect: self.expect.clone(),
            max_latency_ms: self.max_latency_ms,
            ..TargetSpec::default()
        }
    }
}

/// Everything that a node can be told on its command line.
#[derive(Debug, Default, Args)]
pub(crate) struct SettingsFlags {
    #[command(flatten)]
    pub(crate) place: PlaceFlags,
    #[command(flatten)]
    pub(crate) probe: ProbeFlags,
    #[command(flatten)]
    pub(crate) run: RunFlags,
    /// Target list of the node, which imports it at its start and on reload
    #[arg(long, value_name = "F.csv")]
    pub(crate) targets: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) list: ListFlags,
}

impl SettingsFlags {
    pub(super) fn values(&self) -> Values {
        let mut values = self.place.values();
        values.extend(self.probe.values());
        values.extend(self.run.values());
        values.extend(path("targets", self.targets.as_ref()));
        values.extend(self.list.values());
        values
    }
}

fn text(key: &'static str, value: Option<&String>) -> Values {
    value
        .map(|text| (key, Value::String(text.clone())))
        .into_iter()
        .collect()
}

fn path(key: &'static str, value: Option<&PathBuf>) -> Values {
    value
        .map(|path| (key, Value::String(path.display().to_string())))
        .into_iter()
        .collect()
}

fn whole(key: &'static str, value: Option<i64>) -> Values {
    value
        .map(|number| (key, Value::Integer(number)))
        .into_iter()
        .collect()
}

fn texts(key: &'static str, values: &[String]) -> Values {
    let array = || Value::Array(values.iter().cloned().map(Value::String).collect());
    if values.is_empty() {
        Values::new()
    } else {
        vec![(key, array())]
    }
}
