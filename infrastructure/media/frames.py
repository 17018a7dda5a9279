"""Pictures out of a video, with the times its container gives them."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

import av
import numpy as np
import numpy.typing as npt
import structlog
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from domain.errors import MediaUnreadable
from infrastructure.media.clock import Clock, Showing, begins_after, clock_of
from infrastructure.media.economy import Economy, VideoPacket, Wants
from infrastructure.media.hardware import HARDWARE
from infrastructure.media.orientation import Screen, displayed, orientation_of
from infrastructure.media.tracks import picture_track

log = structlog.get_logger(__name__)

Image = npt.NDArray[np.uint8]
Brightness = npt.NDArray[np.float32]
Layout = Literal["rgb24", "bgr24"]
BIG = 1280 * 720
"""Pixels above which decoding on several threads is worth its overhead (measured; below it costs more CPU in all)."""
FINER = 4
"""Times a side that brightness is first taken at."""
MAX_DAMAGED_IN_A_ROW = 1_000


class Frame:
    """One picture. For one thread at a time."""

    __slots__ = ("_image", "_picture", "_shaper", "index", "time")

    def __init__(self, index: int, time: Fraction, picture: VideoFrame, shaper: "Shaper") -> None:
        """`index`: zero-based, counted over all frames of the file. `time`: seconds from the start, exact."""
        self.index, self.time = index, time
        self._picture, self._shaper = picture, shaper
        self._image: Image | None = None
        if not shaper.is_lazy:
            self._image = shaper.image_of(picture)
        else:
            # The decoder may still write into what it hands out: over a damaged part, say.
            picture.make_writable()

    @property
    def time_ms(self) -> int:
        """Whole milliseconds from the start."""
        return round(self.time * 1000)

    @property
    def screen(self) -> tuple[int, int]:
        """(width, height) in pixels on a screen, whatever size `image` has."""
        return displayed(self._picture)

    @property
    def image(self) -> Image:
        """uint8, shape (height, width, 3), mirrored and turned for display."""
        if self._image is None:
            self._image = self._shaper.image_of(self._picture)
        return self._image

    def brightness(self, columns: int, rows: int) -> Brightness:
        """Mean brightness in equal cells of the picture, 0 to 255, shape (rows, columns), as it is stored.

        Costs a fraction of what `image` does: for who looks at many pictures to choose a few.
        """
        return self._shaper.brightness_of(self._picture, columns, rows)


@dataclass(slots=True)
class Decoding:
    """What happened while frames were read; filled as they are."""

    decoded: int = 0
    """Frames so far, with those that were passed over because nobody wants them."""
    damaged: int = 0
    """Packets that could not be decoded and were passed over."""
    begin: Fraction = Fraction(0)
    """Where the first frame begins, seconds from the start."""
    end: Fraction = Fraction(0)
    """Where the last decoded frame ends, seconds from the start."""
    promised: Fraction = Fraction(0)
    """Where the picture track ends by its own account; 0 when it does not say."""

    @property
    def is_cut_short(self) -> bool:
        """Whether more than a second of the promised pictures is missing at the end."""
        return self.end + 1 < self.promised

    def become(self, other: "Decoding") -> None:
        """Say what `other` says now."""
        self.decoded, self.damaged = other.decoded, other.damaged
        self.begin, self.end, self.promised = other.begin, other.end, other.promised


class SampleFrames(Protocol):
    """Whatever gives frames as `sample_frames` does."""

    def __call__(
        self,
        path: Path,
        *,
        every_ms: int = 0,
        max_side: int | None = None,
        layout: Layout = "rgb24",
        is_lazy: bool = False,
        decoding: Decoding | None = None,
        track: int | None = None,
    ) -> Iterator[Frame]:
        """See `sample_frames`."""


def sample_frames(
    path: Path,
    *,
    every_ms: int = 0,
    max_side: int | None = None,
    layout: Layout = "rgb24",
    is_lazy: bool = False,
    decoding: Decoding | None = None,
    track: int | None = None,
) -> Iterator[Frame]:
    """Frames of `path` about `every_ms` apart (0: all), in presentation order.

    The first frame at or after each multiple of `every_ms` is taken. Times are the container's own timestamps, not
    index/fps: variable-frame-rate files drift by seconds otherwise. Larger pictures are scaled so that the longer
    side is `max_side`. `is_lazy`: few of the images will be looked at, so each is made only when it is. One frame is
    in memory at a time. Damaged packets are passed over, counted in `decoding` and logged once. `track` is
    an index in the file, by default the choice of `tracks_of`.

    Raises:
        InvalidParameter: `track` is no picture track.
        MediaMissing: the file is not there.
        MediaUnreadable: no media, no picture track, or not one frame could be decoded.
    """
    seen, sampler = decoding or Decoding(), Sampler(every_ms, Shaper(max_side, layout, is_lazy=is_lazy))
    for frame, time in decoded_frames(path, seen, (every_ms,), track):
        if sampler.takes(time):
            yield Frame(seen.decoded - 1, time, frame, sampler.shaper)


class Beat:
    """Which frames are the first at or after a multiple of `every_ms` (0: all)."""

    def __init__(self, every_ms: int) -> None:
        self._step, self._due = Fraction(every_ms, 1000), Fraction(0)

    def takes(self, time: Fraction) -> bool:
        """Whether the frame at `time`, seconds from the start, is one; ask once for each, in order."""
        if time < self._due:
            return False
        if self._step:
            self._due = (time // self._step + 1) * self._step
        return True


class Sampler:
    """What one reader takes, and in what shape."""

    def __init__(self, every_ms: int, shaper: "Shaper") -> None:
        self.every_ms, self.shaper = every_ms, shaper
        self.takes = Beat(every_ms).takes


class Shaper:
    """Turns what was decoded into arrays."""

    def __init__(self, max_side: int | None, layout: Layout, *, is_lazy: bool) -> None:
        """`is_lazy`: only when they are asked for."""
        self._max_side, self._layout, self.is_lazy = max_side, layout, is_lazy
        # One scaler for all frames: a new one per frame costs three times the conversion.
        self._scaler, self._averager = VideoReformatter(), VideoReformatter()

    def image_of(self, frame: VideoFrame) -> Image:
        """The picture in the reader's size and layout, mirrored and turned for display."""
        width, height = frame.width, frame.height
        longer = max(width, height)
        if self._max_side is not None and longer > self._max_side:
            width, height = (
                max(2, round(side * self._max_side / longer / 2) * 2) for side in (width, height)
            )
        return orientation_of(frame).of(_scaled(self._scaler, frame, (width, height), self._layout))

    def brightness_of(self, frame: VideoFrame, columns: int, rows: int) -> Brightness:
        """See `Frame.brightness`."""
        # In two steps: swscale adds up at most 256 pixels in a row.
        fine = _scaled(self._averager, frame, (columns * FINER, rows * FINER), "gray")
        cells: Brightness = fine.reshape(rows, FINER, columns, FINER).mean(axis=(1, 3), dtype=np.float32)
        return cells


