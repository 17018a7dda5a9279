"""What a worker's two processes say to each other: the parent speaks with NATS, the child computes.

Assignments and reports are pickled through pipes. Progress and cancellation go through shared memory (`Pulse`): they
cost nothing to write for every frame and cannot be left locked by a process that is killed. Jobs that are done together
have a pipe for reports and a pulse each (`Wire`), so that none can hold up what another one says.
"""

from datetime import datetime
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import msgspec

from application.messages import NoAnswer, SourceSpan, SourceText, Space, TaskMessage, TextVector
from domain.artifacts.envelope import ArtifactBatch
from domain.errors import JobCancelled
from infrastructure.media.source_cache import SourceCache
from workers.producer import Description, ModelPlaces, Outcome

if TYPE_CHECKING:
    from ctypes import Array, c_longlong

    Cells = Array[c_longlong]

MOST_TOGETHER = 4
"""Jobs that look at the frames of one video and are done together (ADR-0017)."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """Parent to child, in a tuple with those to be done together: do this."""

    number: int
    """Counts the jobs of this child, from 1."""
    wire: int
    """Which of the child's wires it reports on."""
    message: TaskMessage
    run_id: UUID
    delivery: int
    """The broker's count of deliveries, from 1."""
    models: ModelPlaces
    sources: SourceCache
    """Where files that lie elsewhere are copied to."""
    pictures: Path
    """Where the API looks for pictures."""
    worker: str
    started_at: datetime
    """Becomes the run's `created_at`."""
    texts: tuple[SourceText, ...] = ()
    """What was said and shown in the video, for a producer that needs it."""
    spans: tuple[SourceSpan, ...] = ()
    """When something was found in it, for a producer that needs it."""


class Ready(msgspec.Struct, frozen=True):
    """Child to parent, once, before the first assignment: the models are loaded."""


class Described(msgspec.Struct, frozen=True):
    """The file is there and the model is loaded; now it begins."""

    description: Description


class Packed(msgspec.Struct, frozen=True):
    """Some artifacts."""

    batch: ArtifactBatch


class Finished(msgspec.Struct, frozen=True):
    """All was found."""

    counts: dict[str, int]
    outcome: Outcome


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The job ended in an error."""

    code: str
    error: str
    retryable: bool
    needs_a_hand: bool = False
    is_unexplained: bool = False
    """The three above as in `domain.errors.EiokuError`."""
    missing: str | None = None
    """Set when no model is available."""
    remedy: str


class Question(msgspec.Struct, frozen=True):
    """Parent to child, through a pipe of its own and at any time: what does this query mean?"""

    number: int
    text: str
    space: Space


class Answer(msgspec.Struct, frozen=True):
    """Child to parent: the answer to question `number`."""

    number: int
    answer: TextVector | NoAnswer


class Wanted(msgspec.Struct, frozen=True):
    """Parent to child, as `Question`: may others help with this run?"""

    number: int
    run_id: UUID


class PieceWanted(msgspec.Struct, frozen=True):
    """Parent to child: a piece of this run for a helper."""

    number: int
    run_id: UUID


class PieceDone(msgspec.Struct, frozen=True):
    """Parent to child: what a helper found in a piece of this run."""

    number: int
    run_id: UUID
    found: bytes


class Told(msgspec.Struct, frozen=True):
    """Child to parent: the answer to one of these three."""

    number: int
    body: tuple[bytes, int] | bytes | None
    """(terms, pieces at once), a piece, nothing."""


class Aid(msgspec.Struct, frozen=True, kw_only=True):
    """Parent to child: do these pieces of another worker's job; without any, say whether you could."""

    number: int
    wire: int
    task_type: str
    terms: bytes
    pieces: tuple[bytes, ...]
    models: ModelPlaces


class Aided(msgspec.Struct, frozen=True):
    """Child to parent: what was found in each piece; None = it cannot be done here, or was called off."""

    found: tuple[bytes, ...] | None


Report = Described | Packed | Finished | Refusal | Aided
"""Child to parent, on the wire of the job."""


class Pulse:
    """Some numbers of one job that both processes see. Each is written by one of them only."""

    _TICKS, _DONE, _TOTAL, _FETCHED, _SIZE, _CANCELLED = range(6)

    def __init__(self, context: SpawnContext) -> None:
        self._cells: Cells = context.RawArray("q", 6)

    # ---- the child's side

    def beat(self, done_ms: int, total_ms: int) -> None:
        """The job moves."""
        self._cells[self._DONE], self._cells[self._TOTAL] = done_ms, total_ms
        self.tick()

    def tick(self) -> None:
        """The job lives, though it has nothing new to tell."""
        self._cells[self._TICKS] += 1

    def fetch(self, done_bytes: int, size_bytes: int) -> None:
        """The job's source comes nearer."""
        self._cells[self._FETCHED], self._cells[self._SIZE] = done_bytes, size_bytes
        self.tick()

    def is_cancelled(self, number: int) -> bool:
        """Whether job `number` is called off."""
        return self._cells[self._CANCELLED] == number

    # ---- the parent's side

    def cancel(self, number: int) -> None:
        """Call job `number` off."""
        self._cells[self._CANCELLED] = number

    @property
    def ticks(self) -> int:
        """Grows whenever the job moves."""
        return self._cells[self._TICKS]

    @property
    def progress(self) -> tuple[int, int]:
        """(done, total) in ms of the media, as last told; (0, 0) before the first."""
        return self._cells[self._DONE], self._cells[self._TOTAL]

    @property
    def fetched(self) -> tuple[int, int]:
        """(done, size) in bytes of a source that lies elsewhere, as last told; (0, 0) for one that lies here."""
        return self._cells[self._FETCHED], self._cells[self._SIZE]

    def reset(self) -> None:
        """Before a job."""
        self._cells[self._DONE] = self._cells[self._TOTAL] = 0
        self._cells[self._FETCHED] = self._cells[self._SIZE] = 0


class Wire(NamedTuple):
    """How one job of those that are done together reports; the child's end of it or the parent's."""

    reports: Connection
    pulse: Pulse


class PulseContext:
    """`workers.producer.Context` over a pulse."""

    def __init__(self, pulse: Pulse, number: int) -> None:
        self._pulse, self._number = pulse, number

    def progress(self, done_ms: int, total_ms: int) -> None:
        """Tell how far the job is; raises JobCancelled."""
        self._pulse.beat(done_ms, total_ms)
        self._check()

    def fetched(self, done_bytes: int, size_bytes: int) -> None:
        """Tell how much of the source is here; raises JobCancelled."""
        self._pulse.fetch(done_bytes, size_bytes)
        self._check()

    def wait(self) -> None:
        """Tell that it is another job's turn; raises JobCancelled."""
        self._pulse.tick()
        self._check()

    def _check(self) -> None:
        if self._pulse.is_cancelled(self._number):
            raise JobCancelled("the task was cancelled")
