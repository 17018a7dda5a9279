"""Every error Eioku raises on purpose.

EiokuError
├── Refused                    the request cannot be honoured; the caller must change it
│   ├── InvalidParameter       a value is out of its range or of the wrong kind (names the parameter)
│   ├── ConflictingFilters     two parameters exclude each other
│   ├── SchemaNotFound         no such artifact type or version
│   ├── InvalidArtifact        a payload or span breaks its schema
│   └── PathNotAllowed         a source lies outside the allowed roots
├── NotFound
│   ├── VideoNotFound · TaskNotFound · RunNotFound · ArtifactNotFound · ScanNotFound · ThumbnailNotFound
│   └── NoMatch                nothing there in that direction
├── Conflict
│   ├── TaskActive             the same work is pending or running
│   ├── InvalidState           the thing is in a state that does not allow this
│   ├── IdempotencyMismatch    a key was used with another body
│   ├── ContentMismatch        the same id with other content
│   └── IdTaken                the id belongs to something else, whatever and whoever's it is
├── ConcurrencyConflict        the stream grew while we decided (retryable)
├── IntegrityConflict          stored history contradicts what is appended
├── Undecodable                a stored event that this version of the program cannot read
├── OutOfOrder                 a batch came before its predecessor (retryable)
├── InvalidMessage             what a worker sent contradicts itself, the log or the bounds
├── MediaError
│   ├── MediaMissing           the file is not there or cannot be opened
│   └── MediaUnreadable        the file is no media, or broken
├── ModelUnavailable           no weights or library here; carries the remedy
├── JobCancelled               somebody cancelled the task
├── JobTimedOut                the hard deadline passed or the job stopped moving (retryable)
├── WorkerDied                 the computing process was ended from outside (retryable)
│   └── WorkerCrashed          native code in it crashed, or it left (retryable once)
├── ModelFailed                a model or its library refuses what it was given
├── ProducerFailed             an error that nobody foresaw (retryable once)
├── OutOfMemory                a model or one item for it does not fit into memory now (retryable)
├── StorageFailed              a file could not be written: full disk, quota, permissions (retryable, by hand)
├── TooLarge                   an upload or body over its limit
├── RangeNotSatisfiable        a byte range outside the file
├── PositionNotReached         the read models are behind the asked position (retryable)
└── ServiceUnavailable         Postgres, NATS or the disk is not there (retryable)
"""

from typing import ClassVar
from uuid import UUID


class EiokuError(Exception):
    """The root; `code` is stable and public."""

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False
    needs_a_hand: ClassVar[bool] = False
    """Trying again helps once somebody has done something, not before."""
    is_unexplained: ClassVar[bool] = False
    """Nobody knows whether it passes: one more attempt is made, and the same words again mean that it does not."""
    remedy: str = ""
    """What a person can do about it."""


class Refused(EiokuError):
    """The request cannot be honoured as it is."""

    code = "INVALID_PARAMETER"


class InvalidParameter(Refused):
    """A parameter has a value outside its range."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter, self.reason = parameter, reason


class ConflictingFilters(Refused):
    """Two parameters that exclude each other were both sent."""

    code = "CONFLICTING_FILTERS"


class SchemaNotFound(Refused):
    """No payload schema under this (artifact type, version)."""

    code = "SCHEMA_NOT_FOUND"

    def __init__(self, artifact_type: str, version: int | None = None) -> None:
        which = artifact_type if version is None else f"{artifact_type} version {version}"
        super().__init__(f"no schema for {which}")
        self.artifact_type, self.version = artifact_type, version


class InvalidArtifact(Refused):
    """An artifact does not obey its schema; `index` is its place in the request, -1 when unknown."""

    code = "INVALID_ARTIFACT"

    def __init__(self, reason: str, *, index: int = -1) -> None:
        super().__init__(reason if index < 0 else f"artifacts[{index}]: {reason}")
        self.index, self.reason = index, reason


class PathNotAllowed(Refused):
    """A source outside the allowed roots."""

    code = "PATH_NOT_ALLOWED"

    def __init__(self, source: str) -> None:
        super().__init__(
            f"source: {source!r} is not under an allowed root; add its folder to EIOKU_MEDIA_ROOTS"
        )
        self.source = source


class NotFound(EiokuError):
    """Something named in the request does not exist."""

    code = "NOT_FOUND"
    what: ClassVar[str] = "thing"

    def __init__(self, which: object = "") -> None:
        super().__init__(f"no {self.what} {which}".rstrip())
        self.which = which


class VideoNotFound(NotFound):
    """No such video for this tenant, or it was deleted."""

    code, what = "VIDEO_NOT_FOUND", "video"


class TaskNotFound(NotFound):
    """No such task for this tenant."""

    code, what = "TASK_NOT_FOUND", "task"


class RunNotFound(NotFound):
    """No such run for this tenant."""

    code, what = "RUN_NOT_FOUND", "run"


class ArtifactNotFound(NotFound):
    """No such artifact for this tenant."""

    code, what = "ARTIFACT_NOT_FOUND", "artifact"


class ScanNotFound(NotFound):
    """No such folder scan for this tenant."""

    code, what = "SCAN_NOT_FOUND", "scan"


class ThumbnailNotFound(NotFound):
    """No picture of that moment of the video."""

    code, what = "THUMBNAIL_NOT_FOUND", "thumbnail at"


class NoMatch(NotFound):
    """Nothing matches in that direction."""

    code, what = "NO_MATCH", "match"


class Conflict(EiokuError):
    """The request contradicts the present state."""

    code = "INVALID_STATE"


class TaskActive(Conflict):
    """The same task type, profile, language and config is still pending or running."""

    code = "TASK_ACTIVE"

    def __init__(self, task_id: UUID) -> None:
        super().__init__(f"task {task_id} does this already and has not ended")
        self.task_id = task_id


class InvalidState(Conflict):
    """The thing is in a state that does not allow this."""


class IdempotencyMismatch(Conflict):
    """An idempotency key came again with another body."""

    code = "IDEMPOTENCY_MISMATCH"


class ContentMismatch(Conflict):
    """A client-chosen id came again with other content."""

    code = "CONTENT_MISMATCH"


class IdTaken(ContentMismatch):
    """The id belongs to something else. Says the same whoever owns it, so that nobody learns what others have."""

    def __init__(self, taken_id: UUID) -> None:
        super().__init__(f"the id {taken_id} is taken; choose another one")
        self.taken_id = taken_id


class ConcurrencyConflict(EiokuError):
    """The stream grew while we decided, more often than we retry."""

    code = "CONCURRENCY_CONFLICT"
    retryable = True

    def __init__(self, stream: UUID, expected: int) -> None:
        super().__init__(f"stream {stream} is no longer at version {expected}")
        self.stream, self.expected = stream, expected


class IntegrityConflict(EiokuError):
    """The same versions of a stream hold other content: history is never overwritten."""

    code = "INTEGRITY_CONFLICT"

    def __init__(self, stream: UUID | str, version: int, *, reason: str | None = None) -> None:
        super().__init__(reason or f"stream {stream} already holds other content at version {version}")
        self.stream, self.version = stream, version


class Undecodable(EiokuError):
    """A stored event that this version of the program cannot read: of a newer one, or broken."""

    code = "UNDECODABLE"


class OutOfOrder(EiokuError):
    """A batch of a run came before its predecessor."""

    code = "OUT_OF_ORDER"
    retryable = True

    def __init__(self, stream: UUID, expected: int, got: int) -> None:
        super().__init__(f"stream {stream} is at version {expected}, the batch starts at {got}")
        self.stream, self.expected, self.got = stream, expected, got


class InvalidMessage(EiokuError):
    """A worker's message that is no message, breaks a bound, or speaks of something other than the log knows."""

    code = "INVALID_MESSAGE"


