//! What an answer of a verifier is worth. It comes from another machine, and is believed only as
//! far as it fits the questions. It must not know how it came.

use std::collections::HashMap;

use model::FactId;
use model::limits::VOTE_ERROR_MAX_BYTES;
use serde_json::Value;

use super::stats::NonVote;
use crate::verifier::protocol::{CheckAnswer, CheckResult, Outcome, PROBE_SAFETY};

/// What was asked of one verifier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The name of the batch.
    pub(super) batch_id: &'a str,
    /// Whose vote it is, as configured.
    pub(super) vantage: &'a str,
    /// The questions, by place.
    pub(super) requests: &'a [FactId],
}

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Whether the target is down from there, or why that is not known.
    pub(super) is_down: Result<bool, NonVote>,
    /// HTTP status that was seen there.
    pub(super) http_code: Option<u16>,
    /// How long the check took there, in ms.
    pub(super) rtt_ms: Option<u32>,
    /// What went wrong, for people.
    pub(super) error: Option<String>,
    /// The target is none that may be checked there: that says nothing of the verifier.
    is_refused: bool,
}

impl Told {
    /// Nothing, and why.
    fn nothing(why: NonVote) -> Self {
        Self {
            is_down: Err(why),
            http_code: None,
            rtt_ms: None,
            error: Some(why.as_str().to_owned()),
            is_refused: false,
        }
    }
}

/// What a whole answer says of the verifier that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a vote on something, or may not check what it was asked about.
    Works,
    /// It cannot tell: once may be the target's fault, each time is its own.
    Blank,
    /// It is no answer.
    Failed,
}

/// What came of each question, and how many answers were to none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// By place.
    pub(super) told: Vec<Told>,
    /// Answers to what was not asked.
    pub(super) strays: usize,
}

impl Reading {
    /// The same for every question.
    pub(super) fn nothing(questions: usize, why: NonVote) -> Self {
        Self {
            told: vec![Told::nothing(why); questions],
            strays: 0,
        }
    }

    /// What it says of who gave it.
    pub(super) fn standing(&self) -> Standing {
        let any = |is: fn(&Told) -> bool| self.told.iter().any(is);
        if any(|told| told.is_down.is_ok() || told.is_refused) {
            Standing::Works
        } else if any(|told| told.is_down == Err(NonVote::Unknown)) {
            Standing::Blank
        } else {
            Standing::Failed
        }
    }
}

/// Takes the votes on the questions that `are_edited`, by place, unless nobody finds their target
/// up: the node checks it as it was. What is down as it is wanted now is down; whether what is up
/// was down as it was before, nobody has looked.
pub(super) fn set_aside_edited<'a>(
    readings: impl IntoIterator<Item = &'a mut Reading>,
    are_edited: &[bool],
) {
    let mut readings: Vec<&mut Reading> = readings.into_iter().collect();
    let edited = are_edited.iter().enumerate().filter(|(_, edited)| **edited);
    for (place, _) in edited {
        if readings
            .iter()
            .any(|it| it.told[place].is_down == Ok(false))
        {
            for reading in &mut readings {
                reading.told[place] = Told::nothing(NonVote::Edited);
            }
        }
    }
}

/// Reads an answer with status 200.
pub(super) fn read(body: &[u8], asked: &Asked<'_>) -> Reading {
    let nothing = |why| Reading::nothing(asked.requests.len(), why);
    let Ok(answer) = serde_json::from_slice::<CheckAnswer<Value>>(body) else {
        return nothing(NonVote::Unreadable);
    };
    if answer.batch_id != asked.batch_id {
        return nothing(NonVote::WrongRequest);
    }
    if answer.vantage.id != asked.vantage {
        return nothing(NonVote::WrongVantage);
    }
    let ids = asked.requests.iter().enumerate();
    let places: HashMap<String, usize> = ids.map(|(at, id)| (id.to_string(), at)).collect();
    let mut told: Vec<Option<Told>> = vec![None; asked.requests.len()];
    let mut strays = 0;
    for result in answer.results {
        let id = result.get("request_id").and_then(Value::as_str);
        let Some(&place) = id.and_then(|id| places.get(id)) else {
            strays += 1;
            continue;
        };
        let told = &mut told[place];
        *told = Some(match told {
            Some(_) => Told::nothing(NonVote::Duplicate),
            None => worth(result, asked.vantage),
        });
    }
    let missing = || Told::nothing(NonVote::Missing);
    let told = told.into_iter().map(|told| told.unwrap_or_else(missing));
    let told = told.collect();
    Reading { told, strays }
}

