"""The basic read models: videos, tasks, runs, artifacts, selected runs, scans, and the state of the projections."""

from alembic import op

revision = "0002_read"
down_revision = "0001_log"

_DDL = """
CREATE SCHEMA read;

CREATE TABLE read.projection_state (
    name text PRIMARY KEY,
    version integer NOT NULL,
    built_at timestamptz,
    error text,
    error_at timestamptz
);
CREATE TABLE read.parked (
    projection text NOT NULL,
    position bigint NOT NULL,
    stream_id uuid NOT NULL,
    version bigint NOT NULL,
    topic text NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL,
    PRIMARY KEY (projection, position)
);

CREATE TABLE read.videos (
    video_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    source text NOT NULL,
    filename text NOT NULL,
    filename_folded text NOT NULL,
    collection text,
    pipeline text[],
    registered_at timestamptz NOT NULL,
    given_created_at timestamptz,
    captured_at timestamptz NOT NULL,
    size_bytes bigint,
    mtime_ms bigint,
    blake3 text,
    facts jsonb,
    duplicate_of uuid,
    is_missing boolean NOT NULL,
    position bigint NOT NULL
);
CREATE INDEX videos_timeline ON read.videos (tenant_id, captured_at, video_id);

CREATE TABLE read.tasks (
    task_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    video_id uuid NOT NULL,
    task_type text NOT NULL,
    profile text NOT NULL,
    config jsonb NOT NULL,
    config_hash text NOT NULL,
    language text,
    priority text NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    requested_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    running_ms bigint,
    attempts integer NOT NULL,
    run_id uuid,
    run_ids uuid[] NOT NULL,
    worker text,
    artifact_count integer,
    code text,
    error text,
    remedy text,
    retryable boolean,
    position bigint NOT NULL
);
CREATE INDEX tasks_created ON read.tasks (tenant_id, created_at, position);
CREATE INDEX tasks_started ON read.tasks (tenant_id, started_at, position);
CREATE INDEX tasks_running ON read.tasks (tenant_id, running_ms, position);
CREATE INDEX tasks_status ON read.tasks (tenant_id, status, created_at, position);
CREATE INDEX tasks_video ON read.tasks (video_id, task_type);
CREATE INDEX tasks_pending ON read.tasks (task_type, requested_at) WHERE status = 'pending';
CREATE TABLE read.tasks_deleted (video_id uuid PRIMARY KEY, tenant_id text NOT NULL);

CREATE TABLE read.runs (
    run_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    task_id uuid NOT NULL,
    video_id uuid NOT NULL,
    task_type text NOT NULL,
    producer text NOT NULL,
    producer_version text NOT NULL,
    profile text NOT NULL,
    config jsonb NOT NULL,
    config_hash text NOT NULL,
    input_hash text NOT NULL,
    attempt integer NOT NULL,
    worker text NOT NULL,
    device text NOT NULL,
    artifact_types text[] NOT NULL,
    language text,
    model jsonb,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    counts jsonb,
    metrics jsonb,
    code text,
    error text,
    position bigint NOT NULL
);
CREATE INDEX runs_video ON read.runs (video_id);
CREATE INDEX runs_task ON read.runs (task_id);
CREATE TABLE read.runs_deleted (video_id uuid PRIMARY KEY, tenant_id text NOT NULL);

CREATE TABLE read.artifacts (
    tenant_id text NOT NULL,
    artifact_id uuid NOT NULL,
    run_id uuid NOT NULL,
    video_id uuid NOT NULL,
    artifact_type text NOT NULL,
    schema_version smallint NOT NULL,
    start_ms integer NOT NULL,
    end_ms integer NOT NULL,
    position bigint NOT NULL,
    payload jsonb NOT NULL,
    PRIMARY KEY (tenant_id, artifact_id, run_id)
);
CREATE INDEX artifacts_run ON read.artifacts (run_id, artifact_type, start_ms, artifact_id, end_ms);
CREATE TABLE read.artifacts_runs (
    run_id uuid NOT NULL,
    artifact_type text NOT NULL,
    tenant_id text NOT NULL,
    video_id uuid NOT NULL,
    producer text NOT NULL,
    producer_version text NOT NULL,
    model_profile text NOT NULL,
    config_hash text NOT NULL,
    input_hash text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (run_id, artifact_type)
);
CREATE INDEX artifacts_runs_video ON read.artifacts_runs (video_id);
CREATE TABLE read.artifacts_deleted (video_id uuid PRIMARY KEY, tenant_id text NOT NULL);

CREATE TABLE read.run_types (
    tenant_id text NOT NULL,
    run_id uuid NOT NULL,
    artifact_type text NOT NULL,
    video_id uuid NOT NULL,
    profile text NOT NULL,
    language text,
    created_at timestamptz NOT NULL,
    position bigint NOT NULL,
    artifact_count integer NOT NULL,
    is_latest boolean NOT NULL,
    is_latest_of_profile boolean NOT NULL,
    is_latest_of_language boolean NOT NULL,
    is_best boolean NOT NULL,
    is_selected boolean NOT NULL,
    CONSTRAINT run_types_pkey PRIMARY KEY (run_id, artifact_type)
);
CREATE INDEX run_types_video ON read.run_types (tenant_id, video_id, artifact_type);
CREATE TABLE read.run_types_open (
    run_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    video_id uuid NOT NULL,
    profile text NOT NULL,
    language text,
    created_at timestamptz NOT NULL,
    spoken jsonb NOT NULL
);
CREATE INDEX run_types_open_video ON read.run_types_open (video_id);
CREATE TABLE read.run_types_deleted (video_id uuid PRIMARY KEY, tenant_id text NOT NULL);
CREATE TABLE read.selection_policies (
    tenant_id text NOT NULL,
    scope text NOT NULL,
    artifact_type text NOT NULL,
    video_id uuid,
    mode text NOT NULL,
    profile text,
    run_id uuid,
    set_at timestamptz NOT NULL,
    set_by text NOT NULL,
    PRIMARY KEY (tenant_id, scope, artifact_type)
);

CREATE TABLE read.scans (
    scan_id uuid PRIMARY KEY,
    tenant_id text NOT NULL,
    root text NOT NULL,
    recursive boolean NOT NULL,
    watch boolean NOT NULL,
    status text NOT NULL,
    requested_at timestamptz NOT NULL,
    completed_at timestamptz,
    stopped_at timestamptz,
    looks integer NOT NULL,
    found integer NOT NULL,
    registered integer NOT NULL,
    changed integer NOT NULL,
    problem_count integer NOT NULL,
    problems jsonb NOT NULL,
    position bigint NOT NULL
);
CREATE INDEX scans_requested ON read.scans (tenant_id, requested_at, position);
"""


def upgrade() -> None:
    op.execute(_DDL)
