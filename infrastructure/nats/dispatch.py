"""From requests in the log to commands on EIOKU_CMD."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from uuid import UUID

import msgspec
import structlog
from nats.js.errors import APIError, NotFoundError

from application.handle import handle, present
from application.messages import TaskMessage
from application.ports import EventLog, Recorded
from domain import task, video
from domain.errors import Conflict, ServiceUnavailable
from domain.event import Meta
from domain.pipeline import BY_NAME
from domain.task import (
    ParkTask,
    Task,
    TaskCancelled,
    TaskEvent,
    TaskFailed,
    TaskRequested,
    TaskRequeued,
    TaskRetried,
)
from domain.video import Video
from infrastructure.nats import subjects
from infrastructure.nats.cancel import call_off
from infrastructure.nats.connection import (
    UNKNOWN,
    Bus,
    BusError,
    DuplicateInBatch,
    Stored,
    StreamFull,
    SubjectTaken,
)
from infrastructure.nats.publish import BATCH_FROM, atomically, batches, side_by_side
from infrastructure.nats.streams import CMD

logger = structlog.get_logger()

MAX_COMMAND_BYTES = 256 * 1024
"""References only, so some hundred bytes; what is over this came from a client's config and cannot be dispatched."""
AT_ONCE = 64


class Waiting(msgspec.Struct, frozen=True):
    """A command to be stored."""

    message: TaskMessage

    @property
    def subject(self) -> str:
        """One task has one subject in its class, and the stream holds one message a subject."""
        message = self.message
        return subjects.command(message.tenant_id, message.priority, message.task_type, message.task_id)

    @property
    def body(self) -> bytes:
        """JSON."""
        return msgspec.json.encode(self.message)

    @property
    def headers(self) -> dict[str, str]:
        """Fresh at each call."""
        return {
            "Nats-Msg-Id": f"{self.message.task_id}.{self.message.request_version}",
            "eioku-position": str(self.message.position),
            "Content-Type": "application/json",
        }


class CalledOff(msgspec.Struct, frozen=True):
    """A task that was cancelled, or has failed before its last attempt, by the event at `position`."""

    tenant_id: str
    task_id: UUID
    position: int


def plan(log: EventLog, records: Sequence[Recorded]) -> list[Waiting | CalledOff]:
    """What the bus must be told of these events, decided on the present state: what has ended or was asked for again
    later is left out. A task whose video is deleted is cancelled instead: nobody else would ever end it.
    """
    planned: list[Waiting | CalledOff] = []
    for recorded in records:
        match recorded.item:
            case TaskRequested() | TaskRetried() | TaskRequeued() as event:
                message = _message(log, event, recorded.position)
                if message is not None:
                    planned.append(Waiting(message))
            case TaskCancelled() | TaskFailed(is_repeated=True) as event:
                planned.append(CalledOff(event.tenant_id, event.originator_id, recorded.position))
            case _:
                pass
    return planned


def _message(
    log: EventLog, event: TaskRequested | TaskRetried | TaskRequeued, position: int
) -> TaskMessage | None:
    events = log.load(event.originator_id)
    state: Task | None = None
    for past in events:
        assert isinstance(past, task.TaskEvent)
        state = task.evolve(state, past)
    request = events[0]
    if state is None or not isinstance(request, TaskRequested) or request.task_type not in BY_NAME:
        return None  # an import, or a task type of another version of Eioku
    if state.status not in ("pending", "running") or state.request_version != event.originator_version:
        return None
    subject: Video | None = present(log, video, request.video_id)
    if subject is None or subject.is_deleted:
        with contextlib.suppress(Conflict):  # somebody else was quicker
            reason = task.VIDEO_DELETED
            handle(log, task.CancelTask(stream_id=event.originator_id, meta=_meta(event, position), reason=reason))
        return None
    return TaskMessage(
        task_id=event.originator_id,
        tenant_id=event.tenant_id,
        video_id=request.video_id,
        task_type=request.task_type,
        profile=request.profile,
        config=request.config,
        config_hash=request.config_hash,
        language=request.language,
        priority=state.priority,
        request_version=event.originator_version,
        source=subject.source,
        blake3=subject.blake3,
        correlation_id=event.correlation_id,
        position=position,
        force=request.force,
    )


