-- Which targets an import named, until it is pruned.
CREATE TABLE IF NOT EXISTS jetpack_monitor_import_members (
    import_id BIGINT NOT NULL,
    target_id BIGINT NOT NULL,
    PRIMARY KEY (import_id, target_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
