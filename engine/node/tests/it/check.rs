//! `check` against a real server: every verdict has its exit code.

use serde_json::Value;

use crate::process::{assert_says, code, run, stderr, stdout};
use crate::server::{Answer, OK, UNAVAILABLE, serve};
use rig::places::Closed;

const ALLOW: [&str; 2] = ["--allow", "127.0.0.0/8"];

fn check(args: &[&str]) -> std::process::Output {
    run(&[&["check"], &ALLOW[..], args].concat())
}

fn json(output: &std::process::Output) -> Value {
    serde_json::from_str(&stdout(output)).expect("one JSON object")
}

#[test]
fn up_is_0() {
    let url = format!("http://{}/", serve(OK));
    let output = check(&[&url]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stdout(&output).starts_with(&format!("up       {url}  200  ")),
        "{}",
        stdout(&output)
    );
}

#[test]
fn json_tells_url_verdict_phases_and_address() {
    let url = format!("http://{}/", serve(OK));
    let object = json(&check(&[&url, "--json"]));
    assert_eq!(object["url"], url);
    assert_eq!(
        (&object["verdict"], &object["status"]),
        (&"up".into(), &200.into())
    );
    assert_eq!(object["address"], "127.0.0.1");
    assert_eq!(
        (&object["class"], &object["legacy_code"]),
        (&Value::Null, &Value::Null)
    );
    assert!(
        object["phases"]["total_us"]
            .as_u64()
            .is_some_and(|us| us > 0)
    );
    assert!(object["phases"].get("tls_us").is_none() && object["phases"].get("dns_us").is_none());
    let mut keys: Vec<&String> = object.as_object().expect("an object").keys().collect();
    keys.sort();
    let documented = [
        "address",
        "class",
        "evidence",
        "legacy_code",
        "phases",
        "redirects",
        "status",
        "tls",
        "url",
        "verdict",
    ];
    assert_eq!(keys, documented);
}

#[test]
fn an_address_is_checked_with_few_open_files() {
    let script = |limit: u32, url: &str| {
        let binary = env!("CARGO_BIN_EXE_ringwatch");
        let command = format!("{binary} check {url} --allow 127.0.0.0/8 --dns 127.0.0.1:9");
        let script = format!("ulimit -n {limit} && exec {command}");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).output().expect("sh starts")
    };
    let output = script(200, &format!("http://{}/", serve(OK)));
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    // A name needs a resolver, and that its sockets.
    let output = script(200, "http://a.example/");
    assert_eq!(code(&output), 2);
    let plan = "1 probe core(s) with 1 attempts in flight of up to 2 socket(s), and 192 files";
    assert_says(&output, plan);
}

#[test]
fn down_is_1() {
    let closed = Closed::new();
    let url = format!("http://{}/", closed.address());
    let refused = json(&check(&[&url, "--json"]));
    assert_eq!(refused["class"], "connect.refused");
    assert_eq!(refused["legacy_code"], 2);
    let output = check(&[&format!("http://{}/", serve(UNAVAILABLE))]);
    assert_eq!(code(&output), 1);
    assert!(
        stdout(&output).contains("503  http.status"),
        "{}",
        stdout(&output)
    );
    let url = format!("http://{}/", serve(Answer::Silence));
    // On a busy machine a core that was stalled for a tenth of the deadline says `unknown`.
    let mut tries = (0..20).map(|_| check(&[&url, "--timeout-ms", "1000"]));
    let silent = tries.find(|output| code(output) != 3);
    let silent = silent.expect("it could judge once");
    assert_eq!(code(&silent), 1, "{}", stdout(&silent));
    assert!(
        stdout(&silent).contains("http.timeout"),
        "{}",
        stdout(&silent)
    );
}

