"""Transcription of ten minutes of speech: × real time and memory of one worker, with batches, and of two workers.

    python -m benchmarks.speech [--minutes 10]

Each row has fresh workers of one thread each, as processes on real NATS, and one task; the clock runs from the run's start to
its end. Needs the extras `asr` and `demo`: a voice and a model.
"""

import argparse
import os
import time
import wave
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from application.handle import handle
from benchmarks import stand
from benchmarks.memory import descendants
from domain.event import Meta
from domain.pipeline import config_hash, full_config
from domain.run import RunCompleted
from domain.task import RequestTask, TaskCompleted, task_id_of
from domain.video import RegisterVideo
from eioku.demo_speech import speak
from eioku.settings import Settings
from infrastructure.event_store.log import PostgresEventLog

_TYPE = "transcription"
_LOADING_S = 20
"""Until all workers have their models."""
_SENTENCES = (
    "A cold wind came from the north and the water was dark.",
    "The old man told us a story about his brother.",
    "His brother had been a doctor in a small town.",
    "Every winter he walked across the mountain to see the children.",
    "One night the snow was so deep that he lost his way.",
    "In the morning the sky was blue and the road was clear.",
    "They remained friends for the rest of their lives.",
)
_PAUSES_S = (0.2, 0.9, 0.3, 3.5, 0.2, 0.3, 6.0)
_ROWS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("one worker", 1, {}),
    ("one worker, batches of 4", 1, {"batch_size": 4}),
    ("two workers", 2, {}),
)


def _write(path: Path, minutes: float) -> float:
    """A sound file; its length in seconds."""
    spoken = speak(_SENTENCES)
    rate, seconds, number = spoken[0].rate, 0.0, 0
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        while seconds < minutes * 60:
            pcm = spoken[number % len(spoken)].pcm + bytes(2 * int(_PAUSES_S[number % len(_PAUSES_S)] * rate))
            file.writeframes(pcm)
            seconds, number = seconds + len(pcm) / 2 / rate, number + 1
    return seconds


def _peak_mb(pid: int) -> float:
    """The most memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _transcribe(
    settings: Settings, log: PostgresEventLog, path: Path, workers: int, config: dict[str, Any]
) -> tuple[RunCompleted, float, float]:
    """(how the run ended, CPU seconds of all computing processes, MB of the largest)."""
    meta = Meta(at=datetime.now(UTC), actor="system:benchmark", correlation_id=uuid4())
    video = uuid4()
    profile, full = full_config(_TYPE, None, config)
    digest = config_hash(_TYPE, full, None)
    task = task_id_of(video, _TYPE, profile, digest, "0")
    one_thread = msgspec.structs.replace(settings, threads=1, offline=True)
    with ExitStack() as stack:
        running = [stack.enter_context(stand.role(one_thread, "worker", "--family", "asr")) for _ in range(workers)]
        while not all(descendants(process.pid) for process in running):
            time.sleep(0.5)
        time.sleep(_LOADING_S)
        computing = [pid for process in running for pid in descendants(process.pid)]
        before = sum(map(_cpu_s, computing))
        handle(log, RegisterVideo(stream_id=video, meta=meta, source=str(path), filename=path.name, pipeline=()))
        handle(log, RequestTask(stream_id=task, meta=meta, video_id=video, task_type=_TYPE, profile=profile, config=full,
                                config_hash=digest))
        while not isinstance(ended := log.load(task)[-1], TaskCompleted):
            time.sleep(0.2)
        cpu_s = sum(map(_cpu_s, computing)) - before
        peak_mb = max(map(_peak_mb, computing))
    completed = log.load(ended.run_id)[-1]
    assert isinstance(completed, RunCompleted)
    return completed, cpu_s, peak_mb


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10)
    minutes = parser.parse_args().minutes
    rows: list[tuple[object, ...]] = []
    with stand.services() as settings:
        assert settings.database_url is not None
        path = settings.data / "speech.wav"
        seconds = _write(path, minutes)
        with PostgresEventLog(settings.database_url) as log, stand.role(settings, "relay"), stand.role(settings, "ingester"):
            first = 0.0
            for name, workers, config in _ROWS:
                run, cpu_s, peak_mb = _transcribe(settings, log, path, workers, config)
                took = run.metrics["seconds"]
                first = first or took
                rows.append((name, int(run.metrics["words"]), took, seconds / took, first / took, seconds / cpu_s, peak_mb))
    stand.show(
        f"{seconds / 60:.1f} minutes of speech, one thread a worker",
        ("", "words", "seconds", "× real time", "of one worker", "media s / CPU-s", "peak MB"),
        rows,
    )


if __name__ == "__main__":
    main()
