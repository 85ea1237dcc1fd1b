-- Events under the names and types that older readers know: times as they are in UTC, whatever the
-- session's zone, and what was seen when each was opened. A time is no key: 0023 has the form for it.
CREATE OR REPLACE VIEW jetpack_monitor_events_utc AS
SELECT
    e.id AS id,
    e.blog_id AS blog_id,
    e.endpoint_id AS endpoint_id,
    e.check_type AS check_type,
    e.discriminator AS discriminator,
    e.severity AS severity,
    e.state AS state,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (e.started_at * 1000) MICROSECOND
        AS DATETIME(3)) AS started_at,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (e.ended_at * 1000) MICROSECOND
        AS DATETIME(3)) AS ended_at,
    e.resolution_reason AS resolution_reason,
    e.cause_event_id AS cause_event_id,
    o.metadata AS metadata,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (e.updated_at * 1000) MICROSECOND
        AS DATETIME(3)) AS updated_at,
    CASE WHEN e.ended_at IS NULL THEN CONCAT(e.blog_id, ':', e.endpoint_id, ':', e.check_type, ':',
        COALESCE(e.discriminator, '')) END AS dedup_key
FROM jetpack_monitor_events AS e
LEFT JOIN jetpack_monitor_event_transitions AS o ON o.event_id = e.id AND o.reason = 'opened'
