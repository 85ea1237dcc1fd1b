//! What operators do by the command line: windows, pauses, closing by hand, checks on demand,
//! following; beside a running node, and without one.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{
    Node, assert_says, code, comes, import, ringwatch, status_until, stderr, stdout, text,
};
use crate::server::serve_by;

/// A folder with a node's data, and a site that is up or not.
struct Bed {
    dir: TempDir,
    is_up: Arc<AtomicBool>,
    list: PathBuf,
}

impl Bed {
    /// Two targets of group 3, 1 and 2, that nobody checks unless asked.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let is_up = Arc::new(AtomicBool::new(false));
        let site = serve_by(&is_up);
        let list = dir.path().join("targets.csv");
        let rows = ["a", "b"].map(|path| format!("http://{site}/{path},86400,3\n"));
        let rows = rows.concat();
        fs::write(&list, format!("url,interval_s,group_id\n{rows}")).expect("written");
        let bed = Self { dir, is_up, list };
        assert_eq!(code(&import(&bed.list, &bed.data(), &[])), 0);
        bed
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("d")
    }

    fn node(&self) -> Node {
        Node::loaded(&self.data(), &["--confirm-after", "1"])
    }

    fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::SeqCst);
    }

    /// A command of the operator `ann`.
    fn ann(&self, args: &[&str]) -> Output {
        by_ann()
            .args(args)
            .args(["--data-dir", text(&self.data())])
            .output()
            .expect("it starts")
    }

    /// What such a command says, when it goes well.
    #[track_caller]
    fn does(&self, args: &[&str]) -> String {
        let output = self.ann(args);
        assert_eq!(code(&output), 0, "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let said = self.does(&[args, &["--json"][..]].concat());
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{args:?}: {said}"))
    }

    #[track_caller]
    fn refuses(&self, args: &[&str], sentence: &str) {
        let output = self.ann(args);
        assert_eq!(
            code(&output),
            2,
            "{args:?}: {}{}",
            stdout(&output),
            stderr(&output)
        );
        assert_says(&output, sentence);
    }

    fn open(&self) -> Vec<Value> {
        let listed = self.does(&["events", "list", "--open", "--json"]);
        let parsed = listed.lines().map(serde_json::from_str);
        parsed.collect::<Result<_, _>>().expect("objects")
    }

    /// Whether the store comes to hold `text`, such as a line of the audit log.
    fn notes(&self, text: &str) -> bool {
        let files = ["ringwatch.db", "ringwatch.db-wal"].map(|name| self.data().join(name));
        let holds = |file: &PathBuf| {
            let bytes = fs::read(file).unwrap_or_default();
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        comes(|| files.iter().any(holds))
    }
}

/// A command of the operator `ann`.
fn by_ann() -> Command {
    let mut command = ringwatch();
    command.env_remove("SUDO_USER").env("USER", "ann");
    command
}

fn id_of(event: &Value) -> String {
    event["id"].as_str().expect("a large id").to_owned()
}

#[test]
fn a_window_of_a_running_node_swallows_until_it_is_removed() {
    let bed = Bed::new();
    let _node = bed.node();
    let added = bed.does(&[
        "maintenance",
        "add",
        "--group",
        "3",
        "--length",
        "2h",
        "--reason",
        "disks",
    ]);
    assert!(added.starts_with("added: window 1, group 3, "), "{added}");
    let checked = bed.ann(&["targets", "check", "1"]);
    assert_eq!(code(&checked), 1, "{}", stderr(&checked));
    assert!(
        stdout(&checked).contains("http.status"),
        "{}",
        stdout(&checked)
    );
    assert_eq!(bed.open(), Vec::<Value>::new());
    assert_eq!(bed.json(&["targets", "show", "1"])["state"], "Maintenance");
    assert_eq!(
        bed.does(&["targets", "list", "--state", "maintenance", "--json"])
            .lines()
            .count(),
        2
    );
    let listed = bed.json(&["maintenance", "list"]);
    assert_eq!(
        (&listed["group_id"], &listed["active"]),
        (&3.into(), &true.into())
    );
    assert_eq!(
        (&listed["reason"], &listed["added_by"]),
        (&"disks".into(), &"ann".into())
    );
    let weekly = [
        "maintenance",
        "add",
        "--target",
        "2",
        "--weekly",
        "sun",
        "--at",
        "02:30",
    ];
    let zone = ["--length", "90m", "--zone", "Europe/Berlin"];
    let weekly = bed.does(&[&weekly[..], &zone].concat());
    assert!(
        weekly.contains("target 2, weekly sun 02:30 for 90 min, Europe/Berlin"),
        "{weekly}"
    );
    bed.does(&["maintenance", "remove", "1"]);
    assert_eq!(code(&bed.ann(&["targets", "check", "1"])), 1);
    assert!(comes(|| bed.open().len() == 1));
    let shown = bed.json(&["targets", "show", "1"]);
    assert_eq!(
        (&shown["state"], &shown["known"]),
        (&"Down".into(), &true.into())
    );
    assert!(shown["next_check_at_ms"].as_u64() > shown["last_checked_at_ms"].as_u64());
    assert_eq!(shown["open_events"][0]["state"], "Down");
    assert!(bed.notes("added by ann: window 1, group 3"));
    assert!(bed.notes("removed by ann: window 1, group 3"));
}

#[test]
fn windows_that_cannot_be_are_refused_with_and_without_a_node() {
    let bed = Bed::new();
    let refused = || {
        let add = |more: &[&str], sentence: &str| {
            bed.refuses(&[&["maintenance", "add"][..], more].concat(), sentence);
        };
        let span = |start, end| ["--all", "--start", start, "--end", end];
        let (one, two) = ("2027-01-02T01:00:00Z", "2027-01-02T02:00:00Z");
        add(&span(two, one), "accepted is an end after the start");
        add(&span(one, one), "accepted is an end after the start");
        add(
            &span(one, "2027-01-09T01:00:01Z"),
            "at most 7 days after the start",
        );
        add(&["--length", "2h"], "for whom is the window?");
        let weekly = [
            "--all", "--weekly", "sun", "--at", "02:00", "--length", "2h", "--zone",
        ];
        add(
            &[&weekly[..], &["Europe/Berlni"]].concat(),
            "did you mean `Europe/Berlin`?",
        );
        bed.refuses(
            &["maintenance", "remove", "77"],
            "no maintenance window has the number 77",
        );
        bed.refuses(
            &["maintenance", "list", "--target", "77"],
            "no target has the id 77",
        );
        bed.refuses(&["targets", "show", "77"], "no target has the id 77");
        bed.refuses(&["targets", "pause", "77"], "no target has the id 77");
        bed.refuses(
            &["targets", "pause", "-1"],
            "accepted is the id of a target",
        );
        bed.refuses(&["targets", "resume", "1"], "the target 1 is not paused");
        bed.refuses(
            &["targets", "list", "--state", "dwon"],
            "did you mean `down`?",
        );
        bed.refuses(
            &["targets", "list", "--state", "unknown"],
            "memory of a running node",
        );
        bed.refuses(&["events", "show", "77"], "no incident has the id 77");
        bed.refuses(
            &["events", "close", "77", "--reason", "x"],
            "no incident has the id 77",
        );
        bed.refuses(&["events", "close", "77", "--reason", " "], "reason: found");
    };
    refused();
    let _node = bed.node();
    refused();
    bed.refuses(
        &["targets", "check", "77"],
        "no active target has the id 77",
    );
    assert_eq!(bed.does(&["maintenance", "list"]), "");
}

#[test]
fn an_incident_is_closed_by_hand_once_and_a_check_on_demand_clears_the_next() {
    let bed = Bed::new();
    let _node = bed.node();
    bed.ann(&["targets", "check", "1"]);
    assert!(comes(|| bed.open().len() == 1));
    let id = id_of(&bed.open()[0]);
    let closed = bed.does(&["events", "close", &id, "--reason", "known"]);
    assert!(
        closed.contains("the target 1 is up until a check fails"),
        "{closed}"
    );
    bed.refuses(
        &["events", "close", &id, "--reason", "known"],
        "ErrEventClosed",
    );
    let shown = bed.json(&["events", "show", &id]);
    let last = shown["transitions"]
        .as_array()
        .and_then(|all| all.last())
        .expect("transitions");
    assert_eq!(
        (&last["reason"], &last["source"]),
        (&"manual_override".into(), &"ann".into())
    );
    let told = bed.does(&["events", "show", &id]);
    for part in [
        "reason: opened",
        "class: http.status",
        "evidence:",
        "source: ann",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(bed.json(&["targets", "show", "1"])["state"], "Up");
    assert!(bed.notes(&format!("incident {id} of target 1 by ann: known")));
    // It fails still: the next check opens another one, and a success on demand closes that.
    bed.ann(&["targets", "check", "1"]);
    assert!(comes(|| bed.open().len() == 1));
    let next = id_of(&bed.open()[0]);
    assert_ne!(next, id);
    bed.set_up(true);
    let checked = bed.json(&["targets", "check", "1"]);
    assert_eq!(
        (&checked["verdict"], &checked["state"]),
        (&"up".into(), &"Up".into())
    );
    assert!(comes(|| bed.open().is_empty()));
    assert_eq!(
        bed.json(&["events", "show", &next])["resolution"],
        "probe_cleared"
    );
}

#[test]
fn a_paused_target_stays_paused_over_restarts_and_imports() {
    let bed = Bed::new();
    let node = bed.node();
    bed.ann(&["targets", "check", "1"]);
    assert!(comes(|| bed.open().len() == 1));
    let id = id_of(&bed.open()[0]);
    bed.does(&["targets", "pause", "1"]);
    assert_eq!(bed.open(), Vec::<Value>::new());
    let shown = bed.json(&["events", "show", &id]);
    assert_eq!(shown["resolution"], "manual_override");
    let last = shown["transitions"]
        .as_array()
        .and_then(|all| all.last())
        .expect("transitions");
    assert_eq!(last["source"], "ann");
    bed.refuses(&["targets", "pause", "1"], "the target 1 is paused already");
    bed.refuses(&["targets", "check", "1"], "no active target has the id 1");
    let status = status_until(&bed.data(), |status| status["states"]["paused"] == 1);
    assert_eq!(status["targets"]["active"], 1);
    drop(node);
    assert_eq!(code(&import(&bed.list, &bed.data(), &[])), 0);
    let node = bed.node();
    status_until(&bed.data(), |status| {
        status["targets"]["active"] == 1 && status["states"]["paused"] == 1
    });
    let shown = bed.json(&["targets", "show", "1"]);
    assert_eq!(
        (&shown["state"], &shown["paused"]["by"]),
        (&"Paused".into(), &"ann".into())
    );
    assert_eq!(
        bed.does(&["targets", "list", "--state", "paused", "--json"])
            .lines()
            .count(),
        1
    );
    bed.does(&["targets", "resume", "1"]);
    let status = status_until(&bed.data(), |status| status["targets"]["active"] == 2);
    assert_eq!(status["states"]["paused"], 0);
    assert_eq!(bed.json(&["targets", "show", "1"])["state"], "Up");
    assert!(bed.notes("resumeringwatch:"));
    drop(node);
}

#[test]
fn without_a_node_the_store_is_changed_under_its_lock_and_the_next_node_finds_it_so() {
    let bed = Bed::new();
    let node = bed.node();
    for id in ["1", "2"] {
        bed.ann(&["targets", "check", id]);
    }
    assert!(comes(|| bed.open().len() == 2));
    node.kill();
    let of = |open: &[Value], target: i64| {
        let found = open.iter().find(|event| event["target"] == target);
        id_of(found.expect("an event"))
    };
    let open = bed.open();
    let (first, second) = (of(&open, 1), of(&open, 2));
    bed.does(&["targets", "pause", "1"]);
    bed.does(&["events", "close", &second, "--reason", "known"]);
    bed.refuses(
        &["events", "close", &second, "--reason", "known"],
        "ErrEventClosed",
    );
    assert_eq!(bed.open(), Vec::<Value>::new());
    for id in [first, second] {
        let shown = bed.json(&["events", "show", &id]);
        let last = shown["transitions"].as_array().and_then(|all| all.last());
        assert_eq!(
            last.map(|last| &last["source"]),
            Some(&"ann".into()),
            "{shown}"
        );
    }
    bed.does(&["maintenance", "add", "--all", "--length", "2h"]);
    assert!(bed.notes("added by ann: window 1, all"));
    let _node = bed.node();
    assert_eq!(code(&bed.ann(&["targets", "check", "2"])), 1);
    assert_eq!(bed.json(&["targets", "show", "2"])["state"], "Maintenance");
    assert_eq!(bed.open(), Vec::<Value>::new());
    status_until(&bed.data(), |status| status["targets"]["active"] == 1);
}

/// A command that follows, and what it has said so far.
struct Following {
    child: Child,
    stderr: Option<ChildStderr>,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Following {
    fn start(bed: &Bed, more: &[&str]) -> Self {
        let mut command = by_ann();
        command.args([
            "events",
            "follow",
            "--json",
            "--data-dir",
            text(&bed.data()),
        ]);
        command
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stderr = child.stderr.take().expect("a pipe");
        // It says so once it listens to signals and knows what was there before.
        let (mut said, mut byte) = (Vec::new(), [0]);
        while !said.ends_with(b"\n") && stderr.read(&mut byte).expect("readable") > 0 {
            said.push(byte[0]);
        }
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("following: "), "{said}");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self {
            child,
            stderr: Some(stderr),
            lines,
        }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("a line").expect("text");
        serde_json::from_str(&line).expect("an object")
    }

    /// Ctrl-C; what it says at its end.
    fn interrupt(mut self) -> String {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "INT", &pid]).status();
        assert!(sent.expect("kill runs").success());
        let mut said = String::new();
        let mut stderr = self.stderr.take().expect("once");
        stderr.read_to_string(&mut said).expect("text");
        assert_eq!(self.child.wait().expect("ours").code(), Some(0), "{said}");
        said
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // One that ended needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn transitions_are_followed_over_the_end_of_a_node_and_gone_on_with_after_an_id() {
    let bed = Bed::new();
    let node = bed.node();
    bed.ann(&["targets", "check", "2"]);
    assert!(comes(|| bed.open().len() == 1));
    let mut following = Following::start(&bed, &[]);
    bed.ann(&["targets", "check", "1"]);
    let opened = following.next();
    assert_eq!(
        (&opened["target"], &opened["reason"]),
        (&1.into(), &"opened".into())
    );
    assert_eq!(opened["class"], "http.status");
    let confirmed = following.next();
    assert_eq!(confirmed["after"], "Down", "{confirmed}");
    node.kill();
    let _node = bed.node();
    bed.set_up(true);
    bed.ann(&["targets", "check", "1"]);
    let cleared = following.next();
    assert_eq!(
        (&cleared["after"], &cleared["event"]),
        (&"Resolved".into(), &opened["event"])
    );
    let said = following.interrupt();
    let last = id_of(&cleared);
    assert!(
        said.contains(&format!("go on from here with --after {last}")),
        "{said}"
    );
    let mut again = Following::start(&bed, &["--after", &id_of(&opened)]);
    assert_eq!(again.next()["id"], confirmed["id"]);
    assert_eq!(again.next()["id"], cleared["id"]);
    again.interrupt();
    assert_says(
        &bed.ann(&["events", "follow", "--after", "-5"]),
        "EVENT-ID: found -5",
    );
}

#[test]
fn the_status_says_who_the_node_is_and_how_its_fleet_is() {
    let bed = Bed::new();
    let _node = bed.node();
    bed.ann(&["targets", "check", "1"]);
    let status = status_until(&bed.data(), |status| status["states"]["down"] == 1);
    assert_eq!(status["states"]["up"], 1);
    let identity = &status["identity"];
    assert_eq!(identity["boot_id"].as_str().map(str::len), Some(36));
    assert!(identity["epoch"].as_u64() >= Some(1), "{identity}");
    for key in ["node_id", "version", "driver"] {
        assert!(
            identity[key].as_str().is_some_and(|text| !text.is_empty()),
            "{key}"
        );
    }
    assert_eq!(status["pressure"]["stance"], "clear");
    let told = bed.does(&["status"]);
    assert!(told.contains("\nstates    1 up, 1 down\n"), "{told}");
    assert!(told.contains("\npressure  "), "{told}");
}
