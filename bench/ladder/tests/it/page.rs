//! The table as people read it, `docs/failure-classes.md`: written by hand never, checked here.

use std::fmt::Write as _;

use model::FailureClass;

use crate::programs::root;
use crate::row::{Means, Row};
use crate::table::ROWS;

/// Where the page is, below the workspace's root.
const PAGE: &str = "docs/failure-classes.md";
/// Set, and the page is written instead of being checked.
const WRITE: &str = "WRITE_DOCS";

const INTRODUCTION: &str = "\
# Failure classes

A check that is not up has a class: a stable word, the same in events, metrics, JSON and here,
with the code that readers of the old tables know. Each row below is played by a test
(`cargo xtask test -p ladder`) with the built programs on loopback: the farm breaks a site, or a
place on the machine is as the row says, and `ringwatch check --json` must give exactly this
class, code and verdict, these phases and no other, and this evidence. What no server can bring
about at will is held by the test that is named, which takes what it expects from its row of this
page. Of those, `connect.reset` is rare: a reset in answer to a SYN is `connect.refused`, as Linux
has it, and one behind the handshake is `tls.*` or `http.reset`. Only a `tcp://` check
without `send` meets it, where the peer breaks off in the middle of the handshake, or before the
core has looked at the connection; the others speak first.

This page is made from that table; after a change of it:
`WRITE_DOCS=1 cargo xtask test -p ladder the_page`.

| class | code | verdict | brought about by | phases | what `--json` says |
|---|---|---|---|---|---|
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for row in ROWS {
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            row.class
                .map_or("–".to_owned(), |class| quoted(class.as_str())),
            row.legacy_code
                .map_or("–".to_owned(), |code| code.to_string()),
            row.verdict,
            means(row),
            row.phases,
            says(row),
        )
        .expect("a String takes every write");
    }
    page
}

fn means(row: &Row) -> String {
    match row.means {
        Means::Site {
            https,
            fault,
            flags,
        } => {
            let scheme = if https { "https" } else { "http" };
            format!("{scheme}, {}{}", quoted(fault), flagged(flags))
        }
        Means::Place { place, flags } => place.name().to_owned() + &flagged(flags),
        Means::Test { file, name } => format!("[{name}](../{file})"),
    }
}

fn flagged(flags: &[&str]) -> String {
    if flags.is_empty() {
        String::new()
    } else {
        format!(", {}", quoted(&flags.join(" ")))
    }
}

fn says(row: &Row) -> String {
    if row.says.is_empty() {
        return "–".to_owned();
    }
    let said = row
        .says
        .iter()
        .map(|(path, text)| format!("{path}: {}", quoted(text)));
    said.collect::<Vec<_>>().join("<br>")
}

/// As code; with backquotes inside, by two of them.
fn quoted(text: &str) -> String {
    if text.contains('`') {
        format!("`` {text} ``")
    } else {
        format!("`{text}`")
    }
}

#[test]
fn the_page_shows_the_table() {
    let file = root().join(PAGE);
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, &page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(found, page, "{PAGE} is not the table: {WRITE}=1 writes it");
    for &class in FailureClass::ALL {
        assert!(page.contains(&quoted(class.as_str())), "{class}");
    }
}
