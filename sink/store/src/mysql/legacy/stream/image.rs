//! Row images of the binary log: which rows of an event changed in a column that is read. Pure, and
//! it decodes nothing but keys: values are compared as the bytes they are. Bytes that are no images
//! are told, never a panic.
//!
//! ```text
//!  one row: NULL bits of the columns that are there │ their values, without the NULL ones
//!  an update: the row before, the row after
//! ```

use mysql_async::consts::ColumnType;

/// Bytes of a value in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fixed(usize),
    /// As many as these bytes before it say, little-endian.
    Counted(usize),
}

/// Bytes of the digits of a DECIMAL that are left over after groups of nine, which take four.
const DIGITS: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

impl Width {
    /// Of a column, by its type and the metadata of the table map. `None`: not known.
    pub(super) fn of(kind: ColumnType, meta: &[u8]) -> Option<Self> {
        let at = |index: usize| meta.get(index).map(|byte| usize::from(*byte));
        let fraction = |whole: usize| Some(Self::Fixed(whole + at(0)?.div_ceil(2)));
        Some(match kind {
            ColumnType::MYSQL_TYPE_NULL => Self::Fixed(0),
            ColumnType::MYSQL_TYPE_TINY | ColumnType::MYSQL_TYPE_YEAR => Self::Fixed(1),
            ColumnType::MYSQL_TYPE_SHORT => Self::Fixed(2),
            ColumnType::MYSQL_TYPE_INT24
            | ColumnType::MYSQL_TYPE_DATE
            | ColumnType::MYSQL_TYPE_NEWDATE
            | ColumnType::MYSQL_TYPE_TIME => Self::Fixed(3),
            ColumnType::MYSQL_TYPE_LONG
            | ColumnType::MYSQL_TYPE_FLOAT
            | ColumnType::MYSQL_TYPE_TIMESTAMP => Self::Fixed(4),
            ColumnType::MYSQL_TYPE_LONGLONG
            | ColumnType::MYSQL_TYPE_DOUBLE
            | ColumnType::MYSQL_TYPE_DATETIME => Self::Fixed(8),
            ColumnType::MYSQL_TYPE_TIME2 => fraction(3)?,
            ColumnType::MYSQL_TYPE_TIMESTAMP2 => fraction(4)?,
            ColumnType::MYSQL_TYPE_DATETIME2 => fraction(5)?,
            ColumnType::MYSQL_TYPE_BIT => Self::Fixed(at(1)? + at(0)?.div_ceil(8)),
            ColumnType::MYSQL_TYPE_NEWDECIMAL => {
                let (scale, all) = (at(1)?, at(0)?);
                let digits = |count: usize| count / 9 * 4 + DIGITS[count % 9];
                Self::Fixed(digits(all.checked_sub(scale)?) + digits(scale))
            }
            ColumnType::MYSQL_TYPE_ENUM | ColumnType::MYSQL_TYPE_SET => Self::Fixed(at(1)?),
            ColumnType::MYSQL_TYPE_STRING => string(at(0)?, at(1)?),
            ColumnType::MYSQL_TYPE_VARCHAR | ColumnType::MYSQL_TYPE_VAR_STRING => {
                counted(at(0)? | at(1)? << 8)
            }
            ColumnType::MYSQL_TYPE_TINY_BLOB
            | ColumnType::MYSQL_TYPE_BLOB
            | ColumnType::MYSQL_TYPE_MEDIUM_BLOB
            | ColumnType::MYSQL_TYPE_LONG_BLOB
            | ColumnType::MYSQL_TYPE_GEOMETRY
            | ColumnType::MYSQL_TYPE_JSON
            | ColumnType::MYSQL_TYPE_VECTOR => {
                Self::Counted(at(0).filter(|bytes| (1..=4).contains(bytes))?)
            }
            ColumnType::MYSQL_TYPE_DECIMAL
            | ColumnType::MYSQL_TYPE_TYPED_ARRAY
            | ColumnType::MYSQL_TYPE_UNKNOWN => return None,
        })
    }

    /// Takes a value off `bytes`.
    fn take<'a>(self, bytes: &mut &'a [u8]) -> Result<&'a [u8], Broken> {
        let count = match self {
            Self::Fixed(count) => count,
            Self::Counted(prefix) => {
                let mut whole = [0; 8];
                whole[..prefix].copy_from_slice(split(bytes, prefix)?);
                usize::try_from(u64::from_le_bytes(whole)).map_err(|_| Broken::Cut)?
            }
        };
        split(bytes, count)
    }
}

