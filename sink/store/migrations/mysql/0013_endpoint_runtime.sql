-- Freshness under the names and types that older readers know. Ours has ms and one key alone, as
-- each further index would double the cost of a write.
CREATE OR REPLACE VIEW jetpack_monitor_endpoint_runtime AS
SELECT
    r.target_id AS source_site_id,
    t.blog_id AS blog_id,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (r.last_checked_at * 1000) MICROSECOND
        AS DATETIME(3)) AS last_checked_at,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (r.next_check_at * 1000) MICROSECOND
        AS DATETIME(3)) AS next_check_at,
    CAST(NULL AS DATETIME) AS last_alert_sent_at,
    CAST(NULL AS DATE) AS ssl_expiry_date,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (r.last_checked_at * 1000) MICROSECOND
        AS DATETIME(3)) AS updated_at
FROM jetpack_monitor_site_runtime AS r
LEFT JOIN jetpack_monitor_check_targets AS t ON t.id = r.target_id
