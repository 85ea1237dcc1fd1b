//! ARCHITECTURE.md lists the invariants; each names a test that exists and can run.
//!
//! Under `## Invariants`, a numbered item holds one or more `` `crate::…::test_name` `` after the
//! words "Held by". The path is that of the file, without the `tests` of unit tests.

use super::{Finding, source::Source};

const PLACE: &str = "ARCHITECTURE.md";

/// Finds invariants without a test, tests that do not exist, and a wrong number of invariants.
pub(super) fn check(document: &str, sources: &[Source], expected: usize) -> Vec<Finding> {
    let items = items(document);
    let mut findings = Vec::new();
    if items.len() != expected {
        let message = format!(
            "{} invariants are listed, there are {expected}",
            items.len()
        );
        findings.push(Finding::new(PLACE, message));
    }
    for (index, item) in items.iter().enumerate() {
        let number = index + 1;
        let held_by = item.split_once("Held by").map_or("", |(_, tests)| tests);
        let tests: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            findings.push(Finding::new(
                PLACE,
                format!("invariant {number} names no test"),
            ));
        }
        for test in tests.iter().filter(|test| !exists(test, sources)) {
            let message = format!("invariant {number}: there is no test `{test}`");
            findings.push(Finding::new(PLACE, message));
        }
    }
    findings
}

/// The numbered items of the section, each with its continuation lines.
fn items(document: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let section = document
        .lines()
        .skip_while(|line| line.trim() != "## Invariants")
        .skip(1);
    for line in section.take_while(|line| !line.starts_with("## ")) {
        let number = line
            .split_once(". ")
            .filter(|(number, _)| number.parse::<u32>().is_ok());
        match (number, items.last_mut()) {
            (Some((_, text)), _) => items.push(text.to_owned()),
            (None, Some(item)) => {
                item.push(' ');
                item.push_str(line.trim());
            }
            (None, None) => {}
        }
    }
    items
}

/// `crate::module::name` exists when the file of that module has a `#[test]` of that name.
fn exists(test: &str, sources: &[Source]) -> bool {
    let mut path: Vec<&str> = test.split("::").collect();
    let (Some(name), true) = (path.pop(), !path.is_empty()) else {
        return false;
    };
    let package = path.remove(0);
    sources
        .iter()
        .filter(|source| source.package == package && source.module_path() == path)
        .any(|source| source.has_test(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Vec<Source> {
        let unit = "fn free() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    \
                    fn it_holds() {}\n    fn helper() {}\n}";
        let property = "proptest! {\n    #[test]\n    fn any_split_is_the_same(x in 0..3) {}\n}";
        let source = |path: &str, text: &str| {
            Source::parse("prober", path, text.to_owned()).expect("parses")
        };
        vec![
            source("probe/prober/src/a.rs", unit),
            source("probe/prober/tests/it/main.rs", property),
        ]
    }

    fn found(document: &str, expected: usize) -> Vec<String> {
        check(document, &sources(), expected)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn named_tests_that_exist_are_accepted_across_lines() {
        let document = "# A\n## Invariants\n\nText.\n\n\
            1. One.\n   Held by `prober::a::it_holds`\n   \
            and `prober::it::any_split_is_the_same`.\n\
            2. Two. Held by `prober::a::it_holds`.\n\n\
            ## Other\n3. Not one.\n";
        assert_eq!(found(document, 2), Vec::<String>::new());
    }

    #[test]
    fn missing_tests_wrong_crates_and_plain_functions_are_found() {
        let item = |test: &str| format!("## Invariants\n1. One. Held by {test}.\n");
        for bad in [
            "`prober::a::gone`",
            "`model::a::it_holds`",
            "`prober::a::free`",
            "`prober::a::helper`",
            "`prober::it_holds`",
            "`prober::b::it_holds`",
            "`it_holds`",
        ] {
            let found = found(&item(bad), 1);
            assert_eq!(found.len(), 1, "{bad}: {found:?}");
            assert!(found[0].contains("there is no test"), "{found:?}");
        }
        let found = found("## Invariants\n1. One, see `prober::a::it_holds`.\n", 1);
        assert_eq!(found, ["ARCHITECTURE.md: invariant 1 names no test"]);
    }

    #[test]
    fn a_wrong_number_of_invariants_is_found() {
        let found = found("## Invariants\n1. A. Held by `prober::a::it_holds`.\n", 2);
        assert_eq!(
            found,
            ["ARCHITECTURE.md: 1 invariants are listed, there are 2"]
        );
    }
}
