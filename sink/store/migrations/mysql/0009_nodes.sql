-- Who applies facts, and up to where in its journal.
CREATE TABLE IF NOT EXISTS jetpack_monitor_nodes (
    node_id BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    lease_until BIGINT NULL,
    journal_seq BIGINT NOT NULL,
    PRIMARY KEY (node_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
