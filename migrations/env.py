"""Run by Alembic: on the connection `migrations.upgrade` made, or for the command line on EIOKU_DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import Connection, text

from migrations import engine


def migrate(connection: Connection) -> None:
    """Run the migrations asked for, each in its own transaction."""
    # Rather fail than queue up behind a long query with everybody else queueing up behind us.
    connection.execute(text("SET lock_timeout = '4s'"))
    connection.execute(text("SET statement_timeout = '5s'"))
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True, version_table_schema="public")
    with context.begin_transaction():
        context.run_migrations()


if "connection" in context.config.attributes:
    migrate(context.config.attributes["connection"])
else:
    with engine(os.environ["EIOKU_DATABASE_URL"]).connect() as own:
        migrate(own)
