"""What a file says about itself."""

from collections.abc import Mapping
from datetime import UTC, tzinfo
from io import BytesIO
from pathlib import Path

import av
import msgspec
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from domain.artifacts.video_metadata import Hdr, MediaStream
from domain.errors import MediaUnreadable
from domain.video import FileFacts
from infrastructure.media.clock import duration_ms_of
from infrastructure.media.dates import capture_time
from infrastructure.media.gps import Place, exif_place, place_in
from infrastructure.media.header import open_header
from infrastructure.media.mdpm import notes_in
from infrastructure.media.name_dates import Precision
from infrastructure.media.orientation import UPRIGHT, Screen, displayed, orientation_of
from infrastructure.media.source import checked
from infrastructure.media.streams import codec_name, hdr_of, streams_of
from infrastructure.media.tracks import PACKETS_TO_FIRST_FRAME, flaw_of, tracks_in_header, tracks_of

_MAKE = ("com.apple.quicktime.make", "make", "com.android.manufacturer", "manufacturer")
_MODEL = ("com.apple.quicktime.model", "model", "com.android.model")
_LENS = ("com.apple.quicktime.camera.lens_model", "lens_model", "lens")
_EXIF_BLOCK, _GPS_BLOCK = 0x8769, 0x8825
_EXIF_MAKE, _EXIF_MODEL, _EXIF_LENS = 0x010F, 0x0110, 0xA434
_EXIF_TAKEN = ((0x9003, 0x9011), (0x9004, 0x9012))
"""(time, its offset from UTC): when it was taken, else when it was digitized."""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says about itself."""

    facts: FileFacts
    flaw: MediaUnreadable | None = None
    """Why no picture can be shown; then the rest is what the header says."""
    size_bytes: int
    place: Place | None = None
    captured_at_source: str | None = None
    """Which tag gave `facts.file_created_at`."""
    captured_at_precision: Precision = "second"
    captured_at_offset_min: int | None = None
    """Minutes that clocks there were ahead of UTC, when the file says so."""
    camera_make: str | None = None
    camera_model: str | None = None
    lens: str | None = None
    hdr: Hdr | None = None
    streams: tuple[MediaStream, ...] = ()
    audio_channels: int | None = None
    sample_rate: int | None = None
    """Hz."""


class _Exif(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside the first pictures."""

    source: str = "exif"
    taken: str | None = None
    place: Place | None = None
    make: str | None = None
    model: str | None = None
    lens: str | None = None


def probe(
    path: Path, *, zone: tzinfo = UTC, file_name: str | None = None, track: int | None = None
) -> Probe:
    """Read a file's container; decodes at most its first frame.

    `zone` is for capture times that are written without one; `file_name` when the file is a copy under another name;
    `track` is the index of a picture or sound track that the facts are to be of.

    Raises:
        InvalidParameter: there is no such track.
        MediaMissing: the file is not there, a folder, or not readable.
        MediaUnreadable: it is empty, no media, or not even its header can be read.
    """
    size_bytes = checked(path).st_size
    container, flaw = open_header(path)
    with container:
        tracks = tracks_of(path, track) if flaw is None else tracks_in_header(container)
        picture = container.streams[tracks.picture.track] if tracks.picture else None
        assert picture is None or isinstance(picture, VideoStream)
        sound = container.streams[tracks.sound.track] if tracks.sound else None
        assert sound is None or isinstance(sound, AudioStream)
        flaw = flaw or flaw_of(path, tracks, "video")
        has_video = picture is not None or flaw is not None
        if not has_video and sound is None:
            if (unheard := flaw_of(path, tracks, "audio")) is not None:
                raise unheard
            raise MediaUnreadable(f"{path} has neither a picture nor a sound track")
        tags = _lower(container.metadata)
        track_tags = [_lower(stream.metadata) for stream in container.streams]
        duration_ms = _duration_ms(path, container)
        sample_rate = sound.codec_context.sample_rate or None if sound is not None else None
        frame, exif = _first_frame(container, picture) if picture is not None else (None, _Exif())
        if picture is not None and frame is None:
            codec = picture.codec_context.name
            flaw = flaw or MediaUnreadable(f"{path} has a {codec} picture track, but no frame of it can be decoded")
        every = [tags, *track_tags]
        captured = capture_time(
            tags,
            track_tags=track_tags,
            exif=exif.taken,
            exif_source=exif.source,
            file_name=file_name if file_name is not None else path.name,
            zone=zone,
        )
        orientation = orientation_of(frame) if frame is not None else UPRIGHT
        width, height = _displayed(picture, frame) if picture is not None else (None, None)
        facts = FileFacts(
            duration_ms=duration_ms,
            container=_container_name(container, path),
            has_video=has_video,
            has_audio=sound is not None,
            width=width,
            height=height,
            rotation=orientation.clockwise,
            is_mirrored=orientation.is_mirrored,
            frame_rate=_rate(picture),
            video_codec=codec_name(picture.codec_context) if picture is not None else None,
            audio_codec=codec_name(sound.codec_context) if sound is not None else None,
            bit_rate=container.bit_rate or (size_bytes * 8000 // duration_ms if duration_ms else None),
            file_created_at=captured.at if captured else None,
        )
        return Probe(
            facts=facts,
            flaw=flaw,
            size_bytes=size_bytes,
            place=next((place for found in every if (place := place_in(found))), None) or exif.place,
            captured_at_source=captured.source if captured else None,
            captured_at_precision=captured.precision if captured else "second",
            captured_at_offset_min=captured.offset_min if captured else None,
            camera_make=_first(every, _MAKE) or exif.make,
            camera_model=_first(every, _MODEL) or exif.model,
            lens=_first(every, _LENS) or exif.lens,
            hdr=hdr_of(picture, frame) if picture and frame else None,
            streams=streams_of(container, {one.track: one.reason for one in (tracks.picture, tracks.sound) if one}),
            audio_channels=sound.codec_context.channels or None if sound is not None else None,
            sample_rate=sample_rate,
        )


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in tags.items()}


