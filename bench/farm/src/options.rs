//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use model::limits::{TIMEOUT_DEFAULT_MS, TIMEOUT_MAX_MS, TIMEOUT_MIN_MS};

use crate::certificates::ChainKind;
use crate::sites::{ADDRESSES_MAX, SITES_MAX};

/// Largest number of silent connections that can be asked for.
const SILENT_LIMIT: u32 = 1_000_000;

/// Synthetic targets: HTTP, HTTPS and DNS with faults on a clock, and an observer.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) enum Cli {
    /// Serve until SIGTERM or SIGINT; prints one line of JSON when ready.
    Run(RunOptions),
}

/// What `farm run` takes.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Number of sites, s-0000000.farm.test and up.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(SITES_MAX)))]
    pub(crate) sites: u32,
    /// How often each site is expected to be checked, in seconds.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) interval_s: u32,
    /// Port of the HTTP sites; 0: any free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) http_port: u16,
    /// Port of the HTTPS sites; 0: any free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) https_port: u16,
    /// Port of the HTTPS sites that speaks TLS 1.2 alone; 0: any free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) https12_port: u16,
    /// Port of the HTTPS sites that speaks TLS 1.3 alone; 0: any free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) https13_port: u16,
    /// Port of the name server, UDP and TCP; 0: any free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) dns_port: u16,
    /// Port of the observer and the scenario; 0: any free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) control_port: u16,
    /// Every K-th site speaks HTTPS; 0: none.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) https_every: u32,
    /// Faults on a clock.
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) scenario: Option<PathBuf>,
    /// Directory for ca.pem and truth.jsonl; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The runtime; auto: glommio, or tokio where `io_uring` is refused.
    #[arg(long, value_enum, default_value_t = ShellChoice::Auto)]
    pub(crate) shell: ShellChoice,
    /// Pin the serving thread to this CPU.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// TTL of the addresses, in seconds.
    #[arg(long, default_value_t = 3_600)]
    pub(crate) dns_ttl_s: u32,
    /// Number of addresses, from 127.1.0.0 up, that the sites are spread over.
    #[arg(
        long,
        default_value_t = 4_096,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(ADDRESSES_MAX))
    )]
    pub(crate) addresses: u32,
    /// Serve the sites on the loopback of IPv6 as well, and answer AAAA queries with it. One
    /// address for all: a client has ports for some ten thousand connections at a time.
    #[arg(long)]
    pub(crate) ipv6: bool,
    /// Connections that are kept silent on purpose at one time; the oldest ends for one more.
    #[arg(
        long,
        default_value_t = 4_096,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SILENT_LIMIT))
    )]
    pub(crate) silent_max: u32,
    /// Timeout of the targets in ms, to judge slow answers by, until /targets.csv gives one out.
    #[arg(
        long,
        default_value_t = TIMEOUT_DEFAULT_MS,
        value_parser = clap::value_parser!(u32)
            .range(i64::from(TIMEOUT_MIN_MS)..=i64::from(TIMEOUT_MAX_MS))
    )]
    pub(crate) timeout_ms: u32,
    /// The certificate chain of healthy HTTPS sites.
    #[arg(long, value_enum, default_value_t = ChainKind::Ecdsa)]
    pub(crate) tls_chain: ChainKind,
    /// Hand out session tickets, so that TLS sessions can be resumed.
    #[arg(long)]
    pub(crate) tls_tickets: bool,
}

/// The wanted runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellChoice {
    Auto,
    Glommio,
    Tokio,
}
