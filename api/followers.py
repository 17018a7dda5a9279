"""Whether the followers of the log get on: a process that lives but stands at one record does nothing for anybody."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

LOOK_EVERY_S = 5.0
STUCK_S = 60.0
"""No reaction takes as long; a follower that is merely behind moves on."""


class Followers:
    """Since when each follower has stood still with something to read, as seen from this process."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = list(names)
        self._since: dict[str, tuple[int, float]] = {}
        """Follower → (its position, since when on `time.monotonic`'s clock)."""

    async def watch(self, pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]]) -> None:
        """Look again and again, for as long as the process lives. A database that is away says nothing about them."""
        while self._names:
            with contextlib.suppress(psycopg.Error, PoolTimeout):
                async with pool.connection() as connection:
                    # The head is read first: who has come to it by then is not behind.
                    rows = await connection.execute("SELECT coalesce(max(position), 0) FROM es.segment")
                    head = (await rows.fetchone() or (0,))[0]
                    rows = await connection.execute(
                        "SELECT name, coalesce(t.notification_id, 0) FROM unnest(%s::text[]) AS name"
                        " LEFT JOIN es.tracking AS t ON t.application_name = name",
                        (self._names,),
                    )
                    self.note(dict(await rows.fetchall()), head, time.monotonic())
            await asyncio.sleep(LOOK_EVERY_S)

    def note(self, positions: Mapping[str, int], head: int, now: float) -> None:
        """Take in where they are."""
        for name, position in positions.items():
            if position >= head:
                self._since.pop(name, None)
            elif name not in self._since or self._since[name][0] != position:
                self._since[name] = position, now

    def stuck(self, now: float | None = None) -> list[str]:
        """A sentence about each that has been at one record for too long."""
        at = time.monotonic() if now is None else now
        return [
            f"{name} has been at the record after position {position} for {at - since:.0f} s"
            for name, (position, since) in self._since.items()
            if at - since > STUCK_S
        ]
