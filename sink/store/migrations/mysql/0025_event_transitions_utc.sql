-- Transitions with their times as older readers know them, in UTC.
CREATE OR REPLACE VIEW jetpack_monitor_event_transitions_utc AS
SELECT
    t.id AS id,
    t.event_id AS event_id,
    t.blog_id AS blog_id,
    t.endpoint_id AS endpoint_id,
    t.severity_before AS severity_before,
    t.severity_after AS severity_after,
    t.state_before AS state_before,
    t.state_after AS state_after,
    t.reason AS reason,
    t.source AS source,
    t.metadata AS metadata,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (t.changed_at * 1000) MICROSECOND
        AS DATETIME(3)) AS changed_at
FROM jetpack_monitor_event_transitions AS t
