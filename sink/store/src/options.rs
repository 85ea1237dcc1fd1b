//! How a store is opened.

use std::sync::Arc;
use std::time::Duration;

use model::limits::{CHANGE_SILENCE_MS, STORE_BUSY_MS};

use crate::legacy::Legacy;

/// How to open a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Make the store, and its directory, when there is none.
    pub create: bool,
    /// Change nothing: no migration, no write, and a store that may only be read will do.
    pub look_only: bool,
    /// How long a request waits for the lock of another process. On a server, whole seconds, and
    /// at least one; facts and freshness wait for one there, whatever this says.
    pub busy_timeout: Duration,
    /// Tables of an older system beside ours, on a server.
    pub legacy: Option<Arc<Legacy>>,
    /// A stream of changes that says nothing for so long is dead. The server is asked to say
    /// something three times as often.
    pub change_silence: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            create: true,
            look_only: false,
            busy_timeout: Duration::from_millis(STORE_BUSY_MS),
            legacy: None,
            change_silence: Duration::from_millis(CHANGE_SILENCE_MS),
        }
    }
}

impl OpenOptions {
    /// For a store that is there, to look only.
    #[must_use]
    pub fn look() -> Self {
        Self {
            create: false,
            look_only: true,
            ..Self::default()
        }
    }
}
