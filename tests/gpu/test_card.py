"""What only a GPU shows; everything else about GPUs is tested without one."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from domain.artifacts.embedding import unpacked
from infrastructure.devices import VISIBLE, installed_gpus
from infrastructure.media import frames
from infrastructure.media.hardware import Hardware
from tests.support import media
from tests.support.card import GB, Seen
from tests.support.produce import ROOT, Family, Made
from workers.producer import ModelPlaces

CARDS = installed_gpus()
pytestmark = [pytest.mark.skipif(not CARDS, reason="no NVIDIA GPU and driver here"), pytest.mark.slow]
ON_CARD = "cuda:0 (NVIDIA"


@pytest.fixture
def cpu() -> Iterator[Family]:
    """A process of the test's own: libraries of models tolerate no others beside them."""
    family = Family()
    yield family
    family.close()


@pytest.fixture(scope="module")
def walk(shared_media: Path) -> Path:
    """Somebody walks through, from 6 s on."""
    return shared_media / "media/one-by-one-person-detection.mp4"


@pytest.fixture
def weights(places_checkpoint: Path, tiny_clip: Path, detector_checkpoint: Path) -> dict[str, Path]:
    return {
        "detector_weights": detector_checkpoint,
        "places_model": places_checkpoint,
        "image_embedder": tiny_clip,
    }


def both(card: Family, cpu: Family, task_type: str, path: Path, weights: dict[str, Path], **wish) -> tuple[Made, Made]:
    """The same job on the card and on the CPU; the first has to have been done there."""
    made = [
        family(task_type, path, models=ModelPlaces(is_offline=True, device=device, **weights), **wish)
        for family, device in ((card, "cuda"), (cpu, "cpu"))
    ]
    assert [one.error for one in made] == [None, None], [one.message for one in made]
    assert made[0].description.device.startswith(ON_CARD), made[0].description
    assert made[1].description.device == "cpu"
    assert made[0].outcome.metrics.get("moved_to_cpu", 0.0) == 0
    assert made[0].found
    return made[0], made[1]


def test_objects_are_where_the_cpu_sees_them(torch_family: Family, cpu: Family, walk: Path, weights) -> None:
    card, reference = both(torch_family, cpu, "object_detection", walk, weights, config={"every_ms": 500})
    assert card.outcome.metrics["batch"] == 16
    sure = [
        (start, payload)
        for kind, start, _, payload in reference.found
        if kind == "object.detection" and payload["confidence"] >= 0.4
    ]
    assert len(sure) > 100
    there: dict[tuple[int, str], list[dict]] = {}
    for kind, start, _, payload in card.found:
        if kind == "object.detection":
            there.setdefault((start, payload["label"]), []).append(payload)
    for start, payload in sure:
        assert any(
            payload["box"] == pytest.approx(one["box"], abs=0.01)
            and payload["confidence"] == pytest.approx(one["confidence"], abs=0.02)
            for one in there.get((start, payload["label"]), [])
        ), (start, payload, there)
    people = [[payload["frames"] for kind, *_, payload in made.found if kind == "object.track"] for made in (card, reference)]
    assert max(people[0]) == pytest.approx(max(people[1]), abs=2)


def test_places_and_pictures_are_what_the_cpu_makes_of_them(
    torch_family: Family, cpu: Family, walk: Path, weights
) -> None:
    card, reference = both(torch_family, cpu, "place_detection", walk, weights, config={"confidence": 0.0})
    assert [found[:3] for found in card.found] == [found[:3] for found in reference.found]
    for one, other in zip(card.found, reference.found, strict=True):
        assert one[3]["label"] == other[3]["label"]
        assert one[3]["confidence"] == pytest.approx(other[3]["confidence"], abs=0.01)
    card, reference = both(torch_family, cpu, "frame_embedding", walk, weights)
    assert near(card, reference)


def test_texts_mean_the_same(torch_family: Family, cpu: Family, walk: Path, weights) -> None:
    assert near(*both(torch_family, cpu, "embedding", walk, weights))


def near(card: Made, reference: Made) -> bool:
    vectors = [np.array([unpacked(payload["vector"]) for *_, payload in made.found]) for made in (card, reference)]
    assert vectors[0].shape == vectors[1].shape
    return bool(((vectors[0] * vectors[1]).sum(axis=1) > 0.999).all())


