//! The brotli decoder of a body (RFC 7932), with limits of ours on its memory and its work. It
//! knows nothing of blocks, nor of how much of a body is looked at.
//!
//! A window is a claim that costs its sender nothing: a few bytes ask for 16 MiB, in the variant
//! with large windows for a gigabyte, and the decoder fills all of it before it hands on a byte.
//! So large windows, which no content coding has, are refused, and the others are cut to
//! [`WINDOW_BITS_MAX`]: what comes out first does not depend on how far back a copy may reach.
//!
//! Two limits of memory hold beside each other. What one body asks for by its end, all added up, is
//! a matter of its sender: too much of it is a broken body. What it holds at a time is taken for
//! the [`Share`] of the body, and that there is none left is no fault of the sender.

use std::cell::Cell;
use std::rc::Rc;

use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, HuffmanCode, SliceWrapper,
    SliceWrapperMut,
};
use model::limits::BODY_MAX_BYTES;

use super::budget::{Grant, Share};

/// The largest window that is given: 2 MiB. Up to its size all windows decode alike.
const WINDOW_BITS_MAX: u32 = 21;
const _: () = assert!((1 << WINDOW_BITS_MAX) - 16 >= BODY_MAX_BYTES);

/// Bytes of memory that a body may have asked for by its end, all added up; what was given back
/// is not counted off, because clearing it took its time. A mebibyte of text takes a few of them,
/// sent in hundreds of small flushes some tens. Bytes and codes have so much each; of what indexes
/// the codes a stream takes so little that it runs out of codes first, which the decoder expects.
const MEMORY_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Cells of memory that the decoder takes for each code.
const CODE_CELLS: usize = 1_080;
/// Pieces of memory up to this size are part of what every decoder is counted with: of codes it has
/// six of them at a time. It does not look whether it was refused the smallest ones.
const SMALL_MAX_BYTES: usize = 3 * CODE_CELLS * size_of::<HuffmanCode>();

/// Decoded bytes that are handed on at a time.
const PIECE_BYTES: usize = 4 * 1024;

/// How a coded stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has not ended.
    More,
    /// It is whole; what follows is no part of it.
    Ended,
    /// It cannot be decoded.
    Broken,
    /// Others hold the memory that it needs.
    Starved,
}

/// A body that is being decoded.
pub(crate) struct Brotli {
    state: BrotliState<Memory, Memory, Memory>,
    out: Box<[u8; PIECE_BYTES]>,
    begun: bool,
    starved: Rc<Cell<bool>>,
}

impl Brotli {
    /// A decoder whose larger pieces of memory are taken for `share`.
    pub(crate) fn new(share: &Share) -> Self {
        let starved = Rc::new(Cell::new(false));
        let memory = Memory {
            left: MEMORY_MAX_BYTES,
            share: share.clone(),
            starved: Rc::clone(&starved),
        };
        Self {
            state: BrotliState::new_strict(memory.clone(), memory.clone(), memory),
            out: Box::new([0; PIECE_BYTES]),
            begun: false,
            starved,
        }
    }

    /// Decodes `bytes`, the next ones of the stream, and gives what comes out to `data` until it
    /// says that it wants no more.
    pub(crate) fn run(
        &mut self,
        bytes: &mut [u8],
        data: &mut impl FnMut(&[u8]) -> bool,
    ) -> Progress {
        if let (false, Some(first)) = (self.begun, bytes.first_mut()) {
            *first = with_window_cut(*first);
            self.begun = true;
        }
        let (mut left, mut at) = (bytes.len(), 0);
        loop {
            let (mut room, mut written) = (PIECE_BYTES, 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut at,
                bytes,
                &mut room,
                &mut written,
                &mut self.out[..],
                &mut 0,
                &mut self.state,
            );
            let goes_on = data(&self.out[..written]);
            match result {
                BrotliResult::NeedsMoreOutput if goes_on => {}
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {
                    return Progress::More;
                }
                BrotliResult::ResultSuccess => return Progress::Ended,
                BrotliResult::ResultFailure if self.starved.get() => return Progress::Starved,
                BrotliResult::ResultFailure => return Progress::Broken,
            }
        }
    }
}

