//! What is said to a server, read from the sources: every statement is text that MariaDB, MySQL 8
//! and `TiDB` have in common, as their manuals have it. MariaDB runs here, and MySQL where the
//! rig is told of one.

use std::fs;
use std::path::{Path, PathBuf};

/// Text that one of them does not take, and which.
const UNCOMMON: [(&str, &str); 24] = [
    ("RETURNING", "MySQL and TiDB have none"),
    ("SKIP LOCKED", "TiDB has none"),
    ("FOR SHARE", "MariaDB has LOCK IN SHARE MODE"),
    ("INTERSECT", "MySQL has it from 8.0.31 on"),
    ("EXCEPT ", "MySQL has it from 8.0.31 on"),
    ("COLUMN IF ", "MariaDB alone has it"),
    ("INDEX IF ", "MariaDB alone has it"),
    ("KEY IF ", "MariaDB alone has it"),
    ("OR REPLACE TABLE", "MySQL replaces views alone"),
    ("VALUES ROW", "MariaDB has no ROW there"),
    ("AS new", "MariaDB has VALUES(column)"),
    (" VALUE(", "MariaDB alone calls VALUES() so"),
    ("SET STATEMENT", "MariaDB alone has it"),
    ("NEXT VALUE", "MySQL has no sequences"),
    ("ROWS EXAMINED", "MariaDB alone has it"),
    ("FULL JOIN", "nobody has it"),
    ("LATERAL", "MariaDB and TiDB have none"),
    (
        "JSON",
        "it is a text for MariaDB, and a type of its own elsewhere",
    ),
    ("UUID", "a type for MariaDB alone"),
    ("PERSISTENT", "elsewhere it is STORED"),
    ("DEFAULT (", "expressions differ"),
    ("NOPAD", "a collation of MariaDB"),
    ("0900", "a collation of MySQL"),
    ("GEOMETRY", "TiDB has none"),
];

/// Words that one of them reserves and that would pass for names on another.
const RESERVED: &str = "cube cume_dist dense_rank empty except first_value function grouping \
    groups intersect json_table lag last_value lateral lead library manual nth_value ntile of \
    offset over parallel percent_rank period qualify rank recursive returning row row_number rows \
    stats system tablesample window vector array change condition interval key keys lock range \
    read release schema signal slow general usage write mod div index order group limit match \
    option";

/// Statements, and the pieces that they are made of, begin with one of these.
const BEGINNINGS: &str = "SELECT INSERT UPDATE DELETE CREATE SET SHOW START COMMIT ROLLBACK DO ON \
    WHERE FROM JOIN LEFT UNION AND ORDER LIMIT VALUES";

#[test]
fn every_statement_is_one_that_all_servers_have() {
    let texts = texts();
    let statements = texts.iter().filter(|(_, text)| is_statement(text));
    assert!(
        statements.clone().count() > 150,
        "the sources are elsewhere"
    );
    for (file, text) in statements {
        for (words, why) in UNCOMMON {
            assert!(!text.contains(words), "{file}: {words}: {why}:\n{text}");
        }
        for word in names(text) {
            let is_reserved = RESERVED.split_whitespace().any(|known| known == word);
            assert!(!is_reserved, "{file}: {word} is a reserved word:\n{text}");
        }
    }
}

#[test]
fn what_is_uncommon_is_found() {
    let source = "const A: &str = \"SELECT rank FROM t \\\n    WHERE a = 'of'\"; // \"FOR SHARE\"\n\
                  #[cfg(test)]\nconst B: &str = \"SELECT of\";";
    let found = literals(source);
    assert_eq!(found, ["SELECT rank FROM t WHERE a = 'of'"]);
    assert!(is_statement(&found[0]));
    assert_eq!(names(&found[0]).collect::<Vec<_>>(), ["rank", "t", "a"]);
}

fn is_statement(text: &str) -> bool {
    let first = text.trim_start_matches([' ', ')', '(']);
    let first = first.split(|c: char| !c.is_ascii_alphabetic()).next();
    first.is_some_and(|first| BEGINNINGS.split_whitespace().any(|known| known == first))
}

/// Every string of the sources, and every migration, with its file.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    for path in files(&root.join("src/mysql")) {
        let name = path.display().to_string();
        let source = fs::read_to_string(&path).expect("readable");
        texts.extend(
            literals(&source)
                .into_iter()
                .map(|text| (name.clone(), text)),
        );
    }
    for path in files(&root.join("migrations/mysql")) {
        let sql = fs::read_to_string(&path).expect("readable");
        let lines = sql.lines().filter(|line| !line.starts_with("--"));
        texts.push((
            path.display().to_string(),
            lines.collect::<Vec<_>>().join(" "),
        ));
    }
    texts
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// The strings of a source up to its tests, in one line each.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source.split("#[cfg(test)]").next().unwrap_or_default();
    while let Some(at) = rest.find(['"', '/']) {
        let (before, here) = rest.split_at(at);
        rest = if here.starts_with("//") {
            here.split_once('\n').map_or("", |(_, next)| next)
        } else if here.starts_with('/') || before.ends_with('\'') {
            // A quote as a character is no string.
            &here[1..]
        } else {
            let (text, length) = literal(&here[1..]);
            found.push(text.split_whitespace().collect::<Vec<_>>().join(" "));
            &here[1 + length..]
        };
    }
    found
}

/// The string that begins at `rest`, and how much of it that is, its end included.
fn literal(rest: &str) -> (String, usize) {
    let mut text = String::new();
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (text, at + 1),
            '\\' => match characters.next() {
                Some((_, '\n' | 'n')) => text.push(' '),
                Some((_, escaped)) => text.push(escaped),
                None => break,
            },
            other => text.push(other),
        }
    }
    (text, rest.len())
}

/// The words of a statement that are no keywords: what is quoted, and what is put in, left out.
fn names(text: &str) -> impl Iterator<Item = String> {
    let mut bare = String::new();
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (None, '\'' | '`') => quote = Some(character),
            (None, '{') => quote = Some('}'),
            (Some(end), character) if character == end => quote = None,
            (None, character) => bare.push(character),
            (Some(_), _) => {}
        }
    }
    let words: Vec<String> = bare
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '@'))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
        .map(ToOwned::to_owned)
        .collect();
    words.into_iter()
}