fn worth(result: Value, vantage: &str) -> Told {
    let Ok(result) = serde_json::from_value::<CheckResult>(result) else {
        return Told::nothing(NonVote::Unreadable);
    };
    if result.vantage_id != vantage {
        return Told::nothing(NonVote::WrongVantage);
    }
    let is_down = match (result.outcome, result.success) {
        (Outcome::Unknown, _) => Err(NonVote::Unknown),
        (Outcome::AgentOverloaded, _) => Err(NonVote::Overloaded),
        (Outcome::Up | Outcome::Degraded, true) => Ok(false),
        (Outcome::Down, false) => Ok(true),
        (Outcome::Up | Outcome::Degraded, false) | (Outcome::Down, true) => {
            Err(NonVote::Unreadable)
        }
    };
    Told {
        is_down,
        http_code: Some(result.http_code).filter(|code| *code > 0),
        rtt_ms: u32::try_from(result.rtt_ms).ok(),
        error: trouble(&result.diagnostics),
        is_refused: result.outcome == Outcome::Unknown && result.error_code == PROBE_SAFETY,
    }
}

/// Class and text of what went wrong there, no more of it than is kept.
fn trouble(diagnostics: &Value) -> Option<String> {
    let word = |key: &str| diagnostics.get(key).and_then(Value::as_str);
    let words = [word("class"), word("text")].into_iter().flatten();
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let kept = words
        .join(": ")
        .chars()
        .take(VOTE_ERROR_MAX_BYTES)
        .collect();
    (!words.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use model::ids::{FactMint, splitmix64};
    use model::{TargetId, UnixMs};
    use serde_json::json;

    use super::*;

    const UP: Result<bool, NonVote> = Ok(false);
    const DOWN: Result<bool, NonVote> = Ok(true);

    impl Reading {
        fn votes(&self) -> Vec<Result<bool, NonVote>> {
            self.told.iter().map(|told| told.is_down).collect()
        }
    }

    fn requests(count: usize) -> Vec<FactId> {
        let shard = TargetId::new(7).expect("positive").shard();
        let mut mint = FactMint::default();
        (0..count)
            .map(|_| mint.mint(shard, UnixMs(1_800_000_000_000)))
            .collect()
    }

    fn result(request: FactId, outcome: &str, success: bool) -> Value {
        json!({
            "request_id": request.to_string(), "blog_id": 7, "url": "http://a/",
            "vantage_id": "oslo", "agent_id": "x", "outcome": outcome, "success": success,
            "http_code": 503, "error_code": 0, "rtt_ms": 12, "timings_ms": {},
            "diagnostics": { "class": "http.status", "text": "no", "address": null },
        })
    }

    fn answer(results: &[Value]) -> Value {
        json!({
            "batch_id": "b", "vantage": { "id": "oslo", "region": "", "provider": "" },
            "agent": { "id": "x", "host": "h", "version": "1", "protocol": "v2" },
            "results": results,
        })
    }

    fn read_of(requests: &[FactId], answer: &Value) -> Reading {
        let asked = Asked {
            batch_id: "b",
            vantage: "oslo",
            requests,
        };
        read(answer.to_string().as_bytes(), &asked)
    }

    #[test]
    fn votes_and_non_votes_are_told_apart_one_by_one() {
        use NonVote::{Duplicate, Missing, Overloaded, Unknown, Unreadable, WrongVantage};
        let ids = requests(11);
        let elsewhere = {
            let mut result = result(ids[9], "down", false);
            result["vantage_id"] = json!("rome");
            result
        };
        let results = [
            result(ids[0], "up", true),
            result(ids[1], "down", false),
            result(ids[2], "degraded", true),
            result(ids[3], "unknown", false),
            result(ids[4], "agent_overloaded", false),
            result(ids[5], "down", true),
            result(ids[6], "on fire", false),
            result(ids[7], "down", false),
            result(ids[7], "down", false),
            result(ids[7], "down", false),
            elsewhere,
            json!({ "request_id": ids[10].to_string(), "outcome": ["down"] }),
            json!({ "request_id": "17", "outcome": "down", "success": false }),
            json!({ "outcome": "down", "success": false }),
            json!(7),
            Value::Null,
        ];
        let reading = read_of(&ids, &answer(&results));
        let expected = [
            UP,
            DOWN,
            UP,
            Err(Unknown),
            Err(Overloaded),
            Err(Unreadable),
            Err(Unreadable),
            Err(Duplicate),
            Err(Missing),
            Err(WrongVantage),
            Err(Unreadable),
        ];
        assert_eq!(reading.votes(), expected);
        assert_eq!(reading.strays, 4);
        let Told {
            http_code,
            rtt_ms,
            error,
            ..
        } = &reading.told[1];
        assert_eq!((*http_code, *rtt_ms), (Some(503), Some(12)));
        assert_eq!(error.as_deref(), Some("http.status: no"));
        assert_eq!(reading.told[8].error.as_deref(), Some("missing"));
    }

    #[test]
    fn one_vote_says_that_a_verifier_works_and_what_it_may_not_check_says_nothing_of_it() {
        let ids = requests(2);
        let unknown = |request, error_code: u8| {
            let mut result = result(request, "unknown", false);
            result["error_code"] = json!(error_code);
            result
        };
        let cases = [
            (result(ids[1], "down", false), Standing::Works),
            (unknown(ids[1], PROBE_SAFETY), Standing::Works),
            (unknown(ids[1], 0), Standing::Blank),
            (result(ids[1], "agent_overloaded", false), Standing::Blank),
        ];
        for (second, standing) in cases {
            let reading = read_of(&ids, &answer(&[unknown(ids[0], 0), second.clone()]));
            assert_eq!(reading.standing(), standing, "{second}");
        }
        let of = |why| Reading::nothing(2, why).standing();
        assert_eq!(of(NonVote::Unknown), Standing::Blank);
        assert_eq!(of(NonVote::Overloaded), Standing::Failed);
    }

    #[test]
    fn of_an_edited_target_only_what_nobody_finds_up_is_a_vote() {
        let ids = requests(3);
        let reading = |outcomes: [bool; 3]| {
            let results = ids.iter().zip(outcomes);
            let results = results.map(|(&id, up)| result(id, if up { "up" } else { "down" }, up));
            read_of(&ids, &answer(&results.collect::<Vec<_>>()))
        };
        let mut readings = [
            reading([true, true, false]),
            reading([false, false, false]),
            Reading::nothing(3, NonVote::Late),
        ];
        set_aside_edited(&mut readings, &[false, true, true]);
        let edited = Err(NonVote::Edited);
        let late = Err(NonVote::Late);
        assert_eq!(readings[0].votes(), [UP, edited, DOWN]);
        assert_eq!(readings[1].votes(), [DOWN, edited, DOWN]);
        assert_eq!(readings[2].votes(), [late, edited, late]);
    }

    #[test]
    fn an_answer_to_another_batch_or_of_another_place_is_no_vote_at_all() {
        let ids = requests(2);
        let results = ids.iter().map(|&id| result(id, "down", false));
        let good = answer(&results.collect::<Vec<_>>());
        assert_eq!(read_of(&ids, &good).votes(), [DOWN; 2]);
        let mut other = good.clone();
        other["batch_id"] = json!("c");
        assert_eq!(
            read_of(&ids, &other).votes(),
            [Err(NonVote::WrongRequest); 2]
        );
        let mut elsewhere = good.clone();
        elsewhere["vantage"]["id"] = json!("rome");
        assert_eq!(
            read_of(&ids, &elsewhere).votes(),
            [Err(NonVote::WrongVantage); 2]
        );
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for bad in ["", "null", "{}", "[]", "\u{0}", &deep] {
            let asked = Asked {
                batch_id: "b",
                vantage: "oslo",
                requests: &ids,
            };
            let reading = read(bad.as_bytes(), &asked);
            assert_eq!(reading.votes(), [Err(NonVote::Unreadable); 2], "{bad:.20}");
        }
    }

    /// Bytes changed at random never give more votes than there are questions, and none that is not
    /// spelled out.
    #[test]
    fn mutated_answers_never_panic_and_answer_no_more_than_was_asked() {
        let ids = requests(4);
        let results = ids.iter().map(|&id| result(id, "up", true));
        let good = answer(&results.collect::<Vec<_>>())
            .to_string()
            .into_bytes();
        let asked = Asked {
            batch_id: "b",
            vantage: "oslo",
            requests: &ids,
        };
        let mut spoiled = 0;
        for seed in 0..20_000u64 {
            let mut bytes = good.clone();
            let random = |salt: u64| splitmix64(seed * 31 + salt);
            for change in 0..=random(0) % 4 {
                let at = random(change * 3 + 1) as usize % bytes.len();
                match random(change * 3 + 2) % 3 {
                    0 => bytes[at] = random(change * 3 + 3) as u8,
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, b"{}[]\",:0"[random(change) as usize % 8]),
                }
            }
            let reading = read(&bytes, &asked);
            assert_eq!(reading.told.len(), 4, "seed {seed}");
            assert!(!reading.votes().contains(&DOWN), "seed {seed}");
            spoiled += usize::from(reading.votes() != [UP; 4]);
        }
        assert!(spoiled > 10_000, "{spoiled}");
    }
}
