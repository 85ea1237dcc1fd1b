//! Fuzz body of the content codings. The first byte of an input chooses the coding and the pieces,
//! the rest is the coded body.

use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use model::limits::BODY_MAX_BYTES;

use super::brotli::{Brotli, LIVE_MAX_BYTES, Progress};
use super::budget::Budget;
use super::{BLOCK_BYTES, Decoder, Kind, PIECE_BYTES};
use crate::fuzzing::pieces;
use crate::http1::head::Coding;

/// Memory of one decoder, whatever it is sent: for brotli all that it asks for by its end.
const MEMORY_MAX_BYTES: usize = 128 * 1024 * 1024;
/// What a block of deflate can make, and what was under way.
const ROOM_MAX_BYTES: usize = 1_032 * BLOCK_BYTES + 64 * 1024;

/// What came of a body.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    data: Vec<u8>,
    broken: bool,
    cut: bool,
    why: &'static str,
}

/// Why a body is read no further.
#[derive(Clone, Copy, Debug)]
enum End {
    Stream,
    Ours,
}

/// Whatever the pieces, a body decodes to the same, at most a mebibyte, in pieces and in memory
/// that are bounded; what is whole is what another reader of it finds.
pub(crate) fn coding(data: &[u8]) {
    let Some((&control, bytes)) = data.split_first() else {
        return;
    };
    let coding = [Coding::Gzip, Coding::Deflate, Coding::Brotli][usize::from(control % 3)];
    let whole = any_split(coding, bytes, control, End::Stream);
    assert!(!(whole.broken && whole.cut));
    assert_eq!(whole.broken || whole.cut, !whole.why.is_empty());
    let stopped = any_split(coding, bytes, control, End::Ours);
    assert!(!stopped.cut, "who stops is to blame, not the sender");
    assert!(whole.data.starts_with(&stopped.data));
    match coding {
        Coding::Brotli => agrees_with_a_larger_window(&whole, bytes),
        _ => agrees_with_another_reader(&whole, coding, bytes),
    }
}

fn any_split(coding: Coding, bytes: &[u8], control: u8, end: End) -> Decoded {
    let whole = decode(coding, [bytes], end);
    assert_eq!(decode(coding, pieces(bytes, control), end), whole);
    assert_eq!(decode(coding, bytes.chunks(1), end), whole);
    whole
}

fn decode<'a>(coding: Coding, pieces: impl IntoIterator<Item = &'a [u8]>, end: End) -> Decoded {
    let budget = Budget::new(LIVE_MAX_BYTES);
    let mut decoder = Decoder::new(coding, &budget);
    let mut data = Vec::new();
    let mut keep = |piece: &[u8]| {
        assert!(piece.len() <= PIECE_BYTES);
        data.extend_from_slice(piece);
    };
    for piece in pieces {
        decoder.take(piece, &mut keep);
        check_memory(&mut decoder);
    }
    match end {
        End::Stream => decoder.finish(&mut keep),
        End::Ours => decoder.stop(&mut keep),
    }
    assert!(data.len() as u64 <= BODY_MAX_BYTES);
    assert!(
        !decoder.is_starved(),
        "one body alone needs more than any may"
    );
    assert_eq!(budget.used_bytes(), 0, "a body that is over holds nothing");
    Decoded {
        data,
        broken: decoder.is_broken(),
        cut: decoder.is_cut(),
        why: decoder.why(),
    }
}

fn check_memory(decoder: &mut Decoder) {
    assert!(decoder.block.capacity() <= 2 * BLOCK_BYTES);
    if let Kind::Brotli(brotli, _) = &decoder.kind {
        assert!(brotli.memory_bytes() <= MEMORY_MAX_BYTES);
    }
    if let Some(room) = decoder.room() {
        assert!(room.out.is_empty() && room.out.capacity() <= 2 * ROOM_MAX_BYTES);
    }
}

/// What is looked at does not depend on the window that the stream asks for.
fn agrees_with_a_larger_window(whole: &Decoded, bytes: &[u8]) {
    let mut other = Brotli::uncut(&Budget::new(MEMORY_MAX_BYTES));
    let mut data = Vec::new();
    let mut ended = false;
    for block in bytes.chunks(BLOCK_BYTES) {
        let progress = other.run(&mut block.to_vec(), &mut |piece| {
            data.extend_from_slice(piece);
            (data.len() as u64) < BODY_MAX_BYTES
        });
        ended = progress == Progress::Ended;
        if progress != Progress::More || data.len() as u64 >= BODY_MAX_BYTES {
            break;
        }
    }
    data.truncate(BODY_MAX_BYTES as usize);
    // A larger window holds back more of what comes before a flaw.
    assert!(whole.data.starts_with(&data));
    if ended {
        assert!(whole.data == data && whole.why.is_empty());
    }
}

/// A stream that another reader finds whole decodes to the same.
fn agrees_with_another_reader(whole: &Decoded, coding: Coding, bytes: &[u8]) {
    let mut data = Vec::new();
    let is_zlib = bytes
        .first()
        .is_some_and(|first| first & 0x0f == 8 && first >> 4 <= 7);
    let reader: &mut dyn Read = match coding {
        Coding::Gzip => &mut GzDecoder::new(bytes),
        _ if is_zlib => &mut ZlibDecoder::new(bytes),
        _ => &mut DeflateDecoder::new(bytes),
    };
    if reader.take(BODY_MAX_BYTES).read_to_end(&mut data).is_ok() && !bytes.is_empty() {
        assert!(whole.data == data, "another reader finds something else");
    }
}
