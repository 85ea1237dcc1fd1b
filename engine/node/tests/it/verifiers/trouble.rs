//! Real verifiers beside a node that is in trouble itself: who is well is not blamed, what only the
//! node saw is a false alarm, what all see is down, and each decision has its votes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::honesty::uptime_s;
use crate::process::comes;
use crate::server::{Answer, serve_by};

/// Sites that are well all the time.
const WELL: usize = 60;

/// A node with two verifiers that see as another browser does, and what it watches.
struct Bed {
    dir: tempfile::TempDir,
    /// Off: one site is down, and another one says so to the node alone.
    is_up: Arc<AtomicBool>,
    node: Node,
    down: SocketAddr,
    only_for_us: SocketAddr,
    _services: [Service; 2],
}

impl Bed {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let flags = ["--allow", "127.0.0.0/8", "--user-agent", "elsewhere"];
        let services = ["oslo", "rome"].map(|vantage| {
            let line = format!("vantage = '{vantage}'");
            Service::start(&dir.path().join(vantage), &line, &flags)
        });
        let verifiers = [("oslo", &services[0]), ("rome", &services[1])];
        let verifiers = verifiers.map(|(vantage, it)| entry("http", it.address, vantage));
        let is_up = Arc::new(AtomicBool::new(true));
        let (down, only_for_us) = (serve_by(&is_up), down_but_for("elsewhere", &is_up));
        let Answer::Say(response) = OK else {
            panic!("it says something")
        };
        // Some checks are always under way, and over before a node that stood still goes on. Their
        // deadline leaves this process time to answer: a busy machine runs it late.
        let well = serve(Answer::SayAfter(Duration::from_millis(800), response));
        let sites = (0..WELL).map(|n| format!("{well}/{n}"));
        let sites = sites.chain([format!("{down}/"), format!("{only_for_us}/")]);
        let lines: Vec<String> = sites.map(|site| format!("http://{site},10,4500")).collect();
        let uncapped = ["--uncapped", "127.0.0.0/8"];
        let node = node_of(dir.path(), &lines, &verifiers, &uncapped);
        let bed = Self {
            dir,
            is_up,
            node,
            down,
            only_for_us,
            _services: services,
        };
        bed.status(|status| probed(status) >= 2 * lines.len() as u64);
        bed
    }

    fn status(&self, done: impl FnMut(&Value) -> bool) -> Value {
        status_until(&self.dir.path().join("d"), done)
    }

    fn stop_for(&self, seconds: f64, meanwhile: impl FnOnce()) {
        self.node.signal("STOP");
        let since = uptime_s();
        meanwhile();
        assert!(comes(|| uptime_s() >= since + seconds));
        self.node.signal("CONT");
    }

    /// The sites that have an incident, each with its events.
    fn blamed(&self) -> BTreeMap<String, Vec<Value>> {
        let mut blamed: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for event in events(self.dir.path()) {
            let url = event["url"].as_str().expect("a site").to_owned();
            blamed.entry(url).or_default().push(event);
        }
        blamed
    }
}

fn probed(status: &Value) -> u64 {
    status["fleet"]["probed"].as_u64().expect("a number")
}

/// What each vantage said, where the transition of `event` for `reason` was decided.
#[track_caller]
fn says(event: &Value, reason: &str) -> Vec<(String, String)> {
    let transitions = event["transitions"].as_array().expect("transitions");
    let decided = transitions.iter().find(|it| it["reason"] == reason);
    let votes = &decided.unwrap_or_else(|| panic!("{reason}: {event}"))["known"]["verifiers"];
    let results = votes["results"].as_array().expect("votes");
    let word = |vote: &Value, key: &str| vote[key].as_str().unwrap_or_default().to_owned();
    let mut said: Vec<_> = results
        .iter()
        .map(|vote| (word(vote, "vantage"), word(vote, "says")))
        .collect();
    said.sort_unstable();
    said
}

fn both(said: &str) -> Vec<(String, String)> {
    ["oslo", "rome"]
        .map(|vantage| (vantage.to_owned(), said.to_owned()))
        .into()
}

#[test]
fn after_a_node_stood_still_verifiers_tell_what_is_down_from_what_only_it_saw() {
    let mut bed = Bed::start();
    bed.stop_for(5.0, || bed.is_up.store(false, Ordering::SeqCst));
    bed.node.wait_for_doubts("stalled");
    let urls = [bed.down, bed.only_for_us].map(|site| format!("http://{site}/"));
    let [down, only_for_us] = &urls;
    let has = |key: &str, url: &String, value: &str| {
        let blamed = bed.blamed();
        let events = blamed.get(url);
        events.is_some_and(|events| events.iter().any(|event| event[key] == value))
    };
    // Twice more, with votes on both in the middle of it.
    bed.stop_for(5.0, || {});
    let before = probed(&bed.status(|_| true));
    bed.status(|status| {
        probed(status) >= before + 2 * WELL as u64
            && status["sink"]["apply_lag"] == 0
            && has("state", down, "Down")
            && has("resolution", only_for_us, "false_alarm")
    });
    let blamed = bed.blamed();
    let sites: Vec<&String> = blamed.keys().collect();
    let mut expected = vec![down, only_for_us];
    expected.sort_unstable();
    assert_eq!(sites, expected, "who is well has no incident");
    assert_eq!(blamed[down].len(), 1);
    assert_eq!(says(&blamed[down][0], "verifier_confirmed"), both("down"));
    let closed = blamed[only_for_us].iter();
    let closed = closed.filter(|event| event["resolution"] == "false_alarm");
    for event in closed {
        assert_eq!(says(event, "false_alarm"), both("up"));
    }
    let status = bed.status(|_| true);
    assert_eq!(
        (&status["targets"]["down"], &status["balanced"]),
        (&1.into(), &true.into())
    );
    // Well again, it is over as any other.
    bed.is_up.store(true, Ordering::SeqCst);
    bed.status(|_| has("resolution", down, "verifier_cleared"));
}
