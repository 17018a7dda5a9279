"""Where the files of videos lie: found by path and by size, also of videos that were removed; more about scans."""

from alembic import op

revision = "0009_places"
down_revision = "0008_words"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the indexes; scans of before relocated nothing."""
    op.execute(
        """
        CREATE INDEX videos_source ON read.videos USING hash (source);
        CREATE INDEX videos_size ON read.videos (tenant_id, size_bytes);
        CREATE TABLE read.videos_deleted (
            video_id uuid PRIMARY KEY,
            tenant_id text NOT NULL,
            source text NOT NULL,
            size_bytes bigint,
            mtime_ms bigint,
            blake3 text
        );
        CREATE INDEX videos_deleted_source ON read.videos_deleted USING hash (source);
        CREATE INDEX videos_deleted_size ON read.videos_deleted (tenant_id, size_bytes);
        ALTER TABLE read.scans
            ADD COLUMN relocated integer NOT NULL DEFAULT 0,
            ADD COLUMN missing integer NOT NULL DEFAULT 0,
            ADD COLUMN passed_over_count integer NOT NULL DEFAULT 0,
            ADD COLUMN passed_over jsonb NOT NULL DEFAULT '[]';
        """
    )


def downgrade() -> None:
    """Take it away."""
    op.execute(
        """
        DROP TABLE read.videos_deleted;
        DROP INDEX read.videos_source, read.videos_size;
        ALTER TABLE read.scans DROP COLUMN relocated, DROP COLUMN missing, DROP COLUMN passed_over_count,
            DROP COLUMN passed_over;
        """
    )
