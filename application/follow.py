"""Following the log: one reader, one checkpoint, every record in order, at least once."""

import threading
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog

from application.ports import EventLog, Recorded
from domain.errors import ConcurrencyConflict, EiokuError, Undecodable

logger = structlog.get_logger()

TRIES = 3
"""A reaction that fails so often with an error that does not pass by itself is parked."""
CONFLICTS = 20
"""So many conflicts on one version of one stream are no race: something else holds that place for good."""
CHECKPOINT_EVERY = 100
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 5.0

Park = Callable[[Recorded, Exception], None]
"""Keeps a record that cannot be reacted to where health shows it, durably, before it returns."""


class Follower:
    """Hands every record of some kinds to `react`, in order, from its checkpoint on.

    `react` must be idempotent: after a crash the records since the last checkpoint come again. What it raises decides:

    - a retryable error of ours (a lost race, a database that is away): again, for as long as it takes; but `CONFLICTS`
      times on the same version of a stream, and the record is parked
    - anything else: again `TRIES` times, then the record is parked and the follower goes on
    """

    def __init__(
        self,
        name: str,
        log: EventLog,
        react: Callable[[Recorded], object],
        *,
        kinds: Sequence[str],
        park: Park,
        limit: int = 500,
    ) -> None:
        self.name, self.kinds, self.limit = name, kinds, limit
        self._log, self._react, self._park = log, react, park
        self._position: int | None = None
        """Everything up to here was reacted to; None before the first look."""
        self._noted = 0
        """The stored checkpoint."""
        self._conflict: tuple[UUID, int] | None = None
        """Stream and version of the newest conflict, at the record that comes next."""
        self._conflicts = 0

    def run(self, wait: Callable[[], object], stop: threading.Event) -> None:
        """Follow until `stop` is set. `wait` returns when there may be news, and from time to time anyway."""
        pause_s = FIRST_PAUSE_S
        while not stop.is_set():
            try:
                if not self.step(stop):
                    wait()
                pause_s = FIRST_PAUSE_S
            except EiokuError as error:
                if not error.retryable and not isinstance(error, Undecodable):
                    raise
                # Undecodable: written by a newer version of Eioku. Nothing is skipped; the newer follower will come.
                logger.warning(
                    "follower.interrupted", follower=self.name, error=repr(error), again_in_s=pause_s
                )
                stop.wait(pause_s)
                pause_s = min(pause_s * 2, LAST_PAUSE_S)

    def step(self, stop: threading.Event | None = None) -> bool:
        """React to the next stretch of the log; False when there is none."""
        if self._position is None:
            self._position = self._noted = self._log.checkpoint(self.name)
        head = self._log.head()
        records = (
            self._log.read(self._position, limit=self.limit, kinds=self.kinds)
            if head > self._position
            else ()
        )
        for record in records:
            if stop is not None and stop.is_set():
                break
            self._take(record, stop)
            self._position = record.position
            if self._position - self._noted >= CHECKPOINT_EVERY:
                self._note()
        else:
            if not records:
                # Nothing for us up to the head: the next look begins there.
                self._position = max(self._position, head)
        self._note()
        return bool(records)

    def _take(self, record: Recorded, stop: threading.Event | None) -> None:
        tries, pause_s = 0, FIRST_PAUSE_S
        while True:
            try:
                self._react(record)
            except EiokuError as error:
                if error.retryable and not self._is_lost_for_good(error):
                    raise
                tries += TRIES if error.retryable else 1
                if tries >= TRIES:
                    self._set_aside(record, error)
                    return
            except Exception as error:  # noqa: BLE001 - parked and shown, or raised when even that fails
                tries += 1
                if tries >= TRIES:
                    self._set_aside(record, error)
                    return
            else:
                return
            (stop or threading.Event()).wait(pause_s)
            pause_s *= 2

    def _is_lost_for_good(self, error: EiokuError) -> bool:
        """Whether this conflict came so often that it is no race."""
        if not isinstance(error, ConcurrencyConflict):
            return False
        self._note()  # health tells where it stands
        place = (error.stream, error.expected)
        self._conflicts = self._conflicts + 1 if place == self._conflict else 1
        self._conflict = place
        return self._conflicts >= CONFLICTS

    def _set_aside(self, record: Recorded, error: Exception) -> None:
        logger.error("follower.parked", follower=self.name, position=record.position, error=repr(error))
        self._park(record, error)

    def _note(self) -> None:
        assert self._position is not None
        if self._position > self._noted:
            self._log.advance(self.name, self._position)
            self._noted = self._position