def _first(many: list[dict[str, str]], keys: tuple[str, ...]) -> str | None:
    return next(
        (value.strip() for tags in many for key in keys if (value := tags.get(key, "")).strip()), None
    )


def _container_name(container: InputContainer, path: Path) -> str:
    """One name out of FFmpeg's list of aliases: the file's suffix when it is among them."""
    names = container.format.name.split(",")
    suffix = path.suffix.lower().lstrip(".")
    return suffix if suffix in names else names[0]


def _rate(picture: VideoStream | None) -> float | None:
    rate = (picture.average_rate or picture.guessed_rate) if picture is not None else None
    return round(float(rate), 3) if rate else None


def _displayed(picture: VideoStream, frame: VideoFrame | None) -> tuple[int | None, int | None]:
    """(width, height) in pixels on a screen; before it is turned and stretched where there is no frame that tells."""
    if frame is not None:
        return displayed(frame)
    return picture.codec_context.width or None, picture.codec_context.height or None


def _duration_ms(path: Path, container: InputContainer) -> int:
    """What the header says where there is nothing else."""
    try:
        return duration_ms_of(path)
    except MediaUnreadable:
        return round((container.duration or 0) / (av.time_base // 1000))


def _first_frame(container: InputContainer, picture: VideoStream) -> tuple[VideoFrame | None, _Exif]:
    """The first frame that decodes, if any does, and what a camera wrote beside the pictures up to it."""
    exif = _Exif()
    packets = container.demux(picture)
    for _ in range(PACKETS_TO_FIRST_FRAME):
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            break
        if packet.size and exif == _Exif():
            exif = _beside(picture.codec_context.name, bytes(packet))
        try:
            frames = packet.decode()
        except av.FFmpegError:
            continue
        if frames and isinstance(frames[0], VideoFrame):
            Screen(picture).note(frames[0])
            return frames[0], exif
    return None, exif


def _beside(codec: str, packet: bytes) -> _Exif:
    if codec == "mjpeg":
        return _exif(packet)
    notes = notes_in(packet) if codec == "h264" else None
    return _Exif() if notes is None else _Exif(source="mdpm", **notes._asdict())


def _exif(jpeg: bytes) -> _Exif:
    from PIL import Image, UnidentifiedImageError

    try:
        found = Image.open(BytesIO(jpeg)).getexif()
        block = found.get_ifd(_EXIF_BLOCK)
        gps = found.get_ifd(_GPS_BLOCK)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return _Exif()
    taken = (f"{block[time]}{block.get(offset) or ''}" for time, offset in _EXIF_TAKEN if block.get(time))
    return _Exif(
        taken=next(taken, None),
        place=exif_place(gps),
        make=str(found.get(_EXIF_MAKE) or "").strip("\0 ") or None,
        model=str(found.get(_EXIF_MODEL) or "").strip("\0 ") or None,
        lens=str(block.get(_EXIF_LENS) or "").strip("\0 ") or None,
    )
