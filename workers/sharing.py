"""A long job in pieces, some of which other workers do: what the computing processes do for it (ADR-0019).

The one that has the job takes pieces and gives pieces away, and has the results in order. Who helps changes nothing but
the time it takes: a piece whose helper does not come back is done here, a second result is not looked at.
"""

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec
import structlog

from application.messages import UNREADABLE
from workers.producer import ModelPlaces, Producer
from workers.protocol import Aid, Aided, PieceDone, PieceWanted, Pulse, PulseContext, Told, Wanted

logger = structlog.get_logger()

PATIENCE_S = 5.0
"""At least so long is a piece left to a helper; longer where pieces take long."""
MOST_AWAY = 64
"""Pieces that helpers may hold at a time: each is kept here until it is done."""
LOOK_S = 0.2


class Numbered(Protocol):
    """A piece, or what was found in it."""

    @property
    def index(self) -> int:
        """Counts the pieces of a job, from 0."""


P = TypeVar("P", bound=Numbered)
F = TypeVar("F", bound=Numbered)


class Shared(Generic[P, F]):
    """The pieces of one job: one thread goes through `in_order`, another may `give` and `take_back`."""

    def __init__(
        self, run_id: UUID, pieces: Iterator[P], found: type[F], *, terms: bytes, batch_size: int
    ) -> None:
        """`pieces` come with indexes from 0 on. `terms`: what a helper must have; for `Shareable.fits` elsewhere."""
        self.run_id, self.terms, self.batch_size = run_id, terms, batch_size
        self._pieces, self._decoder = pieces, msgspec.msgpack.Decoder(found)
        self._change = threading.Condition()
        self._open: dict[int, P] = {}
        """Taken by somebody and not done."""
        self._away: dict[int, float] = {}
        """Which of these helpers have, and since when."""
        self._results: dict[int, F] = {}
        self._done: list[P] = []
        """Not told yet."""
        self.is_at_end = False
        """No piece is left to be taken."""
        self._error: Exception | None = None
        self._slowest_s = 0.0

    # ---- for the thread that has the job

    def in_order(
        self,
        do: Callable[[Sequence[P]], Iterator[F]],
        *,
        done: Callable[[P], None],
        alive: Callable[[], None],
    ) -> Iterator[F]:
        """What is found in each piece, in order.

        `do` is given up to `batch_size` pieces at once. `done` is told of each piece as it is done, by whomever;
        `alive` is called while there is nothing to do but wait. What they and the pieces raise passes through.
        """
        index = 0
        while True:
            with self._change:
                told, self._done = self._done, []
            for piece in told:
                done(piece)
            while index in self._results:
                yield self._results.pop(index)
                index += 1
            if mine := self._take():
                begun = time.monotonic()
                for found in do(mine):
                    self._put(found)
                self._slowest_s = max(self._slowest_s, time.monotonic() - begun)
            elif not self._open and not self._results:
                return
            else:
                with self._change:
                    self._change.wait(LOOK_S)
                alive()

    def _take(self) -> list[P]:
        """What to do next: first what a helper has had for too long."""
        with self._change:
            late = time.monotonic() - max(PATIENCE_S, 3 * self._slowest_s)
            overdue = [index for index, since in self._away.items() if since < late][: self.batch_size]
            for index in overdue:
                logger.info("piece.taken_back", run_id=str(self.run_id), piece=index)
                del self._away[index]
            mine = [self._open[index] for index in overdue]
            while len(mine) < self.batch_size and (piece := self._next()) is not None:
                mine.append(piece)
            if self._error is not None:
                raise self._error
            return mine

    # ---- for the thread that speaks with the helpers

    def give(self) -> bytes | None:
        """A piece for a helper, encoded; None when there is none."""
        with self._change:
            piece = self._next() if len(self._away) < MOST_AWAY else None
            if piece is None:
                return None
            self._away[piece.index] = time.monotonic()
            return msgspec.msgpack.encode(piece)

    def take_back(self, found: bytes) -> None:
        """What a helper found; raises msgspec.MsgspecError."""
        self._put(self._decoder.decode(found))

    # ---- for both

    def _next(self) -> P | None:
        if self.is_at_end:
            return None
        try:
            piece = next(self._pieces)
        except StopIteration:
            self.is_at_end = True
            return None
        except Exception as error:  # noqa: BLE001 - raised where the job is, whoever asked
            self.is_at_end, self._error = True, error
            return None
        self._open[piece.index] = piece
        return piece

    def _put(self, found: F) -> None:
        with self._change:
            piece = self._open.pop(found.index, None)
            if piece is None:
                return  # somebody was quicker
            self._away.pop(found.index, None)
            self._results[found.index] = found
            self._done.append(piece)
            self._change.notify()


class Shareable(Producer):
    """A producer whose long jobs other workers may help with."""

    shared: Shared[Any, Any] | None = None
    """The pieces of the job that runs, while others may have some."""

    @contextmanager
    def sharing(self, shared: Shared[P, F]) -> Iterator[None]:
        """Let others have pieces."""
        self.shared = shared
        try:
            yield
        finally:
            self.shared = None

    @abstractmethod
    def fits(self, terms: bytes, models: ModelPlaces) -> bool:
        """Whether here the very same would be found as where the job is."""

    @abstractmethod
    def aid(
        self, terms: bytes, pieces: Sequence[bytes], models: ModelPlaces, alive: Callable[[], None]
    ) -> Iterator[bytes]:
        """What is found in pieces of another worker's job, encoded; `alive` may raise."""


def answer(questions: Connection, producer: Shareable) -> None:
    """Hand out pieces and take results until the parent hangs up."""
    while True:
        try:
            asked: Wanted | PieceWanted | PieceDone = questions.recv()
        except (EOFError, OSError):
            return
        shared = producer.shared
        body: tuple[bytes, int] | bytes | None = None
        if shared is not None and shared.run_id == asked.run_id:
            match asked:
                case Wanted():
                    body = None if shared.is_at_end else (shared.terms, shared.batch_size)
                case PieceWanted():
                    body = shared.give()
                case PieceDone():
                    try:
                        shared.take_back(asked.found)
                    except UNREADABLE as error:
                        logger.warning("piece.undecodable", run_id=str(asked.run_id), error=str(error))
        try:
            questions.send(Told(asked.number, body))
        except OSError:
            return


def aid(producer: Shareable, asked: Aid, pulse: Pulse) -> Aided:
    """Help with another worker's job; raises nothing of the producer's."""
    context = PulseContext(pulse, asked.number)
    try:
        if not producer.fits(asked.terms, asked.models):
            return Aided(None)
        found = producer.aid(asked.terms, asked.pieces, asked.models, lambda: context.progress(0, 0))
        return Aided(tuple(found))
    except Exception as error:  # noqa: BLE001 - the worker that has the job does it itself
        logger.warning("aid.ended", task_type=producer.task_type, error=repr(error))
        return Aided(None)
