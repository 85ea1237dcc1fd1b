//! Size and form of files: line, function and file limits, module headers, unsafe code.

use syn::visit::{self, Visit};

use super::lists::{
    FILE_LINES_MAX, FILE_LINES_WITH_TESTS_MAX, FUNCTION_LINES_MAX, LINE_CHARS_MAX, MAY_DENY_UNSAFE,
};
use super::{Finding, source::Source};

/// Every finding about the form of `source`.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = long_lines(source);
    findings.extend(long_file(source));
    findings.extend(long_functions(source));
    findings.extend(missing_header(source));
    findings.extend(allowed_unsafe(source));
    findings
}

fn long_lines(source: &Source) -> Vec<Finding> {
    let long = |(index, line): (usize, &str)| {
        let chars = line.chars().count();
        (chars > LINE_CHARS_MAX).then(|| {
            let message = format!("line of {chars} characters, the limit is {LINE_CHARS_MAX}");
            Finding::new(format!("{}:{}", source.path, index + 1), message)
        })
    };
    source.text.lines().enumerate().filter_map(long).collect()
}

/// A file of tests alone has no lines without them.
fn long_file(source: &Source) -> Option<Finding> {
    let (own, all) = (source.lines_without_tests(), source.text.lines().count());
    let message = if own > FILE_LINES_MAX && !source.is_test_file() {
        format!("{own} lines without tests, the limit is {FILE_LINES_MAX}")
    } else if all > FILE_LINES_WITH_TESTS_MAX {
        format!("{all} lines with tests, the limit is {FILE_LINES_WITH_TESTS_MAX}")
    } else {
        return None;
    };
    Some(Finding::new(&source.path, message))
}

fn long_functions(source: &Source) -> Vec<Finding> {
    let mut functions = Functions {
        path: &source.path,
        findings: Vec::new(),
    };
    functions.visit_file(&source.syntax);
    functions.findings
}

struct Functions<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    /// From the line of `fn` to the closing brace: attributes and documentation are free.
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let start = signature.fn_token.span.start().line;
        let lines = block.brace_token.span.close().end().line - start + 1;
        if lines > FUNCTION_LINES_MAX {
            let name = &signature.ident;
            let message = format!("fn {name} has {lines} lines, the limit is {FUNCTION_LINES_MAX}");
            self.findings
                .push(Finding::new(format!("{}:{start}", self.path), message));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.measure(&node.sig, &node.block);
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.measure(&node.sig, &node.block);
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        if let Some(block) = &node.default {
            self.measure(&node.sig, block);
        }
        visit::visit_trait_item_fn(self, node);
    }
}

fn missing_header(source: &Source) -> Option<Finding> {
    let has_header = source
        .text
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("//! "));
    let message = "no `//!` header: say what the module owns and what it must not know";
    (!has_header).then(|| Finding::new(&source.path, message))
}

fn allowed_unsafe(source: &Source) -> Option<Finding> {
    let is_root = source.path.ends_with("/src/lib.rs") || source.path.ends_with("/src/main.rs");
    let has = |level: &str| {
        let attribute = ["#", "!", "[", level, "(", "unsafe_code", ")", "]"];
        source.find(&attribute).next().is_some()
    };
    let may_deny = MAY_DENY_UNSAFE.contains(&source.package.as_str());
    let level = if may_deny { "deny" } else { "forbid" };
    (is_root && !has("forbid") && !(may_deny && has("deny")))
        .then(|| Finding::new(&source.path, format!("no `#![{level}(unsafe_code)]`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(package: &str, path: &str, text: &str) -> Source {
        Source::parse(package, path, text.to_owned()).expect("parses")
    }

    fn messages(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_clean_file_has_no_findings() {
        let text = "//! Owns nothing.\n#![forbid(unsafe_code)]\n\nfn main() {}\n";
        assert!(check(&source("node", "engine/node/src/main.rs", text)).is_empty());
    }

    #[test]
    fn a_line_of_101_characters_is_found_and_one_of_100_is_not() {
        let text = format!("//! {}\n//! {}\n", "é".repeat(96), "é".repeat(97));
        let found = messages(&check(&source("p", "p/src/a.rs", &text)));
        assert_eq!(
            found,
            ["p/src/a.rs:2: line of 101 characters, the limit is 100"]
        );
    }

    #[test]
    fn a_function_of_71_lines_is_found_wherever_it_is() {
        let body = |lines| format!("{{\n{}}}\n", "    g();\n".repeat(lines - 2));
        let allowed = format!("//! x\nfn f() {}", body(FUNCTION_LINES_MAX));
        assert!(check(&source("p", "p/src/a.rs", &allowed)).is_empty());
        let long = body(FUNCTION_LINES_MAX + 1);
        for text in [
            format!("//! x\nfn f() {long}"),
            format!("//! x\nimpl X {{ fn f(&self) {long} }}"),
            format!("//! x\ntrait X {{ fn f(&self) {long} }}"),
            format!("//! x\nmod m {{ fn f() {long} }}"),
        ] {
            let found = messages(&check(&source("p", "p/src/a.rs", &text)));
            assert_eq!(found, ["p/src/a.rs:2: fn f has 71 lines, the limit is 70"]);
        }
    }

    #[test]
    fn a_file_of_601_lines_is_found_unless_the_rest_is_tests() {
        let lines = "//! x\n".repeat(FILE_LINES_MAX + 1);
        let found = messages(&check(&source("p", "p/src/a.rs", &lines)));
        assert_eq!(
            found,
            ["p/src/a.rs: 601 lines without tests, the limit is 600"]
        );
        let tests = format!(
            "//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "//\n".repeat(FILE_LINES_MAX)
        );
        assert!(check(&source("p", "p/src/a.rs", &tests)).is_empty());
    }

    /// Lesson: a file of tests alone grew to 753 lines, since nothing looked at such files.
    #[test]
    fn a_file_of_701_lines_is_found_also_where_it_is_tests_alone() {
        let lines = "//! x\n".repeat(FILE_LINES_WITH_TESTS_MAX);
        let longer = format!("{lines}//\n");
        let inside = format!(
            "//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "//\n".repeat(FILE_LINES_WITH_TESTS_MAX - 3)
        );
        for (path, text) in [
            ("p/src/a.rs", &inside),
            ("p/src/tests.rs", &longer),
            ("p/src/a_test.rs", &longer),
            ("p/tests/it/a.rs", &longer),
        ] {
            assert_eq!(
                messages(&check(&source("p", path, text))),
                [format!("{path}: 701 lines with tests, the limit is 700")]
            );
        }
        for path in ["p/src/tests.rs", "p/tests/it/a.rs"] {
            assert!(check(&source("p", path, &lines)).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_module_without_a_header_is_found() {
        let found = messages(&check(&source("p", "p/src/a.rs", "fn f() {}\n")));
        assert!(
            found[0].starts_with("p/src/a.rs: no `//!` header"),
            "{found:?}"
        );
    }

    #[test]
    fn only_named_crates_may_deny_instead_of_forbid() {
        let deny = "//! x\n#![deny(unsafe_code)]\n";
        let found = messages(&check(&source("node", "engine/node/src/main.rs", deny)));
        assert_eq!(
            found,
            ["engine/node/src/main.rs: no `#![forbid(unsafe_code)]`"]
        );
        assert!(check(&source("cores", "engine/cores/src/lib.rs", deny)).is_empty());
        assert_eq!(
            check(&source("cores", "engine/cores/src/lib.rs", "//! x\n")).len(),
            1
        );
    }
}
