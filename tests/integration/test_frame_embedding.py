"""Frames as vectors: the real code on image-text models that nobody trained."""

import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from domain.artifacts.embedding import unpacked
from tests.support import media
from tests.support.produce import Family, Made
from workers.producer import ModelPlaces

pytestmark = pytest.mark.ml_torch


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds: red, then blue, then noise, then red again."""
    grain = np.random.default_rng(3).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    red, blue = (np.full((120, 160, 3), colour, np.uint8) for colour in ((200, 30, 30), (20, 40, 220)))
    path = tmp_path_factory.mktemp("film") / "colours.mp4"
    pictures = [picture for picture in (red, blue, grain, red) for _ in range(10)]
    return media.clip(path, times_ms=range(0, 4000, 100), pictures=pictures)


def embed(family: Family, film: Path, clip: Path | None, **wish) -> Made:
    config = {"every_ms": 1000} | wish.pop("config", {})
    places = ModelPlaces(is_offline=True, image_embedder=clip)
    return family("frame_embedding", film, config=config, **({"models": places} | wish))


def vectors(made: Made) -> dict[int, np.ndarray]:
    assert made.error is None, made.message
    return {start: np.array(unpacked(payload["vector"])) for _, start, _, payload in made.found}


def test_a_frame_every_second_and_one_in_the_middle_of_each_scene(
    torch_family: Family, film: Path, tiny_clip: Path
) -> None:
    made = embed(torch_family, film, tiny_clip)
    # The scenes that the harness hands over are 0..900 and 1000..1900.
    assert list(vectors(made)) == [0, 600, 1000, 1600, 2000, 3000]
    assert {payload["dim"] for *_, payload in made.found} == {512}
    assert [payload["frame_index"] for *_, payload in made.found] == [0, 6, 10, 16, 20, 30]
    assert {payload["model_digest"] for *_, payload in made.found} == {made.description.model.digest}
    assert made.outcome.metrics["frames"] == 6


def test_vectors_have_length_1_and_like_frames_lie_together(
    torch_family: Family, film: Path, tiny_clip: Path
) -> None:
    found = vectors(embed(torch_family, film, tiny_clip))
    assert all(np.linalg.norm(vector) == pytest.approx(1, abs=0.002) for vector in found.values())
    for at, vector in found.items():
        assert max(found, key=lambda other: found[other] @ vector) in {
            0: {0, 600, 3000}, 600: {0, 600, 3000}, 3000: {0, 600, 3000}, 1000: {1000, 1600}, 1600: {1000, 1600}, 2000: {2000},
        }[at]  # fmt: skip
    assert found[0] @ found[3000] > 0.99 > found[0] @ found[1000]
    assert found[0] @ found[2000] < 0.99


def test_a_file_without_pictures_has_no_frames(torch_family: Family, tiny_clip: Path, tmp_path: Path) -> None:
    sound = media.clip(tmp_path / "sound.m4a", has_picture=False, sound=media.tone(1))
    made = embed(torch_family, sound, tiny_clip)
    assert (made.error, made.found, made.outcome.metrics["has_video"]) == (None, [], 0.0)


def test_without_a_model_it_says_what_to_do(torch_family: Family, film: Path, tmp_path: Path) -> None:
    made = embed(torch_family, film, None, models=ModelPlaces(is_offline=True, models_dir=tmp_path))
    assert made.error == "ModelUnavailable"
    assert "EIOKU_OFFLINE" in made.message
    for word in ("openai/clip-vit-base-patch32", "EIOKU_IMAGE_EMBEDDER", str(tmp_path)):
        assert word in made.remedy


def test_the_models_folder_is_looked_into(torch_family: Family, film: Path, tiny_clip: Path, tmp_path: Path) -> None:
    copytree(tiny_clip, tmp_path / "clip-vit-base-patch32")
    made = embed(torch_family, film, None, models=ModelPlaces(is_offline=True, models_dir=tmp_path))
    assert made.error is None, made.message
    assert made.description.model.name == "openai/clip-vit-base-patch32"
    assert made.description.model.source == f"folder: {tmp_path}/clip-vit-base-patch32"


@pytest.mark.parametrize("flaw", ["nothing there", "no picture side", "no weights", "half the weights", "texts only"])
def test_a_folder_that_holds_no_such_model_is_refused_with_a_remedy(
    torch_family: Family, film: Path, tiny_clip: Path, tmp_path: Path, flaw: str
) -> None:
    folder = copytree(tiny_clip, tmp_path / "clip")
    weights = folder / "model.safetensors"
    match flaw:
        case "nothing there":
            folder = tmp_path / "elsewhere"
        case "no picture side":
            (folder / "preprocessor_config.json").unlink()
        case "no weights":
            weights.unlink()
        case "half the weights":
            weights.write_bytes(weights.read_bytes()[:10_000])
        case "texts only":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config["text_config"] | {"model_type": "clip_text_model"}))
    made = embed(torch_family, film, folder)
    assert made.error == "ModelUnavailable"
    assert str(folder) in made.message
    assert made.remedy


def test_too_many_frames_a_second_are_refused(torch_family: Family, film: Path, tiny_clip: Path) -> None:
    made = embed(torch_family, film, tiny_clip, config={"every_ms": 100})
    assert (made.error, "every_ms" in made.message) == ("InvalidParameter", True)