/// CHAR, or what is written as one: the type is in two bits less than the byte has (MySQL bug
/// 37426: the other two are the length's).
fn string(first: usize, second: usize) -> Width {
    match first | 0x30 {
        kind if kind == ColumnType::MYSQL_TYPE_ENUM as usize => Width::Fixed(second),
        kind if kind == ColumnType::MYSQL_TYPE_SET as usize => Width::Fixed(second),
        _ => counted(second | ((first & 0x30) ^ 0x30) << 4),
    }
}

/// A text of at most `max` bytes.
fn counted(max: usize) -> Width {
    Width::Counted(if max < 256 { 1 } else { 2 })
}

fn split<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Broken> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Broken::Cut)?;
    *bytes = rest;
    Ok(taken)
}

/// Why images say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// They end too early.
    Cut,
    /// The column that names the row is in none of them.
    NoKey,
}

/// How the rows of a table are written, and which of its columns matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Of every column of the table.
    pub(super) widths: Vec<Width>,
    /// The columns that are read, rising, that of the key among them.
    pub(super) read: Vec<usize>,
    /// The column that names the row: a whole number.
    pub(super) key: usize,
    pub(super) key_is_unsigned: bool,
    /// Another value of this column is more than an edit, as is a row that comes or goes; `None`:
    /// in this table everything is an edit.
    pub(super) switch: Option<usize>,
}

/// How a row changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Edited,
    Switched,
}

/// One column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen<'a> {
    /// Not in this image.
    Absent,
    Null,
    Value(&'a [u8]),
}

/// Which columns are in the images of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Images {
    /// Of the rows as they were; `None` where rows are new.
    pub(super) before: Option<Vec<bool>>,
    /// Of the rows as they are; `None` where they were deleted.
    pub(super) after: Option<Vec<bool>>,
}

/// What became of the rows of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) seen: usize,
    /// Nothing that is read changed in them.
    pub(super) same: usize,
}

impl Layout {
    /// Gives the key of each row of `data` that changed in a column that is read to `changed`; of
    /// a row whose key changed, both. A key that is negative is none of ours and not given.
    pub(super) fn judge(
        &self,
        images: &Images,
        mut data: &[u8],
        mut changed: impl FnMut(u64, How),
    ) -> Result<Rows, Broken> {
        let mut rows = Rows::default();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let present = [&images.before, &images.after].into_iter().flatten();
        if !present.flatten().any(|is_there| *is_there) {
            // Rows without a byte would go on for ever.
            return Err(Broken::NoKey);
        }
        while !data.is_empty() {
            self.pick(images.before.as_deref(), &mut data, &mut before)?;
            self.pick(images.after.as_deref(), &mut data, &mut after)?;
            rows.seen += 1;
            if images.before.is_some() && images.after.is_some() && is_same(&before, &after) {
                rows.same += 1;
                continue;
            }
            let (old, new) = (self.key(&before), self.key(&after));
            if (old, new) == (Key::Absent, Key::Absent) {
                return Err(Broken::NoKey);
            }
            let is_other = old.ours() != new.ours() && new != Key::Absent;
            let is_switch = self.is_switch(&before, &after) || self.switch.is_some() && is_other;
            let how = if is_switch {
                How::Switched
            } else {
                How::Edited
            };
            let came = new.ours().filter(|_| is_other);
            let keys = old.ours().into_iter().chain(came);
            keys.for_each(|key| changed(key, how));
        }
        Ok(rows)
    }

