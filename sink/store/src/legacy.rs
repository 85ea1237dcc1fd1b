//! The tables of an older system, as somebody names them: where its targets are, what is written
//! back, and under which names. Only names and choices: the SQL around them is the backend's.

use std::fmt;
use std::str::FromStr;

/// Longest name of a table or column in MySQL, in characters.
const NAME_MAX: usize = 64;

/// The name of a table or column of somebody else. It has nothing that could end a quoted name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// As it is in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a statement has it.
    pub(crate) fn quoted(&self) -> String {
        format!("`{}`", self.0)
    }
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$';
        if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err("the name of a table or column: 1 to 64 of a-z, A-Z, 0-9, _ and $")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where it is written when targets were last checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LegacyFreshness {
    /// In our own table, for readers of its view.
    #[default]
    Sidecar,
    /// In two columns of the legacy table.
    Columns,
    /// Nowhere: the node's own ages are all there is.
    Off,
}

impl LegacyFreshness {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Columns => "columns",
            Self::Off => "off",
        }
    }
}

impl FromStr for LegacyFreshness {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sidecar" => Ok(Self::Sidecar),
            "columns" => Ok(Self::Columns),
            "off" => Ok(Self::Off),
            _ => Err("one of: sidecar columns off"),
        }
    }
}

/// Names of the columns of the legacy table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyColumns {
    /// Primary key, a whole number: the target's id.
    pub id: Name,
    /// The group of the target.
    pub group: Name,
    /// Part of the fleet of one older host; written by an export only.
    pub bucket: Name,
    /// What is checked.
    pub url: Name,
    /// 1 where it is checked.
    pub active: Name,
    /// Minutes.
    pub interval: Name,
    /// 0 Seems Down, 1 up, 2 Down.
    pub status: Name,
    /// When the status changed, UTC.
    pub status_changed: Name,
    /// When it was last checked, UTC: with [`LegacyFreshness::Columns`] only.
    pub last_checked: Name,
    /// When it is due, UTC: with [`LegacyFreshness::Columns`] only.
    pub next_check: Name,
}

/// The legacy table and its companions. It is never altered, and of its rows only the status and,
/// where that is asked for, the freshness is ever written by a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Legacy {
    /// Whether the targets are its rows. Else nothing of it is read or written by a node.
    pub load: bool,
    /// The table.
    pub table: Name,
    /// Its columns.
    pub columns: LegacyColumns,
    /// Settings of single targets, by `source_site_id`. `None`: our own table of them.
    pub config_table: Option<Name>,
    /// Settings of all targets of a blog, by `blog_id`, where those of the target say nothing.
    pub blog_config_table: Option<Name>,
    /// Whether the status of a target is written into its row.
    pub status: bool,
    /// Where its freshness is written.
    pub freshness: LegacyFreshness,
    /// Buckets that an export spreads new rows over.
    pub buckets: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        for good in ["jetpack_monitor_sites", "a", "Site$2", &"x".repeat(64)] {
            let name: Name = good.parse().expect(good);
            assert_eq!(name.quoted(), format!("`{good}`"));
        }
        for bad in ["", "a b", "a`b", "a.b", "a;b", "\u{fc}", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn words_of_freshness_are_read_back() {
        for word in ["sidecar", "columns", "off"] {
            let parsed: LegacyFreshness = word.parse().expect(word);
            assert_eq!(parsed.as_str(), word);
        }
        assert!("on".parse::<LegacyFreshness>().is_err());
    }
}
