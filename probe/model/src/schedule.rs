//! Cadence and phase: when a target is due. Pure arithmetic, pinned by golden vectors.

use crate::ids::TargetId;
use crate::limits::{HEADROOM_MAX_MS, HEADROOM_MIN_MS, TIMEOUT_HEADROOM_MS};

/// Milliseconds between two checks of a target with this interval: the interval less 5 % headroom
/// (1..15 s), so that jitter and persistence fit inside the interval that readers expect.
pub fn cadence_ms(interval_s: u32) -> u32 {
    let interval_ms = interval_s.saturating_mul(1_000);
    let headroom = (interval_ms / 20).clamp(HEADROOM_MIN_MS, HEADROOM_MAX_MS);
    interval_ms.saturating_sub(headroom).max(1_000)
}

/// Offset of a target inside its cadence, in ms: a Fibonacci hash of its id.
pub fn phase_ms(id: TargetId, cadence_ms: u32) -> u32 {
    let hash = (id.get() as u64).wrapping_mul(11_400_714_819_323_198_485);
    ((u128::from(hash) * u128::from(cadence_ms)) >> 64) as u32
}

/// Another number of a target below `over_ms`, evenly spread as its phase is and independent of
/// it: what follows the phase comes in waves where checks follow it too.
pub fn spread_ms(id: TargetId, over_ms: u32) -> u32 {
    // The fraction of the square root of 2, as the phase has that of the golden ratio: no sum of
    // whole multiples of both is whole.
    let hash = (id.get() as u64).wrapping_mul(0x6a09_e667_f3bc_c909);
    ((u128::from(hash) * u128::from(over_ms)) >> 64) as u32
}

/// The first grid point strictly after `after_ms` (ms since the Unix epoch).
pub fn next_due_ms(after_ms: u64, cadence_ms: u32, phase_ms: u32) -> u64 {
    let (cadence, phase) = (u64::from(cadence_ms.max(1)), u64::from(phase_ms));
    let turn = (after_ms + cadence - phase) / cadence;
    turn * cadence + phase
}

/// The deadline that is really applied: one attempt must end before the next may start.
pub fn effective_timeout_ms(timeout_ms: u32, cadence_ms: u32) -> u32 {
    timeout_ms.min(cadence_ms.saturating_sub(TIMEOUT_HEADROOM_MS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cadence_matches_its_golden_vectors() {
        let of = |s| cadence_ms(s);
        assert_eq!(
            [of(10), of(60), of(300), of(86_400)],
            [9_000, 57_000, 285_000, 86_385_000]
        );
    }

    #[test]
    fn phases_match_their_golden_vectors() {
        let phases = [1, 2, 3, 1_000_000, i64::MAX]
            .map(|id| phase_ms(TargetId::new(id).expect("positive"), 285_000));
        assert_eq!(phases, GOLDEN_PHASES);
    }

    const GOLDEN_PHASES: [u32; 5] = [176_139, 67_279, 243_419, 281_793, 251_360];

    proptest! {
        #[test]
        fn the_next_point_is_on_the_grid_and_at_most_one_cadence_away(
            after in 0u64..4_000_000_000_000,
            interval in 10u32..86_400,
            id in 1i64..i64::MAX,
        ) {
            let cadence = cadence_ms(interval);
            let phase = phase_ms(TargetId::new(id).expect("positive"), cadence);
            prop_assert!(phase < cadence);
            let next = next_due_ms(after, cadence, phase);
            prop_assert!(next > after && next <= after + u64::from(cadence));
            prop_assert_eq!(next % u64::from(cadence), u64::from(phase));
            prop_assert_eq!(next_due_ms(next, cadence, phase), next + u64::from(cadence));
        }
    }
}
