-- False positives with their times as older readers know them, in UTC.
CREATE OR REPLACE VIEW jetpack_monitor_false_positives_utc AS
SELECT
    f.id AS id,
    f.blog_id AS blog_id,
    f.http_code AS http_code,
    f.error_code AS error_code,
    f.rtt_ms AS rtt_ms,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (f.created_at * 1000) MICROSECOND
        AS DATETIME(3)) AS created_at
FROM jetpack_monitor_false_positives AS f
