-- Failures that verifiers at other places did not see. There are none yet, and so no rows.
CREATE TABLE IF NOT EXISTS jetpack_monitor_false_positives (
    id BIGINT NOT NULL AUTO_INCREMENT,
    blog_id BIGINT NOT NULL,
    http_code SMALLINT NULL,
    error_code TINYINT NULL,
    rtt_ms INT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    KEY jetpack_monitor_false_positives_blog (blog_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
