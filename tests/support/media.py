"""Makers of media files: plain ones of which everything is known, and odd ones."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from io import BytesIO
from math import pi
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 160, 120
RATE = 16_000
TIME_BASE = Fraction(1, 1000)
IDENTITY = bytes.fromhex("000100000000000000000000000000000001000000000000000000000000000040000000")
CLOCKWISE = {
    90: bytes.fromhex("000000000001000000000000ffff00000000000000000000000000000000000040000000"),
    180: bytes.fromhex("ffff0000000000000000000000000000ffff000000000000000000000000000040000000"),
    270: bytes.fromhex("00000000ffff000000000000000100000000000000000000000000000000000040000000"),
}


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Grey that tells the frame's number (10 + 5 n), with a red top left quarter."""
    image = np.full((height, width, 3), 10 + 5 * (number % 40), np.uint8)
    image[: height // 2, : width // 2] = (220, 0, 0)
    return image


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """A 440 Hz tone at half loudness."""
    return (0.5 * np.sin(2 * pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def clip(
    path: Path,
    *,
    times_ms: Sequence[int] = range(0, 2000, 100),
    pictures: Sequence[np.ndarray] | None = None,
    pixel_shape: Fraction | None = None,
    pixel_format: str | None = None,
    sound: np.ndarray | None = None,
    has_picture: bool = True,
    container: str | None = None,
    codec: str = "libx264",
    tags: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A film: one frame at each of `times_ms` (any spacing), and a mono track if `sound` is given."""
    with av.open(
        str(path),
        "w",
        format=container,
        options={"movflags": "use_metadata_tags+faststart"} | (options or {}),
    ) as out:
        out.metadata.update(tags or {})
        if has_picture:
            first = pictures[0] if pictures is not None else picture(0)
            video = out.add_stream(
                codec, rate=25, options={"threads": "1", "bf": "0", "g": "10"} if codec == "libx264" else {}
            )
            video.height, video.width = first.shape[:2]
            video.pix_fmt = pixel_format or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
            video.codec_context.sample_aspect_ratio = pixel_shape or Fraction(1)
            video.codec_context.time_base = TIME_BASE
        if sound is not None:
            audio = out.add_stream("aac", rate=RATE, layout="mono")
        for index, time_ms in enumerate(times_ms if has_picture else ()):
            image = pictures[index] if pictures is not None else picture(index)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time_ms, TIME_BASE
            out.mux(video.encode(frame))
        if has_picture:
            out.mux(video.encode(None))
        if sound is not None:
            for first_sample in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(
                    sound[None, first_sample : first_sample + 1024], format="fltp", layout="mono"
                )
                block.pts, block.sample_rate, block.time_base = first_sample, RATE, Fraction(1, RATE)
                out.mux(audio.encode(block))
            out.mux(audio.encode(None))
    return path


def rotated(path: Path, degrees: int) -> Path:
    """A clip that a player turns clockwise by `degrees`, as phones held upright write it."""
    return _with_matrix(clip(path), CLOCKWISE[degrees])


def shown_by(path: Path, a: float, b: float, c: float, d: float, **what: Any) -> Path:
    """A clip of which a stored point (x, y) is shown at (a·x + c·y, b·x + d·y), up to a shift."""
    a, b, c, d = (round(value * (1 << 16)) for value in (a, b, c, d))
    return _with_matrix(clip(path, **what), struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30))


def _with_matrix(path: Path, matrix: bytes) -> Path:
    data = path.read_bytes()
    header = data.index(b"tkhd")
    place = data.index(IDENTITY, header)
    path.write_bytes(data[:place] + matrix + data[place + len(IDENTITY) :])
    return path


def joined(path: Path, *parts: Path) -> Path:
    """Transport streams one behind the other, as they are."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def truncated(path: Path, *, share: float = 0.5, has_index: bool = True) -> Path:
    """A clip of 20 s cut off in the middle; without `has_index` what is lost includes the index at the end."""
    clip(
        path,
        times_ms=range(0, 20_000, 100),
        options=None if has_index else {"movflags": "use_metadata_tags"},
        pictures=_noise(200),
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def damaged(path: Path) -> Path:
    """A clip of 20 s with bytes overwritten in the middle of its pictures."""
    clip(path, times_ms=range(0, 20_000, 100), pictures=_noise(200))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(range(250)) * 80
    path.write_bytes(data)
    return path


def scratched(source: Path, path: Path, *, from_ms: int, to_ms: int) -> Path:
    """A film as it is, but for pictures between these times: their packets hold nothing that a decoder understands."""
    with av.open(str(source)) as film, av.open(str(path), "w") as out:
        tracks = {stream.index: out.add_stream_from_template(stream) for stream in film.streams}
        for packet in film.demux():
            if packet.dts is None:
                continue
            is_hit = packet.stream.type == "video" and from_ms <= packet.pts * packet.time_base * 1000 < to_ms
            copy = av.Packet(b"\xff" * packet.size if is_hit else bytes(packet))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, tracks[packet.stream.index]
            out.mux(copy)
    return path


def _noise(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(count)]


def text_renamed(path: Path) -> Path:
    """A text file that calls itself a film."""
    path.write_text("This is not a film.\n" * 200)
    return path


def empty(path: Path) -> Path:
    """No bytes at all."""
    path.touch()
    return path


def silent_wav(path: Path, samples: int = 0) -> Path:
    """A sound file of that many samples; 0 is a header and nothing else."""
    import wave

    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(b"\0\0" * samples)
    return path


def sparse(path: Path, size: int = 3 << 30, *, begins: Path | None = None) -> Path:
    """A file of `size` bytes that takes no room: zeros, after the content of `begins`."""
    with path.open("wb") as out:
        if begins is not None:
            out.write(begins.read_bytes())
        out.truncate(size)
    return path


def film_of(path: Path, photograph: Path, *, seconds: float = 1) -> Path:
    """A photograph, held for a while."""
    from PIL import Image

    image = Image.open(photograph).convert("RGB")
    even = image.crop((0, 0, image.width // 2 * 2, image.height // 2 * 2))
    times = range(0, int(seconds * 1000), 100)
    return clip(path, times_ms=times, pictures=[np.asarray(even)] * len(times))


def stills_film(path: Path, sizes: Sequence[tuple[int, int]], *, said: tuple[int, int] | None = None) -> Path:
    """An AVI of one JPEG picture of each of `sizes`, which says in its head that they measure `said`."""
    from PIL import Image

    with av.open(str(path), "w", format="avi") as out:
        video = out.add_stream("mjpeg", rate=25)
        video.width, video.height = said or sizes[0]
        video.pix_fmt = "yuvj420p"
        for index, size in enumerate(sizes):
            picture = BytesIO()
            Image.new("RGB", size, (200, 30, 30)).save(picture, "JPEG", quality=20)
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.pts, packet.dts = video, index, index
            packet.time_base, packet.is_keyframe = Fraction(1, 25), True
            out.mux(packet)
    return path
