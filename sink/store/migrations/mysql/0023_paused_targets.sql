-- Targets that are not checked until somebody resumes them, whatever lists say.
CREATE TABLE IF NOT EXISTS jetpack_monitor_paused_targets (
    target_id BIGINT NOT NULL,
    paused_by VARCHAR(255) NOT NULL,
    paused_at BIGINT NOT NULL,
    PRIMARY KEY (target_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
