-- The names of nodes, and whose journal each of them applies now.
CREATE TABLE jetpack_monitor_node_names (
    node_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    journal_id INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX jetpack_monitor_node_names_name ON jetpack_monitor_node_names (name);

-- Up to where each journal is applied, and where it is (HOST:DATA_DIR).
CREATE TABLE jetpack_monitor_journals (
    journal_id INTEGER PRIMARY KEY,
    holder TEXT NOT NULL,
    journal_seq INTEGER NOT NULL
) STRICT;

-- Shards that were taken from a journal, with the newest fact at that moment: where it is another
-- one when the journal comes back, its unapplied facts up to upto_seq are not applied any more.
CREATE TABLE jetpack_monitor_shards_taken (
    journal_id INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    newest_fact INTEGER NOT NULL,
    upto_seq INTEGER,
    PRIMARY KEY (journal_id, shard)
) STRICT, WITHOUT ROWID;
