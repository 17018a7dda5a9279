"""What follows from what: events become commands. Every reaction may run again; the second time changes nothing."""

from collections.abc import Collection, Container, Iterable, Sequence
from hashlib import sha256
from typing import Final
from uuid import UUID

import msgspec
import structlog

from application.handle import decide, present, store, wish
from application.lagging import since, tasks_of
from application.ports import Clock, EventLog, LogItem, Recorded, TaskIndex, VideoIndex
from application.same_content import SameContent
from application.whereabouts import Whereabouts, file_at
from domain import capability, content, run, selection, task, video
from domain.artifacts import LATEST
from domain.content import content_id_of
from domain.errors import MediaMissing
from domain.event import DomainEvent, Meta
from domain.pipeline import BY_NAME, METADATA, config_hash, full_config
from domain.plan import Plans
from domain.task import Priority, task_id_of
from domain.video import Video, VideoFingerprinted, VideoRegistered

logger = structlog.get_logger()

FOLLOWER: Final = "policies"
USUAL: Final = Plans()
SCANNER: Final = "system:scan"
"""Actor of videos that a scan found: their tasks wait behind those of people."""
TOPICS: Final = (
    video.VideoRegistered.TOPIC,
    video.VideoChanged.TOPIC,
    video.VideoFingerprinted.TOPIC,
    video.VideoProbed.TOPIC,
    video.VideoPromoted.TOPIC,
    video.VideoRelocated.TOPIC,
    video.VideoMissing.TOPIC,
    video.VideoRestored.TOPIC,
    video.VideoDeleted.TOPIC,
    content.ContentClaimed.TOPIC,
    task.TaskCompleted.TOPIC,
    task.TaskFailed.TOPIC,
    task.TaskUnavailable.TOPIC,
    task.TaskCancelled.TOPIC,
    task.TaskParked.TOPIC,
    capability.CapabilityAnnounced.TOPIC,
)


def react(
    log: EventLog,
    recorded: Recorded,
    *,
    clock: Clock,
    tasks: TaskIndex,
    videos: VideoIndex,
    roots: Sequence[str] = (),
    plans: Plans = USUAL,
) -> None:
    """Do what follows from one event. Decides on the present state, so an old event is answered as of today.

    `roots`: the folders that media may lie in. `plans`: what is done with new videos.

    Raises:
        ServiceUnavailable, ConcurrencyConflict: do it again.
    """
    event = recorded.item
    if not isinstance(event, DomainEvent):
        return
    meta = Meta(
        at=clock(),
        tenant_id=event.tenant_id,
        actor=f"system:{FOLLOWER}",
        correlation_id=event.correlation_id,
        causation_id=f"g{recorded.position}",
    )
    same = SameContent(log, meta, Whereabouts(log, videos, roots), tasks)
    match event:
        case video.VideoRegistered():
            _ask(log, meta, plans, event.originator_id, [METADATA])
        case video.VideoChanged():
            _let_go(log, meta, event)
            _ask(log, meta, plans, event.originator_id, [METADATA])
        case video.VideoFingerprinted():
            _let_go(log, meta, event)
            same.claim(event)
        case video.VideoProbed() | video.VideoPromoted():
            _ask(log, meta, plans, event.originator_id, [name for name in BY_NAME if name != METADATA])
        case video.VideoRestored() | video.VideoRelocated():
            _retry_missing(log, meta, event.originator_id)
        case video.VideoMissing():
            same.take_the_place_of_a_copy(event.originator_id)
        case video.VideoDeleted():
            _let_go(log, meta, event)
            _clear_away(log, tasks, meta, event.originator_id)
        case content.ContentClaimed():
            same.promote(event)
        case task.TaskFailed() if event.code == MediaMissing.code:
            _mark_missing(log, meta, event.originator_id)
            _ask_dependants(log, meta, plans, event.originator_id)
        case task.TaskCancelled():
            _end_run(log, meta, event.originator_id)
            _ask_dependants(log, meta, plans, event.originator_id)
        case task.TaskCompleted() | task.TaskFailed() | task.TaskUnavailable() | task.TaskParked():
            _ask_dependants(log, meta, plans, event.originator_id)
        case capability.CapabilityAnnounced():
            _free(log, tasks, recorded.position, event, meta)
        case _:
            pass


# ---- the pipeline ------------------------------------------------------------------------------------------------


