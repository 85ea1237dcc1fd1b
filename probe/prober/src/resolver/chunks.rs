//! A list that grows by whole chunks: no element ever moves, and growing costs no doubling.

/// Elements of one chunk.
const CHUNK: usize = 1_024;

/// Elements by number, in chunks of 1,024.
#[derive(Debug)]
pub(super) struct Chunks<T>(Vec<Vec<T>>);

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Chunks<T> {
    /// Appends `element` and gives its number.
    pub(super) fn push(&mut self, element: T) -> u32 {
        if self.0.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.0.push(Vec::with_capacity(CHUNK));
        }
        let last = self.0.len() - 1;
        self.0[last].push(element);
        u32::try_from(last * CHUNK + self.0[last].len() - 1).expect("fewer than 2^32 elements")
    }

    /// The element numbered `at`, if it was ever pushed.
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.0.get(at as usize / CHUNK)?.get(at as usize % CHUNK)
    }

    /// The element numbered `at`, if it was ever pushed.
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.0
            .get_mut(at as usize / CHUNK)?
            .get_mut(at as usize % CHUNK)
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let chunks: usize = self
            .0
            .iter()
            .map(|chunk| chunk.capacity() * size_of::<T>())
            .sum();
        chunks + self.0.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> std::ops::Index<u32> for Chunks<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.0[at as usize / CHUNK][at as usize % CHUNK]
    }
}

impl<T> std::ops::IndexMut<u32> for Chunks<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.0[at as usize / CHUNK][at as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_numbers_over_chunk_borders() {
        let mut chunks = Chunks::default();
        for n in 0..5_000_u32 {
            assert_eq!(chunks.push(n), n);
        }
        assert!((0..5_000).all(|n| chunks[n] == n));
        assert_eq!(chunks.get(5_000), None);
        assert!(chunks.bytes() < 5_000 * 4 + CHUNK * 4 + 1_000);
    }
}
