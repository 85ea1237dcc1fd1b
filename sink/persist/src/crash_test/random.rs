//! Kills at random points and moments, one after the other on one directory, so that recoveries are
//! killed as well: at the end every target has the story of its checks, each transition once.
//! `cargo xtask crash` runs hundreds of them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use model::UnixMs;
use model::ids::splitmix64;

use super::life::{Lot, Node, fleet, note, noted, settle};
use super::place::{KILLS_OF_A_DIRECTORY, Kind};
use super::rows;
use super::wreck::{Wreck, tear};
use crate::failpoint::{POINTS, START_POINTS, VARIABLE};
use crate::testbed::{START, folder};

const TEST: &str =
    "crash_test::random::after_kills_anywhere_every_target_has_the_story_of_its_checks";
/// Enough that a kill finds a batch under way.
const FLEET: u32 = 1_000;
/// The directory of the process that dies.
const DIRECTORY: &str = "PERSIST_TEST_RANDOM_DIRECTORY";
/// Set for the last life, which ends by itself.
pub(super) const LAST: &str = "PERSIST_TEST_LAST_LIFE";
/// Number of this life: its clock is later than that of the one before.
const LIFE: &str = "PERSIST_TEST_LIFE";
/// How many kills, and the seed.
const KILLS: &str = "RINGWATCH_CRASH_KILLS";
const SEED: &str = "RINGWATCH_CRASH_SEED";

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

/// When a life starts.
pub(super) fn birth(life: u64) -> UnixMs {
    UnixMs(START.0 + life * 100_000_000)
}

/// Goes on with the waves from the first that was not noted as durable. Each is announced, for the
/// parent to kill this process at some time after it.
fn live(directory: &Path) {
    let mut node = Node::start(directory, birth(number(LIFE, 0)));
    let is_last = std::env::var_os(LAST).is_some();
    for wave in noted(directory) + 1.. {
        node.durable_wave(wave);
        note(directory, wave);
        println!("wave {wave}");
        if is_last && wave.is_multiple_of(4) {
            // A store that is far behind is not waited for at an end.
            node.flush();
            break;
        }
    }
    node.stop();
}

/// Where a life ends.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// At a named point, the n-th time.
    At(&'static str, u64),
    /// By a signal from outside, after so many waves.
    After(u64),
}

/// A small generator of its own: a seed gives the same kills with any release.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = splitmix64(self.0);
        self.0 % limit
    }

    fn death(&mut self) -> Death {
        if self.below(3) == 0 {
            return Death::After(1 + self.below(6));
        }
        let point = POINTS[self.below(POINTS.len() as u64) as usize];
        Death::At(point, 1 + self.below(4))
    }
}

pub(super) fn start(directory: &Path, life: u64, more: &[(&str, String)]) -> Child {
    let this = std::env::current_exe().expect("this test");
    let mut command = Command::new(this);
    command.args(["--exact", TEST, "--nocapture"]);
    command
        .env(DIRECTORY, directory)
        .env(LIFE, life.to_string());
    command.envs(more.iter().map(|(name, value)| (name, value)));
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::null());
    piped.spawn().expect("it starts")
}

/// Lives and dies.
fn die(directory: &Path, life: u64, death: Death) {
    let (more, waves) = match death {
        Death::At(point, nth) => (vec![(VARIABLE, format!("{point}:{nth}"))], u64::MAX),
        Death::After(waves) => (vec![], waves),
    };
    let mut child = start(directory, life, &more);
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let lines = out.lines().map_while(Result::ok);
    let mut announced = lines.filter(|line| line.contains("wave "));
    let mut seen = 0;
    while seen < waves && announced.next().is_some() {
        seen += 1;
    }
    // It is dead already when it died at its point.
    let _ = child.kill();
    let ended = child.wait().expect("it ends");
    let signal = std::os::unix::process::ExitStatusExt::signal(&ended);
    assert_eq!(signal, Some(9), "{death:?} in life {life}: {ended}");
}

