"""Where weights are found, in which order, and what is said when there are none."""

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.errors import ModelUnavailable
from tests.support.produce import PRODUCER, Wish, job_of
from workers import models
from workers.models import FoundModel, MissingModel, digest_of, find_model, hub_problem, require_model
from workers.producer import ModelPlaces

OFFLINE = ModelPlaces(is_offline=True)


@pytest.fixture(autouse=True)
def _fresh_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_hub_failed", {})


@pytest.fixture
def dead_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub can be reached: the way there is a proxy that is not there."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")


@pytest.fixture
def mute_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The way to every hub is a proxy that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        yield


def whisper_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (folder / name).write_bytes(b"weights")
    return folder


def test_an_explicit_detector_goes_before_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").write_bytes(b"1")
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "yolo11n.pt").write_bytes(b"2")
    places = ModelPlaces(detector_weights=tmp_path / "mine.pt", models_dir=folder, is_offline=True)
    found = find_model("detector", "yolo11n.pt", places)
    assert isinstance(found, FoundModel)
    assert (found.name, found.source) == ("mine.pt", "path")


def test_an_explicit_path_to_nothing_is_an_error_and_nothing_else_is_tried(tmp_path: Path) -> None:
    (tmp_path / "yolo11n.pt").write_bytes(b"2")
    places = ModelPlaces(
        detector_weights=tmp_path / "gone.pt",
        whisper_model=tmp_path / "gone",
        models_dir=tmp_path,
        is_offline=True,
    )
    detector, whisper = find_model("detector", "yolo11n.pt", places), find_model("whisper", "base", places)
    assert isinstance(detector, MissingModel)
    assert "EIOKU_DETECTOR_WEIGHTS" in detector.missing
    assert isinstance(whisper, MissingModel)
    assert "EIOKU_WHISPER_MODEL" in whisper.missing


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["yolo11n.pt", "yolo11x.pt", "yolov8n.tflite"], "yolo11x.pt"),
        (["yolo11n.pt", "yolo11x.onnx"], "yolo11x.onnx"),
        (["yolov8n_fiq.tflite", "face_detection.onnx"], "yolov8n_fiq.tflite"),
        (["face_detection.onnx", "notes.txt"], None),
        ([], None),
    ],
)
def test_the_folder_gives_the_wish_or_the_next_best_detector(
    tmp_path: Path, there: list[str], taken: str | None
) -> None:
    for name in there:
        (tmp_path / name).write_bytes(b"x")
    found = find_model("detector", "yolo11x.pt", ModelPlaces(models_dir=tmp_path, is_offline=True))
    assert (found.name if isinstance(found, FoundModel) else None) == taken


def test_whisper_models_in_the_folder_go_before_the_package(tmp_path: Path) -> None:
    whisper_in(tmp_path / "faster-whisper-small")
    whisper_in(tmp_path / "faster-whisper-base")
    (tmp_path / "not-a-model").mkdir()
    places = ModelPlaces(models_dir=tmp_path, is_offline=True)
    assert [find_model("whisper", name, places).name for name in ("base", "small", "large-v3")] == [
        "faster-whisper-base",
        "faster-whisper-small",
        "faster-whisper-base",
    ]


def test_the_packaged_model_is_taken_for_english_or_an_unknown_language_only() -> None:
    for language in (None, "en", "en-GB"):
        found = find_model("whisper", "large-v3", OFFLINE, language=language)
        assert isinstance(found, FoundModel)
        assert (found.name, found.source) == ("tiny.en", "package")
    missing = find_model("whisper", "base", OFFLINE, language="fr")
    assert isinstance(missing, MissingModel)
    assert "fr" in missing.missing


