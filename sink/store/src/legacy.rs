//! The tables of an older system, as somebody names them: where its targets are, what is written
//! back, and under which names. Only names and choices: the SQL around them is the backend's.

use std::fmt;
use std::str::FromStr;

use model::{FieldError, Target, TargetId};

use crate::columns::Fingerprint;

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
    /// Part of the fleet of one older host. Rows are counted by it; written by an export only.
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
    /// Buckets that an export spreads new rows over. Those that are there may be others.
    pub buckets: u32,
}

/// Highest bucket that is counted.
pub const LEGACY_BUCKET_MAX: u16 = u16::MAX - 1;

/// Which rows of the legacy table are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyRange {
    /// The next active rows after an id, in the order of their ids.
    After {
        /// `None`: from the first one on.
        id: Option<TargetId>,
        /// At most so many.
        limit: usize,
    },
    /// As `After`, of one bucket.
    Bucket {
        /// Up to [`LEGACY_BUCKET_MAX`].
        bucket: u16,
        /// `None`: from the first one on.
        id: Option<TargetId>,
        /// At most so many.
        limit: usize,
    },
    /// Rows by their ids, active or not. Those that are not there are not in the answer.
    Ids(Vec<TargetId>),
}

/// A row of the legacy table, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyRow {
    /// Its key.
    pub id: TargetId,
    /// `None` where buckets are not asked for, or where it is none that is counted.
    pub bucket: Option<u16>,
    /// What it is.
    pub state: LegacyState,
}

/// What a row of the legacy table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyState {
    /// A target, of generation 1, and what to compare with the next reading.
    Active(Box<Target>, Fingerprint),
    /// Active, and no valid target.
    Refused(FieldError),
    /// Active, and an operator paused it: valid or not, it is not checked.
    Paused,
    /// Not checked, valid or not.
    Inactive,
}

/// The active rows of one bucket, or of some ids that follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTally {
    /// How many.
    pub rows: u64,
    /// Of which ids: that of [`RowTally::mark`] of each, combined by XOR.
    pub marks: u64,
}

impl RowTally {
    /// What the row `id` adds: a product of the middle bits of a product, so that rows that come
    /// and rows that go at once do not cancel each other. Plain ids do (4 and 7 for 5 and 6), and
    /// so do one-fold products of neighbours, once in 20,000. MySQL computes the same, without
    /// overflow: all numbers have 63 bits.
    pub fn mark(id: TargetId) -> u64 {
        let [first, second] = MARK_FACTORS;
        let product = (id.get() as u64 & MARK_MASK) * first;
        ((product >> MARK_SHIFT) & MARK_MASK) * second
    }

    /// Takes in, or out again, the row `id`.
    pub fn toggle(&mut self, id: TargetId, is_there: bool) {
        self.rows = if is_there {
            self.rows + 1
        } else {
            self.rows.saturating_sub(1)
        };
        self.marks ^= Self::mark(id);
    }
}

/// 31 bits.
pub(crate) const MARK_MASK: u64 = 0x7fff_ffff;
/// Primes of 32 bits.
pub(crate) const MARK_FACTORS: [u64; 2] = [2_654_435_761, 2_246_822_519];
/// Where the middle bits of the first product begin.
pub(crate) const MARK_SHIFT: u32 = 16;

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
    fn rows_that_come_and_go_at_once_are_seen_though_their_number_stays() {
        let of = |ids: &[i64]| {
            let mut tally = RowTally::default();
            for &id in ids {
                tally.toggle(TargetId::new(id).expect("positive"), true);
            }
            tally
        };
        // Neighbours whose sums and whose XORs are the same.
        for base in (0..100_000).step_by(4) {
            let [gone, come] = [[base + 4, base + 7], [base + 5, base + 6]];
            assert_ne!(of(&gone), of(&come), "{base}");
        }
        let mut tally = of(&[1, 2, i64::MAX]);
        tally.toggle(TargetId::new(1).expect("positive"), false);
        assert_eq!(tally, of(&[2, i64::MAX]));
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
