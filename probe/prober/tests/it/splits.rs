//! Whatever the pieces in which the bytes come, the outcome and its evidence are the same, and the
//! outcome is the one that the corpus expects; whatever the bytes, there is an outcome.

use model::{Evidence, Generation, Slot};
use prober::{AttemptSpec, Report};
use proptest::prelude::*;

use crate::driver::{End, Script, http, run};
use crate::responses::{self, Case, Expected, FLAGS};

/// What a check came to.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    report: Report,
    body_bytes: u32,
    evidence: Evidence,
}

/// Of a head that breaks before its end, evidence shows as much as had come when it broke, which is
/// chance: it is worth more to people than a head that ends with the byte that was wrong. Nothing
/// else may differ.
fn agree(found: &Outcome, whole: &Outcome, context: &str) {
    let mut expected = whole.clone();
    if found.report.status == 0 {
        let (mut short, mut long) = (&found.evidence.head, &whole.evidence.head);
        if short.len() > long.len() {
            (short, long) = (long, short);
        }
        // The last character may have been cut in two.
        let cut = short.trim_end_matches(char::REPLACEMENT_CHARACTER);
        assert!(long.starts_with(cut), "{context}: {short:?} and {long:?}");
        assert_eq!(short.is_empty(), long.is_empty(), "{context}");
        expected.evidence.head.clone_from(&found.evidence.head);
    }
    assert_eq!(found, &expected, "{context}");
}

/// Larger cases are not cut at every place: what they are about is their size.
const CUT_EVERYWHERE_MAX_BYTES: usize = 700;
const SEEDS: u64 = 8;

/// The outcome of `case` when each of `connections` brings its pieces; `early`: the request is
/// written together with the connect.
fn check(case: &Case, connections: Vec<Vec<&[u8]>>, early: bool) -> Outcome {
    let spec = AttemptSpec {
        method: case.method,
        rules: case.rules.as_ref(),
        ..http()
    };
    let mut connections = connections.into_iter();
    let pieces = connections.next().unwrap_or_default();
    let script = Script {
        early,
        later: connections.collect(),
        ..Script::answering(pieces, case.end)
    };
    let run = run(&spec, script, false);
    Outcome {
        report: run.report(),
        evidence: run.attempt.evidence(Slot(1), Generation(1), 1),
        // A rule that is met ends the check at once: how much had come by then is chance.
        body_bytes: if case.expected.body_bytes.is_some() {
            run.attempt.body_bytes()
        } else {
            0
        },
    }
}

fn in_one_piece(case: &Case) -> Outcome {
    cut(case, &[])
}

/// The outcome when every connection's bytes are cut at `cuts`, taken modulo their number.
fn cut(case: &Case, cuts: &[usize]) -> Outcome {
    let connections = case.connections.iter();
    check(
        case,
        connections.map(|bytes| pieces(bytes, cuts)).collect(),
        false,
    )
}

/// `bytes` cut at `cuts` (taken modulo its length), without empty pieces.
pub(crate) fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % bytes.len().max(1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

#[test]
fn every_response_gets_its_verdict_in_one_piece() {
    let mut wrong = Vec::new();
    for case in responses::all() {
        let Outcome {
            report, body_bytes, ..
        } = in_one_piece(case);
        let found = Expected {
            class: report.class.map(|class| class.as_str().to_owned()),
            status: report.status,
            body_bytes: case.expected.body_bytes.map(|_| body_bytes),
            hops: report.hops,
            flags: report.flags & FLAGS,
        };
        if found != case.expected {
            wrong.push(format!("{}: {found:?}, not {:?}", case.name, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_response_gets_its_verdict_byte_by_byte() {
    for case in responses::all() {
        let bytes = |connection: &'static Vec<u8>| {
            // A mebibyte in single bytes says nothing that its first 100 kB do not.
            let (start, rest) = connection.split_at(connection.len().min(100_000));
            let mut pieces: Vec<&[u8]> = start.chunks(1).collect();
            pieces.extend((!rest.is_empty()).then_some(rest));
            pieces
        };
        let connections = case.connections.iter().map(bytes).collect();
        let whole = in_one_piece(case);
        agree(&check(case, connections, false), &whole, &case.name);
    }
}

#[test]
fn every_small_response_gets_its_verdict_however_it_is_cut_in_two() {
    for case in responses::all() {
        if case.bytes() > CUT_EVERYWHERE_MAX_BYTES {
            continue;
        }
        let whole = in_one_piece(case);
        let longest = case.connections.iter().map(Vec::len).max().unwrap_or(0);
        for at in 1..longest {
            let context = format!("{} cut at {at}", case.name);
            agree(&cut(case, &[at]), &whole, &context);
        }
    }
}

#[test]
fn every_response_gets_its_verdict_at_random_cuts() {
    for case in responses::all() {
        let whole = in_one_piece(case);
        for seed in 1..=SEEDS {
            let mut state = seed;
            let cuts: Vec<usize> = (0..2 + seed * 3)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(seed);
                    (state >> 33) as usize
                })
                .collect();
            let context = format!("{} with seed {seed}", case.name);
            agree(&cut(case, &cuts), &whole, &context);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn any_split_gives_the_same_outcome(
        index in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<usize>(), 1..12),
        near in prop::collection::vec(0_usize..120, 0..12),
        early in any::<bool>(),
    ) {
        let case = responses::small()[index.index(responses::small().len())];
        let cuts = [cuts, near].concat();
        let connections = case.connections.iter().map(|bytes| pieces(bytes, &cuts)).collect();
        agree(&check(case, connections, early), &in_one_piece(case), &case.name);
    }

    #[test]
    fn any_mutation_ends_and_any_split_of_it_agrees(
        index in any::<prop::sample::Index>(),
        at in any::<usize>(),
        byte in any::<u8>(),
        cuts in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let case = responses::small()[index.index(responses::small().len())];
        let mut bytes = case.connections[0].clone();
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let mutated = |cuts: &[usize]| {
            let later = case.connections[1..].iter().map(|bytes| vec![bytes.as_slice()]);
            let connections = [pieces(&bytes, cuts)].into_iter().chain(later).collect();
            let mut outcome = check(case, connections, false);
            // A changed body may meet a rule that ends the check at once.
            outcome.body_bytes = 0;
            if case.expected.body_bytes.is_none() {
                // Whether a tolerance came before a rule was met is chance, too.
                outcome.report.flags &= !FLAGS;
            }
            outcome
        };
        agree(&mutated(&cuts), &mutated(&[]), &case.name);
    }

    #[test]
    fn random_bytes_never_panic(
        prefix in prop::sample::select(vec![
            "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(any::<usize>(), 1..6),
    ) {
        let all = [prefix.as_bytes(), &bytes].concat();
        let script = |cuts: &[usize]| Script::answering(pieces(&all, cuts), End::Eof);
        let whole = run(&http(), script(&[]), false).report();
        prop_assert_eq!(run(&http(), script(&cuts), false).report(), whole);
    }
}
