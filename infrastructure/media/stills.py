"""Small still pictures of a video."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from domain.errors import MediaUnreadable
from infrastructure.media.clock import Clock, Showing, begins_after, clock_of
from infrastructure.media.frames import Decoding, frames_on_screen
from infrastructure.media.orientation import Screen, displayed, fit, orientation_of
from infrastructure.media.seek import Decoded, decoded_from
from infrastructure.media.source import open_media
from infrastructure.media.tracks import picture_track

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
"""(width, height) in pixels, as displayed."""
MOST_SIDE = 16_383
"""Pixels of a side of a WebP file."""
MOST_PIXELS = 600 * 3840 * 2160
"""Decoded on the way from the key frame before (2,400 pictures of 1080p); with rarer ones an earlier picture is given."""


def fitted(size: Size, *, width: int | None = None, side: int | None = None) -> Size:
    """`size` made smaller, never larger, until it is at most `width` wide and its longer side at most `side`."""
    scale = min(
        Fraction(1),
        Fraction(width, size[0]) if width else Fraction(1),
        Fraction(min(side or MOST_SIDE, MOST_SIDE), max(size)),
    )
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def stills_at(
    path: Path, times_ms: Sequence[int], size: Size, *, decoding: Decoding | None = None, track: int | None = None
) -> Iterator[tuple[int, "Image"]]:
    """What is on screen at each of `times_ms`, which ascend, in one pass through the file.

    Raises:
        MediaMissing, MediaUnreadable: no media, or no pictures.
    """
    scaler = VideoReformatter()
    last: tuple[VideoFrame, Image] | None = None
    for at_ms, frame in frames_on_screen(path, times_ms, decoding=decoding, track=track):
        if last is None or last[0] is not frame:
            last = frame, _still(frame, scaler, size)
        yield at_ms, last[1]


def still_at(path: Path, at_ms: int, size: Size, *, track: int | None = None) -> "Image":
    """The same picture as `stills_at` gives, found by seeking; raises as it does."""
    clock = clock_of(path)
    with open_media(path) as container:
        stream = picture_track(path, container, track)
        if stream is None:
            raise MediaUnreadable(f"{path} has no picture track")
        stream.thread_type = "AUTO"
        best = _on_screen(decoded_from(path, container, clock, [stream], at_ms), clock, stream, at_ms)
        if best is None:
            raise MediaUnreadable(f"{path} has no picture at {at_ms} ms")
        return _still(best, VideoReformatter(), size)


def _on_screen(read: Iterator[Decoded], clock: Clock, stream: VideoStream, at_ms: int) -> VideoFrame | None:
    """The last frame that has begun, or the first there is."""
    showing, screen = Showing(clock, stream), Screen(stream)
    best: VideoFrame | None = None
    pixels = 0
    for frame in (frame for each in read for frame in each.frames):
        assert isinstance(frame, VideoFrame)
        screen.note(frame)
        pixels += frame.width * frame.height
        time = showing.time_of(frame)
        if time is None:
            continue
        is_late = begins_after(time, at_ms)
        if best is None or not is_late:
            best = frame
        if is_late or pixels > MOST_PIXELS:
            break
    return best


def _still(frame: VideoFrame, scaler: VideoReformatter, size: Size) -> "Image":
    """The frame in its own shape, in the middle of a picture of `size`."""
    from PIL import Image

    orientation, inner = orientation_of(frame), fit(displayed(frame), size)
    width, height = reversed(inner) if orientation.is_sideways else inner
    shaped = scaler.reformat(frame, width, height, "rgb24", interpolation="AREA", threads=1)
    image = Image.fromarray(orientation.of(shaped.to_ndarray()))
    if inner == size:
        return image
    whole = Image.new("RGB", size)
    whole.paste(image, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return whole
