"""Tasks: asking for work, watching it, calling it off."""

import asyncio
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Response, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import ServerSentEvent
from msgspec import Meta

from api.live import TaskDetail, detail, follow
from api.request import Call
from api.routes.common import Cursor, TaskType
from application.request_task import request_task
from domain.artifacts.fields import Language
from domain.pipeline import BY_NAME
from domain.pipeline import task_type as known_task_type
from domain.task import IMPORT, CancelTask, Priority, RetryTask, TaskStatus
from projectors import tasks as read

MOST = 100


class TaskBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Work to be done on a video."""

    task_type: TaskType
    profile: Annotated[str, Meta(max_length=200)] | None = None
    """fast, balanced or high_quality; balanced if absent."""
    language: Language | None = None
    config: dict[str, Any] | None = None
    """Parameters laid over the profile's."""
    priority: Priority = "std"
    force: bool = False
    """Compute even if a completed run of the same content, config, producer and weights is there already."""


class RetryBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How soon."""

    priority: Priority = "std"


class TaskState(msgspec.Struct, frozen=True):
    """What became of the wish."""

    task_id: UUID
    status: TaskStatus


class TaskList(msgspec.Struct, frozen=True):
    """Some tasks."""

    tasks: list[read.TaskView]
    total: int
    """All that fit."""
    limit: int
    """As it was applied."""
    offset: int
    has_more: bool


class Tasks(Controller):
    """Tasks."""

    path = "/v1"
    tags = ("Tasks",)

    @post("/videos/{video_id:str}/tasks", status_code=202)
    async def ask(
        self, request: Call, video_id: FromPath[UUID], data: JSONBody[TaskBody]
    ) -> Response[TaskState]:
        """Ask for work on a video. The same that is still pending or running is a 409; once it has ended, a new task.

        If its result is known already, that task completes at once and names the earlier run (`is_reused`).
        """
        work = partial(
            request_task,
            request.services.log,
            request.meta(),
            video_id,
            data.task_type,
            profile=data.profile,
            language=data.language,
            config=data.config,
            priority=data.priority,
            force=data.force,
        )
        asked = await asyncio.to_thread(work)
        request.wrote(asked.position)
        return _accepted(asked.task_id, "pending")

    @get("/tasks")
    async def list_tasks(
        self,
        request: Call,
        status: FromQuery[TaskStatus | None] = None,
        task_type: Annotated[str | None, QueryParameter(schema_extra={"enum": [IMPORT, *BY_NAME]})] = None,
        video_id: FromQuery[UUID | None] = None,
        sort_by: FromQuery[read.SortBy] = "created_at",
        sort_order: FromQuery[read.SortOrder] = "desc",
        limit: Annotated[int, QueryParameter(ge=1, description="More than 100 is taken for 100.")] = 10,
        offset: Annotated[int, QueryParameter(ge=0, le=1_000_000)] = 0,
        cursor: Cursor = None,
    ) -> TaskList:
        """Tasks, newest first unless told otherwise; those without the time sorted by come last."""
        if task_type is not None and task_type != IMPORT:
            known_task_type(task_type)
        most = min(limit, MOST)
        async with request.reading() as connection:
            page = await read.list_tasks(
                connection,
                tenant_id=request.tenant,
                status=status,
                task_type=task_type,
                video_id=video_id,
                sort_by=sort_by,
                sort_order=sort_order,
                limit=most,
                offset=offset,
                cursor=cursor,
            )
        seen = [request.board.seen(request.tenant, task) for task in page.tasks]
        return TaskList(seen, page.total, most, offset, page.has_more)

    @get("/tasks/{task_id:str}")
    async def one(self, request: Call, task_id: FromPath[UUID]) -> TaskDetail:
        """One task: attempts, error, its runs, its place in the queue."""
        return request.board.seen(request.tenant, await detail(request, task_id))

    @get("/tasks/{task_id:str}/events")
    async def events(self, request: Call, task_id: FromPath[UUID]) -> ServerSentEvent:
        """Server-sent events: `task` when its state changes, `progress` while it runs; ends when the task has."""
        stream = follow(request, await detail(request, task_id))
        return ServerSentEvent(stream, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})

    @post("/tasks/{task_id:str}/cancel", status_code=200)
    async def cancel(self, request: Call, task_id: FromPath[UUID]) -> TaskState:
        """Call a pending or running task off; a running job stops within seconds."""
        await request.carry_out(CancelTask(stream_id=task_id, meta=request.meta()))
        return TaskState(task_id, "cancelled")

    @post("/tasks/{task_id:str}/retry", status_code=202)
    async def retry(
        self, request: Call, task_id: FromPath[UUID], data: JSONBody[RetryBody | None] = None
    ) -> Response[TaskState]:
        """Try a failed, cancelled, parked or unavailable task once more, exactly as it was asked for."""
        priority = data.priority if data else "std"
        await request.carry_out(RetryTask(stream_id=task_id, meta=request.meta(), priority=priority))
        return _accepted(task_id, "pending")


def _accepted(task_id: UUID, status: TaskStatus) -> Response[TaskState]:
    return Response(TaskState(task_id, status), status_code=202, headers={"Location": f"/v1/tasks/{task_id}"})
