"""What a decoder may leave undone: frames that nobody wants and from which no other frame is made (ADR-0025)."""

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from heapq import heapify, heappop, heappush
from typing import TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from infrastructure.media.source import origin

VideoPacket: TypeAlias = "Packet[VideoStream]"

CODECS = frozenset({"h264", "hevc"})
"""Whose decoders tell by a packet's header that no other frame is made from it, and pass it over."""
FORMATS = frozenset({"mp4", "matroska", "mpegts"})
"""Which say when a frame is shown; AVI, say, counts packets."""
LEARNING = 32
"""Packets at the beginning that are always decoded: from them a decoder learns how far frames are out of order."""
MOST_AHEAD = 64
"""Packets held back at most; frames are reordered over 16 at most (H.264, H.265: MaxDpbFrames)."""

Wants = Callable[[Fraction, Fraction], bool]
"""Whether the frame that is shown from the first time to the second is wanted, seconds from the start; asked in order."""


class Economy:
    """Tells the decoder of one stream what to leave out, and counts it.

    Which frames those are depends on their times alone, and the times on all packets around: packets are held back
    until it is known what is shown before and after them. A stream whose times make no sense is decoded in full.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, wants: Wants | None) -> None:
        """`wants`: None for every frame."""
        self._context, self._base, self._start = stream.codec_context, stream.time_base, origin(container)
        is_known = self._context.name in CODECS and not FORMATS.isdisjoint(container.format.name.split(","))
        self._wants = wants if is_known and not self._context.is_hwaccel else None
        self._decided: dict[int, bool] = {}
        """Whether the frame is wanted, by pts, for packets that are held back."""
        self._open: int | None = None
        """The pts of which only the beginning is known."""
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
                if len(ahead) == MOST_AHEAD or not _makes_sense(packet, last_dts):
                    rest = iter((packet,))
                    break
                assert packet.pts is not None
                last_dts, count = packet.dts, count + 1
                ahead.append(packet)
                heappush(shown, (packet.pts, packet.is_discard))
                # Nothing is shown before it is decoded: of what is before this moment, all is there.
                while last_dts is not None and shown and shown[0][0] < last_dts:
                    earliest, is_discarded = heappop(shown)
                    self._decide(earliest, is_discarded=is_discarded)
                while ahead and ahead[0].pts in self._decided:
                    yield self._tell(ahead.popleft(), is_learning=count <= LEARNING)
        except av.FFmpegError as error:
            failure = error
        # The last frames tell when the pictures end, so they are not left out.
        self._context.skip_frame = "DEFAULT"
        yield from ahead
        yield from rest
        if failure is not None:
            raise failure
        yield from demuxed

    def passed_over(self, frame: VideoFrame) -> int:
        """How many frames are shown before this one, and after the one before, that were left out."""
        count = 0
        while self._passed_over and frame.pts is not None and self._passed_over[0] <= frame.pts:
            count += heappop(self._passed_over) < frame.pts
        return count

    def lost(self, packet: VideoPacket) -> None:
        """It could not be decoded: that is no economy."""
        if packet.pts in self._passed_over:
            self._passed_over.remove(packet.pts)
            heapify(self._passed_over)

    def _decide(self, pts: int, *, is_discarded: bool) -> None:
        before, self._open = self._open, None if is_discarded else pts
        if before is not None:
            assert self._wants is not None
            begin, end = self._time(before), self._time(pts)
            self._decided[before] = self._decided.get(before, False) or (begin >= 0 and self._wants(begin, end))
            if not self._decided[before] and begin >= 0:
                heappush(self._passed_over, before)
        if is_discarded:  # a player does not show it either
            self._decided[pts] = False

    def _time(self, pts: int) -> Fraction:
        assert self._base is not None
        return pts * self._base - self._start

    def _tell(self, packet: VideoPacket, *, is_learning: bool) -> VideoPacket:
        assert packet.pts is not None
        is_wanted = self._decided.pop(packet.pts)
        self._context.skip_frame = "DEFAULT" if is_wanted or is_learning else "NONREF"
        return packet


def _makes_sense(packet: VideoPacket, last_dts: int | None) -> bool:
    """Whether its times follow those before. Matroska does not say when the first ones are decoded."""
    if packet.pts is None or packet.dts is None:
        return packet.pts is not None and last_dts is None
    return packet.pts >= packet.dts and (last_dts is None or packet.dts >= last_dts)
