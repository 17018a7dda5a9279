"""Paused queues: their consumers hand nothing out. The server keeps that over restarts; what it lost is told it again."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec
import structlog
from nats.errors import Error

from application.ports import EventLog
from domain.errors import EiokuError, ServiceUnavailable
from domain.pipeline import BY_NAME
from domain.queue import EVENTS, Pause
from domain.task import PRIORITIES, Priority
from infrastructure.nats.connection import Bus, Reply
from infrastructure.nats.streams import CMD, durable_of

logger = structlog.get_logger()

FOREVER = datetime(2200, 1, 1, tzinfo=UTC)
"""Until somebody resumes it; the server counts the nanoseconds until then and has 292 years."""
NEWS_S = 0.5
LOOK_S = 10.0
"""How often all is compared, news or not: windows open and close, and a store may be lost."""
_TOPICS = tuple(event.TOPIC for event in EVENTS)


class _Config(msgspec.Struct, frozen=True):
    pause_until: datetime | None = None


class _Consumer(msgspec.Struct, frozen=True):
    name: str
    config: _Config
    paused: bool = False


class _Consumers(msgspec.Struct, frozen=True):
    consumers: tuple[_Consumer, ...] = ()
    total: int = 0


async def hold(bus: Bus, paused: Mapping[tuple[Priority, str], Pause]) -> int:
    """Let the server hold back exactly these queues; how many it was told of. What runs already goes on.

    Raises:
        ServiceUnavailable: the server does not answer, or a consumer is not there.
    """
    found = await _paused(bus)
    told = 0
    for task_type in BY_NAME:
        for priority in PRIORITIES:
            durable = durable_of(priority, task_type)
            pause = paused.get((priority, task_type))
            wished = None if pause is None else pause.until or FOREVER
            if found.get(durable) != wished:
                await _pause(bus, durable, wished)
                told += 1
    return told


async def run_gates(
    log: EventLog,
    bus: Bus,
    wished: Callable[[], Mapping[tuple[Priority, str], Pause]],
    stop: asyncio.Event,
    *,
    look_s: float = LOOK_S,
) -> None:
    """Hold back what is `wished`, at news in the log and every `look_s`, until `stop` is set."""
    position = await asyncio.to_thread(log.head)
    loop = asyncio.get_running_loop()
    due = loop.time()
    while not stop.is_set():
        try:
            news = await asyncio.to_thread(log.read, position, kinds=_TOPICS)
            if news or loop.time() >= due:
                told = await hold(bus, await asyncio.to_thread(wished))
                position = news[-1].position if news else position
                due = loop.time() + look_s
                if told:
                    logger.info("queues.told", consumers=told)
        except EiokuError as error:
            if not error.retryable:
                raise
            logger.warning("queues.interrupted", error=repr(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), NEWS_S)


async def _paused(bus: Bus) -> dict[str, datetime]:
    """The consumers that hand nothing out now, and until when."""
    found: dict[str, datetime] = {}
    seen = 0
    while True:
        body = await _ask(bus, f"$JS.API.CONSUMER.LIST.{CMD}", {"offset": seen})
        page = msgspec.json.decode(body, type=_Consumers)
        found |= {
            one.name: one.config.pause_until
            for one in page.consumers
            if one.paused and one.config.pause_until is not None
        }
        seen += len(page.consumers)
        if not page.consumers or seen >= page.total:
            return found


async def _pause(bus: Bus, durable: str, until: datetime | None) -> None:
    request = {} if until is None else {"pause_until": until}
    await _ask(bus, f"$JS.API.CONSUMER.PAUSE.{CMD}.{durable}", request)


async def _ask(bus: Bus, subject: str, request: object) -> bytes:
    try:
        reply = await bus.request(subject, msgspec.json.encode(request))
    except (TimeoutError, Error) as error:
        raise ServiceUnavailable(f"JetStream does not answer: {error!r}") from error
    refused = msgspec.json.decode(reply.data, type=Reply).error
    if refused is not None:
        raise ServiceUnavailable(f"{subject}: {refused.description} ({refused.err_code})")
    return reply.data