def _scaled(scaler: VideoReformatter, frame: VideoFrame, size: tuple[int, int], layout: str) -> npt.NDArray[Any]:
    # One thread: handing parts to several costs a tenth more in all, and the other families take the other cores.
    array: npt.NDArray[Any] = scaler.reformat(frame, *size, layout, interpolation="AREA", threads=1).to_ndarray()
    return array


def decoded_frames(
    path: Path, seen: Decoding, beats_ms: Collection[int] = (0,), track: int | None = None
) -> Iterator[tuple[VideoFrame, Fraction]]:
    """Frames as they are decoded, with seconds from the start; `seen` counts them. Raises as `sample_frames`.

    Those that no `Beat` of `beats_ms` takes may be missing; they are counted all the same.
    """
    beats = [Beat(every_ms) for every_ms in beats_ms]

    def wants(time: Fraction, _: Fraction) -> bool:
        return sum(beat.takes(time) for beat in beats) > 0  # each has to see every frame

    clock = clock_of(path)
    with HARDWARE.open_pictures(path, track) as container:
        stream = picture_track(path, container, track)
        if stream is None:
            raise MediaUnreadable(f"{path} has no picture track")
        if stream.duration and stream.time_base:
            seen.promised = min(stream.duration * stream.time_base, clock.length)
        for frame, time in _decode(container, stream, clock, seen, None if 0 in beats_ms else wants):
            seen.decoded += 1
            yield frame, time
    if seen.damaged:
        log.warning("media.damaged", path=str(path), packets=seen.damaged, frames=seen.decoded)
    if not seen.decoded:
        raise MediaUnreadable(f"not one frame of {path} could be decoded ({seen.damaged} damaged packets)")


