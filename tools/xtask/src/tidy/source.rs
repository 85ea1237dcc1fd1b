//! One Rust file, parsed once: its text, its tokens with their lines, and where its tests are.

use std::ops::RangeInclusive;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A word, number, literal or punctuation character of the code; comments are not tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// A parsed file of one crate.
pub(super) struct Source {
    pub(super) package: String,
    /// Path below the workspace's root.
    pub(super) path: String,
    pub(super) text: String,
    pub(super) tokens: Vec<Token>,
    pub(super) syntax: syn::File,
    /// Lines of `#[cfg(test)]` modules, attribute included.
    test_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    /// Parses `text`.
    pub(super) fn parse(package: &str, path: &str, text: String) -> Result<Self> {
        let located = |error: &dyn std::fmt::Display| anyhow!("{path} does not parse: {error}");
        let syntax = syn::parse_file(&text).map_err(|error| located(&error))?;
        let stream = TokenStream::from_str(&text).map_err(|error| located(&error))?;
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let test_lines = syntax.items.iter().filter_map(test_module).collect();
        let (package, path) = (package.to_owned(), path.to_owned());
        Ok(Self {
            package,
            path,
            text,
            tokens,
            syntax,
            test_lines,
        })
    }

    /// Whether `line` is inside a `#[cfg(test)]` module, or the file is a test itself.
    pub(super) fn is_test(&self, line: usize) -> bool {
        self.is_test_file() || self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// Whether the whole file is tests: in a `tests` folder, or called `tests` or `…_test`.
    pub(super) fn is_test_file(&self) -> bool {
        let name = self.module();
        self.path.contains("/tests/") || name == "tests" || name.ends_with("_test")
    }

    /// Lines outside `#[cfg(test)]` modules.
    pub(super) fn lines_without_tests(&self) -> usize {
        let tests: usize = self
            .test_lines
            .iter()
            .map(|lines| lines.end() - lines.start() + 1)
            .sum();
        self.text.lines().count() - tests
    }

    /// File name without `.rs`; the folder's name for `mod.rs`.
    pub(super) fn module(&self) -> &str {
        let path = self.path.strip_suffix("/mod.rs").unwrap_or(&self.path);
        let name = path.rsplit('/').next().unwrap_or(path);
        name.strip_suffix(".rs").unwrap_or(name)
    }

    /// Path of the module inside its crate, as tests are named: the name of the integration binary
    /// first, unit tests under the module that they test.
    pub(super) fn module_path(&self) -> Vec<&str> {
        let inside = ["/src/", "/tests/"].iter().find_map(|folder| {
            let (_, inside) = self.path.split_once(folder)?;
            Some(inside)
        });
        let inside = inside.unwrap_or(&self.path);
        let mut path: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
        path.pop_if(|name| matches!(*name, "mod" | "main" | "lib"));
        path.retain(|name| *name != "tests");
        path
    }

    /// Whether a function `name` stands here under `#[test]`, or another crate's `#[…::test]`.
    pub(super) fn has_test(&self, name: &str) -> bool {
        let text = |at: usize| self.tokens[at].text.as_str();
        (1..self.tokens.len())
            .filter(|&at| text(at) == name && text(at - 1) == "fn")
            .any(|at| self.is_under_test_attribute(at - 1))
    }

    /// Looks back from a `fn` over its qualifiers and attributes.
    fn is_under_test_attribute(&self, mut at: usize) -> bool {
        let text = |at: usize| self.tokens[at].text.as_str();
        while at > 0 && text(at - 1) == "async" {
            at -= 1;
        }
        while at > 2 && text(at - 1) == "]" {
            let Some(open) = (0..at - 1).rev().find(|&open| text(open) == "[") else {
                return false;
            };
            // `test`, or a path that ends in it, before any arguments.
            let path: Vec<&str> = (open + 1..at - 1)
                .map(text)
                .take_while(|&token| token != "(")
                .collect();
            if path.last() == Some(&"test") && path.iter().all(|&part| part != "=") {
                return true;
            }
            at = open.saturating_sub(1);
        }
        false
    }

    /// Lines at which the tokens read `words`, one token each.
    pub(super) fn find<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = usize> + 'a {
        self.tokens
            .windows(words.len())
            .filter(move |window| {
                window
                    .iter()
                    .zip(words)
                    .all(|(token, word)| token.text == *word)
            })
            .map(|window| window[0].line)
    }
}

