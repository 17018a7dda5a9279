"""The one clock of a file: where 0:00 is, where it ends, and when each packet is shown in between.

Whoever tells a time of a file asks here, so that pictures, sound, stills, clips and the duration agree.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import av
from av.container import InputContainer
from av.frame import Frame
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from infrastructure.media.pieces import FORMATS, SECOND, AnyPacket, Piece, pieces_of, ticks_of
from infrastructure.media.source import checked, open_media

SPLICE = 1
"""Seconds; a clock that jumps back by more was started again, by less it is jitter."""
AGREED = Fraction(1, 2)
"""Seconds by which the length that a file states may differ from what its packets say; or two pictures, if rarer."""
FIRST_PACKETS = 8
"""Are looked at for a time where the file does not say when it begins."""
GUESSED = frozenset({"aac", "ac3", "eac3", "mp3", "h264", "hevc", "m4v", "mpegvideo", "vc1"})
"""Formats of which FFmpeg guesses the length by the bit rate: they are read whole."""

P = TypeVar("P", bound="AnyPacket")


class Clock(NamedTuple):
    """Of one file."""

    start: Fraction
    """What the timestamps of packets say at 0:00, seconds."""
    length: Fraction
    """Seconds."""
    pieces: tuple[Piece, ...] = ()
    """The recordings that were joined in it, if it is a transport or program stream."""

    def time_of(self, what: "AnyPacket | Frame", stream: Stream) -> Fraction | None:
        """When a packet that was laid, or a frame of one, is shown: seconds from 0:00; None if it does not say."""
        # The last frames of a decoder have no time base.
        base = what.time_base or stream.time_base
        return None if what.pts is None or base is None else what.pts * base - self.start

    def lay(self, packets: Iterator[P]) -> Iterator[P]:
        """The packets as they are demuxed, with timestamps that go on over wraps and joins."""
        return self._laid(packets) if self.pieces else packets

    def _laid(self, packets: Iterator[P]) -> Iterator[P]:
        of_track: dict[int, Piece] = {}
        begins = list(accumulate((piece.position for piece in self.pieces), max))
        for packet in packets:
            ticks = ticks_of(packet)
            if ticks is not None:
                piece = self._piece(begins, packet.pos, ticks, of_track.get(packet.stream_index))
                if piece is None:
                    continue
                of_track[packet.stream_index] = piece
                piece.place(packet)
            yield packet

    def _piece(
        self, begins: Sequence[int], position: int | None, ticks: int, before: Piece | None
    ) -> Piece | None:
        """Where a packet belongs; None when its time is of no recording near by. `begins`: positions of the pieces."""
        if len(self.pieces) == 1:
            return self.pieces[0] if self.pieces[0].holds(ticks) else None
        if position is None:
            return before
        number = bisect_right(begins, position) - 1
        # Those of a join may stand in the other order.
        near = (number, number - 1, number + 1)
        found = (self.pieces[each] for each in near if 0 <= each < len(self.pieces))
        return next((piece for piece in found if piece.holds(ticks)), None)


class Showing:
    """When the frames of a picture track are shown, as they come out of the decoder; never going backwards."""

    def __init__(self, clock: Clock, stream: VideoStream) -> None:
        self._clock, self._stream = clock, stream
        self._last = Fraction(-1)
        self._end: Fraction | None = None
        self._lag = Fraction(0)

    def time_of(self, frame: VideoFrame) -> Fraction | None:
        """Seconds from 0:00; None for one that is not shown, as the encoder's lead-in."""
        time = self._clock.time_of(frame, self._stream)
        if time is None:  # raw streams carry no times: the nominal rate is all there is
            time = Fraction(0) if self._end is None else self._end
        time += self._lag
        if time <= self._last:
            time = self._mended(time)
        if time <= self._last or time < 0:
            return None
        self._last, self._end = time, time + self.length_of(frame)
        return time

    def _mended(self, time: Fraction) -> Fraction:
        """Of a frame that says it is shown before the one that came before it."""
        if self._end is None:
            return time
        if time < self._last - SPLICE:
            # A recording that was joined to the one before: go on where that ended.
            self._lag += self._end - time
            return self._end
        # FFmpeg guesses where program streams do not say, and guesses wrong now and then.
        return self._end if self._clock.pieces else time

    def length_of(self, frame: VideoFrame) -> Fraction:
        """For how long it is shown, seconds, by its own account or the nominal rate."""
        base = frame.time_base or self._stream.time_base
        if frame.duration and base:
            return frame.duration * base
        rate = self._stream.average_rate or self._stream.guessed_rate
        return 1 / rate if rate else Fraction(1, 25)


