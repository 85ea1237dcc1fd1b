//! The plan for large fleets as people read it, `docs/capacity.md`: arithmetic on the constants
//! that were measured, written by hand never, checked here.

use std::fmt::Write as _;

use model::limits::{
    DNS_QUERIES_PER_S, DNS_TTL_MAX_MS, PROJECTION_INTERVAL_MS, SOURCE_ADDRESSES_MAX, TIME_WAIT_MS,
    TLS_SESSIONS_MAX,
};
use model::schedule::cadence_ms;
use serde_json::Value;

use crate::figures::{grouped, median};
use crate::programs::root;

/// Where the page is, and where the measurements are, below the workspace's root.
const PAGE: &str = "docs/capacity.md";
const MEASURED: &str = "docs/benchmarks";
/// Set, and the page is written instead of being checked.
const WRITE: &str = "WRITE_DOCS";

const FLEETS: [u64; 2] = [10_000_000, 100_000_000];
const INTERVALS_S: [u32; 2] = [60, 300];
/// A short TTL, as names behind content networks have.
const SHORT_TTL_S: f64 = 60.0;

/// What nobody measured: each is said in the page, and whoever knows better computes again.
mod assumed {
    /// CPUs of a node, and how many of them are probe cores.
    pub(super) const NODE_CPUS: u64 = 16;
    pub(super) const PROBE_CORES: u64 = 14;
    /// How busy a probe core may be planned: what the lag was measured at.
    pub(super) const BUSY: f64 = 0.7;
    /// How long a check of the Internet takes, in seconds, slow ones and timeouts included.
    pub(super) const CHECK_S: f64 = 0.5;
    /// Local ports that Linux gives out, of which half are planned for (decision 0012).
    pub(super) const PORTS: f64 = 28_232.0;
    /// Times a day that a site changes its state, and rows that one change writes: event,
    /// transition, projection, job.
    pub(super) const CHANGES_A_DAY: f64 = 0.2;
    pub(super) const ROWS_PER_CHANGE: f64 = 4.0;
    /// Of these the new ones that stay by default: a transition, a job, and of the event, which one
    /// change opens and another closes, a half. The projection is changed where it is.
    pub(super) const ROWS_KEPT_PER_CHANGE: f64 = 2.5;
    /// Their bytes, indexes and evidence included: 800 of the transition, 250 of the job, half of
    /// the event's 400.
    pub(super) const KEPT_BYTES_PER_CHANGE: f64 = 800.0 + 250.0 + 400.0 / 2.0;
    /// Checks that the history keeps of an incident by default are four, of two changes; the
    /// bytes of one; and for how many days (`history_days`).
    pub(super) const HISTORY_PER_CHANGE: f64 = 2.0;
    pub(super) const HISTORY_ROW_BYTES: f64 = 200.0;
    pub(super) const HISTORY_DAYS: f64 = 30.0;
    /// Bytes of a site in the database: its row of the targets with a URL of 60 bytes and its key,
    /// and its row of the freshness, in pages that are filled to two thirds.
    pub(super) const TARGET_ROW_BYTES: f64 = 360.0;
    pub(super) const FRESHNESS_ROW_BYTES: f64 = 66.0;
}

/// What was measured.
struct Constants {
    http_us: f64,
    https_us: f64,
    /// CPU of a node per check beside its probe cores: sink, control plane.
    beside_us: f64,
    /// CPU of the database server per row of freshness.
    server_us: f64,
    node_bytes: f64,
    target_bytes: f64,
    plain_bytes: f64,
    tls_bytes: f64,
}

/// The figures of `docs/benchmarks/FILE.json`.
fn figures(file: &str) -> Value {
    let path = root().join(MEASURED).join(format!("{file}.json"));
    let text = std::fs::read_to_string(&path).expect("the measurement is checked in");
    serde_json::from_str(&text).expect("JSON")
}

/// What the bar that is called `what` was measured at.
fn bar(figures: &Value, what: &str) -> f64 {
    let bars = figures["bars"].as_array().expect("bars");
    let bar = bars.iter().find(|bar| bar["what"] == what);
    let bar = bar.unwrap_or_else(|| panic!("no bar is called {what}"));
    bar["measured"].as_f64().expect("it was measured")
}

/// Samples of the engine in `scheme`.
fn engine<'a>(probe: &'a Value, scheme: &Value) -> &'a [Value] {
    let rows = probe["rows"].as_array().expect("rows");
    let is_it =
        |row: &&Value| row["variant"]["prober"] == "engine" && row["variant"]["scheme"] == *scheme;
    let row = rows.iter().find(is_it).expect("the engine was measured");
    row["samples"].as_array().expect("samples")
}

