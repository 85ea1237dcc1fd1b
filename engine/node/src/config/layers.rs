//! Where values come from: defaults < file < environment < flags. Knows keys and their form, not
//! their meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use model::suggest::hint;
use toml::{Table, Value};

use super::keys::{self, Key, Kind};
use crate::exit::bad_input;

/// Who gave a value; later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Nobody.
    Default,
    /// A line of the configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A command line flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => path.display().fmt(f),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The values given, each with who gave it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    values: BTreeMap<&'static str, (Value, Source)>,
    /// Variables that look like ours and are no key: orchestrators make some, so they are no error.
    pub(crate) unknown_variables: Vec<String>,
}

impl Layers {
    /// Reads the file (if any), then `environment`, then `flags`.
    pub(crate) fn read(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: Vec<(&'static str, Value)>,
    ) -> anyhow::Result<Self> {
        let mut layers = Self::default();
        if let Some(path) = file {
            layers.add_file(path)?;
        }
        let mut variables: Vec<_> = environment.collect();
        variables.sort();
        for (name, text) in variables {
            layers.add_variable(&name, &text)?;
        }
        for (name, value) in flags {
            let flag = Source::Flag(format!("--{}", name.replace('_', "-")));
            layers.values.insert(name, (value, flag));
        }
        Ok(layers)
    }

    /// The value of `name` and who gave it.
    pub(crate) fn get(&self, name: &str) -> Option<(&Value, &Source)> {
        self.values.get(name).map(|(value, source)| (value, source))
    }

    /// Who gave `name`.
    pub(crate) fn source(&self, name: &str) -> Source {
        self.get(name)
            .map_or(Source::Default, |(_, source)| source.clone())
    }

    fn add_file(&mut self, path: &Path) -> anyhow::Result<()> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return bad_input(format!(
                    "the config file {} cannot be read ({error}): check the path and its rights",
                    path.display()
                ));
            }
        };
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return bad_input(malformed(path, &text, &error)),
        };
        for (name, value) in flat(path, table)? {
            let Some(key) = keys::find(&name) else {
                let line = line_of(&text, name.rsplit('.').next().unwrap_or(&name));
                let near = hint(&name, keys::names());
                let path = path.display();
                return bad_input(format!("{path}:{line}: unknown key `{name}`{near}"));
            };
            self.values
                .insert(key.name, (value, Source::File(path.to_owned())));
        }
        Ok(())
    }

    fn add_variable(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let Some(suffix) = name.strip_prefix("RINGWATCH_") else {
            return Ok(());
        };
        let lower = suffix.to_ascii_lowercase();
        if lower == "config" {
            return Ok(());
        }
        let Some(key) = keys::of_variable(&lower) else {
            self.unknown_variables
                .push(format!("{name}{}", hint(&lower, keys::names())));
            return Ok(());
        };
        match parse(key, text) {
            Ok(value) => {
                let source = Source::Environment(name.to_owned());
                self.values.insert(key.name, (value, source));
                Ok(())
            }
            // Tokens are in some lists of tables.
            Err(accepted) if key.kind == Kind::Tables => {
                bad_input(format!("{name}: found something else than {accepted}"))
            }
            Err(accepted) => bad_input(format!("{name}: found {text:?}, accepted is {accepted}")),
        }
    }
}

/// The keys of a file, those of its sections under their whole names.
fn flat(path: &Path, table: Table) -> anyhow::Result<Vec<(String, Value)>> {
    let mut keys = Vec::new();
    for (name, value) in table {
        match value {
            Value::Table(section) if keys::SECTIONS.contains(&name.as_str()) => {
                let whole = |(key, value): (String, Value)| (format!("{name}.{key}"), value);
                keys.extend(section.into_iter().map(whole));
            }
            other if keys::SECTIONS.contains(&name.as_str()) => {
                let path = path.display();
                return bad_input(format!(
                    "{path}: {name}: found {other}, accepted is a table [{name}]"
                ));
            }
            value => keys.push((name, value)),
        }
    }
    Ok(keys)
}

/// The first line that sets `name`, 1 when it cannot be told.
fn line_of(text: &str, name: &str) -> usize {
    let sets = |line: &str| {
        let line = line.trim_start().trim_start_matches(['[', '"', '\'']);
        line.strip_prefix(name).is_some_and(|rest| {
            rest.trim_start_matches(['"', '\''])
                .trim_start()
                .starts_with(['=', '.', ']'])
        })
    };
    text.lines().position(sets).map_or(1, |index| index + 1)
}

/// What is wrong with the file, and where. The line itself is not shown: it may have a password.
fn malformed(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| 1 + before.matches('\n').count());
    format!("{}:{line}: {}", path.display(), error.message())
}

