-- One row per mutation of an event. Its id decides whether a fact was applied.
CREATE TABLE IF NOT EXISTS jetpack_monitor_event_transitions (
    id BIGINT NOT NULL,
    event_id BIGINT NOT NULL,
    blog_id BIGINT NOT NULL,
    endpoint_id BIGINT NOT NULL,
    severity_before TINYINT NULL,
    severity_after TINYINT NULL,
    state_before VARCHAR(32) NULL,
    state_after VARCHAR(32) NOT NULL,
    reason VARCHAR(64) NOT NULL,
    source VARCHAR(255) NOT NULL,
    metadata MEDIUMTEXT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    KEY jetpack_monitor_event_transitions_event (event_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
