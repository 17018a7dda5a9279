"""Odd and broken files: a clear word for each, and what can be had of it all the same."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.support import media
from tests.support.produce import Family, Made
from workers.producer import ModelPlaces

NOBODY = 65534
LIGHT = ("metadata_extraction", "scene_detection")


def missing(path: Path) -> Path:
    return path


def directory(path: Path) -> Path:
    path.mkdir()
    return path


def loop_of_links(path: Path) -> Path:
    path.symlink_to(path)
    return path


def dangling_link(path: Path) -> Path:
    path.symlink_to(path.parent / "nowhere")
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def name_too_long(path: Path) -> Path:
    return path.with_name("x" * 300 + ".mp4")


def playlist(path: Path) -> Path:
    """A playlist that names a real film: nobody may make us open one file by way of another."""
    other = media.clip(path.with_name("other.mp4"))
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n")
    return path


def concat_script(path: Path) -> Path:
    other = media.clip(path.with_name("other.mp4"))
    path.write_text(f"ffconcat version 1.0\nfile {other}\n")
    return path


def without_its_index(path: Path) -> Path:
    return media.truncated(path, has_index=False)


def zeros(path: Path) -> Path:
    return media.sparse(path)


class Broken(NamedTuple):
    make: Callable[[Path], Path]
    error: str
    words: str


BROKEN = [
    Broken(missing, "MediaMissing", "there is no file"),
    Broken(directory, "MediaMissing", "is a folder"),
    Broken(loop_of_links, "MediaMissing", "cannot be opened"),
    Broken(dangling_link, "MediaMissing", "there is no file"),
    Broken(pipe, "MediaMissing", "not a regular file"),
    Broken(name_too_long, "MediaMissing", "cannot be opened"),
    Broken(media.empty, "MediaUnreadable", "is empty"),
    Broken(media.text_renamed, "MediaUnreadable", "is no media file"),
    Broken(playlist, "MediaUnreadable", "is no media file"),
    Broken(concat_script, "MediaUnreadable", "is no media file"),
    Broken(without_its_index, "MediaUnreadable", "index is missing or cut off"),
    Broken(zeros, "MediaUnreadable", "is no media file"),
]
CASES = pytest.mark.parametrize("case", BROKEN, ids=[case.make.__name__ for case in BROKEN])


def assert_refused(made: Made, path: Path, case: Broken) -> None:
    assert made.error == case.error, made
    assert case.words in made.message
    assert str(path) in made.message
    assert made.found == []


@CASES
@pytest.mark.parametrize("task_type", LIGHT)
def test_broken_files_are_refused_in_clear_words(
    light: Family, tmp_path: Path, task_type: str, case: Broken
) -> None:
    path = case.make(tmp_path / "film.mp4")
    begun = time.monotonic()
    assert_refused(light(task_type, path), path, case)
    assert time.monotonic() - begun < 120


@pytest.mark.ml_asr
@CASES
def test_transcription_refuses_broken_files_too(asr: Family, tmp_path: Path, case: Broken) -> None:
    path = case.make(tmp_path / "film.mp4")
    assert_refused(asr("transcription", path), path, case)


@pytest.mark.ml_torch
@CASES
def test_object_detection_refuses_broken_files_too(
    torch_family: Family, shared_media: Path, tmp_path: Path, case: Broken
) -> None:
    path = case.make(tmp_path / "film.mp4")
    assert_refused(torch_family("object_detection", path, models=_detector(shared_media)), path, case)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything, so it steps down for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_may_not_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    from domain.errors import MediaMissing
    from infrastructure.media.probe import probe

    path = media.clip(tmp_path / "secret.mp4")
    path.chmod(0)
    with (
        as_nobody(),
        pytest.raises(MediaMissing, match="may not be read by this user; check its permissions"),
    ):
        probe(path)


def test_one_that_ends_early_gives_what_is_left_and_its_last_scene_ends_there(
    light: Family, tmp_path: Path
) -> None:
    path = media.truncated(tmp_path / "cut.mp4")
    probed, scenes = (light(task, path) for task in LIGHT)
    assert probed.error is None
    assert probed.found[0][3]["duration_ms"] == pytest.approx(20_000, abs=110)
    assert scenes.error is None
    assert 5_000 < scenes.found[-1][2] < 15_000


def test_damage_in_the_middle_does_not_end_a_film(light: Family, tmp_path: Path) -> None:
    made = light("scene_detection", media.damaged(tmp_path / "scratched.mp4"))
    assert made.error is None
    assert made.found[-1][2] == pytest.approx(20_000, abs=110)
    assert made.outcome.metrics["damaged_packets"] > 0


def test_sound_alone_is_probed_and_has_no_scenes(light: Family, tmp_path: Path) -> None:
    path = media.clip(tmp_path / "talk.m4a", has_picture=False, sound=media.tone(2), container="mp4")
    probed, scenes = (light(task, path) for task in LIGHT)
    assert probed.outcome.facts.has_audio
    assert not probed.outcome.facts.has_video
    assert probed.outcome.facts.width is None
    assert "width" not in probed.found[0][3]
    assert scenes.error is None
    assert scenes.found == []
    assert scenes.outcome.metrics["has_video"] == 0


@pytest.mark.ml_torch
def test_sound_alone_has_no_objects(torch_family: Family, shared_media: Path, tmp_path: Path) -> None:
    path = media.clip(tmp_path / "talk.m4a", has_picture=False, sound=media.tone(2), container="mp4")
    made = torch_family("object_detection", path, models=_detector(shared_media))
    assert (made.error, made.found, made.outcome.metrics["has_video"]) == (None, [], 0)


@pytest.mark.ml_asr
def test_pictures_alone_have_no_transcript(asr: Family, tmp_path: Path) -> None:
    made = asr("transcription", media.clip(tmp_path / "silent film.mp4"))
    assert (made.error, made.found, made.outcome.metrics["has_audio"]) == (None, [], 0)
    assert made.description.artifact_types == ("transcript.segment",)


@pytest.mark.ml_asr
def test_sound_of_no_length_and_silence_have_no_transcript(asr: Family, tmp_path: Path) -> None:
    for samples in (0, 1, 32_000):
        made = asr("transcription", media.silent_wav(tmp_path / f"{samples}.wav", samples))
        assert (made.error, made.found) == (None, []), made.message


def test_sound_of_no_length_is_probed(light: Family, tmp_path: Path) -> None:
    made = light("metadata_extraction", media.silent_wav(tmp_path / "zero.wav"))
    assert made.error is None
    assert made.outcome.facts.duration_ms == 0
    assert made.found[0][1:3] == (0, 0)


def test_cuts_in_a_variable_frame_rate_are_found_at_their_own_times(light: Family, tmp_path: Path) -> None:
    # Dense, then sparse, then dense: index/fps would put the second cut 2 s off.
    times = [*range(0, 1000, 40), *range(1000, 5000, 400), *range(5000, 6000, 20)]
    colours = [(200, 30, 30) if t < 1000 else (20, 160, 220) if t < 5000 else (240, 240, 60) for t in times]
    pictures = [np.full((media.HEIGHT, media.WIDTH, 3), colour, np.uint8) for colour in colours]
    made = light("scene_detection", media.clip(tmp_path / "vfr.mp4", times_ms=times, pictures=pictures))
    assert [(start, end) for _, start, end, _ in made.found][:2] == [(0, 1000), (1000, 5000)]
    assert made.found[2][1] == 5000
    assert made.found[2][2] == pytest.approx(6000, abs=50)
    assert [payload["scene_index"] for *_, payload in made.found] == [0, 1, 2]


@pytest.mark.ml_torch
def test_boxes_of_a_rotated_phone_film_lie_on_the_displayed_picture(
    torch_family: Family, shared_media: Path, tmp_path: Path
) -> None:
    bus = _asset("bus.jpg")
    upright = media.film_of(tmp_path / "upright.mp4", bus, seconds=0.2)
    from PIL import Image

    # A phone held upright: the sensor's picture lies on its side and the header says how to turn it.
    lying = tmp_path / "lying.png"
    Image.open(bus).rotate(90, expand=True).save(lying)
    phone = media.film_of(tmp_path / "phone.mp4", lying, seconds=0.2)
    data = phone.read_bytes()
    place = data.index(media.IDENTITY, data.index(b"tkhd"))
    phone.write_bytes(data[:place] + media.CLOCKWISE[90] + data[place + len(media.IDENTITY) :])
    boxes = []
    for path in (upright, phone):
        made = torch_family("object_detection", path, models=_detector(shared_media))
        assert made.error is None, made.message
        boxes.append(next(payload["box"] for *_, payload in made.found if payload["label"] == "bus"))
    assert boxes[1] == pytest.approx(boxes[0], abs=0.03)


@pytest.mark.parametrize(
    "name",
    [
        "my holiday film.mp4",
        'it\'s "quoted" `here` $HOME.mp4',
        "映画 – фильм – ταινία – 🎬.mp4",
        "100%d [01] *?.mp4",
        "-i concat:a|b.mp4",
        "line\nbreak.mp4",
        "http:colon.mp4",
        "é" * 125 + "x.mp4",
        os.fsdecode(b"not utf-8 \xff\xfe.mp4"),
    ],
)
def test_any_name_is_a_name(light: Family, tmp_path: Path, name: str) -> None:
    assert len(os.fsencode(name)) <= 255
    made = light("metadata_extraction", media.clip(tmp_path / name))
    assert made.error is None, made.message
    assert made.outcome.facts.video_codec == "h264"


def test_a_name_of_255_bytes_is_a_name(light: Family, tmp_path: Path) -> None:
    path = media.clip(tmp_path / ("n" * 251 + ".mp4"))
    assert light("scene_detection", path).error is None


@pytest.mark.slow
def test_a_film_with_three_gibibytes_of_nothing_behind_it_is_probed_and_hashed(
    light: Family, tmp_path: Path
) -> None:
    path = media.sparse(tmp_path / "huge.mp4", begins=media.clip(tmp_path / "small.mp4"))
    made = light("metadata_extraction", path)
    assert made.error is None, made.message
    assert made.outcome.size_bytes == 3 << 30
    assert len(made.outcome.blake3) == 64
    assert made.found[0][3]["duration_ms"] == pytest.approx(2000, abs=110)


def test_hashing_a_huge_film_stops_when_it_is_cancelled(light: Family, tmp_path: Path) -> None:
    path = media.sparse(tmp_path / "huge.mp4", begins=media.clip(tmp_path / "small.mp4"))
    made = light("metadata_extraction", path, cancel_after=10)
    assert made.error == "JobCancelled"
    assert made.cpu_s < 1


def _detector(shared: Path) -> ModelPlaces:
    return ModelPlaces(is_offline=True, detector_weights=shared / "models/yolov8n_fiq.tflite")


def _asset(name: str) -> Path:
    from importlib.util import find_spec

    return Path(find_spec("ultralytics").origin).parent / "assets" / name