def pipeline_task(video_id: UUID, task_type: str, content_version: int) -> UUID:
    """The id of the task that the pipeline asks for on this content.

    It is named after the usual profile, whatever the pipeline file says: when that changes, what was asked for before is
    still found, and waited for.
    """
    profile, config = full_config(task_type, None, None)
    return task_id_of(
        video_id, task_type, profile, config_hash(task_type, config, None), f"content-{content_version}"
    )


def _inputs(video_id: UUID, task_type: str, content_version: int) -> dict[str, UUID]:
    """The pipeline's tasks on this content whose results the task type works on, by task type."""
    return {
        name: pipeline_task(video_id, name, content_version)
        for name in BY_NAME[task_type].after
        if name != METADATA
    }


def present_task(log: EventLog, video_id: UUID, task_type: str, content_version: int) -> UUID:
    """The id of the task that the pipeline would ask for now.

    What works on the results of others is named after the runs that completed them: as long as these stay, it is the
    same task however often it is asked for; one that completes late is worked on by a task of its own.
    """
    runs = []
    for task_id in _inputs(video_id, task_type, content_version).values():
        state: task.Task | None = present(log, task, task_id)
        if state is not None and state.status == "completed":
            runs.append(str(state.run_id))
    if not runs:
        return pipeline_task(video_id, task_type, content_version)
    profile, config = full_config(task_type, None, None)
    digest = sha256(" ".join(sorted(runs)).encode()).hexdigest()[:16]
    key = f"content-{content_version}-after-{digest}"
    return task_id_of(video_id, task_type, profile, config_hash(task_type, config, None), key)


def _is_due(log: EventLog, video_id: UUID, task_type: str, content_version: int, wanted: Container[str]) -> bool:
    """Whether all that it works on has ended, of what the video's pipeline has."""
    for name, task_id in _inputs(video_id, task_type, content_version).items():
        if name in wanted:
            state: task.Task | None = present(log, task, task_id)
            if state is None or state.status in ("pending", "running"):
                return False
    return True


def _ask_dependants(log: EventLog, meta: Meta, plans: Plans, task_id: UUID) -> None:
    """Ask for what works on the results of a task that has ended, once all it works on has."""
    ended: task.Task | None = present(log, task, task_id)
    if ended is None:
        return
    dependants = [
        name for name, kind in BY_NAME.items() if ended.task_type != METADATA and ended.task_type in kind.after
    ]
    if not dependants:
        return
    state: Video | None = present(log, video, ended.video_id)
    if state is not None and task_id == pipeline_task(ended.video_id, ended.task_type, state.content):
        _ask(log, meta, plans, ended.video_id, dependants)


def _ask(log: EventLog, meta: Meta, plans: Plans, video_id: UUID, task_types: Iterable[str]) -> None:
    """Ask for those of the task types that the video's plan has, on its present content."""
    state: Video | None = present(log, video, video_id)
    if state is None or state.is_deleted or state.duplicate_of is not None:
        return
    plan = plans.of(state.filename, state.collection, state.pipeline)
    # Everything stands on the metadata, so it is asked for whenever anything is.
    wanted = {*plan.run, METADATA} if plan.run else set()
    for name in task_types:
        if name not in wanted or (name != METADATA and state.facts is None):
            continue
        if not _is_due(log, video_id, name, state.content, wanted):
            continue
        step = plan.step(name)
        profile, config = full_config(name, step.profile, step.config)
        wish(
            log,
            task.RequestTask(
                stream_id=present_task(log, video_id, name, state.content),
                meta=meta,
                video_id=video_id,
                task_type=name,
                profile=profile,
                config=config,
                config_hash=config_hash(name, config, step.language),
                language=step.language,
                priority=_priority(log.load(video_id)),
            ),
        )


def _priority(events: Sequence[DomainEvent]) -> Priority:
    registrations = [event for event in events if isinstance(event, VideoRegistered)]
    return "bulk" if registrations[-1].actor == SCANNER else "std"


def _let_go(log: EventLog, meta: Meta, event: video.VideoEvent) -> None:
    """Give up every content that the video no longer has, and call off the pipeline's tasks on older ones."""
    events = log.load(event.originator_id)
    state: Video | None = present(log, video, event.originator_id)
    if state is None:
        return
    for past in events:
        if isinstance(past, VideoFingerprinted) and (state.is_deleted or past.blake3 != state.blake3):
            stream = content_id_of(event.tenant_id, past.blake3)
            wish(log, content.ReleaseContent(stream_id=stream, meta=meta, video_id=event.originator_id))
        is_older = (
            isinstance(past, VideoRegistered | video.VideoChanged) and past.originator_version < state.content
        )
        if is_older:
            for name in BY_NAME:
                old = present_task(log, event.originator_id, name, past.originator_version)
                wish(log, task.CancelTask(stream_id=old, meta=meta, reason="the file has changed"))


