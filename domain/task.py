"""Stream task: one piece of work on one video, from request to its end.

pending → running → completed | failed | unavailable | parked, and cancelled from any state that has not ended. An
attempt that may succeed next time goes from running back to pending, with its error and the time of the next one. Late
results of the newest attempt still complete a task that was parked or called unavailable meanwhile.
`failed`, `cancelled`, `parked` and `unavailable` may be retried; a completed task is never undone: asking again makes a
new one.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, assert_never
from uuid import UUID, uuid5

import msgspec

from domain.errors import InvalidState, TaskActive, TaskNotFound
from domain.event import Command, DomainEvent, head

TaskStatus = Literal["pending", "running", "completed", "failed", "unavailable", "cancelled", "parked"]
STATUSES: tuple[TaskStatus, ...] = (
    "pending",
    "running",
    "completed",
    "failed",
    "unavailable",
    "cancelled",
    "parked",
)
Priority = Literal["hi", "std", "bulk"]
PRIORITIES: tuple[Priority, ...] = ("hi", "std", "bulk")
IMPORT = "import"
"""Task type of artifacts that another tool made; no worker ever sees it."""
VIDEO_DELETED = "the video was deleted"
"""Reason of a cancellation that nobody asked for."""


def task_id_of(video_id: UUID, task_type: str, profile: str, config_hash: str, request_key: str) -> UUID:
    """The id of a task: the same wish has the same id, so that asking twice is asking once."""
    return uuid5(video_id, f"task:{task_type}:{profile}:{config_hash}:{request_key}")


def run_id_of(task_id: UUID, request_version: int, delivery: int) -> UUID:
    """The id of one attempt.

    `request_version` is the version of the task event that asked for it (requested, retried, requeued) and
    `delivery` the broker's count of deliveries, from 1: two workers never share a run (ADR-0006).
    """
    return uuid5(task_id, f"run:{request_version}.{delivery}")


# ---- events ------------------------------------------------------------------------------------------------------


class TaskEvent(DomainEvent, frozen=True, kw_only=True):
    """Base of the stream's events."""


class TaskRequested(TaskEvent, frozen=True, kw_only=True):
    """Work was asked for."""

    TOPIC = "task.requested"
    video_id: UUID
    task_type: str
    profile: str
    config: dict[str, Any]
    """The full parameters, profile included: a retry runs exactly what was asked for."""
    config_hash: str
    language: str | None = None
    priority: Priority = "std"
    force: bool = False
    """Do it even if the same was done before."""


class TaskStarted(TaskEvent, frozen=True, kw_only=True):
    """A worker began an attempt."""

    TOPIC = "task.started"
    run_id: UUID
    attempt: int
    """From 1."""
    request_version: int
    delivery: int
    worker: str


class TaskCompleted(TaskEvent, frozen=True, kw_only=True):
    """The attempt's results are all stored; or those of an earlier task's run are what this one would find (ADR-0021)."""

    TOPIC = "task.completed"
    run_id: UUID
    """The run whose results these are."""
    artifact_count: int
    is_reused: bool = False
    """The run belongs to an earlier task: nothing was computed."""


class TaskPostponed(TaskEvent, frozen=True, kw_only=True):
    """The attempt ended in an error that may pass: there will be another one."""

    TOPIC = "task.postponed"
    run_id: UUID
    code: str
    error: str
    remedy: str
    next_try_at: datetime
    """Not before."""


class TaskFailed(TaskEvent, frozen=True, kw_only=True):
    """The work could not be done."""

    TOPIC = "task.failed"
    run_id: UUID | None
    code: str
    error: str
    retryable: bool
    remedy: str = ""
    is_repeated: bool = False
    """The same error came twice, so it will not pass; the broker still has the command for another attempt."""


class TaskUnavailable(TaskEvent, frozen=True, kw_only=True):
    """No worker here has what the work needs; it is asked for again when one has."""

    TOPIC = "task.unavailable"
    missing: str
    remedy: str


class TaskRetried(TaskEvent, frozen=True, kw_only=True):
    """Somebody, or a capability that appeared, asked for another attempt."""

    TOPIC = "task.retried"
    priority: Priority


class TaskRequeued(TaskEvent, frozen=True, kw_only=True):
    """The reconciler found the command missing from the broker and asked again."""

    TOPIC = "task.requeued"
    reason: str


