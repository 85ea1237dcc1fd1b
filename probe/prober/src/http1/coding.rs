//! Takes the content coding off a body as it streams by (RFC 9110 §8.4).
//!
//! Decoders are fed in blocks that begin at fixed offsets of the stream: what comes out of it, and
//! where it breaks, does not depend on the pieces in which it arrives. They write into a buffer of
//! a fixed size that is emptied again and again: nothing that a server sends makes it grow.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};
use model::limits::BODY_MAX_BYTES;

use super::head::Coding;

/// Bytes of a block. A match may be found so many bytes late, and never later than the end.
const BLOCK_BYTES: usize = 256;
/// Output buffer of the brotli decoder.
const BROTLI_BUFFER_BYTES: usize = 4 * 1024;

/// A body that is being decoded.
pub(crate) struct Decoder {
    kind: Kind,
    /// The block that is not complete yet.
    block: Vec<u8>,
    /// A byte has come. A body of none is empty, whatever its coding: no browser minds.
    begun: bool,
    /// Nothing more comes out: the stream is over, or as much as is looked at came.
    over: bool,
    broken: bool,
    why: &'static str,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("over", &self.over)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

enum Kind {
    Identity,
    Gzip(Box<GzDecoder<Room>>),
    /// `deflate`, of which no byte has come: whether it is zlib shows in the first one.
    Unseen,
    Zlib(Box<ZlibDecoder<Room>>),
    Deflate(Box<DeflateDecoder<Room>>),
    Brotli(Box<DecompressorWriter<Room>>),
    Unknown,
}

/// Where a decoder writes: at most as many bytes in all as anybody looks at.
struct Room {
    out: Vec<u8>,
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

impl Decoder {
    pub(crate) fn new(coding: Coding) -> Self {
        let kind = match coding {
            Coding::Identity => Kind::Identity,
            Coding::Gzip => Kind::Gzip(Box::new(GzDecoder::new(Room::new()))),
            Coding::Deflate => Kind::Unseen,
            Coding::Brotli => {
                let decoder = DecompressorWriter::new(Room::new(), BROTLI_BUFFER_BYTES);
                Kind::Brotli(Box::new(decoder))
            }
            Coding::Unknown => Kind::Unknown,
        };
        let unknown = matches!(kind, Kind::Unknown);
        Self {
            kind,
            block: Vec::new(),
            begun: false,
            over: unknown,
            broken: unknown,
            why: if unknown {
                "the body has a content coding that was not offered"
            } else {
                ""
            },
        }
    }

    /// Gives what `bytes` decode to, as far as whole blocks go, to `data`.
    pub(crate) fn take(&mut self, mut bytes: &[u8], data: &mut impl FnMut(&[u8])) {
        if matches!(self.kind, Kind::Identity) {
            return data(bytes);
        }
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

    /// No more bytes come: gives what is left. A stream that is not whole is broken.
    pub(crate) fn finish(&mut self, data: &mut impl FnMut(&[u8])) {
        if matches!(self.kind, Kind::Identity) || self.over {
            return;
        }
        if !self.begun {
            self.over = true;
            return;
        }
        self.run(data);
        if self.over {
            return;
        }
        let whole = match &mut self.kind {
            Kind::Gzip(decoder) => decoder.try_finish().is_ok(),
            Kind::Zlib(decoder) => {
                let whole = is_over(&mut **decoder);
                decoder.get_mut().out.clear();
                whole
            }
            Kind::Deflate(decoder) => {
                let whole = is_over(&mut **decoder);
                decoder.get_mut().out.clear();
                whole
            }
            Kind::Brotli(decoder) => decoder.close().is_ok(),
            Kind::Identity | Kind::Unseen | Kind::Unknown => true,
        };
        self.give(data);
        if !whole {
            self.give_up("the coded body ends early");
        }
        self.over = true;
    }

    /// The stream cannot be decoded (any further).
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Why it cannot; empty while it can.
    pub(crate) fn why(&self) -> &'static str {
        self.why
    }

    /// Decodes the block.
    fn run(&mut self, data: &mut impl FnMut(&[u8])) {
        let block = std::mem::take(&mut self.block);
        if let (Kind::Unseen, Some(first)) = (&self.kind, block.first()) {
            self.kind = deflate_kind(*first);
        }
        let written = match &mut self.kind {
            Kind::Gzip(decoder) => write(&mut **decoder, &block),
            Kind::Zlib(decoder) => write(&mut **decoder, &block),
            Kind::Deflate(decoder) => write(&mut **decoder, &block),
            Kind::Brotli(decoder) => write(&mut **decoder, &block),
            Kind::Identity | Kind::Unseen | Kind::Unknown => Ok(false),
        };
        self.give(data);
        match written {
            Ok(ended) => self.over |= ended,
            Err(_) if self.room().is_some_and(|room| room.left == 0) => self.over = true,
            Err(_) => self.give_up("the body cannot be decoded"),
        }
        self.block = block;
        self.block.clear();
    }

    fn give(&mut self, data: &mut impl FnMut(&[u8])) {
        if let Some(room) = self.room() {
            data(&room.out);
            room.out.clear();
        }
    }

    fn room(&mut self) -> Option<&mut Room> {
        match &mut self.kind {
            Kind::Gzip(decoder) => Some(decoder.get_mut()),
            Kind::Zlib(decoder) => Some(decoder.get_mut()),
            Kind::Deflate(decoder) => Some(decoder.get_mut()),
            Kind::Brotli(decoder) => Some(decoder.get_mut()),
            Kind::Identity | Kind::Unseen | Kind::Unknown => None,
        }
    }

    fn give_up(&mut self, why: &'static str) {
        (self.over, self.broken, self.why) = (true, true, why);
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

/// Whether the coded stream has ended: only then does it take no further byte. Finishing a decoder
/// of deflate says nothing of it. What the byte decodes to is nobody's.
fn is_over(decoder: &mut impl Write) -> bool {
    matches!(decoder.write(&[0]), Ok(0))
}

/// Writes all of `block`; whether the coded stream has ended in it. What follows is not looked at.
fn write(decoder: &mut impl Write, mut block: &[u8]) -> io::Result<bool> {
    while !block.is_empty() {
        match decoder.write(block)? {
            0 => return Ok(true),
            taken => block = &block[taken..],
        }
    }
    decoder.flush().map(|()| false)
}
