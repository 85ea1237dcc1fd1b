INSERT IGNORE INTO jetpack_monitor_nodes (node_id, epoch, journal_seq) VALUES (1, 1, 0)
