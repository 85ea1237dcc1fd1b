//! URL paths in 1 MiB chunks: no doubling spike at a million targets, and freed pieces are used
//! again by size class. Knows nothing of what the texts mean.

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 1 << 20;
/// Pieces are rounded up to this, which is also the unit of offsets.
const UNIT: usize = 4;

/// Where a piece of text lies; `len` 0 is the empty text and owns nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    unit: u32,
    len: u16,
}

impl Piece {
    /// The empty text.
    pub(crate) const EMPTY: Self = Self { unit: 0, len: 0 };
}

/// The texts.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunks: Vec<Box<[u8]>>,
    /// Units used of the last chunk.
    used: usize,
    /// Free pieces by their size in units.
    free: Vec<Vec<u32>>,
}

impl Arena {
    /// Keeps `text` (≤ 65,535 bytes; longer ones are cut by the caller's limits).
    pub(crate) fn insert(&mut self, text: &str) -> Piece {
        let len = u16::try_from(text.len()).expect("limits::URL_MAX_BYTES is below 65,536");
        if len == 0 {
            return Piece::default();
        }
        let units = text.len().div_ceil(UNIT);
        let unit = self
            .free
            .get_mut(units)
            .and_then(Vec::pop)
            .unwrap_or_else(|| self.grow(units));
        let (chunk, at) = Self::place(unit);
        self.chunks[chunk][at..at + text.len()].copy_from_slice(text.as_bytes());
        Piece { unit, len }
    }

    /// Gives the piece back; it must not be used again.
    pub(crate) fn remove(&mut self, piece: Piece) {
        let units = usize::from(piece.len).div_ceil(UNIT);
        if units == 0 {
            return;
        }
        if self.free.len() <= units {
            self.free.resize(units + 1, Vec::new());
        }
        self.free[units].push(piece.unit);
    }

    /// The text of `piece`.
    pub(crate) fn get(&self, piece: Piece) -> &str {
        if piece.len == 0 {
            return "";
        }
        let (chunk, at) = Self::place(piece.unit);
        let bytes = &self.chunks[chunk][at..at + usize::from(piece.len)];
        std::str::from_utf8(bytes).expect("only whole texts are inserted")
    }

    fn place(unit: u32) -> (usize, usize) {
        let byte = unit as usize * UNIT;
        (byte / CHUNK_BYTES, byte % CHUNK_BYTES)
    }

    fn grow(&mut self, units: usize) -> u32 {
        if self.chunks.is_empty() || self.used + units > CHUNK_BYTES / UNIT {
            self.chunks.push(vec![0; CHUNK_BYTES].into_boxed_slice());
            self.used = 0;
        }
        let unit = (self.chunks.len() - 1) * (CHUNK_BYTES / UNIT) + self.used;
        self.used += units;
        u32::try_from(unit).expect("16 GiB of text per core")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_text_and_freed_room_is_used_again() {
        let mut arena = Arena::default();
        let pieces: Vec<(String, Piece)> = (0..200_000)
            .map(|i| format!("/path/{i}"))
            .map(|text| (text.clone(), arena.insert(&text)))
            .collect();
        assert!(pieces.iter().all(|(text, piece)| arena.get(*piece) == text));
        let chunks = arena.chunks.len();
        for (_, piece) in &pieces {
            arena.remove(*piece);
        }
        for (text, _) in &pieces {
            arena.insert(text);
        }
        assert_eq!(arena.chunks.len(), chunks);
        assert_eq!(arena.get(Piece::default()), "");
    }
}
