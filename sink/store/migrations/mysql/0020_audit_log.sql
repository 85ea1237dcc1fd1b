-- What operators had the node do. Changes of state are never here: they are transitions.
CREATE TABLE IF NOT EXISTS jetpack_monitor_audit_log (
    id BIGINT NOT NULL AUTO_INCREMENT,
    blog_id BIGINT NULL,
    event_id BIGINT NULL,
    event_type VARCHAR(64) NOT NULL,
    source VARCHAR(255) NOT NULL,
    detail VARCHAR(1024) NOT NULL,
    metadata MEDIUMTEXT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    KEY jetpack_monitor_audit_log_blog (blog_id, created_at),
    KEY jetpack_monitor_audit_log_created (created_at),
    KEY jetpack_monitor_audit_log_event (event_id),
    KEY jetpack_monitor_audit_log_type (event_type, created_at)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
