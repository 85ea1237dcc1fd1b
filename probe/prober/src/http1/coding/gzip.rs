//! A stream of gzip (RFC 1952): its header, deflate, its checksum. It knows nothing of blocks.
//!
//! The header is skipped and not kept: its fields may have any length, and nobody asks for them.
//! (The decoder of gzip in flate2 keeps 64 KiB of each for as long as it lives.) Of several
//! streams in a row the first one counts, as in browsers.

use std::io::{self, Write};

use flate2::write::DeflateDecoder;
use flate2::{Crc, CrcWriter};

/// What the flags of a header announce, in the order in which it comes.
const PARTS: [(u8, Part); 4] = [
    (0x04, Part::ExtraLength(None)),
    (0x08, Part::Name),
    (0x10, Part::Comment),
    (0x02, Part::Checksum(None)),
];
/// Flags that no stream may have.
const RESERVED: u8 = 0xe0;

/// A stream that is being decoded. What comes out of it goes to `W`.
pub(super) struct Gzip<W: Write> {
    header: Header,
    inflate: DeflateDecoder<CrcWriter<W>>,
    /// CRC and length of what came out, and how many bytes of them have come.
    trailer: ([u8; 8], usize),
    forged: bool,
}

struct Header {
    part: Part,
    flags: u8,
    crc: Crc,
}

/// What the next byte of a header belongs to.
#[derive(Clone, Copy)]
enum Part {
    /// What every stream begins with; so many bytes of it have come.
    Start(u8),
    /// Two bytes, the first of which may have come.
    ExtraLength(Option<u8>),
    /// So many bytes are to come.
    Extra(u16),
    /// Up to a NUL, as the comment.
    Name,
    Comment,
    /// Two bytes, the first of which may have come.
    Checksum(Option<u8>),
    Over,
}

impl Header {
    /// Whether `byte` may come next.
    fn take(&mut self, byte: u8) -> bool {
        if !matches!(self.part, Part::Checksum(_)) {
            self.crc.update(&[byte]);
        }
        let (next, accepted) = match self.part {
            Part::Start(at) => {
                let accepted = match at {
                    0 => byte == 0x1f,
                    1 => byte == 0x8b,
                    // The method: deflate.
                    2 => byte == 8,
                    3 => byte & RESERVED == 0,
                    _ => true,
                };
                if at == 3 {
                    self.flags = byte;
                }
                let next = if at < 9 {
                    Part::Start(at + 1)
                } else {
                    self.announced(&PARTS)
                };
                (next, accepted)
            }
            Part::ExtraLength(None) => (Part::ExtraLength(Some(byte)), true),
            Part::ExtraLength(Some(low)) => (self.extra(u16::from_le_bytes([low, byte])), true),
            Part::Extra(left) => (self.extra(left - 1), true),
            Part::Name if byte == 0 => (self.announced(&PARTS[2..]), true),
            Part::Comment if byte == 0 => (self.announced(&PARTS[3..]), true),
            Part::Name | Part::Comment | Part::Over => (self.part, true),
            Part::Checksum(None) => (Part::Checksum(Some(byte)), true),
            Part::Checksum(Some(low)) => {
                let said = u16::from_le_bytes([low, byte]);
                (Part::Over, said == self.crc.sum() as u16)
            }
        };
        self.part = next;
        accepted
    }

    /// Takes in as many of `bytes` as are of the header.
    fn take_all(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            if !self.take(byte) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.is_over() {
                return Ok(at + 1);
            }
        }
        Ok(bytes.len())
    }

    fn is_over(&self) -> bool {
        matches!(self.part, Part::Over)
    }

    fn extra(&self, left: u16) -> Part {
        match left {
            0 => self.announced(&PARTS[1..]),
            left => Part::Extra(left),
        }
    }

    /// The first of `parts` that there is.
    fn announced(&self, parts: &[(u8, Part)]) -> Part {
        let first = parts.iter().find(|(flag, _)| self.flags & flag != 0);
        first.map_or(Part::Over, |(_, part)| *part)
    }
}

impl<W: Write> Gzip<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            header: Header {
                part: Part::Start(0),
                flags: 0,
                crc: Crc::new(),
            },
            inflate: DeflateDecoder::new(CrcWriter::new(out)),
            trailer: ([0; 8], 0),
            forged: false,
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut W {
        self.inflate.get_mut().get_mut()
    }

    /// All of it came, and its checksum is right.
    pub(super) fn is_whole(&self) -> bool {
        self.trailer.1 == self.trailer.0.len() && !self.forged
    }

    /// All of it came, and its checksum is wrong.
    pub(super) fn is_forged(&self) -> bool {
        self.forged
    }

    /// Takes in what follows deflate; nothing once that is all there.
    fn take_trailer(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (trailer, have) = &mut self.trailer;
        let taken = bytes.len().min(trailer.len() - *have);
        trailer[*have..*have + taken].copy_from_slice(&bytes[..taken]);
        *have += taken;
        if taken == 0 || *have < trailer.len() {
            return Ok(taken);
        }
        let [a, b, c, d, rest @ ..] = *trailer;
        let said = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(rest));
        // What is still in the decoder counts.
        self.inflate.flush()?;
        let crc = self.inflate.get_ref().crc();
        self.forged = said != (crc.sum(), crc.amount());
        if self.forged {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(taken)
    }
}

