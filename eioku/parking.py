"""What followers and the ingester cannot take: `eioku projections parked` and the health page show it."""

from uuid import UUID

import psycopg

from application.ports import Recorded
from domain.artifacts.envelope import ArtifactBatch
from domain.errors import ServiceUnavailable
from infrastructure.nats.results import Refused
from infrastructure.postgres.connections import connect

INGESTER = "ingester"
MOST_RESULTS = 1_000
"""Results of workers that are kept; a broken worker may send without end. The newest are the ones to look at."""


def park_record(url: str, follower: str, recorded: Recorded, error: Exception) -> None:
    """Keep a record of the log that a follower cannot react to.

    Raises:
        ServiceUnavailable: the database is away.
    """
    item = recorded.item
    if isinstance(item, ArtifactBatch):
        stream_id, version, topic = item.head.run_id, item.last_version, item.head.artifact_type
    else:
        stream_id, version, topic = item.originator_id, item.originator_version, item.TOPIC
    _keep(url, follower, recorded.position, (stream_id, version, topic, repr(error)))


def park_result(url: str, refused: Refused) -> None:
    """Keep what is known of a worker's message that can never be stored; raises as `park_record` does.

    Its position is its place in the stream of results.
    """
    what = (refused.run_id, refused.deliveries, refused.topic, refused.error)
    _keep(url, INGESTER, refused.sequence, what, most=MOST_RESULTS)


def _keep(url: str, whose: str, position: int, what: tuple[UUID, int, str, str], *, most: int | None = None) -> None:
    stream_id, version, topic, error = what
    try:
        with connect(url, application_name=f"eioku {whose}", search_path="read") as connection:
            connection.execute(
                "INSERT INTO parked (projection, position, stream_id, version, topic, error, parked_at)"
                " VALUES (%s, %s, %s, %s, %s, %s, clock_timestamp()) ON CONFLICT (projection, position)"
                " DO UPDATE SET error = EXCLUDED.error, parked_at = EXCLUDED.parked_at",
                (whose, position, stream_id, version, topic, error[:2000].replace("\0", "")),
            )
            if most is not None:
                connection.execute(
                    "DELETE FROM parked WHERE projection = %s AND position IN (SELECT position FROM parked"
                    " WHERE projection = %s ORDER BY parked_at DESC, position DESC OFFSET %s)",
                    (whose, whose, most),
                )
    except psycopg.OperationalError as error_:
        raise ServiceUnavailable(f"Postgres does not answer: {error_}") from error_
