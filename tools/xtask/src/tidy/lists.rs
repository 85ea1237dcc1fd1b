//! The lists and limits that `tidy` holds, each exception with its reason.

/// Platform whose dependency graph is judged, on whatever machine `tidy` runs.
pub(super) const PLATFORM: &str = "x86_64-unknown-linux-gnu";

pub(super) const LINE_CHARS_MAX: usize = 100;
pub(super) const FUNCTION_LINES_MAX: usize = 70;
/// Of a file without its tests.
pub(super) const FILE_LINES_MAX: usize = 600;
/// Of a file with its tests, and of one that is nothing else.
pub(super) const FILE_LINES_WITH_TESTS_MAX: usize = 700;
/// Architecture invariants in ARCHITECTURE.md.
pub(super) const INVARIANTS: usize = 10;

/// Crates that may `deny` unsafe code instead of forbidding it; zero is the aim there too.
pub(super) const MAY_DENY_UNSAFE: &[&str] = &["cores", "farm"];

/// Crates that read no clock, open no socket, spawn nothing and log nothing.
pub(super) const PURE: &[&str] = &["model", "prober", "incident"];

/// Which of our crates each of our crates may use, its tests included: `rig` is for tests alone.
pub(super) const DIRECTION: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("prober", &["model"]),
    ("cores", &["model", "prober", "rig"]),
    ("incident", &["model"]),
    ("store", &["model", "rig"]),
    ("persist", &["incident", "model", "rig", "store"]),
    (
        "node",
        &[
            "cores", "incident", "model", "persist", "prober", "rig", "store",
        ],
    ),
    ("farm", &["model"]),
    ("ladder", &["model", "prober", "rig"]),
    ("rig", &[]),
    ("xtask", &[]),
    ("fuzz", &["model", "prober"]),
];

/// Words that no pure crate uses outside its tests.
pub(super) const IMPURE: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "File",
    "OpenOptions",
    "fs",
    "log",
    "process",
    "thread",
    "tokio",
    "tracing",
    "rustix",
    "dbg",
    "print",
    "println",
    "eprint",
    "eprintln",
    "stdout",
    "stderr",
];

/// Where alone a crate may be named.
pub(super) struct Home {
    pub(super) name: &'static str,
    /// Prefixes of paths below the workspace's root.
    pub(super) files: &'static [&'static str],
    pub(super) reason: &'static str,
}

pub(super) const HOMES: &[Home] = &[
    Home {
        name: "monoio",
        files: &[
            "engine/cores/src/reactor/monoio",
            "bench/ladder/src/baseline/floor",
        ],
        reason: "only cores::reactor::monoio knows the runtime (and the floor that measures it)",
    },
    Home {
        name: "glommio",
        files: &["bench/farm/src/shell/uring"],
        reason: "only one module of farm knows the runtime",
    },
    Home {
        name: "rusqlite",
        files: &["sink/store/", "sink/persist/src/crash_test/rows"],
        reason: "only store names a database (and who looks at what a kill left in its file)",
    },
    Home {
        name: "mysql_async",
        files: &["sink/store/"],
        reason: "only store names a database",
    },
    Home {
        name: "serde_json",
        files: &["engine/node/", "sink/store/", "bench/", "tools/"],
        reason: "only node knows JSON for people; store keeps metadata in it, tools report in it",
    },
];

pub(super) const VAGUE_MODULES: &[&str] = &[
    "common", "helper", "helpers", "manager", "misc", "util", "utils",
];

/// Marks of unfinished work, split so that this list does not find itself.
pub(super) const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// Token sequences that appear nowhere.
pub(super) const FORBIDDEN: &[(&[&str], &str)] = &[
    (&["thread", ":", ":", "sleep"], "wait for the event itself"),
    (&["todo", "!"], "finish it or leave it out"),
    (
        &["#", "[", "ignore"],
        "a test that does not run proves nothing",
    ),
];

/// Licences that we may ship or build with.
pub(super) const LICENCES: &[(&str, &str)] = &[
    ("Apache-2.0", "our own licence"),
    (
        "BSD-3-Clause",
        "permissive, attribution only (subtle, matchit, aws-lc)",
    ),
    (
        "CDLA-Permissive-2.0",
        "data licence of Mozilla's root list (webpki-roots)",
    ),
    ("ISC", "permissive, as MIT (rustls-webpki, aws-lc)"),
    ("MIT", "permissive, attribution only"),
    (
        "MIT-0",
        "as MIT without attribution, tests only (borrow-or-share of boon)",
    ),
    (
        "MPL-2.0+",
        "file-level copyleft, used unchanged and by the farm alone (bitmaps of glommio)",
    ),
    (
        "NCSA",
        "permissive, LLVM's own (libfuzzer-sys of tools/fuzz)",
    ),
    (
        "Unicode-3.0",
        "permissive, Unicode tables (icu, unicode-ident)",
    ),
    ("Zlib", "permissive (foldhash, nanorand, zlib-rs)"),
];

/// Packages that are in the graph in several versions. An entry that is no longer needed is an
/// error, so the list only shrinks by itself.
pub(super) const DUPLICATES: &[(&str, &str)] = &[
    ("ahash", "tests only: glommio is at 0.7, boon at 0.8"),
    ("base64", "hdrhistogram 7 is at 0.22, pem 4 (rcgen) at 0.23"),
    (
        "bitflags",
        "io-uring 0.6 of monoio and glommio's nix are behind",
    ),
    (
        "cpufeatures",
        "the SHA crates of mysql_common are at 0.2, rand's generator at 0.3",
    ),
    (
        "embedded-io",
        "postcard 1 names both; neither is compiled with `use-std`",
    ),
    ("fastrand", "futures-lite 1 of glommio"),
    (
        "getrandom",
        "ahash 0.7 and nanorand of glommio; tempfile and rand at 0.4",
    ),
    ("mio", "monoio's epoll driver is at 0.8, tokio at 1"),
    (
        "nix",
        "glommio is at 0.27; newer ones know the option for shared ports",
    ),
    ("nom", "x509-parser is at 7, hdrhistogram at 8"),
    ("socket2", "glommio 0.4, monoio 0.5, tokio 0.6"),
    ("syn", "build time only: derive macros move from 2 to 3"),
    (
        "synstructure",
        "build time only: derive macros move from syn 2 to 3",
    ),
    ("untrusted", "aws-lc-rs is at 0.7, rustls-webpki at 0.9"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_exceptions_are_sorted_and_have_reasons() {
        for list in [LICENCES, DUPLICATES] {
            assert!(list.is_sorted_by_key(|(name, _)| *name));
            assert!(list.iter().all(|(_, reason)| reason.len() >= 10));
        }
    }
}