def frames_on_screen(
    path: Path, times_ms: Sequence[int], *, decoding: Decoding | None = None, track: int | None = None
) -> Iterator[tuple[int, VideoFrame]]:
    """What a player shows at each of `times_ms`, which ascend, as decoded: the last frame that has begun, in one pass.

    The first frame stands for all before it, the last for all behind. Nothing is decoded behind the last time. Raises as
    `sample_frames`.
    """
    seen = decoding or Decoding()
    shown: VideoFrame | None = None
    waiting = iter(times_ms)
    due = next(waiting, None)
    if due is None:
        return
    clock = clock_of(path)
    with HARDWARE.open_pictures(path, track) as container:
        stream = picture_track(path, container, track)
        if stream is None:
            raise MediaUnreadable(f"{path} has no picture track")
        for frame, time in _decode(container, stream, clock, seen, _on_screen(times_ms)):
            seen.decoded += 1
            while due is not None and shown is not None and begins_after(time, due):
                yield due, shown
                due = next(waiting, None)
            if due is None:
                return
            shown = frame
    if shown is None:
        raise MediaUnreadable(f"not one frame of {path} could be decoded ({seen.damaged} damaged packets)")
    while due is not None:
        yield due, shown
        due = next(waiting, None)


def _on_screen(times_ms: Sequence[int]) -> Wants:
    """Whether a frame is on the screen at one of the times."""
    waiting = deque(times_ms)

    def wants(_: Fraction, end: Fraction) -> bool:
        is_wanted = False
        while waiting and begins_after(end, waiting[0]):
            waiting.popleft()
            is_wanted = True
        return is_wanted

    return wants


def _decode(
    container: InputContainer, stream: VideoStream, clock: Clock, seen: Decoding, wants: Wants | None
) -> Iterator[tuple[VideoFrame, Fraction]]:
    """Decoded frames with seconds from the start, never going backwards; the encoder's lead-in is left out."""
    context = stream.codec_context
    if context.width * context.height > BIG and not context.is_hwaccel:
        stream.thread_type = "AUTO"
    economy, showing = Economy(container, stream, clock.start, wants), Showing(clock, stream)
    for frame in _frames(stream, clock.lay(container.demux(stream)), seen, economy):
        time = showing.time_of(frame)
        seen.decoded += economy.passed_over(frame)
        if time is not None:
            if not seen.end:
                seen.begin = time
            seen.end = max(seen.end, time + showing.length_of(frame))
            yield frame, time


def _frames(
    stream: VideoStream, demuxed: Iterator[VideoPacket], seen: Decoding, economy: Economy
) -> Iterator[VideoFrame]:
    in_a_row, screen = 0, Screen(stream)
    packets = economy.packets(demuxed)
    while in_a_row < MAX_DAMAGED_IN_A_ROW:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            seen.damaged += 1
            return  # the container itself is broken from here on
        if not packet.size and packet.dts is not None:
            continue  # Theora's way to say that the picture before stays
        try:
            frames = packet.decode()
        except av.FFmpegError:
            seen.damaged += 1
            in_a_row += 1
            economy.lost(packet)
            continue
        in_a_row = 0
        for frame in frames:
            if isinstance(frame, VideoFrame):
                screen.note(frame)
                yield frame
