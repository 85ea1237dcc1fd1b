//! The sink is killed, as by `kill -9`, at every point of a batch's way to the store, and anywhere
//! else, again and again: these tests start themselves again as the process that dies.

mod halves;
mod life;
mod place;
mod random;
mod rows;
mod wreck;

use std::path::Path;
use std::process::Command;

use model::UnixMs;
use store::Store;

use crate::failpoint::{POINTS, START_POINTS, VARIABLE};
use crate::testbed::{START, folder};
use life::{Node, TARGETS, events, note, noted, now, open, whole_chain};
use wreck::{Wreck, tear};

const DIRECTORY: &str = "PERSIST_TEST_DIRECTORY";
const WAVES: u32 = 12;

/// Transitions and fail count of a target's newest event, after so many waves.
fn expected(waves: u32) -> (usize, u32) {
    let (outages, into) = (waves as usize / 4 * 3, waves % 4);
    match into {
        0 if waves == 0 => (0, 0),
        0 => (outages, 3),
        1 => (outages + 1, 1),
        2 => (outages + 1, 2),
        _ => (outages + 2, 3),
    }
}

/// The same of what is in the store, whose rows must also fit each other.
fn found(store: &Store, id: i64) -> (usize, u32) {
    let events = events(store, id);
    let open = events.iter().filter(|event| event.ended_at.is_none());
    assert!(open.count() <= 1);
    let transitions = events.iter().map(|event| whole_chain(store, event)).sum();
    let newest = events.iter().max_by_key(|event| event.id);
    (transitions, newest.map_or(0, |event| event.fail_count))
}

fn live_until_killed(directory: &Path) {
    let mut node = Node::start(directory, START);
    for wave in noted(directory) + 1..=WAVES {
        node.wave(wave);
        note(directory, wave);
    }
    node.stop();
    panic!("nothing killed this process");
}

/// Dies at `point`, the `nth` time; returns how many waves the store was said to have.
fn die(directory: &Path, point: &str, nth: u32) -> u32 {
    let this = std::env::current_exe().expect("this test");
    let status = Command::new(this)
        .args([
            "--exact",
            "crash_test::a_kill_at_any_point_leaves_each_fact_whole_and_once",
        ])
        .env(DIRECTORY, directory)
        .env(VARIABLE, format!("{point}:{nth}"))
        .output()
        .expect("it starts");
    let signal = std::os::unix::process::ExitStatusExt::signal(&status.status);
    assert_eq!(
        signal,
        Some(9),
        "{point}:{nth} {}",
        String::from_utf8_lossy(&status.stdout)
    );
    noted(directory)
}

/// What is there after a kill at `point`: all or nothing of the wave that was under way, by what
/// is durable at that point.
fn recover(directory: &Path, point: &str, waves: u32) {
    let wreck = Wreck::of(directory);
    wreck.assert_nothing_is_half_applied();
    let at = UnixMs(START.0 + 100_000_000);
    wreck.assert_recovery(at);

    let mut node = Node::start(directory, at);
    node.flush();
    let store = open(directory);
    let mut ahead = 0;
    for id in 1..=i64::from(TARGETS) {
        let found = found(&store, id);
        assert!(
            [expected(waves), expected(waves + 1)].contains(&found),
            "{point}: {found:?}"
        );
        ahead += u32::from(found == expected(waves + 1));
    }
    let number = POINTS.iter().position(|&name| name == point);
    let is_from = |name: &str| number >= POINTS.iter().position(|&other| other == name);
    // The acknowledgement of a wave comes after all of it was applied.
    let is_until_applied = !is_from("acknowledge.after");
    assert!(is_from("append.after") || ahead < TARGETS, "{point}");
    assert!(
        !(is_from("append.after") && is_until_applied) || ahead > 0,
        "{point}: a written batch was lost"
    );
    let counts = now(store.counts()).expect("counts");
    assert_eq!(counts.jobs, counts.transitions);

    // Life goes on: an outage and its end for everyone, whatever was open.
    (1..=4).for_each(|wave| node.wave(wave));
    node.stop();
    for id in 1..=i64::from(TARGETS) {
        let events = events(&store, id);
        assert!(events.iter().all(|event| event.ended_at.is_some()));
        for event in &events {
            assert!(whole_chain(&store, event) >= 2);
        }
    }
    let counts = now(store.counts()).expect("counts");
    assert_eq!((counts.jobs, counts.open_events), (counts.transitions, 0));
}

#[test]
fn a_kill_at_any_point_leaves_each_fact_whole_and_once() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return live_until_killed(Path::new(&directory));
    }
    for point in POINTS {
        for nth in [1, 4] {
            let dir = folder();
            let waves = die(dir.path(), point, nth);
            recover(dir.path(), point, waves);
        }
    }
}

#[test]
fn a_kill_while_a_torn_end_is_cut_off_loses_the_torn_batch_and_nothing_else() {
    for point in START_POINTS {
        let dir = folder();
        let waves = die(dir.path(), "sync.before", 3);
        let whole = Wreck::of(dir.path()).kept();
        assert!(tear(dir.path(), 0.5));
        let torn = Wreck::of(dir.path()).kept();
        assert!(torn.is_subset(&whole) && torn.len() < whole.len());
        assert_eq!(die(dir.path(), point, 1), waves);
        assert_eq!(Wreck::of(dir.path()).kept(), torn, "{point}");
        recover(dir.path(), "append.before", waves);
    }
}
