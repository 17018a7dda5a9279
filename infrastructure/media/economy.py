"""What a decoder may leave undone: frames that nobody wants and from which no wanted frame is made (ADR-0025)."""

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from heapq import heapify, heappop, heappush
from typing import NamedTuple, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

VideoPacket: TypeAlias = "Packet[VideoStream]"


class _Syntax(NamedTuple):
    """How the packets of a codec are written."""

    shift: int
    mask: int
    """nal_unit_type in the first byte of a NAL unit."""
    pictures: range
    idr: range
    """Those types that hold a part of a picture, and of one from which decoding begins anew."""
    length_at: int
    """Where lengthSizeMinusOne is in the container's record of the decoder's configuration, which begins with a 1."""


CODECS = {
    "h264": _Syntax(0, 0x1F, range(1, 6), range(5, 6), 4),
    "hevc": _Syntax(1, 0x3F, range(32), range(19, 21), 21),
}
"""Whose decoders tell by a packet's header that no other frame is made from it, and pass it over. Types by table 7-1 of
ITU-T H.264 and of H.265, records by ISO/IEC 14496-15."""
_START_CODE = b"\0\0\1"
FORMATS = frozenset({"mp4", "matroska", "mpegts"})
"""Which say when a frame is shown; AVI, say, counts packets."""
LEARNING = 32
"""Packets at the beginning that are always decoded: from them a decoder learns how far frames are out of order."""
MOST_AHEAD = 64
"""Packets held back at most until it is known what is wanted; frames are reordered over 16 at most (H.264, H.265:
MaxDpbFrames)."""
MOST_HELD, MOST_HELD_BYTES = 512, 8 << 20
"""Packets that nobody wants, and what they hold, that wait for a fresh start at most; then the first are decoded."""

Wants = Callable[[Fraction, Fraction], bool]
"""Whether the frame that is shown from the first time to the second is wanted, seconds from the start; asked in order."""


