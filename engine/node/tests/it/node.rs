//! A whole node: loads, probes, answers, follows changes, drains, survives `kill -9`.

use std::fs;
use std::path::Path;

use crate::guide;
use crate::process::{
    Node, ask, assert_says, code, get, import, listed, run, run_command, status_until, stderr,
    stdout, text,
};
use crate::server::{OK, UNAVAILABLE, serve};

fn list(dir: &Path, lines: &[String]) -> std::path::PathBuf {
    let path = dir.join("targets.csv");
    fs::write(&path, lines.join("\n")).expect("written");
    path
}

#[test]
fn a_node_probes_its_list_balances_and_drains() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let up = serve(OK);
    let lines: Vec<String> = (0..50).map(|n| format!("http://{up}/{n},10")).collect();
    let targets = list(dir.path(), &lines);
    let options = ["--targets", text(&targets), "--histogram-interval-s", "1"];
    let mut node = Node::loaded(&data, &options);
    let status = status_until(&data, |s| {
        s["fleet"]["drained"].as_u64() >= Some(50) && s["lag_us"]["count"].as_u64() >= Some(50)
    });
    assert_eq!(status["balanced"], true, "{status}");
    let fleet = |name: &str| status["fleet"][name].as_u64().expect("a number");
    assert_eq!(fleet("probed"), fleet("held") + fleet("sent"), "{status}");
    assert!(
        fleet("sent") <= fleet("drained") + fleet("queued"),
        "{status}"
    );
    assert_eq!(
        (&status["targets"]["active"], &status["state"]),
        (&50.into(), &"running".into())
    );
    assert_eq!(status["pid"], node.pid());
    let admin = status["admin"].as_str().expect("an address");
    let (line, metrics) = get(admin, "/metrics");
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert!(
        metrics.contains("ringwatch_targets{state=\"active\"} 50\n"),
        "{metrics}"
    );
    let (line, health) = get(admin, "/healthz");
    assert_eq!(
        (line.as_str(), health.contains("\"ok\"")),
        ("HTTP/1.1 200 OK", true),
        "{health}"
    );
    let shown = run(&["status", "--data-dir", text(&data)]);
    assert!(
        stdout(&shown).contains("accounts  balance"),
        "{}{}",
        stdout(&shown),
        stderr(&shown)
    );
    node.signal("TERM");
    node.wait_for("SIGTERM: draining");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
    assert!(
        log.contains("every result of the probe cores reached the sink"),
        "{log}"
    );
    assert!(!data.join("ringwatch.sock").exists());
    let report = run(&["report", text(&data), "--out", text(dir.path())]);
    assert_eq!(code(&report), 0, "{}", stderr(&report));
    assert!(stdout(&report).contains("\ntotal ") && stdout(&report).contains("\nschedule_lag "));
    // Without --out they go into the directory that was named.
    let report = run(&["report", text(&data)]);
    assert_eq!(code(&report), 0, "{}", stderr(&report));
    for file in ["percentiles.svg", "lag.svg", "report.md"] {
        assert!(dir.path().join(file).exists(), "{file}");
        assert!(data.join(file).exists(), "{file}");
        assert!(!data.join("hdr").join(file).exists(), "{file}");
    }
}

#[test]
fn a_node_serves_every_metric_that_the_guide_names() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let lines = [
        format!("http://{}/,10", serve(OK)),
        format!("http://{}/,10", serve(UNAVAILABLE)),
    ];
    let targets = list(dir.path(), &lines);
    let options = ["--targets", text(&targets), "--histogram-interval-s", "1"];
    let node = Node::loaded(&data, &options);
    let mut page = String::new();
    status_until(&data, |status| {
        page = get(status["admin"].as_str().expect("an address"), "/metrics").1;
        // The sink tells the ages only after its first answer.
        let has_ages = page.contains("ringwatch_freshness_age_seconds{");
        has_ages && status["lag_us"]["count"].as_u64() >= Some(2)
    });
    guide::assert_served(&page);
    let failed = "ringwatch_failures_total{core=\"0\",class=\"http.status\"} ";
    let count = page.lines().find_map(|line| line.strip_prefix(failed));
    assert!(count.is_some_and(|count| count != "0"), "{page}");
    drop(node);
}