/// A value from text, or what would be accepted.
fn parse(key: Key, text: &str) -> Result<Value, &'static str> {
    let text = text.trim();
    let whole = |text: &str| text.trim().parse::<i64>().map(Value::Integer);
    let parts = || {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
    };
    match key.kind {
        Kind::Text => Ok(Value::String(text.to_owned())),
        Kind::Whole => whole(text).map_err(|_| "a whole number"),
        Kind::Flag => text
            .parse()
            .map(Value::Boolean)
            .map_err(|_| "true or false"),
        Kind::Texts => Ok(Value::Array(
            parts().map(|part| Value::String(part.to_owned())).collect(),
        )),
        Kind::Tables => {
            let table = format!("v = {text}").parse::<Table>();
            let value = table.ok().and_then(|mut table| table.remove("v"));
            value.ok_or("a list of tables, as in the configuration file")
        }
        Kind::Wholes => {
            let values: Result<Vec<Value>, _> = parts().map(whole).collect();
            values
                .map(Value::Array)
                .map_err(|_| "whole numbers separated by commas")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(file: &str, environment: &[(&str, &str)]) -> anyhow::Result<Layers> {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("ringwatch.toml");
        std::fs::write(&path, file).expect("written");
        let variables = environment
            .iter()
            .map(|&(n, v)| (n.to_owned(), v.to_owned()));
        Layers::read(
            Some(&path),
            variables,
            vec![("prune", Value::Boolean(true))],
        )
    }

    #[test]
    fn later_layers_win() {
        let layers = layers(
            "drain_s = 5\nprune = false\nadmin = 'x'",
            &[("RINGWATCH_DRAIN_S", "7")],
        )
        .expect("valid");
        assert_eq!(layers.get("drain_s").expect("set").0, &Value::Integer(7));
        assert_eq!(layers.get("prune").expect("set").0, &Value::Boolean(true));
        assert_eq!(layers.source("prune").to_string(), "--prune");
        assert!(matches!(layers.source("admin"), Source::File(_)));
        assert_eq!(layers.source("dns"), Source::Default);
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line_and_the_nearest_key() {
        let error = layers("drain_s = 5\n\n drains = 6", &[])
            .expect_err("unknown")
            .to_string();
        assert!(error.ends_with("ringwatch.toml:3: unknown key `drains`; did you mean `drain_s`?"));
        let error = layers("[sink]\ncpu = 1", &[])
            .expect_err("unknown")
            .to_string();
        assert!(
            error.ends_with("ringwatch.toml:1: unknown key `sink`"),
            "{error}"
        );
    }

    /// Lesson: the line was shown, and a reload wrote it to the log and to the audit.
    #[test]
    fn a_line_that_is_no_toml_is_named_and_not_shown() {
        let file = "drain_s = 5\nstore = \"mysql://root:s3cret@127.0.0.1/db\ndns = 7\n";
        let error = layers(file, &[]).expect_err("no end of the text");
        let sentence = format!("{error:#} {error:?}");
        assert!(sentence.contains("ringwatch.toml:2: "), "{sentence}");
        assert!(!sentence.contains("s3cret"), "{sentence}");
        let twice = layers("\n\nadmin = 1\nadmin = 2\n", &[]).expect_err("twice");
        assert!(twice.to_string().contains("ringwatch.toml:4: "), "{twice}");
    }

    #[test]
    fn an_unknown_variable_is_only_reported() {
        let layers = layers(
            "",
            &[
                ("RINGWATCH_DRAIN", "7"),
                ("RINGWATCH_PORT_1", "x"),
                ("A", "b"),
            ],
        )
        .expect("valid");
        assert_eq!(
            layers.unknown_variables,
            [
                "RINGWATCH_DRAIN; did you mean `drain_s`?",
                "RINGWATCH_PORT_1"
            ]
        );
    }

    #[test]
    fn variables_are_parsed_by_the_form_of_their_key() {
        let good = [
            ("RINGWATCH_DNS", "1.1.1.1, 9.9.9.9"),
            ("RINGWATCH_PROBE_CORES", "1,2"),
        ];
        let layers = layers("", &good).expect("valid");
        assert_eq!(
            layers.get("dns").expect("set").0.as_array().map(Vec::len),
            Some(2)
        );
        assert_eq!(
            layers.get("probe_cores").expect("set").0[1],
            Value::Integer(2)
        );
    }

    #[test]
    fn a_variable_of_the_wrong_form_is_named() {
        let error = layers("", &[("RINGWATCH_DRAIN_S", "soon")])
            .expect_err("bad")
            .to_string();
        assert_eq!(
            error,
            "RINGWATCH_DRAIN_S: found \"soon\", accepted is a whole number"
        );
    }
}
