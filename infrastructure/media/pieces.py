"""Recordings joined in one file: where each begins, how long it is, and what its clock says then.

Transport and program streams can be joined by writing one behind the other, and their clocks, of 33 bits, begin anywhere
and wrap. Their packets are read for it, and nothing is decoded.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream

AnyPacket: TypeAlias = "Packet[Any]"
FORMATS = frozenset({"mpegts", "mpeg"})
SECOND = 90_000
"""Ticks of these formats' clock."""
WRAP = 1 << 33
BACK, AHEAD = SECOND // 10, 10 * SECOND
"""A track's clock that goes back or jumps ahead by more was started again; the limits are those of FFmpeg's tools."""
OVERLAP = SECOND // 10
"""Sound that is longer than the pictures may run into the next recording for so long; else the next one waits."""
SMALL = 32 << 20
"""Bytes that are read whole (0.03 s). Of larger files samples are read, and the whole if their times do not fit."""
NEAR = 5 * SECOND
"""Between two samples of a large file at most: 1,500 for two hours, which takes half a second."""
LEAF = 1 << 20
"""Bytes before the end that the last sample is taken at."""
TWIG = 16 << 10
"""The same between two samples that are too far apart in time: a still stretch of a small bit rate needs few bytes."""
EDGE = 8 << 20
"""Bytes that are read at the beginning and at the end of a large file that is one recording."""


class Piece(NamedTuple):
    """A recording in a file. Times are ticks."""

    position: int
    """Of its first byte in the file."""
    first: int
    """What its clock says when it begins."""
    begin: int
    """When that is, from 0:00 of the file on."""
    length: int
    delays: Mapping[int, int]
    """Of each track, if there are other recordings too: from when a packet is decoded until it is shown, at least."""

    def holds(self, ticks: int) -> bool:
        """Whether a time of its clock can be one of this recording."""
        return -AHEAD <= distance(self.first, ticks) <= self.length + AHEAD

    def place(self, packet: AnyPacket) -> None:
        """Give it the times from 0:00 of the file on."""
        if packet.pts is not None:
            packet.pts = self.begin + distance(self.first, packet.pts)
        if packet.dts is not None:
            packet.dts = self.begin + distance(self.first, packet.dts)
            delay = self.delays.get(packet.stream.index)
            if delay is not None and packet.pts is not None and not delay <= packet.pts - packet.dts <= AHEAD:
                # FFmpeg guesses the last of a recording in a program stream from the first of the next.
                packet.pts = packet.dts + delay