def begins_after(time: Fraction, at_ms: int) -> bool:
    """Whether a frame at `time`, seconds from 0:00, is not on the screen yet."""
    # Times of artifacts are whole milliseconds of a frame's time, rounded: so is what they are compared with.
    return round(time * 1000) > at_ms


def clock_of(path: Path) -> Clock:
    """Reads little of most files; a transport stream of joined recordings is read whole, once in a process.

    Raises:
        MediaMissing, MediaUnreadable: as `open_media`.
    """
    found = checked(path)
    return _clock(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))


def duration_ms_of(path: Path) -> int:
    """How long the file plays, whole milliseconds; raises as `clock_of`."""
    return round(clock_of(path).length * 1000)


@lru_cache(maxsize=64)
def _clock(path: Path, identity: tuple[int, int, int, int]) -> Clock:
    with open_media(path) as container:
        if container.format.name in FORMATS and (pieces := pieces_of(container, identity[2])):
            last = pieces[-1]
            return Clock(Fraction(0), Fraction(last.begin + last.length, SECOND), pieces)
        return _of_header(container)


def _timed(container: InputContainer) -> list[Stream]:
    return [
        stream
        for stream in container.streams
        if stream.type in {"video", "audio"} and not stream.disposition & Disposition.attached_pic
    ]


def _start(container: InputContainer) -> Fraction | None:
    """Exact, in the ticks of the track that begins first: FFmpeg rounds the container's own to microseconds.

    A negative start is the encoder's lead-in, which players drop, so it stays 0.
    """
    tracks = _timed(container)
    starts = [s.start_time * s.time_base for s in tracks if s.start_time is not None and s.time_base]
    if not starts:  # WAV and others say nothing of it: their first packet does
        try:
            packets = container.demux(*tracks) if tracks else iter(())
            starts = [p.pts * p.time_base for p in islice(packets, FIRST_PACKETS) if p.pts is not None][:1]
            container.seek(0)
        except av.FFmpegError:
            return None
    return max(min(starts), Fraction(0)) if starts else None


def _of_header(container: InputContainer) -> Clock:
    """What the file states, as a length or as where it ends, if its packets agree; else what they say."""
    start, tracks = _start(container), _timed(container)
    known = [s.duration * s.time_base for s in tracks if s.duration and s.time_base]
    stated = Fraction(container.duration, av.time_base) if container.duration else max(known, default=None)
    try:
        if stated is not None and container.format.name not in GUESSED:
            container.seek(int(((start or 0) + stated - 1) * av.time_base))
    except av.FFmpegError:
        return Clock(start or Fraction(0), stated or Fraction(0))
    shown = _shown(container)
    if shown is None:
        return Clock(start or Fraction(0), stated or Fraction(0))
    start, measured = shown[0] if start is None else start, shown[1]
    if stated is None:
        return Clock(start, measured - start)
    rates = [s.average_rate for s in tracks if isinstance(s, VideoStream) and s.average_rate]
    tolerance = max([AGREED, *(2 / rate for rate in rates)])
    nearest = min((stated, stated - start), key=lambda length: abs(start + length - measured))
    return Clock(start, nearest if abs(start + nearest - measured) <= tolerance else measured - start)


def _shown(container: InputContainer) -> tuple[Fraction, Fraction] | None:
    """When the first packet is shown and when the last one ends, of those from here on; None if none can be read."""
    first = last = None
    tracks = _timed(container)
    try:
        for packet in container.demux(*tracks) if tracks else ():
            if packet.pts is not None:
                begin = packet.pts * packet.time_base
                end = begin + (packet.duration or 0) * packet.time_base
                first = begin if first is None else min(first, begin)
                last = end if last is None else max(last, end)
    except av.FFmpegError:
        pass  # damaged or cut off: what came before counts
    return None if first is None or last is None else (first, last)
