"""Opening media: clear errors for what is not there or no media, and nothing a file names is ever opened in its stead."""

import os
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition, Stream

from domain.errors import MediaUnreadable
from infrastructure.media.opening import again, opened

# Only real containers. Playlists (hls, concat, dash) would make FFmpeg open other files and addresses that a media
# file names; `tty` and the subtitle formats would take any text for media.
CONTAINERS = (
    "aac,ac3,aiff,amr,apng,asf,au,avi,caf,dv,eac3,flac,flv,gif,gxf,h264,hevc,ivf,m4v,matroska,webm,mov,mp4,m4a,3gp,3g2,"
    "mj2,mp3,mpeg,mpegts,mpegvideo,mxf,nut,ogg,rm,vob,vc1,w64,wav,wtv,y4m,yuv4mpegpipe"
)


MOST_PIXELS, MOST_SIDE = 64 * 1024 * 1024, 16_384
"""Of a picture: 8K has 33 million. One of 16,000 by 16,000, in a file of 99 KB, took 4.9 GB to cut."""


def checked(path: Path) -> os.stat_result:
    """The file's stat.

    Raises:
        MediaMissing: not there, outside the folders that may be read, not a regular file, or not readable by this user.
        MediaUnreadable: it is empty.
    """
    with opened(path) as descriptor:
        return _filled(path, descriptor)


def _filled(path: Path, descriptor: int) -> os.stat_result:
    found = os.fstat(descriptor)
    if found.st_size == 0:
        raise MediaUnreadable(f"{path} is empty (0 bytes)")
    return found


def open_media(path: Path, *, hwaccel: HWAccel | None = None) -> InputContainer:
    """An open container; use it in a `with`. Pictures are decoded in software unless `hwaccel` says otherwise.

    Raises:
        MediaMissing: as `checked`.
        MediaUnreadable: empty, no media that we know, or pictures larger than we decode.
    """
    with opened(path) as descriptor:
        _filled(path, descriptor)
        try:
            # Not by its path: that could lead somewhere else by now.
            container = av.open(
                f"file:{os.fsdecode(again(path.absolute(), descriptor))}",
                options={"format_whitelist": CONTAINERS, "max_pixels": str(MOST_PIXELS)},
                metadata_errors="replace",
                hwaccel=hwaccel,
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise MediaUnreadable(
                f"{path} is no media file, or its index is missing or cut off: {_reason(error)}"
            ) from error
    try:
        _bound_pictures(path, container)
    except BaseException:
        container.close()
        raise
    return container


def _bound_pictures(path: Path, container: InputContainer) -> None:
    """Refuse pictures that are too large, now or when they grow later in the file."""
    for stream in container.streams.video:
        context = stream.codec_context
        if not has_decoder(stream) or stream.disposition & Disposition.attached_pic:
            continue
        if context.width * context.height > MOST_PIXELS or max(context.width, context.height) > MOST_SIDE:
            raise MediaUnreadable(
                f"the pictures of {path} measure {context.width} x {context.height}: at most {MOST_PIXELS} pixels"
                f" and {MOST_SIDE} a side are decoded"
            )
        context.options = {**context.options, "max_pixels": str(MOST_PIXELS)}


def has_decoder(stream: Stream) -> bool:
    """Whether something here decodes its codec."""
    context: object = stream.codec_context  # PyAV's types say there always is one
    return context is not None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
