"""A task as it happens: state from the read model, progress from NATS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import msgspec
from litestar.response.sse import ServerSentEventMessage

from api.request import Call
from application.gate import pauses_of
from domain.errors import PositionNotReached, TaskNotFound
from domain.pipeline import BY_NAME
from domain.queue import Pause
from infrastructure.nats import progress
from projectors.tasks import TaskView, get_task

KEEP_ALIVE_S = 15.0
OPEN = frozenset({"pending", "running"})


class TaskDetail(TaskView, frozen=True, kw_only=True):
    """A task, and where it stands in line."""

    queue_position: int | None
    """How many of its type are before it while it is pending."""
    paused: Pause | None
    """Why it waits although a worker may be free."""


def now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


async def detail(request: Call, task_id: UUID) -> TaskDetail:
    """The task as the read model has it; raises TaskNotFound."""
    async with request.reading() as connection:
        task, place = await get_task(connection, tenant_id=request.tenant, task_id=task_id)
    paused: Pause | None = None
    if task.status == "pending" and task.task_type in BY_NAME:
        services = request.services
        held = await asyncio.to_thread(
            pauses_of, services.log, task.task_type, services.off_peak, now(), tenant_id=request.tenant
        )
        paused = held.get(task.priority)
    return TaskDetail(**msgspec.structs.asdict(task), queue_position=place, paused=paused)


async def follow(request: Call, first: TaskDetail) -> AsyncIterator[ServerSentEventMessage]:
    """The task now, and again whenever it changes; progress in between; ends when the task has ended."""
    state = request.app.state
    news: asyncio.Queue[ServerSentEventMessage] = asyncio.Queue(maxsize=100)
    sources = [asyncio.create_task(_changes(request, first, news))]
    if state.bus is not None:
        sources.append(asyncio.create_task(_progress(request, first, news)))
    state.metrics.streams.inc()
    try:
        yield _message("task", first)
        while True:
            try:
                message = await asyncio.wait_for(news.get(), KEEP_ALIVE_S)
            except TimeoutError:
                yield ServerSentEventMessage(comment="still here")
                continue
            yield message
            if message.event == "end":
                return
    finally:
        state.metrics.streams.dec()
        for source in sources:
            source.cancel()
        await asyncio.gather(*sources, return_exceptions=True)


async def _changes(request: Call, last: TaskDetail, news: asyncio.Queue[ServerSentEventMessage]) -> None:
    served = request.app.state.served
    while last.status in OPEN:
        with contextlib.suppress(PositionNotReached):
            # Any news at all; then one row is looked at.
            await served.reach(served.now() + 1, KEEP_ALIVE_S)
        try:
            now = await detail(request, last.task_id)
        except TaskNotFound:
            break
        if now != last:
            await news.put(_message("task", now))
        last = now
    await news.put(ServerSentEventMessage(event="end", data="{}"))


async def _progress(request: Call, task: TaskDetail, news: asyncio.Queue[ServerSentEventMessage]) -> None:
    told = progress.follow(request.app.state.bus, request.tenant, task.task_id)
    async with contextlib.aclosing(told):
        async for now in told:
            with contextlib.suppress(asyncio.QueueFull):
                # Whoever reads too slowly misses some; the next one says more.
                news.put_nowait(_message("progress", now))


def _message(event: str, body: object) -> ServerSentEventMessage:
    return ServerSentEventMessage(event=event, data=msgspec.json.encode(body).decode())
