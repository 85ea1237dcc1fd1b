//! Bytes of the journal: the segment header, the record header, and the walk over a segment that
//! tells a torn end from damage. Pure: it touches no file.
//!
//! ```text
//! segment = magic [8] · first journal number u64 · crc32 of both u32
//! record  = body length u32 · journal number u64 · crc32 of both u32 · crc32 of body u32 · body
//! ```
//!
//! All numbers are little-endian; the body is the batch in postcard. (That of formats before this
//! one is read by `earlier`.) The length has a checksum of
//! its own, so that a flipped bit in it is not taken for an incomplete write. The segment header is
//! the same in every version of the format: its magic ends with the version of what follows.

use model::fact::Batch;

use super::earlier;

/// First bytes of a segment, before the version.
const MAGIC: [u8; 7] = *b"RWFACTS";
/// Version of the format that is written; those of releases before are read, too.
pub(crate) const VERSION: u8 = 5;
/// Bytes of a segment header.
pub(crate) const SEGMENT_HEADER: usize = 20;
/// Bytes of a record header.
pub(crate) const RECORD_HEADER: usize = 20;
/// A file system writes whole pages: an incomplete write leaves the rest of one as zeros.
const PAGE: usize = 4_096;

/// The header of a segment whose first record has number `first_seq`.
pub(crate) fn segment_header(first_seq: u64) -> [u8; SEGMENT_HEADER] {
    header_of(VERSION, first_seq)
}

/// The same in any version of the format.
pub(super) fn header_of(version: u8, first_seq: u64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..7].copy_from_slice(&MAGIC);
    header[7] = version;
    header[8..16].copy_from_slice(&first_seq.to_le_bytes());
    let crc = crc32fast::hash(&header[..16]);
    header[16..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// A format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The one that is written.
    Current,
    /// One of a release before.
    Earlier(earlier::Version),
}

impl Format {
    fn of(version: u8) -> Option<Self> {
        match version {
            VERSION => Some(Self::Current),
            other => earlier::Version::of(other).map(Self::Earlier),
        }
    }
}

/// The format of a segment and its first journal number, if its header is whole and right, and the
/// format can be read.
pub(crate) fn parse_segment_header(bytes: &[u8]) -> Option<(Format, u64)> {
    let (version, first_seq) = whole_header(bytes)?;
    Some((Format::of(version)?, first_seq))
}

/// Version and first journal number, if the header is whole and right.
fn whole_header(bytes: &[u8]) -> Option<(u8, u64)> {
    let first_seq = u64::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
    let version = *bytes.get(7)?;
    let is_whole = bytes.get(..SEGMENT_HEADER)? == header_of(version, first_seq);
    is_whole.then_some((version, first_seq))
}

