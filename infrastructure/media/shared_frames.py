"""One decoding pass over a file for several readers, each in a thread of its own (ADR-0017)."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

from av.video.frame import VideoFrame

from infrastructure.media.frames import (
    Decoding,
    Frame,
    Layout,
    SampleFrames,
    Sampler,
    Shaper,
    decoded_frames,
    sample_frames,
)

DEPTH = 2
"""Frames that wait for a reader at most; then the others wait for it."""
LOOK_S = 0.1
"""A reader that waits for the others tells so this often."""
PATIENCE_S = 30.0
"""The first reader waits so long for the others to begin, while they load their models; who is later reads alone."""


class _Handed(NamedTuple):
    """What a reader gets."""

    frame: Frame | None
    """None: that was all."""
    seen: Decoding
    error: Exception | None = None
    """Why it ended."""


class _Reader:
    """One of those who share the pass."""

    def __init__(self) -> None:
        self.has_come = False
        """It has begun to read, or has ended without."""
        self.sampler: Sampler
        """Set when it begins."""
        self.handed: deque[_Handed] = deque()


class SharedFrames:
    """A pass for `readers`; each gets the frames that `sample_frames` would give it alone.

    There is no thread for decoding: the reader that has nothing left decodes for all, unless another one is behind by
    `DEPTH` frames. Who stops reading, however it does, is waited for no longer.
    """

    def __init__(self, readers: int) -> None:
        self._changed = threading.Condition()
        self._to_come = readers
        """Those who have neither begun to read nor ended without."""
        self._begins_at = 0.0
        """When the pass begins whoever is missing, on the monotonic clock; known once somebody waits."""
        self._source: tuple[Path, int | None] | None = None
        """The file, and the track if one was asked for."""
        self._readers: list[_Reader] = []
        self._seen = Decoding()
        self._frames: Iterator[tuple[VideoFrame, Fraction]] | None = None
        """The pass, once it has begun."""
        self._is_decoding = False
        """Somebody does, outside of the lock."""

    @contextmanager
    def reader(self, wait: Callable[[], None]) -> Iterator[SampleFrames]:
        """For the block, in which one of the readers works: what it samples frames with.

        `wait` is called again and again while the reader waits; what it raises ends its reading.
        """
        reader = _Reader()
        try:
            yield partial(self._sample, reader, wait)
        finally:
            self._come(reader)

    def _come(self, reader: _Reader) -> bool:
        """Count the reader as there; whether it was not yet."""
        with self._changed:
            is_new, reader.has_come = not reader.has_come, True
            self._to_come -= is_new
            self._changed.notify_all()
        return is_new

    def _sample(
        self,
        reader: _Reader,
        wait: Callable[[], None],
        path: Path,
        *,
        every_ms: int = 0,
        max_side: int | None = None,
        layout: Layout = "rgb24",
        is_lazy: bool = False,
        decoding: Decoding | None = None,
        track: int | None = None,
    ) -> Iterator[Frame]:
        seen = decoding or Decoding()
        if not self._come(reader) or not self._join(reader, (path, track)):
            yield from sample_frames(
                path,
                every_ms=every_ms,
                max_side=max_side,
                layout=layout,
                is_lazy=is_lazy,
                decoding=seen,
                track=track,
            )
            return
        reader.sampler = Sampler(every_ms, Shaper(max_side, layout, is_lazy=is_lazy))
        try:
            while True:
                handed = self._next(reader, wait)
                seen.become(handed.seen)
                if handed.error is not None:
                    raise handed.error
                if handed.frame is None:
                    return
                yield handed.frame
        finally:
            self._leave(reader)

    def _join(self, reader: _Reader, source: tuple[Path, int | None]) -> bool:
        """Take part, if the pass is over the same track of the same copy and has not begun yet; whether it does."""
        with self._changed:
            if self._frames is not None or self._source not in (None, source):
                return False
            if self._source is None:
                self._source, self._begins_at = source, time.monotonic() + PATIENCE_S
            self._readers.append(reader)
            return True

    def _leave(self, reader: _Reader) -> None:
        with self._changed:
            self._readers.remove(reader)
            self._changed.notify_all()
            if not self._readers:
                self._frames = iter(())  # closes the file, and keeps latecomers out

    def _next(self, reader: _Reader, wait: Callable[[], None]) -> _Handed:
        while True:
            wait()
            with self._changed:
                if reader.handed:
                    self._changed.notify_all()
                    return reader.handed.popleft()
                if not self._may_decode():
                    self._changed.wait(LOOK_S)
                    continue
                self._is_decoding = True
                if self._frames is None:
                    assert self._source is not None
                    path, track = self._source
                    beats = {each.sampler.every_ms for each in self._readers}
                    self._frames = decoded_frames(path, self._seen, beats, track)
                frames, readers = self._frames, tuple(self._readers)
            self._decode_one(frames, readers)

    def _may_decode(self) -> bool:
        has_begun = self._frames is not None or not self._to_come or time.monotonic() >= self._begins_at
        return has_begun and not self._is_decoding and all(len(each.handed) < DEPTH for each in self._readers)

    def _decode_one(
        self, frames: Iterator[tuple[VideoFrame, Fraction]], readers: tuple[_Reader, ...]
    ) -> None:
        """Hand the next frame to those who take it."""
        handed: list[tuple[_Reader, _Handed]] = []
        try:
            decoded = next(frames, None)
            if decoded is None:
                handed = [(each, _Handed(None, self._seen)) for each in readers]
            else:
                frame, at = decoded
                handed = [
                    (each, _Handed(Frame(self._seen.decoded - 1, at, frame, each.sampler.shaper), replace(self._seen)))
                    for each in readers
                    if each.sampler.takes(at)
                ]
        except Exception as error:  # noqa: BLE001 - every reader raises it
            handed = [(each, _Handed(None, self._seen, error)) for each in readers]
        with self._changed:
            self._is_decoding = False
            for each, what in handed:
                each.handed.append(what)
            if handed:
                self._changed.notify_all()
