-- Shards that were taken from a journal, with the newest fact at that moment: where it is another
-- one when the journal comes back, its unapplied facts up to upto_seq are not applied any more.
CREATE TABLE IF NOT EXISTS jetpack_monitor_shards_taken (
    journal_id BIGINT NOT NULL,
    shard INT NOT NULL,
    newest_fact BIGINT NOT NULL,
    upto_seq BIGINT NULL,
    PRIMARY KEY (journal_id, shard)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