/// Appends the record of `batch` to `out`.
pub(crate) fn encode(batch: &Batch, out: &mut Vec<u8>) -> Result<(), postcard::Error> {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    let body = postcard::to_allocvec(batch)?;
    let header = RecordHeader {
        length: body.len() as u32,
        journal_seq: batch.journal_seq,
        body_crc: crc32fast::hash(&body),
    };
    out[start..].copy_from_slice(&header.to_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// The header of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) length: u32,
    pub(crate) journal_seq: u64,
    pub(crate) body_crc: u32,
}

impl RecordHeader {
    fn to_bytes(self) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.journal_seq.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes[16..].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, if it is whole and right. (The checksum of the body is
    /// checked against the body.)
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        if number(12)? != crc32fast::hash(bytes.get(..12)?) {
            return None;
        }
        let journal_seq = u64::from_le_bytes(*bytes.get(4..)?.first_chunk()?);
        Some(Self {
            length: number(0)?,
            journal_seq,
            body_crc: number(16)?,
        })
    }

    /// The batch in `body`, if it is the one that was written.
    pub(crate) fn decode(&self, format: Format, body: &[u8]) -> Option<Batch> {
        if crc32fast::hash(body) != self.body_crc {
            return None;
        }
        let batch: Batch = match format {
            Format::Current => postcard::from_bytes(body).ok()?,
            Format::Earlier(version) => version.decode(body)?,
        };
        (batch.journal_seq == self.journal_seq).then_some(batch)
    }
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After a whole record.
    Whole,
    /// The last write was cut at this offset: nothing after it was ever synced.
    Torn(u64),
    /// What is at this offset is not what was written.
    Damaged(u64),
    /// It was written whole, in this version of the format, which cannot be read.
    OtherVersion(u8),
}

/// Visits the batches of a segment in order, as far as they are whole; returns the number of the
/// last one and how the segment ends. Up to `known` nobody needs them: those are stepped over
/// without a look at their contents, whatever became of those.
pub(crate) fn walk(bytes: &[u8], known: u64, mut visit: impl FnMut(Batch)) -> (u64, End) {
    let Some((format, first_seq)) = parse_segment_header(bytes) else {
        return (0, end_of_headless(bytes));
    };
    let (mut offset, mut expected) = (SEGMENT_HEADER, first_seq);
    let end = loop {
        if offset >= bytes.len() {
            break End::Whole;
        }
        match record_at(format, bytes, offset, known) {
            Read::Record { header, batch } if header.journal_seq == expected => {
                if let Some(batch) = batch {
                    visit(batch);
                }
                offset += RECORD_HEADER + header.length as usize;
                expected += 1;
            }
            Read::Torn => break End::Torn(offset as u64),
            Read::Record { .. } | Read::Damaged => break End::Damaged(offset as u64),
        }
    };
    (expected.saturating_sub(1), end)
}

/// What a file without a header of ours is.
fn end_of_headless(bytes: &[u8]) -> End {
    if let Some((version, _)) = whole_header(bytes) {
        return End::OtherVersion(version);
    }
    let torn = bytes.len() < SEGMENT_HEADER || is_zero(bytes) || ends_in_a_hole(bytes, 0);
    if torn { End::Torn(0) } else { End::Damaged(0) }
}

enum Read {
    /// A whole record, and its batch if that is wanted.
    Record {
        header: RecordHeader,
        batch: Option<Batch>,
    },
    Torn,
    Damaged,
}

fn record_at(format: Format, bytes: &[u8], offset: usize, known: u64) -> Read {
    let rest = &bytes[offset..];
    if rest.len() < RECORD_HEADER || is_zero(rest) {
        return Read::Torn;
    }
    let torn_or_damaged = || {
        if ends_in_a_hole(bytes, offset) {
            Read::Torn
        } else {
            Read::Damaged
        }
    };
    let Some(header) = RecordHeader::parse(rest) else {
        return torn_or_damaged();
    };
    let end = RECORD_HEADER + header.length as usize;
    let Some(body) = rest.get(RECORD_HEADER..end) else {
        return Read::Torn;
    };
    if header.journal_seq <= known {
        let batch = None;
        return Read::Record { header, batch };
    }
    match header.decode(format, body) {
        Some(batch) => Read::Record {
            header,
            batch: Some(batch),
        },
        None => torn_or_damaged(),
    }
}

/// Whether the file ends, after `offset`, with a page of zeros: its length was written, its
/// contents were not.
fn ends_in_a_hole(bytes: &[u8], offset: usize) -> bool {
    let page = (bytes.len() - 1) / PAGE * PAGE;
    page > offset && is_zero(&bytes[page..])
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests {
    use model::metadata::Probed;
    use model::outcome::Phases;
    use model::target::Method;
    use proptest::prelude::*;

    use super::*;
    use crate::testbed::{any_batches, flip_bit};

    fn segment(batches: &[Batch]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = segment_header(batches.first().map_or(1, |b| b.journal_seq)).to_vec();
        let mut offsets = vec![0];
        for batch in batches {
            offsets.push(bytes.len());
            encode(batch, &mut bytes).expect("encodes");
        }
        (bytes, offsets)
    }

    fn read(bytes: &[u8]) -> (Vec<Batch>, End) {
        let mut batches = Vec::new();
        let (_, end) = walk(bytes, 0, |batch| batches.push(batch));
        (batches, end)
    }

    /// 15 % of the 197 bytes of a fact without it.
    #[test]
    fn how_a_check_went_makes_no_fact_much_larger() {
        let probed = Probed {
            method: Some(Method::Head),
            phases: Phases::from([Some(2_000_000); 6]),
            redirect_count: 10,
        };
        let added = postcard::to_allocvec(&probed).expect("encodes").len();
        assert!(added <= 28, "{added} B");
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(batches in any_batches()) {
            let (bytes, _) = segment(&batches);
            prop_assert_eq!(read(&bytes), (batches, End::Whole));
        }

        #[test]
        fn a_cut_anywhere_loses_only_the_record_that_it_hits(
            batches in any_batches(),
            cut in any::<prop::sample::Index>(),
            hole in 0usize..9_000,
        ) {
            let (whole, offsets) = segment(&batches);
            let cut = cut.index(whole.len());
            let kept = offsets.iter().skip(2).filter(|&&end| end <= cut).count()
                + usize::from(offsets.len() > 1 && cut == whole.len());
            let (found, end) = read(&whole[..cut]);
            prop_assert_eq!(&found[..], &batches[..kept]);
            let at_record = offsets.iter().skip(1).any(|&end| end == cut);
            prop_assert_eq!(end == End::Whole, at_record, "{:?}", end);
            prop_assert!(!matches!(end, End::Damaged(_)));

            // The same, when the file already had its new length.
            let mut holed = whole[..cut].to_vec();
            holed.resize(cut + hole + 2 * PAGE, 0);
            let (found, end) = read(&holed);
            prop_assert!(found.len() == kept || found.len() == kept + 1);
            prop_assert!(matches!(end, End::Torn(_)), "{:?}", end);
        }

        #[test]
        fn a_flipped_bit_is_reported_where_its_record_starts(
            batches in any_batches(),
            bit in any::<prop::sample::Index>(),
        ) {
            let (mut bytes, offsets) = segment(&batches);
            let bit = bit.index(bytes.len() * 8);
            flip_bit(&mut bytes, bit);
            let hit = offsets.iter().rposition(|&start| start <= bit / 8).expect("0 is there");
            let (found, end) = read(&bytes);
            prop_assert_eq!(end, End::Damaged(offsets[hit] as u64));
            prop_assert_eq!(&found[..], &batches[..hit.saturating_sub(1)]);
        }
    }
}
