"""Films in any container whose pictures tell their numbers, with clocks that begin, wrap and start again anywhere."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

WIDTH, HEIGHT, CELL = 128, 48, 16
BITS = WIDTH // CELL
SOUND_RATE = 48_000
SECOND = 90_000
WRAP_S = Fraction(1 << 33, SECOND)
"""After so many seconds the clock of a transport stream begins again."""


class Kind(NamedTuple):
    """What is in a container, and how it is written."""

    suffix: str
    format: str
    codec: str = "libx264"
    sound: str | None = "aac"
    options: dict[str, str] = {}  # noqa: RUF012 — never changed
    can_reorder: bool = True
    pix_fmt: str = "yuv420p"


KINDS = {
    "mp4": Kind("mp4", "mp4"),
    "mov": Kind("mov", "mov"),
    "fragmented": Kind("mp4", "mp4", options={"movflags": "frag_keyframe+empty_moov+default_base_moof+delay_moov"}),
    "mkv": Kind("mkv", "matroska"),
    "mkv without cues": Kind("mkv", "matroska", options={"live": "1"}),
    "webm": Kind("webm", "webm", "libvpx", "libopus", can_reorder=False),
    "avi": Kind("avi", "avi", "mpeg4", "mp3", can_reorder=False),
    "flv": Kind("flv", "flv"),
    "wmv": Kind("wmv", "asf", "wmv2", None, can_reorder=False),
    "ts": Kind("ts", "mpegts"),
    "m2ts": Kind("m2ts", "mpegts", options={"mpegts_m2ts_mode": "1"}),
    "broadcast": Kind("ts", "mpegts", "mpeg2video", "mp2"),
    "mpg": Kind("mpg", "mpeg", "mpeg2video", "mp2"),
    "vob": Kind("vob", "vob", "mpeg2video", "mp2"),
}
JOINABLE = ("ts", "m2ts", "broadcast", "mpg", "vob")


def picture(number: int) -> np.ndarray:
    """The bits of its number as white and black columns."""
    bits = [255 if number >> bit & 1 else 0 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8), CELL)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).copy()


def number_of(image: Any) -> int:
    """Of a picture, however large."""
    grey = np.asarray(image, np.float32).mean(axis=2)
    cell = grey.shape[1] / BITS
    middle = grey[grey.shape[0] // 4 : grey.shape[0] * 3 // 4]
    columns = [middle[:, round((bit + 0.3) * cell) : round((bit + 0.7) * cell)].mean() for bit in range(BITS)]
    return sum(1 << bit for bit, mean in enumerate(columns) if mean > 127)


def film(
    path: Path,
    kind: Kind,
    numbers: Sequence[int],
    *,
    rate: Fraction = Fraction(25),
    gop: int = 12,
    reordered: int = 0,
    start_s: Fraction = Fraction(0),
    has_sound: bool = False,
) -> Path:
    """A picture for each of `numbers`, and a tone beside them; the clock says about `start_s` when the pictures begin."""
    with av.open(str(path), "w", format=kind.format, options=kind.options) as out:
        video = out.add_stream(kind.codec, rate=rate)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, kind.pix_fmt
        video.codec_context.time_base, video.codec_context.gop_size = 1 / rate, gop
        options = {"threads": "1", "bf": str(reordered if kind.can_reorder else 0), "b": "1000000"}
        video.options = options | ({"preset": "veryfast", "x264-params": "scenecut=0"} if kind.codec == "libx264" else {})
        sound = out.add_stream(kind.sound, rate=SOUND_RATE, layout="mono") if has_sound and kind.sound else None
        begin = round(start_s * rate) / rate
        packets = []
        for index, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            packets += video.encode(frame)
        packets += video.encode(None)
        if sound is not None:
            packets += _tone(sound, Fraction(len(numbers)) / rate)
        for packet in sorted(packets, key=lambda each: each.dts * each.time_base):
            shift = round(begin / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            out.mux(packet)
    return path


def _tone(sound: Any, seconds: Fraction) -> list[Any]:
    count = round(seconds * SOUND_RATE)
    samples = (0.3 * np.sin(np.arange(count) * 2 * np.pi * 440 / SOUND_RATE)).astype(np.float32)
    size, packets = sound.codec_context.frame_size or 1024, []
    resampler = av.AudioResampler(format=sound.codec_context.format, layout="mono", rate=SOUND_RATE)
    for first in range(0, count, size):
        block = av.AudioFrame.from_ndarray(samples[None, first : first + size], format="fltp", layout="mono")
        block.pts, block.sample_rate, block.time_base = first, SOUND_RATE, Fraction(1, SOUND_RATE)
        for ready in resampler.resample(block):
            packets += sound.encode(ready)
    return packets + sound.encode(None)