class TaskCancelled(TaskEvent, frozen=True, kw_only=True):
    """Somebody called it off."""

    TOPIC = "task.cancelled"
    reason: str


class TaskParked(TaskEvent, frozen=True, kw_only=True):
    """It was delivered too often without an end; a person must look."""

    TOPIC = "task.parked"
    reason: str
    deliveries: int


EVENTS: tuple[type[TaskEvent], ...] = (
    TaskRequested,
    TaskStarted,
    TaskCompleted,
    TaskPostponed,
    TaskFailed,
    TaskUnavailable,
    TaskRetried,
    TaskRequeued,
    TaskCancelled,
    TaskParked,
)


# ---- commands ----------------------------------------------------------------------------------------------------


class RequestTask(Command, frozen=True, kw_only=True):
    """Ask for work; refused with TaskActive while the same is pending or running."""

    video_id: UUID
    task_type: str
    profile: str
    config: dict[str, Any]
    config_hash: str
    language: str | None = None
    priority: Priority = "std"
    force: bool = False


class StartTask(Command, frozen=True, kw_only=True):
    """A worker began attempt `run_id`."""

    run_id: UUID
    request_version: int
    delivery: int
    worker: str


class CompleteTask(Command, frozen=True, kw_only=True):
    """Attempt `run_id` is done."""

    run_id: UUID
    artifact_count: int


class ReuseRun(Command, frozen=True, kw_only=True):
    """Completed run `run_id` of an earlier task is what request `request_version` would give."""

    request_version: int
    run_id: UUID
    artifact_count: int


class FailTask(Command, frozen=True, kw_only=True):
    """Attempt `run_id` ended in an error."""

    run_id: UUID
    code: str
    error: str
    retryable: bool
    remedy: str = ""


class PostponeTask(Command, frozen=True, kw_only=True):
    """Attempt `run_id` ended in an error that may pass."""

    run_id: UUID
    code: str
    error: str
    remedy: str
    next_try_at: datetime
    is_unexplained: bool
    """Nobody knows whether it passes: the same error twice in a row, and the task has failed."""


class MarkUnavailable(Command, frozen=True, kw_only=True):
    """The worker that took it lacks what it needs. `request_version` is the command it answers."""

    request_version: int
    missing: str
    remedy: str


class RetryTask(Command, frozen=True, kw_only=True):
    """Ask for another attempt."""

    priority: Priority = "std"


class RequeueTask(Command, frozen=True, kw_only=True):
    """The broker lost the command that task version `request_version` made."""

    request_version: int
    reason: str


class CancelTask(Command, frozen=True, kw_only=True):
    """Call it off."""

    reason: str = "cancelled by request"


class ParkTask(Command, frozen=True, kw_only=True):
    """The broker gave up on the command that task version `request_version` made."""

    request_version: int
    reason: str
    deliveries: int


TaskCommand = (
    RequestTask
    | StartTask
    | CompleteTask
    | ReuseRun
    | FailTask
    | PostponeTask
    | MarkUnavailable
    | RetryTask
    | RequeueTask
    | CancelTask
    | ParkTask
)


