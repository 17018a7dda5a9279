"""Producers that do what a task's config tells them: find, pause, stall, die, be unavailable."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from domain.artifacts.object_detection import ObjectDetectionV1
from domain.artifacts.scene import SceneV1
from domain.errors import MediaUnreadable, ModelUnavailable
from infrastructure.media.frames import sample_frames
from infrastructure.media.hardware import HARDWARE
from workers.frame_embedding import FrameEmbedding
from workers.producer import Context, Description, Found, Job, Outcome, Producer


class Obedient(Producer):
    """Finds `count` objects, `pace_s` apart, and does at artifact `at` what `then` says.

    `once`: a file that is made when it is done, so that only the first attempt does it.
    """

    task_type = "object_detection"
    name = "obedient"
    version = "1"

    def describe(self, job: Job) -> Description:
        needs = job.config.get("needs")
        if needs and not Path(needs).exists():
            raise ModelUnavailable(f"no weights at {needs}", "put them there")
        return Description(device="cpu", artifact_types=("object.detection",))

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        count = int(job.config.get("count", 3))
        for index in range(count):
            if index == job.config.get("at"):
                misbehave(job.config)
            if pace_s := job.config.get("pace_s"):
                time.sleep(pace_s)  # the work
            context.progress(index * 10, count * 10)
            payload = ObjectDetectionV1(label="dog", confidence=0.5, box=(0, 0, 1, 1), frame_index=index)
            yield Found("object.detection", index * 10, index * 10, payload)

    def outcome(self) -> Outcome:
        return Outcome(metrics={"pid": float(os.getpid()), "hardware": float(HARDWARE.is_allowed)})


class Wasteful(Obedient):
    """Frees 48 MiB that its process keeps for the next job."""

    reuses_memory = True

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        for used in [b"x" * (1 << 20) for _ in range(48)]:
            assert used
        return super().produce(job, context)


def misbehave(config: Any) -> None:
    """Do what the task tells, the first time if it says so."""
    if once := config.get("once"):
        if Path(once).exists():
            return
        Path(once).touch()
    match config["then"]:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            threading.Event().wait()
        case "raise":
            raise KeyError("a bug")
        case "raise anew":
            raise RuntimeError("".join(random.choices("abcdefgh", k=20)))
        case "import":
            import_module("no_such_library")
        case "refuse":
            raise MediaUnreadable("the file is broken")


class TwoKinds(Producer):
    """Finds scenes and objects by turns."""

    task_type = "scene_detection"
    name = "two-kinds"
    version = "1"

    def describe(self, job: Job) -> Description:
        return Description(device="cpu", artifact_types=("scene", "object.detection", "ocr.text"))

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        for index in range(int(job.config.get("count", 3))):
            context.progress(index, 100)
            yield Found("scene", index, index + 1, SceneV1(scene_index=index, method="x" * int(job.config.get("size", 1))))
            yield Found("object.detection", index, index, ObjectDetectionV1.example())

    def outcome(self) -> Outcome:
        return Outcome(metrics={}, language="en")


_looking: list[Any] = []
"""The jobs of this process that look at frames now."""


class Looks(Obedient):
    """Finds a thing in each frame of a real film, and does at frame `at` what `then` says.

    `touches` and `awaits` are files: one it makes, and one that it waits for, at its first frame; `once` is for that, too.
    """

    name = "looks"
    shares_frames = True

    def produce(self, job: Job, context: Context) -> Iterator[Found]:
        self._is_alone = job.sample is sample_frames
        self._at_once = 0
        _looking.append(self)
        try:
            yield from self._look(job, context)
        finally:
            _looking.remove(self)

    def _look(self, job: Job, context: Context) -> Iterator[Found]:
        for frame in job.frames():
            self._at_once = max(self._at_once, len(_looking))
            if frame.index == 0:
                meet(job.config, context)
            if frame.index == job.config.get("at"):
                misbehave(job.config)
            if pace_s := job.config.get("pace_s"):
                time.sleep(pace_s)
            context.progress(frame.time_ms, 100_000)
            payload = ObjectDetectionV1(label="dog", confidence=0.5, box=(0, 0, 1, 1), frame_index=frame.index)
            yield Found("object.detection", frame.time_ms, frame.time_ms, payload)

    def outcome(self) -> Outcome:
        return Outcome(
            metrics={"alone": float(self._is_alone), "at_once": float(self._at_once), "pid": float(os.getpid())}
        )


class LooksToo(Looks):
    """A neighbour."""

    task_type = "place_detection"
    name = "looks-too"


class Joins(Looks):
    """May be done beside those of other videos."""

    name = "joins"
    shares_batches = True


def meet(config: Any, context: Context) -> None:
    """Make one file and wait for another, alive all the while."""
    if (once := config.get("once")) and Path(once).exists():
        return
    if touches := config.get("touches"):
        Path(touches).touch()
    while (awaits := config.get("awaits")) and not Path(awaits).exists():
        context.progress(0, 100_000)
        time.sleep(0.01)


class NoScenes(FrameEmbedding):
    """Embeds frames without asking for the video's scenes."""

    needs_spans = ()


ALL = (Obedient, TwoKinds)
SHARING = (Looks, LooksToo)
JOINING = (Joins, LooksToo)
"""The first may be done beside others, the second may not."""
