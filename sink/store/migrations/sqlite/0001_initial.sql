-- The embedded store. Times are ms since the Unix epoch, UTC. Names follow the legacy tables:
-- blog_id is the group, endpoint_id the target. No foreign keys: facts outlive their target, and
-- a fact must never fail for a row that somebody deleted.

-- Targets. The first columns are what the owner configures; `sqlite/columns.rs` lists the same.
CREATE TABLE jetpack_monitor_check_targets (
    id INTEGER PRIMARY KEY CHECK (id > 0),
    name TEXT NOT NULL,
    blog_id INTEGER NOT NULL,
    monitor_url TEXT NOT NULL,
    check_interval_sec INTEGER NOT NULL,
    request_method TEXT NOT NULL,
    detection_profile TEXT NOT NULL,
    timeout_ms INTEGER NOT NULL,
    redirect_policy TEXT NOT NULL,
    check_keyword TEXT,
    forbidden_keywords TEXT,
    custom_headers TEXT,
    expect_status TEXT NOT NULL,
    maintenance_start INTEGER,
    maintenance_end INTEGER,
    alert_cooldown_minutes INTEGER NOT NULL,
    max_latency_ms INTEGER,
    shard INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    change_number INTEGER NOT NULL,
    monitor_active INTEGER NOT NULL,
    site_status INTEGER NOT NULL,
    last_status_change INTEGER
) STRICT;
CREATE UNIQUE INDEX jetpack_monitor_check_targets_key
    ON jetpack_monitor_check_targets (monitor_url, request_method, name);
CREATE UNIQUE INDEX jetpack_monitor_check_targets_change
    ON jetpack_monitor_check_targets (change_number);

-- Which targets an import named, until it is pruned.
CREATE TABLE jetpack_monitor_import_members (
    import_id INTEGER NOT NULL,
    target_id INTEGER NOT NULL,
    PRIMARY KEY (import_id, target_id)
) STRICT, WITHOUT ROWID;

-- Freshness. The primary key only: each further index would double the cost of a write.
CREATE TABLE jetpack_monitor_site_runtime (
    target_id INTEGER PRIMARY KEY,
    last_checked_at INTEGER NOT NULL,
    next_check_at INTEGER NOT NULL
) STRICT;

CREATE TABLE jetpack_monitor_events (
    id INTEGER PRIMARY KEY,
    blog_id INTEGER NOT NULL,
    endpoint_id INTEGER NOT NULL,
    check_type TEXT NOT NULL,
    discriminator TEXT,
    severity INTEGER,
    state TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    resolution_reason TEXT,
    cause_event_id INTEGER,
    fail_count INTEGER NOT NULL,
    failure_class INTEGER NOT NULL,
    metadata TEXT,
    updated_at INTEGER NOT NULL,
    dedup_key TEXT GENERATED ALWAYS AS (
        CASE WHEN ended_at IS NULL
        THEN endpoint_id || ':' || check_type || ':' || coalesce(discriminator, '') END
    ) VIRTUAL
) STRICT;
-- At most one open event per identity.
CREATE UNIQUE INDEX jetpack_monitor_events_dedup
    ON jetpack_monitor_events (dedup_key) WHERE dedup_key IS NOT NULL;
CREATE INDEX jetpack_monitor_events_open
    ON jetpack_monitor_events (endpoint_id) WHERE ended_at IS NULL;
CREATE INDEX jetpack_monitor_events_endpoint ON jetpack_monitor_events (endpoint_id, id);

CREATE TABLE jetpack_monitor_event_transitions (
    id INTEGER PRIMARY KEY,
    event_id INTEGER NOT NULL,
    blog_id INTEGER NOT NULL,
    endpoint_id INTEGER NOT NULL,
    severity_before INTEGER,
    severity_after INTEGER,
    state_before TEXT,
    state_after TEXT NOT NULL,
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    metadata TEXT,
    changed_at INTEGER NOT NULL
) STRICT;
CREATE INDEX jetpack_monitor_event_transitions_event
    ON jetpack_monitor_event_transitions (event_id, id);

-- Owed work. state: 0 ready, 1 leased, 2 blocked, 3 done, 4 dead, 5 cancelled.
CREATE TABLE jetpack_monitor_jobs (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    queue INTEGER NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    tenant_id INTEGER,
    endpoint_id INTEGER,
    incident_id INTEGER,
    transition_id INTEGER,
    seq INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    run_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    lease_owner BLOB,
    lease_token INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER,
    delivery_id BLOB,
    ukey TEXT,
    uactive TEXT GENERATED ALWAYS AS (CASE WHEN state < 3 THEN ukey END) VIRTUAL,
    payload BLOB,
    payload_v INTEGER,
    traceparent TEXT,
    last_code INTEGER,
    last_error TEXT,
    dead_reason INTEGER,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
-- Only what can be claimed is in the claim index, so a finished job costs it nothing.
CREATE INDEX jetpack_monitor_jobs_claim
    ON jetpack_monitor_jobs (queue, run_at, id) WHERE state = 0;
CREATE INDEX jetpack_monitor_jobs_lease ON jetpack_monitor_jobs (lease_until) WHERE state = 1;
CREATE UNIQUE INDEX jetpack_monitor_jobs_active
    ON jetpack_monitor_jobs (uactive) WHERE uactive IS NOT NULL;

-- Who applies facts, and up to where in its journal. The embedded store has one node, 1.
CREATE TABLE jetpack_monitor_nodes (
    node_id INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    lease_until INTEGER,
    journal_seq INTEGER NOT NULL
) STRICT;
INSERT INTO jetpack_monitor_nodes (node_id, epoch, journal_seq) VALUES (1, 1, 0);

-- Who owns which part of the fleet, and the highest fact id ever applied there.
CREATE TABLE jetpack_monitor_shards (
    shard INTEGER PRIMARY KEY CHECK (shard BETWEEN 0 AND 1023),
    node_id INTEGER NOT NULL,
    since_epoch INTEGER NOT NULL,
    newest_fact INTEGER NOT NULL
) STRICT;

-- Last number handed out, by name.
CREATE TABLE jetpack_monitor_counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO jetpack_monitor_counters (name, value) VALUES ('target_id', 0), ('change', 0);
