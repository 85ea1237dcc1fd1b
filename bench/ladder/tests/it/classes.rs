//! Plays the table: real programs, real sockets, loopback only.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use model::FailureClass;
use model::limits::{TIMEOUT_DEFAULT_MS, TIMEOUT_MAX_MS};
use rig::places::Closed;
use serde_json::Value;

use crate::clock::overslept;
use crate::farm::Farm;
use crate::places::Full;
use crate::programs::{check, root};
use crate::row::{Means, Place, Row};
use crate::table::ROWS;

/// Rows that are played at once: most of them wait for a deadline.
const AT_ONCE: usize = 4;
/// On a busy machine a core that was stalled for a tenth of the deadline says `unknown`. Tries of a
/// row beside others, and then alone: how many times its own deadline each of these has. A machine
/// that stalls for a tenth of all of them has tested nothing, and the row fails.
const TRIES: usize = 3;
const PATIENCE_ALONE: [u32; 9] = [1, 1, 1, 2, 2, 2, 4, 4, 4];
const TIMEOUT: &str = "--timeout-ms";
/// A try may have met a stall of this machine if a sleeper beside it overslept for so long in all.
const STALLED: Duration = Duration::from_millis(20);
/// How long the sleeper sleeps at a time.
const NAP: Duration = Duration::from_millis(5);
/// What the guard must be told before it lets a check at loopback.
const ALLOW: [&str; 2] = ["--allow", "127.0.0.0/8"];

#[test]
fn every_class_has_a_row_as_the_vocabulary_says() {
    for &class in FailureClass::ALL {
        let mut rows = ROWS.iter().filter(|row| row.class == Some(class));
        let row = rows.next().unwrap_or_else(|| panic!("{class} has no row"));
        assert!(
            std::iter::once(row).chain(rows).all(|row| {
                row.legacy_code == class.legacy_code() && row.verdict == class.verdict().as_str()
            }),
            "{class}"
        );
    }
}

#[test]
fn tests_that_rows_name_take_what_they_expect_from_their_row() {
    for row in ROWS {
        let Means::Test { file, name } = row.means else {
            continue;
        };
        let text = std::fs::read_to_string(root().join(file)).expect(file);
        let rest = text.split_once(&format!("#[test]\nfn {name}() {{"));
        let body = rest.and_then(|(_, rest)| rest.split("\n}\n").next());
        let body = body.unwrap_or_else(|| panic!("{file} has no test {name}"));
        let takes = format!("Row::of(\"{name}\")");
        assert!(
            body.contains(&takes) && body.contains("row.holds("),
            "{name} of {file} must assert what `{takes}` says"
        );
    }
}

#[test]
fn whatever_is_wrong_with_an_answer_is_found() {
    let row = ROWS
        .iter()
        .find(|row| row.class == Some(FailureClass::HttpStatus));
    let row = row.expect("the class has a row");
    let good = serde_json::json!({
        "class": "http.status", "legacy_code": 0, "verdict": "down", "status": 503,
        "phases": {"dns_us": 1, "connect_us": 1, "ttfb_us": 1, "body_us": 1, "total_us": 4},
        "evidence": {
            "text": "it answered with status 503", "head": "HTTP/1.1 503 Service Unavailable",
        },
    });
    assert!(findings(row, &good, Some(1)).is_empty());
    for (pointer, other) in [
        ("/class", "http.reset".into()),
        ("/legacy_code", 2.into()),
        ("/verdict", "unknown".into()),
        ("/status", 500.into()),
        ("/phases", serde_json::json!({"dns_us": 1, "total_us": 1})),
        ("/evidence/text", "something".into()),
        ("/evidence/head", Value::Null),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = other;
        let found = findings(row, &bad, Some(1));
        assert_eq!(found.len(), 1, "{pointer}: {found:?}");
    }
    assert_eq!(findings(row, &good, Some(0)).len(), 1);
}

#[test]
fn a_row_that_is_played_again_has_more_time() {
    let args = |list: &[&str]| list.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let own = args(&["http://a/", "--timeout-ms", "8000", "--method", "HEAD"]);
    assert_eq!(patient(&own, 4)[2], "32000");
    assert_eq!(patient(&own, 1), own);
    assert_eq!(
        patient(&args(&["http://a/"]), 2)[1..],
        args(&["--timeout-ms", "20000"])
    );
}

