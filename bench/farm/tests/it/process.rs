//! Start, refusal to start, and end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::running::{Farm, fault, shells};

#[test]
fn a_signal_ends_it_well() {
    let scenario = fault("kind = 'silence', first_site = 1, count = 50");
    for shell in shells() {
        for signal in [Signal::TERM, Signal::INT] {
            let farm = Farm::with(shell, &scenario);
            let open: Vec<_> = (1..50).map(|site| farm.ask("GET", site)).collect();
            farm.until("silence", || {
                farm.summary()["farm"]["silent_connections"] == 49
            });
            assert!(farm.end(signal).success(), "{shell} {signal:?}");
            drop(open);
        }
    }
}

fn refusal(arguments: &[&str], scenario: &str) -> String {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, scenario).expect("a scenario");
    let output = Command::new(env!("CARGO_BIN_EXE_farm"))
        .args([
            "run",
            "--sites",
            "10",
            "--interval-s",
            "10",
            "--shell",
            "tokio",
            "--out",
        ])
        .arg(dir.path())
        .arg("--scenario")
        .arg(file)
        .args(arguments)
        .output()
        .expect("the farm runs");
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_bad_scenario_is_refused_with_file_key_and_the_nearest_key() {
    let text = refusal(
        &[],
        "[[fault]]\nkind = 'reset'\nfrist_site = 1\nduration_s = 1\n",
    );
    assert!(text.contains("bad.toml"), "{text}");
    assert!(
        text.contains("fault 1: frist_site: unknown key; accepted: kind, "),
        "{text}"
    );
    assert!(text.contains("did you mean `first_site`?"), "{text}");
}

#[test]
fn a_port_in_use_is_refused_with_its_number() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for key in ["http", "https", "control", "dns"] {
        let text = refusal(&[&format!("--{key}-port"), &port], "");
        assert!(text.contains(&port), "{text}");
        assert!(text.contains("in use"), "{text}");
    }
}

/// What the largest farm may take: 16 bytes per site, a byte more while a summary is made, and as
/// much as a farm without sites.
const LARGEST_BYTES_MAX: u64 = 10_000_000 * 17 + 48 * 1_024 * 1_024;

#[test]
fn ten_million_sites_take_sixteen_bytes_each_and_the_last_one_answers() {
    let farm = Farm::of_sites(10_000_000, "tokio");
    let page = farm.fetch("GET", 9_999_999).expect("a page");
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    // The first rows only: nobody may have to wait for the last ones.
    let mut list = TcpStream::connect(farm.address("control")).expect("a control port");
    list.write_all(b"GET /targets.csv HTTP/1.0\r\n\r\n")
        .expect("sent");
    let mut rows = vec![0; 1 << 20];
    list.read_exact(&mut rows).expect("a mebibyte of rows");
    drop(list);
    farm.until("the request", || farm.summary()["observed"] == 1);
    assert_eq!(farm.summary()["never_seen"], 9_999_999);
    let most = farm.most_resident_bytes();
    assert!(most <= LARGEST_BYTES_MAX, "{most} B");
}

#[test]
fn without_io_uring_it_says_so_once_and_serves_on_epoll() {
    let dir = TempDir::new().expect("a directory");
    // glommio needs locked memory for its rings: without any, the ring is refused.
    let mut child = Command::new("sh")
        .args([
            "-c",
            "ulimit -l 0; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_farm"),
        ])
        .args(["run", "--sites", "10", "--interval-s", "10", "--out"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the farm runs");
    let mut ready = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut ready).expect("text");
    assert!(ready.contains("\"shell\":\"tokio\""), "{ready}");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it is there");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(text.matches("io_uring is refused").count(), 1, "{text}");
}
