-- Maintenance windows that operators added: for one target, for a group, or, without both, for all.
-- A window is once (starts_at, ends_at) or each week (weekdays with bit 0 for Monday, minutes after
-- midnight, length, time zone).
CREATE TABLE IF NOT EXISTS jetpack_monitor_maintenance_windows (
    id BIGINT NOT NULL AUTO_INCREMENT,
    endpoint_id BIGINT NULL,
    blog_id BIGINT NULL,
    starts_at BIGINT NULL,
    ends_at BIGINT NULL,
    weekdays SMALLINT NULL,
    at_min INT NULL,
    length_min INT NULL,
    zone VARCHAR(64) NULL,
    reason VARCHAR(500) NOT NULL,
    added_by VARCHAR(255) NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
