"""Faces in photographs that come with a package, as films: found, embedded, clustered."""

from importlib.util import find_spec
from itertools import combinations
from math import dist
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from application.faces import KINDS, FaceClusterer
from domain.artifacts.face_detection import FaceDetectionV1
from domain.face_library import JOINS
from domain.face_vectors import unpack_half
from tests.support import media
from tests.support.faces import Cinema
from tests.support.given import AT
from tests.support.memory_log import MemoryLog
from tests.support.produce import Family, Made
from workers.producer import ModelPlaces

# Marked by hand in the pictures: the middle of each face, in shares of width and height.
ZIDANE = ((0.47, 0.48), (0.77, 0.26))
BUS = ((0.165, 0.41), (0.355, 0.415))
HOG = ModelPlaces(is_offline=True)


@pytest.fixture(scope="module")
def photographs() -> Path:
    spec = find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "assets"


@pytest.fixture
def yunet(shared_media: Path) -> ModelPlaces:
    return ModelPlaces(is_offline=True, models_dir=shared_media / "models")


def boxes(made: Made, at_ms: int = 0) -> list[tuple[float, float, float, float]]:
    assert made.error is None, made.message
    return [tuple(payload["box"]) for _, start_ms, _, payload in made.found if start_ms == at_ms]


def holds(box: tuple[float, float, float, float], point: tuple[float, float]) -> bool:
    left, top, width, height = box
    return left < point[0] < left + width and top < point[1] < top + height


def test_both_faces_are_found_where_they_are(
    light: Family, yunet: ModelPlaces, photographs: Path, tmp_path: Path
) -> None:
    for name, faces in (("zidane.jpg", ZIDANE), ("bus.jpg", BUS)):
        film = media.film_of(tmp_path / f"{name}.mp4", photographs / name)
        made = light("face_detection", film, models=yunet)
        found = boxes(made)
        assert len(found) == 2
        assert all(holds(box, face) for box, face in zip(found, faces, strict=True))
        for _, _, _, payload in made.found:
            assert len(payload["landmarks"]) == 5
            assert all(holds(payload["box"], tuple(point)) for point in payload["landmarks"][:2])
            assert 0 < payload["quality"] <= 1
        assert made.description.model.name.startswith("face_detection_yunet")