#[test]
fn a_fleet_that_the_guard_refuses_does_not_look_healthy() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    // A private address that no test may reach: the guard refuses it before anything is sent.
    let targets = list(dir.path(), &["http://10.255.255.1/,10".into()]);
    let mut node = Node::loaded(&data, &["--targets", text(&targets)]);
    let line = node.wait_for("refused by the safety guard: add --allow CIDR");
    assert!(line.contains("WARN"), "{line}");
    status_until(&data, |status| {
        status["failures"]["safety.blocked"].as_u64() >= Some(1)
    });
    let shown = stdout(&run(&["status", "--data-dir", text(&data)]));
    let verdicts = shown.lines().find(|line| line.starts_with("verdicts "));
    let verdicts = verdicts.unwrap_or_else(|| panic!("{shown}"));
    assert!(
        verdicts.contains("0 up, 0 degraded, 0 down, "),
        "{verdicts}"
    );
    assert!(
        verdicts.contains(" unknown; most often ") && verdicts.ends_with(" safety.blocked"),
        "{verdicts}"
    );
}

#[test]
fn an_incident_is_listed_while_the_node_runs_and_after_a_kill() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let targets = list(dir.path(), &[format!("http://{}/,10", serve(UNAVAILABLE))]);
    let node = Node::loaded(
        &data,
        &["--targets", text(&targets), "--confirm-after", "1"],
    );
    status_until(&data, |status| {
        status["targets"]["down"] == 1 && status["sink"]["apply_lag"] == 0
    });
    let listed = || {
        let output = run(&[
            "events",
            "list",
            "--open",
            "--json",
            "--data-dir",
            text(&data),
        ]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        serde_json::from_str::<serde_json::Value>(&stdout(&output)).expect("one event")
    };
    let event = listed();
    assert_eq!(
        (&event["state"], &event["class"]),
        (&"Down".into(), &"http.status".into())
    );
    assert!(
        event["url"]
            .as_str()
            .is_some_and(|url| url.starts_with("http://127.0.0.1:"))
    );
    assert!(
        event["transitions"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    );
    node.kill();
    assert_eq!(listed()["id"], event["id"]);
    let again = Node::loaded(&data, &[]);
    status_until(&data, |status| {
        status["targets"]["down"] == 1 && status["targets"]["active"] == 1
    });
    assert_eq!(listed()["id"], event["id"]);
    again.signal("INT");
    assert_eq!(again.end().0, 0);
}

#[test]
fn a_listing_of_incidents_has_a_default_limit_and_says_when_it_is_empty_or_cut() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let events = |more: &[&str]| {
        let args = ["events", "list", "--data-dir", text(&data)];
        run(&[&args[..], more].concat())
    };
    let down = serve(UNAVAILABLE);
    let lines = ["a", "b"].map(|path| format!("http://{down}/{path},10"));
    let targets = list(dir.path(), &lines);
    assert_eq!(code(&import(&targets, &data, &[])), 0);
    let none = events(&[]);
    assert_eq!((code(&none), stdout(&none)), (0, String::new()));
    assert_eq!(stderr(&none), "ringwatch: no incident\n");
    let node = Node::loaded(&data, &["--confirm-after", "1"]);
    status_until(&data, |status| {
        status["targets"]["down"] == 2 && status["sink"]["apply_lag"] == 0
    });
    for all in [&["--limit", "0"][..], &["--limit", "2"], &[]] {
        let output = events(all);
        assert_eq!(stdout(&output).lines().count(), 2, "{all:?}");
        assert_eq!(stderr(&output), "");
    }
    let cut = events(&["--limit", "1"]);
    assert_eq!((code(&cut), stdout(&cut).lines().count()), (0, 1));
    assert_says(&cut, "there are more than the newest 1 listed here");
    let negative = events(&["--limit", "-1"]);
    assert_eq!(code(&negative), 2);
    assert_says(&negative, "--limit: found -1, accepted is a number from 1");
    drop(node);
}

