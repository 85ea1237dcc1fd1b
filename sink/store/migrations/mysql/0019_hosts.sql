-- Which node has which shards, and when it was heard of last, in the form of the systems that had
-- it before. Nothing of ours is decided by it: nodes, leases and epochs are in tables of their own.
CREATE TABLE IF NOT EXISTS jetpack_monitor_hosts (
    host_id VARCHAR(255) NOT NULL,
    bucket_min SMALLINT NOT NULL,
    bucket_max SMALLINT NOT NULL,
    last_heartbeat TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    status VARCHAR(16) NOT NULL DEFAULT 'active',
    PRIMARY KEY (host_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
