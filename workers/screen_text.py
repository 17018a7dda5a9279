"""When to read a picture, and from when until when a text was on the screen. No model here."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

import numpy as np

from infrastructure.media.frames import Brightness

COLUMNS, ROWS = 33, 18
"""Cells of the picture whose brightness is compared: a word of a subtitle fills several."""
STEP = 8.0
"""Levels by which the difference between neighbouring cells must change to count; codecs flicker by one or two."""
CHANGED = 3
"""Cells; fewer are no change."""
CUT_LEVELS = 10.0
"""Mean change of a cell with a cut; also twice that with the frame before, for motion goes on and a cut does not."""
MOST_MISSES = 2
"""Readings in a row that a text must be missing from, with no change in sight, before it counts as gone."""
LIKE, OVERLAP = 0.8, 0.3
"""Share of letters in common and of the area, from which on two readings are of one text."""

Point = tuple[float, float]


class Change(NamedTuple):
    """What a frame is to the ones before it."""

    is_new: bool
    """Other than the frame that was last read."""
    is_still: bool
    """The same as the frame before."""
    is_edge: bool
    """A still picture gave way to it, or it comes after a cut."""
    is_cut: bool


class Watch:
    """Compares frames by the differences between neighbouring cells (a dHash without the rounding)."""

    def __init__(self) -> None:
        self._read: Brightness | None = None
        self._last: Brightness | None = None
        self._was_still = False
        self._moved = 0.0
        """Mean change of a cell, levels, with the last frame."""

    def look(self, cells: Brightness) -> Change:
        """Compare; `cells` is the brightness of the picture, shape (ROWS, COLUMNS), 0 to 255."""
        before, self._last = self._last, cells
        if before is None:
            return Change(is_new=True, is_still=False, is_edge=True, is_cut=True)
        was_still, moved_before = self._was_still, self._moved
        self._was_still = is_still = _changed(cells, before) < CHANGED
        self._moved = float(np.abs(cells - before).mean())
        is_cut = self._moved >= max(CUT_LEVELS, 2 * moved_before)
        return Change(
            is_new=self._read is None or _changed(cells, self._read) >= CHANGED,
            is_still=is_still,
            is_edge=is_cut or (was_still and not is_still),
            is_cut=is_cut,
        )

    def mark_read(self) -> None:
        """The last frame is the one that others are compared with from now on."""
        self._read = self._last


def _changed(one: Brightness, other: Brightness) -> int:
    """Cells whose difference to their neighbour is another."""
    return int(np.count_nonzero(np.abs(np.diff(one, axis=1) - np.diff(other, axis=1)) > STEP))


class Line(NamedTuple):
    """One line of text in one frame."""

    text: str
    confidence: float
    polygon: tuple[Point, ...]
    """Corners in [0, 1]."""
    frame_index: int


class Shown(NamedTuple):
    """A line and how long it was on the screen, as it was read best."""

    start_ms: int
    end_ms: int
    line: Line


class _Open:
    def __init__(self, line: Line, start_ms: int, seen_ms: int) -> None:
        self.line, self.latest = line, line
        self.start_ms, self.seen_ms, self.misses = start_ms, seen_ms, 0

    def see(self, line: Line, at_ms: int) -> None:
        self.latest, self.seen_ms, self.misses = line, at_ms, 0
        if line.confidence > self.line.confidence:
            self.line = line


class Screen:
    """Joins readings of one film, given in order of time, to texts with a start and an end."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._ended: list[tuple[int, int, Shown]] = []
        """A heap by start."""
        self._number = count()
        self._edges: tuple[int, int] | None = None
        """First and last edge since the picture was read or as read."""

    def edge(self, at_ms: int) -> None:
        """The picture became another at this moment."""
        self._edges = (self._edges[0] if self._edges else at_ms, at_ms)

    def unchanged(self, at_ms: int) -> None:
        """The picture is as it was when last read."""
        self._edges = None
        for text in self._open:
            if not text.misses:
                text.seen_ms = at_ms

    def read(self, at_ms: int, lines: Iterable[Line]) -> None:
        """What a frame says."""
        edges, self._edges = self._edges, None
        before, self._open = self._open, []
        for line in lines:
            found = _same(line, before)
            if found is None:
                found = _Open(line, edges[1] if edges else at_ms, at_ms)
            else:
                before.remove(found)
                found.see(line, at_ms)
            self._open.append(found)
        for text in before:
            text.misses += 1
            if edges is not None and text.misses == 1:
                self._end(text, edges[0])
            elif edges is not None or text.misses >= MOST_MISSES:
                self._end(text, text.seen_ms)
            else:
                self._open.append(text)

    def finish(self, end_ms: int) -> None:
        """The film is over."""
        for text in self._open:
            last_ms = text.seen_ms if text.misses else self._edges[0] if self._edges else end_ms
            self._end(text, last_ms)
        self._open = []

    def ended(self) -> Iterator[Shown]:
        """Texts that are over, in order of start; one that began before them and is still there holds them back."""
        earliest = min((text.start_ms for text in self._open), default=None)
        while self._ended and (earliest is None or self._ended[0][0] <= earliest):
            yield heappop(self._ended)[2]

    def _end(self, text: _Open, end_ms: int) -> None:
        shown = Shown(text.start_ms, max(text.start_ms, text.seen_ms, end_ms), text.line)
        heappush(self._ended, (text.start_ms, next(self._number), shown))


def _same(line: Line, texts: Sequence[_Open]) -> _Open | None:
    """The text that the line is another reading of: alike in its place, or the very same elsewhere (it moves)."""
    there = [
        text
        for text in texts
        if _is_alike(line.text, text.latest.text) and _overlap(line.polygon, text.latest.polygon) >= OVERLAP
    ]
    moved = [text for text in texts if _bare(line.text) == _bare(text.latest.text)]
    return min(there or moved, key=lambda text: _distance(line.polygon, text.latest.polygon), default=None)


def _bare(text: str) -> str:
    """Letters and digits: blanks are read differently from frame to frame."""
    return "".join(filter(str.isalnum, text.casefold()))


def _is_alike(one: str, other: str) -> bool:
    """The same but for a letter misread; other digits are another text (a clock, a page number)."""
    one, other = _bare(one), _bare(other)
    if [*filter(str.isdigit, one)] != [*filter(str.isdigit, other)]:
        return False
    return one == other or SequenceMatcher(None, one, other, autojunk=False).ratio() >= LIKE


def _box(polygon: Sequence[Point]) -> tuple[float, float, float, float]:
    across, down = [x for x, _ in polygon], [y for _, y in polygon]
    return min(across), min(down), max(across), max(down)


def _overlap(one: Sequence[Point], other: Sequence[Point]) -> float:
    """Common area over the area of both together, in [0, 1]."""
    a, b = _box(one), _box(other)
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (both - width * height)


def _distance(one: Sequence[Point], other: Sequence[Point]) -> float:
    a, b = _box(one), _box(other)
    return abs(a[0] + a[2] - b[0] - b[2]) + abs(a[1] + a[3] - b[1] - b[3])
