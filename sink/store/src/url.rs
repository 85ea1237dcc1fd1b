//! Where the store is. Knows the spelling of each backend's address and nothing of its database.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::StoreError;
use crate::mysql::{MysqlUrl, masked};

/// The end of a masked password in what is printed.
const MASKED: &str = ":***@";

/// Address of a store, such as `sqlite:ringwatch.db`. Its `Display` never shows a password.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// The embedded store: a file, next to which SQLite keeps `-wal` and `-shm`.
    Sqlite(PathBuf),
    /// A MySQL or MariaDB server.
    Mysql(MysqlUrl),
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    /// From `sqlite:PATH`, or `sqlite:///PATH` for an absolute one; or from
    /// `mysql://USER:PASS@HOST:PORT/DB` with the options of [`MysqlUrl`].
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() || path == ":memory:" {
                    return Err(StoreError::NoPath {
                        given: text.to_owned(),
                    });
                }
                Ok(Self::Sqlite(PathBuf::from(path)))
            }
            "mysql" | "mariadb" => text.parse().map(Self::Mysql),
            _ => Err(StoreError::UnknownUrl {
                given: masked(text),
            }),
        }
    }
}

impl StoreUrl {
    /// From what [`Display`](fmt::Display) printed, whose password is masked: to compare places,
    /// not to open it.
    ///
    /// # Errors
    /// As [`FromStr`].
    pub fn shown(text: &str) -> Result<Self, StoreError> {
        match text.split_once(MASKED) {
            Some((before, after)) => format!("{before}@{after}").parse(),
            None => text.parse(),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Mysql(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_url_names_a_file() {
        for (text, path) in [
            ("sqlite:ringwatch.db", "ringwatch.db"),
            ("sqlite:/var/lib/r.db", "/var/lib/r.db"),
            ("SQLite:///var/lib/r.db", "/var/lib/r.db"),
            (" sqlite:a b.db ", "a b.db"),
        ] {
            assert_eq!(
                text.parse::<StoreUrl>().expect(text),
                StoreUrl::Sqlite(path.into())
            );
        }
        let url = StoreUrl::Sqlite("/x/y.db".into());
        assert_eq!(url.to_string().parse::<StoreUrl>().expect("printed"), url);
    }

    #[test]
    fn other_urls_are_refused_with_what_is_accepted() {
        for text in [
            "",
            "ringwatch.db",
            "postgres://u@h/d",
            "sqlite:",
            "sqlite::memory:",
        ] {
            let sentence = text.parse::<StoreUrl>().expect_err(text).to_string();
            assert!(sentence.contains("sqlite:PATH"), "{sentence}");
        }
    }

    #[test]
    fn what_was_printed_names_the_same_place() {
        let url: StoreUrl = "mysql://u:s3cret@h/d".parse().expect("valid");
        let StoreUrl::Mysql(own) = &url else {
            panic!("a server");
        };
        let Ok(StoreUrl::Mysql(again)) = StoreUrl::shown(&url.to_string()) else {
            panic!("{url} is read again");
        };
        assert!(own.is_same_place(&again));
        assert!(url.to_string().parse::<StoreUrl>().is_err());
    }

    #[test]
    fn a_password_is_never_printed() {
        for text in [
            "mysql://u:s3cret@h:3306",
            "mysql://u:s3c@ret@h/d?x=y",
            "pg://u:s3cret@h/d",
        ] {
            let sentence = text.parse::<StoreUrl>().expect_err(text).to_string();
            assert!(
                !sentence.contains("s3c") && sentence.contains("u:***@h"),
                "{sentence}"
            );
        }
        for mistyped in [
            "mysql:u:s3cret@h/d",
            "mysql:/u:s3cret@h/d",
            "u:s3cret@h/d",
            "mysql://u:s3cret/d",
            "mysql://u:s3cret",
        ] {
            let sentence = mistyped
                .parse::<StoreUrl>()
                .expect_err(mistyped)
                .to_string();
            let is_masked = sentence.contains(":***") && !sentence.contains("s3c");
            assert!(is_masked, "{sentence}");
        }
    }
}
