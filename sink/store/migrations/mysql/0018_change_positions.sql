-- Up to where each journal's node has taken in the changes of the legacy tables from the server's
-- binary log: a restart goes on there. log_begun tells a log from a later one of the same name.
CREATE TABLE IF NOT EXISTS jetpack_monitor_change_positions (
    journal_id BIGINT NOT NULL,
    server_id BIGINT NOT NULL,
    log_file VARCHAR(512) NOT NULL,
    log_begun BIGINT NOT NULL,
    log_offset BIGINT NOT NULL,
    PRIMARY KEY (journal_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
