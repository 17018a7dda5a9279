"""Tasks that the server gave up on: a command delivered too often, or taken out by a worker or the ingester.

The server's notice (EIOKU_ADV) becomes `task.parked`; then the stuck message is deleted, then the notice answered.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.errors import NotFoundError

from application.handle import decide, present, store
from application.messages import UNREADABLE, TaskMessage
from application.ports import Clock, EventLog
from domain import task
from domain.errors import EiokuError
from domain.event import DomainEvent, Meta
from domain.run import FailRun
from domain.task import ParkTask, Task, TaskEvent
from infrastructure.nats.connection import Bus
from infrastructure.nats.pulls import messages
from infrastructure.nats.streams import ADV, CMD, MOVER

logger = structlog.get_logger()

RETRY_S = 5.0


class Advisory(msgspec.Struct, frozen=True):
    """What the server says; its other fields do not matter here."""

    type: str
    stream: str
    stream_seq: int
    deliveries: int = 0
    reason: str = ""

    @property
    def is_terminated(self) -> bool:
        """Taken out by whoever had it, with a reason; else delivered too often."""
        return self.type.endswith(".terminated")


class GivenUp(msgspec.Struct, frozen=True):
    """Which request it was, and why."""

    task_id: UUID
    request_version: int
    deliveries: int
    reason: str
    ended_by: Literal["worker", "ingester"] | None = None
    """Who took it out; None: the server, because nobody answered."""


async def move_advisories(
    log: EventLog, bus: Bus, stop: asyncio.Event, *, clock: Clock = lambda: datetime.now(UTC)
) -> None:
    """Park what the server gave up on, until `stop` is set."""
    async with contextlib.aclosing(messages(bus, ADV, MOVER, stop)) as arrivals:
        async for message in arrivals:
            try:
                await _move(log, bus, message, clock)
            except (EiokuError, Error, TimeoutError) as error:
                logger.warning("advisory.again", error=repr(error), again_in_s=RETRY_S)
                await message.nak(delay=RETRY_S)


async def _move(log: EventLog, bus: Bus, message: Msg, clock: Clock) -> None:
    try:
        advisory = msgspec.json.decode(message.data, type=Advisory)
        given_up = await _given_up(bus, advisory)
    except (*UNREADABLE, ValueError) as error:
        logger.error("advisory.unknown", subject=message.subject, error=str(error))  # noqa: TRY400
        await message.term()
        return
    if given_up is not None:
        await asyncio.to_thread(park, log, given_up, clock)
        if not advisory.is_terminated:
            with contextlib.suppress(NotFoundError):
                await bus.js.delete_msg(CMD, advisory.stream_seq)
    await message.ack()


async def _given_up(bus: Bus, advisory: Advisory) -> GivenUp | None:
    """None when the message is gone already."""
    if advisory.is_terminated:
        request, _, reason = advisory.reason.partition(" ")
        task_id, _, version = request.rpartition(".")
        by: Literal["worker", "ingester"] = "worker" if advisory.stream == CMD else "ingester"
        return GivenUp(UUID(task_id), int(version), advisory.deliveries, reason, by)
    if advisory.stream != CMD:
        raise ValueError(f"no commands in {advisory.stream}")
    try:
        stuck = await bus.js.get_msg(CMD, seq=advisory.stream_seq)
    except NotFoundError:
        return None
    command = msgspec.json.decode(stuck.data or b"", type=TaskMessage)
    reason = f"delivered {advisory.deliveries} times without an end"
    return GivenUp(command.task_id, command.request_version, advisory.deliveries, reason)


def park(log: EventLog, given_up: GivenUp, clock: Clock) -> None:
    """Note it in the log; nothing when the task has ended or was asked for again.

    The run of the attempt that is over is closed. A worker that only fell silent may still report: its run stays open,
    its result still counts, and the next attempt closes it.
    """
    events = log.load(given_up.task_id)
    if not events or not isinstance(events[0], TaskEvent):
        return
    meta = Meta(
        at=clock(),
        tenant_id=events[0].tenant_id,
        actor="system:relay",
        correlation_id=events[0].correlation_id,
    )
    wish = ParkTask(
        stream_id=given_up.task_id,
        meta=meta,
        request_version=given_up.request_version,
        reason=given_up.reason,
        deliveries=given_up.deliveries,
    )

    def items() -> Sequence[DomainEvent]:
        state: Task | None = present(log, task, given_up.task_id)
        parked = task.decide(state, wish)
        if not parked or state is None or state.run_id is None or not _is_over(given_up, state):
            return parked
        end = FailRun(stream_id=state.run_id, meta=meta, code="PARKED", error=given_up.reason)
        return [*parked, *decide(log, end)]

    store(log, items)
    logger.warning("task.parked", task_id=str(given_up.task_id), reason=given_up.reason)


def _is_over(given_up: GivenUp, state: Task) -> bool:
    """Whether nothing more can come of the newest attempt: its own worker gave it up, or its results cannot be stored."""
    return given_up.ended_by == "ingester" or (
        given_up.ended_by == "worker" and state.delivery == given_up.deliveries
    )
