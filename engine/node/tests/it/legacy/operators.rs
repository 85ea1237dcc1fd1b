//! What operators do with targets that are rows of an older system: the same as with our own, and
//! nothing of it is written into those rows.

use super::*;

/// Row 5 is up, 6 is down, 7 is no target, 8 is switched off.
fn with_rows() -> Bed<'static> {
    let bed = Bed::new("[legacy]\nload = true\nsweep_s = 86400\n");
    let (up, down) = (serve(OK), serve(UNAVAILABLE));
    bed.sql(&format!(
        "INSERT INTO jetpack_monitor_sites (jetpack_monitor_site_id, blog_id, bucket_no, \
         monitor_url, monitor_active, check_interval) VALUES (5, 7, 0, 'http://{up}/', 1, 240), \
         (6, 7, 0, 'http://{down}/', 1, 240), (7, 7, 0, 'no url', 1, 5), \
         (8, 7, 0, 'http://{up}/off', 0, 5)"
    ));
    bed
}

impl Bed<'_> {
    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(code(&output), 0, "{words:?}: {}", stderr(&output));
        stdout(&output)
    }

    #[track_caller]
    fn refuses(&self, words: &[&str], sentence: &str) {
        let output = self.run(words);
        assert_eq!(code(&output), USAGE, "{words:?}: {}", stderr(&output));
        assert_says(&output, sentence);
    }

    #[track_caller]
    fn shown(&self, id: &str) -> Value {
        let said = self.does(&["targets", "show", id, "--json"]);
        serde_json::from_str(&said).expect("an object")
    }

    fn open_events(&self) -> String {
        self.sql("SELECT endpoint_id FROM jetpack_monitor_events WHERE ended_at IS NULL")
    }
}

const ROWS: &str = "SELECT jetpack_monitor_site_id, monitor_active FROM jetpack_monitor_sites \
    ORDER BY 1";
const AS_THEY_WERE: &str = "5\t1\n6\t1\n7\t1\n8\t0";

