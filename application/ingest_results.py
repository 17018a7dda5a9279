"""What workers say, written into the log. Idempotent: any message may come twice, late, or before its predecessor."""

from collections.abc import Sequence
from uuid import UUID

import structlog

from application import messages
from application.handle import decide, handle, present, store
from application.ports import EventLog, LogItem
from domain import capability, run, task, video
from domain.artifacts import check_batch
from domain.errors import IntegrityConflict, InvalidArtifact, InvalidMessage, OutOfOrder, SchemaNotFound
from domain.event import Command, Meta
from domain.run import Run, artifacts_stream_of
from domain.task import Task

logger = structlog.get_logger()


def apply_result(log: EventLog, result: messages.ResultMessage) -> None:
    """Store what one result says; nothing when it was stored before or comes from an attempt that no longer counts.

    Raises:
        OutOfOrder: something that was sent before it has not arrived yet; bring it again.
        ConcurrencyConflict, ServiceUnavailable: bring it again.
        InvalidMessage: it speaks of a task or run that is not there, or that is another tenant's or video's.
    """
    match result:
        case messages.Announced():
            _announced(log, result)
        case messages.Unavailable():
            store(log, lambda: _unavailable(log, result))
        case messages.Started():
            store(log, lambda: _started(log, result))
        case messages.Produced():
            _produced(log, result)
        case messages.Completed():
            store(log, lambda: _completed(log, result))
        case messages.Reused():
            store(log, lambda: _reused(log, result))
        case messages.Failed():
            fault = messages.Fault(code=result.code, error=result.error, remedy=result.remedy)
            store(log, lambda: _failed(log, result, fault, retryable=result.retryable))
        case messages.Postponed():
            store(log, lambda: _postponed(log, result))


def _announced(log: EventLog, result: messages.Announced) -> None:
    handle(
        log,
        capability.AnnounceCapability(
            stream_id=capability.capability_id_of(result.family),
            meta=Meta(at=result.at, actor=f"worker:{result.worker}", correlation_id=result.correlation_id),
            family=result.family,
            worker=result.worker,
            task_types=result.task_types,
            digest=result.digest,
        ),
    )


def _started(log: EventLog, result: messages.Started) -> Sequence[LogItem]:
    asked = _task(log, result)
    if _run_of(log, result) is not None:
        return []
    meta = _meta(result)
    start = task.StartTask(
        stream_id=result.task_id,
        meta=meta,
        run_id=result.run_id,
        request_version=result.request_version,
        delivery=result.delivery,
        worker=result.worker,
    )
    commands: list[Command] = [
        run.StartRun(
            stream_id=result.run_id,
            meta=meta,
            task_id=result.task_id,
            video_id=asked.video_id,
            task_type=asked.task_type,
            producer=result.producer,
            producer_version=result.producer_version,
            profile=result.profile,
            config=result.config,
            config_hash=result.config_hash,
            input_hash=result.input_hash,
            attempt=asked.attempts + 1,
            worker=result.worker,
            device=result.device,
            created_at=result.at,
            artifact_types=result.artifact_types,
            language=result.language,
            model=result.model,
        )
    ]
    if task.decide(asked, start):
        commands.append(start)
        before = asked.run_id
        if before is not None and (old := _run(log, before)) is not None and not old.has_ended:
            commands.append(_give_up(before, meta, "SUPERSEDED", f"attempt {asked.attempts + 1} took over"))
    else:
        commands.append(_not_wanted(result, asked))
    return decide(log, *commands)


def _produced(log: EventLog, result: messages.Produced) -> None:
    found = _expected_run(log, result)
    if found.has_ended:
        return
    try:
        _check(result, found)
        log.append([result.batch])
    except (InvalidArtifact, SchemaNotFound, IntegrityConflict) as error:
        # `error` is gone when store would decide again.
        fault = messages.Fault(code=error.code, error=str(error), remedy=error.remedy)
        logger.error(  # noqa: TRY400
            "result.invalid", run_id=str(result.run_id), part=result.part, code=fault.code, error=fault.error
        )
        store(log, lambda: _failed(log, result, fault, retryable=False))


def _check(result: messages.Produced, found: Run) -> None:
    head = result.batch.head
    told = (head.run_id, head.video_id, head.tenant_id)
    if told != (result.run_id, found.video_id, found.tenant_id):
        raise InvalidArtifact("the batch names another run, video or tenant than its message")
    if head.artifact_type not in found.artifact_types:
        raise InvalidArtifact(f"the run never said that it looks for {head.artifact_type}")
    if result.batch.first_version < 1:
        raise InvalidArtifact(f"the batch starts at version {result.batch.first_version}")
    check_batch(result.batch)


