//! What tests run against: Debian's servers, certificates for them, namespaces of a test's own,
//! places where nobody listens.
//!
//! For tests alone: what cannot be had here ends the test with the reason. It must not know what is
//! tested.
#![forbid(unsafe_code)]

pub mod certificates;
pub mod loss;
pub mod mariadb;
pub mod namespace;
pub mod places;

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the server called `name` is: Debian keeps servers where a person's `PATH` does not look.
///
/// # Panics
/// When it is not installed.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: `cargo xtask test` installs it or says how"))
}

/// Below those that Linux gives to whoever asks for any.
const PORTS: Range<u32> = 12_000..32_000;

/// A TCP port of 127.0.0.1 that nobody listened on just now, for servers, which take seconds until
/// they do: meanwhile the kernel gives it to no other test, nor does this.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Processes of tests begin at different places.
    let first = std::process::id().wrapping_mul(127);
    let next = || {
        let nth = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        (PORTS.start + nth % (PORTS.end - PORTS.start)) as u16
    };
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut tried = std::iter::repeat_with(next).take(1_000);
    tried.find(is_free).expect("a port")
}

/// Whether the tests run as root.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").expect("there").uid() == 0
}