#[test]
fn an_incident_of_a_target_that_was_switched_off_while_the_node_was_stopped_ends() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let up = serve(OK);
    let both = [
        format!("http://{}/,10", serve(UNAVAILABLE)),
        format!("http://{up}/,10"),
    ];
    let targets = list(dir.path(), &both);
    let node = Node::loaded(&data, &["--targets", text(&targets)]);
    status_until(&data, |status| {
        status["targets"]["seems_down"].as_u64().unwrap_or(0)
            + status["targets"]["down"].as_u64().unwrap_or(0)
            == 1
    });
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
    let events = |more: &[&str]| {
        let mut args = vec!["events", "list", "--json", "--data-dir", text(&data)];
        args.extend(more);
        let output = run(&args);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(events(&["--open"]).lines().count(), 1);
    list(dir.path(), &both[1..]);
    let pruned = import(&targets, &data, &["--prune"]);
    assert_eq!(code(&pruned), 0, "{}", stderr(&pruned));
    assert_eq!(events(&["--open"]).lines().count(), 1, "no node ran");

    let mut again = Node::loaded(&data, &[]);
    again.signal("TERM");
    again.wait_for("SIGTERM: draining");
    let (exit, log) = again.end();
    assert_eq!(exit, 0, "{log}");
    assert_eq!(events(&["--open"]), "");
    let event: serde_json::Value = serde_json::from_str(&events(&[])).expect("one event");
    assert_eq!(event["resolution"], "manual_override", "{event}");
    let last = event["transitions"].as_array().and_then(|all| all.last());
    assert_eq!(
        last.map(|closing| (&closing["after"], &closing["reason"])),
        Some((&"Resolved".into(), &"manual_override".into()))
    );
}

#[test]
fn a_node_that_loses_facts_at_its_end_says_so_and_exits_with_1() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let node = Node::loaded(&data, &[]);
    fs::remove_dir_all(data.join("journal")).expect("removed");
    let targets = list(dir.path(), &[format!("http://{}/,10", serve(UNAVAILABLE))]);
    assert_eq!(code(&import(&targets, &data, &[])), 0);
    status_until(&data, |status| status["sink"]["journal_alarm"] == 1);
    let drained = run(&["drain", "--data-dir", text(&data)]);
    assert_eq!(code(&drained), 1, "{}", stdout(&drained));
    assert_says(&drained, "stopped with an error: ");
    assert_says(&drained, "1 facts are lost");
    let (exit, log) = node.end();
    assert_eq!(exit, 1, "{log}");
    assert!(log.contains("1 facts are lost"), "{log}");
    assert!(!log.contains("goes on from the journal"), "{log}");
}

#[test]
fn imports_and_reloads_touch_what_changed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let up = serve(OK);
    let two = [format!("http://{up}/a,3600"), format!("http://{up}/b,3600")];
    let targets = list(dir.path(), &two);
    let node = Node::loaded(&data, &["--targets", text(&targets), "--prune"]);
    let more = dir.path().join("more.csv");
    fs::write(&more, format!("http://{up}/c,3600\nbad\n")).expect("written");
    let imported = import(&more, &data, &[]);
    assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    assert_says(&imported, "more.csv:2: url: found \"bad\"");
    let status = status_until(&data, |status| status["targets"]["active"] == 3);
    assert_eq!(status["targets"]["refused"], 1);
    // The file now names one old and one new target; --prune switches off the other two.
    list(dir.path(), &[two[0].clone(), format!("http://{up}/d,3600")]);
    let reload = run(&["reload", "--data-dir", text(&data)]);
    assert_eq!(code(&reload), 0, "{}", stderr(&reload));
    assert!(
        stdout(&reload).contains("1 inserted"),
        "{}",
        stdout(&reload)
    );
    let status = status_until(&data, |status| status["targets"]["active"] == 2);
    assert_eq!(status["targets"]["refused"], 0, "the last list is good");
    let admin = status["admin"].as_str().expect("an address");
    let (_, page) = get(admin, "/metrics");
    assert!(
        page.contains("ringwatch_targets_refused_total{} 1\n"),
        "{page}"
    );
    drop(node);
}