#[test]
fn every_row_comes_out_as_the_table_says() {
    let stage = Stage::new();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = ROWS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(findings) = stage.play(row) {
                        wrong.lock().expect("no row panics").push(findings);
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().expect("no row panics");
    let unjudged = stage.unjudged.lock().expect("no row panics").split_off(0);
    wrong.extend(unjudged.into_iter().filter_map(|row| stage.play_alone(row)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Everything that rows are played on.
struct Stage {
    farm: Farm,
    /// Rows of which the node said each time that its own machine had stalled.
    unjudged: Mutex<Vec<&'static Row>>,
    closed: Closed,
    full: Full,
}

/// The site of a row: of the two that each has, the one that speaks what it wants.
fn site(index: usize, https: bool) -> usize {
    2 * index + usize::from(!https)
}

/// A site that nothing is wrong with.
fn healthy_site() -> usize {
    site(ROWS.len(), false)
}

impl Stage {
    fn new() -> Self {
        let mut scenario = String::new();
        for (index, row) in ROWS.iter().enumerate() {
            if let Means::Site { https, fault, .. } = row.means {
                let keys = fault.replace(", ", "\n");
                let site = site(index, https);
                write!(
                    scenario,
                    "[[fault]]\n{keys}\nfirst_site = {site}\nduration_s = 'until-ended'\n"
                )
                .expect("a String takes every write");
            }
        }
        Self {
            farm: Farm::start(healthy_site() + 1, &scenario),
            unjudged: Mutex::default(),
            closed: Closed::new(),
            full: Full::new(),
        }
    }

    /// Plays `row` beside others; what came out otherwise.
    fn play(&self, row: &'static Row) -> Option<String> {
        let args = self.args(row)?;
        let judged = (0..TRIES).map(|_| check_once(&args)).find(is_judged);
        if judged.is_none() {
            self.unjudged.lock().expect("no row panics").push(row);
        }
        judged.and_then(|answer| wrong(row, &args, &answer))
    }

    /// Plays a row on which the node blamed this machine, with nothing else running, and with more
    /// time each time. That it could not judge is right only if somebody else was stalled too.
    fn play_alone(&self, row: &Row) -> Option<String> {
        let args = self.args(row)?;
        for times in PATIENCE_ALONE {
            let args = patient(&args, times);
            let (answer, overslept) = beside_a_sleeper(|| check_once(&args));
            if is_judged(&answer) {
                return wrong(row, &args, &answer);
            }
            if overslept < STALLED {
                return Some(format!(
                    "{args:?}\nblames this machine, on which a sleeper overslept by {overslept:?} \
                     only\n{:#}",
                    answer.0
                ));
            }
        }
        Some(format!(
            "{args:?}\nwas never judged, alone with up to {} times its deadline: this machine \
             stalls all the time",
            PATIENCE_ALONE[PATIENCE_ALONE.len() - 1]
        ))
    }

    /// What the row's check is called with; `None` for one that has a test of its own.
    fn args(&self, row: &Row) -> Option<Vec<String>> {
        let index = ROWS.iter().position(|other| std::ptr::eq(other, row));
        let index = index.expect("the row is of the table");
        let (url, flags, allow) = match row.means {
            Means::Site { https, flags, .. } => {
                let url = self.farm.url(site(index, https)).to_owned();
                (url, flags, &ALLOW[..])
            }
            Means::Place { place, flags } => match place {
                Place::ClosedPort => (http_url(self.closed.address()), flags, &ALLOW[..]),
                Place::FullQueue => (http_url(self.full.address()), flags, &ALLOW[..]),
                Place::Broadcast => ("http://127.255.255.255/".to_owned(), flags, &ALLOW[..]),
                Place::NotAllowed => (self.farm.url(healthy_site()).to_owned(), flags, &[][..]),
                Place::OnlyTls12 => (self.secured("https12_port"), flags, &ALLOW[..]),
                Place::OnlyTls13 => (self.secured("https13_port"), flags, &ALLOW[..]),
                Place::Addresses => (self.question("A"), flags, &[][..]),
                Place::MailServers => (self.question("MX"), flags, &[][..]),
            },
            Means::Test { .. } => return None,
        };
        let world = [
            "--dns",
            self.farm.ready("dns"),
            "--ca-file",
            self.farm.ready("ca_file"),
        ];
        let rest = [&world[..], allow, flags].concat();
        let rest = rest.into_iter().map(str::to_owned);
        Some(std::iter::once(url).chain(rest).collect())
    }

    /// A healthy site by the port of the farm with this name.
    fn secured(&self, port: &str) -> String {
        format!("https://{}:{}/", self.healthy_host(), self.farm.port(port))
    }

    fn healthy_host(&self) -> &str {
        let url = self.farm.url(healthy_site());
        let host = url.split(['/', ':']).find(|part| part.contains('.'));
        host.expect("sites have names")
    }

    /// A question for what the name of the healthy site says of itself.
    fn question(&self, kind: &str) -> String {
        format!("dns://{}?type={kind}", self.healthy_host())
    }
}

fn http_url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

/// The answer and the exit code of a check.
type Answer = (Value, Option<i32>);

fn check_once(args: &[String]) -> Answer {
    let output = check(args);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("{args:?}: {error}: {said}")
    });
    (answer, output.status.code())
}

/// The same check with so many times its deadline.
fn patient(args: &[String], times: u32) -> Vec<String> {
    let mut args = args.to_vec();
    let value = args.iter().position(|arg| arg == TIMEOUT).map(|at| at + 1);
    let value = value.unwrap_or_else(|| {
        args.extend([TIMEOUT.to_owned(), TIMEOUT_DEFAULT_MS.to_string()]);
        args.len() - 1
    });
    let own: u32 = args[value].parse().expect("a number of ms");
    args[value] = (own * times).min(TIMEOUT_MAX_MS).to_string();
    args
}

fn is_judged((answer, _): &Answer) -> bool {
    answer["class"] != "local.pressure"
}

fn wrong(row: &Row, args: &[String], (answer, code): &Answer) -> Option<String> {
    let findings = findings(row, answer, *code);
    (!findings.is_empty()).then(|| format!("{args:?}\n{}\n{answer:#}", findings.join("\n")))
}

/// What `work` gives, and for how long somebody else who wanted to wake up meanwhile was kept.
fn beside_a_sleeper<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let (done, ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(move || {
            let naps = std::iter::from_fn(|| overslept(&ended, NAP));
            naps.map(|late| late.saturating_sub(NAP)).sum()
        });
        let result = work();
        drop(done);
        (result, sleeper.join().expect("it only sleeps"))
    })
}

