"""Producers that share a pass over the frames find exactly what they find alone."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import media
from tests.support.produce import Family, Made
from workers.producer import ModelPlaces

IRREGULAR = [0, 40, 80, 500, 540, 1700, 1740, 3000, 3010, 4999, 5040, 7300, 7340, 9000]


def _picture(number: int):
    """Bright and dark by turns of some frames, so that there are cuts."""
    return media.picture(30 * (number // 5 % 2))


def variable(path: Path) -> Path:
    return media.clip(path, times_ms=IRREGULAR, pictures=[_picture(n) for n in range(len(IRREGULAR))])


def turned(path: Path) -> Path:
    return media.rotated(path, 90)


def assert_equal(shared: Made, alone: Made) -> None:
    assert shared.error is alone.error is None, shared.message
    assert (shared.is_shared, alone.is_shared) == (True, False)
    assert shared.found == alone.found
    assert (shared.outcome, shared.description) == (alone.outcome, alone.description)
    assert shared.progress == alone.progress


@pytest.fixture(params=["person film", "variable rate", "turned"])
def film(request, tmp_path: Path) -> Path:
    if request.param == "person film":
        return request.getfixturevalue("ten_seconds")
    return {"variable rate": variable, "turned": turned}[request.param](tmp_path / "a.mp4")


@pytest.fixture(scope="module")
def ten_seconds(shared_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first person of the real film, copied packet by packet."""
    import av

    path = tmp_path_factory.mktemp("film") / "person.mp4"
    with (
        av.open(str(shared_media / "media/one-by-one-person-detection.mp4")) as source,
        av.open(str(path), "w") as out,
    ):
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None and packet.pts * packet.time_base < 10:
                packet.stream = copy
                out.mux(packet)
    return path


def both(family: Family, path: Path, wishes: dict[str, dict]) -> None:
    alone = [family(task_type, path, **wish) for task_type, wish in wishes.items()]
    for shared, single in zip(family.together(path, wishes), alone, strict=True):
        assert_equal(shared, single)


def test_scenes_and_faces(light: Family, film: Path) -> None:
    both(light, film, {"scene_detection": {}, "face_detection": {"config": {"every_ms": 400}}})


@pytest.mark.ml_torch
def test_objects_and_places(torch_family: Family, film: Path, shared_media: Path, places_checkpoint: Path) -> None:
    places = ModelPlaces(
        is_offline=True,
        detector_weights=shared_media / "models/yolov8n_fiq.tflite",
        places_model=places_checkpoint,
    )
    both(
        torch_family, film, {"object_detection": {"models": places}, "place_detection": {"models": places, "config": {"every_ms": 700}}}
    )


def test_faces_of_a_film_with_faces(light: Family, tmp_path: Path) -> None:
    photograph = Path(find_spec("ultralytics").origin).parent / "assets/zidane.jpg"
    path = media.film_of(tmp_path / "faces.mp4", photograph, seconds=0.5)
    wish = {"config": {"every_ms": 200}}
    both(light, path, {"scene_detection": {"profile": "high_quality"}, "face_detection": wish})
    assert light("face_detection", path, **wish).outcome.metrics["faces"] > 0
