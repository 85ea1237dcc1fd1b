-- Single checks, as many as `history` keeps. Their ids begin with the time, so that the oldest are
-- found without a key of their own. error_code is the legacy one, failure_class ours.
CREATE TABLE IF NOT EXISTS jetpack_monitor_check_history (
    id BIGINT NOT NULL,
    blog_id BIGINT NOT NULL,
    source_site_id BIGINT NOT NULL,
    request_method VARCHAR(16) NOT NULL,
    http_code SMALLINT NULL,
    error_code TINYINT NULL,
    failure_class SMALLINT NULL,
    rtt_ms INT NULL,
    dns_ms INT NULL,
    tcp_ms INT NULL,
    tls_ms INT NULL,
    ttfb_ms INT NULL,
    checked_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    KEY jetpack_monitor_check_history_site (source_site_id, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