fn test_module(item: &syn::Item) -> Option<RangeInclusive<usize>> {
    let syn::Item::Mod(module) = item else {
        return None;
    };
    let attribute = module.attrs.iter().find(|attr| {
        attr.path().is_ident("cfg")
            && attr
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })?;
    let (braces, _) = module.content.as_ref()?;
    Some(attribute.pound_token.span.start().line..=braces.span.close().end().line)
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let span = tree.span();
        let line = span.start().line;
        let mut push = |text: String, line| tokens.push(Token { text, line });
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned(), line);
                flatten(group.stream(), tokens);
                tokens.push(Token {
                    text: close.to_owned(),
                    line: span.end().line,
                });
            }
            TokenTree::Ident(ident) => push(ident.to_string(), line),
            TokenTree::Punct(punct) => push(punct.as_char().to_string(), line),
            TokenTree::Literal(literal) => push(literal.to_string(), line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse("prober", "probe/prober/src/http1/head.rs", text.to_owned()).expect("parses")
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        let source = source("//! a::b\n/* a::b */\nfn f() { let _ = \"a::b\"; a::b(); }\n");
        assert_eq!(source.find(&["a", ":", ":", "b"]).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn lines_of_a_test_module_are_known_and_not_counted() {
        let source = source("//! x\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\n");
        assert_eq!(source.lines_without_tests(), 3);
        assert!(source.is_test(4) && source.is_test(7) && !source.is_test(2));
    }

    #[test]
    fn whole_files_of_tests_are_known_by_their_name() {
        let is_test = |path: &str| {
            Source::parse("p", path, String::new())
                .expect("parses")
                .is_test_file()
        };
        for path in [
            "a/tests/it/main.rs",
            "a/src/tests.rs",
            "a/src/crash_test.rs",
        ] {
            assert!(is_test(path), "{path}");
        }
        assert!(!is_test("a/src/test_bed.rs") && !is_test("a/src/contest.rs"));
    }

    #[test]
    fn a_module_is_named_by_its_file_or_folder() {
        assert_eq!(source("").module(), "head");
        let folder = Source::parse("p", "a/src/reactor/mod.rs", String::new()).expect("parses");
        assert_eq!(folder.module(), "reactor");
    }

    #[test]
    fn a_test_is_a_function_under_the_attribute() {
        let text = "/// Doc.\n#[test]\n#[should_panic(expected = \"[x]\")]\nfn a() {}\n\
                    #[tokio::test(flavor = \"x\")]\nasync fn b() {}\n\
                    #[cfg(test)]\nfn c() {}\n#[doc = \"test\"]\nfn d() {}\nfn e() { a(); }\n\
                    proptest! {\n    #[test]\n    fn f(x in 0..3) {}\n}\n";
        let source = source(text);
        let found = ["a", "b", "c", "d", "e", "f"].map(|name| source.has_test(name));
        assert_eq!(found, [true, true, false, false, false, true]);
    }

    #[test]
    fn the_path_of_a_module_is_that_of_its_file() {
        let path = |file: &str| {
            let source = Source::parse("p", file, String::new()).expect("parses");
            source.module_path().join("::")
        };
        assert_eq!(path("sink/persist/src/sink/tests.rs"), "sink");
        assert_eq!(
            path("sink/persist/src/sink/tests/restart.rs"),
            "sink::restart"
        );
        assert_eq!(path("sink/persist/src/crash_test.rs"), "crash_test");
        assert_eq!(path("engine/cores/src/reactor/mod.rs"), "reactor");
        assert_eq!(path("engine/cores/tests/it/main.rs"), "it");
        assert_eq!(path("engine/cores/tests/it/soak.rs"), "it::soak");
        assert_eq!(path("engine/cores/src/lib.rs"), "");
    }

    #[test]
    fn a_file_that_does_not_parse_is_named() {
        let error = Source::parse("p", "a/src/b.rs", "fn".to_owned())
            .err()
            .expect("no Rust");
        assert!(
            error.to_string().starts_with("a/src/b.rs does not parse"),
            "{error}"
        );
    }
}
