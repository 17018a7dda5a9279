"""Calls of one model: one at a time, and what several jobs have for it in one batch (ADR-0024)."""

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

LOOK_S = 0.1
"""One that waits tells so this often."""


class Request:
    """Items of one job that go into the same call."""

    def __init__(self, kind: Hashable, items: Sequence[Any], most: int) -> None:
        """Requests of equal kinds may share a call of `most` items."""
        self.kind, self.items, self.most = kind, items, most
        self.is_done = False
        """Whoever had the turn is through with it; what came of it is in the rest."""
        self.results: list[Any] | None = None
        """One for each item; None: ask again."""
        self.has_company = False
        """Whether items of other jobs were in the call."""
        self.is_short = False
        """Whether memory ran out."""


class Calls:
    """Who wants something of one model in memory. Thread-safe; the model need not be: one thread has the turn at a time.

    There is no thread of its own: of those that wait, the one that came first does what is alike for all.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Request] = []
        """In order of arrival."""
        self._is_taken = False
        """Somebody has the turn."""

    @contextmanager
    def turn(self, request: Request, wait: Callable[[], None]) -> Iterator[tuple[Request, ...]]:
        """For the block: the requests to do now, this one first; none once somebody else has done this one.

        Nobody waits for company: only what came while the model was busy goes together. `wait` is called again and again
        meanwhile; what it raises takes the request back.
        """
        with self._changed:
            self._waiting.append(request)
        try:
            while (together := self._taken(request)) is None:
                wait()
        except BaseException:
            self._withdraw(request)
            raise
        try:
            yield together
        finally:
            if together:
                self._end(together)

    def _taken(self, request: Request) -> tuple[Request, ...] | None:
        """As `turn`; None after a while in which neither came about."""
        with self._changed:
            if request.is_done:
                return ()
            if self._is_taken or self._waiting[0] is not request:
                self._changed.wait(LOOK_S)
                return None
            together, room = [request], request.most - len(request.items)
            for other in self._waiting[1:]:
                if other.kind == request.kind and len(other.items) <= room:
                    together.append(other)
                    room -= len(other.items)
            self._waiting = [each for each in self._waiting if each not in together]
            self._is_taken = True
            return tuple(together)

    def _withdraw(self, request: Request) -> None:
        with self._changed:
            if request in self._waiting:
                self._waiting.remove(request)
                self._changed.notify_all()

    def _end(self, together: tuple[Request, ...]) -> None:
        with self._changed:
            self._is_taken = False
            for each in together:
                each.is_done = True
            self._changed.notify_all()
