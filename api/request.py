"""The request as handlers see it: tenant, reading, commanding."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import psycopg
from litestar import Request
from litestar.datastructures import State

from api.board import Board
from api.decoding.pool import Decoders
from api.disks import Disks
from api.problems import ClientGone
from api.services import ApiServices
from application.handle import handle
from domain.errors import PositionNotReached
from domain.event import Command, Meta


class Call(Request[None, None, State]):
    """One HTTP request. `tenant` and `key` were checked by `api.edge.Edge`."""

    @property
    def services(self) -> ApiServices:
        """What the API stands on."""
        services: ApiServices = self.app.state.services
        return services

    @property
    def tenant(self) -> str:
        """Whose library this is about."""
        tenant: str = self.scope["state"]["tenant"]
        return tenant

    @property
    def key(self) -> str | None:
        """The idempotency key."""
        key: str | None = self.scope["state"].get("key")
        return key

    @property
    def correlation_id(self) -> UUID:
        """One id for all that this request sets off; the same again for a repeated idempotency key."""
        return uuid4() if self.key is None else uuid5(NAMESPACE_URL, f"eioku:{self.tenant}:{self.key}")

    def meta(self) -> Meta:
        """Who asks, and when."""
        return Meta(
            at=datetime.now(UTC), tenant_id=self.tenant, actor="api", correlation_id=self.correlation_id
        )

    def new_id(self, what: str) -> UUID:
        """An id for something this request makes; the same again for a repeated idempotency key, so that a crash
        between the append and the note of the key cannot make it twice.
        """
        return uuid4() if self.key is None else uuid5(self.correlation_id, what)

    @property
    def board(self) -> Board:
        """How far running tasks are."""
        board: Board = self.app.state.board
        return board

    @property
    def disks(self) -> Disks:
        """Where files of videos lie."""
        disks: Disks = self.app.state.disks
        return disks

    @property
    def decoders(self) -> Decoders:
        """For clips, which can take minutes."""
        decoders: Decoders = self.app.state.decoders
        return decoders

    @property
    def picture_decoders(self) -> Decoders:
        """For pictures, which do not wait behind clips."""
        decoders: Decoders = self.app.state.picture_decoders
        return decoders

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection to the read models. When the client leaves, what runs on it ends, in Postgres too."""
        async with self.app.state.pool.connection() as connection, self.while_listened():
            yield connection

    @asynccontextmanager
    async def while_listened(self) -> AsyncIterator[None]:
        """Cancel the block when the client leaves; raises ClientGone then."""
        working, is_gone = asyncio.current_task(), False
        assert working is not None
        earlier = working.cancelling()

        async def watch() -> None:
            nonlocal is_gone
            while (await self.receive())["type"] != "http.disconnect":
                pass
            is_gone = True
            working.cancel()

        watching = asyncio.create_task(watch())
        try:
            yield
        except asyncio.CancelledError as error:
            if is_gone and working.uncancel() <= earlier:
                raise ClientGone("the client left") from error
            raise
        finally:
            watching.cancel()

    async def settle(self, position: int, timeout_s: float) -> bool:
        """Wait until the read models have come to `position`; False when they have not after `timeout_s`."""
        try:
            await self.app.state.served.reach(position, timeout_s)
        except PositionNotReached:
            return False
        return True

    def wrote(self, position: int) -> None:
        """Let the answer say that its effect can be read at `position`."""
        self.scope["state"]["position"] = position

    async def carry_out(self, *commands: Command) -> int:
        """Carry out commands, all or none; the position to read at, which the answer carries too."""
        position = await asyncio.to_thread(partial(handle, self.services.log, *commands))
        self.wrote(position)
        return position
