"""Calling off tasks: what waits is removed from the stream, who works on it is told over core NATS."""

import asyncio
import contextlib
from collections import OrderedDict, defaultdict
from typing import Self
from uuid import UUID

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from application.messages import UNREADABLE, TaskMessage
from infrastructure.nats import subjects
from infrastructure.nats.connection import Bus
from infrastructure.nats.streams import CMD

REMEMBERED_S, MOST_REMEMBERED = 600.0, 100_000
"""A worker that takes a task checks whether it was called off meanwhile."""
_Whose = tuple[str, UUID]
"""Token of the tenant, task."""


logger = structlog.get_logger()


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """The task was called off by the event at `position`; a command that a later event made is a new wish."""

    task_id: UUID
    position: int


async def publish(bus: Bus, tenant_id: str, task_id: UUID, position: int) -> None:
    """Tell whoever works on the task to stop."""
    body = msgspec.json.encode(Cancel(task_id=task_id, position=position))
    await bus.publish(subjects.cancel(tenant_id, task_id), body)


async def call_off(bus: Bus, tenant_id: str, task_id: UUID, position: int) -> None:
    """Remove the waiting command, then tell whoever works on the task.

    Raises:
        TimeoutError, APIError: the server did not do it; do it again.
    """
    await bus.js.purge_stream(CMD, subject=subjects.commands_of(tenant_id, task_id))
    await publish(bus, tenant_id, task_id, position)


class Cancellations:
    """The cancellations of the last ten minutes, of all tenants, as one worker heard them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._heard: OrderedDict[_Whose, tuple[float, int]] = OrderedDict()
        """Task → (loop time, position of the cancelling event)."""
        self._waiting: defaultdict[_Whose, set[asyncio.Event]] = defaultdict(set)
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._subscription = await self._bus.nc.subscribe(subjects.ALL_CANCELS, cb=self._hear)
        await self._bus.nc.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._subscription is not None:
            with contextlib.suppress(Error, ConnectionError):
                await self._subscription.unsubscribe()

    def has(self, message: TaskMessage) -> bool:
        """Whether the command was called off after it was given."""
        heard = self._heard.get(_whose(message))
        return heard is not None and heard[1] > message.position

    async def wait(self, message: TaskMessage) -> None:
        """Return when the command is called off."""
        news = asyncio.Event()
        whose = _whose(message)
        self._waiting[whose].add(news)
        try:
            while not self.has(message):
                await news.wait()
                news.clear()
        finally:
            self._waiting[whose].discard(news)
            if not self._waiting[whose]:
                del self._waiting[whose]

    async def _hear(self, raw: Msg) -> None:
        try:
            cancel = msgspec.json.decode(raw.data, type=Cancel)
        except UNREADABLE as error:
            logger.warning("cancel.undecodable", subject=raw.subject, error=str(error))
            return
        # The subject decides whose task it is: rights are given by subject.
        _, tenant, _, told = raw.subject.split(".")
        if told != str(cancel.task_id):
            logger.warning("cancel.of_another_task", subject=raw.subject)
            return
        whose = (tenant, cancel.task_id)
        now = asyncio.get_running_loop().time()
        self._heard[whose] = (now, max(cancel.position, self._heard.pop(whose, (0.0, 0))[1]))
        while self._heard and (
            len(self._heard) > MOST_REMEMBERED or next(iter(self._heard.values()))[0] < now - REMEMBERED_S
        ):
            self._heard.popitem(last=False)
        for news in self._waiting.get(whose, ()):
            news.set()


def _whose(message: TaskMessage) -> _Whose:
    return subjects.token(message.tenant_id), message.task_id
