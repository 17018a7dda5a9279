"""The place classifier's real code on checkpoints that nobody trained: what it computes is checked against torch itself."""

import json
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from infrastructure.media.frames import Frame, Shaper
from tests.support import media
from tests.support.places import ROOT, name_of, write_checkpoint, write_labels
from tests.support.produce import Family, Made
from workers.place_detection import looks_of
from workers.producer import ModelPlaces

pytestmark = pytest.mark.ml_torch

RED, BLUE = (np.full((120, 160, 3), colour, np.uint8) for colour in ((200, 30, 30), (20, 40, 220)))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of noise over red, two of blue, one of plain red."""
    random = np.random.default_rng(3)
    grain = random.integers(0, 50, (120, 160, 3), dtype=np.uint8)
    pictures = [(BLUE if 20 <= n < 40 else RED) + (grain if n < 20 else 0) for n in range(50)]
    path = tmp_path_factory.mktemp("film") / "two places.mp4"
    return media.clip(path, times_ms=range(0, 5000, 100), pictures=[p.astype(np.uint8) for p in pictures])


def look(family: Family, film: Path, checkpoint: Path | None, **wish) -> Made:
    config = {"every_ms": 500, "confidence": 0.0} | wish.pop("config", {})
    places = ModelPlaces(is_offline=True, places_model=checkpoint)
    return family("place_detection", film, config=config, **({"models": places} | wish))


def reference(film: Path, checkpoint: Path, every_ms: int) -> list[list[float]]:
    """Softmax per look by torchvision's own transforms, in a process of its own."""
    code = """
import json, sys, torch, torchvision
from pathlib import Path
from torchvision.transforms import v2
from infrastructure.media.frames import sample_frames
model = torchvision.models.resnet18(num_classes=365)
saved = torch.load(sys.argv[2], weights_only=True)["state_dict"]
model.load_state_dict({k.replace("module.", "", 1): v for k, v in saved.items()})
see = v2.Compose([v2.Resize((256, 256), antialias=True), v2.CenterCrop(224), v2.ToDtype(torch.float32, scale=True),
                  v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
with torch.inference_mode():
    rows = [model.eval()(see(torch.from_numpy(f.image.copy()).permute(2, 0, 1))[None]).softmax(1)[0].tolist()
            for f in sample_frames(Path(sys.argv[1]), every_ms=int(sys.argv[3]))]
print(json.dumps(rows))
"""
    command = [sys.executable, "-c", code, str(film), str(checkpoint), str(every_ms)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_stretches_with_mean_scores_top_five_and_indoors(
    torch_family: Family, film: Path, places_checkpoint: Path
) -> None:
    made = look(torch_family, film, places_checkpoint)
    assert made.error is None, made.message
    rows = np.array(reference(film, places_checkpoint, 500))
    best = rows.argmax(axis=1)
    cuts = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(rows)]
    assert len(cuts) >= 3  # two places at least, even for this one
    assert [start for _, start, _, _ in made.found] == [at * 500 for at in cuts[:-1]]
    ends = [end for _, _, end, _ in made.found]
    assert ends == [*(at * 500 for at in cuts[1:-1]), pytest.approx(5_000, abs=60)]
    for (_, start, _, payload), (first, end) in zip(made.found, pairwise(cuts), strict=True):
        mean = rows[first:end].mean(axis=0)
        order = np.argsort(-mean)[:5]
        given = [payload, *payload["alternatives"]]
        assert len(given) == 5
        # 8-bit rounding between the two ways to resize: a hundredth of the score.
        assert [g["confidence"] for g in given] == pytest.approx(mean[order].tolist(), abs=0.02)
        assert [g["confidence"] for g in given] == sorted((g["confidence"] for g in given), reverse=True)
        assert payload["label"] == label(int(order[0]))
        assert payload["frame_index"] == start // 100
        numbers = [number_of(g["label"]) for g in given]
        inside = sum(g["confidence"] for g, n in zip(given, numbers, strict=True) if n % 3)
        outside = sum(g["confidence"] for g, n in zip(given, numbers, strict=True) if n % 3 == 0)
        assert payload["environment"] == ("indoor" if inside >= outside else "outdoor")
    assert made.outcome.metrics["frames"] == 10