    /// Takes one image off `data`: the columns that are read, in their order.
    fn pick<'a>(
        &self,
        present: Option<&[bool]>,
        data: &mut &'a [u8],
        into: &mut Vec<Seen<'a>>,
    ) -> Result<(), Broken> {
        into.clear();
        let Some(present) = present else {
            return Ok(());
        };
        let count = present.iter().filter(|is_there| **is_there).count();
        let nulls = split(data, count.div_ceil(8))?;
        let (mut at, mut wanted) = (0, self.read.iter().peekable());
        for (column, width) in self.widths.iter().enumerate() {
            let seen = if present.get(column).copied().unwrap_or(false) {
                at += 1;
                match nulls[(at - 1) / 8] >> ((at - 1) % 8) & 1 {
                    0 => Seen::Value(width.take(data)?),
                    _ => Seen::Null,
                }
            } else {
                Seen::Absent
            };
            if wanted.next_if_eq(&&column).is_some() {
                into.push(seen);
            }
        }
        Ok(())
    }

    fn is_switch(&self, before: &[Seen<'_>], after: &[Seen<'_>]) -> bool {
        let at = self.switch.and_then(|switch| {
            let mut read = self.read.iter();
            read.position(|column| *column == switch)
        });
        at.is_some_and(|at| match (before.get(at), after.get(at)) {
            (Some(_), Some(Seen::Absent)) => false,
            (before, after) => before != after,
        })
    }

    fn key(&self, image: &[Seen<'_>]) -> Key {
        let at = self.read.iter().position(|column| *column == self.key);
        let Some(Seen::Value(bytes)) = at.and_then(|at| image.get(at)) else {
            return Key::Absent;
        };
        let mut whole = [0; 8];
        let Some(low) = whole.get_mut(..bytes.len()) else {
            return Key::Absent;
        };
        low.copy_from_slice(bytes);
        let is_negative = !self.key_is_unsigned && bytes.last().is_some_and(|byte| *byte >= 0x80);
        if is_negative {
            return Key::Negative;
        }
        Key::Is(u64::from_le_bytes(whole))
    }
}

/// What an image says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Absent,
    /// None of ours.
    Negative,
    Is(u64),
}

impl Key {
    fn ours(self) -> Option<u64> {
        match self {
            Self::Is(key) => Some(key),
            Self::Absent | Self::Negative => None,
        }
    }
}

