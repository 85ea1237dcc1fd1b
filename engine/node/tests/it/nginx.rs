//! `check` and `run` against a real nginx: what an ordinary server says is read as it is meant.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rig::{certificates, free_port, program};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Node, code, comes, run, run_command, status_until, stderr, stdout, text};

/// A page that fits no single read.
const LARGE_BYTES: usize = 300_000;

/// An nginx of this test alone; stopped when dropped.
struct Nginx {
    folder: TempDir,
    http: u16,
    https: u16,
    /// Its certificate has expired.
    expired: u16,
}

impl Nginx {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [http, https, expired] = [(); 3].map(|()| free_port());
        write_site(folder.path());
        certificates::write(folder.path());
        std::fs::write(
            folder.path().join("nginx.conf"),
            configuration(
                folder.path(),
                http,
                &[(https, "cert"), (expired, "expired")],
            ),
        )
        .expect("the configuration is written");
        let nginx = Self {
            folder,
            http,
            https,
            expired,
        };
        // In the background it returns once its ports are open: nothing has to be waited for.
        let output = nginx.command().output().expect("nginx starts");
        assert!(output.status.success(), "{}", stderr(&output));
        nginx
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program("nginx"));
        let folder = self.folder.path();
        command.arg("-p").arg(folder);
        command.arg("-c").arg(folder.join("nginx.conf"));
        command.arg("-e").arg(folder.join("error.log"));
        command
    }

    fn http(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    fn https(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.https)
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The signal goes to the process in this folder's pid file and to no other nginx.
        let _ = self.command().args(["-s", "stop"]).output();
    }
}

fn write_site(folder: &Path) {
    let site = folder.join("site");
    std::fs::create_dir(&site).expect("a new folder");
    for (name, text) in [
        ("index.html", "<h1>hello</h1>".to_owned()),
        ("large.txt", "x".repeat(LARGE_BYTES)),
        // With server-side includes its length is not known beforehand: nginx sends chunks.
        (
            "chunked.shtml",
            format!(
                "<!--#echo var=\"uri\" -->{}",
                "chunk ".repeat(LARGE_BYTES / 6)
            ),
        ),
    ] {
        std::fs::write(site.join(name), text).expect("the page is written");
    }
}

/// Each of `secure` is a port with the name of its certificate.
fn configuration(folder: &Path, http: u16, secure: &[(u16, &str)]) -> String {
    let folder = folder.display();
    let mut text = format!(
        "master_process off; pid {folder}/nginx.pid;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n access_log off; root {folder}/site; default_type text/html; ssi_types *;\n\
         \x20gzip on; gzip_min_length 1;\n"
    );
    for scratch in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, " {scratch}_temp_path {folder}/{scratch};").expect("a String");
    }
    let pages = "  location = /gone { return 410; }\n\
                 \x20 location = /moved { return 301 /; }\n\
                 \x20 location = /round { return 302 /there; }\n\
                 \x20 location = /there { return 302 /round; }\n\
                 \x20 location = /empty { return 204; }\n\
                 \x20 location = /down { return 503; }\n\
                 \x20 location = /chunked.shtml { ssi on; }\n";
    writeln!(text, " server {{\n  listen 127.0.0.1:{http};\n{pages} }}").expect("a String");
    for (port, certificate) in secure {
        write!(
            text,
            " server {{\n  listen 127.0.0.1:{port} ssl;\n\
             \x20 ssl_certificate {folder}/{certificate}.pem;\n\
             \x20 ssl_certificate_key {folder}/key.pem;\n{pages} }}\n"
        )
        .expect("a String");
    }
    text.push_str("}\n");
    text
}

fn check(args: &[&str]) -> std::process::Output {
    run(&[&["check", "--json", "--allow", "127.0.0.0/8"], args].concat())
}

