"""Frames, sound, facts and fingerprints of small files made on the spot."""

import resource
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import blake3
import numpy as np
import pytest
from av.video.frame import VideoFrame

from domain.errors import JobCancelled, MediaUnreadable
from infrastructure.media.audio import RATE, read_sound
from infrastructure.media.fingerprint import fingerprint
from infrastructure.media.frames import Decoding, Shaper, sample_frames
from infrastructure.media.gps import Place
from infrastructure.media.probe import probe
from infrastructure.media.tracks import picture_of, sound_of
from tests.support import media


def number_of(image: np.ndarray) -> int:
    """The frame number that `media.picture` painted."""
    height, width = image.shape[:2]
    return round((float(image[height // 4 : height // 3, width * 5 // 8 : width * 7 // 8].mean()) - 10) / 5)


def test_all_frames_come_in_order_with_their_numbers_and_times(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.mp4")
    frames = list(sample_frames(path))
    assert [f.index for f in frames] == list(range(20))
    assert [f.time_ms for f in frames] == list(range(0, 2000, 100))
    assert [number_of(f.image) for f in frames] == list(range(20))
    assert frames[0].image.shape == (media.HEIGHT, media.WIDTH, 3)
    assert frames[3].time == Fraction(3, 10)


def test_sampling_takes_the_first_frame_of_each_step(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.mp4")
    assert [f.time_ms for f in sample_frames(path, every_ms=250)] == [
        0,
        300,
        500,
        800,
        1000,
        1300,
        1500,
        1800,
    ]
    assert [f.index for f in sample_frames(path, every_ms=1000)] == [0, 10]


def test_a_variable_frame_rate_keeps_its_own_times(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 1700, 1740, 3000, 3010, 4999]
    path = media.clip(tmp_path / "vfr.mp4", times_ms=times)
    frames = list(sample_frames(path))
    assert [f.time_ms for f in frames] == times
    assert [number_of(f.image) for f in frames] == list(range(9))
    assert [f.time_ms for f in sample_frames(path, every_ms=1000)] == [0, 1700, 3000, 4999]


def test_a_transport_stream_starts_at_zero_as_in_a_player(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.ts", container="mpegts")
    frames = list(sample_frames(path))
    assert frames[0].time_ms == 0
    assert frames[-1].time_ms == 1900
    assert probe(path).facts.duration_ms == pytest.approx(2000, abs=110)


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_phones_rotation_is_applied(tmp_path: Path, degrees: int, corner: tuple[int, int]) -> None:
    path = media.rotated(tmp_path / "upright.mp4", degrees)
    frame = next(iter(sample_frames(path)))
    upright = degrees != 180
    size = (media.HEIGHT, media.WIDTH) if upright else (media.WIDTH, media.HEIGHT)
    assert (frame.image.shape[1], frame.image.shape[0]) == size
    row, column = (value * 10 - (value < 0) for value in (corner[0] or 1, corner[1] or 1))
    red = frame.image[row, column]
    assert red[0] > 150
    assert red[1] < 80
    facts = probe(path).facts
    assert (facts.width, facts.height, facts.rotation) == (*size, degrees)


def test_large_pictures_are_scaled_to_the_longer_side(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.mp4")
    assert next(iter(sample_frames(path, max_side=80))).image.shape == (60, 80, 3)
    assert next(iter(sample_frames(path, max_side=800))).image.shape == (120, 160, 3)


def test_brightness_is_the_mean_of_equal_parts(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.mp4")
    frame = next(iter(sample_frames(path)))
    grey = frame.image @ np.array([0.299, 0.587, 0.114])
    cells = grey.reshape(6, media.HEIGHT // 6, 8, media.WIDTH // 8).mean(axis=(1, 3))
    assert np.allclose(frame.brightness(8, 6), cells, atol=2)


def test_brightness_of_a_picture_larger_than_any_screen(tmp_path: Path) -> None:
    wide = VideoFrame.from_ndarray(np.repeat(np.uint8([[10, 200]]), 12_000, axis=1).repeat(64, axis=0), format="gray")
    cells = Shaper(None, "rgb24", is_lazy=True).brightness_of(wide, 33, 18)
    assert np.allclose(cells[:, :16], 10, atol=1)
    assert np.allclose(cells[:, 17:], 200, atol=1)


def test_layouts_are_mirror_images_of_each_other(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.mp4")
    rgb, bgr = (next(iter(sample_frames(path, layout=layout))).image for layout in ("rgb24", "bgr24"))
    assert np.array_equal(rgb, bgr[:, :, ::-1])


def test_damaged_packets_are_passed_over_and_counted(tmp_path: Path) -> None:
    decoding = Decoding()
    frames = list(sample_frames(media.damaged(tmp_path / "a.mp4"), decoding=decoding))
    assert 100 < len(frames) <= 200
    assert decoding.damaged > 0
    assert frames[-1].time_ms == 19_900
    assert not decoding.is_cut_short


def test_a_film_cut_off_gives_what_is_left_of_it(tmp_path: Path) -> None:
    decoding = Decoding()
    frames = list(sample_frames(media.truncated(tmp_path / "a.mp4"), decoding=decoding))
    assert 50 < len(frames) < 150
    assert decoding.is_cut_short


def test_frames_of_a_sound_file_are_refused(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.m4a", has_picture=False, sound=media.tone(1), container="mp4")
    with pytest.raises(MediaUnreadable, match="no picture track"):
        list(sample_frames(path))
    assert (picture_of(path), sound_of(path)) == (None, 0)


def test_sound_comes_as_16_khz_mono_in_chunks(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.mp4", sound=media.tone(2.5))
    chunks = list(read_sound(path, chunk_s=1.0))
    assert [chunk.first for chunk in chunks] == [0, RATE, 2 * RATE]
    assert all(chunk.samples.dtype == np.float32 for chunk in chunks)
    total = sum(len(chunk.samples) for chunk in chunks)
    assert total == pytest.approx(2.5 * RATE, abs=2048)
    middle = chunks[1].samples
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.1)
    spectrum = np.abs(np.fft.rfft(middle))
    assert spectrum.argmax() == 440


def test_a_sound_track_that_begins_late_is_led_in_by_silence(tmp_path: Path) -> None:
    import av

    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as out:
        audio = out.add_stream("flac", rate=RATE, layout="mono")
        for first in range(0, RATE, 1600):
            block = av.AudioFrame.from_ndarray(
                (media.tone(1)[None, first : first + 1600] * 32767).astype(np.int16),
                format="s16",
                layout="mono",
            )
            block.pts, block.sample_rate, block.time_base = 3 * RATE + first, RATE, Fraction(1, RATE)
            out.mux(audio.encode(block))
        out.mux(audio.encode(None))
    # Alone in its file the track's start is the file's start …
    alone = np.concatenate([chunk.samples for chunk in read_sound(path)])
    assert len(alone) == pytest.approx(RATE, abs=1600)
    # … beside pictures that start earlier it is late.
    both = tmp_path / "both.mkv"
    with (
        av.open(str(path)) as sound,
        av.open(str(media.clip(tmp_path / "v.mp4"))) as film,
        av.open(str(both), "w") as out,
    ):
        streams = [out.add_stream_from_template(source.streams[0]) for source in (film, sound)]
        for source, stream in zip((film, sound), streams, strict=True):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    samples = np.concatenate([chunk.samples for chunk in read_sound(both)])
    assert len(samples) == pytest.approx(4 * RATE, abs=1600)
    assert np.abs(samples[: int(2.9 * RATE)]).max() == 0
    assert np.abs(samples[int(3.1 * RATE) :]).max() > 0.4


def test_no_sound_means_no_chunks(tmp_path: Path) -> None:
    assert list(read_sound(media.clip(tmp_path / "a.mp4"))) == []
    assert list(read_sound(media.silent_wav(tmp_path / "zero.wav"))) == []


def test_a_probe_tells_what_the_file_says(tmp_path: Path) -> None:
    path = media.clip(
        tmp_path / "IMG_0001.mp4",
        sound=media.tone(2),
        tags={
            "creation_time": "2024-05-04T10:20:30.000000Z",
            "com.apple.quicktime.location.ISO6709": "+48.8577+002.2950+035.000/",
            "com.apple.quicktime.make": "Apple",
            "com.apple.quicktime.model": "iPhone 15",
        },
    )
    found = probe(path)
    facts = found.facts
    assert facts.duration_ms == pytest.approx(2000, abs=70)
    assert (facts.container, facts.has_video, facts.has_audio) == ("mp4", True, True)
    assert (facts.width, facts.height, facts.rotation) == (160, 120, 0)
    assert (facts.video_codec, facts.audio_codec) == ("h264", "aac")
    assert facts.frame_rate == pytest.approx(10, abs=0.6)
    assert facts.file_created_at == datetime(2024, 5, 4, 10, 20, 30, tzinfo=UTC)
    assert found.captured_at_source == "creation_time"
    assert found.place == Place(48.8577, 2.295, 35.0)
    assert (found.camera_make, found.camera_model) == ("Apple", "iPhone 15")
    assert (found.audio_channels, found.sample_rate) == (1, RATE)
    assert found.size_bytes == path.stat().st_size


def test_a_probe_reads_the_exif_block_of_an_mjpeg_camera(tmp_path: Path) -> None:
    from io import BytesIO

    import av
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "PowerShot"
    exif.get_ifd(0x8769)[0x9003] = "2009:07:01 18:30:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 27.72), 3: "E", 4: (2.0, 17.0, 42.0)})
    jpeg = BytesIO()
    Image.fromarray(media.picture(0)).save(jpeg, "JPEG", exif=exif)
    path = tmp_path / "MVI_1.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = media.WIDTH, media.HEIGHT, "yuvj420p"
        for index in range(5):
            packet = av.Packet(jpeg.getvalue())
            packet.pts = packet.dts = index
            packet.time_base, packet.stream = Fraction(1, 10), stream
            out.mux(packet)
    found = probe(path)
    assert (found.camera_make, found.camera_model) == ("Canon", "PowerShot")
    assert found.place == Place(48.8577, 2.295, None)
    assert found.facts.file_created_at == datetime(2009, 7, 1, 18, 30, tzinfo=UTC)
    assert found.captured_at_source == "exif"


def test_a_recording_that_was_never_closed_is_walked_through_for_its_length(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "live.mkv", container="matroska", options={"live": "1"})
    assert probe(path).facts.duration_ms == pytest.approx(2000, abs=110)


def test_a_fingerprint_is_the_blake3_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 40_000)
    seen: list[tuple[int, int]] = []
    digest, size = fingerprint(path, on_bytes=lambda done, total: seen.append((done, total)))
    assert digest == blake3.blake3(path.read_bytes()).hexdigest()
    assert size == 10_240_000
    assert seen[-1] == (size, size)
    assert len(seen) == 3


@pytest.mark.slow
def test_three_gibibytes_are_hashed_in_flat_memory(tmp_path: Path) -> None:
    path = media.sparse(tmp_path / "big.mp4")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest, size = fingerprint(path)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert size == 3 << 30
    assert len(digest) == 64
    assert grown_kb < 64_000


def test_hashing_three_gibibytes_stops_at_once_when_cancelled(tmp_path: Path) -> None:
    def cancel(done: int, _total: int) -> None:
        if done > 64 << 20:
            raise JobCancelled

    begun = time.process_time()
    with pytest.raises(JobCancelled):
        fingerprint(media.sparse(tmp_path / "big.mp4"), on_bytes=cancel)
    assert time.process_time() - begun < 1