# ---- state -------------------------------------------------------------------------------------------------------


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules need to know of a task."""

    version: int
    tenant_id: str
    video_id: UUID
    task_type: str
    status: TaskStatus
    priority: Priority
    request_version: int
    """Version of the newest event that asked for an attempt."""
    delivery: int = 0
    """Broker delivery of the newest attempt of that request."""
    run_id: UUID | None = None
    """The newest attempt, of whose results alone are taken; of a completed task the run that counts."""
    attempts: int = 0
    last_fault: tuple[str, str] | None = None
    """Code and gist of the error that the newest attempt ended in, when it may pass."""


_VARYING = re.compile(r"0x[0-9a-f]+|[0-9]+", re.IGNORECASE)


def gist(error: str) -> str:
    """The error without what differs from one time to the next: addresses, counts, sizes."""
    return _VARYING.sub("#", error)


def evolve(state: Task | None, event: TaskEvent) -> Task:
    """The state after `event`."""
    version = event.originator_version
    if isinstance(event, TaskRequested):
        return Task(
            version=version,
            tenant_id=event.tenant_id,
            video_id=event.video_id,
            task_type=event.task_type,
            status="pending",
            priority=event.priority,
            request_version=version,
        )
    if state is None:
        raise TaskNotFound(event.originator_id)
    change = msgspec.structs.replace
    state = change(state, version=version)
    match event:
        case TaskStarted():
            return change(
                state, status="running", run_id=event.run_id, attempts=event.attempt, delivery=event.delivery
            )
        case TaskCompleted():
            return change(state, status="completed", run_id=event.run_id)
        case TaskPostponed():
            return change(state, status="pending", last_fault=(event.code, gist(event.error)))
        case TaskFailed():
            return change(state, status="failed")
        case TaskUnavailable():
            return change(state, status="unavailable")
        case TaskRetried():
            return change(
                state,
                status="pending",
                request_version=version,
                delivery=0,
                priority=event.priority,
                last_fault=None,
            )
        case TaskRequeued():
            return change(state, status="pending", request_version=version, delivery=0)
        case TaskCancelled():
            return change(state, status="cancelled")
        case TaskParked():
            return change(state, status="parked")
        case _:
            raise TypeError(event)


def decide(state: Task | None, command: TaskCommand) -> Sequence[TaskEvent]:
    """The events that `command` causes; empty when it is old news."""
    if isinstance(command, RequestTask):
        if state is not None:
            raise (
                TaskActive(command.stream_id)
                if state.status in ("pending", "running")
                else InvalidState(f"task {command.stream_id} has already {state.status}")
            )
        return [
            TaskRequested(
                **head(command, 1),
                video_id=command.video_id,
                task_type=command.task_type,
                profile=command.profile,
                config=command.config,
                config_hash=command.config_hash,
                language=command.language,
                priority=command.priority,
                force=command.force,
            )
        ]
    if state is None or state.tenant_id != command.meta.tenant_id:
        raise TaskNotFound(command.stream_id)
    base = head(command, state.version + 1)
    is_open = state.status in ("pending", "running")
    match command:
        case StartTask():
            is_newest = command.request_version == state.request_version and command.delivery > state.delivery
            if not is_open or not is_newest:
                return []
            return [
                TaskStarted(
                    **base,
                    run_id=command.run_id,
                    attempt=state.attempts + 1,
                    request_version=command.request_version,
                    delivery=command.delivery,
                    worker=command.worker,
                )
            ]
        case CompleteTask():
            # Parked or unavailable was said of a later delivery while the newest attempt was still at it.
            if state.status not in ("running", "parked", "unavailable") or state.run_id != command.run_id:
                return []
            return [TaskCompleted(**base, run_id=command.run_id, artifact_count=command.artifact_count)]
        case ReuseRun():
            if not is_open or command.request_version != state.request_version:
                return []
            return [
                TaskCompleted(
                    **base, run_id=command.run_id, artifact_count=command.artifact_count, is_reused=True
                )
            ]
        case FailTask():
            if state.status != "running" or state.run_id != command.run_id:
                return []
            return [
                TaskFailed(
                    **base,
                    run_id=command.run_id,
                    code=command.code,
                    error=command.error,
                    retryable=command.retryable,
                    remedy=command.remedy,
                )
            ]
        case PostponeTask():
            if state.status != "running" or state.run_id != command.run_id:
                return []
            fault: dict[str, Any] = {
                "run_id": command.run_id,
                "code": command.code,
                "error": command.error,
                "remedy": command.remedy,
            }
            if command.is_unexplained and state.last_fault == (command.code, gist(command.error)):
                return [TaskFailed(**base, **fault, retryable=False, is_repeated=True)]
            return [TaskPostponed(**base, **fault, next_try_at=command.next_try_at)]
        case MarkUnavailable():
            if not is_open or command.request_version != state.request_version:
                return []
            return [TaskUnavailable(**base, missing=command.missing, remedy=command.remedy)]
        case RetryTask():
            if state.status not in ("failed", "cancelled", "parked", "unavailable"):
                raise InvalidState(
                    f"task {command.stream_id} is {state.status}: only an ended, uncompleted task is retried"
                )
            return [TaskRetried(**base, priority=command.priority)]
        case RequeueTask():
            if not is_open or command.request_version != state.request_version:
                return []
            return [TaskRequeued(**base, reason=command.reason)]
        case CancelTask():
            if not is_open:
                raise InvalidState(
                    f"task {command.stream_id} is {state.status}: only pending or running is cancelled"
                )
            return [TaskCancelled(**base, reason=command.reason)]
        case ParkTask():
            if not is_open or command.request_version != state.request_version:
                return []
            return [TaskParked(**base, reason=command.reason, deliveries=command.deliveries)]
        case _:
            assert_never(command)