/// What of `answer` is not as `row` says, a line each.
fn findings(row: &Row, answer: &Value, code: Option<i32>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut compare = |what: &str, found: Value, expected: Value| {
        if found != expected {
            findings.push(format!("  {what}: {found} instead of {expected}"));
        }
    };
    let class = row.class.map(FailureClass::as_str);
    compare("class", answer["class"].clone(), class.into());
    compare(
        "legacy code",
        answer["legacy_code"].clone(),
        row.legacy_code.into(),
    );
    compare("verdict", answer["verdict"].clone(), row.verdict.into());
    let exit = match row.verdict {
        "up" => 0,
        "down" => 1,
        "degraded" => 4,
        _ => 3,
    };
    compare("exit code", code.into(), exit.into());
    let found: BTreeSet<&str> = answer["phases"]
        .as_object()
        .expect("phases are an object")
        .keys()
        .map(|key| key.trim_end_matches("_us"))
        .collect();
    let expected: BTreeSet<&str> = row.phases.split(' ').collect();
    compare(
        "phases",
        found.into_iter().collect(),
        expected.into_iter().collect(),
    );
    let is_told = row.class.is_none() || answer["evidence"]["text"] != "";
    compare("evidence.text is there", is_told.into(), true.into());
    for (path, expected) in row.says {
        let pointer = format!("/{}", path.replace('.', "/"));
        let found = answer.pointer(&pointer).unwrap_or(&Value::Null);
        let holds = match found {
            Value::String(text) => text.contains(expected),
            other => format!("{other}") == *expected,
        };
        if !holds {
            findings.push(format!("  {path}: {found} instead of {expected}"));
        }
    }
    findings
}
