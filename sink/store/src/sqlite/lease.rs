//! Who may write, in SQLite: claims, renewals, and the check that every write begins with.

use model::Shard;
use rusqlite::{Connection, OptionalExtension, Transaction, named_params};

use super::connection::Db;
use super::failure::Failure;
use super::taken;
use crate::Result;
use crate::lease::{
    Claim, Fence, NameRow, NodeRow, Picture, Superseded, Takeover, WHOLE_JOURNAL, decide,
};

/// The clock of the database, in ms since the Unix epoch.
pub(super) const NOW: &str = "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";

const TAKE_SHARDS: &str = "
    UPDATE jetpack_monitor_shards SET node_id = :node, since_epoch = :epoch
    WHERE shard >= :from AND shard < :to AND (node_id <> :node OR NOT EXISTS (
        SELECT 1 FROM jetpack_monitor_node_names
        WHERE node_id = :node AND journal_id = :journal))";

/// The row of a journal that was forgotten stands for every shard.
const SUPERSEDED: &str = "
    SELECT t.shard, t.upto_seq FROM jetpack_monitor_shards_taken AS t
    JOIN jetpack_monitor_shards AS s ON s.shard = t.shard
    JOIN jetpack_monitor_journals AS j ON j.journal_id = t.journal_id
    WHERE t.journal_id = ?1 AND (t.upto_seq > j.journal_seq
          OR (t.upto_seq IS NULL AND t.newest_fact <> s.newest_fact))
    UNION ALL SELECT s.shard, t.upto_seq FROM jetpack_monitor_shards AS s
    JOIN jetpack_monitor_shards_taken AS t ON t.newest_fact = -1
    JOIN jetpack_monitor_journals AS j ON j.journal_id = t.journal_id
    WHERE t.journal_id = ?1 AND t.shard = ?2
          AND (t.upto_seq > j.journal_seq OR t.upto_seq IS NULL) ORDER BY 1";

impl Db {
    pub(crate) fn acquire(&mut self, claim: &Claim) -> Result<Fence> {
        self.write(|transaction| {
            let picture = picture(transaction)?;
            let granted = decide(claim, &picture).map_err(Failure::Held)?;
            take_over(transaction, claim, &granted)?;
            Ok(granted.fence)
        })
    }

    pub(crate) fn renew(&mut self, fence: Fence, lease_ms: u64) -> Result<()> {
        self.write(|transaction| {
            let sql = format!(
                "UPDATE jetpack_monitor_nodes SET lease_until = {NOW} + ?1
                 WHERE node_id = ?2 AND epoch = ?3"
            );
            let row = (lease_ms as i64, fence.node, fence.epoch);
            match transaction.execute(&sql, row)? {
                0 => Err(Failure::Fenced(fence)),
                _ => Ok(()),
            }
        })
    }

    pub(crate) fn still_has(&mut self, fence: Fence, acknowledged: u64) -> Result<bool> {
        self.run(|connection| {
            let sql = "SELECT count(*) FROM jetpack_monitor_nodes AS n
                       JOIN jetpack_monitor_journals AS j ON j.journal_id = ?1
                       WHERE n.node_id = ?2 AND n.epoch = ?3 AND j.journal_seq >= ?4";
            let row = (fence.journal, fence.node, fence.epoch, acknowledged as i64);
            let found: i64 = connection
                .prepare_cached(sql)?
                .query_row(row, |row| row.get(0))?;
            Ok(found == 1)
        })
    }

    pub(crate) fn release(&mut self, fence: Fence) -> Result<()> {
        self.write(|transaction| {
            let sql = "UPDATE jetpack_monitor_nodes SET lease_until = 0
                       WHERE node_id = ?1 AND epoch = ?2";
            transaction.execute(sql, (fence.node, fence.epoch))?;
            Ok(())
        })
    }

    pub(crate) fn pass_over(&mut self, fence: Fence, last_seq: u64) -> Result<()> {
        self.write(|transaction| {
            require(transaction, fence)?;
            let sql = "DELETE FROM jetpack_monitor_shards_taken
                       WHERE journal_id = ?1 AND upto_seq IS NULL AND newest_fact = (
                           SELECT newest_fact FROM jetpack_monitor_shards AS s
                           WHERE s.shard = jetpack_monitor_shards_taken.shard)";
            transaction.execute(sql, [fence.journal])?;
            let sql = "UPDATE jetpack_monitor_shards_taken SET upto_seq = ?1
                       WHERE journal_id = ?2 AND (upto_seq IS NULL OR upto_seq > ?1)";
            transaction.execute(sql, (last_seq as i64, fence.journal))?;
            Ok(())
        })
    }
}