/// Verdict, class and status of one check.
fn verdict(args: &[&str]) -> (String, Option<String>, u64) {
    let output = check(args);
    let object: Value = serde_json::from_str(&stdout(&output))
        .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    let word = |name: &str| object[name].as_str().map(str::to_owned);
    (
        word("verdict").expect("a verdict"),
        word("class"),
        object["status"].as_u64().unwrap_or_default(),
    )
}

#[test]
fn each_answer_of_nginx_has_its_verdict() {
    let nginx = Nginx::start();
    let up = |status| ("up".to_owned(), None, status);
    let down = |status| ("down".to_owned(), Some("http.status".to_owned()), status);
    for (path, expected) in [
        ("/", up(200)),
        ("/large.txt", up(200)),
        ("/chunked.shtml", up(200)),
        ("/empty", up(204)),
        ("/moved", up(200)),
        ("/absent", down(404)),
        ("/gone", down(410)),
        ("/down", down(503)),
    ] {
        for method in ["GET", "HEAD"] {
            let plain = nginx.http(path);
            assert_eq!(verdict(&[&plain, "--method", method]), expected, "{plain}");
            let (secure, ca) = (nginx.https(path), nginx.ca_file());
            let ca = ca.to_str().expect("a readable path");
            let args = [secure.as_str(), "--method", method, "--ca-file", ca];
            assert_eq!(verdict(&args), expected, "{secure}");
        }
    }
    let untrusted = verdict(&[&nginx.https("/")]);
    let class = Some("tls.untrusted".to_owned());
    assert_eq!(untrusted, ("down".to_owned(), class, 0));
    let mixed = check(&[&nginx.http("/"), &nginx.http("/down")]);
    assert_eq!(code(&mixed), 1, "the worst of both: {}", stdout(&mixed));
}

/// The objects of checks one after the other.
fn checks(urls: &[&str], options: &[&str]) -> Vec<Value> {
    let output = check(&[&["--max-in-flight", "1"], options, urls].concat());
    let objects = stdout(&output);
    let objects = objects
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"));
    objects.collect()
}

#[test]
fn nginx_answers_several_checks_over_one_connection_where_that_is_wanted() {
    let nginx = Nginx::start();
    let pages = ["/", "/large.txt", "/empty", "/absent", "/moved", "/"];
    let pages = pages.map(|path| nginx.http(path));
    let urls = pages.each_ref().map(String::as_str);
    // The body of an error is not read, nor that of a redirect: both close their connection.
    let kept = [false, true, true, true, false, true];
    for (options, kept) in [(&["--reuse", "by_address"][..], kept), (&[], [false; 6])] {
        let objects = checks(&urls, options);
        assert_eq!(objects.len(), urls.len());
        for (object, kept) in objects.iter().zip(kept) {
            let flags = object["evidence"]["flags"].as_array().expect("flags");
            assert_eq!(
                flags.contains(&"connection_reused".into()),
                kept,
                "{object}"
            );
            let is_absent = object["url"]
                .as_str()
                .is_some_and(|url| url.ends_with("/absent"));
            let class = is_absent.then_some("http.status");
            assert_eq!(object["class"].as_str(), class, "{object}");
            let phases = object["phases"].as_object().expect("phases");
            assert_eq!(phases.contains_key("connect_us"), !kept, "{object}");
            assert_eq!(object["address"], "127.0.0.1", "{object}");
        }
    }
}

