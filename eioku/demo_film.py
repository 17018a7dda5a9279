"""Two short films of our own, of which everything is known: what is said, shown and filmed where, to the frame.

Title cards with known words, hard cuts, moving balls, pans over the photographs that come with Ultralytics, speech from
eSpeak NG, place and capture time as a phone writes them. The same bytes each time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from math import pi, sin
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from domain.errors import ModelUnavailable
from eioku.demo_speech import Speech, SpokenWord, speak

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, HEIGHT, FPS = 640, 360, 25
OBJECT_EVERY_MS = 500
Kind = Literal["card", "balls", "photo"]
Box = tuple[float, float, float, float]
"""(left, top, width, height), each in [0, 1]."""


class Shot(msgspec.Struct, frozen=True):
    """What is between two cuts."""

    kind: Kind
    seconds: int
    shows: str = ""
    """Text of a card, name of a photograph."""
    says: str = ""


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A film, written down."""

    name: str
    captured_at: datetime
    latitude: float
    longitude: float
    altitude: float
    city: str
    country: str
    shots: tuple[Shot, ...]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """Words on the screen."""

    text: str
    start_ms: int
    end_ms: int


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """An object in one frame."""

    label: str
    at_ms: int
    box: Box


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a film."""

    name: str
    duration_ms: int
    fps: int
    width: int
    height: int
    captured_at: datetime
    latitude: float
    longitude: float
    altitude: float
    city: str
    country: str
    cuts_ms: tuple[int, ...]
    """First frame after each cut."""
    cards: tuple[Card, ...]
    words: tuple[SpokenWord, ...]
    """Times on the film's clock, as the synthesiser tells them."""
    objects: tuple[Thing, ...]
    """What the photographs show, every half second."""


class Film(msgspec.Struct, frozen=True, kw_only=True):
    """A film file and what is in it; the truth also lies beside it as `<name>.truth.json`."""

    path: Path
    truth: Truth


PARIS = Script(
    name="paris",
    captured_at=datetime(2024, 5, 4, 10, 20, 30, tzinfo=UTC),
    latitude=48.8566,
    longitude=2.3522,
    altitude=35.0,
    city="Paris",
    country="France",
    shots=(
        Shot("card", 4, "CHAPTER ONE", "Welcome to Paris."),
        Shot("balls", 5, says="Today we visit the museum in the old town."),
        Shot("photo", 7, "bus", "The museum opens in the afternoon."),
        Shot("card", 4, "INVOICE 2026-0417"),
        Shot("balls", 4),
        Shot("card", 4, "THE END"),
    ),
)
INNSBRUCK = Script(
    name="innsbruck",
    captured_at=datetime(2024, 8, 17, 15, 5, 0, tzinfo=UTC),
    latitude=47.2660,
    longitude=11.3940,
    altitude=574.0,
    city="Innsbruck",
    country="Austria",
    shots=(
        Shot("card", 5, "CHAPTER TWO", "Tomorrow we will visit the museum in the mountains."),
        Shot("photo", 6, "zidane", "Two people are talking in front of the camera."),
        Shot("card", 5, "PLATFORM 9", "The next train to the mountain leaves at noon."),
        Shot("balls", 4),
        Shot("photo", 5, "bus"),
        Shot("card", 4, "THE END", "This is the end of the story."),
    ),
)
SCRIPTS = (PARIS, INNSBRUCK)
SPEECH_AFTER_MS = 600
"""Silence at the start of a shot before somebody speaks."""


class _Photo(msgspec.Struct, frozen=True):
    """Where the photograph lies on its background, and what it shows."""

    height: int
    """Pixels it is scaled to; it is panned over what does not fit."""
    pan: int
    """Pixels it moves sideways during the shot."""
    size: tuple[int, int]
    """The original's (width, height)."""
    things: tuple[tuple[str, tuple[int, int, int, int]], ...]
    """(label, (left, top, right, bottom) in pixels of the original), marked by hand."""


