"""What a file says about itself, and where it was filmed."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Index, Millis

HdrFormat = Literal["HDR10", "HDR10+", "HLG", "PQ", "Dolby Vision"]
"""PQ: the curve of HDR10 without what an HDR10 file says about its light."""


class MediaStream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One stream of the file; every field is absent when the file does not say."""

    index: Index
    """Place in the file, from 0."""
    kind: str
    """video, audio, subtitle, data, attachment."""
    codec: str | None = None
    """FFmpeg's name, e.g. "hevc"."""
    profile: str | None = None
    """Of the codec, e.g. "Main 10"."""
    language: str | None = None
    """As the file has it, mostly ISO 639-2: "eng"."""
    title: str | None = None
    dispositions: tuple[str, ...] = ()
    """default, forced, original, commentary and so on, by FFmpeg's names; "attached_pic" is a cover, not a film."""
    chosen: str | None = None
    """Of the picture track that is looked at and the sound track that is heard, why: "only", "asked", "first", "longest",
    "largest", "default", "film" (the others are stills), "heard" (they are silent), "lively" (tones or noise), "main"
    (commentary, dubbed, or for some people only), "decodable" (nothing here decodes them)."""
    bit_rate: Index | None = None
    """Bits a second."""
    width: Index | None = None
    """Pixels as stored, before rotation and pixel shape."""
    height: Index | None = None
    frame_rate: Annotated[float, Meta(ge=0)] | None = None
    """Frames a second, on average."""
    pixel_format: str | None = None
    transfer: str | None = None
    """Curve from signal to light, e.g. "bt709"."""
    primaries: str | None = None
    """What red, green and blue are, e.g. "bt2020"."""
    channels: Index | None = None
    channel_layout: str | None = None
    """e.g. "5.1"."""
    sample_rate: Index | None = None
    """Hz."""
    bit_depth: Index | None = None
    """Of a colour component; of a sound sample, where the codec keeps samples as they are."""


class Hdr(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the picture exceeds standard dynamic range."""

    format: HdrFormat
    transfer: str | None = None
    """smpte2084 (PQ) or arib_std_b67 (HLG)."""
    primaries: str | None = None
    min_luminance: Annotated[float, Meta(ge=0)] | None = None
    """Of the display that it was mastered on, cd/m²."""
    max_luminance: Annotated[float, Meta(ge=0)] | None = None
    max_content_light: Index | None = None
    """Of the brightest pixel of the film (MaxCLL), cd/m²."""
    max_average_light: Index | None = None
    """Of the brightest frame on average (MaxFALL), cd/m²."""


class VideoMetadataV1(Payload, frozen=True):
    """Container and camera facts; every field is absent when the file does not say. Produced by `workers.metadata`."""

    NAME: ClassVar[str] = "video.metadata"
    VERSION: ClassVar[int] = 1

    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    """Degrees, WGS 84."""
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None
    altitude: float | None = None
    """Metres above sea level."""
    country: str | None = None
    state: str | None = None
    city: str | None = None
    """The town that the place is in or near; absent where the nearest is far."""
    district: str | None = None
    """Part of the city."""
    city_distance_km: Annotated[float, Meta(ge=0)] | None = None
    duration_ms: Millis | None = None
    width: Index | None = None
    """Pixels as displayed, rotation applied."""
    height: Index | None = None
    rotation: int | None = None
    """Clockwise degrees applied for display."""
    is_mirrored: bool | None = None
    """True where left and right change places before that; absent for other files."""
    frame_rate: Annotated[float, Meta(ge=0)] | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    audio_channels: Index | None = None
    sample_rate: Index | None = None
    """Hz."""
    bit_rate: Index | None = None
    """Bits a second, whole file."""
    file_size: Index | None = None
    """Bytes."""
    container: str | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    captured_at: datetime | None = None
    """When it was filmed, UTC."""
    captured_at_source: str | None = None
    """Which tag said so: see `infrastructure.media.dates`."""
    captured_at_precision: Literal["minute", "day"] | None = None
    """Absent when the second is known; of a day alone `captured_at` is its first instant."""
    captured_at_offset_min: Annotated[int, Meta(ge=-1_440, le=1_440)] | None = None
    """Minutes that clocks there were ahead of UTC, when the file says so."""
    lens: str | None = None
    hdr: Hdr | None = None
    """Absent for standard dynamic range."""
    streams: tuple[MediaStream, ...] = ()
    """All of them, in the order of the file."""
    blake3: str | None = None
    """Hash of the whole file, hex."""

    def flaw(self) -> str | None:
        """Half a coordinate."""
        if (self.latitude is None) != (self.longitude is None):
            return "latitude and longitude come together or not at all"
        return None

    @classmethod
    def example(cls) -> "VideoMetadataV1":
        """A valid payload."""
        return cls(
            latitude=48.8577,
            longitude=2.295,
            altitude=35.0,
            country="France",
            city="Paris",
            district="Paris 07 Palais-Bourbon",
            duration_ms=17000,
            captured_at_offset_min=120,
            streams=(
                MediaStream(index=0, kind="video", codec="hevc", bit_depth=10, dispositions=("default",)),
            ),
        )
