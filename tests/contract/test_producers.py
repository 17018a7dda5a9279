"""What every producer promises, on a clip of two seconds."""

from pathlib import Path
from uuid import UUID

import pytest

import workers
from domain.artifacts import check, payload_type
from domain.artifacts.envelope import Item, artifact_id_of
from domain.pipeline import BY_NAME
from tests.support import media
from tests.support.produce import Family, Made
from workers.producer import ModelPlaces

MARKS = {"light": [], "asr": [pytest.mark.ml_asr], "ocr": [pytest.mark.ml_ocr], "torch": [pytest.mark.ml_torch]}
EVERY = [
    pytest.param(producer.task_type, marks=MARKS[BY_NAME[producer.task_type].family], id=producer.task_type)
    for producer in workers.PRODUCERS
]
pytestmark = pytest.mark.parametrize("task_type", EVERY)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return media.clip(tmp_path_factory.mktemp("clip") / "two seconds.mp4", sound=media.tone(2))


@pytest.fixture
def run(task_type: str, request: pytest.FixtureRequest):
    """Runs a job of the task type in the process of its family."""
    family: Family = request.getfixturevalue(
        {"light": "light", "asr": "asr", "ocr": "ocr", "torch": "torch_family"}[BY_NAME[task_type].family]
    )
    if task_type == "object_detection":
        weights = request.getfixturevalue("shared_media") / "models/yolov8n_fiq.tflite"
        places = ModelPlaces(is_offline=True, detector_weights=weights)
    elif task_type == "place_detection":
        weights = request.getfixturevalue("places_checkpoint")
        places = ModelPlaces(is_offline=True, places_model=weights)
    elif task_type == "frame_embedding":
        places = ModelPlaces(is_offline=True, image_embedder=request.getfixturevalue("tiny_clip"))
    else:
        places = ModelPlaces(is_offline=True)

    def go(path: Path, **wish) -> Made:
        return family(task_type, path, **({"models": places} | wish))

    return go


def test_it_finds_only_what_it_announced_in_order_and_by_the_schema(run, clip: Path, task_type: str) -> None:
    made = run(clip)
    assert made.error is None, made.message
    assert made.description is not None
    assert made.outcome is not None
    assert set(made.description.artifact_types) == set(BY_NAME[task_type].produces)
    for artifact_type in made.description.artifact_types:
        starts = [start for kind, start, _, _ in made.found if kind == artifact_type]
        assert starts == sorted(starts)
    for index, (artifact_type, start, end, payload) in enumerate(made.found):
        assert artifact_type in made.description.artifact_types
        assert 0 <= start <= end <= 2_100
        item = Item(
            artifact_id=artifact_id_of(UUID(int=4), index + 1), start_ms=start, end_ms=end, payload=payload
        )
        check(artifact_type, payload_type(artifact_type).VERSION, [item])
    assert all(isinstance(value, float) for value in made.outcome.metrics.values())


def test_it_tells_its_progress_and_reaches_the_end_of_the_clip(run, clip: Path, task_type: str) -> None:
    made = run(clip)
    assert made.progress
    done = [done for done, _ in made.progress]
    assert done == sorted(done)
    assert all(0 <= done <= total for done, total in made.progress)
    if task_type != "transcription":  # a tone is no speech: nothing after the start
        assert done[-1] >= 1_500


def test_it_stops_when_it_is_cancelled(run, clip: Path) -> None:
    made = run(clip, cancel_after=0)
    assert made.error == "JobCancelled"
    assert len(made.progress) == 1
    assert run(clip).error is None


def test_the_same_input_gives_the_same_artifacts(run, clip: Path) -> None:
    assert run(clip).found == run(clip).found


def test_an_unknown_parameter_is_refused_by_name(run, clip: Path, task_type: str) -> None:
    if task_type == "metadata_extraction":
        made = run(clip, config={"timezone": "Mars/Olympus"})
        assert "Mars/Olympus" in made.message
    else:
        made = run(clip, config={"colour": "blue"})
        assert "colour" in made.message
    assert made.error == "InvalidParameter"


def test_provenance_names_the_weights(run, clip: Path, task_type: str) -> None:
    model = run(clip).description.model
    if task_type in ("metadata_extraction", "scene_detection", "thumbnails"):
        assert model is None
    else:
        assert model.name
        assert len(model.digest) == 64
