"""Decoding on a GPU or media engine where that works, in software everywhere else (ADR-0018).

Off until a process allows it: a CUDA context takes some hundred MB of the card.
"""

from itertools import islice
from pathlib import Path

import av
import structlog
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from domain.errors import MediaUnreadable
from infrastructure.media.orientation import orientation_of
from infrastructure.media.source import open_media
from infrastructure.media.tracks import picture_track

log = structlog.get_logger(__name__)

KINDS = ("cuda", "videotoolbox")
"""Kinds of hardware that are used, of those that FFmpeg was built with; preferred first."""
WORTH_IT = 1280 * 720
"""Pixels; smaller pictures are decoded in software in about a millisecond."""
FIRST_FRAMES = 3
"""Of a kind of stream that was not met before: they must come out of the hardware as they do in software."""
_FAILURES = (av.FFmpegError, OSError, ValueError, RuntimeError, MediaUnreadable)

Look = tuple[str, str | None, str | None, int, int]
"""(codec, profile, pixel format, width, height): what decides whether a decoder takes a stream."""


class Hardware:
    """What this process knows of its decoders; it asks each question once."""

    def __init__(self) -> None:
        self.is_allowed = False
        self._kind: str | None = next((kind for kind in KINDS if kind in hwdevices_available()), None)
        """None once it turned out that there is no such device."""
        self._takes: dict[Look, bool] = {}

    def open_pictures(self, path: Path, track: int | None = None) -> InputContainer:
        """As `open_media`; decodes on hardware what is large and what the hardware decodes as software does."""
        container = open_media(path)
        try:
            stream = picture_track(path, container, track)
            is_taken = stream is not None and self._is_taken(path, stream)
        except BaseException:
            container.close()
            raise
        if not is_taken:
            return container
        container.close()
        try:
            return self._opened(path)
        except _FAILURES:
            return open_media(path)  # it has been taken by others meanwhile

    def _is_taken(self, path: Path, stream: VideoStream) -> bool:
        context = stream.codec_context
        if not self.is_allowed or self._kind is None or context.width * context.height <= WORTH_IT:
            return False
        look = (context.name, context.profile, context.pix_fmt, context.width, context.height)
        if look not in self._takes:
            self._takes[look] = self._is_the_same(path, stream.index)
        return self._takes[look]

    def _is_the_same(self, path: Path, index: int) -> bool:
        """Whether the first frames come out of the hardware as they do in software."""
        try:
            container = self._opened(path)
        except _FAILURES as error:  # in software it did open: there is no such device
            log.info("hardware.not_there", kind=self._kind, error=str(error))
            self._kind = None
            return False
        with container:
            try:
                found = _first_frames(container, index)
            except _FAILURES as error:
                log.warning("hardware.fails", kind=self._kind, path=str(path), error=str(error))
                return False
        with open_media(path) as software:
            return bool(found) and found == _first_frames(software, index)

    def _opened(self, path: Path) -> InputContainer:
        kind = self._kind
        if kind is None:
            raise MediaUnreadable("another job found meanwhile that there is no such device")
        return open_media(path, hwaccel=HWAccel(kind, allow_software_fallback=True))


def _first_frames(container: InputContainer, index: int) -> list[tuple[object, ...]]:
    """Time, size and orientation of each."""
    decoded = islice(container.decode(container.streams[index]), FIRST_FRAMES)
    frames = [frame for frame in decoded if isinstance(frame, VideoFrame)]
    return [(frame.pts, frame.time_base, frame.width, frame.height, orientation_of(frame)) for frame in frames]


HARDWARE = Hardware()
"""Of this process."""
