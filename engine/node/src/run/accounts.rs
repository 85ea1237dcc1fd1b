//! The accounts of cores and sink side by side, and what they say of each other. It must not know
//! where the numbers come from or where they are shown.
//!
//! Cores and sink publish by themselves, each its own whole picture, and results move on meanwhile:
//! no two pictures are of one instant. So the cores are read between two pictures of the sink:
//!
//! ```text
//! sink before ──► cores ──► sink after, its channels measured after the cores were read
//! ```
//!
//! What was drained before had been sent, and what was sent is drained after, or still in the
//! channel: `drained before ≤ sent ≤ drained + queued after`. What is sent between the last two
//! pictures can hide a loss that is smaller; the end of a drain compares exactly.

use anyhow::bail;
use cores::CoreSnapshot;
use model::CoreIndex;
use persist::{CoreAccount, SinkSnapshot};

/// The cores between two pictures of the sink.
#[derive(Debug)]
pub(crate) struct Accounts {
    indices: Vec<CoreIndex>,
    /// Of each core.
    pub(crate) cores: Vec<CoreSnapshot>,
    before: SinkSnapshot,
    /// The picture after.
    pub(crate) sink: SinkSnapshot,
    /// Whether the picture after was surely made after the cores were read, or has all that they
    /// sent. A sink that does not turn says nothing new, and nothing is concluded from what it
    /// said.
    after: bool,
}

impl Accounts {
    /// What was read, in this order: `before`, `cores`, `sink`.
    pub(crate) fn new(
        before: SinkSnapshot,
        cores: impl IntoIterator<Item = (CoreIndex, CoreSnapshot)>,
        sink: SinkSnapshot,
        after: bool,
    ) -> Self {
        let (indices, cores) = cores.into_iter().unzip();
        Self {
            indices,
            cores,
            before,
            sink,
            after,
        }
    }

    /// What the sink says of the core at `position`.
    pub(crate) fn account(&self, position: usize) -> CoreAccount {
        account_of(&self.sink, self.indices[position])
    }

    /// Whether the account of the core at `position` balances, as far as these pictures tell.
    pub(crate) fn balances(&self, position: usize) -> bool {
        let (core, after) = (&self.cores[position], self.account(position));
        let before = account_of(&self.before, self.indices[position]);
        let arrived = !self.after || has_arrived(core, after);
        core.balances() && after.balances() && before.drained <= core.sent && arrived
    }

    /// Whether all do.
    pub(crate) fn all_balance(&self) -> bool {
        (0..self.cores.len()).all(|position| self.balances(position))
    }

    /// Compares what each core sent with what the sink took, once both have ended: says how many
    /// results it was.
    ///
    /// # Errors
    /// When a core sent another number than the sink took.
    pub(crate) fn all_arrived(&self) -> anyhow::Result<u64> {
        let mut wrong = Vec::new();
        for (position, (CoreIndex(index), core)) in self.indices.iter().zip(&self.cores).enumerate()
        {
            let (sent, drained) = (core.sent, self.account(position).drained);
            if sent != drained {
                wrong.push(format!(
                    "probe core {index} sent {sent} results and the sink took {drained}"
                ));
            }
        }
        if !wrong.is_empty() {
            bail!(
                "results were lost between the probe cores and the sink: {}",
                wrong.join("; ")
            );
        }
        Ok(self.cores.iter().map(|core| core.sent).sum())
    }
}

/// Whether the picture `sink` has all that `cores` sent: taken, or in its channels.
pub(crate) fn have_arrived(cores: &[(CoreIndex, CoreSnapshot)], sink: &SinkSnapshot) -> bool {
    let arrived = |(of, core): &(CoreIndex, CoreSnapshot)| has_arrived(core, account_of(sink, *of));
    cores.iter().all(arrived)
}

fn has_arrived(core: &CoreSnapshot, account: CoreAccount) -> bool {
    core.sent <= account.drained + account.queued
}

fn account_of(sink: &SinkSnapshot, index: CoreIndex) -> CoreAccount {
    let own = sink.cores.iter().find(|(of, _)| *of == index);
    own.map_or_else(CoreAccount::default, |(_, account)| *account)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(sent: u64) -> CoreSnapshot {
        CoreSnapshot {
            due: sent + 2,
            probed: sent,
            sent,
            shed: 2,
            ..CoreSnapshot::default()
        }
    }

    fn sink(drained: u64, queued: u64) -> SinkSnapshot {
        let account = CoreAccount {
            drained,
            coalesced: drained,
            queued,
            ..CoreAccount::default()
        };
        SinkSnapshot {
            cores: vec![(CoreIndex(3), account)],
            ..SinkSnapshot::default()
        }
    }

    fn seen(before: u64, sent: u64, drained: u64, queued: u64) -> Accounts {
        let cores = [(CoreIndex(3), core(sent))];
        Accounts::new(sink(before, 0), cores, sink(drained, queued), true)
    }

    #[test]
    fn a_result_that_neither_arrived_nor_waits_is_a_loss() {
        assert!(seen(4, 5, 4, 1).all_balance());
        assert!(seen(4, 5, 5, 0).all_balance());
        assert!(!seen(4, 5, 4, 0).all_balance(), "one is nowhere");
        assert!(!seen(6, 5, 6, 0).all_balance(), "one was never sent");
    }

    #[test]
    fn what_is_sent_while_looking_is_no_imbalance() {
        assert!(seen(4, 5, 9, 2).all_balance());
    }

    #[test]
    fn a_sink_that_does_not_turn_proves_no_loss() {
        let cores = [(CoreIndex(3), core(9))];
        let stuck = Accounts::new(sink(4, 0), cores, sink(4, 0), false);
        assert!(stuck.all_balance());
    }

    #[test]
    fn an_account_that_does_not_balance_in_itself_is_told_apart_from_a_loss() {
        let cores = [(CoreIndex(3), CoreSnapshot { shed: 1, ..core(5) })];
        assert!(!Accounts::new(sink(5, 0), cores, sink(5, 0), true).all_balance());
        let mut torn = seen(4, 5, 5, 0);
        torn.sink.cores[0].1.coalesced = 4;
        assert!(!torn.all_balance());
    }

    #[test]
    fn at_the_end_every_result_has_arrived_or_the_core_is_named() {
        assert_eq!(seen(5, 5, 5, 0).all_arrived().expect("all"), 5);
        // A result that is left in the channel is lost, too: nobody takes it any more.
        for (drained, queued) in [(4, 1), (4, 0), (6, 0)] {
            let lost = seen(0, 5, drained, queued).all_arrived().expect_err("lost");
            let said = format!("probe core 3 sent 5 results and the sink took {drained}");
            assert!(lost.to_string().ends_with(&said), "{lost}");
        }
    }
}