/// The first byte of a stream, which says how large the window is (RFC 7932 §9.1), with a window
/// that is not too large. All above 2^17 are said in four bits: 1, then the bits above 17.
fn with_window_cut(first: u8) -> u8 {
    let above_17 = u32::from(first >> 1 & 0b111);
    if first & 1 == 1 && 17 + above_17 > WINDOW_BITS_MAX {
        first & 0xf0 | ((WINDOW_BITS_MAX - 17) << 1) as u8 | 1
    } else {
        first
    }
}

/// What one body holds at most at a time: what every decoder takes, the window, and of one block
/// 256 codes in each of three groups and the maps that choose among them. The format has no more,
/// and a well-formed body may need all of it: there is nothing to refuse.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) const LIVE_MAX_BYTES: usize = model::limits::DECODER_BYTES
    + (1 << WINDOW_BITS_MAX)
    + 3 * 256 * CODE_CELLS * size_of::<HuffmanCode>()
    + 32 * 1024;

/// The memory of a decoder, up to its limits. The decoder takes an empty slice for a refusal.
#[derive(Clone, Debug)]
struct Memory {
    left: usize,
    share: Share,
    starved: Rc<Cell<bool>>,
}

#[cfg(any(test, feature = "fuzzing"))]
impl Brotli {
    /// One that takes the window as it was asked for.
    pub(crate) fn uncut(share: &Share) -> Self {
        Self {
            begun: true,
            ..Self::new(share)
        }
    }

    /// Bytes of memory asked for so far.
    pub(crate) fn memory_bytes(&self) -> usize {
        let parts = [&self.state.alloc_u8, &self.state.alloc_hc];
        parts.iter().map(|part| MEMORY_MAX_BYTES - part.left).sum()
    }
}

impl<T: Clone + Default> Allocator<T> for Memory {
    type AllocatedMemory = Cells<T>;

    fn alloc_cell(&mut self, len: usize) -> Cells<T> {
        let bytes = len * size_of::<T>();
        let Some(left) = self.left.checked_sub(bytes) else {
            return Cells::default();
        };
        let granted = if bytes > SMALL_MAX_BYTES {
            let Some(granted) = self.share.take(bytes) else {
                self.starved.set(true);
                return Cells::default();
            };
            Some(granted)
        } else {
            None
        };
        self.left = left;
        Cells {
            cells: vec![T::default(); len],
            _granted: granted,
        }
    }

    fn free_cell(&mut self, _cells: Cells<T>) {}
}

/// A piece of memory; what of it came out of the budget goes back with it.
#[derive(Debug)]
struct Cells<T> {
    cells: Vec<T>,
    _granted: Option<Grant>,
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self {
            cells: Vec::new(),
            _granted: None,
        }
    }
}

impl<T> SliceWrapper<T> for Cells<T> {
    fn slice(&self) -> &[T] {
        &self.cells
    }
}

