"""What operators see of the projections, and how parked records get another chance."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql

from infrastructure.event_store.log import PostgresEventLog
from infrastructure.postgres.connections import connect
from projectors import PROJECTIONS
from projectors.checkpoint import CHANNEL, follower_of, is_digestible, lock, readable, reason
from projectors.feed import Entry, decoded
from projectors.metadata import READ_SCHEMA
from projectors.projection import Projection
from projectors.runner import work_connection


class ProjectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where a projection is."""

    name: str
    version: int
    """Of this program."""
    built_version: int | None
    """Of the live tables; another than `version` asks for a rebuild. None: it has never run."""
    built_at: datetime | None
    """Of the newest rebuild."""
    position: int
    lag: int
    """Events between it and the head."""
    rows: int
    """Of its first table, as the statistics say: about right, at once."""
    parked: int
    error: str | None
    """What stops it now."""
    error_at: datetime | None


class ParkedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An event or batch that a projection could not digest."""

    projection: str
    position: int
    """Of the event; of the last one of a batch."""
    stream_id: UUID
    version: int
    topic: str
    """Or artifact type."""
    error: str
    parked_at: datetime


def list_projections(
    database_url: str, *, projections: Sequence[type[Projection]] = PROJECTIONS
) -> list[ProjectionStatus]:
    """All projections of this program."""
    found = []
    with connect(database_url, search_path=READ_SCHEMA) as connection:
        for projection in projections:
            row = connection.execute(
                """SELECT state.version, state.built_at, coalesce(tracking.notification_id, 0),
                    (SELECT coalesce(max(position), 0) FROM es.segment),
                    greatest(s.n_live_tup, c.reltuples, 0)::bigint,
                    (SELECT count(*) FROM parked WHERE projection = p.name), state.error, state.error_at
                FROM (SELECT %s::text AS name) AS p
                LEFT JOIN projection_state AS state USING (name)
                LEFT JOIN es.tracking AS tracking ON tracking.application_name = %s
                JOIN pg_class AS c ON c.oid = %s::regclass
                LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid""",
                (projection.name, follower_of(projection.name), projection.tables[0].name),
            ).fetchone()
            assert row is not None
            built_version, built_at, position, head, rows, parked, error, error_at = row
            found.append(
                ProjectionStatus(
                    name=projection.name,
                    version=projection.version,
                    built_version=built_version,
                    built_at=built_at,
                    position=position,
                    lag=max(0, head - position),
                    rows=rows,
                    parked=parked,
                    error=error,
                    error_at=error_at if error else None,
                )
            )
    return found


def list_parked(database_url: str, name: str | None = None, *, limit: int = 1_000) -> list[ParkedRecord]:
    """What was parked, of one projection or of all, in order of the log."""
    fields = ParkedRecord.__struct_fields__
    with connect(database_url, search_path=READ_SCHEMA) as connection:
        rows = connection.execute(
            sql.SQL(
                "SELECT {} FROM parked WHERE %(name)s::text IS NULL OR projection = %(name)s"
                " ORDER BY projection, position LIMIT %(limit)s"
            ).format(sql.SQL(", ").join(map(sql.Identifier, fields))),
            {"name": name, "limit": limit},
        ).fetchall()
    return [ParkedRecord(**dict(zip(fields, row, strict=True))) for row in rows]


def retry_parked(database_url: str, name: str | None = None) -> tuple[int, int]:
    """Give parked records of a projection, or of all, another chance; (digested, still parked).

    They are applied late: where order matters, as for events of one video, only a rebuild gives what would have been.
    """
    digested = 0
    waiting = list_parked(database_url, name)
    instances = {projection.name: projection() for projection in PROJECTIONS}
    with (
        PostgresEventLog(database_url, pool_size=1) as source,
        work_connection(database_url, "retry") as connection,
    ):
        for parked in waiting:
            instance = instances.get(parked.projection)
            rows = source.read_rows(parked.position - 1, limit=1)
            if instance is not None and rows:
                digested += _retry(connection, instance, parked, decoded(rows[0]))
    return digested, len(waiting) - digested


def _retry(
    connection: psycopg.Connection, projection: Projection, parked: ParkedRecord, entry: Entry
) -> bool:
    key = (parked.projection, parked.position)
    try:
        with connection.transaction():
            position = lock(connection, follower_of(projection.name))
            projection.apply(connection, [readable(entry)])
            connection.execute("DELETE FROM parked WHERE projection = %s AND position = %s", key)
            connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, f"{projection.name}:{position}"))
    except Exception as error:
        if not is_digestible(error):
            raise
        connection.execute(
            "UPDATE parked SET error = %s, parked_at = clock_timestamp() WHERE projection = %s AND position = %s",
            (reason(error), *key),
        )
        return False
    return True
