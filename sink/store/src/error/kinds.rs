//! What an error comes from, and what it means for whoever asked: whether to ask again. Must know
//! no sentence.

use super::StoreError;
use crate::lease::Held;

impl StoreError {
    pub(crate) fn held(store: String, held: Held) -> Self {
        Self::Held {
            store,
            node: held.node,
            holder: held.holder,
            left_s: held.left_ms.div_ceil(1_000),
        }
    }

    /// Whether the same request may succeed later without anybody doing anything: a busy, full,
    /// silent or restarting database.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Locked { .. }
                | Self::Unreachable { .. }
                | Self::TooManyConnections { .. }
                | Self::Contended { .. }
                | Self::TimedOut { .. }
                | Self::ConnectionLost { .. }
                | Self::OutcomeUnknown { .. }
        )
    }
}
