-- The names of nodes, and whose journal each of them applies now.
CREATE TABLE IF NOT EXISTS jetpack_monitor_node_names (
    node_id BIGINT NOT NULL,
    name VARBINARY(255) NOT NULL,
    journal_id BIGINT NOT NULL,
    PRIMARY KEY (node_id),
    UNIQUE KEY jetpack_monitor_node_names_name (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
