//! The rows of `docs/failure-classes.md` that tests of this crate bring about. What a row says is
//! asserted here and nowhere else: the page is made from ladder's table, which sees to it that it
//! is that table, and that each test that it names takes its row.

use model::outcome::Phases;
use model::{Evidence, Outcome};

const PAGE: &str = include_str!("../../../../docs/failure-classes.md");
/// What a row without a code, or without words, has instead.
const NOTHING: &str = "–";

/// What a check must come to.
pub(crate) struct Row {
    class: &'static str,
    code: &'static str,
    verdict: &'static str,
    phases: &'static str,
    /// Paths into the evidence, and what is found there.
    says: Vec<(&'static str, &'static str)>,
}

impl Row {
    /// The row that names `test`.
    pub(crate) fn of(test: &str) -> Self {
        let link = format!("| [{test}](");
        let line = PAGE.lines().find(|line| line.contains(&link));
        let line = line.unwrap_or_else(|| panic!("no row names {test}"));
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [class, code, verdict, _, phases, says] = cells[..] else {
            panic!("six cells: {line}")
        };
        let said = says.split("<br>").map(|said| {
            let (path, text) = said.split_once(": ").expect("a path and what is there");
            (path, unquoted(text))
        });
        Self {
            class: unquoted(class),
            code,
            verdict,
            phases,
            says: said.collect(),
        }
    }

    /// Asserts that a check came to just that.
    pub(crate) fn holds(&self, outcome: &Outcome, evidence: &Evidence) {
        let context = format!("{outcome:?} {evidence:?}");
        let class = outcome.failure().expect("a row of a failure");
        let code = class.legacy_code().map(|code| code.to_string());
        assert_eq!(class.as_str(), self.class, "{context}");
        assert_eq!(code.as_deref().unwrap_or(NOTHING), self.code, "{context}");
        assert_eq!(outcome.verdict().as_str(), self.verdict, "{context}");
        assert!(self.has_phases(&outcome.phases), "{context}");
        for (path, expected) in &self.says {
            let found = found(evidence, path);
            let is_number = found == *expected;
            let is_text = *path == "evidence.text" && found.contains(expected);
            assert!(is_number || is_text, "{path}: {expected}: {context}");
        }
    }

    fn has_phases(&self, phases: &Phases) -> bool {
        let named = Phases::NAMES.into_iter().zip(phases.values());
        let reached: Vec<_> = named.filter_map(|(name, us)| us.map(|_| name)).collect();
        match self.phases {
            // Which ones is for the test to say.
            "those that it reached, total" => reached.len() >= 2 && reached.contains(&"total"),
            "none: it never began" => reached.is_empty(),
            exactly => reached.join(" ") == exactly,
        }
    }
}

fn unquoted(text: &'static str) -> &'static str {
    text.trim_matches('`').trim()
}

/// What the JSON of a check has at `path`; a number has nothing around it.
fn found(evidence: &Evidence, path: &str) -> String {
    let number = |errno: Option<i32>| errno.map_or("null".to_owned(), |errno| errno.to_string());
    match path {
        "evidence.text" => evidence.text.clone(),
        "evidence.errno" => number(evidence.errno),
        "evidence.addresses.0.errno" => number(evidence.addresses[0].errno),
        "evidence.addresses.0.local" => evidence.addresses[0].local.to_string(),
        _ => panic!("rows of this crate have not had a {path} yet: say where it is"),
    }
}
