//! What the service says to whoever asks, over a bare socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use super::{Service, TOKEN};
use crate::process::{DEADLINE, assert_says, code, run, text};
use crate::server::{Answer, OK, UNAVAILABLE, serve};

/// Status and body of the answer.
fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let length = body.len();
    let head = format!(
        "{head}\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    // One that refuses a body does not read it.
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    read(stream)
}

fn read(mut stream: TcpStream) -> (u16, Value) {
    let mut bytes = Vec::new();
    // What it said before it closed counts.
    let _ = stream.read_to_end(&mut bytes);
    let answer = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{answer}"));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (
        status.expect("a status"),
        serde_json::from_str(body).unwrap_or_default(),
    )
}

fn bearer(line: &str, token: &str) -> String {
    format!("{line} HTTP/1.1\r\nAuthorization: Bearer {token}")
}

fn check(address: SocketAddr, batch: &Value) -> (u16, Value) {
    exchange(
        address,
        &bearer("POST /v2/check", TOKEN),
        batch.to_string().as_bytes(),
    )
}

fn batch(deadline_ms: u64, urls: &[String]) -> Value {
    let requests = urls
        .iter()
        .enumerate()
        .map(|(index, url)| json!({ "request_id": format!("r{index}"), "blog_id": 7, "url": url }));
    let requests: Vec<Value> = requests.collect();
    json!({ "batch_id": "b", "deadline_ms": deadline_ms, "requests": requests })
}

#[test]
fn a_batch_is_answered_one_by_one_and_what_must_not_be_checked_is_not_known() {
    let dir = tempfile::tempdir().expect("temp dir");
    let oslo = Service::at(dir.path(), "oslo");
    let urls = [
        format!("http://{}/", serve(OK)),
        format!("http://{}/", serve(UNAVAILABLE)),
        "http://10.255.255.1/".to_owned(),
        "ftp://a.example/".to_owned(),
        String::new(),
    ];
    let (status, answer) = check(oslo.address, &batch(20_000, &urls));
    assert_eq!(
        (status, &answer["batch_id"]),
        (200, &"b".into()),
        "{answer}"
    );
    assert_eq!(answer["vantage"]["id"], "oslo");
    assert_eq!(answer["agent"]["protocol"], "v2");
    let results = answer["results"].as_array().expect("results");
    let told: Vec<(&str, bool, u64, u64)> = results
        .iter()
        .map(|result| {
            let number = |key: &str| result[key].as_u64().expect("a number");
            let success = result["success"].as_bool().expect("a flag");
            let outcome = result["outcome"].as_str().expect("a word");
            (outcome, success, number("http_code"), number("error_code"))
        })
        .collect();
    let expected = [
        ("up", true, 200, 0),
        ("down", false, 503, 0),
        ("unknown", false, 0, 9),
        ("unknown", false, 0, 9),
        ("unknown", false, 0, 9),
    ];
    assert_eq!(told, expected, "{answer}");
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result["request_id"], format!("r{index}"));
        assert_eq!(result["url"], urls[index].as_str());
    }
    assert!(
        results[0]["timings_ms"]["total"].as_f64() > Some(0.0),
        "{answer}"
    );
    assert_eq!(results[2]["diagnostics"]["class"], "safety.blocked");
}

#[test]
fn strangers_hear_only_that_it_lives() {
    let dir = tempfile::tempdir().expect("temp dir");
    let oslo = Service::at(dir.path(), "oslo");
    let status = |token: &str| exchange(oslo.address, &bearer("GET /v2/status", token), b"");
    let (code, minimal) = status("another");
    assert_eq!((code, &minimal), (200, &json!({ "status": "OK" })));
    let (code, whole) = status(TOKEN);
    assert_eq!((code, &whole["protocols"]), (200, &json!(["v2"])));
    assert_eq!(whole["capacity"]["concurrency"], 4_096);
    assert_eq!(whole["vantage"]["id"], "oslo");
    let good = batch(1_000, &[format!("http://{}/", serve(OK))]).to_string();
    for head in [
        "POST /v2/check HTTP/1.1".to_owned(),
        bearer("POST /v2/check", ""),
        bearer("POST /v2/check", "s3cret-of-test"),
        bearer("POST /v2/check", "s3cret-of-testsx"),
        format!("POST /v2/check HTTP/1.1\r\nAuthorization: Basic {TOKEN}"),
    ] {
        let (code, said) = exchange(oslo.address, &head, good.as_bytes());
        assert_eq!(code, 401, "{head}: {said}");
    }
    assert_eq!(
        exchange(oslo.address, &bearer("GET /check", TOKEN), b"").0,
        404
    );
}

