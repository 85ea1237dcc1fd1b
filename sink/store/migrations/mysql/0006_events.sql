-- At most one open event per identity: dedup_key is NULL once an event is closed. Most events are
-- closed, so the few open ones are together at the beginning of an index.
CREATE TABLE IF NOT EXISTS jetpack_monitor_events (
    id BIGINT NOT NULL,
    blog_id BIGINT NOT NULL,
    endpoint_id BIGINT NOT NULL,
    check_type VARCHAR(64) NOT NULL,
    discriminator VARCHAR(255) NULL,
    severity TINYINT NULL,
    state VARCHAR(32) NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT NULL,
    resolution_reason VARCHAR(64) NULL,
    cause_event_id BIGINT NULL,
    fail_count BIGINT NOT NULL,
    failure_class SMALLINT NOT NULL,
    metadata MEDIUMTEXT NULL,
    updated_at BIGINT NOT NULL,
    dedup_key VARCHAR(350) GENERATED ALWAYS AS (
        CASE WHEN ended_at IS NULL
        THEN CONCAT(endpoint_id, ':', check_type, ':', COALESCE(discriminator, '')) END
    ) VIRTUAL,
    PRIMARY KEY (id),
    UNIQUE KEY jetpack_monitor_events_dedup (dedup_key),
    KEY jetpack_monitor_events_open (ended_at, endpoint_id),
    KEY jetpack_monitor_events_endpoint (endpoint_id, id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