def _completed(log: EventLog, result: messages.Completed) -> Sequence[LogItem]:
    found = _expected_run(log, result)
    if found.has_ended:
        return []
    if strange := set(result.counts) - set(found.artifact_types):
        why = f"the run never said that it looks for {', '.join(sorted(strange))}"
        return _failed(log, result, messages.Fault(code=InvalidArtifact.code, error=why), retryable=False)
    count = sum(result.counts.values())
    stored = log.version(artifacts_stream_of(result.run_id))
    if stored < count:
        raise OutOfOrder(artifacts_stream_of(result.run_id), stored, count + 1)
    if stored > count:
        why = f"the worker says it found {count} artifacts but sent {stored}"
        return _failed(log, result, messages.Fault(code=InvalidArtifact.code, error=why), retryable=False)
    asked = _task(log, result)
    meta = _meta(result)
    done: task.CompleteTask | task.FailTask = task.CompleteTask(
        stream_id=result.task_id, meta=meta, run_id=result.run_id, artifact_count=count
    )
    if result.flaw is not None:
        done = _fail(result, result.flaw, retryable=False)
    if not task.decide(asked, done):
        return decide(log, _not_wanted(result, asked))
    commands: list[Command] = [
        run.CompleteRun(
            stream_id=result.run_id,
            meta=meta,
            counts=result.counts,
            metrics=result.metrics,
            language=result.language,
        ),
        done,
    ]
    if result.blake3 is not None and result.size_bytes is not None:
        commands.append(
            video.RecordFingerprint(
                stream_id=asked.video_id, meta=meta, blake3=result.blake3, size_bytes=result.size_bytes
            )
        )
    if result.facts is not None:
        commands.append(video.RecordProbe(stream_id=asked.video_id, meta=meta, facts=result.facts))
    return decide(log, *commands)


def _reused(log: EventLog, result: messages.Reused) -> Sequence[LogItem]:
    asked, known = _task(log, result), _run(log, result.known)
    if known is None or known.counts is None or known.video_id != asked.video_id:
        logger.error("result.reuses_nothing", task_id=str(result.task_id), run_id=str(result.known))
        return []  # the reconciler finds the task with nobody at it, and asks again
    reuse = task.ReuseRun(
        stream_id=result.task_id,
        meta=_meta(result),
        request_version=result.request_version,
        run_id=result.known,
        artifact_count=sum(known.counts.values()),
    )
    return decide(log, reuse)


def _failed(
    log: EventLog, result: messages.Result, fault: messages.Fault, *, retryable: bool
) -> Sequence[LogItem]:
    return _ended(log, result, fault, _fail(result, fault, retryable=retryable))


def _fail(result: messages.Result, fault: messages.Fault, *, retryable: bool) -> task.FailTask:
    return task.FailTask(
        stream_id=result.task_id,
        meta=_meta(result),
        run_id=result.run_id,
        code=fault.code,
        error=fault.error,
        retryable=retryable,
        remedy=fault.remedy,
    )


def _postponed(log: EventLog, result: messages.Postponed) -> Sequence[LogItem]:
    fault = result.fault
    postpone = task.PostponeTask(
        stream_id=result.task_id,
        meta=_meta(result),
        run_id=result.run_id,
        code=fault.code,
        error=fault.error,
        remedy=fault.remedy,
        next_try_at=result.next_try_at,
        is_unexplained=result.is_unexplained,
    )
    return _ended(log, result, fault, postpone)


def _ended(
    log: EventLog, result: messages.Result, fault: messages.Fault, what_follows: task.TaskCommand
) -> Sequence[LogItem]:
    """The end of an attempt in an error, and what it means for the task."""
    found = _expected_run(log, result)
    asked = _task(log, result)
    if found.has_ended:
        return []
    if not task.decide(asked, what_follows):
        return decide(log, _not_wanted(result, asked))
    return decide(log, _give_up(result.run_id, _meta(result), fault.code, fault.error), what_follows)


def _unavailable(log: EventLog, result: messages.Unavailable) -> Sequence[LogItem]:
    _task(log, result)
    return decide(
        log,
        task.MarkUnavailable(
            stream_id=result.task_id,
            meta=_meta(result),
            request_version=result.request_version,
            missing=result.missing,
            remedy=result.remedy,
        ),
    )


def _not_wanted(result: messages.Result, asked: Task) -> run.FailRun:
    """The end of an attempt whose result does not count."""
    if asked.status == "cancelled":
        return _give_up(result.run_id, _meta(result), "CANCELLED", "the task was cancelled")
    why = f"the task is {asked.status}, and this is not its newest attempt"
    return _give_up(result.run_id, _meta(result), "SUPERSEDED", why)


def _give_up(run_id: UUID, meta: Meta, code: str, error: str) -> run.FailRun:
    return run.FailRun(stream_id=run_id, meta=meta, code=code, error=error)


def _meta(result: messages.Result) -> Meta:
    return Meta(
        at=result.at,
        tenant_id=result.tenant_id,
        actor=f"worker:{result.worker}",
        correlation_id=result.correlation_id,
        causation_id=str(result.run_id),
    )


def _task(log: EventLog, result: messages.Result) -> Task:
    """The task that the result is of; raises InvalidMessage when nobody here asked for it."""
    state: Task | None = present(log, task, result.task_id)
    if state is None:
        raise InvalidMessage(f"nobody asked for task {result.task_id}: is this another installation's broker?")
    if (state.tenant_id, state.video_id) != (result.tenant_id, result.video_id):
        raise InvalidMessage(f"task {result.task_id} is not of this tenant and video")
    return state


def _run(log: EventLog, run_id: UUID) -> Run | None:
    state: Run | None = present(log, run, run_id)
    return state


def _run_of(log: EventLog, result: messages.Result) -> Run | None:
    """The run that the result is of; None when it has not begun."""
    found = _run(log, result.run_id)
    told = (result.tenant_id, result.task_id, result.video_id)
    if found is not None and (found.tenant_id, found.task_id, found.video_id) != told:
        raise InvalidMessage(f"run {result.run_id} is not of this tenant, task and video")
    return found


def _expected_run(log: EventLog, result: messages.Result) -> Run:
    """The run that the result is of; raises OutOfOrder when its start has not arrived."""
    found = _run_of(log, result)
    if found is None:
        _task(log, result)
        raise OutOfOrder(result.run_id, 0, 1)
    return found
