//! `ringwatch verifier` as a service, and a node that asks it: votes, lies, refusals.

mod edited;
mod liar;
mod service;
mod trouble;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::process::{Node, code, get, ringwatch, run, status_until, stderr, stdout, text};
use crate::server::{OK, UNAVAILABLE, serve, serve_by};
use liar::Manner;

/// What a node and its verifiers share.
const TOKEN: &str = "s3cret-of-tests";

/// A running verifier.
struct Service {
    node: Node,
    address: SocketAddr,
}

impl Service {
    /// One whose section `[verifier]` has these lines, too.
    fn start(dir: &Path, lines: &str, flags: &[&str]) -> Self {
        fs::create_dir_all(dir).expect("a folder");
        let config = dir.join("verifier.toml");
        let section = "[verifier]\nlisten = '127.0.0.1:0'\n";
        fs::write(&config, format!("{section}token = '{TOKEN}'\n{lines}\n")).expect("written");
        let mut command = ringwatch();
        command.args([
            "verifier",
            "--config",
            text(&config),
            "--dns",
            "127.0.0.1:9",
        ]);
        command.args(["--max-in-flight", "64"]).args(flags);
        let mut node = Node::start(command);
        let ready = node.wait_for("ready");
        let (_, rest) = ready.split_once("listen=").expect("an address");
        let address = rest.split_whitespace().next().expect("an address");
        let address = address.parse().expect("an address");
        Self { node, address }
    }

    /// One that may look at this machine.
    fn at(dir: &Path, vantage: &str) -> Self {
        let line = format!("vantage = '{vantage}'");
        Self::start(&dir.join(vantage), &line, &["--allow", "127.0.0.0/8"])
    }
}

/// One of the `verifiers` of a node.
fn entry(scheme: &str, address: SocketAddr, vantage: &str) -> String {
    format!("{{url='{scheme}://{address}', token='{TOKEN}', vantage='{vantage}'}}")
}

/// A node that watches `site` and asks these verifiers after its first failure.
fn node(dir: &Path, site: SocketAddr, verifiers: &[String]) -> Node {
    node_of(dir, &[format!("http://{site}/,10,500")], verifiers, &[])
}

/// The same of these lines of a list, with more arguments.
fn node_of(dir: &Path, lines: &[String], verifiers: &[String], flags: &[&str]) -> Node {
    let (data, config) = (dir.join("d"), dir.join("node.toml"));
    fs::write(&config, format!("verifiers = [{}]\n", verifiers.join(", "))).expect("written");
    let targets = dir.join("targets.csv");
    fs::write(
        &targets,
        format!("url,interval_s,timeout_ms\n{}\n", lines.join("\n")),
    )
    .expect("written");
    let more = [
        "--config",
        text(&config),
        "--targets",
        text(&targets),
        "--confirm-after",
        "1",
    ];
    Node::loaded(&data, &[&more, flags].concat())
}

