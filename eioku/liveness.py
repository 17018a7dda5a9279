"""Whether a role still moves: its main loop writes a byte a second to a pipe, and who keeps it running reads there.

Files and addresses would not do: a full disk, or many connections, would make a role look hung that is not.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress

VARIABLE = "EIOKU_HEARTBEAT_FD"
BEAT_S = 1.0
MISSES = 8
"""Looks in a row, one each 5 s, without a sign of life until a role counts as hung: a slow machine must not look so. The
looks are counted and not the seconds, for a machine that slept, or a stopped tree, does not look.
"""
FIRST_BEAT = 60
"""Looks until the first beat: a cold machine imports slowly."""


class Heart:
    """Of this process; beats only where somebody listens."""

    def __init__(self) -> None:
        # Taken away: what this process starts is not heard.
        told = os.environ.pop(VARIABLE, "")
        self._pipe = int(told) if told.isdigit() else None

    def beat(self) -> None:
        """Say that the loop that calls this has moved."""
        if self._pipe is not None:
            with suppress(OSError):  # nobody listens, or has listened for hours
                os.write(self._pipe, b".")

    async def keep_beating(self) -> None:
        """Beat as long as this event loop moves."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_S)


class Pulse:
    """The listener's end of the pipe to one process."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self.writing, False)
        self._using, self._is_closed = threading.Lock(), False
        self.has_begun = False

    def has_moved(self) -> bool:
        """Whether the process has said so since this was asked last."""
        with self._using, suppress(BlockingIOError):
            if not self._is_closed and os.read(self._reading, 65_536):
                self.has_begun = True
                return True
        return False

    def close_writing(self) -> None:
        """The process has its own."""
        os.close(self.writing)

    def close(self) -> None:
        """Listen no more."""
        with self._using:  # another thread must not read from what gets the number next
            self._is_closed = True
            os.close(self._reading)


class Watch:
    """Tells when a program is hung."""

    def __init__(self, answers: Callable[[], bool] = lambda: True) -> None:
        """`answers`: whether it also does what it is there for; asked only while it moves."""
        self._answers = answers
        self._pulse: Pulse | None = None
        self._misses = 0

    def finds_hung(self, pulse: Pulse | None) -> bool:
        """One look; `pulse` is that of the process that runs now."""
        if pulse is not self._pulse:
            self._pulse, self._misses = pulse, 0
        if pulse is None:
            return False
        if pulse.has_moved() and self._answers():
            self._misses = 0
            return False
        self._misses += 1
        return self._misses >= (MISSES if pulse.has_begun else FIRST_BEAT)
