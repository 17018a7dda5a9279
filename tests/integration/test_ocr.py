"""Text on the screen of real films, against what was written there."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.support import media
from tests.support.produce import Family
from workers.producer import ModelPlaces

pytestmark = pytest.mark.ml_ocr
LOOK_MS = 200
MOST_MB = 1_500
"""Only a leak, or an executor that plans for the largest picture again, comes near: 790 were measured (benchmarks/README.md)."""


def bare(text: str) -> str:
    """Without blanks: the small model loses some."""
    return "".join(text.upper().split())


def test_each_card_of_the_demo_films_is_one_line_for_as_long_as_it_stands(ocr: Family, demo_films) -> None:
    for film in demo_films:
        made = ocr("ocr", film.path)
        assert made.error is None, made.message
        for card in film.truth.cards:
            read = [
                (start, end)
                for _, start, end, payload in made.found
                if bare(payload["text"]) == bare(card.text)
            ]
            assert len(read) == 1, (card.text, made.texts())
            assert read[0] == pytest.approx((card.start_ms, card.end_ms), abs=LOOK_MS)
        # Nothing in the drawn scenes, which hold no text; the bus has its own.
        cards = {bare(card.text) for card in film.truth.cards}
        others = {
            payload["text"].strip(".") for *_, payload in made.found if bare(payload["text"]) not in cards
        }
        assert others <= {"cero", "emisiones"}
        assert "torch" not in made.loaded
        assert "ctranslate2" not in made.loaded
        assert made.outcome.metrics["frames_read"] <= film.truth.duration_ms / 1000 / 2 + len(
            film.truth.cuts_ms
        )


def test_the_polygon_is_where_the_letters_are(ocr: Family, demo_films) -> None:
    made = ocr("ocr", demo_films[1].path)
    polygon = next(payload["polygon"] for *_, payload in made.found if "PLATFORM" in payload["text"])
    across, down = [x for x, _ in polygon], [y for _, y in polygon]
    # Letters an eighth of the picture high, in the middle, drawn from 0.42 of the height on.
    assert (min(across) + max(across)) / 2 == pytest.approx(0.5, abs=0.02)
    assert 0.40 <= min(down) < 0.47
    assert 0.53 < max(down) <= 0.60


def test_there_is_no_text_where_there_is_none(ocr: Family, street: Path) -> None:
    made = ocr("ocr", street)
    assert made.error is None
    assert made.found == []
    assert made.outcome.metrics["frames_read"] > 5


def test_a_film_held_upright_is_read_as_it_is_shown(ocr: Family, tmp_path: Path) -> None:
    still = [card("UPRIGHT 77")] * 10
    lying = media.clip(
        tmp_path / "film.mp4", times_ms=range(0, 1000, 100), pictures=[np.rot90(p).copy() for p in still]
    )
    data = lying.read_bytes()
    place = data.index(media.IDENTITY, data.index(b"tkhd"))
    lying.write_bytes(data[:place] + media.CLOCKWISE[90] + data[place + len(media.IDENTITY) :])
    assert [bare(text) for text in ocr("ocr", lying).texts()] == ["UPRIGHT77"]


def card(text: str) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (640, 360), (20, 30, 60))
    ImageDraw.Draw(image).text((80, 150), text, font=ImageFont.load_default(48), fill=(250, 250, 250))
    return np.asarray(image)


def test_a_subtitle_over_a_still_picture_is_one_text_from_its_first_to_its_last_look(
    ocr: Family, tmp_path: Path
) -> None:
    empty, written = card(""), card("GOOD NIGHT")
    film = media.clip(
        tmp_path / "film.mp4",
        times_ms=range(0, 6000, 100),
        pictures=[empty] * 12 + [written] * 31 + [empty] * 17,
    )
    made = ocr("ocr", film, config={"confidence": 0.5})
    assert [(bare(payload["text"]), start, end) for _, start, end, payload in made.found] == [
        ("GOODNIGHT", 1200, 4400)
    ]


def test_languages_decide_on_the_model_and_go_into_the_artifacts(ocr: Family, demo_films) -> None:
    made = ocr("ocr", demo_films[0].path, language="en")
    assert made.description.language == "en"
    assert {payload["language"] for *_, payload in made.found} == {"en"}
    german = ocr("ocr", demo_films[0].path, config={"languages": ["de", "fr"]})
    assert german.error == "ModelUnavailable"
    assert "de, fr" in german.message
    assert "latin_PP-OCRv5_mobile_rec" in german.remedy
    both = ocr("ocr", demo_films[0].path, config={"languages": ["de", "ru"]})
    assert both.error == "InvalidParameter"


def test_wrong_parameters_are_refused_by_name(ocr: Family, demo_films) -> None:
    for config, word in (
        ({"side": 9}, "side"),
        ({"every_ms": 1}, "every_ms"),
        ({"confidence": 2}, "confidence"),
    ):
        made = ocr("ocr", demo_films[0].path, config=config)
        assert made.error == "InvalidParameter"
        assert word in made.message


def test_sound_alone_has_no_text(ocr: Family, jfk: Path) -> None:
    made = ocr("ocr", jfk)
    assert made.found == []
    assert made.outcome.metrics["has_video"] == 0.0


def test_a_folder_without_models_is_told_with_what_to_do(ocr: Family, demo_films, tmp_path: Path) -> None:
    made = ocr("ocr", demo_films[0].path, models=ModelPlaces(ocr_models=tmp_path, is_offline=True))
    assert made.error == "ModelUnavailable"
    assert "EIOKU_OCR_MODELS" in made.message
    assert "PP-OCRv5_mobile_det" in made.remedy


def test_a_large_picture_full_of_text_is_read_in_little_memory(ocr: Family, tmp_path: Path) -> None:
    page = Image.new("RGB", (1920, 1080), (250, 250, 245))
    draw = ImageDraw.Draw(page)
    lines = [(row, column) for row in range(24) for column in range(3)]
    for row, column in lines:
        text = " ".join(("harbour", "lantern", "meadow", "copper", "signal")[: 2 + (row + column) % 4])
        font = ImageFont.load_default(18 + row % 3 * 6)
        draw.text((40 + 620 * column, 20 + 43 * row), text, font=font, fill=(15, 15, 20))
    film = media.clip(tmp_path / "dense.mp4", times_ms=[0, 200, 400], pictures=[np.asarray(page)] * 3)
    made = ocr("ocr", film)
    assert made.error is None, made.message
    assert sum("harbour" in text for text in made.texts()) > 0.9 * len(lines)
    assert made.peak_mb <= MOST_MB


def test_pictures_and_lines_of_many_sizes_do_not_add_up(ocr: Family, tmp_path: Path) -> None:
    words = ("harbour", "lantern", "meadow", "copper", "signal")
    for width, height in ((640, 360), (360, 640), (960, 720), (1080, 1080), (1920, 1080)):
        page = Image.new("RGB", (width, height), (250, 250, 245))
        for row in range(6):
            text = " ".join(words[n % 5] for n in range((row + 1) * width // 480))
            ImageDraw.Draw(page).text((20, 20 + 50 * row), text, font=ImageFont.load_default(18 + 3 * row), fill=(15, 15, 20))
        film = media.clip(tmp_path / f"{width}.mp4", times_ms=[0, 200, 400], pictures=[np.asarray(page)] * 3)
        made = ocr("ocr", film)
        assert "harbour" in " ".join(made.texts()), made.message
        assert made.peak_mb <= MOST_MB
    large = ocr("ocr", film, config={"side": 1536})
    assert "harbour" in " ".join(large.texts()), large.message
    assert ocr("ocr", film).texts() == made.texts()
