"""Read model: tasks."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from application.messages import Progress
from application.ports import Recorded
from domain.errors import TaskNotFound
from domain.task import (
    EVENTS,
    Priority,
    TaskCancelled,
    TaskCompleted,
    TaskEvent,
    TaskFailed,
    TaskParked,
    TaskPostponed,
    TaskRequested,
    TaskRequeued,
    TaskRetried,
    TaskStarted,
    TaskStatus,
    TaskUnavailable,
)
from domain.video import VideoDeleted, VideoRegistered
from projectors.cursor import decode, encode
from projectors.metadata import metadata
from projectors.projection import Projection
from projectors.rows import DeletedVideos, Row, Rows, short_config
from projectors.videos import require_video

tasks = Table(
    "tasks",
    metadata,
    Column("task_id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("video_id", Uuid, nullable=False),
    Column("task_type", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("config", JSONB, nullable=False),
    Column("config_hash", Text, nullable=False),
    Column("language", Text),
    Column("priority", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("started_at", DateTime(timezone=True)),
    Column("ended_at", DateTime(timezone=True)),
    Column("running_ms", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("run_id", Uuid),
    Column("run_ids", ARRAY(Uuid), nullable=False),
    Column("worker", Text),
    Column("artifact_count", Integer),
    Column("code", Text),
    Column("error", Text),
    Column("remedy", Text),
    Column("retryable", Boolean),
    Column("last_error", Text),
    Column("next_try_at", DateTime(timezone=True)),
    Column("position", BigInteger, nullable=False),
    Index("tasks_created", "tenant_id", "created_at", "position"),
    Index("tasks_started", "tenant_id", "started_at", "position"),
    Index("tasks_running", "tenant_id", "running_ms", "position"),
    Index("tasks_status", "tenant_id", "status", "created_at", "position"),
    Index("tasks_video", "video_id", "task_type"),
    Index("tasks_pending", "task_type", "requested_at", postgresql_where=text("status = 'pending'")),
)
"""`position` is that of the request: it breaks ties in every order."""

tasks_deleted = Table(
    "tasks_deleted",
    metadata,
    Column("video_id", Uuid, nullable=False),
    Column("tenant_id", Text, nullable=False),
    PrimaryKeyConstraint("video_id"),
)


OPEN = ("pending", "running")


class Tasks(Projection):
    """Tasks of videos that are not deleted; of deleted ones those that have not ended yet."""

    name = "tasks"
    version = 2
    tables = (tasks, tasks_deleted)
    topics = frozenset({*(event.TOPIC for event in EVENTS), VideoDeleted.TOPIC, VideoRegistered.TOPIC})

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """One row a task."""
        rows = Rows(
            connection, tasks, (r.item.originator_id for r in records if isinstance(r.item, TaskEvent))
        )
        deleted = DeletedVideos(connection, tasks_deleted, records, also=rows.videos())
        for record in records:
            match record.item:
                case VideoRegistered() as event:
                    deleted.revive(event)
                case VideoDeleted() as event:
                    deleted.bury(event)
                    rows.forget_video(event.originator_id, but=_is_open)
                case TaskRequested() as event:
                    rows.put(event.originator_id, _requested(event, record.position))
                case TaskEvent() as event if (row := rows.get(event.originator_id)) is not None:
                    _change(row, event)
                    if not _is_open(row) and UUID(str(row["video_id"])) in deleted:
                        rows.forget(event.originator_id)
        deleted.save()
        connection.execute(
            "DELETE FROM tasks WHERE video_id = ANY(%s) AND status <> ALL(%s)", (list(deleted.emptied), list(OPEN))
        )
        rows.save()


def _is_open(row: Row) -> bool:
    return row["status"] in OPEN


def _requested(event: TaskRequested, position: int) -> Row:
    return {
        "tenant_id": event.tenant_id,
        "video_id": event.video_id,
        "task_type": event.task_type,
        "profile": event.profile,
        "config": event.config,
        "config_hash": event.config_hash,
        "language": event.language,
        "priority": event.priority,
        "status": "pending",
        "created_at": event.recorded_at,
        "requested_at": event.recorded_at,
        "attempts": 0,
        "run_ids": [],
        "position": position,
    }


_NO_END = {
    "ended_at": None,
    "running_ms": None,
    "code": None,
    "error": None,
    "remedy": None,
    "retryable": None,
    "next_try_at": None,
}
PARKED = "See what the error says and the worker's log, then retry: POST /v1/tasks/{id}/retry"
"""Remedy of a task that was tried too often."""


def _change(row: Row, event: TaskEvent) -> None:
    match event:
        case TaskStarted():
            row |= _NO_END | {
                "status": "running",
                "started_at": event.recorded_at,
                "attempts": event.attempt,
                "run_id": event.run_id,
                "run_ids": [*row["run_ids"], event.run_id],
                "worker": event.worker,
            }
        case TaskCompleted():
            _end(row, event, "completed")
            row["artifact_count"] = event.artifact_count
            row["run_id"] = event.run_id
        case TaskPostponed():
            row |= _NO_END | {
                "status": "pending",
                "last_error": f"{event.code}: {event.error}",
                "remedy": event.remedy or None,
                "next_try_at": event.next_try_at,
            }
        case TaskFailed():
            _end(
                row,
                event,
                "failed",
                code=event.code,
                error=event.error,
                remedy=event.remedy or None,
                retryable=event.retryable,
            )
        case TaskUnavailable():
            _end(
                row, event, "unavailable", code="MODEL_UNAVAILABLE", error=event.missing, remedy=event.remedy
            )
        case TaskCancelled():
            _end(row, event, "cancelled", code="CANCELLED", error=event.reason)
        case TaskParked():
            _end(row, event, "parked", code="PARKED", error=event.reason)
        case TaskRetried() | TaskRequeued():
            row |= _NO_END | {
                "status": "pending",
                "requested_at": event.recorded_at,
                "started_at": None,
                "last_error": None,
            }
            if isinstance(event, TaskRetried):
                row["priority"] = event.priority
        case _:
            raise TypeError(event)


def _end(row: Row, event: TaskEvent, status: str, **why: object) -> None:
    started = row.get("started_at")
    row |= _NO_END | {"status": status, "ended_at": event.recorded_at, "last_error": None, **why}
    if started is not None:
        began = started if isinstance(started, datetime) else datetime.fromisoformat(started)
        row["running_ms"] = max(0, (event.recorded_at - began) // timedelta(milliseconds=1))


# ---- queries ------------------------------------------------------------------------------------------------------

SortBy = Literal["created_at", "started_at", "running_time"]
SORTS: tuple[SortBy, ...] = get_args(SortBy)
SortOrder = Literal["asc", "desc"]
_SORT_COLUMNS = {"created_at": "created_at", "started_at": "started_at", "running_time": "running_ms"}


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task as people see it."""

    task_id: UUID
    video_id: UUID
    task_type: str
    profile: str
    config: dict[str, Any]
    """In lists, one of more than 16 KiB is `{"left_out_bytes": its size}`; the task itself has it whole."""
    config_hash: str
    language: str | None
    priority: Priority
    status: TaskStatus
    created_at: datetime
    requested_at: datetime
    """Of the newest request: the first, a retry or a requeue."""
    started_at: datetime | None
    """Of the newest attempt."""
    ended_at: datetime | None
    running_ms: int | None
    """How long the newest attempt took; None until it has ended."""
    attempts: int
    run_id: UUID | None
    """The newest attempt's; of a completed task the run whose results count."""
    run_ids: list[UUID]
    """All attempts', oldest first."""
    is_reused: bool = False
    """Completed without work: `run_id` is an earlier task's run with the same input, config, producer and weights."""
    worker: str | None
    artifact_count: int | None
    code: str | None
    """Why it did not complete; stable, upper snake case."""
    error: str | None
    remedy: str | None
    """What a person can do about it."""
    retryable: bool | None
    last_error: str | None
    """Code and words of the error that the attempt before ended in, while the task is still open."""
    next_try_at: datetime | None
    """While it waits after such an error: when it is tried again, not before."""
    position: int
    progress: Progress | None = None
    """While it runs, as its worker told last; None when nothing was told lately."""
    cursor: str = ""
    """To go on after this task in the same order; empty outside of lists."""


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some tasks."""

    tasks: list[TaskView]
    total: int
    """All tasks that fit the filters."""
    has_more: bool


class _Place(msgspec.Struct, frozen=True, array_like=True):
    at: datetime | int | None
    position: int


_FIELDS = tuple(name for name in TaskView.__struct_fields__ if name not in ("cursor", "is_reused", "progress"))
_COLUMNS = ", ".join(_FIELDS)
_LISTED = ", ".join(short_config("config") if name == "config" else name for name in _FIELDS)
MOST_OF_VIDEO = 500
"""Tasks of one video that are shown beside it."""
_OF_KNOWN_VIDEO = "video_id NOT IN (SELECT video_id FROM tasks_deleted)"
"""A deleted video's tasks are hidden at once, also those that have not ended yet."""


