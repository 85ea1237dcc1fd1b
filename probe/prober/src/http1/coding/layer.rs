//! One content coding, taken off a body as it streams by.
//!
//! Decoders are fed in blocks that begin at fixed offsets of the stream: what comes out of it, and
//! where it breaks, does not depend on the pieces in which it arrives. What they may write is
//! limited in all and handed on in small pieces, and so is the memory that they take: a block of
//! deflate makes at most a quarter of a mebibyte, brotli has limits of its own in `brotli`.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, ZlibDecoder};
use model::limits::{BODY_MAX_BYTES, DECODER_BYTES};

use super::brotli::{Brotli, Progress};
use super::budget::{Grant, Share};
use super::gzip::Gzip;
use crate::http1::head::Coding;

/// Bytes of a block. A match may be found so many bytes late, and never later than the end.
pub(super) const BLOCK_BYTES: usize = 256;
/// Decoded bytes that are handed on at a time.
pub(super) const PIECE_BYTES: usize = 4 * 1024;
/// Memory that is kept from one block to the next for what comes out of it.
const ROOM_KEPT_BYTES: usize = 32 * 1024;

/// A stream that is being decoded.
pub(crate) struct Layer {
    pub(super) kind: Kind,
    /// Its memory, but for the larger pieces of brotli.
    granted: Option<Grant>,
    /// The block that is not complete yet.
    pub(super) block: Vec<u8>,
    /// A byte has come. A stream of none is empty, whatever its coding: no browser minds.
    begun: bool,
    /// Nothing more comes out: the stream is over, or as much as is looked at came.
    over: bool,
    state: State,
    why: &'static str,
}

/// What is wrong with a coded stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    /// Nothing: as much came out of it as anybody looks at.
    Enough,
    /// It ended before its end.
    Cut,
    Broken,
    /// Nothing, as far as we know: there was no memory for it.
    Starved,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer")
            .field("over", &self.over)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

pub(super) enum Kind {
    Gzip(Box<Gzip<Room>>),
    /// `deflate`, of which no byte has come: whether it is zlib shows in the first one.
    Unseen,
    Zlib(Box<ZlibDecoder<Room>>),
    Deflate(Box<DeflateDecoder<Room>>),
    /// Beside the decoder, bytes that may still come out of it.
    Brotli(Box<Brotli>, usize),
    /// Nothing more comes out.
    Spent,
}

/// Where a decoder writes: at most as many bytes in all as anybody looks at.
pub(super) struct Room {
    pub(super) out: Vec<u8>,
    left: usize,
}

