"""What the relay role tells workers from the read models: what was found in a video, and results known already."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from application.messages import KnownRun, KnownWanted
from domain.errors import ServiceUnavailable
from infrastructure.nats import inputs, known
from infrastructure.nats.connection import Bus
from infrastructure.postgres.connections import async_pool
from projectors.inputs import inputs_of
from projectors.known_runs import known_run
from projectors.position import ServedPosition


async def run(url: str, bus: Bus, stop: asyncio.Event) -> None:
    """Answer until `stop` is set, each time once the read models know what the task was asked for."""
    async with (
        ServedPosition(url) as served,
        async_pool(url, size=2, application_name="eioku answers", search_path="read") as pool,
    ):

        @asynccontextmanager
        async def reading(position: int, patience_s: float) -> AsyncIterator[AsyncConnection]:
            await served.reach(position, patience_s)
            try:
                async with pool.connection() as connection:
                    yield connection
            except (psycopg.Error, PoolTimeout) as error:
                raise ServiceUnavailable(f"Postgres does not answer: {error}") from error

        async def read_inputs(wanted: inputs.Wanted) -> inputs.Page:
            async with reading(wanted.position, inputs.PATIENCE_S - 2) as connection:
                return await inputs_of(connection, wanted)

        async def read_known(wanted: KnownWanted) -> KnownRun:
            async with reading(wanted.position, known.PATIENCE_S - 1) as connection:
                return await known_run(connection, wanted)

        await asyncio.gather(inputs.serve(bus, read_inputs, stop), known.serve(bus, read_known, stop))
