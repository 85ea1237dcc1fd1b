-- Settings of single rows of a legacy table, in the form of the systems that had it before. NULL
-- inherits. Somebody else's table of the same form may take its place.
CREATE TABLE IF NOT EXISTS jetpack_monitor_site_check_config (
    source_site_id BIGINT UNSIGNED NOT NULL,
    blog_id BIGINT UNSIGNED NOT NULL DEFAULT 0,
    request_method VARCHAR(16) NULL,
    detection_profile VARCHAR(32) NULL,
    check_keyword VARCHAR(500) NULL,
    forbidden_keyword VARCHAR(500) NULL,
    forbidden_keywords MEDIUMTEXT NULL,
    maintenance_start DATETIME NULL,
    maintenance_end DATETIME NULL,
    custom_headers MEDIUMTEXT NULL,
    timeout_seconds SMALLINT UNSIGNED NULL,
    redirect_policy VARCHAR(16) NULL,
    alert_cooldown_minutes SMALLINT NULL,
    check_history_mode VARCHAR(32) NULL,
    check_history_sample_rate INT UNSIGNED NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (source_site_id),
    KEY jetpack_monitor_site_check_config_blog (blog_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
