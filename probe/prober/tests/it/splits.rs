//! Whatever the pieces in which the bytes come, the report is the same; whatever the bytes, there
//! is a report.

use std::sync::LazyLock;

use model::outcome::flags;
use prober::{AttemptSpec, Report};
use proptest::prelude::*;

use crate::corpus::{self, Case};
use crate::driver::{End, Script, http, run};

fn report(case: &Case, pieces: Vec<&[u8]>) -> Report {
    report_of(case, pieces, false)
}

/// The same with the request written together with the connect, when `early`.
fn report_of(case: &Case, pieces: Vec<&[u8]>, early: bool) -> Report {
    let spec = AttemptSpec {
        method: case.method,
        ..http()
    };
    let script = Script {
        early,
        ..Script::answering(pieces, case.end)
    };
    run(&spec, script, false).report()
}

/// `bytes` cut at `cuts` (taken modulo its length), without empty pieces.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % bytes.len().max(1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

#[test]
fn every_response_gets_its_verdict_in_one_piece() {
    let cases = corpus::all();
    assert!(
        cases.len() >= 60,
        "the corpus has only {} responses",
        cases.len()
    );
    for case in &cases {
        let report = report(case, pieces(&case.bytes, &[]));
        let class = report.class.map(model::FailureClass::as_str);
        assert_eq!(
            (class, report.status),
            (case.class, case.status),
            "{}",
            case.name
        );
        let sloppy = report.flags & flags::HTTP_SLOPPY != 0;
        assert_eq!(sloppy, case.sloppy, "sloppy: {}", case.name);
    }
}

#[test]
fn every_response_gets_its_verdict_byte_by_byte() {
    for case in corpus::all() {
        // A mebibyte in single bytes says nothing that its first 100 kB do not.
        let cut = case.bytes.len().min(100_000);
        let (start, rest) = case.bytes.split_at(cut);
        let mut bytes: Vec<&[u8]> = start.chunks(1).collect();
        bytes.extend((!rest.is_empty()).then_some(rest));
        let whole = report(&case, pieces(&case.bytes, &[]));
        assert_eq!(report(&case, bytes), whole, "{}", case.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn any_split_gives_the_same_report(
        index in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<usize>(), 1..12),
        near in prop::collection::vec(0_usize..120, 0..12),
        early in any::<bool>(),
    ) {
        let cases = small_cases();
        let case = &cases[index.index(cases.len())];
        let cuts = [cuts, near].concat();
        let whole = report(case, pieces(&case.bytes, &[]));
        let split = report_of(case, pieces(&case.bytes, &cuts), early);
        prop_assert_eq!(split, whole, "{}", case.name);
    }

    #[test]
    fn any_mutation_ends_and_any_split_of_it_agrees(
        index in any::<prop::sample::Index>(),
        at in any::<usize>(),
        byte in any::<u8>(),
        cuts in prop::collection::vec(any::<usize>(), 1..12),
    ) {
        let cases = small_cases();
        let case = &cases[index.index(cases.len())];
        let mut bytes = case.bytes.clone();
        if !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let whole = report(case, pieces(&bytes, &[]));
        prop_assert_eq!(report(case, pieces(&bytes, &cuts)), whole);
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

/// The corpus without its largest responses, which would only make the property slow.
fn small_cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        corpus::all()
            .into_iter()
            .filter(|case| case.bytes.len() < 200_000)
            .collect()
    });
    &CASES
}
