"""The database's history, shipped in the wheel: `migrations.upgrade(url)` brings a database to this version."""

import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config

from migrations import vectors

LOCK_KEY = 0x65696F6B75  # "eioku"; one upgrade at a time in a database, whoever started it
_RETRY_S = 0.1


def configuration() -> Config:
    """Alembic's settings, independent of the working folder."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def engine(database_url: str) -> sqlalchemy.Engine:
    """An engine on `postgresql://…` that keeps no connections."""
    url = urlunsplit(urlsplit(database_url)._replace(scheme="postgresql+psycopg"))
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)


def upgrade(database_url: str, revision: str = "head") -> None:
    """Migrate the database to `revision`; waits while another process does the same.

    Raises:
        sqlalchemy.exc.OperationalError: a table is in use and was not free within the lock timeout (see `env.py`).
    """
    config = configuration()
    with psycopg.connect(database_url, autocommit=True) as guard:
        # Polled, not waited for: a session that waits in a statement would hold a snapshot all the while.
        while guard.execute("SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone() != (True,):
            time.sleep(_RETRY_S)
        with engine(database_url).connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            vectors.enable(connection)
            connection.commit()
