"""Parts of towns: what was filmed in one is found by its name, too."""

from alembic import op

revision = "0010_district"
down_revision = "0009_places"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; videos that are probed again fill it."""
    op.execute("ALTER TABLE read.video_locations ADD COLUMN district text")


def downgrade() -> None:
    """Take it away."""
    op.execute("ALTER TABLE read.video_locations DROP COLUMN district")
