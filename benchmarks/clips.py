"""Films to measure on: cards, cuts, balls, photographs with faces and a bus, speech; the same bytes each time."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from eioku.demo_film import FPS, Script, Shot, make_film

SOUND_RATE = 16_000
SAMPLES = 1024
"""Of an AAC frame."""
STORY = Script(
    name="story",
    captured_at=datetime(2024, 5, 4, 10, 20, 30, tzinfo=UTC),
    latitude=48.8566,
    longitude=2.3522,
    altitude=35.0,
    city="Paris",
    country="France",
    shots=(
        Shot("card", 4, "CHAPTER ONE", "Welcome to Paris."),
        Shot("balls", 6, says="Today we visit the museum in the old town."),
        Shot("photo", 8, "bus", "The museum opens in the afternoon, and the bus leaves at noon."),
        Shot("card", 4, "INVOICE 2026-0417"),
        Shot("photo", 8, "zidane", "Two people are talking in front of the camera."),
        Shot("balls", 6, says="Tomorrow we will visit the mountains."),
        Shot("card", 4, "PLATFORM 9", "The next train leaves at noon."),
        Shot("photo", 6, "bus"),
        Shot("balls", 5, says="Nobody knows where the story goes from here."),
        Shot("photo", 5, "zidane", "This is the end of the story."),
        Shot("card", 8, "THE END"),
    ),
)
"""64 s: a whole number of AAC frames at SOUND_RATE, so that it can be put behind itself without a gap."""
STORY_S = sum(shot.seconds for shot in STORY.shots)


def minute(path: Path, *, size: tuple[int, int] = (768, 432)) -> Path:
    """The first 60 s of the story as h264 at 25 fps and AAC, with x264's own B-frames and a key frame in ten seconds."""
    return _written(path, size, fps=FPS, seconds=60, times=1, options={"bf": "3", "g": "250"})


def long_film(path: Path, *, seconds: int, size: tuple[int, int] = (320, 180), fps: int = 5) -> Path:
    """The story told over and over for about `seconds`: encoded once, its packets written again and again.

    Small, few frames a second and one key frame a story: two hours are made in seconds.
    """
    # No B-frames: packets are in order of display, and what is put behind does not reach back.
    options = {"bf": "0", "g": str(fps * STORY_S)}
    return _written(path, size, fps=fps, seconds=STORY_S, times=-(-seconds // STORY_S), options=options)


def _written(
    path: Path, size: tuple[int, int], *, fps: int, seconds: int, times: int, options: dict[str, str]
) -> Path:
    with tempfile.TemporaryDirectory() as folder, av.open(str(path), "w") as out:
        film = make_film(STORY, Path(folder) / "story.mp4").path
        out.metadata["creation_time"] = f"{STORY.captured_at:%Y-%m-%dT%H:%M:%SZ}"
        # One thread: x264 gives the same bytes only then.
        usual = {"crf": "23", "preset": "veryfast", "threads": "1"}
        video = out.add_stream("libx264", rate=fps, options=usual | options)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.time_base = Fraction(1, fps)
        audio = out.add_stream("aac", rate=SOUND_RATE, layout="mono")
        audio.time_base = Fraction(1, SOUND_RATE)
        pictures = list(_pictures(film, video, size, fps, seconds))
        sounds = list(_sounds(film, audio, seconds))
        for time in range(times):
            for piece in pictures:
                out.mux(_packet(piece, video, Fraction(1, fps), later=time * seconds * fps))
            for piece in sounds:
                out.mux(_packet(piece, audio, Fraction(1, SOUND_RATE), later=time * seconds * SOUND_RATE))
    return path


class _Piece(NamedTuple):
    """One encoded frame or block of sound."""

    at: int
    """Number of the frame, or of the first sample."""
    decoded_at: int
    """The same, in order of decoding; B-frames are decoded later than others that are shown after them."""
    data: bytes
    is_keyframe: bool


def _packet(piece: _Piece, stream: VideoStream | AudioStream, base: Fraction, *, later: int) -> Packet:
    packet = Packet(piece.data)
    packet.stream, packet.time_base = stream, base
    packet.pts, packet.dts = piece.at + later, piece.decoded_at + later
    packet.is_keyframe = piece.is_keyframe
    return packet


def _pictures(film: Path, stream: VideoStream, size: tuple[int, int], fps: int, seconds: int) -> Iterator[_Piece]:
    scaler = VideoReformatter()
    with av.open(str(film)) as source:
        frames = islice(source.decode(video=0), 0, seconds * FPS, FPS // fps)
        for number, frame in enumerate(frames):
            scaled = scaler.reformat(frame, *size, "yuv420p", interpolation="AREA")
            scaled.pts, scaled.time_base = number, Fraction(1, fps)
            scaled.pict_type = av.video.frame.PictureType.NONE
            yield from (_Piece(packet.pts, packet.dts, bytes(packet), packet.is_keyframe) for packet in stream.encode(scaled))
    yield from (_Piece(packet.pts, packet.dts, bytes(packet), packet.is_keyframe) for packet in stream.encode(None))


def _sounds(film: Path, stream: AudioStream, seconds: int) -> Iterator[_Piece]:
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=SOUND_RATE, frame_size=SAMPLES)
    at = count(0, SAMPLES)
    with av.open(str(film)) as source:
        blocks = (block for frame in [*source.decode(audio=0), None] for block in resampler.resample(frame))
        for block in blocks:
            yield from _encoded(stream, block, at, seconds)
        yield from _encoded(stream, None, at, seconds)


def _encoded(stream: AudioStream, block: AudioFrame | None, at: Iterator[int], seconds: int) -> Iterator[_Piece]:
    if block is not None and block.samples < SAMPLES:
        return
    for packet in stream.encode(block):
        if (first := next(at)) < seconds * SOUND_RATE:
            yield _Piece(first, first, bytes(packet), True)
