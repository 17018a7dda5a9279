"""A GPU that is too small for the batch, or for the model: simulated with the errors that the libraries raise."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.support.produce import ROOT, Made

SPEECH = """
import sys
from pathlib import Path
from unittest import mock

import ctranslate2
import msgspec

from tests.support.produce import Wish, make
from workers import memory, transcription
from workers.memory import Memory
from workers.producer import ModelPlaces

load = transcription._load


class Starved:
    def __init__(self, whisper):
        self._whisper = whisper

    def __getattr__(self, name):
        return getattr(self._whisper, name)

    def encode(self, features):
        raise RuntimeError("CUDA failed with error out of memory")


def too_small(found, device, threads):
    model = load(found, "cpu", threads)
    return model if device == "cpu" else Starved(model)


def unusable(found, device, threads):
    if device != "cpu":
        raise RuntimeError("Library libcublas.so.12 is not found or cannot be loaded")
    return load(found, device, threads)


wish = Wish(task_type="transcription", path=sys.argv[1].encode(), models=ModelPlaces(is_offline=True))
made = [make(transcription.Transcription(), wish)]
memory_of = memory.memory_of
for loading in (too_small, unusable):
    with (
        mock.patch.object(ctranslate2, "get_cuda_device_count", return_value=1),
        mock.patch.object(transcription, "cublas_problem", return_value=None),
        mock.patch.object(transcription, "_load", loading),
        mock.patch.object(transcription, "LEASES", transcription.LEASES.__class__()),
        mock.patch.object(memory, "memory_of", lambda d: memory_of(d) if d == "cpu" else Memory(0, 1 << 33)),
    ):
        made.append(make(transcription.Transcription(), wish))
for device in ("auto", "cuda"):
    with (
        mock.patch.object(ctranslate2, "get_cuda_device_count", return_value=1),
        mock.patch.object(transcription, "cublas_problem", return_value="libcublas.so.12: no such file"),
    ):
        wish.models = ModelPlaces(is_offline=True, device=device)
        made.append(make(transcription.Transcription(), wish))
Path(sys.argv[2]).write_bytes(msgspec.json.encode(made))
"""


@pytest.fixture(scope="module")
def starved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what `tests.support.starve` made."""
    folder = tmp_path_factory.mktemp("starved")
    command = [sys.executable, "-m", "tests.support.starve", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return folder


@pytest.fixture(scope="module")
def made(starved: Path) -> dict[str, tuple[Made, Made, Made]]:
    """What each producer made: as it is, on a GPU that takes two items at once, on one that takes none."""
    return msgspec.json.decode((starved / "made.json").read_bytes(), type=dict[str, tuple[Made, Made, Made]])


@pytest.mark.ml_torch
def test_nothing_ran_out_in_the_first_place(made) -> None:
    for as_it_is, _, _ in made.values():
        assert as_it_is.error is None, as_it_is.message
        assert (as_it_is.description.device, len(as_it_is.found) > 0) == ("cpu", True)
        assert as_it_is.outcome.metrics["out_of_memory"] == 0
        assert as_it_is.outcome.metrics["moved_to_cpu"] == 0


@pytest.mark.ml_torch
@pytest.mark.parametrize(("task_type", "halvings"), [("object_detection", 2), ("place_detection", 1)])
def test_half_the_batch_that_did_not_fit_makes_the_same(made, task_type: str, halvings: int) -> None:
    as_it_is, with_two, _ = made[task_type]
    assert with_two.error is None, with_two.message
    assert with_two.description.device == "cuda:0"
    assert _rounded(with_two) == _rounded(as_it_is)
    metrics = with_two.outcome.metrics
    assert (metrics["batch"], metrics["out_of_memory"], metrics["moved_to_cpu"]) == (2, halvings, 0)


@pytest.mark.ml_torch
@pytest.mark.parametrize("task_type", ["object_detection", "place_detection"])
def test_a_gpu_that_takes_not_even_one_leaves_the_job_to_the_cpu(made, task_type: str) -> None:
    as_it_is, _, with_none = made[task_type]
    assert with_none.error is None, with_none.message
    assert _rounded(with_none) == _rounded(as_it_is)
    assert with_none.outcome.metrics["moved_to_cpu"] == 1
    assert with_none.outcome.metrics["batch"] == as_it_is.outcome.metrics["batch"]


@pytest.mark.ml_torch
@pytest.mark.parametrize("task_type", ["object_detection", "place_detection"])
def test_two_videos_in_one_batch_make_what_they_make_alone_and_so_they_do_when_it_is_too_large(
    starved: Path, task_type: str
) -> None:
    merged = msgspec.json.decode((starved / "merged.json").read_bytes(), type=dict[str, tuple[list[Made], ...]])
    alone, together, halved = merged[task_type]
    for runs, figures in ((alone, (0, 0)), (together, (1, 0)), (halved, (0, 1))):
        assert [made.error for made in runs] == [None, None], [made.message for made in runs]
        assert [*map(_rounded, runs)] == [*map(_rounded, alone)]
        metrics = [made.outcome.metrics for made in runs]
        assert [(each["merged"], each["out_of_memory"]) for each in metrics] == [figures] * 2
    assert _rounded(alone[0]) != _rounded(alone[1])
    assert [made.outcome.metrics["batch"] for made in halved] == [2, 2]


def _rounded(made: Made) -> list[tuple[str, int, int, str]]:
    """What was found, without the last digits, which depend on the size of the batch."""
    return [
        (kind, start, end, payload["label"])
        for kind, start, end, payload in made.found
    ]


@pytest.mark.ml_asr
def test_speech_is_heard_on_the_cpu_when_the_gpu_is_too_small_or_lacks_a_library(
    jfk: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", SPEECH, str(jfk), str(tmp_path / "made.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    on_cpu, too_small, unusable, without_cublas, refused = msgspec.json.decode((tmp_path / "made.json").read_bytes(), type=list[Made])
    assert len(on_cpu.words()) == 22
    assert unusable.found == without_cublas.found == on_cpu.found
    assert (refused.error, refused.message) == (
        "ModelUnavailable",
        "speech does not run on the GPU: libcublas.so.12: no such file. pip install nvidia-cublas-cu12, or set EIOKU_DEVICE to auto",
    )
    # It began in batches, which hear the same words by another way (ADR-0019).
    assert [word["word"] for word in too_small.words()] == [word["word"] for word in on_cpu.words()]
    assert (too_small.description.device, unusable.description.device) == ("cuda:0", "cpu")
    assert (too_small.outcome.metrics["moved_to_cpu"], unusable.outcome.metrics["moved_to_cpu"]) == (1, 0)
