"""Which text models are taken, from where, for which languages."""

from pathlib import Path

import pytest

from domain.errors import InvalidParameter
from workers.models import MissingModel
from workers.ocr_models import TextModels, find_text_models, folder_for_paddle, reads, recogniser_for
from workers.producer import ModelPlaces


def model_in(folder: Path, name: str) -> None:
    path = folder / name
    path.mkdir(parents=True)
    (path / "inference.yml").write_text(f"Global:\n  model_name: {name}\n")
    (path / "inference.json").write_text("{}")
    (path / "inference.pdiparams").write_bytes(name.encode())


def names(found: TextModels | MissingModel) -> tuple[str, str, str]:
    assert isinstance(found, TextModels)
    return found.detection.name, found.recognition.name, found.recognition.source


@pytest.mark.parametrize(
    ("languages", "name"),
    [
        ((), "PP-OCRv5_server_rec"),
        (("zh-Hans", "en"), "PP-OCRv5_server_rec"),
        (("de",), "latin_PP-OCRv5_mobile_rec"),
        (("de-AT", "fr", "en"), "latin_PP-OCRv5_mobile_rec"),
        (("uk",), "eslav_PP-OCRv5_mobile_rec"),
        (("ko", "en"), "korean_PP-OCRv5_mobile_rec"),
    ],
)
def test_languages_name_the_official_model(languages: tuple[str, ...], name: str) -> None:
    assert recogniser_for("PP-OCRv5_server", languages) == name


def test_languages_of_two_scripts_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="de, ru"):
        recogniser_for("PP-OCRv5_mobile", ("de", "ru"))


def test_japanese_is_read_since_the_fifth_generation() -> None:
    assert reads("PP-OCRv5_mobile_rec", ["ja"])
    assert not reads("PP-OCRv4_mobile_rec", ["ja"])
    assert not reads("PP-OCRv5_mobile_det", [])


def test_the_folder_goes_before_the_package_which_fills_what_is_missing(tmp_path: Path) -> None:
    places = ModelPlaces(models_dir=tmp_path, is_offline=True)
    packaged = ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "package")
    assert names(find_text_models("PP-OCRv5_mobile", (), places)) == packaged
    model_in(tmp_path / "deep", "latin_PP-OCRv5_mobile_rec")
    assert names(find_text_models("PP-OCRv5_mobile", ("fr",), places)) == (
        "PP-OCRv4_mobile_det",
        "latin_PP-OCRv5_mobile_rec",
        "folder",
    )
    for name in ("PP-OCRv5_mobile_det", "PP-OCRv5_server_det", "PP-OCRv5_server_rec"):
        model_in(tmp_path, name)
    found = find_text_models("PP-OCRv5_server", (), places)
    assert names(found) == ("PP-OCRv5_server_det", "PP-OCRv5_server_rec", "folder")
    before = found.identity.digest
    (tmp_path / "PP-OCRv5_server_det/inference.pdiparams").write_bytes(b"other weights")
    assert found.identity.digest != before


def test_an_explicit_folder_is_the_only_one_looked_into(tmp_path: Path) -> None:
    model_in(tmp_path, "PP-OCRv5_mobile_det")
    missing = find_text_models("PP-OCRv5_mobile", (), ModelPlaces(ocr_models=tmp_path, is_offline=True))
    assert isinstance(missing, MissingModel)
    assert "EIOKU_OCR_MODELS" in missing.missing
    model_in(tmp_path, "PP-OCRv5_mobile_rec")
    found = find_text_models("PP-OCRv5_mobile", (), ModelPlaces(ocr_models=tmp_path, is_offline=True))
    assert names(found) == ("PP-OCRv5_mobile_det", "PP-OCRv5_mobile_rec", "path")


def test_what_is_missing_comes_with_what_to_do(tmp_path: Path) -> None:
    missing = find_text_models("PP-OCRv5_mobile", ("th",), ModelPlaces(models_dir=tmp_path, is_offline=True))
    assert isinstance(missing, MissingModel)
    assert "EIOKU_OFFLINE" in missing.missing
    for word in ("th_PP-OCRv5_mobile_rec", str(tmp_path), "EIOKU_OCR_MODELS"):
        assert word in missing.remedy


def test_packaged_models_are_laid_out_as_paddle_wants_them(tmp_path: Path) -> None:
    import yaml

    found = find_text_models("PP-OCRv5_mobile", (), ModelPlaces(is_offline=True))
    assert isinstance(found, TextModels)
    said = yaml.safe_load((folder_for_paddle(found.recognition, tmp_path) / "inference.yml").read_text())
    assert said["Global"]["model_name"] == "PP-OCRv4_mobile_rec"
    characters = said["PostProcess"]["character_dict"]
    assert len(characters) == 6623
    assert len(set(characters)) == 6623
    assert all(len(character) == 1 for character in characters)
