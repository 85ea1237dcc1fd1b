-- Single checks with their times as older readers know them, in UTC.
CREATE OR REPLACE VIEW jetpack_monitor_check_history_utc AS
SELECT
    h.id AS id,
    h.blog_id AS blog_id,
    h.source_site_id AS source_site_id,
    h.request_method AS request_method,
    h.http_code AS http_code,
    h.error_code AS error_code,
    h.rtt_ms AS rtt_ms,
    h.dns_ms AS dns_ms,
    h.tcp_ms AS tcp_ms,
    h.tls_ms AS tls_ms,
    h.ttfb_ms AS ttfb_ms,
    CAST(CAST('1970-01-01' AS DATETIME(3)) + INTERVAL (h.checked_at * 1000) MICROSECOND
        AS DATETIME(3)) AS checked_at
FROM jetpack_monitor_check_history AS h
