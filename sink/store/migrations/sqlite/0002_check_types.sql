-- Checks besides pages: what is sent, and what is expected. `monitor_url` says which kind of check
-- a target is; the columns of a request are '' where none is made.
ALTER TABLE jetpack_monitor_check_targets ADD COLUMN send_text TEXT;
ALTER TABLE jetpack_monitor_check_targets ADD COLUMN expected_values TEXT;
