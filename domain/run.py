"""Streams run (one attempt at a task) and its artifacts.

The artifacts have a stream of their own, `artifacts_stream_of(run_id)`: one `ArtifactProduced` for each, its version
its place in the run from 1. They are written and stored in packed batches and never folded.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID, uuid5

import msgspec

from domain.artifacts.envelope import Artifact
from domain.errors import InvalidState, RunNotFound
from domain.event import Command, DomainEvent, head


def artifacts_stream_of(run_id: UUID) -> UUID:
    """The stream that holds the artifacts of a run."""
    return uuid5(run_id, "artifacts")


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which weights did it."""

    name: str
    digest: str | None = None
    """SHA-256 of the weights, hex."""
    source: str | None = None
    """Where they came from: path, folder, package or hub."""


# ---- events ------------------------------------------------------------------------------------------------------


class RunEvent(DomainEvent, frozen=True, kw_only=True):
    """Base of the stream's events."""


class RunStarted(RunEvent, frozen=True, kw_only=True):
    """An attempt began; its provenance in full."""

    TOPIC = "run.started"
    task_id: UUID
    video_id: UUID
    task_type: str
    producer: str
    producer_version: str
    profile: str
    config: dict[str, Any]
    config_hash: str
    input_hash: str
    """BLAKE3 of the media (or of the imported content), hex; empty when not known yet."""
    attempt: int
    worker: str
    device: str
    created_at: datetime
    """When the work was done; for imports as told by the client. Selection `latest` goes by it."""
    artifact_types: tuple[str, ...]
    """What is looked for, so that an empty result counts as found nothing."""
    language: str | None = None
    model: ModelIdentity | None = None


class RunCompleted(RunEvent, frozen=True, kw_only=True):
    """All artifacts are stored; from now on the run may be selected."""

    TOPIC = "run.completed"
    task_id: UUID
    video_id: UUID
    counts: dict[str, int]
    """Artifacts by type; every type that was looked for is there."""
    metrics: dict[str, float]
    """Seconds, frames and the like, named with their unit."""
    language: str | None = None
    """The language found or forced."""


class RunFailed(RunEvent, frozen=True, kw_only=True):
    """The attempt ended without a result that counts; what it stored stays in the log and is never shown."""

    TOPIC = "run.failed"
    task_id: UUID
    video_id: UUID
    code: str
    error: str


class ArtifactProduced(DomainEvent, frozen=True, kw_only=True):
    """One thing was found in a video. Stored packed, up to about 1,000 in one row."""

    TOPIC = "artifact.produced"
    artifact: Artifact


EVENTS: tuple[type[RunEvent], ...] = (RunStarted, RunCompleted, RunFailed)


# ---- commands ----------------------------------------------------------------------------------------------------


class StartRun(Command, frozen=True, kw_only=True):
    """An attempt begins."""

    task_id: UUID
    video_id: UUID
    task_type: str
    producer: str
    producer_version: str
    profile: str
    config: dict[str, Any]
    config_hash: str
    input_hash: str
    attempt: int
    worker: str
    device: str
    created_at: datetime
    artifact_types: tuple[str, ...]
    language: str | None = None
    model: ModelIdentity | None = None


class CompleteRun(Command, frozen=True, kw_only=True):
    """All is stored."""

    counts: dict[str, int]
    metrics: dict[str, float]
    language: str | None = None


class FailRun(Command, frozen=True, kw_only=True):
    """The attempt ended without a result."""

    code: str
    error: str


RunCommand = StartRun | CompleteRun | FailRun


# ---- state -------------------------------------------------------------------------------------------------------


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules need to know of a run."""

    version: int
    tenant_id: str
    task_id: UUID
    video_id: UUID
    input_hash: str
    artifact_types: tuple[str, ...]
    attempt: int
    has_ended: bool = False
    counts: dict[str, int] | None = None
    """Set once completed."""


def evolve(state: Run | None, event: RunEvent) -> Run:
    """The state after `event`."""
    if isinstance(event, RunStarted):
        return Run(
            version=event.originator_version,
            tenant_id=event.tenant_id,
            task_id=event.task_id,
            video_id=event.video_id,
            input_hash=event.input_hash,
            artifact_types=event.artifact_types,
            attempt=event.attempt,
        )
    if state is None:
        raise RunNotFound(event.originator_id)
    change = msgspec.structs.replace
    match event:
        case RunCompleted():
            return change(state, version=event.originator_version, has_ended=True, counts=event.counts)
        case RunFailed():
            return change(state, version=event.originator_version, has_ended=True)
        case _:
            raise TypeError(event)


def decide(state: Run | None, command: RunCommand) -> Sequence[RunEvent]:
    """The events that `command` causes; empty when it is old news."""
    if isinstance(command, StartRun):
        if state is not None:
            return []
        return [
            RunStarted(
                **head(command, 1),
                task_id=command.task_id,
                video_id=command.video_id,
                task_type=command.task_type,
                producer=command.producer,
                producer_version=command.producer_version,
                profile=command.profile,
                config=command.config,
                config_hash=command.config_hash,
                input_hash=command.input_hash,
                attempt=command.attempt,
                worker=command.worker,
                device=command.device,
                created_at=command.created_at,
                artifact_types=command.artifact_types,
                language=command.language,
                model=command.model,
            )
        ]
    if state is None or state.tenant_id != command.meta.tenant_id:
        raise RunNotFound(command.stream_id)
    base = head(command, state.version + 1) | {"task_id": state.task_id, "video_id": state.video_id}
    match command:
        case CompleteRun():
            if state.counts is not None:
                return []
            if state.has_ended:
                raise InvalidState(f"run {command.stream_id} has failed and cannot be completed")
            counts = dict.fromkeys(state.artifact_types, 0) | command.counts
            return [RunCompleted(**base, counts=counts, metrics=command.metrics, language=command.language)]
        case FailRun():
            if state.has_ended:
                return []
            return [RunFailed(**base, code=command.code, error=command.error)]
        case _:
            assert_never(command)
