//! Which upstream a new question goes to: each in its turn, those that are silent passed over.
//!
//! An upstream is silent from a try without an answer on, until any answer comes from it. Once in
//! a while one question goes to a silent one all the same, to see whether it still is. It knows
//! neither questions nor sockets.

use model::MonoUs;
use model::limits::DNS_SILENT_MS;

/// Not silent.
const WELL: MonoUs = MonoUs(0);

/// The upstreams of a resolver.
#[derive(Debug)]
pub(super) struct Turns {
    /// Until when each is passed over.
    silent_until: Vec<MonoUs>,
    next: u8,
}

impl Turns {
    /// So many upstreams, all of them well.
    pub(super) fn new(upstreams: usize) -> Self {
        Self {
            silent_until: vec![WELL; upstreams],
            next: 0,
        }
    }

    /// Whose turn it is. Where all are silent they take turns as well.
    pub(super) fn take(&mut self, now: MonoUs) -> u8 {
        let first = self.next;
        for _ in 0..self.silent_until.len() {
            let upstream = self.step();
            let until = self.silent_until[usize::from(upstream)];
            if until == WELL {
                return upstream;
            }
            if until <= now {
                self.note_silent(upstream, now);
                return upstream;
            }
        }
        self.next = first;
        self.step()
    }

    /// Whether it is passed over.
    pub(super) fn is_silent(&self, upstream: u8) -> bool {
        self.silent_until[usize::from(upstream)] != WELL
    }

    /// It answered, whatever it said.
    pub(super) fn note_answer(&mut self, upstream: u8) {
        self.silent_until[usize::from(upstream)] = WELL;
    }

    /// A try at it came to nothing.
    pub(super) fn note_silent(&mut self, upstream: u8, now: MonoUs) {
        self.silent_until[usize::from(upstream)] = now.plus_ms(DNS_SILENT_MS);
    }

    fn step(&mut self) -> u8 {
        let upstream = self.next;
        self.next = (upstream + 1) % self.silent_until.len().max(1) as u8;
        upstream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(turns: &mut Turns, count: usize, ms: u64) -> Vec<u8> {
        let now = MonoUs(1_000_000).plus_ms(ms);
        (0..count).map(|_| turns.take(now)).collect()
    }

    #[test]
    fn each_has_its_turn() {
        assert_eq!(take(&mut Turns::new(3), 7, 0), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(take(&mut Turns::new(1), 2, 0), [0, 0]);
    }

    #[test]
    fn the_silent_are_passed_over_and_tried_once_in_a_while_until_they_answer() {
        let mut turns = Turns::new(3);
        turns.note_silent(1, MonoUs(1_000_000));
        assert_eq!(take(&mut turns, 4, DNS_SILENT_MS - 1), [0, 2, 0, 2]);
        assert_eq!(take(&mut turns, 5, DNS_SILENT_MS), [0, 1, 2, 0, 2]);
        assert_eq!(take(&mut turns, 3, 2 * DNS_SILENT_MS - 1), [0, 2, 0]);
        turns.note_answer(1);
        assert_eq!(take(&mut turns, 3, 2 * DNS_SILENT_MS - 1), [1, 2, 0]);
    }

    #[test]
    fn where_all_are_silent_they_take_turns() {
        let mut turns = Turns::new(2);
        turns.note_silent(0, MonoUs(1_000_000));
        turns.note_silent(1, MonoUs(1_000_000));
        assert_eq!(take(&mut turns, 4, 1), [0, 1, 0, 1]);
    }
}
