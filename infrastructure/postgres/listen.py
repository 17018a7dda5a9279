"""Waiting for NOTIFY, with a poll as the safety net: a notification may be lost, a wake-up never is.

Open the listener before the first read, then read, wait, read, wait: what is committed between a read and the wait
ends the wait at once.
"""

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Self

import psycopg
from psycopg import AsyncConnection, Connection, sql
from psycopg.rows import TupleRow

from infrastructure.postgres.connections import connect, connect_async

POLL_S = 0.25
"""Longest time between two looks. Waking by notification takes about 3 ms."""


def _listen(channel: str) -> sql.Composed:
    return sql.SQL("LISTEN {}").format(sql.Identifier(channel))


class Listener:
    """Wakes a thread when something is sent to a channel. One waiter at a time.

    Raises:
        psycopg.OperationalError: at construction, when the server is not there. Later it is connected again.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url, self._channel = url, channel
        self._connection: Connection[TupleRow] | None = self._connect()

    def _connect(self) -> Connection[TupleRow]:
        connection = connect(self._url, application_name=f"eioku listen {self._channel}")
        try:
            connection.execute(_listen(self._channel))
        except BaseException:
            connection.close()
            raise
        return connection

    def wait(self, timeout_s: float = POLL_S) -> bool:
        """True when something was sent (or may have been, while the connection was lost), False after `timeout_s`."""
        try:
            if self._connection is None:
                self._connection = self._connect()
                return True
            return any(True for _ in self._connection.notifies(timeout=timeout_s, stop_after=1))
        except psycopg.OperationalError:
            self.close()
            time.sleep(timeout_s)
            return False

    def close(self) -> None:
        """Stop listening."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncListener:
    """The same for asyncio: `async with AsyncListener(url, channel) as news: await news.wait()`."""

    def __init__(self, url: str, channel: str) -> None:
        self._url, self._channel = url, channel
        self._connection: AsyncConnection[TupleRow] | None = None

    async def _connect(self) -> None:
        connection = await connect_async(self._url, application_name=f"eioku listen {self._channel}")
        try:
            await connection.execute(_listen(self._channel))
        except BaseException:  # also cancelled: nobody else would close it
            await connection.close()
            raise
        self._connection = connection

    async def wait(self, timeout_s: float = POLL_S) -> bool:
        """True when something was sent (or may have been, while the connection was lost), False after `timeout_s`."""
        try:
            if self._connection is None:
                await self._connect()
                return True
            async with contextlib.aclosing(
                self._connection.notifies(timeout=timeout_s, stop_after=1)
            ) as arrivals:
                return [True async for _ in arrivals] != []
        except psycopg.OperationalError:
            await self.close()
            await asyncio.sleep(timeout_s)
            return False

    async def close(self) -> None:
        """Stop listening."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