impl Room {
    fn new() -> Self {
        Self {
            out: Vec::new(),
            left: BODY_MAX_BYTES as usize,
        }
    }
}

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.left);
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.out.extend_from_slice(&bytes[..taken]);
        self.left -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Layer {
    /// A decoder whose memory is taken for `share`.
    pub(super) fn new(coding: Coding, share: &Share) -> Self {
        let granted = share.take(DECODER_BYTES);
        let starved = granted.is_none();
        let kind = match coding {
            _ if starved => Kind::Spent,
            Coding::Gzip => Kind::Gzip(Box::new(Gzip::new(Room::new()))),
            Coding::Deflate => Kind::Unseen,
            Coding::Brotli => Kind::Brotli(Box::new(Brotli::new(share)), BODY_MAX_BYTES as usize),
        };
        let mut layer = Self {
            kind,
            granted,
            block: Vec::new(),
            begun: false,
            over: false,
            state: State::Well,
            why: "",
        };
        if starved {
            layer.starve();
        }
        layer
    }

    /// Gives what `bytes` decode to, as far as whole blocks go, to `data`.
    pub(super) fn take(&mut self, mut bytes: &[u8], data: &mut impl FnMut(&[u8])) {
        self.begun |= !bytes.is_empty();
        while !bytes.is_empty() && !self.over {
            let missing = BLOCK_BYTES - self.block.len();
            let (piece, rest) = bytes.split_at(missing.min(bytes.len()));
            self.block.extend_from_slice(piece);
            bytes = rest;
            if self.block.len() == BLOCK_BYTES {
                self.run(data);
            }
        }
    }

    /// No more bytes are read, by no fault of their sender: gives what is left.
    pub(super) fn stop(&mut self, data: &mut impl FnMut(&[u8])) {
        if !self.block.is_empty() && !self.over {
            self.run(data);
        }
        self.close();
    }

    /// No more bytes come: gives what is left. A stream that is not whole is cut.
    pub(super) fn finish(&mut self, data: &mut impl FnMut(&[u8])) {
        if self.over {
            return;
        }
        if !self.begun {
            return self.close();
        }
        self.run(data);
        if self.over {
            return;
        }
        let whole = match &mut self.kind {
            Kind::Gzip(decoder) => decoder.is_whole(),
            Kind::Zlib(decoder) => is_over(&mut **decoder),
            Kind::Deflate(decoder) => is_over(&mut **decoder),
            // It is over as soon as it is whole.
            Kind::Brotli(..) => false,
            Kind::Unseen | Kind::Spent => true,
        };
        if !whole {
            (self.state, self.why) = (State::Cut, "the coded body ends early");
        }
        self.close();
    }

    /// Nothing more comes out.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// It is over, and all of it was decoded.
    pub(super) fn is_whole(&self) -> bool {
        self.over && self.state == State::Well
    }

    /// The stream cannot be decoded (any further).
    pub(super) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// There was no memory to decode it (any further): its sender is not to blame.
    pub(super) fn is_starved(&self) -> bool {
        self.state == State::Starved
    }

    /// Its sender ended the stream early: all of it that came is decoded, but there was to be
    /// more, if only a checksum.
    pub(super) fn is_cut(&self) -> bool {
        self.state == State::Cut
    }

    /// What is wrong with it; empty when nothing is.
    pub(super) fn why(&self) -> &'static str {
        self.why
    }

    /// Decodes the block.
    fn run(&mut self, data: &mut impl FnMut(&[u8])) {
        let mut block = std::mem::take(&mut self.block);
        if let (Kind::Unseen, Some(first)) = (&self.kind, block.first()) {
            self.kind = deflate_kind(*first);
        }
        let progress = match &mut self.kind {
            Kind::Gzip(decoder) => write(&mut **decoder, &block),
            Kind::Zlib(decoder) => write(&mut **decoder, &block),
            Kind::Deflate(decoder) => write(&mut **decoder, &block),
            Kind::Brotli(decoder, left) => decoder.run(&mut block, &mut |piece| {
                let seen = &piece[..piece.len().min(*left)];
                data(seen);
                *left -= seen.len();
                *left > 0
            }),
            Kind::Unseen | Kind::Spent => Progress::More,
        };
        self.give(data);
        self.block = block;
        self.block.clear();
        match progress {
            Progress::Ended => self.close(),
            _ if self.is_full() => {
                self.state = State::Enough;
                self.close();
            }
            Progress::More => {}
            Progress::Broken => self.give_up(),
            Progress::Starved => self.starve(),
        }
    }

    fn give(&mut self, data: &mut impl FnMut(&[u8])) {
        if let Some(room) = self.room() {
            room.out.chunks(PIECE_BYTES).for_each(data);
            room.out.clear();
            room.out.shrink_to(ROOM_KEPT_BYTES);
        }
    }

    /// Whether as much came out as anybody looks at.
    fn is_full(&mut self) -> bool {
        match &self.kind {
            Kind::Brotli(_, left) => *left == 0,
            _ => self.room().is_some_and(|room| room.left == 0),
        }
    }

    pub(super) fn room(&mut self) -> Option<&mut Room> {
        match &mut self.kind {
            Kind::Gzip(decoder) => Some(decoder.get_mut()),
            Kind::Zlib(decoder) => Some(decoder.get_mut()),
            Kind::Deflate(decoder) => Some(decoder.get_mut()),
            Kind::Unseen | Kind::Brotli(..) | Kind::Spent => None,
        }
    }

    fn give_up(&mut self) {
        self.state = State::Broken;
        self.why = match &self.kind {
            Kind::Gzip(decoder) if decoder.is_forged() => "the checksum of the coded body is wrong",
            _ => "the body cannot be decoded",
        };
        self.close();
    }

    fn starve(&mut self) {
        self.state = State::Starved;
        self.why = "the pages that are decoded beside it hold all memory that is set aside for it";
        self.close();
    }

    /// Nothing more comes out: the memory goes back at once, the check may go on for long.
    pub(super) fn close(&mut self) {
        self.over = true;
        (self.kind, self.block, self.granted) = (Kind::Spent, Vec::new(), None);
    }
}

/// What a `deflate` body really is. The method of zlib is 8, and its window at most 32 KiB; no
/// encoder of plain deflate begins so.
fn deflate_kind(first: u8) -> Kind {
    if first & 0x0f == 8 && first >> 4 <= 7 {
        Kind::Zlib(Box::new(ZlibDecoder::new(Room::new())))
    } else {
        Kind::Deflate(Box::new(DeflateDecoder::new(Room::new())))
    }
}

/// Whether the coded stream has ended, its checksum included: only then does it take no further
/// byte. Finishing the decoder says nothing of it. What the byte decodes to is nobody's.
fn is_over(decoder: &mut impl Write) -> bool {
    matches!(decoder.write(&[0]), Ok(0))
}

/// Writes all of `block`. What follows the end of the coded stream is not looked at; what came
/// before it may still be in the decoder.
fn write(decoder: &mut impl Write, mut block: &[u8]) -> Progress {
    let mut progress = Progress::More;
    while !block.is_empty() && progress == Progress::More {
        match decoder.write(block) {
            Ok(0) => progress = Progress::Ended,
            Ok(taken) => block = &block[taken..],
            Err(_) => {
                // It fails again, but lets go of what came before the flaw.
                let _ = decoder.write(&[]);
                return Progress::Broken;
            }
        }
    }
    match decoder.flush() {
        Ok(()) => progress,
        Err(_) => Progress::Broken,
    }
}