async def list_tasks(
    connection: psycopg.AsyncConnection,
    *,
    tenant_id: str,
    status: TaskStatus | None = None,
    task_type: str | None = None,
    video_id: UUID | None = None,
    sort_by: SortBy = "created_at",
    sort_order: SortOrder = "desc",
    limit: int = 10,
    offset: int = 0,
    cursor: str | None = None,
) -> TaskPage:
    """Tasks and their number. Tasks without a value to sort by come last in both orders; ties go by request.

    Raises:
        InvalidParameter: names `cursor`.
        VideoNotFound: no such video for this tenant.
    """
    column, values = _SORT_COLUMNS[sort_by], {"tenant_id": tenant_id, "limit": limit + 1, "offset": offset}
    kind, is_ascending = f"tasks.{sort_by}.{sort_order}", sort_order == "asc"
    where = ["tenant_id = %(tenant_id)s", _OF_KNOWN_VIDEO]
    for name, value in (("status", status), ("task_type", task_type), ("video_id", video_id)):
        if value is not None:
            where.append(f"{name} = %({name})s")
            values[name] = value
    matches, after = " AND ".join(where), "true"
    if cursor is not None:
        place = decode(kind, cursor, _Place)
        sign = ">" if is_ascending else "<"
        values |= {"at": place.at, "position": place.position}
        if place.at is None:
            after = f"{column} IS NULL AND position {sign} %(position)s"
        else:
            after = f"(({column}, position) {sign} (%(at)s, %(position)s) OR {column} IS NULL)"
            if column == "created_at":
                after = f"({column}, position) {sign} (%(at)s, %(position)s)"
    direction = "ASC" if is_ascending else "DESC"
    nulls = "" if column == "created_at" else "NULLS LAST"
    rows = await connection.execute(
        f"SELECT total.n, {', '.join(f'page.{name}' for name in _FIELDS)}"
        f" FROM (SELECT count(*) AS n FROM tasks WHERE {matches}) AS total"
        f" LEFT JOIN (SELECT {_LISTED} FROM tasks WHERE {matches} AND {after}"
        f" ORDER BY {column} {direction} {nulls}, position {direction}"
        " LIMIT %(limit)s OFFSET %(offset)s) AS page ON true"
        f" ORDER BY page.{column} {direction} {nulls}, page.position {direction}",
        values,
    )
    found = await rows.fetchall()
    tasks = [_view(row[1:]) for row in found if row[1] is not None]
    if not tasks and video_id is not None:
        await require_video(connection, tenant_id=tenant_id, video_id=video_id)
    shown = [
        msgspec.structs.replace(task, cursor=encode(kind, _Place(getattr(task, column), task.position)))
        for task in tasks[:limit]
    ]
    return TaskPage(tasks=shown, total=found[0][0], has_more=len(tasks) > limit)