/// The events of the node below `dir`, newest first.
fn events(dir: &Path) -> Vec<Value> {
    let data = dir.join("d");
    let output = run(&["events", "list", "--json", "--data-dir", text(&data)]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let parse = |line: &str| serde_json::from_str(line).expect("an event");
    stdout(&output).lines().map(parse).collect()
}

/// The value of a metric with its labels, 0 when it is absent.
fn metric(page: &str, name: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

/// The metrics of the node below `dir`, as soon as `done` says so.
fn metrics_until(dir: &Path, done: impl Fn(&str) -> bool) -> String {
    let mut page = String::new();
    status_until(&dir.join("d"), |status| {
        page = get(status["admin"].as_str().expect("an address"), "/metrics").1;
        done(&page)
    });
    page
}

fn votes(page: &str, kind: &str) -> u64 {
    metric(
        page,
        &format!("ringwatch_verifier_votes_total{{kind=\"{kind}\"}} "),
    )
}

fn non_votes(page: &str, reason: &str) -> u64 {
    metric(
        page,
        &format!("ringwatch_verifier_nonvotes_total{{reason=\"{reason}\"}} "),
    )
}

/// A site that is down while the switch is off, but for askers that call themselves so.
fn down_but_for(agent: &'static str, is_up: &Arc<AtomicBool>) -> SocketAddr {
    let is_up = Arc::clone(is_up);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            let is_agent = String::from_utf8_lossy(&head).contains(agent);
            let status = if is_agent || is_up.load(Ordering::SeqCst) {
                "200 OK"
            } else {
                "503 Service Unavailable"
            };
            // A probe that went away needs no answer.
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

/// A verifier that speaks TLS, and the certificate to trust.
fn over_tls(dir: &Path, vantage: &str) -> (Service, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert, made.cert.pem()).expect("written");
    fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let (shown_cert, shown_key) = (cert.display(), key.display());
    let lines =
        format!("vantage = '{vantage}'\ntls_cert = '{shown_cert}'\ntls_key = '{shown_key}'");
    let flags = ["--allow", "127.0.0.0/8"];
    let service = Service::start(&dir.join(vantage), &lines, &flags);
    (service, cert)
}

/// An entry that trusts `cert`.
fn secure(service: &Service, vantage: &str, cert: &Path) -> String {
    let bare = entry("https", service.address, vantage);
    let bare = bare.strip_suffix('}').expect("a table");
    format!("{bare}, ca_file='{}'}}", cert.display())
}

#[test]
fn two_vantages_confirm_an_outage_one_of_them_over_tls() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (rome, cert) = over_tls(dir.path(), "rome");
    let oslo = Service::at(dir.path(), "oslo");
    let verifiers = [
        secure(&rome, "rome", &cert),
        entry("http", oslo.address, "oslo"),
    ];
    let node = node(dir.path(), serve(UNAVAILABLE), &verifiers);
    status_until(&dir.path().join("d"), |status| {
        status["targets"]["down"] == 1 && status["sink"]["apply_lag"] == 0
    });
    let event = events(dir.path()).remove(0);
    let transitions = event["transitions"].as_array();
    let last = transitions.and_then(|all| all.last()).expect("transitions");
    assert_eq!(last["reason"], "verifier_confirmed");
    assert_eq!(last["source"], "quorum");
    let page = metrics_until(dir.path(), |page| votes(page, "down") >= 2);
    assert_eq!(votes(&page, "up"), 0);
    assert_eq!(metric(&page, "ringwatch_verifiers_cooling{} "), 0);
    drop(node);
    for service in [rome, oslo] {
        service.node.signal("TERM");
        let (exit, log) = service.node.end();
        assert_eq!(exit, 0, "{log}");
        let ended = log.contains("SIGTERM: draining") && log.contains("stopped");
        assert!(ended, "{log}");
    }
}

#[test]
fn the_doctor_asks_every_verifier_and_says_why_one_has_no_vote() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (rome, cert) = over_tls(dir.path(), "rome");
    let oslo = Service::at(dir.path(), "oslo");
    let stranger = entry("http", oslo.address, "oslo").replace(TOKEN, "another");
    let config = dir.path().join("node.toml");
    for (entry, said) in [
        (secure(&rome, "rome", &cert), "checks at a time"),
        (entry("http", oslo.address, "oslo"), "checks at a time"),
        (entry("https", rome.address, "rome"), "it cannot be asked"),
        (entry("http", rome.address, "rome"), "it cannot be asked"),
        (
            entry("http", oslo.address, "rome"),
            "its answers are no votes",
        ),
        (stranger, "it does not accept the token"),
    ] {
        fs::write(&config, format!("verifiers = [{entry}]\n")).expect("written");
        let place = ["--config", text(&config), "--data-dir", text(dir.path())];
        let found = stdout(&run(&[&["doctor"], &place[..]].concat()));
        let line = found.lines().find(|line| line.contains("verifier "));
        assert!(
            line.is_some_and(|line| line.contains(said)),
            "{said}: {found}"
        );
    }
}

