//! The bytes of the names: an arena of chunks, freed places used again by size.
//!
//! A place is one byte of length and the text, rounded up to 4 bytes, so that a freed one has room
//! for the link of its free list and a u32 addresses 16 GiB. It knows nothing of what a name means.

/// Bytes of one chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// Granule of places, and the unit of their numbers.
const UNIT: usize = 4;
/// End of a free list.
const NONE: u32 = u32::MAX;

/// Texts by place.
#[derive(Debug, Default)]
pub(super) struct Names {
    chunks: Vec<Box<[u8]>>,
    /// Bytes used of the last chunk.
    used: usize,
    /// First free place by size in units.
    free: Vec<u32>,
    live: usize,
}

impl Names {
    /// Keeps `name` and gives its place.
    pub(super) fn insert(&mut self, name: &str) -> u32 {
        let len = u8::try_from(name.len()).expect("a DNS name has at most 253 bytes");
        let units = units_of(name.len());
        let place = self.reuse(units).unwrap_or_else(|| self.grow(units));
        let bytes = self.bytes_at(place, 1 + name.len());
        bytes[0] = len;
        bytes[1..].copy_from_slice(name.as_bytes());
        self.live += 1;
        place
    }

    /// The text at `place`.
    pub(super) fn get(&self, place: u32) -> &str {
        let at = place as usize * UNIT;
        let bytes = &self.chunks[at / CHUNK_BYTES][at % CHUNK_BYTES..];
        let text = &bytes[1..=usize::from(bytes[0])];
        std::str::from_utf8(text).expect("only whole texts are inserted")
    }

    /// Gives the place back; with the last one everything is freed.
    pub(super) fn remove(&mut self, place: u32) {
        self.live -= 1;
        if self.live == 0 {
            *self = Self::default();
            return;
        }
        let units = units_of(self.get(place).len());
        if self.free.len() <= units {
            self.free.resize(units + 1, NONE);
        }
        let next = std::mem::replace(&mut self.free[units], place);
        self.bytes_at(place, UNIT)
            .copy_from_slice(&next.to_le_bytes());
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_BYTES
            + self.chunks.capacity() * size_of::<Box<[u8]>>()
            + self.free.capacity() * size_of::<u32>()
    }

    fn reuse(&mut self, units: usize) -> Option<u32> {
        let place = *self.free.get(units).filter(|place| **place != NONE)?;
        let link = self.bytes_at(place, UNIT);
        self.free[units] = u32::from_le_bytes([link[0], link[1], link[2], link[3]]);
        Some(place)
    }

    fn grow(&mut self, units: usize) -> u32 {
        let bytes = units * UNIT;
        if self.chunks.is_empty() || self.used + bytes > CHUNK_BYTES {
            self.chunks.push(vec![0; CHUNK_BYTES].into_boxed_slice());
            self.used = 0;
        }
        let at = (self.chunks.len() - 1) * CHUNK_BYTES + self.used;
        self.used += bytes;
        u32::try_from(at / UNIT).expect("names of one core fit 16 GiB")
    }

    fn bytes_at(&mut self, place: u32, len: usize) -> &mut [u8] {
        let at = place as usize * UNIT;
        &mut self.chunks[at / CHUNK_BYTES][at % CHUNK_BYTES..][..len]
    }
}

/// Size of a place for a text of `len` bytes.
fn units_of(len: usize) -> usize {
    (1 + len).div_ceil(UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_and_freed_places_are_used_again() {
        let mut names = Names::default();
        let texts: Vec<String> = (0..20_000).map(|n| format!("host-{n}.example")).collect();
        let keep = names.insert("kept");
        for round in 0..3 {
            let places: Vec<u32> = texts.iter().map(|text| names.insert(text)).collect();
            for (place, text) in places.iter().zip(&texts) {
                assert_eq!(names.get(*place), text);
            }
            for place in places {
                names.remove(place);
            }
            assert!(
                names.bytes() < 700_000,
                "round {round}: {} bytes",
                names.bytes()
            );
        }
        names.remove(keep);
        assert_eq!(names.bytes(), 0);
    }
}
