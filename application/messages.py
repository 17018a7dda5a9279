"""What travels between the log and the workers: one command, and the results of one attempt.

JSON by msgspec; bodies over 4 KB are compressed with zstd (header `Content-Encoding: zstd`).
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from domain.artifacts.envelope import ArtifactBatch
from domain.run import ModelIdentity
from domain.task import Priority
from domain.video import FileFacts

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding a body raises that is no message: broken, of another shape, or nested without end."""


class TaskMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A command to a worker. References only, under 4 KB."""

    task_id: UUID
    tenant_id: str
    video_id: UUID
    task_type: str
    profile: str
    config: dict[str, Any]
    config_hash: str
    language: str | None
    priority: Priority
    request_version: int
    """Version of the task event that asked; with the broker's delivery count it names the run."""
    source: str
    """Absolute path or URL of the media."""
    blake3: str | None
    """Hash of the media if known."""
    correlation_id: UUID
    position: int
    """Position of the event that caused this."""
    force: bool = False
    """Do it even if the same was done before."""


class Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="result"):
    """Base of what a worker says about one attempt."""

    tenant_id: str
    task_id: UUID
    video_id: UUID
    run_id: UUID
    request_version: int
    delivery: int
    worker: str
    correlation_id: UUID
    at: datetime


class Started(Result, frozen=True, kw_only=True, tag="started"):
    """The attempt began."""

    task_type: str
    producer: str
    producer_version: str
    profile: str
    config: dict[str, Any]
    config_hash: str
    input_hash: str
    device: str
    artifact_types: tuple[str, ...]
    language: str | None = None
    model: ModelIdentity | None = None


class Produced(Result, frozen=True, kw_only=True, tag="produced"):
    """Some artifacts. Sent in order; `part` from 1."""

    part: int
    batch: ArtifactBatch


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, for people and programs."""

    code: str
    """Stable, upper snake case."""
    error: str
    remedy: str = ""


class Completed(Result, frozen=True, kw_only=True, tag="completed"):
    """The attempt is done; all parts were sent before."""

    parts: int
    counts: dict[str, int]
    metrics: dict[str, float]
    language: str | None = None
    blake3: str | None = None
    """Set by the metadata producer: becomes `video.fingerprinted`."""
    size_bytes: int | None = None
    facts: FileFacts | None = None
    """Set by the metadata producer: becomes `video.probed`."""
    flaw: Fault | None = None
    """Set when the file is damaged: what could be read of it counts, and the task has failed."""


class Failed(Result, frozen=True, kw_only=True, tag="failed"):
    """The attempt ended in an error that another attempt now would not cure."""

    code: str
    error: str
    retryable: bool
    remedy: str = ""


class Postponed(Result, frozen=True, kw_only=True, tag="postponed"):
    """The attempt ended in an error that may pass; the command comes again."""

    fault: Fault
    is_unexplained: bool
    """As in `domain.errors.EiokuError`."""
    next_try_at: datetime


class Reused(Result, frozen=True, kw_only=True, tag="reused"):
    """Completed run `known` of an earlier task is what this attempt would give; nothing was computed (ADR-0021)."""

    known: UUID


class Unavailable(Result, frozen=True, kw_only=True, tag="unavailable"):
    """This worker has no model or library for the task."""

    missing: str
    remedy: str


class Announced(msgspec.Struct, frozen=True, kw_only=True, tag_field="result", tag="announced"):
    """A worker came up, or something was installed beside it: unavailable work may be possible now."""

    tenant_id: str
    run_id: UUID
    """There is no run; a fresh id that names the message, as every result is named."""
    correlation_id: UUID
    at: datetime
    worker: str
    family: str
    task_types: tuple[str, ...]
    digest: str
    """Hex; what the worker has: producers, libraries, weights."""


ResultMessage = Started | Produced | Completed | Reused | Failed | Postponed | Unavailable | Announced


Space = Literal["text", "frame"]
"""Vectors that can be compared with each other: of what is said and written, or of what is seen."""


class SourceText(msgspec.Struct, frozen=True, array_like=True):
    """A text that a dependent task works on."""

    artifact_id: UUID
    artifact_type: str
    start_ms: int
    end_ms: int
    text: str


class TextsWanted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A worker asks for the texts of a video (ADR-0015)."""

    tenant_id: str
    video_id: UUID
    artifact_types: tuple[str, ...]
    position: int
    """Of the event that asked for the task: what was known then must be in the answer."""
    after: tuple[int, UUID] | None = None
    """Start and id of the last text that is known."""


class TextsPage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Some texts, in order of start."""

    texts: tuple[SourceText, ...]
    is_last: bool


class KnownWanted(msgspec.Struct, frozen=True, kw_only=True):
    """A worker asks whether the same was done before: same content, config, producer and weights."""

    tenant_id: str
    video_id: UUID
    task_type: str
    profile: str
    config_hash: str
    input_hash: str
    producer: str
    producer_version: str
    model_name: str | None
    model_digest: str | None
    position: int
    """Of the event that asked for the task: what was known then must be in the answer."""


class KnownRun(msgspec.Struct, frozen=True, tag=True):
    """The newest completed run that fits; None = there is none."""

    run_id: UUID | None
class SourceSpan(msgspec.Struct, frozen=True, array_like=True):
    """A stretch or moment of the video where something was found."""

    start_ms: int
    end_ms: int
    artifact_type: str


class SpansWanted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A worker asks when something was found in a video (ADR-0015)."""

    tenant_id: str
    video_id: UUID
    artifact_types: tuple[str, ...]
    position: int
    """As in `TextsWanted`."""
    after: SourceSpan | None = None
    """The last span that is known."""


class SpansPage(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Some spans, each once, in order of start, end and type."""

    spans: tuple[SourceSpan, ...]
    is_last: bool


class TextVector(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A query as the embedding model sees it."""

    model: str
    model_digest: str
    vector: str
    """As in `domain.artifacts.embedding`."""


class NoAnswer(msgspec.Struct, frozen=True, tag=True):
    """Why there is none, for the user to read."""

    reason: str


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a running task is; sent over core NATS, never stored."""

    task_id: UUID
    run_id: UUID
    done_ms: int
    """Of the media."""
    total_ms: int
    fetched_bytes: int = 0
    """Of a source that lies elsewhere and is copied here first; the work, and `done_ms`, begin when it is whole."""
    source_bytes: int = 0
    rate: float | None = None
    """Media seconds a second."""
    eta_s: float | None = None
    """Seconds to its end at this rate."""
    worker: str
