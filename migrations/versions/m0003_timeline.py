"""The timeline read models: where each label, face, place, scene, word and location occurs."""

from alembic import op

revision = "0003_timeline"
down_revision = "0002_read"

_CONFIGS = (
    "arabic",
    "armenian",
    "basque",
    "catalan",
    "danish",
    "dutch",
    "english",
    "finnish",
    "french",
    "german",
    "greek",
    "hindi",
    "hungarian",
    "indonesian",
    "irish",
    "italian",
    "lithuanian",
    "nepali",
    "norwegian",
    "portuguese",
    "romanian",
    "russian",
    "serbian",
    "spanish",
    "swedish",
    "tamil",
    "turkish",
    "yiddish",
)
_TSV = " ".join(
    f"WHEN '{config}' THEN to_tsvector('pg_catalog.{config}'::regconfig, words)" for config in _CONFIGS
)

_KEY = "captured_at, video_id, start_ms, artifact_id"
# What is counted by comes first: rows are wide, and counting reads only their beginning.
_TEXT = f"""
    config text NOT NULL,
    confidence double precision,
    text text NOT NULL,
    words text NOT NULL,
    language text,
    speaker text,
    tsv tsvector GENERATED ALWAYS AS (
        CASE config {_TSV} ELSE to_tsvector('pg_catalog.simple'::regconfig, words) END
    ) STORED NOT NULL"""

_OWN_COLUMNS = {
    "object_labels": 'label text COLLATE "C" NOT NULL, confidence double precision NOT NULL',
    "face_clusters": 'cluster_id text COLLATE "C", confidence double precision NOT NULL',
    "places": 'label text COLLATE "C" NOT NULL, confidence double precision NOT NULL',
    "scene_ranges": "scene_index bigint NOT NULL",
    "transcript_fts": _TEXT,
    "ocr_fts": _TEXT,
    "video_locations": "latitude double precision, longitude double precision, altitude double precision, "
    "country text, state text, city text",
}
_LABELS = {"object_labels": "label", "face_clusters": "cluster_id", "places": "label"}
_TEXTS = ("transcript_fts", "ocr_fts")


def _ddl() -> str:
    parts = []
    for name, own in _OWN_COLUMNS.items():
        parts.append(f"""
            CREATE TABLE read.{name} (
                tenant_id text NOT NULL,
                captured_at timestamptz NOT NULL,
                video_id uuid NOT NULL,
                start_ms integer NOT NULL,
                end_ms integer NOT NULL,
                artifact_id uuid NOT NULL,
                run_id uuid NOT NULL,
                {own}
            );
            CREATE INDEX {name}_timeline ON read.{name} (tenant_id, {_KEY});
            CREATE TABLE read.{name}_videos (
                tenant_id text NOT NULL,
                video_id uuid NOT NULL,
                captured_at timestamptz NOT NULL,
                is_given boolean NOT NULL,
                CONSTRAINT {name}_videos_pkey PRIMARY KEY (tenant_id, video_id)
            );""")
    parts += [
        f"""
            CREATE INDEX {name}_{label} ON read.{name} (tenant_id, {label}, {_KEY}) INCLUDE (run_id, confidence);
            CREATE TABLE read.{name}_counts (
                tenant_id text NOT NULL,
                label text COLLATE "C" NOT NULL,
                captured_at timestamptz NOT NULL,
                video_id uuid NOT NULL,
                run_id uuid NOT NULL,
                n integer NOT NULL,
                CONSTRAINT {name}_counts_pkey PRIMARY KEY (tenant_id, label, captured_at, video_id, run_id)
            );
            CREATE INDEX {name}_counts_video ON read.{name}_counts (tenant_id, video_id);"""
        for name, label in _LABELS.items()
    ]
    parts += [
        f"""
            -- No pending list: searches would read all of it.
            CREATE INDEX {name}_tsv ON read.{name} USING gin (tsv) WITH (fastupdate = off);
            CREATE TABLE read.{name}_configs (
                tenant_id text NOT NULL,
                config text NOT NULL,
                CONSTRAINT {name}_configs_pkey PRIMARY KEY (tenant_id, config)
            );
            CREATE TABLE read.{name}_words (
                tenant_id text NOT NULL,
                config text NOT NULL,
                lexeme text COLLATE "C" NOT NULL,
                run_id uuid NOT NULL,
                n integer NOT NULL
            );
            CREATE INDEX {name}_words_lexeme ON read.{name}_words (tenant_id, config, lexeme);
            CREATE INDEX {name}_words_run ON read.{name}_words (run_id);"""
        for name in _TEXTS
    ]
    return "".join(parts)


def upgrade() -> None:
    """Make the tables."""
    op.execute(_ddl())


def downgrade() -> None:
    """Drop them; they can be rebuilt from the log."""
    for name in _OWN_COLUMNS:
        op.execute(f"DROP TABLE read.{name}, read.{name}_videos")
    for name in _LABELS:
        op.execute(f"DROP TABLE read.{name}_counts")
    for name in _TEXTS:
        op.execute(f"DROP TABLE read.{name}_configs, read.{name}_words")
