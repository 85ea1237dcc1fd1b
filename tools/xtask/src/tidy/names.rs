//! Names that must not appear: crates outside their one module, clocks outside clock modules,
//! I/O in pure crates, sleeping, unfinished work, and modules named after nothing.

use super::lists::{self, Home};
use super::{Finding, source::Source};

/// Every finding about the names in `source`.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = vague_module(source);
    findings.extend(unfinished_text(source));
    findings.extend(forbidden_calls(source));
    findings.extend(clocks(source));
    findings.extend(impure(source));
    for home in lists::HOMES {
        findings.extend(away_from_home(source, home));
    }
    findings
}

fn at(source: &Source, line: usize, message: impl Into<String>) -> Finding {
    Finding::new(format!("{}:{line}", source.path), message)
}

fn vague_module(source: &Source) -> Vec<Finding> {
    let is_vague = |name: &str| lists::VAGUE_MODULES.contains(&name);
    let message = |name: &str| format!("a module called `{name}`: name what it owns");
    let mut findings = Vec::new();
    if is_vague(source.module()) {
        findings.push(Finding::new(&source.path, message(source.module())));
    }
    for pair in source.tokens.windows(2) {
        if pair[0].text == "mod" && is_vague(&pair[1].text) {
            findings.push(at(source, pair[1].line, message(&pair[1].text)));
        }
    }
    findings
}

/// Marks of unfinished work, in comments too.
fn unfinished_text(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        for mark in lists::UNFINISHED {
            if line.contains(mark) {
                findings.push(at(
                    source,
                    index + 1,
                    format!("`{mark}`: finish it or file it"),
                ));
            }
        }
    }
    findings
}

fn forbidden_calls(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for &(words, reason) in lists::FORBIDDEN {
        for line in source.find(words) {
            findings.push(at(source, line, format!("`{}`: {reason}", words.concat())));
        }
    }
    findings
}

