"""The position that all read models have reached: what an answer may be said to know."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psycopg
import structlog

from domain.errors import PositionNotReached
from infrastructure.postgres.connections import connect_async
from infrastructure.postgres.listen import POLL_S, AsyncListener
from projectors import PROJECTIONS
from projectors.checkpoint import CHANNEL, follower_of

_FOLLOWERS = [follower_of(projection.name) for projection in PROJECTIONS]

log = structlog.get_logger(__name__)


async def served(connection: psycopg.AsyncConnection[Any]) -> int:
    """The smallest checkpoint of all projections; 0 as long as one has none."""
    rows = await connection.execute(
        "SELECT CASE WHEN count(*) = %s THEN min(notification_id) ELSE 0 END FROM es.tracking"
        " WHERE application_name = ANY(%s)",
        (len(_FOLLOWERS), _FOLLOWERS),
    )
    row = await rows.fetchone()
    assert row is not None
    position: int = row[0]
    return position


class ServedPosition:
    """Knows the served position without asking the database on each request. An async context manager."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._position = 0
        self._moved = asyncio.Condition()
        self._watching: asyncio.Task[None] | None = None

    def now(self) -> int:
        """The position that can be read now; what was just written may be newer."""
        return self._position

    async def reach(self, position: int, timeout_s: float) -> int:
        """The position served, once it is at least `position`.

        Raises:
            PositionNotReached: it was not in `timeout_s`.
        """
        if self._position < position:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s), self._moved:
                    await self._moved.wait_for(lambda: self._position >= position)
        if self._position < position:
            raise PositionNotReached(position, self._position)
        return self._position

    async def __aenter__(self) -> Self:
        """Start watching. The database may come later."""
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    async def _watch(self) -> None:
        while True:
            try:
                async with (
                    AsyncListener(self._url, CHANNEL) as news,
                    await connect_async(self._url, application_name="eioku served position") as connection,
                ):
                    while True:
                        await self._note(await served(connection))
                        await news.wait()
            except psycopg.Error as error:
                log.warning("served_position.database_lost", error=str(error))
                await asyncio.sleep(POLL_S)

    async def _note(self, position: int) -> None:
        # May go back: a database restored from a backup has served less.
        if position != self._position:
            async with self._moved:
                self._position = position
                self._moved.notify_all()