#[test]
fn usage_is_2() {
    for args in [
        &["nope"][..],
        &["http://127.0.0.1/", "--timeout-ms=-1"],
        &[],
    ] {
        let output = check(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
    }
    let output = check(&["ftp://a.example/"]);
    assert_says(&output, "url: found \"ftp://a.example/\", accepted is");
}

#[test]
fn credentials_of_what_is_refused_are_not_echoed() {
    let output = check(&["https://u:s3cret@a.example/"]);
    assert_eq!(code(&output), 2);
    assert_says(
        &output,
        "url: found \"https://***@a.example/\", accepted is",
    );
    let url = "https://a.example/";
    for header in ["Authorization Bearer s3cret", "X-Api-Key: s3cret\u{1}"] {
        let output = check(&[url, "--header", header]);
        assert_eq!(code(&output), 2);
        let said = stderr(&output);
        assert!(said.contains("***") && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn unknown_is_3() {
    // Without --allow the guard refuses loopback: neither up nor down.
    let output = run(&["check", &format!("http://{}/", serve(OK)), "--json"]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert_eq!(json(&output)["class"], "safety.blocked");
}

#[test]
fn degraded_is_4() {
    // A server that answers only after it has waited in vain for more of the request.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let slow = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a probe");
        let patience = std::time::Duration::from_millis(30);
        stream.set_read_timeout(Some(patience)).expect("a timeout");
        let mut buffer = [0; 1024];
        while std::io::Read::read(&mut stream, &mut buffer).is_ok_and(|read| read > 0) {}
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        std::io::Write::write_all(&mut stream, response).expect("answered");
    });
    let output = check(&[&url, "--max-latency-ms", "1"]);
    slow.join().expect("the server does not panic");
    assert_eq!(code(&output), 4, "{}{}", stdout(&output), stderr(&output));
    assert!(
        stdout(&output).starts_with("degraded "),
        "{}",
        stdout(&output)
    );
}

#[test]
fn of_several_urls_the_worst_decides_and_the_order_is_kept() {
    let closed = Closed::new();
    let (up, down) = (
        format!("http://{}/", serve(OK)),
        format!("http://{}/", closed.address()),
    );
    let output = check(&[&up, &down, &up]);
    assert_eq!(code(&output), 1);
    let words: Vec<String> = stdout(&output)
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| {
            line.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(words, ["up", "down", "up"]);
}

#[test]
fn expected_statuses_and_headers_are_honoured() {
    let url = format!("http://{}/", serve(UNAVAILABLE));
    assert_eq!(code(&check(&[&url, "--expect-status", "503"])), 0);
    let output = check(&[&url, "--header", "Host: x"]);
    assert_eq!(code(&output), 2);
    assert_says(&output, "headers: found \"Host: x\"");
}

#[test]
fn a_port_is_up_when_it_says_what_is_expected() {
    let url = format!("tcp://{}", serve(OK));
    let send = r"GET / HTTP/1.1\r\n\r\n";
    let output = check(&[&url, "--send", send, "--expect", r"200 OK\r\n"]);
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).starts_with(&format!("up       {url}  connect ")));
    let output = check(&[&url, "--send", send, "--expect", "404", "--json"]);
    assert_eq!(code(&output), 1);
    let object = json(&output);
    assert_eq!(object["class"], "body.keyword_missing");
    let head = object["evidence"]["head"].as_str().unwrap_or_default();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{object}");
    assert_eq!(code(&check(&[&url])), 0);
    let closed = Closed::new();
    let url = format!("tcp://{}", closed.address());
    let refused = json(&check(&[&url, "--json"]));
    assert_eq!(refused["class"], "connect.refused");
}

#[test]
fn a_handshake_with_what_hangs_up_is_down() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("tls://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let output = check(&[&url]);
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    let told = stdout(&output);
    assert!(told.contains("  tls.handshake  "), "{told}");
}

/// A name server that says of every name what it is: 127.0.0.1, for a minute.
fn name_server() -> String {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let at = socket.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((read, from)) = socket.recv_from(&mut query) {
            let name = query[12..read].iter().position(|byte| *byte == 0);
            let end = 12 + name.expect("a root label") + 5;
            let mut answer = query[..end].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            socket.send_to(&answer, from).expect("loopback sends");
        }
    });
    at
}

#[test]
fn a_dns_answer_is_compared_with_what_is_expected() {
    let upstream = name_server();
    let ask = |url: &str, expect: &[&str]| {
        let mut args = vec!["check", url, "--dns", &upstream, "--json"];
        args.extend(expect.iter().flat_map(|value| ["--expect", *value]));
        run(&args)
    };
    let right = ask("dns://A.example", &["127.0.0.1"]);
    assert_eq!(code(&right), 0, "{}{}", stdout(&right), stderr(&right));
    let object = json(&right);
    assert_eq!(object["url"], "dns://a.example?type=A");
    assert_eq!(object["evidence"]["head"], "127.0.0.1\n");
    let phases = object["phases"].as_object().expect("phases");
    let phases: Vec<&String> = phases.keys().collect();
    assert_eq!(phases, ["dns_us", "total_us"], "nothing is connected to");
    let wrong = ask("dns://a.example", &["127.0.0.1", "127.0.0.2"]);
    assert_eq!(code(&wrong), 1);
    let wrong = json(&wrong);
    assert_eq!(wrong["class"], "body.keyword_missing");
    assert_eq!(wrong["evidence"]["dns"]["server"], upstream);
    let lacks = "the A records lack the expected 127.0.0.2";
    assert_eq!(wrong["evidence"]["text"], lacks);
    let none = json(&ask("dns://a.example?type=MX", &[]));
    assert_eq!(none["class"], "dns.no_address");
    assert_eq!(none["evidence"]["text"], "the name has no MX record");
}

#[test]
fn what_cannot_be_asked_or_expected_of_a_name_is_a_usage_error() {
    for (url, expect, sentence) in [
        (
            "dns://a.example",
            "nope",
            "expect: found \"nope\", accepted is values of type A such as 192.0.2.1",
        ),
        (
            "dns://a.example?type=AXFR",
            "",
            "accepted is dns://name?type=A, with a type of A, NS, CNAME, SOA, PTR, MX, TXT, AAAA,",
        ),
        (
            "dns://192.0.2.1/a.example",
            "",
            "accepted is dns://name?type=A and nothing else: the node's own resolvers are asked",
        ),
        ("tls://a.example", "220", "only tcp:// and dns:// have it"),
    ] {
        let output = run(&["check", url, "--expect", expect]);
        assert_eq!(code(&output), 2, "{url}: {}", stderr(&output));
        assert_says(&output, sentence);
    }
}

#[test]
fn a_field_that_a_check_does_not_have_is_a_usage_error() {
    for (args, sentence) in [
        (
            &["tcp://127.0.0.1:25", "--method", "HEAD"][..],
            "method: found \"HEAD\", accepted is nothing with a URL of tcp://",
        ),
        (
            &["tls://127.0.0.1", "--expect", "220"],
            "expect: found \"220\", accepted is nothing with a URL of tls://, only tcp:// and",
        ),
        (
            &["http://127.0.0.1/", "--send", "x"],
            "send: found \"x\", accepted is nothing with a URL of http://",
        ),
        (
            &["tcp://127.0.0.1:25", "--send", r"\q"],
            r#"send: found "\\q", accepted is text with the escapes"#,
        ),
        (
            &["tcp://127.0.0.1"],
            "url: found \"tcp://127.0.0.1\", accepted is tcp://host:port",
        ),
    ] {
        let output = check(args);
        assert_eq!(code(&output), 2, "{args:?}: {}", stderr(&output));
        assert_says(&output, sentence);
    }
}
