"""Reading a file from a moment on, in any container."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.format import Flags
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from infrastructure.media.clock import Clock, begins_after
from infrastructure.media.pieces import EDGE, SECOND, AnyPacket, packets_between, ticks_of
from infrastructure.media.source import open_media

FINE = 64 << 10
"""Bytes to which a moment is searched for in a transport or program stream."""
BEHIND = 5
"""Seconds behind the moment where nothing that begins before it is expected any more: tracks are not farther apart."""

SETTLED_MS = 200
"""Sound of so long before the moment is decoded: enough for its decoders, and no more of what FFmpeg takes for frames of
sound until it finds where they begin."""


class Decoded(NamedTuple):
    """A packet, and what came out of the decoder for it: nothing if it is damaged."""

    packet: AnyPacket
    frames: Sequence[VideoFrame | AudioFrame]


def decoded_from(
    path: Path, container: InputContainer, clock: Clock, streams: Sequence[Stream], at_ms: int, *, lead_ms: int = 0
) -> Iterator[Decoded]:
    """Packets of `streams`, decoded, from before `at_ms` on.

    The first frame of the first stream is on the screen at `at_ms`, or older. Seeking lands anywhere in streams without
    an index: where that is behind the moment it is tried from further back, and at last from the beginning.

    `container` is `path`, opened, wherever it stands. `lead_ms`: so much earlier it begins at least, for tracks that lie
    in the file before the pictures beside them.
    """
    can_seek = Flags.no_timestamps not in Flags(container.format.flags)
    back_ms = lead_ms
    while can_seek and back_ms < at_ms:
        begun = _begun(container, clock, streams, at_ms, Fraction(at_ms - back_ms, 1000))
        if begun is not None:
            yield from begun
            return
        back_ms = max(1000, 2 * back_ms)
    # Opened again: not every format can be sought to its beginning.
    with open_media(path) as again:
        tracks = [again.streams[stream.index] for stream in streams]
        for track in tracks:
            if isinstance(track, VideoStream):
                track.thread_type = "AUTO"
        for packet in clock.lay(again.demux(tracks)):
            yield Decoded(packet, decoded(packet))


def decoded(packet: AnyPacket) -> Sequence[VideoFrame | AudioFrame]:
    """A damaged packet costs its own frames only."""
    try:
        return packet.decode()
    except av.FFmpegError:
        return ()


def _begun(
    container: InputContainer, clock: Clock, streams: Sequence[Stream], at_ms: int, target: Fraction
) -> Iterator[Decoded] | None:
    """What follows `target`; None if nothing of the first stream has begun at `at_ms` there."""
    first = streams[0]
    passed: list[AnyPacket] = []
    begins: set[int] = set()
    """Tracks of which packets can be decoded from here on."""
    try:
        _seek(container, clock, first, target)
        packets = clock.lay(container.demux(list(streams)))
        for packet in packets:
            time = clock.time_of(packet, packet.stream)
            if time is not None and time * 1000 > at_ms + BEHIND * 1000:
                return None
            if packet.is_keyframe and _says_when(packet, clock):
                begins.add(packet.stream.index)
            if packet.stream.index not in begins:
                continue
            if packet.stream.index != first.index:
                if time is None or time * 1000 >= at_ms - SETTLED_MS:
                    passed.append(packet)
                continue
            if not (frames := decoded(packet)):
                continue
            time = clock.time_of(frames[0], first)
            if time is None or begins_after(time, at_ms):
                return None
            return chain(
                (Decoded(each, decoded(each)) for each in passed),
                [Decoded(packet, frames)],
                (Decoded(each, decoded(each)) for each in packets),
            )
    except av.FFmpegError:
        pass
    return None


def _says_when(packet: AnyPacket, clock: Clock) -> bool:
    # Behind a place that was sought, FFmpeg guesses for a frame that begins within a packet of the container.
    return not clock.pieces or (packet.pos is not None and packet.dts is not None)


def _seek(container: InputContainer, clock: Clock, stream: Stream, target: Fraction) -> None:
    """Go to the last packet of `stream` that is decoded at or before `target`, or to a key frame before."""
    if not clock.pieces:
        # In the stream's own ticks and rounded down: FFmpeg rounds to the nearest, which can be the key frame after.
        base = stream.time_base or Fraction(1, av.time_base)
        container.seek(int((clock.start + target) // base), stream=stream, backward=True)
        return
    # FFmpeg searches by timestamps that start again where recordings were joined, and lands behind the moment.
    low, high, ticks = 0, container.size, int(target * SECOND)
    while high - low > FINE:
        middle = (low + high) // 2
        found = next(clock.lay(packets_between(container, [stream], middle, middle + EDGE)), None)
        if found is None or (ticks_of(found) or 0) > ticks:
            high = middle
        else:
            low = middle
    container.seek(low, unsupported_byte_offset=True)