#[test]
fn what_only_we_saw_is_a_false_alarm_and_ends() {
    let dir = tempfile::tempdir().expect("temp dir");
    let flags = ["--allow", "127.0.0.0/8", "--user-agent", "elsewhere"];
    let services = ["oslo", "rome"].map(|vantage| {
        let line = format!("vantage = '{vantage}'");
        (
            vantage,
            Service::start(&dir.path().join(vantage), &line, &flags),
        )
    });
    let verifiers = services
        .each_ref()
        .map(|(vantage, s)| entry("http", s.address, vantage));
    let is_up = Arc::new(AtomicBool::new(false));
    let site = down_but_for("elsewhere", &is_up);
    let node = node(dir.path(), site, &verifiers);
    let page = metrics_until(dir.path(), |page| votes(page, "up") >= 2);
    assert_eq!(votes(&page, "down"), 0);
    status_until(&dir.path().join("d"), |status| {
        status["sink"]["apply_lag"] == 0
            && events(dir.path())
                .iter()
                .any(|event| event["resolution"] == "false_alarm")
    });
    drop(node);
}

#[test]
fn liars_have_no_vote_and_one_healthy_vantage_of_several_defers() {
    let dir = tempfile::tempdir().expect("temp dir");
    let oslo = Service::at(dir.path(), "oslo");
    let liars = [
        Manner::Unreadable,
        Manner::WrongRequest,
        Manner::Twice,
        Manner::Silent,
        Manner::WrongVantage,
        Manner::Overloaded,
        Manner::Unknown,
        Manner::Empty,
        Manner::Broken,
    ];
    let mut verifiers = vec![entry("http", oslo.address, "oslo")];
    for manner in liars {
        verifiers.push(entry("http", liar::serve(manner), manner.vantage()));
    }
    let node = node(dir.path(), serve(UNAVAILABLE), &verifiers);
    let reasons = [
        "unreadable",
        "wrong_request",
        "duplicate",
        "late",
        "wrong_vantage",
        "overloaded",
        "unknown",
        "missing",
        "error",
    ];
    let all = |page: &str| reasons.iter().all(|reason| non_votes(page, reason) >= 1);
    let page = metrics_until(dir.path(), |page| all(page) && votes(page, "down") >= 1);
    assert_eq!(votes(&page, "up"), 0, "{page}");
    // The event stays what our own checks say: not confirmed, and no false alarm.
    let status = status_until(&dir.path().join("d"), |status| {
        status["sink"]["apply_lag"] == 0 && status["targets"]["seems_down"] == 1
    });
    assert_eq!(status["targets"]["down"], 0);
    let event = events(dir.path()).remove(0);
    assert_eq!(
        (&event["state"], &event["resolution"]),
        (&"Seems Down".into(), &Value::Null)
    );
    // Those that failed are left out of the next question.
    metrics_until(dir.path(), |page| {
        metric(page, "ringwatch_verifiers_cooling{} ") >= 1 || non_votes(page, "cooling") >= 1
    });
    drop(node);
}

/// Lesson: 10 MiB of it were taken and parsed on the one thread of the control plane, and it had a
/// vote.
#[test]
fn an_answer_that_is_too_long_is_not_read() {
    let dir = tempfile::tempdir().expect("temp dir");
    let oslo = Service::at(dir.path(), "oslo");
    let verifiers = [
        entry("http", oslo.address, "oslo"),
        entry("http", liar::serve(Manner::Huge), Manner::Huge.vantage()),
    ];
    let node = node(dir.path(), serve(UNAVAILABLE), &verifiers);
    let page = metrics_until(dir.path(), |page| {
        votes(page, "down") >= 1 && votes(page, "down") + non_votes(page, "unreadable") >= 2
    });
    assert!(non_votes(&page, "unreadable") >= 1, "{page}");
    drop(node);
}

#[test]
fn a_site_that_is_up_asks_nobody() {
    let dir = tempfile::tempdir().expect("temp dir");
    let closed = rig::places::Closed::new();
    let nobody = entry("http", closed.address(), "oslo");
    let node = node(dir.path(), serve(OK), &[nobody]);
    status_until(&dir.path().join("d"), |s| {
        s["fleet"]["drained"].as_u64() >= Some(1)
    });
    let page = metrics_until(dir.path(), |_| true);
    assert_eq!(
        metric(&page, "ringwatch_verifier_questions_total{kind=\"asked\"} "),
        0
    );
    drop(node);
}
