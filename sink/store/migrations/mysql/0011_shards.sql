-- Who owns which part of the fleet (1,024 shards), and the highest fact id ever applied there.
CREATE TABLE IF NOT EXISTS jetpack_monitor_shards (
    shard INT NOT NULL,
    node_id BIGINT NOT NULL,
    since_epoch BIGINT NOT NULL,
    newest_fact BIGINT NOT NULL,
    PRIMARY KEY (shard)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