fn number(of: &Value, what: &str) -> f64 {
    of[what].as_f64().expect("a number")
}

/// CPU of the probe core per check.
fn core_us(samples: &[Value]) -> f64 {
    let per_check = |sample: &Value| number(sample, "cpu_s") * 1e6 / number(sample, "checks");
    median(samples.iter().map(per_check).collect())
}

/// CPU of the process less that of its probe core, per check. Of one round it is two or three ticks
/// of the kernel's clock of 10 ms, so that the median of rounds is one of two numbers: all rounds
/// are taken together.
fn beside_us(samples: &[Value]) -> f64 {
    let sum = |what: &str| samples.iter().map(|it| number(it, what)).sum::<f64>();
    (sum("process_s") - sum("cpu_s")) * 1e6 / sum("checks")
}

/// CPU of the server for each row of freshness, with all else that it was asked meanwhile.
fn server_us(statements: &Value) -> f64 {
    let parts = statements["parts"].as_array().expect("parts");
    let numbers = parts.iter().filter_map(|part| part["numbers"].as_array());
    let own = numbers.flatten().find(|it| it["what"] == "own tables");
    let own = own.expect("our own tables were measured");
    number(own, "server_cpu_s") * 1e6 / number(own, "freshness_rows")
}

impl Constants {
    fn read() -> Self {
        let [probe, idle, attempts] = ["probe", "idle", "attempts"].map(figures);
        let plain = engine(&probe, &"http".into());
        let https = engine(&probe, &serde_json::json!({"https": ["rsa3", "verified"]}));
        let of_target = "memory per target, 100,000 to 1,000,000 targets";
        let target_bytes = bar(&idle, of_target);
        let few = &idle["idle"][0];
        let starts = few["starts"].as_array().expect("starts");
        let rss = |start: &Value| start["rss_bytes"].as_f64().expect("a number");
        let rss_bytes = median(starts.iter().map(rss).collect());
        let sites = few["sites"].as_f64().expect("a number");
        let in_flight = |kind: &str| {
            let what = format!(
                "memory per attempt that waits for the first byte, {kind}, \
                 1,000 to 10,000 in flight"
            );
            bar(&attempts, &what) * 1e3
        };
        Self {
            http_us: core_us(plain),
            https_us: core_us(https),
            beside_us: beside_us(plain),
            server_us: server_us(&figures("statements")),
            node_bytes: rss_bytes - sites * target_bytes,
            target_bytes,
            plain_bytes: in_flight("plain"),
            tls_bytes: in_flight("TLS"),
        }
    }
}

/// What a fleet takes.
struct Plan {
    checks_per_s: f64,
    probe_cores: u64,
    nodes: u64,
    in_flight: f64,
    /// Memory of all nodes.
    bytes: f64,
    /// Questions a second, while names are cached for as long as we do, and with a short TTL.
    dns_per_s: [f64; 2],
    /// Source addresses of each node where all its sites are behind one address without a cap.
    sources: u64,
    rows_per_s: f64,
    server_cores: f64,
    /// With the history of its days; without what stays for ever.
    store_bytes: f64,
    /// New rows a day, and what of a day stays for ever.
    rows_a_day: f64,
    bytes_a_day: f64,
}

impl Plan {
    fn of(constants: &Constants, sites: u64, interval_s: u32, https: bool) -> Self {
        let fleet = sites as f64;
        let cadence_s = f64::from(cadence_ms(interval_s)) / 1e3;
        let checks_per_s = fleet / cadence_s;
        let (check_us, attempt_bytes) = if https {
            (constants.https_us, constants.tls_bytes)
        } else {
            (constants.http_us, constants.plain_bytes)
        };
        let probe_cores = (checks_per_s * check_us / 1e6 / assumed::BUSY).ceil() as u64;
        let nodes = probe_cores.div_ceil(assumed::PROBE_CORES);
        let in_flight = checks_per_s * assumed::CHECK_S;
        let per_node = nodes as f64;
        let bytes = per_node * constants.node_bytes
            + fleet * constants.target_bytes
            + in_flight * attempt_bytes;
        let ttl_s = [DNS_TTL_MAX_MS as f64 / 1e3, SHORT_TTL_S];
        let held_s = assumed::CHECK_S + TIME_WAIT_MS as f64 / 1e3;
        let ports = checks_per_s / per_node * held_s;
        let freshness = fleet / (PROJECTION_INTERVAL_MS as f64 / 1e3).max(cadence_s);
        let changes = fleet * assumed::CHANGES_A_DAY;
        let of_changes = assumed::ROWS_PER_CHANGE + assumed::HISTORY_PER_CHANGE;
        let rows_per_s = freshness + changes / 86_400.0 * of_changes;
        let history = changes * assumed::HISTORY_PER_CHANGE * assumed::HISTORY_DAYS;
        Self {
            checks_per_s,
            probe_cores,
            nodes,
            in_flight,
            bytes,
            dns_per_s: ttl_s.map(|ttl_s| fleet / ttl_s.max(cadence_s)),
            sources: (ports / (assumed::PORTS / 2.0)).ceil() as u64,
            rows_per_s,
            server_cores: rows_per_s * constants.server_us / 1e6,
            store_bytes: fleet * (assumed::TARGET_ROW_BYTES + assumed::FRESHNESS_ROW_BYTES)
                + history * assumed::HISTORY_ROW_BYTES,
            rows_a_day: changes * (assumed::ROWS_KEPT_PER_CHANGE + assumed::HISTORY_PER_CHANGE),
            bytes_a_day: changes * assumed::KEPT_BYTES_PER_CHANGE,
        }
    }

