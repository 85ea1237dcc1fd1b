-- Freshness. The primary key only: each further index would double the cost of a write.
CREATE TABLE IF NOT EXISTS jetpack_monitor_site_runtime (
    target_id BIGINT NOT NULL,
    last_checked_at BIGINT NOT NULL,
    next_check_at BIGINT NOT NULL,
    PRIMARY KEY (target_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