#[test]
fn a_bad_reload_keeps_what_is_loaded_and_says_why() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let config = dir.path().join("c.toml");
    let targets = list(dir.path(), &[format!("http://{}/,3600", serve(OK))]);
    let good = format!("targets = '{}'\ndrain_s = 5\n", targets.display());
    fs::write(&config, &good).expect("written");
    let mut node = Node::loaded(&data, &["--config", text(&config)]);
    fs::write(&config, "drains = 5\n").expect("written");
    node.signal("HUP");
    let line = node.wait_for("reload refused, the old configuration goes on");
    assert!(line.contains("did you mean `drain_s`?"), "{line}");
    status_until(&data, |status| status["targets"]["active"] == 1);
    fs::write(&config, format!("{good}confirm_after = 5\n")).expect("written");
    let answer = ask(&data, r#"{"cmd":"reload"}"#);
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(
        answer["needs_restart"],
        serde_json::json!(["confirm_after"])
    );
}

#[test]
fn a_node_pauses_resumes_and_checks_on_demand() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let targets = list(dir.path(), &[format!("http://{}/,86400", serve(OK))]);
    let node = Node::loaded(&data, &["--targets", text(&targets)]);
    let target: serde_json::Value = serde_json::from_str(&listed(&data)).expect("one target");
    assert_eq!(ask(&data, r#"{"cmd":"pause","on":true}"#)["ok"], true);
    assert_eq!(ask(&data, r#"{"cmd":"status"}"#)["state"], "paused");
    assert_eq!(ask(&data, r#"{"cmd":"pause","on":false}"#)["ok"], true);
    let trigger = format!(r#"{{"cmd":"trigger","target":{}}}"#, target["id"]);
    assert_eq!(ask(&data, &trigger)["ok"], true);
    status_until(&data, |status| {
        status["fleet"]["drained"].as_u64() >= Some(1)
    });
    let unknown = ask(&data, r#"{"cmd":"trigger","target":"123456"}"#);
    assert_eq!(unknown["error"], "no active target has the id 123456");
    let drain = run(&["drain", "--data-dir", text(&data)]);
    assert_eq!(code(&drain), 0, "{}", stderr(&drain));
    assert!(stdout(&drain).starts_with("drained: the node (pid "));
    assert_eq!(node.end().0, 0);
}

#[test]
fn an_import_into_another_store_than_the_nodes_is_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d");
    let targets = list(dir.path(), &["http://127.0.0.1:9/".to_owned()]);
    let _node = Node::loaded(&data, &[]);
    let other = format!("sqlite:{}", dir.path().join("other.db").display());
    let output = import(&targets, &data, &["--store", &other]);
    assert_eq!(code(&output), 2);
    assert_says(&output, "keeps its targets in sqlite:");
}

#[test]
fn a_list_with_a_bad_line_stops_a_strict_start() {
    let dir = tempfile::tempdir().expect("temp dir");
    let targets = list(dir.path(), &["http://a.example/".into(), "nope".into()]);
    let mut command = run_command(&dir.path().join("d"));
    command.args(["--targets", text(&targets), "--strict"]);
    let output = command.output().expect("ringwatch starts");
    assert_eq!(code(&output), 2, "{}", stderr(&output));
    assert_says(&output, "targets.csv:2: url: found \"nope\"");
}