#[test]
fn what_a_stranger_is_told_ends_its_connection() {
    let dir = tempfile::tempdir().expect("temp dir");
    let oslo = Service::at(dir.path(), "oslo");
    let head = |line: &str, token: &str| {
        let mut stream = TcpStream::connect(oslo.address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let asked = bearer(line, token) + "\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(asked.as_bytes()).expect("sent");
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        head.join("\n").to_ascii_lowercase()
    };
    for line in ["GET /v2/status", "POST /v2/check"] {
        assert!(
            head(line, "another").contains("connection: close"),
            "{line}"
        );
        assert!(!head(line, TOKEN).contains("connection: close"), "{line}");
    }
}

#[test]
fn what_is_no_batch_is_refused_and_so_is_what_is_too_long() {
    let dir = tempfile::tempdir().expect("temp dir");
    let oslo = Service::at(dir.path(), "oslo");
    let head = bearer("POST /v2/check", TOKEN);
    let many: Vec<String> = (0..65).map(|n| format!("http://127.0.0.1/{n}")).collect();
    let many = batch(1_000, &many).to_string();
    let long_id = json!({ "batch_id": "b".repeat(129), "requests": [] }).to_string();
    for bad in [
        "",
        "{}",
        "[1",
        r#"{"batch_id":"b","requests":[{}]}"#,
        &many,
        &long_id,
    ] {
        let (code, said) = exchange(oslo.address, &head, bad.as_bytes());
        assert_eq!(code, 400, "{bad:.60}: {said}");
    }
    let too_long = vec![b' '; 10 * 1024 * 1024 + 1];
    assert_eq!(exchange(oslo.address, &head, &too_long).0, 413);
    let empty = json!({ "batch_id": "b", "requests": [] });
    assert_eq!(check(oslo.address, &empty).0, 200);
}

#[test]
fn too_much_at_a_time_is_overload_and_what_ends_too_late_is_not_known() {
    let dir = tempfile::tempdir().expect("temp dir");
    let lines = "vantage = 'oslo'\nconcurrency = 1\nqueue = 1";
    let oslo = Service::start(&dir.path().join("v"), lines, &["--allow", "127.0.0.0/8"]);
    let silent = format!("http://{}/", serve(Answer::Silence));
    let (code, said) = check(oslo.address, &batch(300, &vec![silent.clone(); 3]));
    assert_eq!((code, &said["outcome"]), (503, &"agent_overloaded".into()));
    let (code, said) = check(oslo.address, &batch(300, std::slice::from_ref(&silent)));
    assert_eq!((code, &said["outcome"]), (504, &"unknown".into()));
    // With a result that is there, the others are not known, and the batch is answered.
    let (code, said) = check(oslo.address, &batch(300, &[silent, "nonsense".into()]));
    assert_eq!(code, 200);
    assert_eq!(said["results"][0]["outcome"], "unknown");
    assert_eq!(said["results"][0]["error_code"], 0);
    assert_eq!(said["results"][1]["error_code"], 9);
}

#[test]
fn a_service_without_a_token_or_with_half_a_certificate_does_not_start() {
    let dir = tempfile::tempdir().expect("temp dir");
    let config = dir.path().join("c.toml");
    for (lines, said) in [
        ("", "verifier.token: found none"),
        ("[verifier]\ntoken = ''", "verifier.token: found none"),
        (
            "[verifier]\ntoken = 't'\ntls_cert = 'a.pem'",
            "verifier.tls_key",
        ),
        (
            "[verifier]\ntoken = 't'\ntls_cert = 'a.pem'\ntls_key = 'b.pem'",
            "a.pem: verifier.tls_cert cannot be read",
        ),
    ] {
        std::fs::write(&config, lines).expect("written");
        let output = run(&["verifier", "--config", text(&config)]);
        assert_eq!(code(&output), 2, "{lines}");
        assert_says(&output, said);
    }
}
