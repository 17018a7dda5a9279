"""Films whose picture or sound becomes another in the middle, through the producers."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.support import media
from tests.support.produce import Family

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
