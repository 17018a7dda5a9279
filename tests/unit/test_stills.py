"""Stills, sprite sheets and posters of small films made on the spot."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageFilter

from domain.errors import MediaUnreadable, StorageFailed
from infrastructure.media.frames import Decoding
from infrastructure.media.pictures import Pictures, is_kept, keep, read
from infrastructure.media.poster import best_of, candidates, score
from infrastructure.media.stills import fitted, still_at, stills_at
from tests.support import media
from workers import sprites
from workers.thumbnails import thinned

SIZE = (media.WIDTH, media.HEIGHT)


def number_of(image: Image.Image) -> int:
    """The frame number that `media.picture` painted."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    grey = pixels[height // 4 : height // 3, width * 5 // 8 : width * 7 // 8].mean()
    return round((float(grey) - 10) / 5)


# ---- stills ------------------------------------------------------------------------------------------------------


def test_a_still_is_what_a_player_shows_then(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.mp4", times_ms=[0, 40, 500, 1_700, 1_740])
    wanted = {0: 0, 39: 0, 40: 1, 499: 1, 500: 2, 1_739: 3, 1_740: 4, 9_000: 4}
    assert {at: number_of(still) for at, still in stills_at(path, wanted, SIZE)} == wanted
    assert {at: number_of(still_at(path, at, SIZE)) for at in wanted} == wanted


def test_a_frame_is_found_by_its_own_rounded_time(tmp_path: Path) -> None:
    """A scene of a 30000/1001 film begins at 33.37 ms: its thumbnail at 33 must not show the scene before."""
    exact = [round(n * 1001 / 30) for n in range(40)]
    path = _ntsc(tmp_path / "a.mp4", 40)
    assert [number_of(still) for _, still in stills_at(path, exact, SIZE)] == list(range(40))
    assert [number_of(still_at(path, at, SIZE)) for at in exact] == list(range(40))


def _ntsc(path: Path, count: int) -> Path:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=Fraction(30_000, 1_001), options={"threads": "1"})
        video.height, video.width, video.pix_fmt = media.HEIGHT, media.WIDTH, "yuv420p"
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(media.picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1_001, 30_000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def test_nothing_is_decoded_behind_the_last_time(tmp_path: Path) -> None:
    decoding = Decoding()
    assert [at for at, _ in stills_at(media.clip(tmp_path / "a.mp4"), [100], SIZE, decoding=decoding)] == [100]
    assert decoding.decoded == 3
    assert list(stills_at(tmp_path / "not there.mp4", [], SIZE)) == []


def test_a_still_of_a_phone_is_upright(tmp_path: Path) -> None:
    path = media.rotated(tmp_path / "a.mp4", 90)
    size = (media.HEIGHT, media.WIDTH)
    for still in (next(stills_at(path, [0], size))[1], still_at(path, 0, size)):
        assert still.size == size
        assert still.getpixel((size[0] - 8, 8))[0] > 150, "red is top right now"
        assert still.getpixel((8, 8))[0] < 60


def test_a_sound_file_has_no_stills(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.m4a", has_picture=False, sound=media.tone(1), container="mp4")
    with pytest.raises(MediaUnreadable, match="no picture track"):
        list(stills_at(path, [0], SIZE))


@pytest.mark.parametrize(
    ("size", "limit", "made"),
    [
        ((1920, 1080), {"width": 320}, (320, 180)),
        ((1080, 1920), {"width": 320}, (320, 569)),
        ((1080, 1920), {"side": 160}, (90, 160)),
        ((160, 120), {"width": 320}, (160, 120)),
        ((4000, 2), {"side": 160}, (160, 1)),
    ],
)
def test_pictures_are_made_smaller_only(size, limit, made) -> None:
    assert fitted(size, **limit) == made


# ---- which moments -----------------------------------------------------------------------------------------------


def test_every_moment_has_a_picture_until_there_are_too_many() -> None:
    assert thinned([5, 0, 5, 900, 1_000, 2_000], 10, 1_000) == [0, 5, 900]
    many = thinned(range(0, 7_200_000, 40), 5_000, 7_200_000)
    assert len(many) == 5_000
    gaps = {later - earlier for earlier, later in pairwise(many)}
    assert gaps == {1_440}
    assert thinned([1, 2], 0, 10) == []


# ---- sprite sheets -----------------------------------------------------------------------------------------------


def _plan(duration_ms: int, most: int = 10, every_ms: int = 2_000):
    return sprites.plan(
        duration_ms, every_ms=every_ms, most_sheets=most, columns=10, rows=10, tile=(160, 90)
    )


def test_sheets_cover_the_whole_video_and_stay_few() -> None:
    (one,) = _plan(20_500)
    assert (one.count, list(sprites.times_of(one))) == (11, list(range(0, 20_501, 2_000)))
    assert sprites.size_of(one) == (1_600, 180)
    two_hours = _plan(7_200_000)
    assert (len(two_hours), {sheet.every_ms for sheet in two_hours}) == (9, {8_000})
    assert sum(sheet.count for sheet in two_hours) == 900
    assert sprites.times_of(two_hours[3]).start == 300 * 8_000
    for duration_ms in (1, 1_999, 2_000, 199_999, 200_001, 1_999_999, 2_000_001, 86_400_000):
        sheets = _plan(duration_ms)
        times = [at for sheet in sheets for at in sprites.times_of(sheet)]
        assert len(sheets) <= 10
        assert times[0] == 0
        assert times[-1] < duration_ms <= times[-1] + sheets[0].every_ms
    assert _plan(0) == _plan(5_000, most=0) == ()


def test_a_sheet_shows_each_tile_in_its_place() -> None:
    sheets = sprites.plan(5_000, every_ms=1_000, most_sheets=9, columns=2, rows=2, tile=(8, 6))
    assert [sheet.count for sheet in sheets] == [4, 1]
    filling, made = sprites.Sheets(sheets), []
    for at_ms in range(0, 5_000, 500):
        made += filling.take(at_ms, Image.new("RGB", (16, 12), (at_ms // 20, 0, 0)))
    assert [sheet.index for sheet, _ in made] == [0, 1]
    assert [made[0][1].getpixel((x, y))[0] for y in (3, 9) for x in (4, 12)] == [0, 50, 100, 150]
    assert (made[1][1].size, made[1][1].getpixel((4, 3))[0]) == ((8, 6), 200)


# ---- posters -----------------------------------------------------------------------------------------------------


def test_a_sharp_well_lit_picture_beats_dark_flat_and_blurred_ones(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    blocks = Image.fromarray(random.integers(0, 255, (9, 16, 3), dtype=np.uint8))
    sharp = blocks.resize((320, 180), Image.Resampling.NEAREST)
    pictures = {
        "sharp": sharp,
        "blurred": sharp.filter(ImageFilter.GaussianBlur(8)),
        "dark": sharp.point(lambda value: value // 8),
        "black": Image.new("RGB", (320, 180)),
        "white": Image.new("RGB", (320, 180), "white"),
    }
    scores = {name: score(image) for name, image in pictures.items()}
    assert all(0 <= one <= 1 for one in scores.values())
    assert max(scores, key=scores.__getitem__) == "sharp"
    assert scores["blurred"] < scores["sharp"] / 2
    assert all(scores[name] < scores["sharp"] / 20 for name in ("dark", "black", "white"))
    files = []
    for number, name in enumerate(("black", "sharp", "blurred", "sharp")):
        keep(pictures[name], tmp_path / f"{number}.webp")
        files.append((number * 1_000, tmp_path / f"{number}.webp"))
    assert best_of(files) == 1_000, "the earlier of equals"


def test_a_poster_is_chosen_among_the_middles_of_scenes() -> None:
    assert candidates([(n * 1_000, n * 1_000 + 1_000) for n in range(9)], 9_000) == tuple(range(500, 9_000, 1_000))
    assert candidates([], 8_000) == tuple(range(500, 8_000, 1_000)), "nobody knows the scenes"
    assert len(candidates([(0, 600_000)], 600_000)) == 8
    lengths = [(0, 10), *((n * 1_000, n * 1_000 + 900) for n in range(1, 40))]
    assert len(candidates(lengths, 100_000)) == 24
    assert 5 not in candidates(lengths, 100_000), "the shortest scene"
    assert candidates([(5_000, 9_000)], 4_000) == candidates([], 4_000), "behind the end"


# ---- keeping them ------------------------------------------------------------------------------------------------


def test_a_picture_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = Pictures(tmp_path, "ab" * 32)
    path = pictures.thumbnail(1_000)
    assert path.relative_to(tmp_path).parts[:2] == ("ab", "ab" * 32)
    image = Image.new("RGB", (320, 180), "red")

    def half(_: Image.Image, file, *__: object, **___: object) -> None:
        file.write(b"RIFF")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", half)
        with pytest.raises(StorageFailed, match="No space left"):
            keep(image, path)
    assert (is_kept(path), read(path), list(path.parent.iterdir())) == (False, None, [])
    keep(image, path)
    assert is_kept(path)
    assert read(path)[:4] == b"RIFF"
    assert [each.name for each in path.parent.iterdir()] == ["1000.webp"]
    path.write_bytes(b"")
    assert (is_kept(path), read(path)) == (False, None), "what a lost power left"
