"""What each stream of a file is, and the light of its picture."""

import re
import struct
from collections.abc import Mapping
from typing import Any, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import CodecContext
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc
from av.video.stream import VideoStream

from domain.artifacts.video_metadata import Hdr, HdrFormat, MediaStream
from infrastructure.media.orientation import side_data
from infrastructure.media.source import has_decoder

_DOLBY_VISION_TAGS = {"dvh1", "dvhe", "dvav", "dva1", "dav1"}
_PCM = re.compile(r"pcm_[a-z](\d+)")
_STREAM = re.compile(
    r"^[ \t]{1,8}Stream #0:(\d{1,6})[^ \n]{0,200}: \w{1,40}: (\S{1,100})(?: \((\S{1,100}) /)?", re.MULTILINE
)
"""What FFmpeg says of a stream, such as `Stream #0:1[0x2](und): Audio: none (apac / 0x63617061), 48000 Hz`."""
_FLAC_INFO = 34
_ALAC_COOKIE, _ALAC_DEPTH = 36, 17
_MASTERING = struct.Struct("=20i2i")
"""AVMasteringDisplayMetadata: 10 fractions (6 of primaries, 2 of white, lowest and highest luminance), 2 flags."""
_LIGHT = struct.Struct("=2I")
"""AVContentLightMetadata: of the brightest pixel, of the brightest frame on average."""


def streams_of(container: InputContainer, chosen: Mapping[int, str]) -> tuple[MediaStream, ...]:
    """Every stream in the order of the file. `chosen`: why each of those is looked at or heard, by index."""
    names = codecs_without_decoder(container)
    return tuple(_stream(stream, names.get(stream.index), chosen.get(stream.index)) for stream in container.streams)


def codecs_without_decoder(container: InputContainer) -> dict[int, str]:
    """By index, the picture and sound tracks that nothing here decodes."""
    lost = [s.index for s in container.streams if s.type in {"video", "audio"} and not has_decoder(s)]
    if not lost:
        return {}
    # PyAV tells the codec only of what it decodes, but for this text.
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        said = {int(index): tag or codec for index, codec, tag in _STREAM.findall(cast("Any", container).dumps_format())}
    finally:
        av.logging.set_level(level)
    return {index: said.get(index, "unknown") for index in lost}


def codec_name(context: CodecContext) -> str:
    """Of the codec, whatever decodes it here: "av1", not "libdav1d"."""
    return context.codec.canonical_name


def _stream(stream: Stream, undecoded: str | None, chosen: str | None) -> MediaStream:
    # PyAV's types say there always is one; for codecs it does not know there is none.
    context: Any = stream.codec_context
    tags = {key.lower(): value.strip() for key, value in stream.metadata.items()}
    language = tags.get("language", "")
    about: dict[str, Any] = {
        "index": stream.index,
        "kind": stream.type,
        "codec": codec_name(context) if context is not None else undecoded,
        "profile": getattr(stream, "profile", None) or None,
        "language": language if language not in {"", "und"} else None,
        "title": tags.get("title") or None,
        "dispositions": tuple(
            one.name.lower() for one in Disposition if one.name and stream.disposition & one
        ),
        "chosen": chosen,
        "bit_rate": getattr(context, "bit_rate", None) or None,
    }
    match context:
        case VideoCodecContext():
            assert isinstance(stream, VideoStream)
            rate = stream.average_rate or stream.guessed_rate
            about |= {
                "width": context.width or None,
                "height": context.height or None,
                "frame_rate": round(float(rate), 3) if rate else None,
                "pixel_format": context.pix_fmt,
                "bit_depth": max((part.bits for part in context.format.components), default=None)
                if context.format
                else None,
                "transfer": _named(ColorTrc, context.color_trc),
                "primaries": _named(ColorPrimaries, context.color_primaries),
            }
        case AudioCodecContext():
            about |= {
                "channels": context.channels or None,
                "channel_layout": context.layout.name or None,
                "sample_rate": context.sample_rate or None,
                "bit_depth": _sample_bits(context),
            }
        case _:
            pass
    return MediaStream(**about)


def _named(kind: type[ColorTrc] | type[ColorPrimaries], value: int) -> str | None:
    """FFmpeg's name in lower case; None when the file does not say."""
    if value == kind.UNSPECIFIED:
        return None
    return next((one.name.lower() for one in kind if one.value == value), None)


def _sample_bits(context: AudioCodecContext) -> int | None:
    """Bits of a sample, of what keeps them: lossy codecs have none."""
    if match := _PCM.match(context.name):
        return int(match[1])
    extra = context.extradata or b""
    if context.name == "flac" and len(extra) == _FLAC_INFO:
        # 64 bits: 20 rate, 3 channels, 5 bits of a sample less one, 36 length.
        return (int.from_bytes(extra[10:18]) >> 36 & 31) + 1
    if context.name == "alac" and len(extra) >= _ALAC_COOKIE:
        return extra[_ALAC_DEPTH]
    return None


def hdr_of(picture: VideoStream, frame: VideoFrame) -> Hdr | None:
    """How the picture exceeds standard range, by its stream and first frame; None when it does not."""
    side = {data.type: bytes(data) for data in side_data(frame)}
    transfer = _named(ColorTrc, frame.color_trc) or _named(ColorTrc, picture.codec_context.color_trc)
    primaries = _named(ColorPrimaries, frame.color_primaries)
    is_dolby_vision = (
        picture.codec_context.codec_tag in _DOLBY_VISION_TAGS
        or Type.DOVI_METADATA in side
        or Type.DOVI_RPU_BUFFER in side
    )
    if transfer not in {"smpte2084", "arib_std_b67"} and not is_dolby_vision:
        return None
    lowest, highest = _luminance(side.get(Type.MASTERING_DISPLAY_METADATA, b""))
    light = side.get(Type.CONTENT_LIGHT_LEVEL, b"")
    brightest, average = _LIGHT.unpack_from(light) if len(light) >= _LIGHT.size else (0, 0)
    form: HdrFormat = "PQ"
    if is_dolby_vision:
        form = "Dolby Vision"
    elif transfer == "arib_std_b67":
        form = "HLG"
    elif Type.DYNAMIC_HDR_PLUS in side:
        form = "HDR10+"
    elif highest or brightest:
        form = "HDR10"
    return Hdr(
        format=form,
        transfer=transfer,
        primaries=primaries or _named(ColorPrimaries, picture.codec_context.color_primaries),
        min_luminance=lowest,
        max_luminance=highest,
        max_content_light=brightest or None,
        max_average_light=average or None,
    )


def _luminance(mastering: bytes) -> tuple[float | None, float | None]:
    """(lowest, highest) of the display that it was mastered on, cd/m²."""
    if len(mastering) < _MASTERING.size:
        return None, None
    *_, low, low_of, high, high_of, _, has_luminance = _MASTERING.unpack_from(mastering)
    if not has_luminance or not low_of or not high_of:
        return None, None
    return low / low_of, high / high_of
