-- Single checks, as many as `history` keeps. Their ids begin with the time, so that the oldest are
-- found without a key of their own. error_code is the legacy one, failure_class ours.
CREATE TABLE jetpack_monitor_check_history (
    id INTEGER PRIMARY KEY,
    blog_id INTEGER NOT NULL,
    source_site_id INTEGER NOT NULL,
    request_method TEXT NOT NULL,
    http_code INTEGER,
    error_code INTEGER,
    failure_class INTEGER,
    rtt_ms INTEGER,
    dns_ms INTEGER,
    tcp_ms INTEGER,
    tls_ms INTEGER,
    ttfb_ms INTEGER,
    checked_at INTEGER NOT NULL
) STRICT;
CREATE INDEX jetpack_monitor_check_history_site
    ON jetpack_monitor_check_history (source_site_id, id);

-- Closed events in the order in which they are forgotten.
CREATE INDEX jetpack_monitor_events_ended
    ON jetpack_monitor_events (ended_at) WHERE ended_at IS NOT NULL;