#[test]
fn rules_look_into_the_compressed_pages_of_nginx() {
    let nginx = Nginx::start();
    let (page, chunked) = (nginx.http("/moved"), nginx.http("/chunked.shtml"));
    for (url, rule, class) in [
        (&page, ["--keyword", "<h1>hello</h1>"], None),
        (
            &page,
            ["--keyword", "goodbye"],
            Some("body.keyword_missing"),
        ),
        (&page, ["--forbidden", "hello"], Some("body.forbidden")),
        (&page, ["--redirect", "fail"], Some("redirect.refused")),
        (&chunked, ["--keyword", "chunk chunk"], None),
        (&chunked, ["--forbidden", "fatal error"], None),
        (
            &chunked,
            ["--forbidden", "chunk chunk"],
            Some("body.forbidden"),
        ),
    ] {
        let output = check(&[&[url.as_str()], &rule[..]].concat());
        let object: Value = serde_json::from_str(&stdout(&output)).expect("one JSON object");
        assert_eq!(object["class"].as_str(), class, "{url} {rule:?}: {object}");
        if url == &page && class != Some("redirect.refused") {
            let hop = &object["redirects"][0];
            assert_eq!(
                (&hop["url"], &hop["status"]),
                (&page.as_str().into(), &301.into())
            );
        }
    }
}

#[test]
fn a_node_sees_nginx_up_and_its_end_as_refused() {
    let nginx = Nginx::start();
    let folder = tempfile::tempdir().expect("a folder");
    let targets = folder.path().join("targets.csv");
    std::fs::write(&targets, format!("{},10\n", nginx.http("/"))).expect("written");
    let data = folder.path().join("data");
    let mut command = run_command(&data);
    command.arg("--targets").arg(&targets);
    let mut node = Node::start(command);
    node.wait_for("loaded");
    let count = |status: &Value, name: &str| status["verdicts"][name].as_u64().unwrap_or(0);
    status_until(&data, |status| count(status, "up") > 0);
    drop(nginx);
    let status = status_until(&data, |status| count(status, "down") > 0);
    assert!(
        status["failures"]["connect.refused"].as_u64() > Some(0),
        "{status}"
    );
}

#[test]
fn an_incident_shows_the_certificate_and_the_redirects_that_its_check_saw() {
    let nginx = Nginx::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (targets, data) = (
        folder.path().join("targets.csv"),
        folder.path().join("data"),
    );
    let round = nginx.http("/round");
    let urls = format!("https://127.0.0.1:{}/,10\n{round},10\n", nginx.expired);
    std::fs::write(&targets, urls).expect("written");
    let ca = nginx.ca_file();
    let more = [
        "--targets",
        text(&targets),
        "--ca-file",
        text(&ca),
        "--confirm-after",
        "1",
    ];
    let _node = Node::loaded(&data, &more);
    let events = |args: &[&str]| {
        let output = run(&[&["events"], args, &["--data-dir", text(&data)]].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stdout(&output)
    };
    let open = || {
        let listed = events(&["list", "--open", "--json"]);
        let parsed = listed.lines().map(serde_json::from_str::<Value>);
        parsed.collect::<Result<Vec<_>, _>>().expect("objects")
    };
    assert!(comes(|| open()
        .iter()
        .filter(|event| event["state"] == "Down")
        .count()
        == 2));
    let of_class = |class: &str| {
        let event = open().into_iter().find(|event| event["class"] == class);
        let event = event.unwrap_or_else(|| panic!("{class}: {:?}", open()));
        let told = events(&["show", event["id"].as_str().expect("an id")]);
        (event["transitions"][0].clone(), told)
    };
    let (opened, told) = of_class("tls.expired");
    // The first moment of 2021.
    assert_eq!(opened["tls"]["not_after_unix_s"], 1_609_459_200, "{opened}");
    let subjects = opened["tls"]["subjects"].as_array();
    assert!(subjects.is_some_and(|all| !all.is_empty()), "{opened}");
    assert_eq!(opened["redirects"], Value::Array(Vec::new()));
    assert!(told.contains("not_after_unix_s: 1609459200\n"), "{told}");
    let (opened, told) = of_class("redirect.loop");
    let first = &opened["redirects"][0];
    assert_eq!(
        (&first["url"], &first["status"]),
        (&round.as_str().into(), &302.into())
    );
    assert_eq!(opened["tls"], Value::Null);
    assert!(told.contains(&format!("url: {round}\n")), "{told}");
}
