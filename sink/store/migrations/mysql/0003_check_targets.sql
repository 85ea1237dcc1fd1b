-- Targets. Times are ms since the Unix epoch, UTC, blog_id is the group. No foreign keys anywhere:
-- facts outlive their target. The columns of the unique key are binary: other strings compare
-- equal with blanks behind them.
CREATE TABLE IF NOT EXISTS jetpack_monitor_check_targets (
    id BIGINT NOT NULL,
    name VARBINARY(128) NOT NULL,
    blog_id BIGINT NOT NULL,
    monitor_url VARBINARY(2083) NOT NULL,
    check_interval_sec BIGINT NOT NULL,
    request_method VARBINARY(16) NOT NULL,
    detection_profile VARCHAR(32) NOT NULL,
    timeout_ms BIGINT NOT NULL,
    redirect_policy VARCHAR(32) NOT NULL,
    check_keyword TEXT NULL,
    forbidden_keywords MEDIUMTEXT NULL,
    custom_headers MEDIUMTEXT NULL,
    expect_status TEXT NOT NULL,
    maintenance_start BIGINT NULL,
    maintenance_end BIGINT NULL,
    alert_cooldown_minutes BIGINT NOT NULL,
    max_latency_ms BIGINT NULL,
    send_text TEXT NULL,
    expected_values MEDIUMTEXT NULL,
    shard INT NOT NULL,
    generation BIGINT NOT NULL,
    change_number BIGINT NOT NULL,
    monitor_active TINYINT NOT NULL,
    site_status TINYINT NOT NULL,
    last_status_change BIGINT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY jetpack_monitor_check_targets_key (monitor_url, request_method, name),
    UNIQUE KEY jetpack_monitor_check_targets_change (change_number)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