    fn row(&self, sites: u64, interval_s: u32, scheme: &str) -> String {
        let [long, short] = self.dns_per_s;
        format!(
            "| {} M | {interval_s} | {scheme} | {} | {} | {} | {} | {:.1} | {} | {} | {} | {} | \
            {:.2} \
             | {:.1} | {} | {:.1} |",
            sites / 1_000_000,
            whole(self.checks_per_s),
            self.probe_cores,
            self.nodes,
            whole(self.in_flight),
            self.bytes / 1e9,
            whole(long),
            whole(short),
            self.sources,
            whole(self.rows_per_s),
            self.server_cores,
            self.store_bytes / 1e9,
            whole(self.rows_a_day),
            self.bytes_a_day / 1e9,
        )
    }
}

/// A number without its fraction.
fn whole(number: f64) -> String {
    grouped(number.round() as u64)
}

fn page(constants: &Constants) -> String {
    let mut page = introduction(constants);
    for sites in FLEETS {
        for interval_s in INTERVALS_S {
            for (scheme, https) in [("http", false), ("https", true)] {
                let plan = Plan::of(constants, sites, interval_s, https);
                let row = plan.row(sites, interval_s, scheme);
                writeln!(page, "{row}").expect("a String takes every write");
            }
        }
    }
    page + &notes(constants)
}

fn introduction(constants: &Constants) -> String {
    let Constants {
        http_us,
        https_us,
        beside_us,
        server_us,
        node_bytes,
        target_bytes,
        plain_bytes,
        tls_bytes,
    } = constants;
    format!(
        "# Capacity\n\nWhat fleets of ten and of a hundred million sites take. Nobody has run \
        them: this is \
         arithmetic on what one core and one node were measured at, and it is computed again by \
         a test, so that \
         it is never older than the measurements. After one of them changed:\n\
         `{WRITE}=1 cargo xtask test -p ladder the_plan`.\n\n\
         ## Measured\n\n| constant | value | from |\n|---|---:|---|\n\
         | CPU of a probe core for a plain check, a new connection each | {http_us:.1} µs | \
         [probe](benchmarks/probe.md) |\n\
         | for one of HTTPS, full handshake, RSA chain of 3 verified | {https_us:.1} µs | probe \
         |\n\
         | CPU of the sink and the control plane per check | {beside_us:.1} µs | probe: whole \
         process less probe core, all rounds together, in ticks of 10 ms; what these threads take \
         when idle is in it |\n\
         | CPU of MariaDB per row of freshness, all else that it is asked included | \
         {server_us:.1} µs | [statements](benchmarks/statements.md) |\n\
         | a node without targets | {:.0} MB | [idle](benchmarks/idle.md) |\n\
         | memory per target, the whole node | {target_bytes:.0} B | idle |\n\
         | memory per attempt in flight, plain and TLS | {:.1} and {:.1} kB | \
         [attempts](benchmarks/attempts.md) |\n\
         | how busy a core may be | {:.0} % | [lag](benchmarks/lag.md): p99.9 within its bar \
         there |\n\n\
         On a virtual machine with two CPUs, against a farm on loopback; the kernel's work for \
         a real network \
         card is not in it. That wheel, account and memory are the same at ten million targets \
         on one core is \
         in [scale](benchmarks/scale.md), simulated.\n\n",
        node_bytes / 1e6,
        plain_bytes / 1e3,
        tls_bytes / 1e3,
        assumed::BUSY * 100.0,
    ) + &assumptions()
}

