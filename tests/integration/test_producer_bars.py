"""What the producers find in real media, against what a person marked by hand."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import media
from tests.support.produce import ROOT, Family, Made
from workers.models import FoundModel, find_model
from workers.producer import ModelPlaces

# Marked by hand from the sound itself: loudness in steps of 20 ms, onset of each word after a pause and the bursts and
# vowels within. (word, start_ms, end_ms)
JFK = (
    ("and", 310, 560),
    ("so", 640, 1040),
    ("ask", 3270, 3760),
    ("not", 3970, 4340),
    ("what", 5380, 5620),
    ("country", 5960, 6420),
    ("you", 7190, 7560),
    ("ask", 8170, 8550),
    ("what", 8590, 8800),
)
# Looked through frame by frame, every 500 ms; between an interval of one list and of the other somebody is on the edge
# of the picture, or only a shadow of them.
SOMEBODY = ((6000, 19500), (23000, 44500), (50500, 70000), (74500, 86500), (92500, 120000), (123500, 136000))
NOBODY = (
    (0, 5500),
    (20500, 22500),
    (45500, 50000),
    (70500, 74000),
    (87500, 92000),
    (120500, 123000),
    (136500, 139400),
)


@pytest.fixture(params=["exported", "checkpoint"])
def detector(request: pytest.FixtureRequest, shared_media: Path, detector_checkpoint: Path) -> Path:
    """The same weights, as a CPU takes them and as a GPU does."""
    return shared_media / "models/yolov8n_fiq.tflite" if request.param == "exported" else detector_checkpoint


def within(time_ms: int, intervals: tuple[tuple[int, int], ...]) -> bool:
    return any(start <= time_ms <= end for start, end in intervals)


def bare(word: str) -> str:
    return word.lower().strip(".,;!?")


@pytest.mark.ml_asr
def test_the_president_is_understood_and_each_word_found_where_it_is_said(
    asr: Family, jfk: Path
) -> None:
    made = asr("transcription", jfk)
    said = [bare(word["word"]) for word in made.words()]
    assert "ask not what your country can do for you" in " ".join(said)
    assert "ask what you can do for your country" in " ".join(said)
    heard = [(bare(word["word"]), word["start_ms"], word["end_ms"]) for word in made.words()]
    at = 0
    for word, start_ms, end_ms in JFK:
        at = next(index for index in range(at, len(heard)) if heard[index][0] == word)
        assert heard[at][1] == pytest.approx(start_ms, abs=300), word
        assert heard[at][2] == pytest.approx(end_ms, abs=300), word
        at += 1
    assert made.outcome.language == "en"
    assert "language_probability" not in made.outcome.metrics
    assert all(0 < word["confidence"] <= 1 for word in made.words())


@pytest.mark.ml_asr
@pytest.mark.parametrize("name", ["model", "whisper", "tiny", "large-v3"])
def test_an_english_model_transcribes_in_a_folder_of_any_name(
    asr: Family, jfk: Path, tmp_path: Path, name: str
) -> None:
    packaged = find_model("whisper", "tiny.en", ModelPlaces(is_offline=True))
    assert isinstance(packaged, FoundModel)
    (tmp_path / name).symlink_to(packaged.path)
    made = asr("transcription", jfk, models=ModelPlaces(whisper_model=tmp_path / name))
    assert made.error is None, made.message
    assert (made.description.language, made.outcome.language) == ("en", "en")
    assert "country" in " ".join(bare(word["word"]) for word in made.words())


@pytest.mark.ml_asr
def test_segments_hold_their_words(asr: Family, jfk: Path) -> None:
    for _, start, end, payload in asr("transcription", jfk).found:
        assert payload["words"][0]["start_ms"] == start
        assert payload["words"][-1]["end_ms"] == end
        assert payload["text"].split() == [word["word"] for word in payload["words"]]


@pytest.mark.ml_asr
def test_what_the_demo_films_say_is_heard_in_time(asr: Family, demo_films) -> None:
    for film in demo_films:
        made = asr("transcription", film.path)
        heard = [(bare(word["word"]), word["start_ms"]) for word in made.words()]
        said = [(word.word.lower(), word.start_ms) for word in film.truth.words]
        assert [word for word, _ in heard] == [word for word, _ in said]
        for (word, heard_ms), (_, said_ms) in zip(heard, said, strict=True):
            # The synthesiser's own times run some 60 ms ahead of the sound; the model adds its 300.
            assert heard_ms == pytest.approx(said_ms, abs=400), word


@pytest.mark.ml_torch
def test_people_are_seen_when_there_are_any_and_never_else(
    torch_family: Family, shared_media: Path, detector: Path
) -> None:
    made = torch_family(
        "object_detection",
        shared_media / "media/one-by-one-person-detection.mp4",
        models=ModelPlaces(is_offline=True, detector_weights=detector),
        config={"every_ms": 1000},
    )
    seen = {start for start, payload in detections(made) if payload["label"] == "person"}
    looked = range(0, 139_400, 1000)
    there = [time for time in looked if within(time, SOMEBODY)]
    assert len(there) > 100
    assert sum(time in seen for time in there) / len(there) >= 0.6
    assert [time for time in seen if within(time, NOBODY)] == []
    assert made.outcome.metrics["frames"] == 140


@pytest.mark.ml_torch
def test_the_bus_and_three_people_are_seen(torch_family: Family, detector: Path, tmp_path: Path) -> None:
    spec = find_spec("ultralytics")
    assert spec is not None
    assert spec.origin is not None
    film = media.film_of(tmp_path / "bus.mp4", Path(spec.origin).parent / "assets/bus.jpg", seconds=0.5)
    made = torch_family("object_detection", film, models=ModelPlaces(is_offline=True, detector_weights=detector))
    labels = [payload["label"] for start, payload in detections(made) if start == 0]
    assert labels.count("bus") == 1
    assert labels.count("person") >= 3
    bus = next(payload["box"] for _, payload in detections(made) if payload["label"] == "bus")
    assert bus == pytest.approx((0.02, 0.21, 0.97, 0.49), abs=0.05)  # left, top, width, height


@pytest.mark.ml_torch
def test_what_the_demo_films_show_is_seen_where_it_is(
    torch_family: Family, shared_media: Path, demo_films
) -> None:
    film = demo_films[0]
    made = torch_family(
        "object_detection", film.path, models=_detector(shared_media), config={"every_ms": 1000}
    )
    buses = [(start, payload["box"]) for start, payload in detections(made) if payload["label"] == "bus"]
    truth = {thing.at_ms: thing.box for thing in film.truth.objects if thing.label == "bus"}
    assert {start for start, _ in buses} == {time for time in truth if time % 1000 == 0}
    for start, box in buses:
        assert box == pytest.approx(truth[start], abs=0.05)


@pytest.mark.parametrize("profile", ["fast", "balanced", "high_quality"])
def test_the_cuts_of_the_demo_films_are_found_to_the_frame(light: Family, demo_films, profile: str) -> None:
    for film in demo_films:
        made = light("scene_detection", film.path, profile=profile)
        frame_ms = 1000 / film.truth.fps
        starts = [start for _, start, _, _ in made.found]
        assert starts == pytest.approx([0, *film.truth.cuts_ms], abs=frame_ms)
        ends = [end for _, _, end, _ in made.found]
        assert ends[:-1] == starts[1:]
        assert ends[-1] == pytest.approx(film.truth.duration_ms, abs=frame_ms)
        assert [payload["scene_index"] for *_, payload in made.found] == list(range(len(starts)))
        assert "score" not in made.found[0][3]
        assert all(payload["score"] > 27 for *_, payload in made.found[1:])


def test_films_without_a_cut_are_one_scene(light: Family, street: Path) -> None:
    made = light("scene_detection", street)
    assert [(start, end) for _, start, end, _ in made.found] == [(0, 30_000)]


def test_the_demo_films_say_where_and_when_they_were_filmed(light: Family, demo_films) -> None:
    for film in demo_films:
        made = light("metadata_extraction", film.path)
        payload = made.found[0][3]
        assert (payload["city"], payload["country"]) == (film.truth.city, film.truth.country)
        assert payload["latitude"] == pytest.approx(film.truth.latitude)
        assert payload["longitude"] == pytest.approx(film.truth.longitude)
        assert payload["altitude"] == film.truth.altitude
        assert made.outcome.facts.file_created_at == film.truth.captured_at
        assert made.outcome.blake3 == payload["blake3"]


def test_the_demo_films_are_the_same_bytes_each_time(demo_films, tmp_path: Path) -> None:
    from eioku.demo_film import PARIS, make_film

    assert make_film(PARIS, tmp_path / "again.mp4").path.read_bytes() == demo_films[0].path.read_bytes()


def test_the_families_stay_apart(light: Family, street: Path) -> None:
    loaded = light("scene_detection", street).loaded
    assert loaded == ["cv2"]


def detections(made: Made) -> list[tuple[int, dict]]:
    """(time, payload) of each box; tracks are looked at elsewhere."""
    return [(start, payload) for kind, start, _, payload in made.found if kind == "object.detection"]


def _detector(shared: Path) -> ModelPlaces:
    return ModelPlaces(is_offline=True, detector_weights=shared / "models/yolov8n_fiq.tflite")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ultralytics checkpoints with random weights: they see nothing sensible, but run as real ones do."""
    folder = tmp_path_factory.mktemp("weights")
    code = (
        "import sys; from workers.models import prepare_ultralytics; prepare_ultralytics(None)\n"
        "import torch; torch.manual_seed(1); from ultralytics.models import YOLO\n"
        "for name in ('yolo11n', 'yolo11n-seg'): YOLO(f'{name}.yaml').save(f'{sys.argv[1]}/{name}.pt')"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.mark.ml_torch
def test_checkpoints_run_in_batches_and_see_the_same_in_the_same_frame(
    torch_family: Family, checkpoints: Path, tmp_path: Path
) -> None:
    film = media.clip(tmp_path / "still.mp4", pictures=[media.picture(3)] * 20)
    made = torch_family(
        "object_detection",
        film,
        models=ModelPlaces(is_offline=True, detector_weights=checkpoints / "yolo11n.pt"),
        config={"every_ms": 100, "imgsz": 320, "confidence": 0.0001},
    )
    assert made.error is None, made.message
    assert made.outcome.metrics["frames"] == 20
    counts = [sum(start == at for start, _ in detections(made)) for at in range(0, 2000, 100)]
    assert counts[0] > 0
    assert max(counts) - min(counts) <= 2  # the film's frames differ by what the codec left
    # 20 frames in batches of 8: before and after each, so a cancel waits for one batch at most.
    assert len(made.progress) == 6


@pytest.mark.ml_torch
def test_weights_for_another_purpose_are_refused_with_a_remedy(
    torch_family: Family, checkpoints: Path, tmp_path: Path
) -> None:
    weights = checkpoints / "yolo11n-seg.pt"
    places = ModelPlaces(is_offline=True, detector_weights=weights)
    made = torch_family("object_detection", media.clip(tmp_path / "a.mp4"), models=places)
    assert made.error == "ModelUnavailable"
    assert "a model for segment" in made.message
    assert "yolo11n.pt" in made.remedy