/// Whether nothing that is read changed, as far as the images tell: a column that only the new one
/// has was written, maybe with another value; one that it has not was not written.
fn is_same(before: &[Seen<'_>], after: &[Seen<'_>]) -> bool {
    let pairs = before.iter().zip(after);
    pairs.into_iter().all(|pair| match pair {
        (_, Seen::Absent) => true,
        (before, after) => before == after,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// id BIGINT UNSIGNED, url VARCHAR(300), status TINYINT, note BLOB; id and url are read.
    fn sites() -> Layout {
        Layout {
            widths: vec![
                Width::Fixed(8),
                Width::Counted(2),
                Width::Fixed(1),
                Width::Counted(2),
            ],
            read: vec![0, 1],
            key: 0,
            key_is_unsigned: true,
            switch: None,
        }
    }

    type Row = [Option<Vec<u8>>; 4];

    fn row(id: u64, url: &str, status: u8) -> Row {
        [
            Some(id.to_le_bytes().to_vec()),
            Some(url.as_bytes().to_vec()),
            Some(vec![status]),
            None,
        ]
    }

    /// As a server writes it: MySQL internals manual, "`Rows_log_event`".
    fn image(layout: &Layout, row: &Row, present: &[bool]) -> Vec<u8> {
        let columns: Vec<usize> = (0..row.len()).filter(|at| present[*at]).collect();
        let mut out = vec![0; columns.len().div_ceil(8)];
        for (at, column) in columns.into_iter().enumerate() {
            match (&row[column], layout.widths[column]) {
                (None, _) => out[at / 8] |= 1 << (at % 8),
                (Some(value), Width::Fixed(_)) => out.extend(value),
                (Some(value), Width::Counted(prefix)) => {
                    out.extend(&(value.len() as u64).to_le_bytes()[..prefix]);
                    out.extend(value);
                }
            }
        }
        out
    }

    const ALL: [bool; 4] = [true; 4];

    fn update(before: &Row, after: &Row, has: [&[bool; 4]; 2]) -> (Result<Rows, Broken>, Vec<u64>) {
        let layout = sites();
        let mut data = image(&layout, before, has[0]);
        data.extend(image(&layout, after, has[1]));
        let [before, after] = has.map(|present| Some(present.to_vec()));
        let mut changed = Vec::new();
        let judged = layout.judge(&Images { before, after }, &data, |key, _| changed.push(key));
        (judged, changed)
    }

    #[test]
    fn a_row_changed_only_where_a_column_that_is_read_did() {
        let old = row(5, "http://a.test/", 1);
        let (_, changed) = update(&old, &row(5, "http://b.test/", 1), [&ALL, &ALL]);
        assert_eq!(changed, [5]);
        let (rows, changed) = update(&old, &row(5, "http://a.test/", 2), [&ALL, &ALL]);
        assert_eq!(rows, Ok(Rows { seen: 1, same: 1 }));
        assert_eq!(changed, Vec::<u64>::new());
        let (_, changed) = update(&old, &row(6, "http://a.test/", 1), [&ALL, &ALL]);
        assert_eq!(
            changed,
            [5, 6],
            "both the row that went and the one that came"
        );
        let without = [old[0].clone(), None, None, None];
        let (_, changed) = update(&old, &without, [&ALL, &ALL]);
        assert_eq!(changed, [5], "a NULL is another value");
    }

    #[test]
    fn what_an_image_leaves_out_was_not_written_and_what_only_the_new_one_has_was() {
        let (old, new) = (row(5, "http://a.test/", 1), row(5, "http://a.test/", 2));
        let key = [true, false, false, false];
        let status = [false, false, true, false];
        let (rows, _) = update(&old, &new, [&key, &status]);
        assert_eq!(
            rows,
            Ok(Rows { seen: 1, same: 1 }),
            "binlog_row_image = MINIMAL"
        );
        let url = [false, true, false, false];
        let (_, changed) = update(&old, &new, [&key, &url]);
        assert_eq!(changed, [5], "equal or not: it cannot be told");
        let (rows, _) = update(&old, &new, [&ALL, &status]);
        assert_eq!(rows, Ok(Rows { seen: 1, same: 1 }), "FULL_NODUP");
        let (rows, _) = update(&old, &new, [&status, &url]);
        assert_eq!(rows, Err(Broken::NoKey));
    }

    #[test]
    fn a_row_is_switched_when_it_comes_or_goes_or_the_switch_is_another() {
        let layout = Layout {
            read: vec![0, 1, 2],
            switch: Some(2),
            ..sites()
        };
        let (old, new) = (row(5, "http://a.test/", 1), row(5, "http://b.test/", 1));
        let off = row(5, "http://b.test/", 0);
        let other = row(6, "http://a.test/", 1);
        let url = [true, true, false, false];
        let all = Some(&ALL);
        for (before, after, has, how) in [
            (&old, &new, [all, all], How::Edited),
            (&old, &new, [all, Some(&url)], How::Edited),
            (&old, &off, [all, all], How::Switched),
            (&old, &other, [all, all], How::Switched),
            (&old, &other, [all, Some(&url)], How::Switched),
            (&old, &new, [None, all], How::Switched),
            (&old, &new, [all, None], How::Switched),
        ] {
            let mut data = Vec::new();
            for (row, present) in [before, after].into_iter().zip(has) {
                data.extend(present.map_or_else(Vec::new, |is| image(&layout, row, is)));
            }
            let [before, after] = has.map(|present| present.map(|is| is.to_vec()));
            let mut seen = Vec::new();
            let judged = layout.judge(&Images { before, after }, &data, |_, how| seen.push(how));
            assert!(judged.is_ok());
            assert!(
                seen.iter().all(|seen| *seen == how) && !seen.is_empty(),
                "{seen:?}"
            );
        }
    }

    #[test]
    fn keys_have_the_sign_of_their_column() {
        let mut layout = Layout {
            widths: vec![Width::Fixed(4)],
            read: vec![0],
            key: 0,
            key_is_unsigned: false,
            switch: None,
        };
        let images = Images {
            before: None,
            after: Some(vec![true]),
        };
        let data = [0, 0xff, 0xff, 0xff, 0xff, 0, 7, 0, 0, 0];
        let keys = |layout: &Layout| {
            let mut keys = Vec::new();
            let judged = layout.judge(&images, &data, |key, _| keys.push(key));
            assert_eq!(judged, Ok(Rows { seen: 2, same: 0 }));
            keys
        };
        assert_eq!(keys(&layout), [7]);
        layout.key_is_unsigned = true;
        assert_eq!(keys(&layout), [u64::from(u32::MAX), 7]);
    }

    #[test]
    fn widths_follow_types_and_their_metadata() {
        for (kind, meta, width) in [
            (
                ColumnType::MYSQL_TYPE_VARCHAR,
                &[44, 1][..],
                Width::Counted(2),
            ),
            (ColumnType::MYSQL_TYPE_VARCHAR, &[255, 0], Width::Counted(1)),
            (ColumnType::MYSQL_TYPE_STRING, &[254, 16], Width::Counted(1)),
            // CHAR(100) of four bytes each: 400 = 0x190, its upper bits turned round.
            (
                ColumnType::MYSQL_TYPE_STRING,
                &[0xee, 0x90],
                Width::Counted(2),
            ),
            (ColumnType::MYSQL_TYPE_STRING, &[247, 2], Width::Fixed(2)),
            (ColumnType::MYSQL_TYPE_STRING, &[248, 1], Width::Fixed(1)),
            (ColumnType::MYSQL_TYPE_TIMESTAMP2, &[0], Width::Fixed(4)),
            (ColumnType::MYSQL_TYPE_DATETIME2, &[3], Width::Fixed(7)),
            (ColumnType::MYSQL_TYPE_TIME2, &[6], Width::Fixed(6)),
            (ColumnType::MYSQL_TYPE_NEWDECIMAL, &[10, 2], Width::Fixed(5)),
            (ColumnType::MYSQL_TYPE_NEWDECIMAL, &[20, 0], Width::Fixed(9)),
            (ColumnType::MYSQL_TYPE_BIT, &[1, 1], Width::Fixed(2)),
            (ColumnType::MYSQL_TYPE_JSON, &[4], Width::Counted(4)),
        ] {
            assert_eq!(Width::of(kind, meta), Some(width), "{kind:?} {meta:?}");
        }
        assert_eq!(Width::of(ColumnType::MYSQL_TYPE_JSON, &[9]), None);
        assert_eq!(Width::of(ColumnType::MYSQL_TYPE_VARCHAR, &[1]), None);
        assert_eq!(Width::of(ColumnType::MYSQL_TYPE_NEWDECIMAL, &[2, 5]), None);
    }

    fn rows() -> impl Strategy<Value = Row> {
        let value = |length| proptest::option::of(proptest::collection::vec(any::<u8>(), length));
        (any::<u64>(), value(0..300), any::<u8>(), value(0..9)).prop_map(
            |(id, url, status, note)| {
                [
                    Some(id.to_le_bytes().to_vec()),
                    url,
                    Some(vec![status]),
                    note,
                ]
            },
        )
    }

    proptest! {
        #[test]
        fn every_row_is_judged_as_the_values_say(
            pairs in proptest::collection::vec((rows(), rows(), any::<bool>()), 0..20)
        ) {
            let layout = sites();
            let (mut data, mut expected) = (Vec::new(), Vec::new());
            for (before, after, keeps_url) in &pairs {
                let mut after = after.clone();
                after[0].clone_from(&before[0]);
                if *keeps_url {
                    after[1].clone_from(&before[1]);
                }
                let id = before[0].clone().expect("given").try_into().expect("eight bytes");
                expected.extend((before[1] != after[1]).then_some(u64::from_le_bytes(id)));
                data.extend(image(&layout, before, &ALL));
                data.extend(image(&layout, &after, &ALL));
            }
            let images = Images { before: Some(ALL.to_vec()), after: Some(ALL.to_vec()) };
            let mut changed = Vec::new();
            let rows = layout.judge(&images, &data, |key, _| changed.push(key)).expect("whole");
            changed.dedup();
            expected.dedup();
            prop_assert_eq!(rows.seen, pairs.len());
            prop_assert_eq!(changed, expected);
        }

        #[test]
        fn no_bytes_make_it_panic_or_go_on_for_ever(
            widths in proptest::collection::vec((any::<bool>(), 0_usize..5), 0..20),
            before in proptest::option::of(proptest::collection::vec(any::<bool>(), 0..24)),
            after in proptest::option::of(proptest::collection::vec(any::<bool>(), 0..24)),
            data in proptest::collection::vec(any::<u8>(), 0..400),
            key in 0_usize..20,
        ) {
            let width = |(is_fixed, count)| {
                if is_fixed { Width::Fixed(count) } else { Width::Counted(count) }
            };
            let layout = Layout {
                widths: widths.into_iter().map(width).collect(),
                read: vec![key],
                key,
                key_is_unsigned: false,
                switch: Some(key),
            };
            let length = data.len();
            let rows = layout.judge(&Images { before, after }, &data, |_, _| {});
            prop_assert!(rows.map_or(0, |rows| rows.seen) <= length);
        }

        #[test]
        fn no_metadata_makes_a_width_panic(
            kind: u8,
            meta in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            if let Ok(kind) = ColumnType::try_from(kind) {
                Width::of(kind, &meta);
            }
        }
    }
}
