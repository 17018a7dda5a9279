"""Pictures that the file wants mirrored or turned, and sizes that change in the middle of a film."""

from fractions import Fraction
from io import BytesIO
from math import cos, pi, sin
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infrastructure.media.clip import cut
from infrastructure.media.frames import sample_frames
from infrastructure.media.hardware import Hardware
from infrastructure.media.orientation import fit, orientation_of
from infrastructure.media.probe import probe
from infrastructure.media.stills import fitted, still_at, stills_at
from tests.support import media

# (a, b, c, d): clockwise degrees, mirrored before, and where the stored top left quarter is shown (row, column).
MATRICES = {
    (1, 0, 0, 1): (0, False, (0, 0)),
    (-1, 0, 0, 1): (0, True, (0, 1)),
    (1, 0, 0, -1): (180, True, (1, 0)),
    (-1, 0, 0, -1): (180, False, (1, 1)),
    (0, 1, -1, 0): (90, False, (0, 1)),
    (0, -1, 1, 0): (270, False, (1, 0)),
    (0, 1, 1, 0): (270, True, (0, 0)),
    (0, -1, -1, 0): (90, True, (1, 1)),
}


def corner(image: np.ndarray) -> tuple[int, int]:
    """Row and column (0 or 1) of the quarter that is red."""
    height, width = image.shape[:2]
    middles = {
        (row, column): image[height * (1 + 2 * row) // 4, width * (1 + 2 * column) // 4].astype(int)
        for row in (0, 1)
        for column in (0, 1)
    }
    red = [place for place, (r, g, b) in middles.items() if r > 150 and max(g, b) < 80]
    assert len(red) == 1, middles
    return red[0]


def first_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as film:
        return next(film.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_a_display_matrix_is_followed_everywhere(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    degrees, is_mirrored, place = MATRICES[matrix]
    path = media.shown_by(tmp_path / "a.mp4", *matrix)
    facts = probe(path).facts
    size = (media.WIDTH, media.HEIGHT) if degrees in {0, 180} else (media.HEIGHT, media.WIDTH)
    assert (facts.width, facts.height, facts.rotation, facts.is_mirrored) == (*size, degrees, is_mirrored)

    frame = next(iter(sample_frames(path)))
    assert (frame.image.shape[1], frame.image.shape[0]) == frame.screen == size
    small = fitted(size, width=80)
    pictures = [
        frame.image,
        next(iter(sample_frames(path, max_side=64, is_lazy=True))).image,
        np.asarray(still_at(path, 500, small)),
        np.asarray(next(stills_at(path, [500], small))[1]),
    ]
    cut(path, tmp_path / "clip.mp4", start_ms=300, end_ms=800, should_stop=lambda: False)
    pictures.append(first_of(tmp_path / "clip.mp4"))
    assert pictures[-1].shape == (size[1], size[0], 3)
    assert [corner(picture) for picture in pictures] == [place] * 5


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.5, 4), tilt=st.floats(-40, 40), matrix=st.sampled_from(sorted(MATRICES)))
def test_sloppy_matrices_are_the_nearest_quarter(tmp_path_factory, scale, tilt, matrix) -> None:
    a, b, c, d = matrix
    turn = tilt / 180 * pi
    sloppy = (
        scale * (a * cos(turn) - b * sin(turn)),
        scale * (a * sin(turn) + b * cos(turn)),
        scale * (c * cos(turn) - d * sin(turn)),
        scale * (c * sin(turn) + d * cos(turn)),
    )
    path = media.shown_by(tmp_path_factory.mktemp("sloppy") / "a.mp4", *sloppy, times_ms=[0, 100])
    assert corner(next(iter(sample_frames(path))).image) == MATRICES[matrix][2]


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (0, 0, 1, 0), (1, 0, 0, 0)])
def test_a_matrix_that_shows_nothing_is_passed_over(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    assert corner(next(iter(sample_frames(media.shown_by(tmp_path / "a.mp4", *matrix)))).image) == (0, 0)


@pytest.mark.parametrize("number", range(1, 9))
def test_the_orientation_in_a_photographs_exif_block_is_followed(tmp_path: Path, number: int) -> None:
    from PIL import Image, ImageOps

    body, exif = BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010F] = number, "Maker"
    Image.fromarray(media.picture(0)).save(body, "JPEG", exif=exif)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        track = out.add_stream("mjpeg", rate=5)
        track.width, track.height, track.pix_fmt = media.WIDTH, media.HEIGHT, "yuvj420p"
        for index in range(5):
            packet = av.Packet(body.getvalue())
            packet.pts = packet.dts = index * 200
            packet.time_base, packet.stream = media.TIME_BASE, track
            out.mux(packet)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(body)))
    assert corner(next(iter(sample_frames(path))).image) == corner(upright)
    assert probe(path).camera_make == "Maker"


