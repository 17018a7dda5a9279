"""Asking for work on a video: once at a time for the same wish, as often as wanted after it ended."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from application.handle import decide, store
from application.policies import pipeline_task, present_task
from application.ports import EventLog, LogItem
from domain import task, video
from domain.errors import TaskActive, VideoNotFound
from domain.event import Meta
from domain.pipeline import config_hash, full_config
from domain.task import Priority, TaskEvent, task_id_of


class Asked(msgspec.Struct, frozen=True):
    """The task that a request made, and the position to read it at."""

    task_id: UUID
    position: int


def request_task(
    log: EventLog,
    meta: Meta,
    video_id: UUID,
    task_type: str,
    *,
    profile: str | None = None,
    language: str | None = None,
    config: Mapping[str, Any] | None = None,
    priority: Priority = "std",
    force: bool = False,
) -> Asked:
    """Ask for work; unless `force`, the worker looks first whether the same was done before (ADR-0021).

    Asked again under the correlation id of the request that made the open task, the answer is that task.

    Raises:
        InvalidParameter: unknown task type or profile, or a config that cannot be.
        VideoNotFound: not there, deleted, or another tenant's.
        TaskActive: the same type, profile, language and config is pending or running.
    """
    chosen, full = full_config(task_type, profile, config)
    hashed = config_hash(task_type, full, language)
    asked = video_id

    def items() -> Sequence[LogItem]:
        nonlocal asked
        content = video_of(log, meta, video_id).content
        # What the pipeline asked for counts too while it is open; once it has ended, requests have numbers of their own.
        for open_one in (
            pipeline_task(video_id, task_type, content),
            present_task(log, video_id, task_type, content),
        ):
            _is_made_by(log, meta, open_one, (chosen, hashed))
        number = 0
        asked = task_id_of(video_id, task_type, chosen, hashed, str(number))
        while (made := _is_made_by(log, meta, asked, (chosen, hashed))) is not None:
            if made:
                return []
            number += 1
            asked = task_id_of(video_id, task_type, chosen, hashed, str(number))
        return decide(
            log,
            task.RequestTask(
                stream_id=asked,
                meta=meta,
                video_id=video_id,
                task_type=task_type,
                profile=chosen,
                config=full,
                config_hash=hashed,
                language=language,
                priority=priority,
                force=force,
            ),
        )

    position = store(log, items)
    return Asked(task_id=asked, position=position)


def video_of(log: EventLog, meta: Meta, video_id: UUID) -> video.Video:
    """The present state of a video of the tenant; raises VideoNotFound when it is not there or was deleted."""
    state: video.Video | None = None
    for event in log.load(video_id):
        if not isinstance(event, video.VideoEvent):
            raise VideoNotFound(video_id)
        state = video.evolve(state, event)
    if state is None or state.is_deleted or state.tenant_id != meta.tenant_id:
        raise VideoNotFound(video_id)
    return state


def _is_made_by(log: EventLog, meta: Meta, task_id: UUID, wish: tuple[str, str]) -> bool | None:
    """None: no such task, or one of another profile or config hash. True: open, and made by this very request.
    False: ended, or no task. Open otherwise: TaskActive.
    """
    history = log.load(task_id)
    events = [event for event in history if isinstance(event, TaskEvent)]
    if len(events) < len(history):
        return False  # the id is taken by something else
    first = events[0] if events else None
    if not isinstance(first, task.TaskRequested) or (first.profile, first.config_hash) != wish:
        return None
    state: task.Task | None = None
    for event in events:
        state = task.evolve(state, event)
    if state is None or state.status not in ("pending", "running"):
        return False
    if first.correlation_id == meta.correlation_id:
        return True
    raise TaskActive(task_id)