/// Refuses a write whose right has gone. In a transaction that has the write lock: nobody can take
/// the right before its end.
pub(super) fn require(transaction: &Transaction<'_>, fence: Fence) -> Result<(), Failure> {
    let epoch: Option<i64> = transaction
        .prepare_cached("SELECT epoch FROM jetpack_monitor_nodes WHERE node_id = ?1")?
        .query_row([fence.node], |row| row.get(0))
        .optional()?;
    match epoch {
        Some(epoch) if epoch == fence.epoch => Ok(()),
        _ => Err(Failure::Fenced(fence)),
    }
}

/// Facts of `journal` that are not applied any more.
pub(super) fn superseded(
    connection: &Connection,
    journal: i64,
) -> Result<Vec<Superseded>, Failure> {
    let mut statement = connection.prepare(SUPERSEDED)?;
    let mut rows = statement.query((journal, WHOLE_JOURNAL))?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let upto: Option<i64> = row.get(1)?;
        if let Some(shard) = Shard::new(row.get(0)?) {
            let upto = upto.map(|seq| seq as u64);
            all.push(Superseded { shard, upto });
        }
    }
    Ok(all)
}

fn picture(transaction: &Transaction<'_>) -> Result<Picture, Failure> {
    let now_ms = transaction.query_row(&format!("SELECT {NOW}"), [], |row| row.get(0))?;
    let mut picture = Picture {
        now_ms,
        ..Picture::default()
    };
    let mut nodes = transaction.prepare(
        "SELECT node_id, epoch, lease_until, journal_seq FROM jetpack_monitor_nodes
         ORDER BY node_id",
    )?;
    let mut rows = nodes.query([])?;
    while let Some(row) = rows.next()? {
        picture.nodes.push(NodeRow {
            node: row.get(0)?,
            epoch: row.get(1)?,
            lease_until: row.get(2)?,
            journal_seq: row.get(3)?,
        });
    }
    let mut names = transaction.prepare(
        "SELECT n.node_id, n.name, n.journal_id, j.holder FROM jetpack_monitor_node_names AS n
         JOIN jetpack_monitor_journals AS j ON j.journal_id = n.journal_id",
    )?;
    let mut rows = names.query([])?;
    while let Some(row) = rows.next()? {
        picture.names.push(NameRow {
            node: row.get(0)?,
            name: row.get(1)?,
            journal: row.get(2)?,
            holder: row.get(3)?,
        });
    }
    let mut owners = transaction.prepare("SELECT shard, node_id FROM jetpack_monitor_shards")?;
    let mut rows = owners.query([])?;
    while let Some(row) = rows.next()? {
        picture.owners.insert(row.get(0)?, row.get(1)?);
    }
    Ok(picture)
}

fn take_over(
    transaction: &Transaction<'_>,
    claim: &Claim,
    granted: &Takeover,
) -> Result<(), Failure> {
    let Fence {
        node,
        epoch,
        journal,
    } = granted.fence;
    let (from, to) = (claim.shards.start, claim.shards.end);
    taken::note(transaction, claim, granted)?;
    let took = named_params! {
        ":node": node, ":epoch": epoch, ":from": from, ":to": to, ":journal": journal,
    };
    transaction.execute(TAKE_SHARDS, took)?;
    transaction.execute(
        "INSERT INTO jetpack_monitor_nodes (node_id, epoch, lease_until, journal_seq)
         VALUES (?1, ?2, ?3, 0) ON CONFLICT (node_id) DO UPDATE
         SET epoch = excluded.epoch, lease_until = excluded.lease_until",
        (node, epoch, granted.lease_until),
    )?;
    transaction.execute(
        "INSERT INTO jetpack_monitor_journals (journal_id, holder, journal_seq)
         VALUES (?1, ?2, ?3) ON CONFLICT (journal_id) DO UPDATE SET holder = excluded.holder",
        (journal, &claim.holder, granted.first_position),
    )?;
    transaction.execute(
        "INSERT INTO jetpack_monitor_node_names (node_id, name, journal_id) VALUES (?1, ?2, ?3)
         ON CONFLICT (node_id) DO UPDATE SET journal_id = excluded.journal_id",
        (node, &claim.node, journal),
    )?;
    let mut lose = transaction.prepare(
        "UPDATE jetpack_monitor_nodes SET epoch = epoch + 1, lease_until = 0 WHERE node_id = ?1",
    )?;
    for &loser in &granted.losers {
        lose.execute([loser])?;
    }
    let mut add = transaction.prepare(
        "INSERT INTO jetpack_monitor_shards (shard, node_id, since_epoch, newest_fact)
         VALUES (?1, ?2, ?3, 0)",
    )?;
    for &shard in &granted.missing {
        add.execute((shard, node, epoch))?;
    }
    Ok(())
}
