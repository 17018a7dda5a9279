"""Streams, dynamic range, pixel shape and camera of files made on the spot."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from av.stream import Disposition
from PIL import Image

from domain.artifacts.video_metadata import Hdr, MediaStream
from infrastructure.media import streams
from infrastructure.media.gps import Place
from infrastructure.media.probe import probe
from infrastructure.media.streams import hdr_of
from tests.support import media

BT709, BT2020, PQ, HLG = 1, 9, 16, 18
MASTERED = (
    "log-level=none:hdr10=1:repeat-headers=1:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
)


def painted(path: Path, codec: str, transfer: int, primaries: int, *, shape: Fraction | None = None, **options: str) -> Path:
    """Three frames in that codec and colour, 10 bits unless it is plain."""
    pixels = "yuv420p" if transfer == BT709 else "yuv420p10le"
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, options={"threads": "1", **options})
        video.width, video.height, video.pix_fmt = media.WIDTH, media.HEIGHT, pixels
        context = video.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, primaries, primaries
        if shape:
            context.sample_aspect_ratio = shape
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(media.picture(index), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


# ---- streams -----------------------------------------------------------------------------------------------------


def test_every_stream_is_told_with_its_language_and_purpose(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    tracks: list[tuple[str, str, str, str, Disposition]] = [
        ("flac", "s16", "stereo", "deu", Disposition.default),
        ("aac", "fltp", "5.1", "eng", Disposition.comment),
        ("pcm_s24le", "s32", "mono", "", Disposition(0)),
    ]
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"threads": "1"})
        video.width, video.height, video.pix_fmt = media.WIDTH, media.HEIGHT, "yuv420p"
        sounds = []
        for codec, form, layout, language, purpose in tracks:
            sound = out.add_stream(codec, rate=48_000, layout=layout)
            sound.format = form
            sound.disposition = purpose
            if language:
                sound.metadata.update({"language": language, "title": f"sound in {language}"})
            sounds.append(sound)
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(media.picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for sound, (_, form, layout, *_) in zip(sounds, tracks, strict=True):
            silence = av.AudioFrame(format=form, layout=layout, samples=1_024)
            for plane in silence.planes:
                plane.update(bytes(plane.buffer_size))
            silence.sample_rate, silence.pts, silence.time_base = 48_000, 0, Fraction(1, 48_000)
            out.mux(sound.encode(silence))
            out.mux(sound.encode(None))
    found = probe(path)
    picture, german, comment, plain = found.streams
    assert picture == MediaStream(
        index=0, kind="video", codec="h264", profile="High", dispositions=picture.dispositions, chosen="only", width=160,
        height=120, frame_rate=25.0, pixel_format="yuv420p", bit_depth=8,
    )  # fmt: skip
    assert german == MediaStream(
        index=1, kind="audio", codec="flac", language="deu", title="sound in deu", dispositions=("default",),
        chosen="default", channels=2, channel_layout="stereo", sample_rate=48_000, bit_depth=16,
    )  # fmt: skip
    assert (comment.codec, comment.language, comment.channels, comment.channel_layout) == ("aac", "eng", 6, "5.1")
    assert comment.dispositions == ("comment",)
    assert comment.bit_depth is None, "lossy"
    assert (plain.codec, plain.language, plain.channels, plain.bit_depth) == ("pcm_s24le", None, 1, 24)
    assert found.audio_channels == 2


def test_what_is_neither_picture_nor_sound_is_told_too(tmp_path: Path) -> None:
    said = tmp_path / "said.srt"
    said.write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    path = tmp_path / "film.mkv"
    with av.open(str(said)) as texts, av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"threads": "1"})
        video.width, video.height, video.pix_fmt = media.WIDTH, media.HEIGHT, "yuv420p"
        out.add_attachment("font.ttf", "application/x-truetype-font", b"no font")
        lines = out.add_stream_from_template(texts.streams.subtitles[0])
        lines.metadata["language"] = "fra"
        lines.disposition = Disposition.forced
        frame = av.VideoFrame.from_ndarray(media.picture(0), format="rgb24")
        out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for packet in texts.demux():
            if packet.pts is not None:
                packet.stream = lines
                out.mux(packet)
    _, subtitle, font = probe(path).streams
    assert (subtitle.kind, subtitle.codec, subtitle.language, subtitle.dispositions) == (
        "subtitle", "subrip", "fra", ("forced",),
    )  # fmt: skip
    assert (font.kind, font.codec) == ("attachment", None)


def test_a_codec_is_named_for_itself_not_for_its_decoder(tmp_path: Path) -> None:
    path = painted(tmp_path / "a.mkv", "libsvtav1", BT709, BT709, preset="12", **{"svtav1-params": "lp=1"})
    assert (probe(path).facts.video_codec, probe(path).streams[0].codec) == ("av1", "av1")


def test_a_lossless_apple_track_keeps_its_depth(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as out:
        sound = out.add_stream("alac", rate=44_100, layout="stereo")
        sound.format = "s32p"
        silence = av.AudioFrame(format="s32p", layout="stereo", samples=4_096)
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        silence.sample_rate, silence.pts, silence.time_base = 44_100, 0, Fraction(1, 44_100)
        out.mux(sound.encode(silence))
        out.mux(sound.encode(None))
    (stream,) = probe(path).streams
    assert (stream.codec, stream.bit_depth, stream.sample_rate) == ("alac", 24, 44_100)


def test_pixels_that_are_no_squares_are_shown_wider(tmp_path: Path) -> None:
    path = painted(tmp_path / "dv.mp4", "libx264", BT709, BT709, shape=Fraction(4, 3))
    found = probe(path)
    assert (found.facts.width, found.facts.height) == (213, 120)
    assert (found.streams[0].width, found.streams[0].height) == (160, 120)


# ---- dynamic range -----------------------------------------------------------------------------------------------


def test_an_hdr10_film_tells_its_light(tmp_path: Path) -> None:
    path = painted(tmp_path / "a.mp4", "libx265", PQ, BT2020, **{"x265-params": MASTERED})
    found = probe(path)
    assert found.hdr == Hdr(
        format="HDR10", transfer="smpte2084", primaries="bt2020", min_luminance=0.0001, max_luminance=1_000.0,
        max_content_light=1_000, max_average_light=400,
    )  # fmt: skip
    (stream,) = found.streams
    assert (stream.bit_depth, stream.profile, stream.transfer, stream.primaries) == (
        10, "Main 10", "smpte2084", "bt2020",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("transfer", "primaries", "hdr"),
    [
        (HLG, BT2020, Hdr(format="HLG", transfer="arib_std_b67", primaries="bt2020")),
        (PQ, BT2020, Hdr(format="PQ", transfer="smpte2084", primaries="bt2020")),
        (BT709, BT709, None),
    ],
)
def test_the_curve_tells_the_range(tmp_path: Path, transfer: int, primaries: int, hdr: Hdr | None) -> None:
    found = probe(painted(tmp_path / "a.mkv", "libx264", transfer, primaries))
    assert found.hdr == hdr
    assert found.streams[0].bit_depth == (10 if hdr else 8)


def test_dolby_vision_is_known_by_its_tag(tmp_path: Path) -> None:
    """No encoder here writes it: the sample entry of an HEVC file is renamed, as profile 5 has it."""
    path = painted(tmp_path / "a.mp4", "libx265", PQ, BT2020, **{"x265-params": "log-level=none"})
    path.write_bytes(path.read_bytes().replace(b"hev1", b"dvhe"))
    hdr = probe(path).hdr
    assert hdr is not None
    assert (hdr.format, hdr.transfer) == ("Dolby Vision", "smpte2084")


def test_light_that_is_told_wrongly_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mastering data that is cut off."""

    class CutOff(bytes):
        type = Type.MASTERING_DISPLAY_METADATA

    path = painted(tmp_path / "a.mkv", "libx264", PQ, BT2020)
    monkeypatch.setattr(streams, "side_data", lambda _frame: [CutOff(b"short")])
    with av.open(str(path)) as container:
        picture = container.streams.video[0]
        found = hdr_of(picture, next(container.decode(picture)))
    assert found == Hdr(format="PQ", transfer="smpte2084", primaries="bt2020")


