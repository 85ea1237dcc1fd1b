//! Cadence commands on their way to one core. A full inbox is tried again each turn; only the
//! newest command of a slot matters, so what waits is bounded by the slots and nothing is lost.

use std::collections::BTreeMap;

use crossbeam_channel::{Sender, TrySendError};
use model::inbox::{Cadence, CoreCommand};
use model::{Generation, Slot};

/// Commands that wait for room in a core's inbox.
#[derive(Debug)]
pub(crate) struct CadenceOutbox {
    inbox: Sender<CoreCommand>,
    waiting: BTreeMap<Slot, (Generation, Cadence)>,
}

impl CadenceOutbox {
    pub(crate) fn new(inbox: Sender<CoreCommand>) -> Self {
        Self {
            inbox,
            waiting: BTreeMap::new(),
        }
    }

    /// Adds a command; it replaces an older one for the same slot.
    pub(crate) fn put(&mut self, slot: Slot, generation: Generation, cadence: Cadence) {
        self.waiting.insert(slot, (generation, cadence));
    }

    /// Forgets what waits for a slot whose target has gone.
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.waiting.remove(&slot);
    }

    /// Sends as much as there is room for.
    pub(crate) fn send(&mut self) {
        while let Some((&slot, &(generation, cadence))) = self.waiting.first_key_value() {
            match self.inbox.try_send(CoreCommand::Cadence {
                slot,
                generation,
                cadence,
            }) {
                Ok(()) => self.waiting.pop_first(),
                Err(TrySendError::Full(_)) => return,
                // The core has ended: nobody is left to obey.
                Err(TrySendError::Disconnected(_)) => return self.waiting.clear(),
            };
        }
    }

    /// Forgets everything that waits.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Commands that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn a_full_inbox_loses_nothing_but_overtaken_commands() {
        let (inbox, core) = bounded(1);
        let mut outbox = CadenceOutbox::new(inbox);
        let recheck = Cadence::Recheck { after_ms: 9_000 };
        outbox.put(Slot(1), Generation(1), recheck);
        outbox.put(Slot(2), Generation(1), recheck);
        outbox.send();
        assert_eq!(outbox.len(), 1);
        outbox.put(Slot(2), Generation(1), Cadence::Grid);
        let mut received = Vec::new();
        for _ in 0..3 {
            received.extend(core.try_iter().map(|command| match command {
                CoreCommand::Cadence { slot, cadence, .. } => (slot, cadence),
                other => panic!("{other:?}"),
            }));
            outbox.send();
        }
        assert_eq!(received, [(Slot(1), recheck), (Slot(2), Cadence::Grid)]);
        assert_eq!(outbox.len(), 0);
    }
}