def _clear_away(log: EventLog, tasks: TaskIndex, meta: Meta, video_id: UUID) -> None:
    """Call off every open task of a deleted video, whoever asked for it, and forget whose results counted.

    What is asked for later still is called off when it would be dispatched.
    """
    state: Video | None = present(log, video, video_id)
    if state is None or not state.is_deleted:
        return
    for task_id in tasks_of(log, tasks, video_id):
        wish(log, task.CancelTask(stream_id=task_id, meta=meta, reason=task.VIDEO_DELETED))
    for artifact_type in LATEST:
        stream = selection.selection_id_of(meta.tenant_id, video_id, artifact_type)
        wish(
            log,
            selection.ClearSelection(
                stream_id=stream, meta=meta, video_id=video_id, artifact_type=artifact_type
            ),
        )


# ---- files that go and come --------------------------------------------------------------------------------------


def _mark_missing(log: EventLog, meta: Meta, task_id: UUID) -> None:
    state: task.Task | None = present(log, task, task_id)
    if state is None or state.status != "failed":
        return
    asked = [event for event in log.load(task_id) if isinstance(event, task.TaskRequested | task.TaskRetried)]
    moves = [event for event in log.load(state.video_id) if isinstance(event, video.VideoRelocated)]
    if moves and moves[-1].recorded_at >= asked[-1].recorded_at:
        # The worker was sent to the place before.
        _retry_missing(log, meta, state.video_id)
    elif (known := present(log, video, state.video_id)) is None or file_at(known.source) is None:
        # A file that is there, but that the worker may not open, is not missing: the task's error says why.
        wish(log, video.MarkMissing(stream_id=state.video_id, meta=meta))


def _retry_missing(log: EventLog, meta: Meta, video_id: UUID) -> None:
    """Ask again for the pipeline's tasks that failed because the file was not there."""
    state: Video | None = present(log, video, video_id)
    if state is None or state.is_deleted or state.is_missing:
        return
    for name in BY_NAME:
        task_id = present_task(log, video_id, name, state.content)
        events = log.load(task_id)
        if events and isinstance(last := events[-1], task.TaskFailed) and last.code == MediaMissing.code:
            wish(log, task.RetryTask(stream_id=task_id, meta=meta, priority=_priority(log.load(video_id))))


# ---- tasks -------------------------------------------------------------------------------------------------------


def _end_run(log: EventLog, meta: Meta, task_id: UUID) -> None:
    """Close the run of a cancelled task: its worker may be gone and never say so."""
    state: task.Task | None = present(log, task, task_id)
    if state is not None and state.status == "cancelled" and state.run_id is not None:
        wish(
            log,
            run.FailRun(stream_id=state.run_id, meta=meta, code="CANCELLED", error="the task was cancelled"),
        )


def _free(
    log: EventLog, tasks: TaskIndex, until: int, event: capability.CapabilityAnnounced, meta: Meta
) -> None:
    """Ask again for every task that ended unavailable before the announcement and that its worker takes (ADR-0009)."""
    position, known = tasks.unavailable(event.task_types)
    found = dict.fromkeys(known)
    later: set[tuple[UUID, int]] = set()
    for record in since(log, min(position, until), [task.TaskUnavailable.TOPIC]):
        if not isinstance(record.item, task.TaskUnavailable):
            continue
        if record.position <= until:
            found[record.item.originator_id] = None
        else:
            later.add((record.item.originator_id, record.item.originator_version))
    for task_id in found:
        _free_one(log, task_id, event.task_types, later, meta)


def _free_one(
    log: EventLog,
    task_id: UUID,
    task_types: Sequence[str],
    later: Collection[tuple[UUID, int]],
    meta: Meta,
) -> None:
    def retried() -> Sequence[LogItem]:
        state: task.Task | None = present(log, task, task_id)
        if state is None or state.status != "unavailable" or state.task_type not in task_types:
            return []
        # A later answer than this announcement is not undone by it.
        if (task_id, state.version) in later:
            return []
        own = msgspec.structs.replace(meta, tenant_id=state.tenant_id)
        return decide(log, task.RetryTask(stream_id=task_id, meta=own, priority=state.priority))

    store(log, retried)
