//! Whether a node could write here, asked by statements that change no row.

use super::legacy::of_no_row;
use super::session::Session;
use crate::Result;

/// What a node does with its own tables.
const OF_NO_ROW: [&str; 3] = [
    "INSERT INTO jetpack_monitor_import_members (import_id, target_id) \
     SELECT import_id, target_id FROM jetpack_monitor_import_members AS other WHERE 1 = 0",
    "UPDATE jetpack_monitor_nodes SET epoch = epoch WHERE 1 = 0",
    "DELETE FROM jetpack_monitor_import_members WHERE 1 = 0",
];

impl Session {
    /// Refuses a user who may not write what a node has to write, and a server that takes no
    /// writes now.
    pub(crate) async fn require_rights(&mut self) -> Result<()> {
        self.connect().await?;
        let legacy = self.legacy().filter(|legacy| legacy.load);
        let of_legacy = legacy.map(|legacy| of_no_row(legacy)).unwrap_or_default();
        for statement in OF_NO_ROW {
            self.say(statement).await?;
        }
        for statement in of_legacy {
            self.say(&statement).await?;
        }
        Ok(())
    }
}
