//! A whole node in trouble of its own: it opens no incident, and says what is wrong with it.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Node, comes, get, ringwatch, status_until, text};
use crate::server::{Answer, OK, serve, serve_on};
use rig::places::Closed;

/// Nobody is asked for a name.
const NO_NAMES: [&str; 2] = ["--dns", "127.0.0.1:9"];

/// A node with a list of these lines, and more arguments: `--dns` at least.
fn start(dir: &Path, lines: &[String], more: &[&str]) -> Node {
    let list = dir.join("targets.csv");
    let lines = format!("url,interval_s,timeout_ms\n{}\n", lines.join("\n"));
    fs::write(&list, lines).expect("written");
    let mut command = ringwatch();
    command.args(["run", "--data-dir", text(&dir.join("d"))]);
    command.args(["--admin", "127.0.0.1:0", "--allow", "127.0.0.0/8"]);
    command.args(["--targets", text(&list)]).args(more);
    let mut node = Node::start(command);
    node.wait_for("loaded");
    node
}

/// Seconds that this machine is up, whoever stands still.
pub(crate) fn uptime_s() -> f64 {
    let told = fs::read_to_string("/proc/uptime").expect("Linux has it");
    let first = told.split_whitespace().next().expect("two numbers");
    first.parse().expect("a number")
}

/// No site is; the node's own incidents have so many transitions.
#[track_caller]
fn assert_nobody_is_blamed(status: &Value, own: u64) {
    for state in ["seems_down", "down"] {
        assert_eq!(status["targets"][state], 0, "{status}");
    }
    assert_eq!(status["sink"]["transitions"], own, "{status}");
}

fn has_signal(status: &Value, signal: &str) -> bool {
    let signals = status["pressure"]["signals"].as_array();
    signals.is_some_and(|all| all.iter().any(|one| one == signal))
}

#[test]
fn a_node_that_stood_still_for_five_seconds_blames_nobody() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let Answer::Say(response) = OK else {
        panic!("it says something")
    };
    // Some checks are always under way, and their deadline is over before the node goes on. It
    // leaves this process time to answer: a busy machine runs it late.
    let slow = serve(Answer::SayAfter(Duration::from_millis(800), response));
    let fast = serve(OK);
    let line = |n: u32| match n % 2 {
        0 => format!("http://{slow}/{n},10,4500"),
        _ => format!("http://{fast}/{n},10,4500"),
    };
    let lines: Vec<String> = (0..100).map(line).collect();
    let mut node = start(
        dir.path(),
        &lines,
        &[&NO_NAMES[..], &["--uncapped", "127.0.0.0/8"]].concat(),
    );
    let probed = |status: &Value| status["fleet"]["probed"].as_u64().expect("a number");
    status_until(&data, |status| {
        probed(status) >= 100 && status["fleet"]["in_flight"] != 0
    });
    node.signal("STOP");
    let since = uptime_s();
    assert!(comes(|| uptime_s() >= since + 5.0));
    node.signal("CONT");
    node.wait_for_doubts("stalled");
    let before = probed(&status_until(&data, |_| true));
    let status = status_until(&data, |status| {
        probed(status) >= before + 200 && !has_signal(status, "stalled")
    });
    assert_nobody_is_blamed(&status, 0);
    assert_eq!(status["balanced"], true, "{status}");
}

#[test]
fn a_dead_resolver_blames_nobody_and_the_status_names_it() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    // It takes questions and answers none.
    let dead = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = dead.local_addr().expect("bound").to_string();
    let lines: Vec<String> = (0..900)
        .map(|n| format!("http://s-{n}.example/,60,10000"))
        .collect();
    let _node = start(dir.path(), &lines, &["--dns", &address]);
    // By then no name was asked for three times: none of the first failures is an event.
    let status = status_until(&data, |status| {
        let doubts = status["pressure"]["stance"] == "doubting";
        doubts && status["failures"]["dns.resolver_sick"].as_u64() >= Some(200)
    });
    assert!(has_signal(&status, "resolver_sick"), "{status}");
    assert_nobody_is_blamed(&status, 0);
    drop(dead);
}

#[test]
fn a_node_without_a_network_is_isolated_until_a_canary_answers() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let closed = |network| Closed::at([127, network, 0, 1].into());
    let sites = [1, 2, 3].map(closed);
    // So many that the failures below are those of one cadence and a bit.
    let lines: Vec<String> = (0..180)
        .map(|n| format!("http://{}/{n},10,2000", sites[n % 3].address()))
        .collect();
    let canary = closed(9);
    let url = format!("http://{}/", canary.address());
    let _node = start(
        dir.path(),
        &lines,
        &[&NO_NAMES[..], &["--canaries", &url]].concat(),
    );
    let status = status_until(&data, |status| status["state"] == "isolated");
    let pressure = &status["pressure"];
    assert_eq!(
        (&pressure["stance"], &pressure["dark_networks"]),
        (&json!("isolated"), &json!(3))
    );
    assert_eq!(
        pressure["canaries"],
        json!({ "configured": 1, "answering": 0 })
    );
    assert!(has_signal(&status, "isolation"), "{status}");
    let admin = status["admin"].as_str().expect("an address");
    let (line, health) = get(admin, "/healthz");
    assert_eq!(line, "HTTP/1.1 503 Service Unavailable");
    assert!(
        health.contains("the network of this node is gone"),
        "{health}"
    );
    let (_, page) = get(admin, "/metrics");
    for sample in [
        "ringwatch_pressure{kind=\"isolation\"} 1",
        "ringwatch_operator_incident{kind=\"node_isolated\"} 1",
        "ringwatch_canaries{state=\"answering\"} 0",
        "ringwatch_networks_dark{} 3",
    ] {
        assert!(page.contains(sample), "{sample} in {page}");
    }
    // Every failure says nothing, however many there are.
    let status = status_until(&data, |status| {
        status["failures"]["connect.refused"].as_u64() >= Some(200)
    });
    assert_nobody_is_blamed(&status, 1);
    serve_on(canary.open(), OK);
    let status = status_until(&data, |status| status["state"] == "running");
    assert_eq!(status["pressure"]["canaries"]["answering"], 1, "{status}");
    // Its own incident is closed; a fact is counted once it is durable.
    let status = status_until(&data, |status| status["sink"]["transitions"] != 1);
    assert_nobody_is_blamed(&status, 2);
    // They are down indeed, and that is believed once no check is under way that began before.
    status_until(&data, |status| !has_signal(status, "isolation"));
    status_until(&data, |status| status["targets"]["seems_down"] != 0);
    assert_eq!(get(admin, "/healthz").0, "HTTP/1.1 200 OK");
}
