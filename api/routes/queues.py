"""Queues: what waits for workers, what holds it back, how long it will take."""

import asyncio
from typing import Annotated

import msgspec
from litestar import Controller, get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta

from api.live import now
from api.request import Call
from application.gate import pauses
from domain.pipeline import BY_NAME
from domain.pipeline import task_type as known_task_type
from domain.queue import Pause, PauseQueue, ResumeQueue, queue_id_of
from domain.task import PRIORITIES, Priority
from projectors import queues as read

ALL = "all"
TypeOrAll = Annotated[
    str, PathParameter(description="Task type, or `all`.", schema_extra={"enum": [ALL, *BY_NAME]})
]


class QueueClass(msgspec.Struct, frozen=True):
    """The tasks of one class in a queue."""

    priority: Priority
    pending: int
    running: int
    paused: Pause | None
    """Why pending tasks wait although a worker may be free."""


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of one type that are open."""

    task_type: str
    classes: list[QueueClass]
    open_ms: int
    """Of media, in all open tasks."""
    rate: float | None
    """Media seconds a second that one worker did lately; None when nothing was measured yet."""
    eta_s: float | None
    """Seconds that one worker needs for `open_ms`; None when the rate is unknown."""


class QueueList(msgspec.Struct, frozen=True):
    """Every queue."""

    queues: list[QueueView]
    open_ms: int
    eta_s: float | None
    """Sum over the queues that have open tasks; None when a rate among them is unknown."""


class PauseBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to hold back, and why."""

    priorities: Annotated[tuple[Priority, ...], Meta(min_length=1)] = PRIORITIES
    reason: Annotated[str, Meta(max_length=1_000)] = ""


class ResumeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to hand out again."""

    priorities: Annotated[tuple[Priority, ...], Meta(min_length=1)] = PRIORITIES


class Queues(Controller):
    """Queues."""

    path = "/v1/queues"
    tags = ("Tasks",)

    @get("/")
    async def list_queues(self, request: Call) -> QueueList:
        """Each task type: what waits and runs, what is paused by whom, how long it will take."""
        return await _queues(request)

    @post("/{task_type:str}/pause", status_code=200)
    async def pause(
        self, request: Call, task_type: TypeOrAll, data: JSONBody[PauseBody | None] = None
    ) -> QueueList:
        """Hold back the waiting tasks of a type, or of `all`; what runs goes on. Lasts until it is resumed."""
        wish = data or PauseBody()
        await request.carry_out(
            *(
                PauseQueue(
                    stream_id=queue_id_of(name),
                    meta=request.meta(),
                    task_type=name,
                    priorities=wish.priorities,
                    reason=wish.reason,
                )
                for name in _named(task_type)
            )
        )
        return await _queues(request)

    @post("/{task_type:str}/resume", status_code=200)
    async def resume(
        self, request: Call, task_type: TypeOrAll, data: JSONBody[ResumeBody | None] = None
    ) -> QueueList:
        """Hand out the waiting tasks of a type, or of `all`, again; an off-peak window still holds."""
        wish = data or ResumeBody()
        await request.carry_out(
            *(
                ResumeQueue(
                    stream_id=queue_id_of(name),
                    meta=request.meta(),
                    task_type=name,
                    priorities=wish.priorities,
                )
                for name in _named(task_type)
            )
        )
        return await _queues(request)


def _named(task_type: str) -> tuple[str, ...]:
    return tuple(BY_NAME) if task_type == ALL else (known_task_type(task_type).name,)


async def _queues(request: Call) -> QueueList:
    services = request.services
    held = await asyncio.to_thread(pauses, services.log, services.off_peak, now(), tenant_id=request.tenant)
    async with request.reading() as connection:
        found = {
            (load.task_type, load.priority): load
            for load in await read.loads(connection, tenant_id=request.tenant)
        }
        rates = {
            name: await read.rate_of(connection, tenant_id=request.tenant, task_type=name) for name in BY_NAME
        }
    views = []
    for name in BY_NAME:
        loads = [found.get((name, priority)) for priority in PRIORITIES]
        open_ms = sum(load.open_ms for load in loads if load is not None)
        views.append(
            QueueView(
                task_type=name,
                classes=[
                    QueueClass(
                        priority,
                        0 if load is None else load.pending,
                        0 if load is None else load.running,
                        held.get((priority, name)),
                    )
                    for priority, load in zip(PRIORITIES, loads, strict=True)
                ],
                open_ms=open_ms,
                rate=rates[name],
                eta_s=read.eta_s(open_ms, rates[name]),
            )
        )
    busy = [view for view in views if view.open_ms]
    is_known = all(view.eta_s is not None for view in busy)
    return QueueList(
        queues=views,
        open_ms=sum(view.open_ms for view in busy),
        eta_s=round(sum(view.eta_s or 0 for view in busy), 1) if is_known else None,
    )