async def get_task(
    connection: psycopg.AsyncConnection, *, tenant_id: str, task_id: UUID
) -> tuple[TaskView, int | None]:
    """One task, and how many pending ones of its type are before it; None unless it is pending.

    Raises:
        TaskNotFound: no such task for this tenant.
    """
    rows = await connection.execute(
        f"""SELECT CASE WHEN status = 'pending' THEN (
            SELECT count(*) FROM tasks AS other WHERE other.status = 'pending' AND other.task_type = mine.task_type
                AND (array_position({_PRIORITIES}, other.priority), other.requested_at, other.position)
                    < (array_position({_PRIORITIES}, mine.priority), mine.requested_at, mine.position)
            ) END, {_COLUMNS}
        FROM tasks AS mine WHERE tenant_id = %s AND task_id = %s AND {_OF_KNOWN_VIDEO}""",
        (tenant_id, task_id),
    )
    row = await rows.fetchone()
    if row is None:
        raise TaskNotFound(task_id)
    return _view(row[1:]), row[0]


_PRIORITIES = "ARRAY['hi', 'std', 'bulk']"


async def tasks_of_video(
    connection: psycopg.AsyncConnection, *, tenant_id: str, video_id: UUID
) -> list[TaskView]:
    """The newest tasks of a video, oldest first."""
    rows = await connection.execute(
        f"SELECT {_LISTED} FROM tasks WHERE tenant_id = %s AND video_id = %s"
        " ORDER BY created_at DESC, position DESC LIMIT %s",
        (tenant_id, video_id, MOST_OF_VIDEO),
    )
    return [_view(row) for row in reversed(await rows.fetchall())]


def _view(row: tuple[Any, ...]) -> TaskView:
    task = dict(zip(_FIELDS, row, strict=True))
    is_reused = task["status"] == "completed" and task["run_id"] not in task["run_ids"]
    if task["status"] == "parked":
        task["remedy"] = PARKED
    return TaskView(**task, is_reused=is_reused)
