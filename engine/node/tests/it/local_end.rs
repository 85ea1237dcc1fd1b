//! Where checks come from and how they end, as configured; and plans that this machine cannot
//! carry out.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};

use crate::process::{
    Node, ask, assert_says, code, import, ringwatch, run, run_command, status_until, stderr,
    stdout, text,
};

/// TEST-NET-1 (RFC 5737): no machine has it.
const ABSENT: &str = "192.0.2.1";

#[test]
fn a_source_address_of_another_machine_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let expected = "source_addresses: 192.0.2.1 is not an address of this machine: add it with `ip \
                    address add 192.0.2.1/32 dev INTERFACE`, or take it out of the list";
    let mut start = run_command(&data);
    start.args(["--source-addresses", ABSENT]);
    let mut check = ringwatch();
    check.args(["check", "http://127.0.0.1:9/", "--source-addresses", ABSENT]);
    for mut command in [start, check] {
        let output = command.output().expect("ringwatch starts");
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        let sentence = format!("ringwatch: --source-addresses: {expected}\n");
        assert_eq!(stderr(&output), sentence);
    }
    let output = run(&[
        "doctor",
        "--data-dir",
        text(&data),
        "--source-addresses",
        ABSENT,
    ]);
    assert_eq!(code(&output), 1);
    let said = stdout(&output);
    assert!(
        said.contains(&format!("FAIL  sources  {expected}\n")),
        "{said}"
    );
}

#[test]
fn a_check_comes_from_a_source_address_and_ends_as_configured() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let server = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().expect("a check");
        let mut bytes = [0; 1_024];
        let read = stream.read(&mut bytes).expect("a request");
        assert!(read > 0);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).expect("it listens");
        (
            from.ip(),
            stream.read(&mut bytes).map_err(|error| error.kind()),
        )
    });
    let output = run(&[
        "check",
        &url,
        "--allow",
        "127.0.0.0/8",
        "--source-addresses",
        "127.0.0.2",
        "--close",
        "reset",
    ]);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let (from, ended) = server.join().expect("no panic");
    assert_eq!(from, IpAddr::from([127, 0, 0, 2]));
    assert_eq!(ended, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_running_node_shows_its_source_addresses() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let node = Node::loaded(&data, &["--source-addresses", "127.0.0.2,127.0.0.3"]);
    let status = status_until(&data, |status| status["cores"][0]["sources_usable"] == 2);
    assert_eq!(status["cores"][0]["sources_absent"], 0);
    assert_eq!(status["cores"][0]["sources_wanted"], 0);
    node.kill();
}

/// So many targets with an interval of 10 s at one address that its ports cannot do.
fn too_many() -> u32 {
    let of = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        text.expect("the kernel says it")
    };
    let range = of("ip_local_port_range");
    let mut ends = range
        .split_whitespace()
        .map(|end| end.parse::<u32>().expect("a port"));
    let (low, high) = (ends.next().expect("low"), ends.next().expect("high"));
    // A cadence of 9 s, a deadline of 8.5 s, then TIME_WAIT, which some machines cut short.
    let hold_ms = if of("tcp_tw_reuse").trim() == "1" {
        9_500
    } else {
        68_500
    };
    (high - low + 1) * 9_000 / hold_ms + 100
}

#[test]
fn a_plan_that_the_local_ports_cannot_carry_is_refused_with_every_number() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (list, data, file) = (
        dir.path().join("t.csv"),
        dir.path().join("d"),
        dir.path().join("c.toml"),
    );
    let count = too_many();
    // TEST-NET-3 (RFC 5737): nothing is there, and nothing is sent.
    let rows = (0..count).map(|n| format!("http://203.0.113.7/{n},10\n"));
    fs::write(&list, rows.collect::<String>()).expect("written");
    let output = import(&list, &data, &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let config = format!(
        "data_dir = '{}'\nallow = ['203.0.113.0/24']\nuncapped = ['203.0.113.7']\n",
        data.display()
    );
    fs::write(&file, config).expect("written");
    let expected =
        format!("local ports are too few for the plan: 203.0.113.7:80 with {count} target(s) and ");

    let output = run(&["doctor", "--config", text(&file)]);
    assert_eq!(code(&output), 1);
    let said = stdout(&output);
    assert!(
        said.contains(&format!("FAIL  plan     {expected}")),
        "{said}"
    );
    assert!(said.contains("or set close = \"reset\" ("), "{said}");
    let output = run(&["doctor", "--config", text(&file), "--close", "reset"]);
    let said = stdout(&output);
    assert!(said.contains("\nok    plan     "), "{said}");

    let flags = ["--config", text(&file), "--admin", "127.0.0.1:0"];
    let dns = ["--dns", "127.0.0.1:9"];
    let output = run(&[&["run"], &flags[..], &dns[..]].concat());
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert_says(&output, &format!("ringwatch: {expected}"));
    assert!(!stderr(&output).contains("loaded"), "{}", stderr(&output));
}

#[test]
fn a_node_that_runs_says_that_an_import_is_more_than_its_ports_carry_and_goes_on() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (list, data) = (dir.path().join("t.csv"), dir.path().join("d"));
    let allowed = ["--allow", "203.0.113.0/24", "--uncapped", "203.0.113.7"];
    let node = Node::loaded(&data, &allowed);
    // TEST-NET-3 (RFC 5737): nothing is there, and nothing is sent.
    ask(&data, r#"{"cmd":"pause","on":true}"#);
    let rows = (0..too_many()).map(|n| format!("http://203.0.113.7/{n},10\n"));
    fs::write(&list, rows.collect::<String>()).expect("written");
    let output = import(&list, &data, &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.contains("too few for the plan: 203.0.113.7:80"),
        "{said}"
    );
    assert!(said.contains("the next start refuses this plan"), "{said}");
    let status = ask(&data, r#"{"cmd":"status"}"#);
    assert_eq!(status["state"], "paused");
    node.kill();
}
