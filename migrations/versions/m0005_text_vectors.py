"""The read model of text vectors: what was said and shown, searched by meaning."""

from alembic import op

from migrations import vectors

revision = "0005_text_vectors"
down_revision = "0004_api"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables; the vectors are searchable where Postgres has pgvector."""
    op.execute(
        """
        CREATE TABLE read.text_vectors (
            tenant_id text NOT NULL,
            captured_at timestamptz NOT NULL,
            video_id uuid NOT NULL,
            start_ms integer NOT NULL,
            end_ms integer NOT NULL,
            artifact_id uuid NOT NULL,
            run_id uuid NOT NULL,
            source_id uuid NOT NULL,
            source_type text NOT NULL,
            model text NOT NULL,
            model_digest text NOT NULL,
            excerpt text NOT NULL,
            vector real[] NOT NULL
        );
        CREATE INDEX text_vectors_timeline
            ON read.text_vectors (tenant_id, captured_at, video_id, start_ms, artifact_id);
        CREATE TABLE read.text_vectors_videos (
            tenant_id text NOT NULL,
            video_id uuid NOT NULL,
            captured_at timestamptz NOT NULL,
            is_given boolean NOT NULL,
            CONSTRAINT text_vectors_videos_pkey PRIMARY KEY (tenant_id, video_id)
        );
        """
    )
    vectors.enable(op.get_bind())


def downgrade() -> None:
    """Take it away. The extension stays: others may use it."""
    op.execute("DROP TABLE read.text_vectors, read.text_vectors_videos")
