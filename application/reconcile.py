"""The log against the broker: what was asked for and is nowhere is asked for again, what nobody wants is removed.

The broker is disposable, so this must be right after a crash, a restored backup or a deleted store, and must never undo
running work. It judges nothing by a clock or by a read model alone:

1. The log's head is noted, then the open tasks are read, then the commands at the broker, then the unread results. A
   worker stores its results before it answers for its command, so a task that is in neither, and is open in the log
   afterwards, has nobody who works on it.
2. A task must look lost twice, on the same request, and the relay must have come beyond the first look in between.
3. A task that runs gets `RUNNING_LOOKS`: if only the broker's store is gone, its worker still computes and will report.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

import msgspec
import structlog

from application.handle import handle, present
from application.ports import Clock, EventLog
from domain import task, video
from domain.errors import Conflict, EiokuError, NotFound
from domain.event import Command, Meta
from domain.pipeline import BY_NAME
from domain.task import CancelTask, RequeueTask, Task, run_id_of
from domain.video import Video

logger = structlog.get_logger()

EVERY_S = 30.0
PENDING_LOOKS = 2
RUNNING_LOOKS = 10
MOST_DELIVERIES = 20
"""More than the broker delivers a command: results of all attempts at a request are looked for."""
RELAY = "relay"
CORRELATION = UUID("6d0b9a4e-6b36-5e0c-9d5f-5a1f0c1e0a11")
"""Everything that reconciling causes has this correlation id."""


class Broker(msgspec.Struct, frozen=True):
    """What the reconciler asks of the broker."""

    declare: Callable[[], Awaitable[object]]
    """Make streams and consumers that are missing: a deleted store comes back empty."""
    waiting: Callable[[], Awaitable[set[UUID]]]
    """Tasks whose command waits or is in a worker's hands."""
    unread: Callable[[], Awaitable[set[UUID]]]
    """Runs with results that are not in the log yet."""
    call_off: Callable[[str, UUID, int], Awaitable[object]]
    """Remove the command of (tenant, task) given before a position, and stop who works on it."""


class Report(msgspec.Struct, frozen=True):
    """What one look changed."""

    requeued: tuple[UUID, ...] = ()
    cancelled: tuple[UUID, ...] = ()
    called_off: tuple[UUID, ...] = ()


class _Suspect(msgspec.Struct, frozen=True):
    request_version: int
    head: int
    """The log's head when it was first missed."""
    looks: int


class Reconciler:
    """Looks again and again; remembers between looks what it missed. One in a deployment is enough, two do no harm."""

    def __init__(
        self, log: EventLog, broker: Broker, *, open_tasks: Callable[[], Collection[UUID]], clock: Clock
    ) -> None:
        """`open_tasks`: all tasks that are pending or running, from a read model, which may lag behind."""
        self._log, self._broker, self._open_tasks, self._clock = log, broker, open_tasks, clock
        self._suspects: dict[UUID, _Suspect] = {}

    async def run(self, stop: asyncio.Event, *, every_s: float = EVERY_S) -> None:
        """Look every `every_s` until `stop` is set. A service that is away is waited for."""
        while not stop.is_set():
            try:
                report = await self.look()
            except EiokuError as error:
                if not error.retryable:
                    raise
                logger.warning("reconcile.interrupted", error=repr(error), again_in_s=every_s)
            else:
                if report != Report():
                    logger.info(
                        "reconcile.done",
                        requeued=len(report.requeued),
                        cancelled=len(report.cancelled),
                        called_off=len(report.called_off),
                    )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), every_s)

    async def look(self) -> Report:
        """Compare once."""
        await self._broker.declare()
        head = await asyncio.to_thread(self._log.head)
        # Read before the broker: what is missing there afterwards was not merely late.
        believed = set(await asyncio.to_thread(self._open_tasks))
        waiting = await self._broker.waiting()
        unread = await self._broker.unread()
        requeued, cancelled = await asyncio.to_thread(self._judge, head, believed - waiting, unread)
        more_cancelled, unwanted = await asyncio.to_thread(self._unwanted, waiting - believed)
        for tenant_id, task_id in unwanted:
            await self._broker.call_off(tenant_id, task_id, head)
        return Report(
            tuple(requeued), (*cancelled, *more_cancelled), tuple(task_id for _, task_id in unwanted)
        )

    def _judge(self, head: int, missed: Collection[UUID], unread: set[UUID]) -> tuple[list[UUID], list[UUID]]:
        """(asked for again, cancelled) of the tasks that are believed open and have no command."""
        relayed = self._log.checkpoint(RELAY)
        suspects: dict[UUID, _Suspect] = {}
        requeued, cancelled = [], []
        for task_id in missed:
            state = self._open(task_id)
            if state is None or _reported(task_id, state, unread):
                continue
            if self._is_deleted(state):
                cancelled += self._cancel(task_id, state)
                continue
            before = self._suspects.get(task_id)
            if before is None or before.request_version != state.request_version:
                before = _Suspect(request_version=state.request_version, head=head, looks=0)
            looks = before.looks + 1
            enough = PENDING_LOOKS if state.status == "pending" else RUNNING_LOOKS
            if looks < enough or relayed < before.head:
                suspects[task_id] = _Suspect(before.request_version, before.head, looks)
                continue
            wish = RequeueTask(
                stream_id=task_id,
                meta=self._meta(state),
                request_version=state.request_version,
                reason="its command was missing from the broker",
            )
            logger.warning("task.lost", task_id=str(task_id), task_type=state.task_type, status=state.status)
            requeued += [task_id] if self._carry_out(wish) else []
        self._suspects = suspects
        return requeued, cancelled

    def _unwanted(self, extra: Collection[UUID]) -> tuple[list[UUID], list[tuple[str, UUID]]]:
        """(cancelled, commands to remove) of the tasks that have a command and are not believed open."""
        cancelled: list[UUID] = []
        unwanted: list[tuple[str, UUID]] = []
        for task_id in extra:
            state: Task | None = present(self._log, task, task_id)
            if state is None:
                logger.error("reconcile.foreign_command", task_id=str(task_id))
            elif state.status not in ("pending", "running"):
                unwanted.append((state.tenant_id, task_id))
            elif self._is_deleted(state):
                cancelled += self._cancel(task_id, state)
        return cancelled, unwanted

    def _open(self, task_id: UUID) -> Task | None:
        """The task, if the log too has it open and a worker could do it."""
        state: Task | None = present(self._log, task, task_id)
        is_open = state is not None and state.status in ("pending", "running") and state.task_type in BY_NAME
        return state if is_open else None

    def _is_deleted(self, state: Task) -> bool:
        subject: Video | None = present(self._log, video, state.video_id)
        return subject is None or subject.is_deleted

    def _cancel(self, task_id: UUID, state: Task) -> list[UUID]:
        wish = CancelTask(stream_id=task_id, meta=self._meta(state), reason=task.VIDEO_DELETED)
        return [task_id] if self._carry_out(wish) else []

    def _carry_out(self, wish: Command) -> bool:
        """False when the task has moved on meanwhile."""
        try:
            handle(self._log, wish)
        except (Conflict, NotFound):
            return False
        return True

    def _meta(self, state: Task) -> Meta:
        return Meta(
            at=self._clock(), tenant_id=state.tenant_id, actor="system:reconciler", correlation_id=CORRELATION
        )


def _reported(task_id: UUID, state: Task, unread: set[UUID]) -> bool:
    """Whether results of an attempt at the present request wait for the ingester."""
    return any(
        run_id_of(task_id, state.request_version, delivery) in unread
        for delivery in range(1, MOST_DELIVERIES + 1)
    )
