//! Who may write, on a server: claims, renewals, and the check that every write begins with.

use model::{Shard, UnixMs};
use mysql_async::Value;

use super::insert::Many;
use super::session::{Session, read};
use crate::lease::{
    Claim, Fence, Held, NameRow, NodeRow, Picture, Superseded, Takeover, WHOLE_JOURNAL, decide,
};
use crate::{Result, StoreError};

/// The clock of the server, in ms since the Unix epoch. `NOW`, never `SYSDATE`: a session can be
/// given another time for tests.
const NOW: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

/// Asked with a lock to the end of the transaction: whoever takes the right waits for it.
const EPOCH: &str = "SELECT epoch FROM jetpack_monitor_nodes WHERE node_id = ?";

const TAKE_SHARDS: &str = "UPDATE jetpack_monitor_shards SET node_id = ?, since_epoch = ? \
    WHERE shard >= ? AND shard < ? AND (node_id <> ? OR NOT EXISTS (\
    SELECT 1 FROM jetpack_monitor_node_names AS n WHERE n.node_id = ? AND n.journal_id = ?))";

const SET_NODE: &str = "INSERT INTO jetpack_monitor_nodes \
    (node_id, epoch, lease_until, journal_seq) VALUES (?, ?, ?, 0) \
    ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), lease_until = VALUES(lease_until)";
const SET_JOURNAL: &str = "INSERT INTO jetpack_monitor_journals \
    (journal_id, holder, journal_seq) VALUES (?, ?, ?) \
    ON DUPLICATE KEY UPDATE holder = VALUES(holder)";
const SET_NAME: &str = "INSERT INTO jetpack_monitor_node_names (node_id, name, journal_id) \
    VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE journal_id = VALUES(journal_id)";
const LOSE: &str =
    "UPDATE jetpack_monitor_nodes SET epoch = epoch + 1, lease_until = 0 WHERE node_id = ?";
const ADD_SHARDS: (&str, &str, &str) = (
    "INSERT INTO jetpack_monitor_shards (shard, node_id, since_epoch, newest_fact) VALUES",
    "(?,?,?,0)",
    "",
);

/// Whether a node has its epoch, and its journal a position that is not below another one.
const STILL_HAS: &str = "SELECT COUNT(*) FROM jetpack_monitor_nodes AS n \
    JOIN jetpack_monitor_journals AS j ON j.journal_id = ? \
    WHERE n.node_id = ? AND n.epoch = ? AND j.journal_seq >= ?";

/// The rows of nodes under the names that older readers know. The names of ours are bytes.
const OF_NODE: &str = "JOIN jetpack_monitor_node_names AS n ON n.name = CAST(h.host_id AS BINARY)";
const SET_HOST: &str = "INSERT INTO jetpack_monitor_hosts \
    (host_id, bucket_min, bucket_max, last_heartbeat, status) VALUES (?, ?, ?, NOW(3), 'active') \
    ON DUPLICATE KEY UPDATE bucket_min = VALUES(bucket_min), bucket_max = VALUES(bucket_max), \
    last_heartbeat = VALUES(last_heartbeat), status = VALUES(status)";

/// The row of a journal that was forgotten stands for every shard.
const SUPERSEDED: &str = "SELECT t.shard, t.upto_seq FROM jetpack_monitor_shards_taken AS t \
    JOIN jetpack_monitor_shards AS s ON s.shard = t.shard \
    JOIN jetpack_monitor_journals AS j ON j.journal_id = t.journal_id \
    WHERE t.journal_id = ? AND (t.upto_seq > j.journal_seq \
    OR (t.upto_seq IS NULL AND t.newest_fact <> s.newest_fact)) \
    UNION ALL SELECT s.shard, t.upto_seq FROM jetpack_monitor_shards AS s \
    JOIN jetpack_monitor_shards_taken AS t ON t.newest_fact = -1 \
    JOIN jetpack_monitor_journals AS j ON j.journal_id = t.journal_id \
    WHERE t.journal_id = ? AND t.shard = ? \
    AND (t.upto_seq > j.journal_seq OR t.upto_seq IS NULL) ORDER BY 1";

impl Session {
    pub(crate) async fn acquire(&mut self, claim: &Claim) -> Result<Fence> {
        self.connect().await?;
        let mut decided = None;
        let taken = self
            .write(async |session: &mut Self| {
                let picture = session.picture().await?;
                let granted = decide(claim, &picture).map_err(|held| session.held(held))?;
                session.take_over(claim, &granted).await?;
                let fence = granted.fence;
                decided = Some(granted);
                Ok(fence)
            })
            .await;
        match (taken, decided) {
            (Err(error @ StoreError::OutcomeUnknown { .. }), Some(granted)) => {
                self.taken_after_all(granted, error).await
            }
            (taken, _) => taken,
        }
    }