def test_hardware_that_loses_the_mirroring_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from infrastructure.media import hardware

    plain = media.clip(tmp_path / "plain.mp4")
    mirrored = media.shown_by(tmp_path / "mirrored.mp4", 1, 0, 0, -1)
    opened = {"software": mirrored, "hardware": plain}
    open_media = hardware.open_media
    monkeypatch.setattr(hardware, "WORTH_IT", 0)
    monkeypatch.setattr(
        hardware, "open_media", lambda _, hwaccel=None: open_media(opened["hardware" if hwaccel else "software"])
    )
    monkeypatch.setattr(hardware, "HWAccel", lambda *_, **__: object())
    card = Hardware()
    card.is_allowed, card._kind = True, "cuda"
    with card.open_pictures(mirrored) as container:
        assert orientation_of(next(container.decode(video=0))) == (180, True)


# ---- sizes -------------------------------------------------------------------------------------------------------

CHANGES = {
    "taller": {"size": (160, 160)},
    "wider": {"size": (320, 120)},
    "larger": {"size": (320, 240)},
    "upright": {"size": (120, 160)},
    "wider pixels": {"size": (160, 120), "pixel_shape": Fraction(2)},
}


def changing(path: Path, size: tuple[int, int], **what: object) -> Path:
    """Two seconds of 160x120, then two of something else."""
    media.clip(path.with_suffix(".1.ts"), container="mpegts")
    pictures = [media.picture(number, *size) for number in range(20)]
    media.clip(
        path.with_suffix(".2.ts"), container="mpegts", times_ms=range(2000, 4000, 100), pictures=pictures, **what
    )
    return media.joined(path, path.with_suffix(".1.ts"), path.with_suffix(".2.ts"))


@pytest.mark.parametrize("change", CHANGES)
def test_each_frame_has_its_own_size(tmp_path: Path, change: str) -> None:
    width, height = CHANGES[change]["size"]
    wide = int(width * CHANGES[change].get("pixel_shape", 1))
    frames = list(sample_frames(changing(tmp_path / "a.ts", **CHANGES[change]), every_ms=1000))
    assert [frame.time_ms for frame in frames] == [0, 1000, 2000, 3000]
    assert [frame.screen for frame in frames] == [(160, 120)] * 2 + [(wide, height)] * 2
    assert [frame.image.shape for frame in frames] == [(120, 160, 3)] * 2 + [(height, width, 3)] * 2
    assert {corner(frame.image) for frame in frames} == {(0, 0)}


def is_barred(image: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether a picture of `shape` lies in the middle, undistorted, with black around it."""
    height, width = image.shape[:2]
    inner = fit(shape, (width, height))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    lit = np.argwhere(image.max(axis=2) > 40)
    (first_row, first_column), (last_row, last_column) = lit.min(axis=0), lit.max(axis=0)
    found = (first_column, first_row, last_column + 1, last_row + 1)
    wanted = (left, top, left + inner[0], top + inner[1])
    within = image[top : top + inner[1], left : left + inner[0]]
    return bool(np.allclose(found, wanted, atol=2)) and corner(within) == (0, 0)


@pytest.mark.parametrize("change", CHANGES)
def test_stills_and_clips_keep_the_shape_of_what_they_show(tmp_path: Path, change: str) -> None:
    width, height = CHANGES[change]["size"]
    shape = (int(width * CHANGES[change].get("pixel_shape", 1)), height)
    path = changing(tmp_path / "a.ts", **CHANGES[change])
    (_, early), (_, late) = stills_at(path, [1000, 3900], (80, 60))
    assert is_barred(np.asarray(early), (160, 120))
    assert is_barred(np.asarray(late), shape)
    assert early.size == late.size == (80, 60)

    cut(path, tmp_path / "clip.mp4", start_ms=1500, end_ms=3950, should_stop=lambda: False)
    with av.open(str(tmp_path / "clip.mp4")) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert {picture.shape for picture in pictures} == {(120, 160, 3)}
    assert is_barred(pictures[0], (160, 120))
    assert is_barred(pictures[-1], shape)


def test_a_clip_has_the_shape_of_the_film_when_pixels_are_not_square(tmp_path: Path) -> None:
    path = media.clip(tmp_path / "a.mp4", pixel_shape=Fraction(4, 3))
    facts = probe(path).facts
    cut(path, tmp_path / "clip.mp4", start_ms=0, end_ms=500, should_stop=lambda: False)
    image = first_of(tmp_path / "clip.mp4")
    assert (facts.width, facts.height) == (213, 120)
    assert image.shape == (120, 212, 3)
    assert corner(image) == (0, 0)


@given(
    shape=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    size=st.tuples(st.integers(1, 2_000), st.integers(1, 2_000)),
)
def test_what_is_fitted_touches_both_borders_of_one_direction(shape: tuple[int, int], size: tuple[int, int]) -> None:
    width, height = fit(shape, size)
    assert 1 <= width <= size[0]
    assert 1 <= height <= size[1]
    assert width == size[0] or height == size[1]