class MediaError(EiokuError):
    """The file is the problem, so trying again does not help."""

    code = "MEDIA_UNREADABLE"


class MediaMissing(MediaError):
    """The file is not there, is a folder, or may not be read."""

    code = "MEDIA_MISSING"
    remedy = "Put the file back, or discover the folder that it is in now: the task is then asked for again"


class MediaUnreadable(MediaError):
    """The file is empty, no media, or too broken to decode."""

    remedy = "See whether a player shows the file. If not, copy or export it again from where it came from, then retry"


class ModelUnavailable(EiokuError):
    """No model for this task here; `remedy` says exactly what to install or set."""

    code = "MODEL_UNAVAILABLE"

    def __init__(self, missing: str, remedy: str) -> None:
        super().__init__(f"{missing}. {remedy}")
        self.missing, self.remedy = missing, remedy


class JobCancelled(EiokuError):
    """The task was cancelled while it ran."""

    code = "CANCELLED"


class JobTimedOut(EiokuError):
    """The job passed its deadline, or made no progress for too long."""

    code = "TIMED_OUT"
    retryable = True
    is_unexplained = True
    remedy = "Retry when the machine has less to do. If it stops again, leave this task type out for this video"


class WorkerDied(EiokuError):
    """The computing process was ended from outside, in the middle of the job."""

    code = "WORKER_DIED"
    retryable = True
    remedy = "Find out what ended the worker's process, then retry"


class WorkerCrashed(WorkerDied):
    """Native code of a library crashed, or ended the process by itself."""

    code = "WORKER_CRASHED"
    is_unexplained = True
    remedy = "Update the library that the task runs on, or leave this task type out for this video"


class ModelFailed(EiokuError):
    """A model or its library refuses what it was given; it would do so again."""

    code = "MODEL_FAILED"
    remedy = "Use another model, or fetch this one again; `eioku doctor --load` tries each"


class ProducerFailed(EiokuError):
    """A producer or one of its libraries raised what nobody foresaw."""

    code = "PRODUCER_FAILED"
    retryable = True
    is_unexplained = True
    remedy = "Report it with the entry `job.crashed` of the worker's log; other tasks of the video are not affected"


class OutOfMemory(EiokuError):
    """A model, or even one item for it, does not fit into the memory that is left on the GPU or the machine."""

    code = "OUT_OF_MEMORY"
    retryable = True
    remedy = "Give the machine more memory, run fewer workers on it, or use a smaller model"

class StorageFailed(EiokuError):
    """A file of ours could not be written: the disk is full, over quota, or closed to us."""

    code = "STORAGE_FAILED"
    retryable = True
    needs_a_hand = True
    remedy = "Make room on the disk or let Eioku write there, then retry"


class TooLarge(EiokuError):
    """A body or upload over its limit."""

    code = "TOO_LARGE"


class RangeNotSatisfiable(EiokuError):
    """A byte range outside the file; `size_bytes` is the file's size."""

    code = "RANGE_NOT_SATISFIABLE"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"the file has {size_bytes} bytes")
        self.size_bytes = size_bytes


class PositionNotReached(EiokuError):
    """The read models have not reached the asked position in the allowed time."""

    code = "POSITION_NOT_REACHED"
    retryable = True

    def __init__(self, asked: int, served: int) -> None:
        super().__init__(f"asked for position {asked}, the read models are at {served}")
        self.asked, self.served = asked, served


class ServiceUnavailable(EiokuError):
    """Something Eioku stands on is not there."""

    code = "UNAVAILABLE"
    retryable = True