PHOTOS = {
    "bus": _Photo(
        height=430,
        pan=120,
        size=(810, 1080),
        things=(
            ("bus", (14, 228, 805, 757)),
            ("person", (48, 398, 245, 903)),
            ("person", (221, 405, 345, 862)),
            ("person", (669, 392, 809, 877)),
        ),
    ),
    "zidane": _Photo(
        height=405,
        pan=80,
        size=(1280, 720),
        things=(("person", (745, 41, 1145, 712)), ("person", (128, 197, 1115, 712))),
    ),
}


def make_films(folder: Path) -> tuple[Film, ...]:
    """Make both demo films in `folder` (about 5 s of CPU each).

    Raises:
        ModelUnavailable: a package that they are made with is not installed.
    """
    for package in ("av", "PIL", "espeakng_loader", "ultralytics"):
        if find_spec(package) is None:
            raise ModelUnavailable(
                f"the demo films need the package {package}", "pip install 'eioku[demo,media,yolo]'"
            )
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(make_film(script, folder / f"{script.name}.mp4") for script in SCRIPTS)


def make_film(script: Script, path: Path) -> Film:
    """Make one film at `path`, and its truth beside it."""
    starts_ms = _starts_ms(script)
    said = [(start, shot) for start, shot in zip(starts_ms, script.shots, strict=False) if shot.says]
    voices = speak([shot.says for _, shot in said])
    placed = [(start + SPEECH_AFTER_MS, voice) for (start, _), voice in zip(said, voices, strict=True)]
    truth = _truth(script, starts_ms, placed)
    _write(script, path, placed)
    path.with_suffix(".truth.json").write_bytes(msgspec.json.format(msgspec.json.encode(truth)))
    return Film(path=path, truth=truth)


def _starts_ms(script: Script) -> list[int]:
    """Start of each shot, and the end of the last."""
    starts = [0]
    for shot in script.shots:
        starts.append(starts[-1] + shot.seconds * 1000)
    return starts


def _truth(script: Script, starts_ms: list[int], placed: list[tuple[int, Speech]]) -> Truth:
    shots = list(zip(starts_ms, script.shots, strict=False))
    cards = [
        Card(text=shot.shows, start_ms=start, end_ms=start + shot.seconds * 1000)
        for start, shot in shots
        if shot.kind == "card"
    ]
    words = [
        SpokenWord(word.word, at + word.start_ms, at + word.end_ms)
        for at, voice in placed
        for word in voice.words
    ]
    things = [thing for start, shot in shots if shot.kind == "photo" for thing in _things(shot, start)]
    return Truth(
        name=script.name,
        duration_ms=starts_ms[-1],
        fps=FPS,
        width=WIDTH,
        height=HEIGHT,
        captured_at=script.captured_at,
        latitude=script.latitude,
        longitude=script.longitude,
        altitude=script.altitude,
        city=script.city,
        country=script.country,
        cuts_ms=tuple(starts_ms[1:-1]),
        cards=tuple(cards),
        words=tuple(words),
        objects=tuple(things),
    )


def _corner(photo: _Photo, moment: float) -> tuple[int, int, float]:
    """(left, top, scale) of the photograph in the picture; `moment` in [0, 1] of the shot."""
    scale = photo.height / photo.size[1]
    middle = (WIDTH - photo.size[0] * scale) / 2
    return round(middle + photo.pan * (moment - 0.5)), round((HEIGHT - photo.height) * moment), scale


def _things(shot: Shot, start_ms: int) -> Iterator[Thing]:
    photo = PHOTOS[shot.shows]
    for after_ms in range(0, shot.seconds * 1000, OBJECT_EVERY_MS):
        left, top, scale = _corner(photo, after_ms / (shot.seconds * 1000))
        for label, (x0, y0, x1, y1) in photo.things:
            across = [min(max((left + x * scale) / WIDTH, 0.0), 1.0) for x in (x0, x1)]
            down = [min(max((top + y * scale) / HEIGHT, 0.0), 1.0) for y in (y0, y1)]
            box = (across[0], down[0], across[1] - across[0], down[1] - down[0])
            left_, top_, width, height = (round(value, 4) for value in box)
            yield Thing(label=label, at_ms=start_ms + after_ms, box=(left_, top_, width, height))