/// What nobody measured, and the head of the table that follows from all of it.
fn assumptions() -> String {
    format!(
        "## Assumed\n\n\
         Nodes of {} CPUs, {} of them probe cores. A check takes {} s. The site, not the \
         cadence, decides how \
         often its state changes: {} times a day, {} rows each and {} more of \
         the history. Every DNS question is answered \
         for an hour (the \
         longest that an answer is kept) or for {SHORT_TTL_S} s. {} B of a site's configuration \
         in the \
         database and {} B of its freshness, reckoned from the formats of their rows; {} B of \
         what a change leaves (a transition with its evidence, a job, half an event), and {} B of \
         a check in the history, which is kept for {} days: no measurements. Any row costs the \
         server what one of freshness does.\n\n\
         ## The plan\n\n\
         | sites | interval s | scheme | checks/s | probe cores | nodes | in flight | memory GB \
         | DNS q/s, TTL 1 h \
         | DNS q/s, TTL 60 s | source addresses | rows/s | server CPUs | store GB \
         | new rows/day | GB/day that stay |\n\
         |---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        assumed::NODE_CPUS,
        assumed::PROBE_CORES,
        assumed::CHECK_S,
        assumed::CHANGES_A_DAY,
        assumed::ROWS_PER_CHANGE,
        assumed::HISTORY_PER_CHANGE,
        assumed::TARGET_ROW_BYTES,
        assumed::FRESHNESS_ROW_BYTES,
        assumed::KEPT_BYTES_PER_CHANGE,
        assumed::HISTORY_ROW_BYTES,
        assumed::HISTORY_DAYS,
    )
}

fn notes(constants: &Constants) -> String {
    // Of a node whose probe cores are as busy as they may be.
    let full_per_s = assumed::PROBE_CORES as f64 * assumed::BUSY / constants.http_us * 1e6;
    format!(
        "\nProbe cores, memory, in flight, questions and rows are those of the whole fleet.\n\n\
         - **Nodes** are as many as the probe cores need. One that fails must be carried by the \
         others: add one, or plan with less of each core.\n\
         - **HTTPS** is planned as a full handshake with its chain verified each time. A core \
         keeps {} sessions, and as many chains by default; here it has more names than that, and \
         who comes by once per cadence finds nothing left of the last time. With fewer names to \
         a core, or `tls_chains_max` raised, it is cheaper: [probe](benchmarks/probe.md) has by \
         how much.\n\
         - **Source addresses** are those of each node in the worst case: all its sites behind \
         one address and port that no cap protects, as with a load balancer of one's own. A \
         connection takes a port for the check and {} s after it, and half of the {} ports are \
         planned for (decision 0012). Sites on many addresses, or below the caps, need one. A \
         node takes {} at most: where the table has more, `close = \"reset\"` or \
         `tcp_tw_reuse` shortens those {} s, or the sites go to more nodes.\n\
         - **DNS**: a core asks at most {} questions a second, so a short TTL for every name \
         nearly uses that up, with a question to each check, whose CPU is not in the cores above. \
         A resolver of the node's own is needed in any case.\n\
         - **Rows** are nearly all freshness: one per target in {} minutes, whatever its cadence. \
         A healthy check writes nothing else.\n\
         - **The store grows** by what its last column says, day after day: *store GB* is what a \
         fleet begins with and the history of {} days, which goes again. By default nothing \
         deletes events and transitions (`events_days = 0`), and nothing at all deletes jobs \
         ([guide](guide.md#not-yet)): with `events_days` set, only the jobs stay.\n\
         - **One sink** takes what all cores of a node send: at the {} plain checks a second of a \
         full node it and the control plane are {:.0} % of a CPU, by their {:.1} µs per check. The \
         node's other CPU is for the kernel's network and the local resolver.\n",
        grouped(TLS_SESSIONS_MAX as u64),
        TIME_WAIT_MS / 1_000,
        whole(assumed::PORTS),
        SOURCE_ADDRESSES_MAX,
        TIME_WAIT_MS / 1_000,
        grouped(DNS_QUERIES_PER_S.into()),
        PROJECTION_INTERVAL_MS / 60_000,
        assumed::HISTORY_DAYS,
        whole(full_per_s),
        full_per_s * constants.beside_us / 1e4,
        constants.beside_us,
    )
}

#[test]
fn the_plan_is_that_of_the_measured_constants() {
    let file = root().join(PAGE);
    let page = page(&Constants::read());
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, &page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        found, page,
        "{PAGE} is not what was measured: {WRITE}=1 writes it"
    );
}
