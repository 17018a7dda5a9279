"""How a stored picture is shown: its shape on a screen, mirrored and turned as the file says."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from math import atan2, degrees, hypot
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.sidedata.sidedata import SideData, SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

MATRIX = struct.Struct("=9i")
"""AVFrame's display matrix, row by row: a stored point (x, y) is shown at (m0·x + m3·y, m1·x + m4·y)."""
ODDEST = 20
"""Pixel shapes beyond 1:20 are errors of the file: there are none in use beyond 1:3."""
UNNAMED = range(28, 40)
"""Kinds of side data that FFmpeg has and PyAV does not know: one of them hides all the others."""


class Orientation(NamedTuple):
    """What a player does with a stored picture: it mirrors left and right first, then turns."""

    clockwise: int = 0
    """Degrees: 0, 90, 180 or 270."""
    is_mirrored: bool = False

    @property
    def is_sideways(self) -> bool:
        """Whether width and height change places."""
        return self.clockwise in {90, 270}

    def of(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """`image` as it is shown; shape (height, width, …)."""
        if self.is_mirrored:
            image = image[:, ::-1]
        if self.clockwise:
            image = np.rot90(image, -self.clockwise // 90)
        return np.ascontiguousarray(image)


UPRIGHT = Orientation()


class _Shown(NamedTuple):
    """What `Screen` keeps with a frame."""

    pixel: Fraction
    """Width of a pixel by its height."""
    orientation: Orientation


class Screen:
    """How the frames of one stream are shown, which may change from one to the next."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._first: Fraction | None = None

    def note(self, frame: VideoFrame) -> None:
        """Keep how the frame, which was decoded just now, is shown: PyAV tells the shape of the newest one only."""
        now = _sane(self._stream.codec_context.sample_aspect_ratio)
        if self._first is None:
            self._first = now
        # What the container says goes before, as in players, until the stream itself changes.
        pixel = _sane(self._stream.sample_aspect_ratio) if now == self._first else now
        frame.opaque = _Shown(pixel, _orientation(frame))


def _sane(pixel: Fraction | None) -> Fraction:
    return pixel if pixel and Fraction(1, ODDEST) <= pixel <= ODDEST else Fraction(1)


def displayed(frame: VideoFrame) -> tuple[int, int]:
    """(width, height) in pixels on a screen: pixel shape applied, mirrored and turned."""
    shown = _shown(frame)
    width, height = max(1, round(frame.width * shown.pixel)), frame.height
    return (height, width) if shown.orientation.is_sideways else (width, height)


def orientation_of(frame: VideoFrame) -> Orientation:
    """What is to be done with the frame's stored picture."""
    return _shown(frame).orientation


def _shown(frame: VideoFrame) -> _Shown:
    shown = frame.opaque
    return shown if isinstance(shown, _Shown) else _Shown(Fraction(1), _orientation(frame))


def _orientation(frame: VideoFrame) -> Orientation:
    """As FFmpeg's autorotate has it; the nearest quarter for an odd angle, which no camera writes on purpose."""
    matrix = next((bytes(data) for data in side_data(frame) if data.type is Type.DISPLAYMATRIX), b"")
    if len(matrix) < MATRIX.size:
        return UPRIGHT
    a, b, _, c, d, *_ = MATRIX.unpack_from(matrix)
    if not hypot(a, c) or not hypot(b, d):
        return UPRIGHT  # it would show nothing
    is_mirrored = a * d - b * c < 0
    sign = -1 if is_mirrored else 1
    angle = degrees(atan2(sign * b / hypot(b, d), sign * a / hypot(a, c)))
    return Orientation(round(angle / 90) % 4 * 90, is_mirrored)


def side_data(frame: VideoFrame) -> Sequence[SideData]:
    """What comes with the frame, but for what PyAV has no name for."""
    collect: Any = SideDataContainer  # PyAV's types do not know that it is made of a frame
    try:
        # Not `frame.side_data`: that is a cycle, in which decoded frames wait for the garbage collector, and
        # `make_writable` leaves it with pointers to what was freed.
        return tuple(collect(frame))
    except ValueError:
        return tuple(collect(_without_unnamed(frame)))


def _without_unnamed(frame: VideoFrame) -> VideoFrame:
    graph = Graph()
    nodes = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)),
        *(graph.add("sidedata", f"mode=delete:type={kind}") for kind in UNNAMED),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    graph.push(frame)
    found = graph.pull()
    assert isinstance(found, VideoFrame)
    return found


def fit(shape: tuple[int, int], size: tuple[int, int], *, slack: int = 1) -> tuple[int, int]:
    """(width, height) of the largest picture of `shape` within `size`; `size` itself when it is at most `slack` off."""
    scale = min(Fraction(size[0], shape[0]), Fraction(size[1], shape[1]))
    width, height = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    return size if size[0] - width <= slack and size[1] - height <= slack else (width, height)
