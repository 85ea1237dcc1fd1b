//! Whether a statement of the binary log may have changed a table that is read. Pure. It does not
//! understand statements: whatever names the table counts, and what it costs to be wrong is that
//! the table is read once.

/// What a statement is for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A transaction begins: its rows follow.
    Begin,
    /// The transaction ends.
    End,
    /// Anything else; outside of a transaction it is one by itself.
    Other,
}

pub(super) fn kind(statement: &[u8]) -> Kind {
    let mut words = words(statement).map(<[u8]>::to_ascii_uppercase);
    match (words.next().as_deref(), words.next().as_deref()) {
        (Some(b"BEGIN"), None) | (Some(b"XA"), Some(b"START" | b"BEGIN")) => Kind::Begin,
        (Some(b"COMMIT" | b"ROLLBACK"), None) | (Some(b"XA"), Some(b"COMMIT" | b"ROLLBACK")) => {
            Kind::End
        }
        _ => Kind::Other,
    }
}

/// The first of `tables` that `statement` names, as a whole word in any case; or the first of all
/// when it drops the database. It was said in the database `within`, and another one than
/// `database` is meant where it does not name that.
pub(super) fn named<'a>(
    statement: &[u8],
    within: &[u8],
    database: &str,
    mut tables: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    if !is(within, database) && !words(statement).any(|word| is(word, database)) {
        return None;
    }
    let mut head = words(statement).take(2);
    let is_drop = head.next().is_some_and(|word| is(word, "DROP"))
        && head
            .next()
            .is_some_and(|word| is(word, "DATABASE") || is(word, "SCHEMA"));
    if is_drop && words(statement).any(|word| is(word, database)) {
        return tables.next();
    }
    words(statement).find_map(|word| tables.clone().find(|table| is(word, table)))
}

/// The first word of a statement, for people.
pub(super) fn first_word(statement: &[u8]) -> String {
    let word = words(statement).next().unwrap_or_default();
    String::from_utf8_lossy(&word[..word.len().min(32)]).into_owned()
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

/// Runs of what names are made of; bytes above 127 belong to names too.
fn words(statement: &[u8]) -> impl Iterator<Item = &[u8]> {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 128..);
    statement
        .split(move |byte| !of_name(byte))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concerns(statement: &str) -> Option<&'static str> {
        let tables = ["sites", "settings"];
        named(statement.as_bytes(), b"watch", "watch", tables.into_iter())
    }

    #[test]
    fn a_table_of_another_database_is_another_one() {
        let concerns = |statement: &str| {
            named(
                statement.as_bytes(),
                b"other",
                "watch",
                ["sites"].into_iter(),
            )
        };
        assert_eq!(concerns("ALTER TABLE sites ADD x INT"), None);
        assert_eq!(
            concerns("ALTER TABLE `WATCH`.`sites` ADD x INT"),
            Some("sites")
        );
    }

    #[test]
    fn a_table_is_named_by_a_whole_word_in_any_case_and_quotes() {
        for statement in [
            "ALTER TABLE sites ADD COLUMN x INT",
            "/* tool */ alter table `watch`.`SITES` drop column x",
            "RENAME TABLE `_sites_new` TO `sites`",
            "TRUNCATE sites",
            "UPDATE other, sites SET sites.a=1",
            "DROP DATABASE `watch`",
        ] {
            assert_eq!(concerns(statement), Some("sites"), "{statement}");
        }
        assert_eq!(
            concerns("insert into settings(a)values(1)"),
            Some("settings")
        );
        for statement in [
            "ALTER TABLE sites_old ADD COLUMN x INT",
            "CREATE TABLE my$sites (id INT)",
            "DROP DATABASE other",
            "DROP TABLE watch",
            "BEGIN",
            "",
            "\u{fc}sites",
        ] {
            assert_eq!(concerns(statement), None, "{statement}");
        }
    }

    #[test]
    fn transactions_begin_and_end_with_words_of_their_own() {
        for (statement, is) in [
            ("BEGIN", Kind::Begin),
            ("XA START X'61',X'',1", Kind::Begin),
            ("COMMIT", Kind::End),
            ("rollback /* why */", Kind::Other),
            ("ROLLBACK", Kind::End),
            ("ROLLBACK TO `s`", Kind::Other),
            ("SAVEPOINT `s`", Kind::Other),
            ("XA END X'61',X'',1", Kind::Other),
            ("XA COMMIT X'61',X'',1", Kind::End),
            ("CREATE TABLE t (id INT)", Kind::Other),
        ] {
            assert_eq!(kind(statement.as_bytes()), is, "{statement}");
        }
        assert_eq!(first_word(b"ALTER TABLE sites"), "ALTER");
    }
}
