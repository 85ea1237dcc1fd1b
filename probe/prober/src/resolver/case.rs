//! 0x20: the letters of a question in random case, which an answer must repeat.
//!
//! A forger must guess it besides the id and the port. It knows neither messages nor upstreams.

use model::ids::splitmix64;

use super::random::Random;

/// Longest name that can stand in a query, in bytes.
pub(super) const NAME_MAX_BYTES: usize = 253;

/// How the letters of one question are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// As the name is: lower. An answer in any case will do.
    Lower,
    /// By the random numbers of this seed.
    Random(u64),
}

impl Case {
    /// A random one.
    pub(super) fn random(random: &mut Random) -> Self {
        Self::Random(random.next())
    }

    /// `name` (lower case, at most [`NAME_MAX_BYTES`]) as it stands in the question, in `place`.
    pub(super) fn spell<'a>(self, name: &str, place: &'a mut [u8; NAME_MAX_BYTES]) -> &'a [u8] {
        let spelled = &mut place[..name.len()];
        spelled.copy_from_slice(name.as_bytes());
        if let Self::Random(seed) = self {
            // The letters tell this seed, and it tells nothing of the numbers that follow it.
            for (n, letters) in (0u64..).zip(spelled.chunks_mut(64)) {
                let bits = splitmix64(seed.wrapping_add(n));
                for (n, letter) in letters.iter_mut().enumerate() {
                    if bits >> n & 1 == 1 {
                        letter.make_ascii_uppercase();
                    }
                }
            }
        }
        spelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_case_of_letters_changes_and_each_letter_has_its_own() {
        let name = "a-1.".repeat(63);
        let name = name.trim_end_matches('.');
        let mut places = ([0; NAME_MAX_BYTES], [0; NAME_MAX_BYTES]);
        assert_eq!(Case::Lower.spell(name, &mut places.0), name.as_bytes());
        let mut random = Random::new([3; 32]);
        let first = Case::random(&mut random).spell(name, &mut places.0);
        let other = Case::random(&mut random).spell(name, &mut places.1);
        assert!(first.eq_ignore_ascii_case(name.as_bytes()) && first != other);
        let upper = first.iter().filter(|b| b.is_ascii_uppercase()).count();
        assert!((16..48).contains(&upper), "{upper} of 63");
    }
}