def distance(earlier: int, later: int) -> int:
    """Ticks from one time to another on a clock that wraps: from 6.6 hours back to 19.9 hours ahead."""
    return (later - earlier + WRAP // 4) % WRAP - WRAP // 4


def ticks_of(packet: AnyPacket) -> int | None:
    """What the clock says when it is decoded, or shown if that is all that is known."""
    return packet.pts if packet.dts is None else packet.dts


def pieces_of(container: InputContainer, size: int) -> tuple[Piece, ...]:
    """The recordings in the order of the file, which has `size` bytes. Leaves the container somewhere in it."""
    tracks = _tracks(container)
    if not tracks:
        return ()
    if size > SMALL and _is_one(container, tracks[0], size):
        edges = [run for at in (0, size - EDGE) for run in _runs(packets_between(container, tracks, at, at + EDGE))]
        if len(edges) == 2:  # noqa: PLR2004 — one recording at each
            edges[0].goes_on_as(edges[1])
            return tuple(_laid_out(edges[:1]))
    return tuple(_laid_out(_runs(packets_between(container, tracks, 0))))


def _tracks(container: InputContainer) -> list[Stream]:
    """Pictures and sound whose clock is that of the first; other programs have others."""
    timed = [
        stream
        for stream in container.streams
        if stream.type in {"video", "audio"}
        and not stream.disposition & Disposition.attached_pic
        and stream.start_time is not None
    ]
    timed.sort(key=lambda stream: stream.type != "video")
    return [one for one in timed if abs(distance(timed[0].start_time or 0, one.start_time or 0)) < 6 * AHEAD]


def packets_between(
    container: InputContainer, tracks: Sequence[Stream], begin: int, end: int | None = None
) -> Iterator[AnyPacket]:
    """Those of `tracks` that have a time, from one byte of the file to another."""
    container.seek(begin, unsupported_byte_offset=True)
    wanted = {track.index for track in tracks}
    try:
        for packet in container.demux():
            if end is not None and (packet.pos or 0) >= end:
                return
            if ticks_of(packet) is not None and packet.stream.index in wanted:
                yield packet
    except av.FFmpegError:
        return  # damaged or cut off: what came before counts


def _is_one(container: InputContainer, track: Stream, size: int) -> bool:
    """Whether the times of samples do not contradict that the file is one recording."""
    last = size - LEAF
    waiting = [(0, _time_at(container, track, 0), last, _time_at(container, track, last))]
    while waiting:
        low, earlier, high, later = waiting.pop()
        if earlier is None or later is None or distance(earlier, later) < 0:
            return False
        if distance(earlier, later) > NEAR:
            if high - low < 2 * TWIG:
                return False
            middle = (low + high) // 2
            at = _time_at(container, track, middle)
            waiting += [(low, earlier, middle, at), (middle, at, high, later)]
    return True


def _time_at(container: InputContainer, track: Stream, position: int) -> int | None:
    """What the clock says there."""
    return next((ticks_of(packet) for packet in packets_between(container, [track], position, position + EDGE)), None)


class _Run:
    """A recording as its packets are read. Times are ticks since its first packet."""

    def __init__(self, packet: AnyPacket) -> None:
        self.position = packet.pos or 0
        self.clock = ticks_of(packet) or 0
        self.starts: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self.due: dict[int, int] = {}
        """When the next packet of each track should be decoded."""
        self.delays: dict[int, int] = {}
        """Of each track, from when a packet is decoded until it is shown, at least."""
        self.newest: dict[int, int] = {}
        """The same of the newest packet."""
        self.pictures: set[int] = set()

    def take(self, packet: AnyPacket) -> None:
        """A packet of this recording."""
        index = packet.stream.index
        length = packet.duration or _nominal(packet.stream)
        decoded = self.since(packet)
        delay = 0 if packet.dts is None or packet.pts is None else distance(packet.dts, packet.pts)
        if (newest := self.newest.get(index)) is not None:
            # All but the last count, of which FFmpeg may guess from the next recording when it is shown.
            self.delays[index] = min(newest, self.delays.get(index, newest))
        self.newest[index] = delay
        self.starts.setdefault(index, decoded + delay)
        self.ends[index] = max(self.ends.get(index, 0), decoded + self.delay(index, delay) + length)
        self.due[index] = decoded + length
        if packet.stream.type == "video":
            self.pictures.add(index)

    def delay(self, index: int, delay: int) -> int:
        """`delay` of a packet if it can be, else what others of the track have at least."""
        least = self.delays.get(index, 0)
        return delay if least <= delay <= AHEAD else least

    def since(self, packet: AnyPacket) -> int:
        """Ticks until it is decoded."""
        return distance(self.clock, ticks_of(packet) or 0)

    def goes_on_as(self, later: "_Run") -> None:
        """What was read of it elsewhere in the file."""
        since = distance(self.clock, later.clock)
        self.ends |= {index: end + since for index, end in later.ends.items()}

    def continues(self, packet: AnyPacket) -> bool:
        """Whether it follows what came of its track; one that paused, as pictures of slides do, what came of any."""
        since = self.since(packet)
        return since - self.due[packet.stream.index] >= -BACK and since - max(self.due.values()) <= AHEAD

    def may_hold(self, packet: AnyPacket) -> bool:
        """Whether the first packet of a track belongs to it, by its time."""
        return -AHEAD <= self.since(packet) <= max(self.ends.values()) + AHEAD


def _nominal(stream: Stream) -> int:
    rate = getattr(stream, "average_rate", None) or getattr(stream, "guessed_rate", None)
    return round(SECOND / rate) if rate else 0


def _runs(packets: Iterator[AnyPacket]) -> list[_Run]:
    runs: list[_Run] = []
    of_track: dict[int, _Run] = {}
    for packet in packets:
        run = of_track.get(packet.stream.index)
        # Without a position it is a frame behind another one in a packet of the container, and its time is guessed.
        is_known = packet.pos is not None and packet.dts is not None
        if run is None or (is_known and not run.continues(packet)):
            newest = runs[-1] if runs else None
            # Tracks come to a join one after the other: the others follow the first.
            if newest is None or newest is run or not newest.may_hold(packet):
                newest = _Run(packet)
                runs.append(newest)
            run = of_track[packet.stream.index] = newest
            run.position = min(run.position, packet.pos or run.position)
        run.take(packet)
    return runs


def _laid_out(runs: Sequence[_Run]) -> Iterator[Piece]:
    """The recordings one behind the other: the pictures of each follow those before, or the sound if that is longer."""
    before: _Run | None = None
    begin = 0
    for run in runs:
        start = min(run.starts.values())
        if before is not None:
            begin += _step(before, run) - min(before.starts.values()) + start
        length = max(run.ends.values()) - start
        delays = run.delays if len(runs) > 1 else {}
        yield Piece(run.position if before else 0, (run.clock + start) % WRAP, begin, length, delays)
        before = run


def _step(before: _Run, run: _Run) -> int:
    """Between the first packets of two recordings, when no track begins before it has ended."""
    ends = {index: before.ends[index] - start for index, start in run.starts.items() if index in before.ends}
    pictures = [step for index, step in ends.items() if index in run.pictures]
    longest = max(ends.values(), default=max(before.ends.values()) - min(run.starts.values()))
    return max(pictures) if pictures and longest - max(pictures) <= OVERLAP else longest
