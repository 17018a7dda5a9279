"""Producers are light until they are used, and agree with the pipeline."""

import subprocess
import sys
from importlib.metadata import packages_distributions

import workers
from domain.pipeline import BY_NAME
from tests.support.produce import ROOT

HEAVY = (
    "torch",
    "torchvision",
    "cv2",
    "ctranslate2",
    "faster_whisper",
    "ultralytics",
    "scenedetect",
    "pycountry",
    "PIL",
)


def test_listing_the_producers_imports_no_model_library() -> None:
    code = f"import sys, workers; workers.PRODUCERS; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_there_is_exactly_one_cv2() -> None:
    assert set(packages_distributions()["cv2"]) == {"opencv-contrib-python"}


def test_every_producer_is_for_a_task_type_of_its_own() -> None:
    types = [producer.task_type for producer in workers.PRODUCERS]
    assert len(set(types)) == len(types)
    assert set(types) <= set(BY_NAME)
    assert all(producer.name and producer.version for producer in workers.PRODUCERS)
