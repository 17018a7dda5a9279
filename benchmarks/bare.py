"""What the models alone cost: `python -m benchmarks.bare FAMILY [spared]`, one process a family, as workers have it.

Each producer does its job once, unmeasured, while every call into its model library is written down with what went in:
the very frames, the very sound. Then those calls are made again in a plain loop, and that is measured. Decoding is not in
it; `decode` measures one pass over the file by itself. `spared`: with memory and waiting set as in workers, else as libraries
and glibc have them.

The first line of standard input is the wishes; it is answered once the calls are written down. They are made again when a
second line comes, and the answer is what that cost: so several families can be measured beside each other.
"""

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from domain.errors import EiokuError
from domain.pipeline import BY_NAME
from tests.support.produce import PRODUCER, Made, Wish, job_of, make
from workers.compute import set_up

MODEL_CALLS = (
    ("scenedetect", "AdaptiveDetector", "process_frame"),
    ("scenedetect", "ContentDetector", "process_frame"),
    ("faster_whisper.vad", "SileroVADModel", "__call__"),
    ("faster_whisper", "WhisperModel", "transcribe"),
    ("faster_whisper", "BatchedInferencePipeline", "transcribe"),
    ("paddleocr", "PaddleOCR", "predict"),
    ("cv2", "FaceDetectorYN", "detect"),
    ("dlib", "fhog_object_detector", "run"),
    ("dlib", "shape_predictor", "__call__"),
    ("dlib", "face_recognition_model_v1", "compute_face_descriptor"),
    ("ultralytics.models", "YOLO", "predict"),
    ("ultralytics.trackers.byte_tracker", "BYTETracker", "update"),
    ("torchvision.models.resnet", "ResNet", "forward"),
    ("sentence_transformers", "SentenceTransformer", "encode"),
)
"""(module, class, method) by which producers reach their models."""
FAMILY_OF = {
    "light": ("scenedetect", "cv2", "dlib"),
    "asr": ("faster_whisper", "faster_whisper.vad"),
    "ocr": ("paddleocr",),
    "torch": ("ultralytics.models", "ultralytics.trackers.byte_tracker", "torchvision.models.resnet", "sentence_transformers"),
}
Call = Callable[[], Any]


class Bare(msgspec.Struct, kw_only=True):
    """The models of one task, called again."""

    task_type: str
    calls: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    producer_cpu_s: float = 0.0
    """Of the producer's whole job in this same process: decoding, the calls, what it makes of them."""
    left_out: str = ""
    """Why there is nothing."""


class _Recorder:
    """Writes down calls of one method, the outermost only: what a library does inside is part of it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._inside = False

    def wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return original(*args, **kwargs)
            kept = [_kept(one) for one in args]
            self.calls.append(lambda: original(*kept, **kwargs))
            self._inside = True
            try:
                return original(*args, **kwargs)
            finally:
                self._inside = False

        return call


def _kept(value: Any) -> Any:
    """A copy of pictures and sound: the caller may use the memory again."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return [_kept(one) for one in value] if isinstance(value, list) else value


@contextlib.contextmanager
def _recorded(family: str) -> Iterator[_Recorder]:
    recorder = _Recorder()
    undo: list[tuple[type, str, Any]] = []
    for module, kind, method in MODEL_CALLS:
        if module in FAMILY_OF[family]:
            owner = getattr(importlib.import_module(module), kind)
            original = getattr(owner, method)
            undo.append((owner, method, original))
            setattr(owner, method, recorder.wrap(original))
    try:
        yield recorder
    finally:
        for owner, method, original in reversed(undo):
            setattr(owner, method, original)


def _again(calls: list[Call], made: Made, task_type: str) -> Bare:
    guard = importlib.import_module("torch").inference_mode() if "torch" in sys.modules else contextlib.nullcontext()
    begun, began = time.process_time(), time.perf_counter()
    with guard:
        for call in calls:
            answer = call()
            if isinstance(answer, tuple) and hasattr(answer[0], "__next__"):
                list(answer[0])  # speech is recognised while segments are taken
    return Bare(
        task_type=task_type,
        calls=len(calls),
        cpu_s=time.process_time() - begun,
        wall_s=time.perf_counter() - began,
        producer_cpu_s=made.cpu_s,
    )


def decode(film: Path) -> Bare:
    """One pass: every picture small, as cuts are looked for, every fifth in full; and the sound."""
    import av
    from av.video.reformatter import VideoReformatter

    small, full = VideoReformatter(), VideoReformatter()
    begun, began = time.process_time(), time.perf_counter()
    with av.open(str(film)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            small.reformat(frame, 256, round(256 * frame.height / frame.width), "bgr24", interpolation="AREA").to_ndarray()
            if number % 5 == 0:
                full.reformat(frame, frame.width, frame.height, "bgr24").to_ndarray()
    resampler = av.AudioResampler(format="flt", layout="mono", rate=16_000)
    with av.open(str(film)) as container:
        for block in container.decode(audio=0):
            for piece in resampler.resample(block):
                piece.to_ndarray()
    return Bare(
        task_type="decode", calls=1, cpu_s=time.process_time() - begun, wall_s=time.perf_counter() - began
    )


def bare(family: str, wishes: list[Wish]) -> Iterator[list[Bare]]:
    """The models of a family's tasks, and for `light` the decoding. What comes first is empty: all is ready."""
    producers = [PRODUCER[wish.task_type]() for wish in wishes]
    for producer, wish in zip(producers, wishes, strict=True):
        producer.warm(wish.models)  # sets what the libraries read when they are imported
        with contextlib.suppress(EiokuError):
            producer.describe(job_of(wish))
    jobs: list[tuple[str, Made, list[Call]]] = []
    for producer, wish in zip(producers, wishes, strict=True):
        with _recorded(family) as recorder:
            jobs.append((wish.task_type, make(producer, wish), recorder.calls))
    yield []
    found = [decode(Path(os.fsdecode(wishes[0].path)))] if family == "light" else []
    for task_type, made, calls in jobs:
        if made.error is not None:
            found.append(Bare(task_type=task_type, left_out=made.message))
        else:
            found.append(_again(calls, made, task_type))
    yield found


def main() -> None:
    """Answer on standard output, whatever the libraries print."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    family = sys.argv[1]
    if "spared" in sys.argv[2:]:
        set_up(producer for name, producer in PRODUCER.items() if BY_NAME[name].family == family)
    wishes = msgspec.json.decode(sys.stdin.buffer.readline(), type=list[Wish], dec_hook=lambda kind, value: kind(value))
    assert all(BY_NAME[wish.task_type].family == family for wish in wishes)
    for answer in bare(family, wishes):
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()
        sys.stdin.buffer.readline()


if __name__ == "__main__":
    main()