@pytest.mark.ml_asr
def test_speech_is_understood_in_batches(asr: Family, cpu: Family, jfk: Path) -> None:
    card, reference = both(asr, cpu, "transcription", jfk, {})
    assert "ask not what your country can do for you" in " ".join(card.texts()).lower().replace(",", "")
    assert [word["word"] for word in card.words()] == [word["word"] for word in reference.words()]
    for one, other in zip(card.words(), reference.words(), strict=True):
        assert one["start_ms"] == pytest.approx(other["start_ms"], abs=300)
    assert card.outcome.metrics["batch"] == 8


@pytest.mark.parametrize(("token", "device"), [("", "cpu"), ("uuid", ON_CARD)])
def test_a_process_has_the_card_that_it_was_given(
    monkeypatch: pytest.MonkeyPatch, walk: Path, weights, token: str, device: str
) -> None:
    monkeypatch.setenv(VISIBLE, CARDS[0].uuid if token else "")
    family = Family()
    try:
        made = family("embedding", walk, models=ModelPlaces(is_offline=True))
    finally:
        family.close()
    assert made.error is None, made.message
    assert made.description.device.startswith(device)


def test_without_a_card_that_must_be_there_the_job_says_so(monkeypatch: pytest.MonkeyPatch, walk: Path) -> None:
    monkeypatch.setenv(VISIBLE, "")
    family = Family()
    try:
        made = family("embedding", walk, models=ModelPlaces(is_offline=True, device="cuda"))
    finally:
        family.close()
    assert (made.error, "EIOKU_DEVICE" in made.message) == ("ModelUnavailable", True)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, detector_checkpoint: Path) -> Seen:
    folder = tmp_path_factory.mktemp("card")
    command = [sys.executable, "-m", "tests.support.card", str(folder), str(detector_checkpoint)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode((folder / "seen.json").read_bytes(), type=Seen)


def test_a_model_that_needs_the_room_of_another_gets_it(seen: Seen) -> None:
    empty, one, other, gone = seen.used_bytes
    assert one - empty == pytest.approx(2 * GB, rel=0.1)
    assert other == pytest.approx(one, rel=0.05)
    assert gone == pytest.approx(empty, abs=GB // 8)


@pytest.mark.parametrize("task_type", ["object_detection", "place_detection"])
def test_when_memory_really_runs_out_half_the_batch_and_then_the_cpu_make_the_same(seen: Seen, task_type: str) -> None:
    as_it_is, quarter, nothing = seen.made[task_type]
    for made in seen.made[task_type]:
        assert made.error is None, made.message
        assert [found[:3] for found in made.found] == [found[:3] for found in as_it_is.found]
    assert as_it_is.outcome.metrics["out_of_memory"] == 0
    assert quarter.outcome.metrics["out_of_memory"] > 0
    assert quarter.outcome.metrics["moved_to_cpu"] == 0
    assert quarter.outcome.metrics["batch"] < as_it_is.outcome.metrics["batch"]
    assert nothing.outcome.metrics["moved_to_cpu"] == 1


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """A photograph that moves, 1920×1080."""
    file = Path(find_spec("ultralytics").origin).parent / "assets/bus.jpg"
    photograph = Image.open(file).convert("RGB").resize((1920, 1080))
    return [np.roll(np.asarray(photograph), 16 * number, axis=1) for number in range(20)]


@pytest.mark.parametrize("every_ms", [0, 500])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "mjpeg"])
def test_what_the_card_decodes_is_what_software_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures, codec: str, every_ms: int
) -> None:
    film = media.clip(tmp_path / "film.mp4", times_ms=range(0, 2000, 100), pictures=pictures, codec=codec)

    def look(hardware: Hardware) -> tuple[list[frames.Frame], set[str]]:
        monkeypatch.setattr(frames, "HARDWARE", hardware)
        formats = {frame.format.name for frame, _ in frames.decoded_frames(film, frames.Decoding())}
        return list(frames.sample_frames(film, every_ms=every_ms, max_side=960, is_lazy=True)), formats

    card = Hardware()
    card.is_allowed = True
    (found, formats), (reference, _) = look(card), look(Hardware())
    assert len(found) == (20 if every_ms == 0 else 4)
    for one, other in zip(found, reference, strict=True):
        assert (one.index, one.time) == (other.index, other.time)
        assert np.abs(one.image.astype(int) - other.image).mean() < 1
        assert np.abs(one.brightness(8, 8) - other.brightness(8, 8)).max() < 2
    # What comes from the card has its colours in pairs; what it does not decode is decoded in software all the same.
    assert formats == {"nv12"} if codec in ("libx264", "libx265") else formats
