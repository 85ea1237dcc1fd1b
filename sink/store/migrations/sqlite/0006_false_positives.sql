-- Failures that verifiers at other places did not see. A row has the id of the transition that
-- closed its event, which has the votes.
CREATE TABLE jetpack_monitor_false_positives (
    id INTEGER PRIMARY KEY,
    blog_id INTEGER NOT NULL,
    http_code INTEGER,
    error_code INTEGER,
    rtt_ms INTEGER,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX jetpack_monitor_false_positives_blog ON jetpack_monitor_false_positives (blog_id);
