//! Pure parts of this crate for its benches, and for nobody else: what every fact and every healthy
//! result pass through. No promise is made for any of it.

use model::fact::Batch;
use model::target::Method;
use model::{CoreIndex, Generation, MonoUs, Now, Outcome, Slot, TargetId, UnixMs};

use crate::handle::Registration;
use crate::journal::{encode, segment_header, walk};
use crate::slots::{Admission, CoreSlots, Drained, Timeline};

/// Seconds between two checks of every target.
const INTERVAL_S: u32 = 300;
/// Milliseconds between two writes of a target's freshness.
const PROJECTION_MS: u64 = 900_000;

/// A segment of the journal with `batches`, whose numbers rise from the first one's.
///
/// # Panics
/// When a batch cannot be written.
pub fn segment(batches: &[Batch]) -> Vec<u8> {
    let first_seq = batches.first().map_or(1, |batch| batch.journal_seq);
    let mut bytes = segment_header(first_seq).to_vec();
    for batch in batches {
        encode(batch, &mut bytes).expect("a batch is plain data");
    }
    bytes
}

/// Facts of a segment: every record read, checked and decoded.
pub fn facts_in(segment: &[u8]) -> usize {
    let mut facts = 0;
    walk(segment, 0, |batch| facts += batch.facts.len());
    facts
}

/// Targets at rest on one core, whose healthy results are coalesced.
pub struct Coalesced {
    slots: CoreSlots,
    /// Of every target; the target of a slot is the one after it.
    outcome: Outcome,
    targets: u32,
}

impl Coalesced {
    /// So many targets, checked every 300 s, as they are at a start.
    ///
    /// # Panics
    /// When there are more than a core has slots.
    pub fn new(targets: u32) -> Self {
        let start = UnixMs(1_800_000_000_000);
        let generation = Generation(1);
        let mut slots = CoreSlots::new(Timeline::new(PROJECTION_MS));
        for slot in 0..targets {
            let registration = Registration {
                core: CoreIndex(0),
                slot: Slot(slot),
                target: TargetId::new(i64::from(slot) + 1).expect("positive"),
                group_id: 0,
                method: Some(Method::Get),
                generation,
                interval_s: INTERVAL_S,
                cadence_ms: model::schedule::cadence_ms(INTERVAL_S),
                maintenance: None,
            };
            assert!(slots.register(&registration, MonoUs(0)), "slot {slot}");
        }
        let released = Outcome::slot_released(Slot(0), generation, start);
        let outcome = Outcome {
            flags: 0,
            class: 0,
            seq: 1,
            status: 200,
            ..released
        };
        Self {
            slots,
            outcome,
            targets,
        }
    }

    /// A healthy result of each target, drained at `ms` after the start; how many were coalesced.
    pub fn round(&mut self, ms: u64) -> usize {
        let now = Now {
            mono: MonoUs(ms * 1_000),
            unix: UnixMs(1_800_000_000_000 + ms),
        };
        let drained = Drained::at(now, now.unix);
        let mut coalesced = 0;
        for slot in 0..self.targets {
            let outcome = Outcome {
                slot: Slot(slot),
                ..self.outcome
            };
            let admission = self.slots.admit(&outcome, drained);
            coalesced += usize::from(admission == Admission::Coalesced);
        }
        coalesced
    }

    /// Takes the rows that wait, as a flush does; how many there were.
    pub fn flush(&mut self, ms: u64) -> usize {
        let mut rows = 0;
        let now = UnixMs(1_800_000_000_000 + ms);
        self.slots.take_pending(now, |_, _, _| rows += 1);
        rows
    }
}