def test_each_scene_is_looked_at_and_a_long_one_more_than_once() -> None:
    def frame(at_ms: int) -> Frame:
        # Hard cuts after 1.0 and 1.25 s, and noise from 6.0 s on: another picture each quarter of a second is no scene.
        scene = 0 if at_ms < 1_000 else 1 if at_ms < 1_250 else 2 if at_ms < 6_000 else at_ms
        image = np.random.default_rng(scene).integers(0, 255, (9, 16, 3), np.uint8).repeat(20, 0).repeat(20, 1)
        picture = VideoFrame.from_ndarray(image, format="rgb24")
        return Frame(at_ms // 250, Fraction(at_ms, 1000), picture, Shaper(None, "rgb24", is_lazy=True))

    looks = looks_of(map(frame, range(0, 7_500, 250)), every_ms=2_000)
    assert [look.time_ms for look in looks] == [0, 1_000, 2_000, 4_000, 6_000]


def label(number: int) -> str:
    return name_of(number)[3:].replace("_", " ")


def number_of(text: str) -> int:
    return int(text.split("/", maxsplit=1)[0].rsplit(" ", 1)[1])


def test_unsure_stretches_are_left_out(torch_family: Family, film: Path, places_checkpoint: Path) -> None:
    every = look(torch_family, film, places_checkpoint).found
    middle = sorted(payload["confidence"] for *_, payload in every)[len(every) // 2]
    sure = look(torch_family, film, places_checkpoint, config={"confidence": middle - 0.0001}).found
    assert sure == [found for found in every if found[3]["confidence"] > middle - 0.0001]
    assert 0 < len(sure) < len(every)


def test_the_deeper_network_is_known_by_its_weights(torch_family: Family, film: Path, tmp_path: Path) -> None:
    deep = write_checkpoint(tmp_path, "resnet50")
    deep = deep.rename(tmp_path / "mine.pt")
    (tmp_path / "IO_places365.txt").unlink()
    made = look(torch_family, film, deep, config={"every_ms": 5000, "model": "resnet18"})
    assert made.error is None, made.message
    assert {len(payload["alternatives"]) for *_, payload in made.found} == {4}
    assert "environment" not in made.found[0][3]
    assert made.description.model.name == "mine"


def test_without_a_checkpoint_it_says_what_to_do(torch_family: Family, film: Path, tmp_path: Path) -> None:
    made = look(torch_family, film, None, models=ModelPlaces(is_offline=True, models_dir=tmp_path))
    assert made.error == "ModelUnavailable"
    assert "EIOKU_OFFLINE" in made.message
    for word in ("resnet18_places365.pth.tar", "categories_places365.txt", "EIOKU_PLACES_MODEL", str(tmp_path)):
        assert word in made.remedy


def test_the_models_folder_is_looked_into(torch_family: Family, film: Path, places_checkpoint: Path) -> None:
    places = ModelPlaces(is_offline=True, models_dir=places_checkpoint.parent)
    made = look(torch_family, film, None, models=places, config={"model": "resnet50"})
    assert made.error is None, made.message
    assert made.description.model.source == f"folder: {places_checkpoint}"


class Marker:
    """Unpickling it would run code."""

    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("flaw", ["no labels", "few labels", "other marks", "no checkpoint", "code inside"])
def test_files_that_do_not_fit_are_refused_with_a_remedy(
    torch_family: Family, film: Path, places_checkpoint: Path, tmp_path: Path, flaw: str
) -> None:
    import pickle

    checkpoint = tmp_path / "resnet18_places365.pth.tar"
    checkpoint.symlink_to(places_checkpoint)
    write_labels(tmp_path, 300 if flaw == "few labels" else 365)
    if flaw == "no labels":
        (tmp_path / "categories_places365.txt").unlink()
    elif flaw == "other marks":
        (tmp_path / "IO_places365.txt").write_text("/x/elsewhere 1\n" * 365)
    elif flaw == "no checkpoint":
        checkpoint.unlink()
        checkpoint.write_bytes(b"not a checkpoint")
    elif flaw == "code inside":
        checkpoint.unlink()
        checkpoint.write_bytes(pickle.dumps({"state_dict": Marker()}))
    made = look(torch_family, film, checkpoint)
    assert made.error == "ModelUnavailable"
    assert str(tmp_path) in made.message
    assert made.remedy