    /// What became of a claim whose answer was lost. Without the question the node would wait for
    /// a lease that is its own.
    async fn taken_after_all(&mut self, granted: Takeover, lost: StoreError) -> Result<Fence> {
        let Fence { node, epoch, .. } = granted.fence;
        let sql = "SELECT COUNT(*) FROM jetpack_monitor_nodes AS n \
            JOIN jetpack_monitor_node_names AS m ON m.node_id = n.node_id \
            WHERE n.node_id = ? AND n.epoch = ? AND n.lease_until = ? AND m.journal_id = ?";
        let row = [node, epoch, granted.lease_until, granted.fence.journal];
        self.settle();
        self.connect().await?;
        // To the millisecond nobody else was given this lease.
        match self.number(sql, row.map(Value::Int).into()).await? {
            Some(1) => Ok(granted.fence),
            _ => Err(lost),
        }
    }

    pub(crate) async fn server_time(&mut self) -> Result<UnixMs> {
        self.connect().await?;
        let now = self.number(&format!("SELECT {NOW}"), Vec::new()).await?;
        Ok(UnixMs(now.unwrap_or(0) as u64))
    }

    pub(crate) async fn renew(&mut self, fence: Fence, lease_ms: u64) -> Result<()> {
        // Alone: a renewal that comes late prolongs a right that is still there, or none, and after
        // the right was given back the next node waits for one lease.
        let sql = format!(
            "UPDATE jetpack_monitor_nodes AS o \
             LEFT JOIN jetpack_monitor_node_names AS n ON n.node_id = o.node_id \
             LEFT JOIN jetpack_monitor_hosts AS h ON CAST(h.host_id AS BINARY) = n.name \
             SET o.lease_until = {NOW} + ?, h.last_heartbeat = NOW(3) \
             WHERE o.node_id = ? AND o.epoch = ?"
        );
        let row = [lease_ms as i64, fence.node, fence.epoch].map(Value::Int);
        if self.write_alone(&sql, &row).await? > 0 {
            return Ok(());
        }
        // A row that is as it was counts as not touched, too.
        self.write(async |session: &mut Self| session.require(fence).await)
            .await
    }

    /// With the lock of every write, for a moment: whoever takes the right is waited for, and a
    /// proxy that sends reading elsewhere mostly leaves what locks with the server that is written.
    pub(crate) async fn still_has(&mut self, fence: Fence, acknowledged: u64) -> Result<bool> {
        let row = [fence.journal, fence.node, fence.epoch, acknowledged as i64];
        // A new connection says how rows are locked there.
        self.settle();
        self.connect().await?;
        let sql = format!("{STILL_HAS} {}", self.shared_lock());
        let rows = self.ask(&sql, row.map(Value::Int).into()).await?;
        let Some(row) = rows.into_iter().next() else {
            return Ok(false);
        };
        read::<(i64,)>(self.url(), row).map(|(found,)| found == 1)
    }