/// Transitions that a target has at least and at most once so many waves are durable: one more may
/// be under way, and checks that were made again confirm earlier.
fn bounds(waves: u32) -> (usize, usize) {
    let whole = |waves: u32| waves as usize / 4 * 3;
    let at_least = whole(waves) + [0, 1, 1, 2][waves as usize % 4];
    let next = waves + 1;
    let at_most = whole(next) + if next.is_multiple_of(4) { 0 } else { 2 };
    (at_least, at_most)
}

/// Also says whether the store has facts beyond its position.
fn assert_wreck(directory: &Path, life: u64) -> bool {
    let wreck = Wreck::of(directory);
    wreck.assert_nothing_is_half_applied();
    let (at_least, at_most) = bounds(noted(directory));
    for (slot, found) in (0..).zip(wreck.assert_recovery(birth(life + 1))) {
        let lot = Lot::of(slot, FLEET);
        let is_told = matches!(lot, Lot::Fails(_));
        let bounds = if is_told { at_least..=at_most } else { 0..=0 };
        assert!(bounds.contains(&found), "{found} of {lot:?} in life {life}");
    }
    wreck.has_facts_ahead()
}

/// What the last life left: the story of each target that fails is one outage after the other, and
/// of the others there is none.
pub(super) fn assert_stories(directory: &Path) -> u64 {
    rows::assert_whole(directory);
    let outages = i64::from(noted(directory) / 4);
    let told = |&slot: &u32| matches!(Lot::of(slot, FLEET), Lot::Fails(_));
    let stories = (0..fleet(directory)).filter(told);
    let expected = stories.map(|slot| (1 + i64::from(slot), outages));
    assert_eq!(rows::whole_outages(directory), expected.collect());
    rows::transitions(directory).len() as u64
}

#[test]
fn after_kills_anywhere_every_target_has_the_story_of_its_checks() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        return live(Path::new(&directory));
    }
    kill_and_look(Kind::Sqlite);
}

#[test]
fn after_kills_anywhere_a_server_has_the_story_too() {
    kill_and_look(Kind::MariaDb);
}

/// What came of some kills.
#[derive(Default)]
struct Sum {
    torn: u64,
    /// Kills that left a half of an offer.
    ahead: u64,
    waves: u64,
    transitions: u64,
}

fn kill_and_look(kind: Kind) {
    let (kills, seed) = (number(KILLS, kind.kills()), number(SEED, 1));
    println!("seed {seed}");
    let (mut dice, mut sum, mut left) = (Dice(seed), Sum::default(), kills);
    while left > 0 {
        let together = left.min(KILLS_OF_A_DIRECTORY);
        kill_one_directory(kind, together, &mut dice, &mut sum);
        left -= together;
    }
    println!(
        "crash: {}, seed {seed}, {kills} kills at points and moments, {} torn ends (each cut while \
         killed again), {} with facts beyond the position, {} waves of {FLEET} checks, {} \
         transitions",
        kind.name(),
        sum.torn,
        sum.ahead,
        sum.waves,
        sum.transitions
    );
}

fn kill_one_directory(kind: Kind, kills: u64, dice: &mut Dice, sum: &mut Sum) {
    let dir = folder();
    let _database = kind.place(dir.path());
    settle(dir.path(), FLEET);
    for life in 0..kills {
        let death = dice.death();
        die(dir.path(), life, death);
        let is_unsynced = matches!(death, Death::At("append.after" | "sync.before", _));
        if is_unsynced && dice.below(2) == 0 && tear(dir.path(), dice.below(100) as f64 / 100.0) {
            sum.torn += 1;
            let point = START_POINTS[dice.below(2) as usize];
            die(dir.path(), life, Death::At(point, 1));
        }
        sum.ahead += u64::from(assert_wreck(dir.path(), life));
    }
    let last = start(dir.path(), kills, &[(LAST, "1".to_owned())]);
    let ended = last.wait_with_output().expect("it ends");
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stdout)
    );
    sum.transitions += assert_stories(dir.path());
    sum.waves += u64::from(noted(dir.path()));
}
