-- What operators decide about targets. A maintenance window is for one target, for a group, or,
-- without both, for all; it is once (starts_at, ends_at) or each week (weekdays with bit 0 for
-- Monday, minutes after midnight, length, time zone).
CREATE TABLE jetpack_monitor_maintenance_windows (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint_id INTEGER,
    blog_id INTEGER,
    starts_at INTEGER,
    ends_at INTEGER,
    weekdays INTEGER,
    at_min INTEGER,
    length_min INTEGER,
    zone TEXT,
    reason TEXT NOT NULL,
    added_by TEXT NOT NULL,
    added_at INTEGER NOT NULL
) STRICT;

-- Targets that are not checked until somebody resumes them, whatever lists say.
CREATE TABLE jetpack_monitor_paused_targets (
    target_id INTEGER PRIMARY KEY,
    paused_by TEXT NOT NULL,
    paused_at INTEGER NOT NULL
) STRICT;