# ---- pictures ----------------------------------------------------------------------------------------------------


def _picture(shot: Shot, number: int, moment: float) -> "Image":
    match shot.kind:
        case "card":
            return _card(shot.shows, number)
        case "balls":
            return _balls(number, moment)
        case "photo":
            return _photograph(shot.shows, moment)


@cache
def _card(text: str, number: int) -> "Image":
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH, HEIGHT), [(16, 24, 60), (90, 20, 20), (15, 70, 40)][number % 3])
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(HEIGHT // 8)
    draw.text(
        ((WIDTH - draw.textlength(text, font=font)) / 2, HEIGHT * 0.42), text, font=font, fill=(250, 250, 250)
    )
    return image


def _balls(number: int, moment: float) -> "Image":
    from PIL import ImageDraw

    image = _mist(number).copy()
    draw = ImageDraw.Draw(image)
    for which, colour in enumerate([(240, 60, 60), (60, 200, 240)]):
        x = WIDTH * (0.1 + 0.8 * (1 - moment if which else moment))
        y = HEIGHT * (0.5 + 0.3 * sin(2 * pi * moment + which * pi))
        radius = HEIGHT * 0.09
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return image


@cache
def _mist(seed: int) -> "Image":
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(30, 200, (9, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def _photograph(name: str, moment: float) -> "Image":
    background, photograph = _photo_parts(name)
    image = background.copy()
    left, top, _ = _corner(PHOTOS[name], moment)
    image.paste(photograph, (left, top))
    return image


@cache
def _photo_parts(name: str) -> "tuple[Image, Image]":
    """(the photograph as a blurred ground, the photograph in its size)."""
    from PIL import Image, ImageFilter

    photo = PHOTOS[name]
    spec = find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    original = Image.open(Path(spec.origin).parent / "assets" / f"{name}.jpg").convert("RGB")
    scaled = original.resize((round(photo.size[0] * photo.height / photo.size[1]), photo.height))
    ground = original.resize((WIDTH, HEIGHT)).filter(ImageFilter.GaussianBlur(40))
    return ground, scaled


# ---- file --------------------------------------------------------------------------------------------------------


def _write(script: Script, path: Path, placed: list[tuple[int, Speech]]) -> None:
    import av

    with av.open(
        str(path), "w", format="mp4", options={"movflags": "use_metadata_tags+faststart"}
    ) as container:
        container.metadata.update(
            {
                "creation_time": f"{script.captured_at:%Y-%m-%dT%H:%M:%S.%fZ}",
                "com.apple.quicktime.location.ISO6709": (
                    f"{script.latitude:+08.4f}{script.longitude:+09.4f}{script.altitude:+08.3f}/"
                ),
                "com.apple.quicktime.make": "Eioku",
                "com.apple.quicktime.model": "Demo film",
            }
        )
        # One thread: x264 gives the same bytes only then.
        options = {"crf": "23", "preset": "veryfast", "g": str(2 * FPS), "threads": "1"}
        picture = container.add_stream("libx264", rate=FPS, options=options)
        picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        picture.time_base = Fraction(1, FPS)
        rate = placed[0][1].rate
        sound = container.add_stream("aac", rate=rate, layout="mono")
        sound.bit_rate = 64_000
        number = 0
        for index, shot in enumerate(script.shots):
            count = shot.seconds * FPS
            for step in range(count):
                pixels = np.asarray(_picture(shot, index, step / count))
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(picture.encode(frame))
                number += 1
        container.mux(picture.encode(None))
        track = np.zeros(number * rate // FPS, np.float32)
        for at_ms, voice in placed:
            first = at_ms * rate // 1000
            track[first : first + len(voice.samples)] += voice.samples[: len(track) - first]
        for first in range(0, len(track), 1024):
            block = av.AudioFrame.from_ndarray(
                track[None, first : first + 1024], format="fltp", layout="mono"
            )
            block.pts, block.sample_rate, block.time_base = first, rate, Fraction(1, rate)
            container.mux(sound.encode(block))
        container.mux(sound.encode(None))