@pytest.mark.parametrize(
    ("name", "vocabulary", "tokens", "is_english_only"),
    [
        ("model", "vocabulary.txt", 51_864, True),
        ("whisper-large.en", "vocabulary.txt", 51_865, False),
        ("model", "vocabulary.json", 51_864, True),
        ("distil-small.en", "vocabulary.json", 51_866, False),
        ("tiny.en", None, 0, False),  # the model will say
    ],
)
def test_whether_a_model_knows_one_language_is_told_by_its_vocabulary_not_by_its_name(
    tmp_path: Path, name: str, vocabulary: str | None, tokens: int, is_english_only: bool
) -> None:
    folder = whisper_in(tmp_path / name)
    words = [f"<|{n}|>" for n in range(tokens)]
    if vocabulary is not None:
        text = json.dumps(words) if vocabulary.endswith("json") else "\n".join(words)
        (folder / vocabulary).write_text(text)
    places = ModelPlaces(models_dir=tmp_path, is_offline=True)
    found = find_model("whisper", "base", places)
    assert isinstance(found, FoundModel)
    assert (found.name, found.is_english_only) == (name, is_english_only)
    french = find_model("whisper", "base", places, language="fr")
    assert isinstance(french, MissingModel) == is_english_only


def test_what_is_missing_comes_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        require_model("detector", "yolo11n.pt", ModelPlaces(models_dir=tmp_path, is_offline=True))
    assert "EIOKU_OFFLINE" in caught.value.missing
    for word in ("yolo11n.pt", str(tmp_path), "EIOKU_DETECTOR_WEIGHTS"):
        assert word in caught.value.remedy


@pytest.mark.usefixtures("dead_hub")
@pytest.mark.parametrize(
    ("kind", "wanted"), [("detector", "yolo11n.pt"), ("whisper", "base"), ("places", "resnet18")]
)
def test_a_hub_out_of_reach_is_given_up_within_seconds(
    tmp_path: Path, kind: models.Kind, wanted: str
) -> None:
    begun = time.monotonic()
    missing = find_model(kind, wanted, ModelPlaces(models_dir=tmp_path), language="fr")
    assert time.monotonic() - begun < 9  # the hub would be waited for 10 s
    assert isinstance(missing, MissingModel)
    assert "cannot be reached" in missing.missing


@pytest.mark.usefixtures("mute_hub")
def test_a_hub_that_never_answers_is_given_up_at_the_time_limit_and_then_left_alone() -> None:
    begun = time.monotonic()
    assert hub_problem("https://hub.invalid", 0.3)
    first = time.monotonic() - begun
    assert 0.2 < first < 2
    again = time.monotonic()
    assert hub_problem("https://hub.invalid", 0.3)
    assert time.monotonic() - again < 0.25  # without asking, which takes 0.3 s


@pytest.mark.usefixtures("dead_hub")
def test_asking_without_the_hub_does_not_ask_it(tmp_path: Path) -> None:
    missing = find_model("detector", "yolo11n.pt", ModelPlaces(models_dir=tmp_path), ask_hub=False)
    assert isinstance(missing, MissingModel)
    assert models._hub_failed == {}


def test_digests_follow_the_content(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"one")
    assert digest_of(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert digest_of(path) == hashlib.sha256(b"two").hexdigest()


def test_the_identity_says_what_was_really_found() -> None:
    found = find_model("whisper", "large-v3", OFFLINE)
    assert isinstance(found, FoundModel)
    assert found.identity.name == "tiny.en"
    assert found.identity.digest is not None
    assert len(found.identity.digest) == 64
    assert found.identity.source is not None
    assert found.identity.source.startswith("package: ")


@pytest.mark.parametrize(
    ("task_type", "library", "package"),
    [
        ("face_detection", "dlib", "dlib-bin"),
        ("face_detection", "cv2", "opencv-contrib-python"),
        ("ocr", "paddleocr", "paddleocr"),
        ("ocr", "paddle", "paddle"),
        ("object_detection", "ultralytics", "ultralytics"),
        ("place_detection", "torchvision", "torchvision"),
        ("embedding", "sentence_transformers", "sentence-transformers"),
        ("transcription", "faster_whisper", "faster-whisper"),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, task_type: str, library: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelUnavailable, match=package) as raised:
        PRODUCER[task_type]().describe(job_of(Wish(task_type=task_type, path=b"film.mp4")))
    assert "install" in raised.value.remedy