class Economy:
    """Tells the decoder of one stream what to leave out, and counts it.

    Which frames those are depends on their times alone, and the times on all packets around: packets are held back
    until it is known what is shown before and after them. Two kinds are left out: frames from which no other is made,
    and all from the last one that is wanted up to the next fresh start. A stream whose times make no sense is decoded
    in full.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, start: Fraction, wants: Wants | None) -> None:
        """`start`: what timestamps say at 0:00, seconds. `wants`: None for every frame."""
        self._context, self._base, self._start = stream.codec_context, stream.time_base, start
        is_known = self._context.name in CODECS and not FORMATS.isdisjoint(container.format.name.split(","))
        self._wants = wants if is_known and not self._context.is_hwaccel else None
        self._decided: dict[int | None, bool] = {}
        """Whether the frame is wanted, by pts, for packets that are held back."""
        self._clear = 0
        """Of the packets held back, how many of the first nobody wants; none but the very first is a fresh start."""
        self._held_bytes = 0
        self._open: tuple[int, Fraction] | None = None
        """pts and time of the frame of which only the beginning is known."""
        self._owed: int | None = None
        """The pts of one that was wanted and could not be decoded: the next that can be stands for it."""
        self._passed_over: list[int] = []
        """Heap: pts of what nobody wants, and has not come out of the decoder."""

    def packets(self, demuxed: Iterator[VideoPacket]) -> Iterator[VideoPacket]:
        """`demuxed`, each to be decoded at once. Raises what that raises, after what came before it."""
        if self._wants is None:
            yield from demuxed
            return
        ahead: deque[VideoPacket] = deque()
        shown: list[tuple[int, bool]] = []
        rest: Iterator[VideoPacket] = iter(())
        failure: av.FFmpegError | None = None
        last_dts: int | None = None
        count = 0
        try:
            for packet in demuxed:
                if len(ahead) - self._clear == MOST_AHEAD or not _makes_sense(packet, last_dts):
                    rest = iter((packet,))
                    break
                assert packet.pts is not None
                last_dts, count = packet.dts, count + 1
                ahead.append(packet)
                self._held_bytes += packet.size
                heappush(shown, (packet.pts, packet.is_discard))
                # Nothing is shown before it is decoded: of what is before this moment, all is there.
                while last_dts is not None and shown and shown[0][0] < last_dts:
                    earliest, is_discarded = heappop(shown)
                    self._decide(earliest, is_discarded=is_discarded)
                yield from self._due(ahead, is_learning=count <= LEARNING)
        except av.FFmpegError as error:
            failure = error
        while self._clear:
            yield self._told(ahead)
        # The last frames tell when the pictures end, so they are not left out.
        self._context.skip_frame = "DEFAULT"
        yield from ahead
        yield from rest
        if failure is not None:
            raise failure
        yield from demuxed

    def _due(self, ahead: deque[VideoPacket], *, is_learning: bool) -> Iterator[VideoPacket]:
        """Those of the packets held back that are to be decoded now. Those that need not be are dropped on the way."""
        while self._clear < len(ahead):
            packet = ahead[self._clear]
            if self._clear and self._owed is None and _begins_anew(packet, self._context):
                while self._clear:
                    self._take(ahead)
            is_wanted = self._decided.get(packet.pts)
            if is_wanted is None:
                break
            self._clear += 1
            while self._clear and (is_wanted or is_learning):
                yield self._told(ahead, is_learning=is_learning)
        while self._clear > MOST_HELD or (self._clear and self._held_bytes > MOST_HELD_BYTES):
            yield self._told(ahead)

    def passed_over(self, frame: VideoFrame) -> int:
        """How many frames are shown before this one, and after the one before, that were left out."""
        if self._owed is not None and frame.pts is not None and frame.pts > self._owed:
            self._owed = None
        count = 0
        while self._passed_over and frame.pts is not None and self._passed_over[0] <= frame.pts:
            count += heappop(self._passed_over) < frame.pts
        return count

    def lost(self, packet: VideoPacket) -> None:
        """It could not be decoded: that is no economy."""
        if packet.pts in self._passed_over:
            self._passed_over.remove(packet.pts)
            heapify(self._passed_over)
        else:
            self._owed = packet.pts

    def _decide(self, pts: int, *, is_discarded: bool) -> None:
        time, is_open = self._time(pts), self._open
        self._open = None if is_discarded else (pts, time)
        if is_open is not None:
            assert self._wants is not None
            before, begin = is_open
            self._decided[before] = self._decided.get(before, False) or (begin >= 0 and self._wants(begin, time))
            if not self._decided[before] and begin >= 0:
                heappush(self._passed_over, before)
        if is_discarded:  # a player does not show it either
            self._decided[pts] = False

    def _time(self, pts: int) -> Fraction:
        assert self._base is not None
        return pts * self._base - self._start

    def _take(self, ahead: deque[VideoPacket]) -> tuple[VideoPacket, bool]:
        """The first packet, and whether it is wanted."""
        packet = ahead.popleft()
        self._clear -= 1
        self._held_bytes -= packet.size
        return packet, self._decided.pop(packet.pts, True)

    def _told(self, ahead: deque[VideoPacket], *, is_learning: bool = False) -> VideoPacket:
        """The first packet, of which the decoder has been told what it may leave out."""
        packet, is_wanted = self._take(ahead)
        is_needed = is_wanted or is_learning or self._owed is not None
        self._context.skip_frame = "DEFAULT" if is_needed else "NONREF"
        return packet


def _makes_sense(packet: VideoPacket, last_dts: int | None) -> bool:
    """Whether its times follow those before. Matroska does not say when the first ones are decoded."""
    if packet.pts is None or packet.dts is None:
        return packet.pts is not None and last_dts is None
    return packet.pts >= packet.dts and (last_dts is None or packet.dts >= last_dts)


def _begins_anew(packet: VideoPacket, context: VideoCodecContext) -> bool:
    """Whether it holds an IDR picture: nothing from it on is made from what is before it.

    What containers call a key frame is not always that: frames behind it may be made from those before.
    """
    if not packet.is_keyframe:
        return False
    syntax, record = CODECS[context.name], context.extradata or b""
    has_lengths = len(record) > syntax.length_at and record[0] == 1
    size = (record[syntax.length_at] & 3) + 1 if has_lengths else 0
    kinds = (first >> syntax.shift & syntax.mask for first in _units(bytes(packet), size))
    return next((kind for kind in kinds if kind in syntax.pictures), None) in syntax.idr


def _units(data: bytes, size: int) -> Iterator[int]:
    """The first byte of each NAL unit. `size`: of the lengths before them, bytes; 0: they stand behind start codes."""
    at = 0
    while True:
        if size:
            begin = at + size
            at = begin + int.from_bytes(data[at:begin])
        else:
            at = data.find(_START_CODE, at)
            if at < 0:
                return
            begin = at = at + len(_START_CODE)
        if begin >= len(data):
            return
        yield data[begin]