def test_faces_are_where_the_photographs_are_and_nowhere_else(
    light: Family, yunet: ModelPlaces, demo_films, street: Path
) -> None:
    truth = demo_films[1].truth
    people = {thing.at_ms // 1000 for thing in truth.objects if thing.label == "person"}
    made = light("face_detection", demo_films[1].path, models=yunet)
    seen = [start_ms // 1000 for _, start_ms, _, _ in made.found]
    assert set(seen) <= people
    first, last = truth.cards[0].end_ms // 1000, truth.cards[1].start_ms // 1000
    assert all(seen.count(second) == 2 for second in range(first, last))  # both, as long as the photograph is shown
    assert light("face_detection", street, models=yunet).found == []


def test_without_any_file_of_ours_a_face_is_found_too(light: Family, photographs: Path, tmp_path: Path) -> None:
    film = media.film_of(tmp_path / "film.mp4", photographs / "zidane.jpg")
    made = light("face_detection", film, models=HOG)
    (box,) = boxes(made)
    assert holds(box, ZIDANE[1])
    assert made.description.model.name.startswith("dlib HOG")
    assert "torch" not in made.loaded


def test_a_face_held_still_is_embedded_once_and_small_ones_are_not(
    light: Family, yunet: ModelPlaces, photographs: Path, tmp_path: Path
) -> None:
    still = media.film_of(tmp_path / "still.mp4", photographs / "zidane.jpg", seconds=3)
    made = light("face_detection", still, models=yunet)
    assert made.outcome.metrics["faces"] == 6
    assert made.outcome.metrics["embedded"] == 2
    assert all(len(payload["vector"]) == 344 for _, _, _, payload in made.found)

    picture = Image.open(photographs / "zidane.jpg").resize((320, 180))
    picture.save(tmp_path / "small.png")
    made = light(
        "face_detection", media.film_of(tmp_path / "small.mp4", tmp_path / "small.png"), models=yunet
    )
    assert made.outcome.metrics["embedded"] == 0
    assert all("vector" not in payload for _, _, _, payload in made.found)


def test_a_wrong_place_says_what_to_do(light: Family, tmp_path: Path) -> None:
    film = media.clip(tmp_path / "film.mp4")
    made = light("face_detection", film, models=ModelPlaces(is_offline=True, face_detector=tmp_path / "gone"))
    assert made.error == "ModelUnavailable"
    assert "EIOKU_FACE_DETECTOR" in made.message
    assert made.remedy
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    made = light("face_detection", film, models=ModelPlaces(is_offline=True, face_detector=broken))
    assert made.error == "ModelUnavailable"


def test_the_same_people_in_other_films_are_the_same_clusters(
    light: Family, yunet: ModelPlaces, photographs: Path, tmp_path: Path
) -> None:
    zidane = Image.open(photographs / "zidane.jpg").convert("RGB")
    bus = Image.open(photographs / "bus.jpg").convert("RGB")
    noise = np.random.default_rng(1).normal(0, 8, (720, 1280, 3))
    versions = {
        "as it is": zidane,
        "darker": ImageEnhance.Brightness(zidane).enhance(0.6),
        "mirrored": zidane.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "smaller": zidane.resize((960, 540)),
        "noisy": Image.fromarray(np.clip(np.asarray(zidane) + noise, 0, 255).astype(np.uint8)),
        "cropped": zidane.crop((400, 40, 1240, 680)),
        "others": bus,
    }
    log = MemoryLog()
    cinema = Cinema(log)
    vectors: dict[str, list[tuple[float, ...]]] = {}
    for name, picture in versions.items():
        picture.save(tmp_path / f"{name}.png")
        made = light(
            "face_detection", media.film_of(tmp_path / f"{name}.mp4", tmp_path / f"{name}.png"), models=yunet
        )
        assert len(made.found) == 2, name
        cinema.show(name, made)
        vectors[name] = [unpack_half(payload["vector"]) for *_, payload in made.found if "vector" in payload]
    clusterer = FaceClusterer(log, clock=lambda: AT)
    for record in log.read(0, kinds=KINDS):
        clusterer.react(record)

    clusters = cinema.clusters()
    one, two = clusters["as it is"]
    assert one is not None
    assert two is not None
    assert one != two
    for name in ("darker", "smaller", "noisy", "cropped"):
        assert clusters[name] == [one, two], name
    assert clusters["mirrored"] == [two, one]
    assert not {one, two} & set(clusters["others"])
    for a, b in combinations(vectors["as it is"] + vectors["others"], 2):
        assert dist(a, b) >= JOINS


def test_a_pan_over_two_people_is_two_clusters(
    light: Family, yunet: ModelPlaces, photographs: Path, tmp_path: Path
) -> None:
    zidane = np.asarray(Image.open(photographs / "zidane.jpg").convert("RGB"))
    times = range(0, 6_000, 250)
    pictures = [np.ascontiguousarray(zidane[:, x : x + 640]) for x in np.linspace(300, 640, len(times)).astype(int)]
    film = media.clip(tmp_path / "pan.mp4", times_ms=times, pictures=pictures)
    made = light("face_detection", film, models=yunet)
    cinema = Cinema(MemoryLog())
    cinema.show("pan", made)
    clusterer = FaceClusterer(cinema.log, clock=lambda: AT)
    for record in cinema.log.read(0, kinds=KINDS):
        clusterer.react(record)
    left_to_right = [
        [cluster for (_, start_ms, _, _), cluster in zip(made.found, cinema.clusters()["pan"], strict=True) if start_ms == at]
        for at in sorted({start_ms for _, start_ms, _, _ in made.found})
    ]
    assert len(left_to_right) == 6
    # Where a face is cut off at the side nobody says whose it is.
    assert None in left_to_right[1]
    assert None in left_to_right[5]
    assert len({cluster for frame in left_to_right for cluster in frame if cluster}) == 2
    assert left_to_right[2] == left_to_right[3] == left_to_right[4]
    assert made.found[0][0] == FaceDetectionV1.NAME