impl<W: Write> Write for Gzip<W> {
    /// `Ok(0)` when the stream is over.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.header.is_over() {
            return self.header.take_all(bytes);
        }
        if self.trailer.1 == 0 {
            let taken = self.inflate.write(bytes)?;
            if taken > 0 {
                return Ok(taken);
            }
        }
        self.take_trailer(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inflate.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::{Compression, GzBuilder, read};

    use super::*;

    /// What comes of `stream`, and whether all of it came.
    fn decoded(stream: &[u8], piece: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut decoder = Gzip::new(Vec::new());
        for mut bytes in stream.chunks(piece) {
            while !bytes.is_empty() {
                match decoder.write(bytes)? {
                    0 => break,
                    taken => bytes = &bytes[taken..],
                }
            }
            decoder.flush()?;
        }
        let whole = decoder.is_whole();
        Ok((std::mem::take(decoder.get_mut()), whole))
    }

    fn stream(builder: GzBuilder) -> Vec<u8> {
        let mut encoder = builder.write(Vec::new(), Compression::default());
        encoder.write_all(b"a page").expect("memory");
        encoder.finish().expect("memory")
    }

    /// The same with a checksum over its header, which flate2 does not write.
    fn checked(mut stream: Vec<u8>) -> Vec<u8> {
        stream[3] |= 0x02;
        // Deflate makes these two of how "a page" begins.
        let header_bytes = stream.windows(2).rposition(|pair| pair == [0x4b, 0x54]);
        let header_bytes = header_bytes.expect("deflate begins so");
        let mut crc = Crc::new();
        crc.update(&stream[..header_bytes]);
        let crc = (crc.sum() as u16).to_le_bytes();
        stream.splice(header_bytes..header_bytes, crc);
        stream
    }

    fn every_header() -> Vec<Vec<u8>> {
        let mut streams = Vec::new();
        for parts in 0..8 {
            let mut builder = GzBuilder::new();
            if parts & 1 != 0 {
                builder = builder.extra(vec![0; 300]);
            }
            if parts & 2 != 0 {
                builder = builder.filename("index.html");
            }
            if parts & 4 != 0 {
                builder = builder.comment("of a page");
            }
            let plain = stream(builder);
            streams.extend([checked(plain.clone()), plain]);
        }
        streams.push(stream(GzBuilder::new().extra(Vec::new()).filename("")));
        streams
    }

    #[test]
    fn every_header_is_skipped_in_any_pieces_as_another_reader_does() {
        for stream in every_header() {
            let mut theirs = Vec::new();
            let read = read::GzDecoder::new(&stream[..]).read_to_end(&mut theirs);
            assert_eq!((read.ok(), &theirs[..]), (Some(6), &b"a page"[..]));
            for piece in [1, 2, 7, 256, 1_000] {
                let ours = decoded(&stream, piece).expect("a good stream");
                assert_eq!(ours, (theirs.clone(), true), "in pieces of {piece}");
                let with_more = [&stream[..], b"more"].concat();
                assert_eq!(decoded(&with_more, piece).ok(), Some(ours));
            }
            for cut in 0..stream.len() {
                let (_, whole) = decoded(&stream[..cut], 256).expect("good so far");
                assert!(!whole, "{cut} of {}", stream.len());
            }
        }
    }

    #[test]
    fn a_flaw_of_header_or_trailer_is_one() {
        let good = checked(stream(GzBuilder::new().filename("index.html")));
        let header_bytes = 10 + "index.html".len() + 1 + 2;
        let trailer = good.len() - 8;
        // Time, system and name mean nothing, but for the header's own checksum over them.
        for at in (0..header_bytes).chain(trailer..good.len()) {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            let result = decoded(&bad, 256);
            assert!(!result.is_ok_and(|(_, whole)| whole), "byte {at}");
        }
        let mut decoder = Gzip::new(Vec::new());
        let mut forged = stream(GzBuilder::new());
        *forged.last_mut().expect("it has a length") ^= 1;
        assert!(decoder.write_all(&forged).is_err());
        assert!(decoder.is_forged() && !decoder.is_whole());
        assert_eq!(decoder.get_mut(), b"a page", "all of it came out");
    }
}
