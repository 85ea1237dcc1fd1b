//! `ladder memory --part attempts`, small: every kind of attempt is brought to wait, and measured.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::programs::built;

const IN_FLIGHT: [u64; 2] = [20, 60];

/// The report of a short run.
fn measure(folder: &Path) -> Value {
    let json = folder.join("attempts.json");
    let [few, many] = IN_FLIGHT;
    let output = Command::new(env!("CARGO_BIN_EXE_ladder"))
        .args(["memory", "--part", "attempts", "--attempt-starts", "1"])
        .args(["--attempt-interval-s", "20"])
        .args(["--in-flight", &format!("{few},{many}")])
        .arg("--farm")
        .arg(built("farm"))
        .arg("--ringwatch")
        .arg(built("ringwatch"))
        .arg("--json")
        .arg(&json)
        .arg("--markdown")
        .arg(folder.join("attempts.md"))
        .arg("--out")
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .expect("ladder runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = std::fs::read_to_string(json).expect("the report is written");
    serde_json::from_str(&text).expect("the report is JSON")
}

#[test]
fn attempts_of_every_kind_are_held_in_flight_and_measured() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("left out: the ladder needs two CPUs");
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let report = measure(folder.path());
    let kinds = report["attempts"].as_array().expect("a list");
    let names: Vec<_> = kinds.iter().map(|kind| &kind["kind"]).collect();
    assert_eq!(names, ["plain", "tls_answer", "tls_handshake"]);
    for kind in kinds {
        for (end, wanted) in [0, 1].into_iter().zip(IN_FLIGHT) {
            let start = &kind["ends"][end]["starts"][0];
            assert_eq!(start["in_flight"], wanted, "{kind}");
            assert_eq!(
                (&start["silent"], &start["ended"]),
                (&wanted.into(), &0.into())
            );
            let of = |what: &str| start["memory"][what].as_u64().expect("bytes");
            assert!(of("rss_bytes") >= of("private_dirty_bytes"), "{kind}");
        }
    }
    let bars = report["bars"].as_array().expect("a list");
    assert_eq!(bars.len(), 3);
    for bar in bars {
        assert_ne!(bar["verdict"], "not_shown", "{bar}");
        assert!(bar["measured"].is_number(), "{bar}");
    }
    let page = std::fs::read_to_string(folder.path().join("attempts.md")).expect("the page");
    assert!(page.contains("the answer to a TLS hello"), "{page}");
}
