"""A worker or an ingester as a process of its own, to be killed: `python -m tests.support.role_process ROLE …`."""

import asyncio
import functools
import sys
from pathlib import Path

from application.ingest_results import apply_result
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.media.source_cache import SourceCache
from infrastructure.nats.connection import connect
from infrastructure.nats.results import ingest
from tests.support.pipeline import QUICK
from tests.support.producers import ALL
from workers.producer import ModelPlaces
from workers.runner import WorkerSettings, run_worker


async def worker(nats_url: str, folder: str, name: str) -> None:
    settings = WorkerSettings(
        name=name, family="light", nats_url=nats_url, models=ModelPlaces(models_dir=Path(folder)),
        sources=SourceCache(folder=Path(folder) / "sources"), pictures=Path(folder) / "thumbnails",
        task_types=("object_detection", "scene_detection"), producers=ALL, limits=QUICK,
    )  # fmt: skip
    await run_worker(settings, asyncio.Event())


async def asr(nats_url: str, folder: str, name: str) -> None:
    """The worker of speech, with its packaged model, as it is installed."""
    settings = WorkerSettings(
        name=name, family="asr", nats_url=nats_url, models=ModelPlaces(is_offline=True, threads=1),
        sources=SourceCache(folder=Path(folder) / "sources"), pictures=Path(folder) / "thumbnails",
    )  # fmt: skip
    await run_worker(settings, asyncio.Event())


async def ingester(nats_url: str, database: str) -> None:
    with PostgresEventLog(database) as log:
        async with await connect(nats_url, name="ingester") as bus:
            await ingest(bus, functools.partial(apply_result, log), asyncio.Event())


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    asyncio.run({"worker": worker, "asr": asr, "ingester": ingester}[role](*arguments))
