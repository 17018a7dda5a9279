"""A worker lives for a thousand jobs: what it does for each must leave nothing behind."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from application.messages import TaskMessage
from infrastructure.media.source_cache import SourceCache
from tests.support import media
from tests.support.produce import Family
from tests.support.producers import Obedient, Wasteful
from workers.child import Child
from workers.compute import IDLE_S
from workers.producer import ModelPlaces
from workers.protocol import Assignment, Described, Finished, Packed

ROUNDS, WARM_UP = 17, 4
"""Of three jobs each; after the warm-up all code has run and all buffers have their size."""


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.ml_torch
def test_memory_is_flat_over_many_jobs(shared_media: Path, tmp_path: Path) -> None:
    film = media.clip(tmp_path / "short.mp4", times_ms=range(0, 800, 100))
    places = ModelPlaces(
        is_offline=True,
        detector_weights=shared_media / "models/yolov8n_fiq.tflite",
        face_detector=shared_media / "models/face_detection_yunet_2026may.onnx",
    )
    worker, after = Family(), list[int]()
    try:
        for _ in range(ROUNDS):
            for task_type in ("scene_detection", "face_detection", "object_detection"):
                made = worker(task_type, film, models=places)
                assert made.error is None, made.message
            assert worker.process is not None
            after.append(resident_bytes(worker.process.pid))
    finally:
        worker.close()
    # Measured: 0.1 % over 120 jobs.
    assert max(after[WARM_UP:]) <= 1.03 * after[WARM_UP - 1], [size >> 20 for size in after]


@pytest.mark.parametrize(("device", "may"), [("cpu", 0.0), ("auto", 1.0)])
def test_a_worker_decodes_on_hardware_unless_it_is_told_to_keep_to_the_cpu(
    tmp_path: Path, device: str, may: float
) -> None:
    async def outcome() -> dict[str, float]:
        await child.ready()
        with child.slots(1) as (slot,):
            slot.assign(_assignment(tmp_path / "a.mp4", models))
            while not isinstance(report := await slot.hear(), Finished):
                assert isinstance(report, Described | Packed), report
            return report.outcome.metrics

    (tmp_path / "a.mp4").write_bytes(b"x")
    models = ModelPlaces(device=device)
    child = Child("test", (Obedient,), models)
    try:
        assert asyncio.run(outcome())["hardware"] == may
    finally:
        child.close()


def test_a_process_without_work_gives_back_what_it_kept_for_the_next_job(tmp_path: Path) -> None:
    async def work() -> None:
        with child.slots(1) as (slot,):
            slot.assign(_assignment(tmp_path / "a.mp4", models))
            while not isinstance(report := await slot.hear(), Finished):
                assert isinstance(report, Described | Packed), report

    (tmp_path / "a.mp4").write_bytes(b"x")
    models = ModelPlaces(device="cpu")
    child = Child("test", (Wasteful,), models)
    try:
        asyncio.run(child.ready())
        assert child.pid is not None
        at_first = resident_bytes(child.pid)
        asyncio.run(work())
        assert resident_bytes(child.pid) - at_first > 40 << 20
        deadline = time.monotonic() + IDLE_S + 60
        while (rest := resident_bytes(child.pid) - at_first) >= 8 << 20:
            assert time.monotonic() < deadline, f"it still holds {rest >> 20} MiB"
            time.sleep(0.2)
    finally:
        child.close()


def _assignment(path: Path, models: ModelPlaces) -> Assignment:
    message = TaskMessage(
        task_id=UUID(int=1), tenant_id="default", video_id=UUID(int=2), task_type="object_detection", profile="fast",
        config={}, config_hash="c", language=None, priority="std", request_version=1, source=str(path), blake3="f" * 64,
        correlation_id=UUID(int=4), position=1,
    )  # fmt: skip
    return Assignment(
        number=1, wire=0, message=message, run_id=UUID(int=3), delivery=1, models=models,
        sources=SourceCache(folder=path.parent), pictures=path.parent,
        worker="w", started_at=datetime(2024, 1, 1, tzinfo=UTC),
    )  # fmt: skip