/// A clock is read in a module called `clock` of a crate that is not pure.
fn clocks(source: &Source) -> Vec<Finding> {
    let is_pure = lists::PURE.contains(&source.package.as_str());
    if source.module() == "clock" && !is_pure {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for kind in ["Instant", "SystemTime", "UnixTime"] {
        for line in source.find(&[kind, ":", ":", "now"]) {
            let message = format!("`{kind}::now` outside a `clock` module: take `now` as argument");
            findings.push(at(source, line, message));
        }
    }
    findings
}

/// Pure crates read no clock, open no socket, spawn nothing, log nothing; their tests may.
fn impure(source: &Source) -> Vec<Finding> {
    if !lists::PURE.contains(&source.package.as_str()) {
        return Vec::new();
    }
    // `env!` is read when the crate is built.
    let mut findings: Vec<Finding> = source
        .find(&["env", ":", ":"])
        .filter(|line| !source.is_test(*line))
        .map(|line| at(source, line, "`env` in a crate that must stay pure"))
        .collect();
    for token in source
        .tokens
        .iter()
        .filter(|token| !source.is_test(token.line))
    {
        if lists::IMPURE.contains(&token.text.as_str()) {
            let message = format!("`{}` in a crate that must stay pure", token.text);
            findings.push(at(source, token.line, message));
        }
    }
    findings
}

/// Finds `home.name` used as a crate outside the files that may name it.
fn away_from_home(source: &Source, home: &Home) -> Vec<Finding> {
    if home
        .files
        .iter()
        .any(|prefix| source.path.starts_with(prefix))
    {
        return Vec::new();
    }
    let declares = source.find(&["mod", home.name]).next().is_some();
    let mut findings = Vec::new();
    for (index, token) in source.tokens.iter().enumerate() {
        if token.text == home.name && names_a_crate(source, index, declares) {
            let message = format!("`{}` is named here: {}", home.name, home.reason);
            findings.push(at(source, token.line, message));
        }
    }
    findings
}

/// Whether the token at `index` is a crate's name: the first segment of a path or of a `use`.
/// A module of the same name, declared here or reached by a path, is not.
fn names_a_crate(source: &Source, index: usize, declares: bool) -> bool {
    let text = |index: Option<usize>| {
        index
            .and_then(|index| source.tokens.get(index))
            .map_or("", |token| token.text.as_str())
    };
    let before = |distance: usize| text(index.checked_sub(distance));
    let after = |distance: usize| text(Some(index + distance));
    let leads = (after(1), after(2)) == (":", ":");
    let is_segment = (before(1), before(2)) == (":", ":");
    if is_segment {
        // `::name` with nothing before it is the crate; `a::name` is somebody's module.
        let is_word = before(3).starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>');
        return !is_word || before(3) == "use";
    }
    let used = before(1) == "use" || before(1) == "crate" && before(2) == "extern";
    (leads || used) && !declares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(package: &str, path: &str, text: &str) -> Vec<String> {
        let source = Source::parse(package, path, text.to_owned()).expect("parses");
        check(&source).iter().map(ToString::to_string).collect()
    }

    fn one(package: &str, path: &str, text: &str) -> String {
        let mut found = found(package, path, text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        found.remove(0)
    }

    #[test]
    fn a_crate_is_named_only_at_home() {
        for text in [
            "use monoio::net;",
            "fn f() { monoio::spawn(g()); }",
            "use ::monoio;",
        ] {
            let finding = one("cores", "engine/cores/src/drive.rs", text);
            assert!(finding.starts_with("engine/cores/src/drive.rs:1: `monoio` is named"));
            assert!(found("cores", "engine/cores/src/reactor/monoio.rs", text).is_empty());
        }
        one("farm", "bench/farm/src/site.rs", "use glommio::net;");
        one(
            "node",
            "engine/node/src/status.rs",
            "use rusqlite::Connection;",
        );
        one(
            "incident",
            "sink/incident/src/step.rs",
            "use serde_json::json;",
        );
        assert!(found("node", "engine/node/src/status.rs", "use serde_json::json;").is_empty());
    }

    #[test]
    fn a_module_of_the_same_name_is_not_the_crate() {
        let text = "mod monoio;\nuse monoio::Uring;\nuse self::monoio::Epoll;";
        assert!(found("cores", "engine/cores/src/reactor.rs", text).is_empty());
        let text = "mod monoio;\nuse ::monoio::net;";
        one("cores", "engine/cores/src/reactor.rs", text);
        let text = "use crate::reactor::monoio::Uring;";
        assert!(found("cores", "engine/cores/src/core.rs", text).is_empty());
    }

    #[test]
    fn vague_module_names_are_found_as_files_and_inline() {
        one("node", "engine/node/src/utils.rs", "");
        one("node", "engine/node/src/common/mod.rs", "");
        one("node", "engine/node/src/main.rs", "mod helpers;");
    }

    #[test]
    fn unfinished_work_is_found_in_comments_and_code() {
        // In two pieces each, so that a search for leftovers does not find them here.
        for text in [
            concat!("// TO", "DO: later"),
            concat!("// FIX", "ME"),
            concat!("fn f() { to", "do!() }"),
            concat!("#[ig", "nore]\nfn f() {}"),
            concat!("#[ig", "nore = \"slow\"]\nfn f() {}"),
            concat!("fn f() { std::thread::sl", "eep(d); }"),
        ] {
            one("node", "engine/node/src/a.rs", text);
        }
    }

    #[test]
    fn clocks_are_read_in_clock_modules_of_shells_only() {
        let text = "fn f() { Instant::now(); }";
        one("cores", "engine/cores/src/core.rs", text);
        assert!(found("cores", "engine/cores/src/clock.rs", text).is_empty());
        let finding = one(
            "prober",
            "probe/prober/src/clock.rs",
            "fn f() { SystemTime::now(); }",
        );
        assert!(finding.contains("SystemTime::now"), "{finding}");
        let of_rustls = "fn f() { UnixTime::now(); }";
        one("prober", "probe/prober/src/tls/verify.rs", of_rustls);
    }

    #[test]
    fn pure_crates_do_no_io_outside_their_tests() {
        let text = "use std::net::TcpStream;";
        one("incident", "sink/incident/src/step.rs", text);
        let file = "fn f() { std::fs::read(p); }";
        one("incident", "sink/incident/src/step.rs", file);
        let home = "fn f() { std::env::var(name); }";
        one("incident", "sink/incident/src/step.rs", home);
        assert!(found("cores", "engine/cores/src/core.rs", text).is_empty());
        let tests = format!("#[cfg(test)]\nmod tests {{ {text} }}");
        assert!(found("incident", "sink/incident/src/step.rs", &tests).is_empty());
        one(
            "prober",
            "probe/prober/src/attempt.rs",
            "fn f() { eprintln!(); }",
        );
    }
}
