-- The audit log with its times as older readers know them, in UTC.
CREATE OR REPLACE VIEW jetpack_monitor_audit_log_utc AS
SELECT
    a.id AS id,
    a.blog_id AS blog_id,
    a.event_id AS event_id,
    a.event_type AS event_type,
    a.source AS source,
    a.detail AS detail,
    a.metadata AS metadata,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (a.created_at * 1000) MICROSECOND
        AS DATETIME(3)) AS created_at
FROM jetpack_monitor_audit_log AS a
