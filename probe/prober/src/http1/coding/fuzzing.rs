//! Fuzz body of the content codings. The first byte of an input chooses the coding and the pieces,
//! the rest is the coded body.

use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use model::limits::BODY_MAX_BYTES;

use super::Decoder;
use super::brotli::{Brotli, LIVE_MAX_BYTES, Progress};
use super::budget::Budget;
use super::layer::{BLOCK_BYTES, Kind, Layer, PIECE_BYTES};
use crate::fuzzing::pieces;
use crate::http1::head::{Coding, Content};

/// Memory of one decoder, whatever it is sent: for brotli all that it asks for by its end.
const MEMORY_MAX_BYTES: usize = 128 * 1024 * 1024;
/// What a block of deflate can make, and what was under way.
const ROOM_MAX_BYTES: usize = 1_032 * BLOCK_BYTES + 64 * 1024;

/// From here on the first byte of an input chooses two codings.
const TWICE_FROM: u8 = 216;

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
/// that are bounded; what is whole is what another reader of it finds. Two codings decode to what
/// one after the other does.
pub(crate) fn coding(data: &[u8]) {
    let Some((&control, bytes)) = data.split_first() else {
        return;
    };
    let choice = |of: u8| [Coding::Gzip, Coding::Deflate, Coding::Brotli][usize::from(of % 3)];
    let (outer, inner) = (choice(control), choice(control / 3));
    if control >= TWICE_FROM {
        return twice(outer, inner, bytes, control);
    }
    let whole = ended_by_either(Content::Once(outer), bytes, control);
    match outer {
        Coding::Brotli => agrees_with_a_larger_window(&whole, bytes),
        _ => agrees_with_another_reader(&whole, outer, bytes),
    }
}

fn twice(outer: Coding, inner: Coding, bytes: &[u8], control: u8) {
    let whole = ended_by_either(Content::Twice(inner, outer), bytes, control);
    let middle = decode(Content::Once(outer), [bytes], End::Stream);
    let is_whole = middle.why.is_empty() && (middle.data.len() as u64) < BODY_MAX_BYTES;
    let end = if is_whole { End::Stream } else { End::Ours };
    let last = decode(Content::Once(inner), [&middle.data[..]], end);
    assert!(
        whole.data == last.data,
        "not what one after the other gives"
    );
    if is_whole || last.broken {
        assert_eq!((whole.broken, whole.cut), (last.broken, last.cut));
    }
}

fn ended_by_either(content: Content, bytes: &[u8], control: u8) -> Decoded {
    let whole = any_split(content, bytes, control, End::Stream);
    assert!(!(whole.broken && whole.cut));
    assert_eq!(whole.broken || whole.cut, !whole.why.is_empty());
    let stopped = any_split(content, bytes, control, End::Ours);
    // Who stops is to blame, not the sender, unless the stream over the one that is cut was whole.
    let may_be_cut = matches!(content, Content::Twice(..)) && whole.cut;
    assert!(!stopped.cut || may_be_cut, "{content:?}");
    assert!(whole.data.starts_with(&stopped.data));
    whole
}

fn any_split(content: Content, bytes: &[u8], control: u8, end: End) -> Decoded {
    let whole = decode(content, [bytes], end);
    assert_eq!(decode(content, pieces(bytes, control), end), whole);
    assert_eq!(decode(content, bytes.chunks(1), end), whole);
    whole
}

fn decode<'a>(content: Content, pieces: impl IntoIterator<Item = &'a [u8]>, end: End) -> Decoded {
    let budget = Budget::new(4 * LIVE_MAX_BYTES);
    let mut decoder = Decoder::new(content, &budget);
    let mut data = Vec::new();
    let mut keep = |piece: &[u8]| {
        assert!(piece.len() <= PIECE_BYTES);
        data.extend_from_slice(piece);
    };
    for piece in pieces {
        decoder.take(piece, &mut keep);
        match &mut decoder {
            Decoder::Once(layer) => check_memory(layer),
            Decoder::Twice(layers) => layers.iter_mut().for_each(check_memory),
            Decoder::Plain | Decoder::Strange(_) => unreachable!("the body is coded"),
        }
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

fn check_memory(layer: &mut Layer) {
    assert!(layer.block.capacity() <= 2 * BLOCK_BYTES);
    if let Kind::Brotli(brotli, _) = &layer.kind {
        assert!(brotli.memory_bytes() <= MEMORY_MAX_BYTES);
    }
    if let Some(room) = layer.room() {
        assert!(room.out.is_empty() && room.out.capacity() <= 2 * ROOM_MAX_BYTES);
    }
}

/// What is looked at does not depend on the window that the stream asks for.
fn agrees_with_a_larger_window(whole: &Decoded, bytes: &[u8]) {
    let mut other = Brotli::uncut(&Budget::new(MEMORY_MAX_BYTES).share());
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
