"""Films whose picture becomes another in the middle, and films of several tracks, through the producers."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support import media
from tests.support.produce import Family
from tests.support.tracks import Picture, Sound, film, silence, speech

SIZES = {
    "taller": ((160, 160), {}),
    "larger": ((320, 240), {}),
    "upright": ((120, 160), {}),
    "wider pixels": ((160, 120), {"pixel_shape": Fraction(2)}),
}


def still(size: tuple[int, int], times_ms: range) -> list[np.ndarray]:
    """Nothing happens in it."""
    return [media.picture(0, *size)] * len(times_ms)


def sizes_in_turn(path: Path, *parts: tuple[tuple[int, int], int, dict[str, object]]) -> Path:
    """Parts of (size, length in ms, what else) one behind the other."""
    begin, files = 0, []
    for number, (size, length_ms, what) in enumerate(parts):
        times = range(begin, begin + length_ms, 100)
        file = path.with_suffix(f".{number}.ts")
        files.append(
            media.clip(file, container="mpegts", times_ms=times, pictures=still(size, times), **what)
        )
        begin += length_ms
    return media.joined(path, *files)


@pytest.mark.parametrize("profile", ["balanced", "high_quality"])
@pytest.mark.parametrize("change", SIZES)
def test_a_change_of_size_is_a_cut(light: Family, tmp_path: Path, change: str, profile: str) -> None:
    size, what = SIZES[change]
    path = sizes_in_turn(tmp_path / "a.ts", ((160, 120), 2000, {}), (size, 2000, what))
    made = light("scene_detection", path, profile=profile)
    assert made.error is None
    (_, first, cut_ms, _), (_, begin_ms, end_ms, _) = made.found
    assert (first, cut_ms, begin_ms) == (0, 2000, 2000)
    assert end_ms == pytest.approx(4000, abs=110)


def test_sizes_that_change_all_the_time_make_no_scenes_shorter_than_asked_for(light: Family, tmp_path: Path) -> None:
    sizes = ((160, 120), (176, 144), (320, 180), (160, 90))
    path = sizes_in_turn(tmp_path / "a.ts", *((sizes[n % 4], 300, {}) for n in range(16)))
    made = light("scene_detection", path, config={"min_scene_ms": 1000})
    assert made.error is None
    lengths = [end - start for _, start, end, _ in made.found]
    assert all(length >= 1000 for length in lengths[:-1])
    assert len(lengths) > 2
    assert made.outcome.metrics["frames"] == 48


def test_pixels_of_another_kind_are_no_cut(light: Family, tmp_path: Path) -> None:
    parts = [((160, 120), 2000, {"pixel_format": kind}) for kind in ("yuv420p", "yuv422p", "yuv420p10le", "yuv444p")]
    made = light("scene_detection", sizes_in_turn(tmp_path / "a.ts", *parts))
    assert (made.error, len(made.found), made.outcome.metrics["frames"]) == (None, 1, 80)


# ---- tracks ------------------------------------------------------------------------------------------------------

STILL = Picture(count=1, grey=200, size=(64, 48))


def test_a_run_tells_which_track_it_was_about(light: Family, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", STILL, Picture(), Sound(silence(2)), Sound(speech(2)))
    (_, _, _, found), = light("metadata_extraction", path).found
    assert [stream.get("chosen") for stream in found["streams"]] == [None, "film", None, "heard"]
    for task_type, frames in (("scene_detection", 20), ("face_detection", 2)):
        metrics = light(task_type, path).outcome.metrics
        assert (metrics["track"], metrics["frames"]) == (1, frames)
        metrics = light(task_type, path, config={"track": 0}).outcome.metrics
        assert (metrics["track"], metrics["frames"]) == (0, 1)
    asked, = light("metadata_extraction", path, config={"track": 2}).found
    assert [stream.get("chosen") for stream in asked[3]["streams"]] == [None, "film", "asked", None]


@pytest.mark.parametrize("task_type", ["metadata_extraction", "scene_detection", "face_detection", "thumbnails"])
def test_a_track_that_is_not_there_is_refused(light: Family, tmp_path: Path, task_type: str) -> None:
    path = film(tmp_path / "a.mkv", Picture(), Sound(speech(1)))
    made = light(task_type, path, config={"track": 7})
    assert (made.error, made.found) == ("InvalidParameter", [])
    assert "config.track: 7 is no" in made.message
    assert "picture in 0" in made.message


def test_thumbnails_are_of_the_track_that_was_asked_for_last(light: Family, tmp_path: Path) -> None:
    from PIL import Image

    path = film(tmp_path / "a.mkv", Picture(), Picture(grey=200))

    def greys(**config: int) -> set[int]:
        made = light("thumbnails", path, config=config)
        assert made.error is None
        pictures = list((tmp_path / "pictures").rglob("*.webp"))
        assert len(pictures) == len(made.found)
        return {round(float(np.asarray(Image.open(each).convert("L"))[0, 0]), -1) for each in pictures}

    assert [greys(), greys(track=1), greys(track=1), greys()] == [{100}, {200}, {200}, {100}]
