"""Producers on a GPU that is too small, which is simulated: `python -m tests.support.starve FOLDER`.

Each job is done three times: as it is, with a GPU that takes two items at once, and with one that takes none. What was
made goes into FOLDER/made.json. Then two short videos: one after the other, in one batch, and in one that is too large for
the GPU; that goes into FOLDER/merged.json.
"""

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np

from tests.support import media, produce
from tests.support.places import _write, write_labels
from tests.support.produce import PRODUCER, Made, Wish, make
from workers import memory
from workers.calls import Request
from workers.leases import Leases
from workers.memory import Memory
from workers.models import prepare_ultralytics, require_model
from workers.producer import ModelPlaces

WISHES = {
    "object_detection": {"every_ms": 100, "imgsz": 96, "confidence": 0.0001, "track": False},
    "place_detection": {"every_ms": 100, "confidence": 0.0},
}


class Starved:
    """A model that raises what torch raises when it gets more than `most` items."""

    def __init__(self, model: Any, most: int) -> None:
        self._model, self._most = model, most

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._model, name)
        return self._checked(method) if name == "predict" else method

    def __call__(self, items: Any) -> Any:
        return self._checked(self._model)(items)

    def _checked(self, method: Any) -> Any:
        import torch

        def call(items: Any, **more: Any) -> Any:
            if len(items) > self._most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            return method(items, **more)

        return call


@contextlib.contextmanager
def gpu(module: Any, most: int) -> Iterator[None]:
    """A card that is really the CPU, with models that take `most` items."""
    load, memory_of = module._load, memory.memory_of

    def starved(found: Any, device: str) -> Any:
        loaded = load(found, "cpu")
        if device == "cpu":
            return loaded
        return loaded._replace(device="cpu", model=Starved(loaded.model, most))

    with (
        mock.patch.object(module, "_load", starved),
        mock.patch.object(module, "torch_device", return_value="cuda:0"),
        mock.patch.object(module, "LEASES", Leases()),
        mock.patch.object(memory, "memory_of", lambda d: memory_of(d) if d == "cpu" else Memory(0, 1 << 33)),
    ):
        yield


def make_in_one_batch(wishes: Sequence[Wish]) -> list[Made]:
    """Jobs on several videos, each in a thread: the model is busy until all of them want it."""
    kind = PRODUCER[wishes[0].task_type]
    module = importlib.import_module(kind.__module__)
    found = require_model(*WEIGHTS[kind.task_type], wishes[0].models)
    waiting, all_wait = set[int](), threading.Event()

    def wait(context: produce.Recorder) -> None:
        waiting.add(id(context))
        if len(waiting) == len(wishes):
            all_wait.set()

    with ThreadPoolExecutor(len(wishes)) as threads, mock.patch.object(produce.Recorder, "wait", wait):
        with module._lease(found, wishes[0].models) as lease, lease.calls.turn(Request("busy", (), 0), lambda: None):
            made = [threads.submit(make, kind(), wish) for wish in wishes]
            assert all_wait.wait(60), [job.exception() for job in made if job.done()]
        return [job.result() for job in made]


WEIGHTS: dict[str, tuple[Any, str]] = {
    "object_detection": ("detector", "yolo11n.pt"),
    "place_detection": ("places", "resnet18"),
}


def main(folder: Path) -> None:
    prepare_ultralytics(None)
    import torch
    from ultralytics.models import YOLO

    torch.manual_seed(1)
    YOLO("yolo11n.yaml").save(f"{folder}/yolo11n.pt")
    write_labels(folder)
    _write(folder, "resnet18")
    film = media.clip(folder / "film.mp4", times_ms=range(0, 1000, 100))
    places = ModelPlaces(
        is_offline=True,
        detector_weights=folder / "yolo11n.pt",
        places_model=folder / "resnet18_places365.pth.tar",
    )
    rng = np.random.default_rng(1)
    shapes = {"object_detection": ((120, 160), (120, 160)), "place_detection": ((120, 160), (160, 120))}
    found: dict[str, list[Made]] = {}
    merged: dict[str, list[list[Made]]] = {}
    for task_type, config in WISHES.items():
        producer = PRODUCER[task_type]
        module = importlib.import_module(producer.__module__)
        wish = Wish(task_type=task_type, path=os.fsencode(film), config=config, models=places)
        found[task_type] = [make(producer(), wish)]
        for most in (2, 0):
            with gpu(module, most):
                found[task_type].append(make(producer(), wish))
        short = [
            media.clip(
                folder / f"{task_type}-{n}.mp4",
                times_ms=(0, 100 + 20 * n),
                pictures=rng.integers(0, 255, (2, *shape, 3), dtype=np.uint8),
            )
            for n, shape in enumerate(shapes[task_type])
        ]
        wishes = [msgspec.structs.replace(wish, path=os.fsencode(path)) for path in short]
        merged[task_type] = [[make(producer(), each) for each in wishes], make_in_one_batch(wishes)]
        with gpu(module, 2), mock.patch.dict("workers.fitting._fitted", clear=True):
            merged[task_type].append(make_in_one_batch(wishes))
    (folder / "made.json").write_bytes(msgspec.json.encode(found))
    (folder / "merged.json").write_bytes(msgspec.json.encode(merged))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
