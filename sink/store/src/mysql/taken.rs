//! Shards that were taken from a journal, on a server: noted when they are, and forgotten when the
//! journal does not come back.

use model::UnixMs;
use mysql_async::Value;

use super::session::Session;
use crate::Result;
use crate::answer::Forgotten;
use crate::lease::{Claim, FORGOTTEN, Takeover, WHOLE_JOURNAL};
use crate::rules::first_id_at;

/// What a journal had applied of a shard when that was taken; settled rows that are done with go.
const FORGET_SETTLED: &str = "DELETE FROM jetpack_monitor_shards_taken WHERE upto_seq <= (\
    SELECT j.journal_seq FROM jetpack_monitor_journals AS j \
    WHERE j.journal_id = jetpack_monitor_shards_taken.journal_id)";
const NOTE_SHARDS: &str = "INSERT INTO jetpack_monitor_shards_taken \
    (journal_id, shard, newest_fact, upto_seq) \
    SELECT n.journal_id, s.shard, s.newest_fact, NULL FROM jetpack_monitor_shards AS s \
    JOIN jetpack_monitor_node_names AS n ON n.node_id = s.node_id \
    WHERE s.shard >= ? AND s.shard < ? AND n.journal_id <> ? \
    ON DUPLICATE KEY UPDATE upto_seq = NULL";
const NOTE_MOMENT: &str = "INSERT INTO jetpack_monitor_shards_taken \
    (journal_id, shard, newest_fact, upto_seq) \
    SELECT DISTINCT n.journal_id, CAST(? AS SIGNED), CAST(? AS SIGNED), NULL \
    FROM jetpack_monitor_shards AS s \
    JOIN jetpack_monitor_node_names AS n ON n.node_id = s.node_id \
    WHERE s.shard >= ? AND s.shard < ? AND n.journal_id <> ? \
    ON DUPLICATE KEY UPDATE upto_seq = NULL, newest_fact = \
    CASE WHEN jetpack_monitor_shards_taken.newest_fact = -1 THEN -1 ELSE VALUES(newest_fact) END";
/// A journal that is here again is not forgotten before it has settled what it lost.
const NOTE_RETURN: &str = "UPDATE jetpack_monitor_shards_taken SET newest_fact = ? \
    WHERE journal_id = ? AND shard = ? AND newest_fact <> -1";

/// Rows of builds that noted no moment: theirs is now.
const NOTE_OLDER: &str = "INSERT INTO jetpack_monitor_shards_taken \
    (journal_id, shard, newest_fact, upto_seq) \
    SELECT DISTINCT t.journal_id, CAST(? AS SIGNED), CAST(? AS SIGNED), NULL \
    FROM jetpack_monitor_shards_taken AS t \
    WHERE t.upto_seq IS NULL AND NOT EXISTS (\
    SELECT 1 FROM jetpack_monitor_shards_taken AS w \
    WHERE w.journal_id = t.journal_id AND w.shard = ?)";
const LOST_BEFORE: &str = "SELECT journal_id FROM jetpack_monitor_shards_taken \
    WHERE shard = ? AND upto_seq IS NULL AND newest_fact <> -1 AND newest_fact < ? \
    ORDER BY journal_id LIMIT 1";
/// All in one transaction with [`FORGET_MOMENT`]: no more rows than there are shards, and a journal
/// that comes back between two would miss some of what it lost.
const FORGET_SHARDS: &str =
    "DELETE FROM jetpack_monitor_shards_taken WHERE journal_id = ? AND shard < ?";
const FORGET_MOMENT: &str = "UPDATE jetpack_monitor_shards_taken SET newest_fact = ? \
    WHERE journal_id = ? AND shard = ?";

impl Session {
    /// Notes what `granted` takes from other journals, in the transaction that takes it.
    pub(super) async fn note_taken(&mut self, claim: &Claim, granted: &Takeover) -> Result<()> {
        let journal = granted.fence.journal;
        let [from, to] = [claim.shards.start, claim.shards.end].map(i64::from);
        let (whole, moment) = (i64::from(WHOLE_JOURNAL), granted.taken_at());
        for (sql, numbers) in [
            (FORGET_SETTLED, vec![]),
            (NOTE_RETURN, vec![moment, journal, whole]),
            (NOTE_SHARDS, vec![from, to, journal]),
            (NOTE_MOMENT, vec![whole, moment, from, to, journal]),
        ] {
            let values = numbers.into_iter().map(Value::Int).collect();
            self.execute(sql, values).await?;
        }
        Ok(())
    }

    pub(crate) async fn forget_taken(&mut self, before: UnixMs) -> Result<Forgotten> {
        let whole = i64::from(WHOLE_JOURNAL);
        self.write(async |session: &mut Self| {
            let now = first_id_at(session.server_time().await?);
            let older = [whole, now, whole].map(Value::Int);
            session.execute(NOTE_OLDER, older.into()).await?;
            let lost = [whole, first_id_at(before)].map(Value::Int);
            let Some(journal) = session.number(LOST_BEFORE, lost.into()).await? else {
                return Ok(Forgotten::default());
            };
            let shards = [journal, whole].map(Value::Int);
            let taken = session.execute(FORGET_SHARDS, shards.into()).await?;
            let done = [FORGOTTEN, journal, whole].map(Value::Int);
            session.execute(FORGET_MOMENT, done.into()).await?;
            Ok(Forgotten {
                taken,
                more: true,
                ..Forgotten::default()
            })
        })
        .await
    }
}
