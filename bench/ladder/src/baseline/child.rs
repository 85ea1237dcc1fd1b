//! What the baseline children share: their flags, their pinning, their request.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::peers::Peer;

/// Flags of a baseline child; it is started by `ladder baseline` only.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ChildOptions {
    /// File with one `address authority` a line.
    #[arg(long)]
    pub(super) peers: PathBuf,
    /// Checks per second.
    #[arg(long)]
    pub(super) rate: u32,
    /// Seconds before the window.
    #[arg(long)]
    pub(super) warm_up_s: u64,
    /// Seconds of the window.
    #[arg(long)]
    pub(super) seconds: u64,
    /// CPU to run on.
    #[arg(long)]
    pub(super) cpu: usize,
    /// PEM of the farm's CA: checks are HTTPS.
    #[arg(long)]
    pub(super) ca_file: Option<PathBuf>,
    /// Verified chains that the engine's prober remembers; by default as the engine.
    #[arg(long)]
    pub(super) tls_chains_max: Option<usize>,
}

impl ChildOptions {
    /// When the window begins and ends, from the start.
    pub(super) fn window(&self) -> (Duration, Duration) {
        let start = Duration::from_secs(self.warm_up_s);
        (start, start + Duration::from_secs(self.seconds))
    }
}

/// Keeps this thread, and those that it starts, on one CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on CPU {cpu}"))
}

/// The head of the request, as the engine writes it.
pub(super) fn request(peer: &Peer, out: &mut Vec<u8>) {
    out.clear();
    for part in ["GET / HTTP/1.1\r\nHost: ", &peer.authority, REQUEST_TAIL] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Value of `User-Agent` of the baselines.
pub(super) const USER_AGENT: &str = concat!("ringwatch-baseline/", env!("CARGO_PKG_VERSION"));

const REQUEST_TAIL: &str = concat!(
    "\r\nUser-Agent: ringwatch-baseline/",
    env!("CARGO_PKG_VERSION"),
    "\r\nAccept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_complete() {
        let peer = Peer {
            address: ([127, 1, 0, 0], 80).into(),
            host: "a.farm.test".to_owned(),
            authority: "a.farm.test:80".to_owned(),
        };
        let mut out = b"old".to_vec();
        request(&peer, &mut out);
        let text = String::from_utf8(out).expect("ASCII");
        assert!(
            text.starts_with("GET / HTTP/1.1\r\nHost: a.farm.test:80\r\nUser-Agent: "),
            "{text}"
        );
        assert!(
            text.contains(USER_AGENT) && text.ends_with("Connection: close\r\n\r\n"),
            "{text}"
        );
    }
}
