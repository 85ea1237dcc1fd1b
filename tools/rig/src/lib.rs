//! What tests run against: Debian's servers, certificates for them, namespaces of a test's own,
//! places where nobody listens.
//!
//! For tests alone: what cannot be had here ends the test with the reason. It must not know what is
//! tested.
#![forbid(unsafe_code)]

pub mod certificates;
pub mod mariadb;
pub mod namespace;
pub mod places;

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

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

/// A TCP port of 127.0.0.1 that nobody listened on just now.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// Whether the tests run as root.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").expect("there").uid() == 0
}
