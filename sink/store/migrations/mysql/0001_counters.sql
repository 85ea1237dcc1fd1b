-- Last number handed out, by name.
CREATE TABLE IF NOT EXISTS jetpack_monitor_counters (
    name VARCHAR(64) NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
