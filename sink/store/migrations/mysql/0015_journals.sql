-- Up to where each journal is applied, and where it is (HOST:DATA_DIR). Not in the row of the node:
-- every transaction locks that one shared, and would wait for the one that moves this.
CREATE TABLE IF NOT EXISTS jetpack_monitor_journals (
    journal_id BIGINT NOT NULL,
    holder VARCHAR(1024) NOT NULL,
    journal_seq BIGINT NOT NULL,
    PRIMARY KEY (journal_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
