"""Real NATS in tests: run a coroutine, a connected bus with everything declared, a command to send."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from application.messages import TaskMessage
from infrastructure.nats.connection import Bus, connect
from infrastructure.nats.dispatch import Waiting
from infrastructure.nats.streams import CMD, declare

LIMIT_S = 180


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, or fail after `LIMIT_S`."""

    async def limited() -> Any:
        async with asyncio.timeout(LIMIT_S):
            return await work

    return asyncio.run(limited())


@asynccontextmanager
async def declared(url: str, name: str = "test") -> AsyncIterator[Bus]:
    """A connection to a server that has all streams."""
    async with await connect(url, name=name) as bus:
        assert await declare(bus) == []
        yield bus


def command(task_type: str = "scene_detection", priority: Any = "std", **changed: Any) -> TaskMessage:
    """A task for a worker."""
    return TaskMessage(
        **{
            "task_id": uuid4(), "tenant_id": "default", "video_id": UUID(int=1), "task_type": task_type,
            "profile": "balanced", "config": {}, "config_hash": "c", "language": None, "priority": priority,
            "request_version": 1, "source": "/media/a.mp4", "blake3": None, "correlation_id": UUID(int=2), "position": 1,
        } | changed
    )  # fmt: skip


async def enqueue(bus: Bus, *messages: TaskMessage) -> None:
    """Store commands as the relay does."""
    for message in messages:
        waiting = Waiting(message)
        await bus.store(CMD, waiting.subject, waiting.body, waiting.headers)


async def eventually(holds: Callable[[], Awaitable[bool]], within_s: float = 20.0) -> None:
    """Wait until it holds; for what another process or the server does in its own time."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.02)


async def count(bus: Bus, stream: str) -> int:
    """Messages in a stream."""
    return (await bus.js.stream_info(stream)).state.messages


async def short_ack_wait(bus: Bus, task_type: str, *, ack_wait_s: float, max_deliver: int = 5) -> None:
    """Let the server lose patience sooner, so that the test need not wait a minute."""
    for priority in ("hi", "std", "bulk"):
        info = await bus.js.consumer_info(CMD, f"{priority}-{task_type}")
        assert info.config is not None
        changed = info.config.evolve(ack_wait=ack_wait_s, max_deliver=max_deliver)
        await bus.js.add_consumer(CMD, changed)


