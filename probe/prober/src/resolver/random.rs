//! The resolver's own random numbers: one stream of `ChaCha12` from one seed, nothing else.
//!
//! What of them is seen on the wire (ids, letters, ports) tells nothing of those that follow: a
//! hostile server may make us ask as many names as it likes.

use chacha20::ChaCha12Rng;
use chacha20::rand_core::{Rng, SeedableRng};

/// The stream.
#[derive(Debug)]
pub(super) struct Random(ChaCha12Rng);

impl Random {
    /// The stream of `seed`.
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound` (which must not be 0).
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        // draft-strombergson-chacha-test-vectors-01: 12 rounds, key and nonce of zeros.
        let key_stream = [
            0x9b, 0xf4, 0x9a, 0x6a, 0x07, 0x55, 0xf9, 0x53, //
            0x81, 0x1f, 0xce, 0x12, 0x5f, 0x26, 0x83, 0xd5,
        ];
        let mut random = Random::new([0; 32]);
        let stream = [random.next(), random.next()].map(u64::to_le_bytes);
        assert_eq!(stream.concat(), key_stream);
    }

    #[test]
    fn numbers_below_a_bound_reach_all_of_it() {
        let mut random = Random::new([7; 32]);
        let mut seen = [false; 10];
        for _ in 0..1_000 {
            seen[random.below(10)] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}
