"""The API's own table: answers to idempotency keys."""

from alembic import op

revision = "0004_api"
down_revision = "0003_timeline"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the schema."""
    op.execute(
        """
        CREATE SCHEMA IF NOT EXISTS api;
        CREATE TABLE api.idempotency (
            tenant_id text NOT NULL,
            key text NOT NULL,
            digest bytea NOT NULL,      -- SHA-256 of the request
            answer bytea NOT NULL,      -- msgpack of api.idempotency.Answer
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (tenant_id, key)
        );
        CREATE INDEX idempotency_created_at ON api.idempotency (created_at);
        """
    )


def downgrade() -> None:
    """Take it away."""
    op.execute("DROP SCHEMA api CASCADE")
