"""Why and when a task is tried again."""

from alembic import op

revision = "0007_next_try"
down_revision = "0006_frame_vectors"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; tasks that are open now get theirs with their next event."""
    op.execute("ALTER TABLE read.tasks ADD COLUMN last_error text, ADD COLUMN next_try_at timestamptz")


def downgrade() -> None:
    """Take them away."""
    op.execute("ALTER TABLE read.tasks DROP COLUMN last_error, DROP COLUMN next_try_at")
