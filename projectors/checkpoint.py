"""Rows and checkpoint in one transaction; and what could not be digested, parked in the same."""

from collections.abc import Sequence
from typing import cast

import psycopg

from application.ports import Recorded
from domain.errors import ServiceUnavailable
from projectors.feed import Entry, Unreadable, described
from projectors.projection import Projection

CHANNEL = "eioku_read"
"""Notified when a read model has moved on; the payload is for people."""
_ERROR_CHARACTERS = 2_000


def follower_of(name: str) -> str:
    """The name under which a projection's checkpoint is kept."""
    return f"projection:{name}"


class Overtaken(Exception):
    """Somebody else has moved the checkpoint beyond the place that we are at."""

    def __init__(self, position: int) -> None:
        super().__init__(f"the checkpoint is at {position} already")
        self.position = position


def is_digestible(error: Exception) -> bool:
    """Whether an error is of the event: no other time, place or database would have helped.

    A lost connection, a deadlock or a full disk passes; a table that is not there is for an operator, and parking
    the whole log over it would help nobody.
    """
    match error:
        case psycopg.Error(sqlstate=None):
            return not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        case psycopg.Error(sqlstate=str(state)):
            return state[:2] not in {"08", "25", "40", "42", "53", "55", "57", "58", "XX"}
        case _:
            return not isinstance(error, ServiceUnavailable | MemoryError)


def start(connection: psycopg.Connection, follower: str) -> int:
    """The checkpoint, made at 0 if there is none."""
    connection.execute(
        "INSERT INTO es.tracking (application_name, notification_id) VALUES (%s, 0) ON CONFLICT DO NOTHING",
        (follower,),
    )
    return peek(connection, follower)


def peek(connection: psycopg.Connection, follower: str) -> int:
    """The checkpoint, 0 when there is none."""
    row = connection.execute(
        "SELECT notification_id FROM es.tracking WHERE application_name = %s", (follower,)
    ).fetchone()
    return 0 if row is None else cast("int", row[0])


def lock(connection: psycopg.Connection, follower: str) -> int:
    """The checkpoint, and nobody moves it until the transaction ends."""
    row = connection.execute(
        "SELECT notification_id FROM es.tracking WHERE application_name = %s FOR UPDATE", (follower,)
    ).fetchone()
    return 0 if row is None else cast("int", row[0])


def digest(
    connection: psycopg.Connection,
    projection: Projection,
    entries: Sequence[Entry],
    *,
    follower: str,
    after: int,
    upto: int,
    parked_as: str,
) -> int:
    """Apply entries that lie in (after, upto] and move the checkpoint; how many were parked instead.

    Entries that fail are found by halving, and parked under `parked_as` while all others are applied.

    Raises:
        Overtaken: the checkpoint is beyond `after`; nothing was changed.
        psycopg.Error: what `is_digestible` does not blame on the events.
    """
    try:
        with connection.transaction():
            _move(connection, follower, after, upto)
            projection.apply(connection, [readable(entry) for entry in entries])
    except Overtaken:
        raise
    except Exception as error:
        if connection.closed or not is_digestible(error):
            raise
        if len(entries) == 1:
            with connection.transaction():
                _move(connection, follower, after, upto)
                _park(connection, parked_as, entries[0], error)
            return 1
    else:
        return 0
    half = len(entries) // 2
    middle = entries[half - 1].position
    names = {"follower": follower, "parked_as": parked_as}
    first = digest(connection, projection, entries[:half], after=after, upto=middle, **names)
    return first + digest(connection, projection, entries[half:], after=middle, upto=upto, **names)


def readable(entry: Entry) -> Recorded:
    """The entry as a record; raises why it could not be decoded."""
    if isinstance(entry, Unreadable):
        raise entry.error
    return entry


def _move(connection: psycopg.Connection, follower: str, after: int, upto: int) -> None:
    position = lock(connection, follower)
    if position > after:
        raise Overtaken(position)
    connection.execute(
        "WITH moved AS (UPDATE es.tracking SET notification_id = %(upto)s WHERE application_name = %(follower)s)"
        " SELECT pg_notify(%(channel)s, %(news)s)",
        {"upto": upto, "follower": follower, "channel": CHANNEL, "news": f"{follower}:{upto}"},
    )


def reason(error: Exception) -> str:
    """What people read of an error."""
    return f"{type(error).__name__}: {error}".replace("\0", "")[:_ERROR_CHARACTERS]


def _park(connection: psycopg.Connection, name: str, entry: Entry, error: Exception) -> None:
    stream_id, version, topic = described(entry)
    connection.execute(
        "INSERT INTO read.parked (projection, position, stream_id, version, topic, error, parked_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, clock_timestamp())"
        " ON CONFLICT (projection, position) DO UPDATE SET error = EXCLUDED.error, parked_at = EXCLUDED.parked_at",
        (name, entry.position, stream_id, version, topic, reason(error)),
    )