# ---- camera, place and time --------------------------------------------------------------------------------------


def test_a_phone_tells_camera_lens_place_height_and_its_own_time(tmp_path: Path) -> None:
    path = media.clip(
        tmp_path / "IMG_1.mov",
        container="mov",
        tags={
            "creation_time": "2024-05-04T12:00:00.000000Z",
            "com.apple.quicktime.creationdate": "2024-05-04T13:59:58+0200",
            "com.apple.quicktime.location.ISO6709": "+48.8577+002.2950+035.250/",
            "com.apple.quicktime.make": "Apple",
            "com.apple.quicktime.model": "iPhone 15 Pro",
            "com.apple.quicktime.camera.lens_model": "iPhone 15 Pro back camera 6.86mm f/1.78",
        },
    )
    found = probe(path)
    assert found.facts.file_created_at is not None
    assert found.facts.file_created_at.isoformat() == "2024-05-04T11:59:58+00:00"
    assert (found.captured_at_source, found.captured_at_offset_min) == ("com.apple.quicktime.creationdate", 120)
    assert found.place == Place(48.8577, 2.295, 35.25)
    assert (found.camera_make, found.camera_model) == ("Apple", "iPhone 15 Pro")
    assert found.lens == "iPhone 15 Pro back camera 6.86mm f/1.78"


def test_a_camera_of_the_mjpeg_kind_tells_lens_height_and_offset(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(
        {0x9003: "2009:07:01 18:30:00", 0x9011: "+02:00", 0xA434: "EF-S 18-55mm\0"}
    )
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 27.72), 3: "E", 4: (2.0, 17.0, 42.0), 5: b"\1", 6: 12.5})
    jpeg = BytesIO()
    Image.fromarray(np.ascontiguousarray(media.picture(0))).save(jpeg, "JPEG", exif=exif)
    path = tmp_path / "MVI_1.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = media.WIDTH, media.HEIGHT, "yuvj420p"
        for index in range(3):
            packet = av.Packet(jpeg.getvalue())
            packet.pts = packet.dts = index
            packet.time_base, packet.stream = Fraction(1, 10), stream
            out.mux(packet)
    found = probe(path)
    assert found.facts.file_created_at is not None
    assert found.facts.file_created_at.isoformat() == "2009-07-01T16:30:00+00:00"
    assert (found.captured_at_source, found.captured_at_offset_min) == ("exif", 120)
    assert found.place == Place(48.8577, 2.295, -12.5)
    assert found.lens == "EF-S 18-55mm"
