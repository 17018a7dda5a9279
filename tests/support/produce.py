"""Run producers in a process of their own, one a model family, as workers do: `python -m tests.support.produce`.

The test process itself never loads a model library.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

import workers
from application.messages import SourceSpan, SourceText, TaskMessage
from domain.artifacts.envelope import Payload
from domain.errors import EiokuError, JobCancelled, ModelUnavailable
from domain.pipeline import config_hash, full_config
from infrastructure.media.frames import SampleFrames, sample_frames
from workers.producer import Context, Description, Found, Job, ModelPlaces, Outcome, Producer

ROOT = Path(__file__).resolve().parents[2]
PRODUCER = {producer.task_type: producer for producer in workers.PRODUCERS}


class Wish(msgspec.Struct, kw_only=True):
    """What to run."""

    task_type: str
    path: bytes
    profile: str | None = None
    language: str | None = None
    config: dict[str, Any] = {}
    models: ModelPlaces = ModelPlaces(is_offline=True)
    cancel_after: int | None = None
    """Calls of `progress` after which the job is cancelled."""
    texts: tuple[SourceText, ...] | None = None
    """What was said and shown; None: something of the length of the clip that the contract is tested on."""


class Made(msgspec.Struct, kw_only=True):
    """What came of it."""

    description: Description | None = None
    found: list[tuple[str, int, int, Any]] = []
    """(artifact type, start_ms, end_ms, payload as plain values)"""
    outcome: Outcome | None = None
    progress: list[tuple[int, int]] = []
    error: str | None = None
    message: str = ""
    remedy: str = ""
    cpu_s: float = 0.0
    is_shared: bool = False
    """Whether its frames came from a pass that others shared; `cpu_s` is that of the process then."""
    peak_mb: float = 0.0
    """Most that the process has held so far, shared libraries included."""
    loaded: list[str] = []
    """Model libraries in the process."""

    def texts(self) -> list[str]:
        return [payload["text"] for _, _, _, payload in self.found]

    def words(self) -> list[dict[str, Any]]:
        return [word for _, _, _, payload in self.found for word in payload.get("words", [])]


class Recorder(Context):
    """Keeps what it is told; cancels after a number of calls."""

    def __init__(self, cancel_after: int | None = None) -> None:
        self.calls: list[tuple[int, int]] = []
        self.cancel_after = cancel_after

    def progress(self, done_ms: int, total_ms: int) -> None:
        self.calls.append((done_ms, total_ms))
        if self.cancel_after is not None and len(self.calls) > self.cancel_after:
            raise JobCancelled("cancelled by the test")

    def wait(self) -> None:
        """Another job's turn is no progress."""


def job_of(wish: Wish, sample: SampleFrames = sample_frames) -> Job:
    import os

    path = Path(os.fsdecode(wish.path))
    profile, config = full_config(wish.task_type, wish.profile, wish.config)
    message = TaskMessage(
        task_id=UUID(int=1),
        tenant_id="default",
        video_id=UUID(int=2),
        task_type=wish.task_type,
        profile=profile,
        config=config,
        config_hash=config_hash(wish.task_type, config, wish.language),
        language=wish.language,
        priority="std",
        request_version=1,
        source=str(path),
        blake3=None,
        correlation_id=UUID(int=3),
        position=1,
    )
    texts = wish.texts or tuple(
        SourceText(UUID(int=10 + n), kind, start, start + 900, text)
        for n, (kind, start, text) in enumerate(
            (("transcript.segment", 0, "ask not what your country can do"), ("ocr.text", 1_000, "CHAPTER ONE"))
        )
        if kind in PRODUCER[wish.task_type].needs
    )
    spans = tuple(
        span
        for span in (SourceSpan(0, 900, "scene"), SourceSpan(500, 500, "object.detection"), SourceSpan(1_000, 1_900, "scene"))
        if span.artifact_type in PRODUCER[wish.task_type].needs_spans
    )
    return Job(
        message=message, run_id=UUID(int=4), path=path, models=wish.models, texts=texts, spans=spans,
        pictures=path.parent / "pictures", sample=sample,
    )  # fmt: skip


def make(producer: Producer, wish: Wish, sample: SampleFrames = sample_frames) -> Made:
    """Run one job to its end."""
    import time

    context, made = Recorder(wish.cancel_after), Made(is_shared=sample is not sample_frames)
    begun = time.process_time()
    try:
        job = job_of(wish, sample)
        made.description = producer.describe(job)
        for found in producer.produce(job, context):
            made.found.append(plain(found))
        made.outcome = producer.outcome()
    except EiokuError as error:
        made.error, made.message = type(error).__name__, str(error)
        made.remedy = error.remedy if isinstance(error, ModelUnavailable) else ""
    made.cpu_s = time.process_time() - begun
    made.peak_mb = _peak_mb()
    made.progress = context.calls
    made.loaded = [
        name
        for name in ("torch", "cv2", "ctranslate2", "paddle", "ultralytics", "faster_whisper")
        if name in sys.modules
    ]
    return made


def make_together(producers: Sequence[Producer], wishes: Sequence[Wish]) -> list[Made]:
    """Run jobs on one file at the same time, over one pass, as `workers.compute` does."""
    from concurrent.futures import ThreadPoolExecutor

    from infrastructure.media.shared_frames import SharedFrames

    shared = SharedFrames(len(wishes))

    def one(producer: Producer, wish: Wish) -> Made:
        with shared.reader(lambda: None) as sample:
            return make(producer, wish, sample)

    with ThreadPoolExecutor(len(wishes)) as threads:
        return list(threads.map(one, producers, wishes))
def _peak_mb() -> float:
    # Not of getrusage: that begins with what the parent held.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def plain(found: Found) -> tuple[str, int, int, Any]:
    assert isinstance(found.payload, Payload)
    return found.artifact_type, found.start_ms, found.end_ms, msgspec.to_builtins(found.payload)


class Family:
    """A process that runs jobs, started when it is first asked."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, task_type: str, path: Path, **wish: Any) -> Made:
        (made,) = self.together(path, {task_type: wish})
        return made

    def together(self, path: Path, wishes: dict[str, dict[str, Any]]) -> list[Made]:
        """Jobs on one file: what is wished by task type."""
        import os

        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.produce"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        jobs = [Wish(task_type=name, path=os.fsencode(path), **wish) for name, wish in wishes.items()]
        body = msgspec.json.encode(jobs, enc_hook=str)
        self.process.stdin.write(body + b"\n")
        self.process.stdin.flush()
        return msgspec.json.decode(self.process.stdout.readline(), type=list[Made], dec_hook=_path)

    def close(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.close()
            self.process.wait(60)
            self.process.stdout.close()


def _path(kind: type, value: Any) -> Any:
    return kind(value)


def _serve() -> None:
    import os

    # Libraries print: only answers go where the test reads.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    producers: dict[str, Producer] = {}
    for line in sys.stdin.buffer:
        wishes = msgspec.json.decode(line, type=list[Wish], dec_hook=_path)
        chosen = [producers.setdefault(wish.task_type, PRODUCER[wish.task_type]()) for wish in wishes]
        made = make_together(chosen, wishes) if len(wishes) > 1 else [make(chosen[0], wishes[0])]
        answers.write(msgspec.json.encode(made) + b"\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
