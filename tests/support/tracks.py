"""Films of several tracks, and sound of any number of channels and in any format."""

from collections.abc import Sequence
from fractions import Fraction
from heapq import merge
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition

from tests.support import media


class Picture(NamedTuple):
    """A picture track: `count` frames of one grey, `every_ms` apart."""

    count: int = 20
    grey: int = 100
    size: tuple[int, int] = (media.WIDTH, media.HEIGHT)
    codec: str = "libx264"
    flags: Disposition = Disposition(0)
    every_ms: int = 100


class Sound(NamedTuple):
    """A sound track."""

    samples: np.ndarray
    """float32, shape (n,) or (channels, n)."""
    codec: str = "aac"
    flags: Disposition = Disposition(0)
    layout: str = "mono"
    rate: int = media.RATE
    from_ms: int = 0


def film(path: Path, *tracks: Picture | Sound, container: str | None = None) -> Path:
    """The tracks in this order, interleaved."""
    with av.open(str(path), "w", format=container) as out:
        streams = [_stream(out, track) for track in tracks]
        for stream, track in zip(streams, tracks, strict=True):
            stream.disposition = track.flags
        packets = [list(_packets(stream, track)) for stream, track in zip(streams, tracks, strict=True)]
        for packet in merge(*packets, key=lambda each: float(each.dts * each.time_base)):
            out.mux(packet)
    return path


def _stream(out, track):
    if isinstance(track, Picture):
        stream = out.add_stream(track.codec, rate=25, options={"threads": "1", "bf": "0"} if track.codec == "libx264" else {})
        stream.width, stream.height = track.size
        stream.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = media.TIME_BASE
        return stream
    return out.add_stream(track.codec, rate=track.rate, layout=track.layout)


def _packets(stream, track):
    if isinstance(track, Picture):
        for number in range(track.count):
            image = np.full((*track.size[::-1], 3), track.grey, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number * track.every_ms, media.TIME_BASE
            yield from stream.encode(frame)
    else:
        # FFmpeg converts to what the encoder takes.
        for frame in frames_of(track):
            yield from stream.encode(frame)
    yield from stream.encode(None)


def frames_of(track: Sound, block: int = 1024):
    """The track before it is encoded, as packed frames: PyAV's arrays go wrong from eight planes on."""
    samples = np.atleast_2d(track.samples).astype(np.float32)
    begin = round(track.from_ms * track.rate / 1000)
    for first in range(0, samples.shape[1], block):
        part = np.ascontiguousarray(samples[:, first : first + block].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, "flt", track.layout)
        frame.pts, frame.sample_rate, frame.time_base = begin + first, track.rate, Fraction(1, track.rate)
        yield frame


def speech(seconds: float, rate: int = media.RATE, pitch: float = 300) -> np.ndarray:
    """Becomes louder and quieter as speech does: words of 300 ms with pauses of 200."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch * time) * (time % 0.5 < 0.3)).astype(np.float32)


def hiss(seconds: float, level: float, rate: int = media.RATE) -> np.ndarray:
    """White noise."""
    return np.random.default_rng(1).normal(0, level, round(seconds * rate)).astype(np.float32)


def silence(seconds: float, rate: int = media.RATE) -> np.ndarray:
    return np.zeros(round(seconds * rate), np.float32)


def undecodable(path: Path, codecs: Sequence[tuple[bytes, int]]) -> Path:
    """Of each (sample entry, number) the number-th track with it, from 1, is in a codec that nobody decodes."""
    data = bytearray(path.read_bytes())
    places = []
    for entry, number in codecs:
        at = -1
        for _ in range(number):
            at = data.index(entry, data.index(b"stsd", at + 1))
        places.append((entry, at))
    for entry, at in places:
        data[at : at + 4] = b"apac" if entry == b"mp4a" else b"zzz1"
        # What is inside would tell what it really is.
        inner = data.index(b"esds" if entry == b"mp4a" else b"avcC", at)
        data[inner : inner + 4] = b"free"
    path.write_bytes(data)
    return path


def loudness_of(samples: np.ndarray, pitch: float, rate: int = media.RATE) -> float:
    """Amplitude of a tone of that pitch."""
    time = np.arange(len(samples)) / rate
    return float(2 * np.abs(np.mean(samples * np.exp(-2j * np.pi * pitch * time))))


def pitch_of(samples: np.ndarray, rate: int = media.RATE) -> int:
    """The strongest, Hz."""
    return round(float(np.abs(np.fft.rfft(samples)).argmax()) * rate / len(samples))
