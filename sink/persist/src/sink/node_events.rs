//! The node's own incidents: kept beside those of targets, in the same journal and store. What was
//! open before a start or a takeover is taken up again. It must not know what they are about.

use incident::NodeContext;
use model::{Now, TargetId};

use super::Sink;
use crate::apply::FactStore;
use crate::start::{Open, Resumed};

impl<S: FactStore> Sink<S> {
    /// Takes the node's events out of what a start found open; the others are for their targets. A
    /// sink without cores knows of nobody's trouble, and may go by another name than the node that
    /// runs at other times: it leaves them to that one.
    pub(super) fn resume_own(&mut self, open: &mut Open, now: Now) {
        let own = open.remove(&TargetId::NODE).unwrap_or_default();
        if self.cores.is_empty() {
            return;
        }
        for Resumed { event, transitions } in own {
            let mut context = NodeContext {
                node: &self.node,
                affected: 0,
                now,
                ids: &mut self.mint,
            };
            let pressure = &mut self.pressure;
            let fact = self.own.resume(*event, transitions, pressure, &mut context);
            if let Some(fact) = fact {
                self.facts.push(fact, now.mono);
            }
        }
    }

    /// Writes what changed of the node's own incidents. Without the right to write nothing is
    /// decided: it is made up for once that is back.
    pub(super) fn follow_own(&mut self, now: Now) {
        if self.tenure.is_lost() {
            return;
        }
        let affected = self.affected();
        let mut context = NodeContext {
            node: &self.node,
            affected,
            now,
            ids: &mut self.mint,
        };
        for fact in self.own.follow(&self.pressure, &mut context) {
            self.facts.push(fact, now.mono);
        }
    }
}
