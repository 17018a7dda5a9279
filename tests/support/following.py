"""Projections that follow a log while a test goes on."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from projectors import PROJECTIONS
from projectors.checkpoint import follower_of
from projectors.projection import Projection
from projectors.runner import run_projections

PATIENCE_S = 30


@contextmanager
def following(database: str, projections: Sequence[type[Projection]] = PROJECTIONS) -> Iterator[None]:
    """The projections follow the log in threads of this process."""
    stop = threading.Event()
    runner = threading.Thread(
        target=run_projections, args=(database, stop), kwargs={"projections": projections}
    )
    runner.start()
    try:
        yield
    finally:
        stop.set()
        runner.join(PATIENCE_S)
        assert not runner.is_alive()


def reached(database: str, position: int, projections: Sequence[type[Projection]] = PROJECTIONS) -> None:
    """Return once all these projections have come to `position`."""
    names = [follower_of(projection.name) for projection in projections]
    deadline = time.monotonic() + PATIENCE_S
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("LISTEN eioku_read")
        while time.monotonic() < deadline:
            rows = connection.execute(
                "SELECT application_name, notification_id FROM es.tracking WHERE application_name = ANY(%s)",
                (names,),
            ).fetchall()
            if len(rows) == len(names) and all(at >= position for _, at in rows):
                return
            list(connection.notifies(timeout=0.2, stop_after=1))
    raise AssertionError(f"asked for {position}, the projections are at {rows}")


def content(database: str, projections: Sequence[type[Projection]] = PROJECTIONS) -> dict[str, list[Any]]:
    """All rows of the live tables."""
    with psycopg.connect(database, options="-c search_path=read -c timezone=UTC") as connection:
        return {
            table.name: sorted(
                connection.execute(f"SELECT to_jsonb(t)::text FROM {table.name} AS t").fetchall()
            )  # type: ignore[arg-type]
            for projection in projections
            for table in projection.tables
        }
