-- What operators had the node do. Changes of state are never here: they are transitions.
CREATE TABLE jetpack_monitor_audit_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    blog_id INTEGER,
    event_id INTEGER,
    event_type TEXT NOT NULL,
    source TEXT NOT NULL,
    detail TEXT NOT NULL,
    metadata TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX jetpack_monitor_audit_log_created ON jetpack_monitor_audit_log (created_at);