async def carry_out(log: EventLog, bus: Bus, planned: Sequence[Waiting | CalledOff]) -> None:
    """Tell the bus, in order. Doing it again does no harm.

    Raises:
        StreamFull: no room for more commands; the rest waits in the log.
        ServiceUnavailable: the server does not answer.
    """
    for is_waiting, group in groupby(planned, key=lambda each: isinstance(each, Waiting)):
        if is_waiting:
            await _store(log, bus, [each for each in group if isinstance(each, Waiting)])
        else:
            for each in group:
                assert isinstance(each, CalledOff)
                try:
                    await call_off(bus, each.tenant_id, each.task_id, each.position)
                except (*UNKNOWN, APIError) as error:
                    raise ServiceUnavailable(f"could not call off {each.task_id}: {error!r}") from error


async def _store(log: EventLog, bus: Bus, waiting: Sequence[Waiting]) -> None:
    fitting = []
    for each in waiting:
        if len(each.body) > MAX_COMMAND_BYTES:
            await asyncio.to_thread(_park, log, each.message)
        else:
            fitting.append(each)
    for batch in batches(fitting):
        if len(batch) >= BATCH_FROM:
            try:
                await atomically(bus, CMD, batch)
            except (SubjectTaken, DuplicateInBatch):
                pass  # one of them is queued already: ask for each by itself
            except (*UNKNOWN, APIError) as error:
                raise ServiceUnavailable(f"commands not stored: {error!r}") from error
            else:
                continue
        for start in range(0, len(batch), AT_ONCE):
            await _store_each(bus, batch[start : start + AT_ONCE])


async def _store_each(bus: Bus, waiting: Sequence[Waiting]) -> None:
    for each, answer in zip(waiting, await side_by_side(bus, CMD, waiting), strict=True):
        match answer:
            case Stored():
                pass
            case SubjectTaken():
                await _replace_older(bus, each)
            case StreamFull():
                raise answer
            case BusError():
                raise ServiceUnavailable(f"command refused: {answer!r}") from answer
            case error:
                raise ServiceUnavailable(f"command not stored: {error!r}") from error


async def _replace_older(bus: Bus, waiting: Waiting) -> None:
    """The subject holds a message: this very command, which is fine, or an older request's, whose answer is overdue."""
    try:
        stored = await bus.js.get_last_msg(CMD, waiting.subject)
    except NotFoundError:
        pass  # answered meanwhile
    except (*UNKNOWN, APIError) as error:
        raise ServiceUnavailable(f"no answer about {waiting.subject}: {error!r}") from error
    else:
        if (stored.headers or {}).get("Nats-Msg-Id") == waiting.headers["Nats-Msg-Id"]:
            return
        logger.info("command.superseded", task_id=str(waiting.message.task_id))
        await bus.js.purge_stream(CMD, subject=waiting.subject)
    await bus.store(CMD, waiting.subject, waiting.body, waiting.headers, patience_s=10)


def _meta(cause: TaskEvent | TaskMessage, position: int) -> Meta:
    return Meta(
        at=datetime.now(UTC),
        tenant_id=cause.tenant_id,
        actor="system:relay",
        correlation_id=cause.correlation_id,
        causation_id=f"g{position}",
    )


def _park(log: EventLog, message: TaskMessage) -> None:
    reason = f"its config is too large to be sent to a worker (more than {MAX_COMMAND_BYTES} bytes)"
    handle(
        log,
        ParkTask(
            stream_id=message.task_id,
            meta=_meta(message, message.position),
            request_version=message.request_version,
            reason=reason,
            deliveries=0,
        ),
    )