    pub(crate) async fn release(&mut self, fence: Fence) -> Result<()> {
        self.write(async |session: &mut Self| {
            let sql = "UPDATE jetpack_monitor_nodes SET lease_until = 0 \
                WHERE node_id = ? AND epoch = ?";
            let row = [fence.node, fence.epoch].map(Value::Int);
            if session.execute(sql, row.into()).await? > 0 {
                let sql = format!(
                    "DELETE h FROM jetpack_monitor_hosts AS h {OF_NODE} WHERE n.node_id = ?"
                );
                session.execute(&sql, vec![Value::Int(fence.node)]).await?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn pass_over(&mut self, fence: Fence, last_seq: u64) -> Result<()> {
        self.write(async |session: &mut Self| {
            session.require(fence).await?;
            let journal = Value::Int(fence.journal);
            let sql = "DELETE FROM jetpack_monitor_shards_taken \
                WHERE journal_id = ? AND upto_seq IS NULL AND newest_fact = (\
                SELECT s.newest_fact FROM jetpack_monitor_shards AS s \
                WHERE s.shard = jetpack_monitor_shards_taken.shard)";
            session.execute(sql, vec![journal.clone()]).await?;
            let sql = "UPDATE jetpack_monitor_shards_taken SET upto_seq = ? \
                WHERE journal_id = ? AND (upto_seq IS NULL OR upto_seq > ?)";
            let last = Value::Int(last_seq as i64);
            let row = vec![last.clone(), journal, last];
            session.execute(sql, row).await
        })
        .await?;
        Ok(())
    }

    /// Refuses a write whose right has gone, and keeps everybody from taking it before the end of
    /// this transaction.
    pub(super) async fn require(&mut self, fence: Fence) -> Result<()> {
        let sql = format!("{EPOCH} {}", self.shared_lock());
        let epoch = self.number(&sql, vec![Value::Int(fence.node)]).await?;
        if epoch == Some(fence.epoch) {
            return Ok(());
        }
        Err(StoreError::Fenced {
            store: self.url().to_string(),
            epoch: fence.epoch(),
        })
    }

    /// Facts of `journal` that are not applied any more.
    pub(super) async fn superseded(&mut self, journal: i64) -> Result<Vec<Superseded>> {
        let mut all = Vec::new();
        let of_journal = [journal, journal, i64::from(WHOLE_JOURNAL)].map(Value::Int);
        for row in self.fetch(SUPERSEDED, of_journal.into()).await? {
            let (shard, upto): (u16, Option<u64>) = read(self.url(), row)?;
            all.extend(Shard::new(shard).map(|shard| Superseded { shard, upto }));
        }
        Ok(all)
    }

    fn held(&self, held: Held) -> StoreError {
        let store = self.url().to_string();
        StoreError::held(store, held)
    }

    /// Locks every node: claims are decided one at a time.
    async fn picture(&mut self) -> Result<Picture> {
        let sql = "SELECT node_id, epoch, lease_until, journal_seq FROM jetpack_monitor_nodes \
            ORDER BY node_id FOR UPDATE";
        let mut picture = Picture::default();
        for row in self.fetch(sql, Vec::new()).await? {
            let (node, epoch, lease_until, journal_seq) = read(self.url(), row)?;
            picture.nodes.push(NodeRow {
                node,
                epoch,
                lease_until,
                journal_seq,
            });
        }
        // After the wait for the lock.
        picture.now_ms = self.server_time().await?.0 as i64;
        let sql = "SELECT n.node_id, n.name, n.journal_id, j.holder \
            FROM jetpack_monitor_node_names AS n \
            JOIN jetpack_monitor_journals AS j ON j.journal_id = n.journal_id";
        for row in self.fetch(sql, Vec::new()).await? {
            let (node, name, journal, holder): (i64, Vec<u8>, i64, String) = read(self.url(), row)?;
            picture.names.push(NameRow {
                node,
                name: String::from_utf8_lossy(&name).into_owned(),
                journal,
                holder,
            });
        }
        let sql = "SELECT shard, node_id FROM jetpack_monitor_shards";
        for row in self.fetch(sql, Vec::new()).await? {
            let (shard, node): (u16, i64) = read(self.url(), row)?;
            picture.owners.insert(shard, node);
        }
        Ok(picture)
    }

    async fn take_over(&mut self, claim: &Claim, granted: &Takeover) -> Result<()> {
        let Fence {
            node,
            epoch,
            journal,
        } = granted.fence;
        let [from, to] = [claim.shards.start, claim.shards.end].map(i64::from);
        self.note_taken(claim, granted).await?;
        let numbers = |all: &[i64]| all.iter().copied().map(Value::Int).collect::<Vec<_>>();
        let took = numbers(&[node, epoch, from, to, node, node, journal]);
        self.execute(TAKE_SHARDS, took).await?;
        self.execute(SET_NODE, numbers(&[node, epoch, granted.lease_until]))
            .await?;
        let row = vec![
            Value::Int(journal),
            Value::from(&claim.holder),
            Value::Int(granted.first_position),
        ];
        self.execute(SET_JOURNAL, row).await?;
        let row = vec![
            Value::Int(node),
            Value::from(claim.node.as_bytes()),
            Value::Int(journal),
        ];
        self.execute(SET_NAME, row).await?;
        let host = vec![
            Value::from(&claim.node),
            Value::Int(from),
            Value::Int(to - 1),
        ];
        self.execute(SET_HOST, host).await?;
        let nothing = format!(
            "UPDATE jetpack_monitor_hosts AS h {OF_NODE} \
             SET h.bucket_min = 0, h.bucket_max = -1 WHERE n.node_id = ?"
        );
        for &loser in &granted.losers {
            self.execute(LOSE, numbers(&[loser])).await?;
            self.execute(&nothing, numbers(&[loser])).await?;
        }
        let (head, row, tail) = ADD_SHARDS;
        let missing = granted.missing.iter();
        let rows = missing.map(|&shard| numbers(&[i64::from(shard), node, epoch]));
        self.execute_many(Many::insert(head, row, tail), rows)
            .await?;
        Ok(())
    }
}
