//! Shards that were taken from a journal, in SQLite: noted when they are, and forgotten when the
//! journal does not come back.

use model::UnixMs;
use rusqlite::{OptionalExtension, Transaction, named_params};

use super::connection::Db;
use super::failure::Failure;
use super::lease::NOW;
use crate::Result;
use crate::answer::Forgotten;
use crate::lease::{Claim, FORGOTTEN, Takeover, WHOLE_JOURNAL};
use crate::rules::first_id_at;

/// What a journal had applied of a shard when that was taken; settled rows that are done with go.
const FORGET_SETTLED: &str = "
    DELETE FROM jetpack_monitor_shards_taken WHERE upto_seq <= (
        SELECT journal_seq FROM jetpack_monitor_journals AS j
        WHERE j.journal_id = jetpack_monitor_shards_taken.journal_id)";
const NOTE_SHARDS: &str = "
    INSERT INTO jetpack_monitor_shards_taken (journal_id, shard, newest_fact, upto_seq)
    SELECT n.journal_id, s.shard, s.newest_fact, NULL
    FROM jetpack_monitor_shards AS s JOIN jetpack_monitor_node_names AS n ON n.node_id = s.node_id
    WHERE s.shard >= :from AND s.shard < :to AND n.journal_id <> :journal
    ON CONFLICT (journal_id, shard) DO UPDATE SET upto_seq = NULL";
const NOTE_MOMENT: &str = "
    INSERT INTO jetpack_monitor_shards_taken (journal_id, shard, newest_fact, upto_seq)
    SELECT DISTINCT n.journal_id, :whole, :moment, NULL
    FROM jetpack_monitor_shards AS s JOIN jetpack_monitor_node_names AS n ON n.node_id = s.node_id
    WHERE s.shard >= :from AND s.shard < :to AND n.journal_id <> :journal
    ON CONFLICT (journal_id, shard) DO UPDATE SET upto_seq = NULL, newest_fact =
        CASE WHEN newest_fact = -1 THEN -1 ELSE excluded.newest_fact END";
/// A journal that is here again is not forgotten before it has settled what it lost.
const NOTE_RETURN: &str = "
    UPDATE jetpack_monitor_shards_taken SET newest_fact = ?1
    WHERE journal_id = ?2 AND shard = ?3 AND newest_fact <> -1";

/// Rows of builds that noted no moment: theirs is now.
const NOTE_OLDER: &str = "
    INSERT INTO jetpack_monitor_shards_taken (journal_id, shard, newest_fact, upto_seq)
    SELECT DISTINCT t.journal_id, ?1, ?2, NULL FROM jetpack_monitor_shards_taken AS t
    WHERE t.upto_seq IS NULL AND NOT EXISTS (
        SELECT 1 FROM jetpack_monitor_shards_taken AS w
        WHERE w.journal_id = t.journal_id AND w.shard = ?1)";
const LOST_BEFORE: &str = "
    SELECT journal_id FROM jetpack_monitor_shards_taken
    WHERE shard = ?1 AND upto_seq IS NULL AND newest_fact <> -1 AND newest_fact < ?2
    ORDER BY journal_id LIMIT 1";
/// All in one transaction with [`FORGET_MOMENT`]: no more rows than there are shards, and a journal
/// that comes back between two would miss some of what it lost.
const FORGET_SHARDS: &str =
    "DELETE FROM jetpack_monitor_shards_taken WHERE journal_id = ?1 AND shard < ?2";
const FORGET_MOMENT: &str = "
    UPDATE jetpack_monitor_shards_taken SET newest_fact = ?1 WHERE journal_id = ?2 AND shard = ?3";

/// Notes what `granted` takes from other journals, in the transaction that takes it.
pub(super) fn note(
    transaction: &Transaction<'_>,
    claim: &Claim,
    granted: &Takeover,
) -> Result<(), Failure> {
    let (journal, moment) = (granted.fence.journal, granted.taken_at());
    let (from, to) = (claim.shards.start, claim.shards.end);
    transaction.execute(FORGET_SETTLED, [])?;
    transaction.execute(NOTE_RETURN, (moment, journal, WHOLE_JOURNAL))?;
    let taken = named_params! { ":from": from, ":to": to, ":journal": journal };
    transaction.execute(NOTE_SHARDS, taken)?;
    let whole = named_params! {
        ":whole": WHOLE_JOURNAL, ":moment": moment, ":from": from, ":to": to, ":journal": journal,
    };
    transaction.execute(NOTE_MOMENT, whole)?;
    Ok(())
}

impl Db {
    pub(crate) fn forget_taken(&mut self, before: UnixMs) -> Result<Forgotten> {
        self.write(|transaction| {
            let now_ms: i64 =
                transaction.query_row(&format!("SELECT {NOW}"), [], |row| row.get(0))?;
            let now = first_id_at(UnixMs(now_ms.max(0) as u64));
            transaction.execute(NOTE_OLDER, (WHOLE_JOURNAL, now))?;
            let lost = (WHOLE_JOURNAL, first_id_at(before));
            let journal: Option<i64> = transaction
                .query_row(LOST_BEFORE, lost, |row| row.get(0))
                .optional()?;
            let Some(journal) = journal else {
                return Ok(Forgotten::default());
            };
            let taken = transaction.execute(FORGET_SHARDS, (journal, WHOLE_JOURNAL))?;
            transaction.execute(FORGET_MOMENT, (FORGOTTEN, journal, WHOLE_JOURNAL))?;
            Ok(Forgotten {
                taken: taken as u64,
                more: true,
                ..Forgotten::default()
            })
        })
    }
}
