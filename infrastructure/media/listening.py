"""What can be heard on each of several sound tracks, by a look at a few stretches of the file."""

from collections.abc import Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from infrastructure.media.mixing import Mixer
from infrastructure.media.source import open_media

STRETCHES, STRETCH_S = 12, 1
"""Spread over the film. A shorter film is heard whole."""
MOST_PACKETS = 3_000
"""Read for one stretch, of the tracks that are compared."""
RATE, WINDOW = 16_000, 800
"""Samples a second, and those of which one loudness is taken: 50 ms, less than between two words."""
EMPHASIS = np.float32(0.97)
"""Of the sample before, taken away: hum of the mains becomes 29 dB quieter, speech 8."""
SILENT = 50.0
"""A track that is quieter than another by more (34 dB) is silent beside it: inputs without a microphone only hiss."""
LIVELY = 2.0
"""From its quiet moments to its loud ones: tones, hum, hiss and timecode have less, speech far more."""


class Heard(NamedTuple):
    """Of one track."""

    loudness: float
    """Of its louder moments, full scale is 1; 0 for silence."""
    is_lively: bool
    """Whether it becomes louder and quieter, as speech does."""


def heard_on(path: Path, indexes: Collection[int]) -> dict[int, Heard]:
    """What is heard on these tracks of the file; those are missing of which nothing could be decoded.

    Raises:
        MediaMissing, MediaUnreadable: as `open_media`.
    """
    levels: dict[int, list[npt.NDArray[np.float32]]] = {}
    with open_media(path) as container:
        tracks = [stream for stream in container.streams.audio if stream.index in indexes]
        for _ in _stretches(container):
            for index, samples in _read(container, tracks).items():
                levels.setdefault(index, []).append(_levels(samples))
    return {index: _heard(np.concatenate(parts)) for index, parts in levels.items()}


def _stretches(container: InputContainer) -> Iterator[None]:
    """Go to each in turn."""
    length = container.duration or 0
    if length <= STRETCHES * STRETCH_S * av.time_base:
        for _ in range(STRETCHES):  # one behind the other
            yield
        return
    for number in range(STRETCHES):
        try:
            container.seek((container.start_time or 0) + length * (2 * number + 1) // (2 * STRETCHES))
        except av.FFmpegError:
            yield  # it cannot seek: then the beginning has to do
            continue
        yield


def _read(container: InputContainer, tracks: list[AudioStream]) -> dict[int, npt.NDArray[np.float32]]:
    """The next stretch of each track, mono."""
    found: dict[int, list[npt.NDArray[np.float32]]] = {}
    mixers = {track.index: Mixer("mono", RATE) for track in tracks}
    ready: dict[int, Fraction] = dict.fromkeys(mixers, Fraction(0))
    packets = container.demux(tracks)
    for _ in range(MOST_PACKETS):
        try:
            packet = next(packets)
            index = packet.stream.index
            for frame in packet.decode():
                if isinstance(frame, AudioFrame) and frame.sample_rate:
                    ready[index] += Fraction(frame.samples, frame.sample_rate)
                    found.setdefault(index, []).extend(part[0] for part in mixers[index].take(frame))
        except StopIteration:
            break
        except av.FFmpegError:
            continue
        if min(ready.values()) >= STRETCH_S:
            break
    return {index: np.concatenate(parts) for index, parts in found.items() if parts}


def _levels(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Loudness of each window."""
    emphasised = samples[1:] - EMPHASIS * samples[:-1]
    whole = emphasised[: len(emphasised) // WINDOW * WINDOW] if len(emphasised) > WINDOW else emphasised
    rows = whole.reshape(-1, min(WINDOW, max(1, len(whole))))
    loudness: npt.NDArray[np.float32] = np.sqrt(np.mean(rows**2, axis=1))
    return loudness


def _heard(levels: npt.NDArray[np.float32]) -> Heard:
    if not len(levels):
        return Heard(0.0, is_lively=False)
    quiet, loud = np.quantile(levels, (0.2, 0.95))
    return Heard(float(loud), is_lively=bool(loud > LIVELY * quiet))