impl<T> SliceWrapperMut<T> for Cells<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.cells
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use model::limits::DECODERS_MAX_BYTES;

    use super::super::budget::Budget;
    use super::*;

    fn core() -> Budget {
        Budget::new(DECODERS_MAX_BYTES)
    }

    /// Bits, the lowest first.
    #[derive(Default)]
    pub(crate) struct Bits(Vec<u8>, u32);

    impl Bits {
        fn put(&mut self, value: u32, bits: u32) {
            for bit in 0..bits {
                if self.1.is_multiple_of(8) {
                    self.0.push(0);
                }
                let last = self
                    .0
                    .last_mut()
                    .expect("a byte was pushed before its first bit");
                *last |= ((value >> bit & 1) as u8) << (self.1 % 8);
                self.1 += 1;
            }
        }
    }

    /// `blocks` times 16 MiB of the letter a, in a dozen bytes each.
    pub(crate) fn bomb(window_bits: u32, blocks: usize) -> Vec<u8> {
        let (mut bits, large) = (Bits::default(), window_bits > 24);
        if large {
            bits.put(0x11, 8);
            bits.put(window_bits, 6);
        } else {
            bits.put(1, 1);
            bits.put(window_bits - 17, 3);
        }
        for _ in 0..blocks {
            // Not the last one, six nibbles of length, compressed.
            bits.put(0, 1);
            bits.put(2, 2);
            bits.put(0xff_ffff, 24);
            bits.put(0, 1);
            // One block type each, no postfix, one context mode, one tree each.
            bits.put(0, 3 + 6 + 2 + 1 + 1);
            // Trees of one symbol: a; insert 4, copy 2118 and more; the last distance.
            for (symbol, width) in [
                (u32::from(b'a'), 8),
                (423, 10),
                (0, if large { 8 } else { 6 }),
            ] {
                bits.put_code(symbol, width);
            }
            bits.put((1 << 24) - 4 - 2118, 24);
        }
        bits.put(3, 2);
        bits.0
    }

    /// `blocks` blocks of one letter, each with 256 codes for letters, all but one unused.
    fn many_codes(blocks: usize) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.put(0, 1);
        for _ in 0..blocks {
            bits.put(0, 1 + 2);
            bits.put(0, 16 + 1);
            bits.put(0, 3 + 6 + 2);
            // 256 trees; no run lengths; a context map whose only symbol is 0; as it is.
            bits.put(0b1111, 4);
            bits.put(127, 7);
            bits.put(0, 1);
            bits.put(1, 2);
            bits.put(0, 2);
            bits.put(0, 8);
            bits.put(0, 1);
            // One tree of distances.
            bits.put(0, 1);
            for _ in 0..256 {
                bits.put(1, 2);
                bits.put(0, 2);
                bits.put(u32::from(b'a'), 8);
            }
            // Insert 1, copy 2, which is past the end: nothing is copied.
            bits.put(1, 2);
            bits.put(0, 2);
            bits.put(8, 10);
            bits.put(1, 2);
            bits.put(0, 2);
            bits.put(0, 6);
        }
        bits.put(3, 2);
        bits.0
    }

    impl Bits {
        /// A code of one symbol.
        fn put_code(&mut self, symbol: u32, width: u32) {
            self.put(1, 2);
            self.put(0, 2);
            self.put(symbol, width);
        }
    }

    /// What makes a decoder hold all that the format can ask for with a window of 2 MiB: its first
    /// 16 bytes, with most of the codes behind them.
    fn greedy() -> Vec<u8> {
        let mut bits = Bits::default();
        bits.put(1, 1);
        bits.put(WINDOW_BITS_MAX - 17, 3);
        // Not the last one, six nibbles of length, compressed.
        bits.put(0, 1);
        bits.put(2, 2);
        bits.put(0xff_ffff, 24);
        bits.put(0, 1);
        // One type of blocks of letters, 256 of commands with their codes, one of distances.
        bits.put(0, 1);
        bits.put(0b1111, 4);
        bits.put(127, 7);
        bits.put_code(0, 9);
        bits.put_code(0, 5);
        bits.put(0, 2);
        bits.put(0, 1);
        // No postfix, one context mode.
        bits.put(0, 6 + 2);
        // Of letters and of distances 256 codes: no run lengths, a map whose only symbol is 0.
        for _ in 0..2 {
            bits.put(0b1111, 4);
            bits.put(127, 7);
            bits.put(0, 1);
            bits.put_code(0, 8);
            bits.put(0, 1);
        }
        for _ in 0..200 {
            bits.put_code(u32::from(b'a'), 8);
        }
        bits.0
    }

    /// How `stream` ends, in blocks as an attempt feeds them; what comes out, up to a mebibyte.
    fn decode(decoder: &mut Brotli, stream: &[u8]) -> (Progress, Vec<u8>) {
        let mut out = Vec::new();
        for block in stream.chunks(256) {
            let progress = decoder.run(&mut block.to_vec(), &mut |piece| {
                out.extend_from_slice(piece);
                out.len() < BODY_MAX_BYTES as usize
            });
            if progress != Progress::More {
                return (progress, out);
            }
        }
        (Progress::More, out)
    }

    #[test]
    fn a_window_is_given_no_more_memory_than_what_is_looked_at_needs() {
        for window_bits in 18..=24 {
            let mut decoder = Brotli::new(&core().share());
            let (progress, out) = decode(&mut decoder, &bomb(window_bits, 2));
            assert_eq!(progress, Progress::More, "there is more than is looked at");
            assert_eq!(out.len(), BODY_MAX_BYTES as usize);
            assert!(out.iter().all(|byte| *byte == b'a'));
            let memory = decoder.memory_bytes();
            assert!(memory < 2_200_000, "{window_bits}: {memory} bytes");
        }
        let mut decoder = Brotli::uncut(&core().share());
        decode(&mut decoder, &bomb(24, 2));
        assert!(
            decoder.memory_bytes() > 16 << 20,
            "that is what it asks for"
        );
    }

    #[test]
    fn a_large_window_is_no_content_coding() {
        for window_bits in [25, 30] {
            let mut decoder = Brotli::new(&core().share());
            let (progress, out) = decode(&mut decoder, &bomb(window_bits, 19));
            assert_eq!((progress, out.len()), (Progress::Broken, 0));
            assert!(decoder.memory_bytes() < 20_000);
        }
    }

    #[test]
    fn memory_asked_for_again_and_again_has_an_end() {
        let mut decoder = Brotli::new(&core().share());
        let (progress, out) = decode(&mut decoder, &many_codes(20));
        assert_eq!((progress, out.len()), (Progress::Ended, 20));
        assert!(decoder.memory_bytes() > 20 << 20, "a MiB each");
        let mut decoder = Brotli::new(&core().share());
        let (progress, _) = decode(&mut decoder, &many_codes(200));
        assert_eq!(progress, Progress::Broken);
        assert!(decoder.memory_bytes() <= 2 * MEMORY_MAX_BYTES);
    }

    #[test]
    fn what_a_body_holds_at_a_time_has_an_end_and_is_given_back() {
        let budget = core();
        let base = budget.share().take(model::limits::DECODER_BYTES);
        let mut decoder = Brotli::new(&budget.share());
        assert_eq!(decode(&mut decoder, &greedy()).0, Progress::More);
        let held = budget.used_bytes();
        assert!((5 << 20..=LIVE_MAX_BYTES).contains(&held), "{held} bytes");
        // Blocks without end are decoded in the same memory.
        let mut other = Brotli::new(&budget.share());
        assert_eq!(decode(&mut other, &many_codes(20)).0, Progress::Ended);
        assert!(budget.used_bytes() - held < LIVE_MAX_BYTES);
        drop((decoder, other, base));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn what_a_decoder_takes_uncounted_is_what_every_one_is_counted_for() {
        let codes = 3 + 3 + 3 * 3;
        let uncounted = size_of::<Brotli>()
            + PIECE_BYTES
            + (codes + 1) * CODE_CELLS * size_of::<HuffmanCode>()
            + 3 * 256 * size_of::<u32>()
            + 2 * SMALL_MAX_BYTES
            + 1_024;
        assert!(
            uncounted <= model::limits::DECODER_BYTES,
            "{uncounted} bytes"
        );
    }

    #[test]
    fn a_decoder_without_memory_says_so_wherever_it_is_refused() {
        // A body that needs so much may take half of what there is.
        for room in (0..2 * LIVE_MAX_BYTES).step_by(LIVE_MAX_BYTES / 25) {
            let budget = Budget::new(room);
            let mut decoder = Brotli::new(&budget.share());
            let (progress, out) = decode(&mut decoder, &greedy());
            let enough = room / 2 >= LIVE_MAX_BYTES - model::limits::DECODER_BYTES - 32 * 1024;
            let expected = if enough {
                Progress::More
            } else {
                Progress::Starved
            };
            assert_eq!((progress, out.len()), (expected, 0), "{room} bytes");
            assert!(budget.used_bytes() <= room);
        }
        let mut decoder = Brotli::new(&Budget::new(0).share());
        assert_eq!(decode(&mut decoder, &bomb(24, 1)).0, Progress::Starved);
        let mut decoder = Brotli::new(&Budget::new(0).share());
        let small = include_bytes!("../../../tests/it/bodies/hello.br");
        assert_eq!(
            decode(&mut decoder, small).0,
            Progress::Ended,
            "nothing large"
        );
    }

    #[test]
    fn the_greedy_stream_of_the_corpus_is_this_one() {
        let kept = include_bytes!("../../../tests/corpus/coding/brotli_greedy");
        assert_eq!(kept[1..], greedy());
    }

    #[test]
    fn only_windows_above_the_limit_are_cut() {
        // 16 is said in one bit, 17 and those below 16 in seven.
        for first in (0..=u8::MAX).filter(|first| first & 1 == 0 || first & 0b1111 == 1) {
            assert_eq!(with_window_cut(first), first);
        }
        for above_17 in 1..=7_u8 {
            let expected = above_17.min(4);
            assert_eq!(
                with_window_cut(0xa0 | above_17 << 1 | 1),
                0xa0 | expected << 1 | 1
            );
        }
    }
}
