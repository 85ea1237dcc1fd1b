-- Every importer locks these rows, so that numbers are handed out by one at a time.
INSERT IGNORE INTO jetpack_monitor_counters (name, value) VALUES ('target_id', 0), ('change', 0)
