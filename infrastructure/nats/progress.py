"""How far running tasks are: core NATS, at most once, never stored."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from uuid import UUID

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error

from application.messages import UNREADABLE, Progress
from infrastructure.nats import subjects
from infrastructure.nats.connection import Bus

MOST_BYTES = 4_096
KEPT = 64
"""A reader that is slower misses the oldest."""

_decoder = msgspec.json.Decoder(Progress)


async def publish(bus: Bus, tenant_id: str, progress: Progress) -> None:
    """Tell whoever listens."""
    await bus.publish(subjects.progress(tenant_id, progress.task_id), msgspec.json.encode(progress))


async def listen(bus: Bus, take: Callable[[str, Progress], object]) -> None:
    """Hand all that is told to `take`, with the tenant's token, for as long as the connection lasts."""

    async def hear(message: Msg) -> None:
        if (told := _told(message)) is not None:
            take(message.subject.split(".")[1], told)

    await bus.nc.subscribe(subjects.ALL_PROGRESS, cb=hear)


async def follow(bus: Bus, tenant_id: str, task_id: UUID | None = None) -> AsyncGenerator[Progress]:
    """The progress of one task, or of all of a tenant, for ever. Close it (`contextlib.aclosing`) to stop listening."""
    arrived: asyncio.Queue[Progress] = asyncio.Queue()

    async def take(message: Msg) -> None:
        if arrived.qsize() >= KEPT:
            arrived.get_nowait()
        if (told := _told(message)) is not None:
            arrived.put_nowait(told)

    subscription = await bus.nc.subscribe(subjects.progress(tenant_id, task_id or "*"), cb=take)
    try:
        while True:
            yield await arrived.get()
    finally:
        with contextlib.suppress(Error, ConnectionError):
            await subscription.unsubscribe()


def _told(message: Msg) -> Progress | None:
    """None for what no worker of this version says. The subject decides whose task it is about."""
    if len(message.data) > MOST_BYTES:
        return None
    try:
        told = _decoder.decode(message.data)
    except UNREADABLE:
        return None
    return told if message.subject.endswith(f".{told.task_id}") else None
