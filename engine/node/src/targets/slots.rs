//! Dense slots of one core: given to targets, and given again only after the sink has let go.

use model::{Slot, TargetId};

use super::directory::Directory;

/// Slots and directory of one core.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    directory: Directory,
    free: Vec<Slot>,
    /// First slot that was never given.
    next: u32,
}

impl Slots {
    /// Targets with a slot.
    pub(crate) fn len(&self) -> usize {
        self.directory.len()
    }

    /// The slot of `id`, if it has one.
    pub(crate) fn find(&self, id: TargetId) -> Option<Slot> {
        self.directory.get(id)
    }

    /// Targets after an id and up to another one, in no order; `None`: without an end.
    pub(crate) fn between(
        &self,
        after: Option<TargetId>,
        last: Option<TargetId>,
    ) -> impl Iterator<Item = (TargetId, Slot)> {
        self.directory.between(after, last)
    }

    /// The slot of `id`; a new one when it has none.
    pub(crate) fn place(&mut self, id: TargetId) -> Slot {
        if let Some(slot) = self.directory.get(id) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            Slot(self.next - 1)
        });
        self.directory.insert(id, slot);
        slot
    }

    /// Takes the slot from `id`; it stays unused until [`Slots::released`].
    pub(crate) fn retire(&mut self, id: TargetId) -> Option<Slot> {
        self.directory.remove(id)
    }

    /// The sink has heard the last word of `slot`.
    pub(crate) fn released(&mut self, slot: Slot) {
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_given_again_only_after_its_release() {
        let id = |raw| TargetId::new(raw).expect("positive");
        let mut slots = Slots::default();
        assert_eq!((slots.place(id(5)), slots.place(id(9))), (Slot(0), Slot(1)));
        assert_eq!(slots.place(id(5)), Slot(0));
        assert_eq!(slots.retire(id(5)), Some(Slot(0)));
        assert_eq!((slots.find(id(5)), slots.retire(id(5))), (None, None));
        assert_eq!(slots.place(id(7)), Slot(2));
        slots.released(Slot(0));
        assert_eq!(slots.place(id(5)), Slot(0));
        assert_eq!(slots.len(), 3);
    }
}