#[test]
fn rows_are_paused_resumed_shown_and_checked_by_their_ids() {
    let bed = with_rows();
    let node = bed.node();
    let check = |id: &str| bed.run(&["targets", "check", id]);
    assert_eq!((code(&check("5")), code(&check("6"))), (0, 1));
    status_until(&bed.data_dir(), |_| bed.open_events() == "6");
    assert_eq!(bed.shown("6")["state"], "Down");

    for id in ["5", "6", "7"] {
        bed.does(&["targets", "pause", id]);
    }
    // Its incident ends as one that an operator ended.
    status_until(&bed.data_dir(), |_| bed.open_events().is_empty());
    let status = status_until(&bed.data_dir(), |status| status["targets"]["active"] == 0);
    // Nor is a paused row one that is refused.
    assert_eq!(
        (&status["states"]["paused"], &status["targets"]["refused"]),
        (&3.into(), &0.into()),
        "{status}"
    );
    let shown = bed.shown("6");
    assert_eq!(
        (&shown["state"], &shown["active"]),
        (&"Paused".into(), &false.into())
    );
    assert_eq!(code(&check("5")), USAGE);
    bed.refuses(&["targets", "pause", "5"], "the target 5 is paused already");
    bed.refuses(&["targets", "pause", "99"], "99");
    bed.refuses(&["targets", "resume", "8"], "the target 8 is not paused");
    // The counts of buckets agree with what is known, and a whole reading changes nothing.
    let answer = ask(&bed.data_dir(), r#"{"cmd":"reload"}"#);
    assert_eq!(answer["applied"]["upserted"], 0, "{answer}");
    assert_eq!(answer["applied"]["removed"], 0, "{answer}");
    assert_eq!(bed.sql(ROWS), AS_THEY_WERE);

    bed.does(&["targets", "resume", "5"]);
    assert_eq!(code(&check("5")), 0);
    assert_eq!(bed.shown("5")["state"], "Up");
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
}

/// Lesson: who was paused through the node and resumed on another machine, or the reverse, before
/// the node looked again, stayed as the node had it.
#[test]
fn opposite_switches_here_and_elsewhere_end_as_the_store_has_it() {
    let bed = with_rows();
    // On a machine without this node's data a command writes into the store alone.
    let (here, there) = (bed.data_dir(), bed.folder.path().join("there"));
    let config = fs::read_to_string(bed.config()).expect("a file");
    let file = bed.folder.path().join("elsewhere.toml");
    fs::write(&file, config.replace(text(&here), text(&there))).expect("written");
    let elsewhere = |word: &str, id: &str| {
        let output = run(&["targets", word, id, "--config", text(&file)]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    };
    elsewhere("pause", "6");
    let node = bed.node();
    let paused = |count: u64| move |status: &Value| status["states"]["paused"] == count;
    status_until(&here, paused(1));
    bed.does(&["targets", "resume", "6"]);
    // The node has the lease: what is open is its to close, once it sees the pause.
    assert_eq!(code(&bed.run(&["targets", "check", "6"])), 1);
    status_until(&here, |_| bed.open_events() == "6");
    elsewhere("pause", "6");
    status_until(&here, |_| bed.open_events().is_empty());
    bed.does(&["targets", "pause", "5"]);
    elsewhere("resume", "5");
    let watched = |id| ask(&here, &format!(r#"{{"cmd":"look","target":{id}}}"#))["watched"] == true;
    status_until(&here, |_| watched(5) && !watched(6));
    status_until(&here, paused(1));
    // And what somebody pauses who is nowhere near is paused.
    elsewhere("pause", "5");
    status_until(&here, |status| status["targets"]["active"] == 0);
    node.signal("TERM");
    let (exit, log) = node.end();
    assert_eq!(exit, 0, "{log}");
}

#[test]
fn a_window_of_one_row_or_of_its_blog_swallows_what_fails() {
    let bed = with_rows();
    let node = bed.node();
    let add = |scope: [&str; 2]| {
        bed.does(&[&["maintenance", "add"], &scope[..], &["--length", "2h"]].concat())
    };
    for scope in [["--target", "6"], ["--group", "7"]] {
        let added = add(scope);
        assert_eq!(bed.shown("6")["state"], "Maintenance", "{scope:?}");
        assert_eq!(code(&bed.run(&["targets", "check", "6"])), 1);
        assert_eq!(bed.open_events(), "", "{scope:?}");
        let listed = bed.does(&["maintenance", "list", "--target", "6"]);
        assert!(listed.contains(scope[1]), "{listed}");
        let number = added.split_once("window ").expect("a number").1;
        let number = number.split_once(',').expect("a number").0;
        bed.does(&["maintenance", "remove", number]);
    }
    assert_eq!(code(&bed.run(&["targets", "check", "6"])), 1);
    status_until(&bed.data_dir(), |_| bed.open_events() == "6");
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
}

#[test]
fn what_is_paused_while_no_node_runs_is_not_checked_by_the_next_one() {
    let bed = with_rows();
    let node = bed.node();
    assert_eq!(code(&bed.run(&["targets", "check", "6"])), 1);
    status_until(&bed.data_dir(), |_| bed.open_events() == "6");
    node.signal("TERM");
    assert_eq!(node.end().0, 0);

    bed.does(&["targets", "pause", "6"]);
    assert_eq!(bed.open_events(), "");
    assert_eq!(bed.shown("6")["state"], "Paused");
    let listed = bed.does(&["targets", "list", "--state", "paused", "--json"]);
    assert!(listed.contains(r#""id":6"#), "{listed}");
    let node = bed.node();
    let status = status_until(&bed.data_dir(), |status| status["states"]["paused"] == 1);
    assert_eq!(status["targets"]["active"], 1, "{status}");
    assert_eq!(code(&bed.run(&["targets", "check", "6"])), USAGE);
    assert_eq!(bed.sql(ROWS), AS_THEY_WERE);
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
    bed.does(&["targets", "resume", "6"]);
    let node = bed.node();
    assert_eq!(code(&bed.run(&["targets", "check", "6"])), 1);
    node.signal("TERM");
    assert_eq!(node.end().0, 0);
}
