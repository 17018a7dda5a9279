"""Sound out of a file, as the speech models want it."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
import structlog
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from domain.errors import MediaUnreadable
from infrastructure.media.clock import clock_of
from infrastructure.media.mixing import Mixer
from infrastructure.media.source import open_media
from infrastructure.media.tracks import sound_track

log = structlog.get_logger(__name__)

RATE = 16_000
"""Samples a second."""
TOLERANCE = RATE // 20
"""Samples (50 ms) that timestamps may wander from the sample count before silence is put in or sound dropped."""
LONGEST_PAUSE_S = 6 * 3_600
"""No recording pauses for longer and goes on: its clock has leapt."""

Samples = npt.NDArray[np.float32]


class Sound(NamedTuple):
    """A stretch of sound."""

    first: int
    """Index of its first sample; sample i sounds at i / RATE seconds of the media's clock."""
    samples: Samples
    """float32 in [-1, 1], mono, 16 kHz, shape (n,)."""


def read_sound(path: Path, *, chunk_s: float = 30.0, track: int | None = None) -> Iterator[Sound]:
    """A sound track in chunks of at most `chunk_s` seconds, one in memory at a time.

    `track` is its index in the file, by default the choice of `tracks_of`.
    A track that begins late, or has holes, is filled with silence, so that sample indexes are times. Without a sound
    track, or with an empty one, there are no chunks.

    Raises:
        InvalidParameter: `track` is no sound track.
        MediaMissing: the file is not there.
        MediaUnreadable: no media, or a sound track of which nothing can be decoded.
    """
    size = int(chunk_s * RATE)
    waiting: list[Samples] = []
    held = first = 0
    for piece in _pieces(path, track):
        waiting.append(piece)
        held += len(piece)
        while held >= size:
            whole = np.concatenate(waiting)
            yield Sound(first, whole[:size])
            first += size
            waiting, held = [whole[size:]], held - size
    if held:
        yield Sound(first, np.concatenate(waiting))


class _Damage:
    packets = 0
    """That could not be decoded."""


def _pieces(path: Path, track: int | None) -> Iterator[Samples]:
    """Short runs of samples without gaps, from time 0 on."""
    damage, clock = _Damage(), clock_of(path)
    with open_media(path) as container:
        stream = sound_track(path, container, track)
        if stream is None:
            return
        start = clock.start
        mixer = Mixer("mono", RATE)
        written = decoded = 0
        for frame in _frames(clock.lay(container.demux(stream)), damage):
            decoded += 1
            if frame.pts is not None and frame.time_base is not None:
                # What the mixer still holds is a few samples: within the tolerance.
                ahead = round((frame.pts * frame.time_base - start) * RATE) - written
                if ahead < -RATE or ahead > LONGEST_PAUSE_S * RATE:
                    # Recordings that were joined start their clock again, and a damaged timestamp leaps: go on where the
                    # last one ended.
                    start += Fraction(ahead, RATE)
                    ahead = 0
                for silence in _silence(ahead):
                    written += len(silence)
                    yield silence
                if ahead < -TOLERANCE:
                    continue
            for mixed in mixer.take(frame):
                written += mixed.shape[1]
                yield mixed[0]
        for mixed in mixer.rest():
            yield mixed[0]
        if damage.packets:
            log.warning("media.damaged_sound", path=str(path), packets=damage.packets)
            if not decoded:
                raise MediaUnreadable(
                    f"nothing of the {stream.codec_context.name} sound of {path} could be decoded"
                )


def _frames(packets: "Iterator[Packet[AudioStream]]", damage: _Damage) -> Iterator[AudioFrame]:
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            damage.packets += 1
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            damage.packets += 1
            continue
        yield from frames


def _silence(count: int) -> Iterator[Samples]:
    if count <= TOLERANCE:
        return
    while count > 0:
        yield np.zeros(min(count, RATE), np.float32)
        count -= RATE
