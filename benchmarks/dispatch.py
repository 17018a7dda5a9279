"""A task that does nothing: request appended → relay → NATS → worker → result → ingester → completed in the log.

    python -m benchmarks.dispatch [--tasks 300] [--burst 2000] [--workers 4]

Relay and ingester are processes of their own. The worker pulls, starts, completes and acknowledges as the real one does.
"""

import argparse
import asyncio
import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

from application import messages
from application.handle import handle
from benchmarks import stand
from benchmarks.http_load import percentile
from domain.event import Meta
from domain.pipeline import config_hash, full_config
from domain.task import RequestTask, run_id_of, task_id_of
from domain.video import RegisterVideo
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.nats.commands import CommandQueue, Delivery
from infrastructure.nats.connection import Bus, connect
from infrastructure.nats.results import send
from infrastructure.nats.streams import declare

_TYPE = "object_detection"
_PROFILE, _CONFIG = full_config(_TYPE, None, None)
_HASH = config_hash(_TYPE, _CONFIG, None)
_META = Meta(at=datetime.now(UTC), actor="system:benchmark", correlation_id=uuid4())


class Worker:
    """Does nothing, as fast as it can; remembers when each task reached it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.reached: dict[UUID, float] = {}

    async def run(self) -> None:
        """Pull until cancelled."""
        queue = CommandQueue(self._bus, [_TYPE])
        try:
            while True:
                delivery = await queue.next(5)
                if delivery is not None:
                    await self._work(delivery)
        finally:
            await queue.close()

    async def _work(self, delivery: Delivery) -> None:
        asked = delivery.message
        self.reached[asked.task_id] = time.perf_counter()
        base = {
            "tenant_id": asked.tenant_id, "task_id": asked.task_id, "video_id": asked.video_id,
            "run_id": run_id_of(asked.task_id, asked.request_version, delivery.delivery),
            "request_version": asked.request_version, "delivery": delivery.delivery, "worker": "bench",
            "correlation_id": asked.correlation_id, "at": datetime.now(UTC),
        }  # fmt: skip
        await send(self._bus, messages.Started(
            **base, task_type=_TYPE, producer="none", producer_version="1", profile=asked.profile, config=asked.config,
            config_hash=asked.config_hash, input_hash="", device="cpu", artifact_types=("object.detection",)), 0)  # fmt: skip
        await send(self._bus, messages.Completed(**base, parts=0, counts={}, metrics={}), 1)
        await delivery.done()


def _register(log: PostgresEventLog) -> UUID:
    video = uuid4()
    handle(log, RegisterVideo(stream_id=video, meta=_META, source=f"/films/{video}.mp4", filename="x.mp4", pipeline=()))
    return video


def _request(log: PostgresEventLog, video: UUID, n: int) -> UUID:
    task = task_id_of(video, _TYPE, _PROFILE, _HASH, str(n))
    handle(log, RequestTask(stream_id=task, meta=_META, video_id=video, task_type=_TYPE, profile=_PROFILE, config=_CONFIG,
                            config_hash=_HASH))
    return task


async def _one_by_one(log: PostgresEventLog, worker: Worker, video: UUID, count: int) -> tuple[list[float], list[float]]:
    """(ms to the worker, ms to `task.completed` in the log) of each task."""
    reached, completed = [], []
    for n in range(count):
        begin = time.perf_counter()
        task = await asyncio.to_thread(_request, log, video, n)
        while await asyncio.to_thread(log.version, task) < 3:
            await asyncio.sleep(0.001)
        completed.append((time.perf_counter() - begin) * 1e3)
        reached.append((worker.reached[task] - begin) * 1e3)
    return reached, completed


async def _burst(log: PostgresEventLog, video: UUID, first: int, count: int) -> float:
    """Tasks a second: all are requested at once, the clock stops when the last is completed."""
    begin = time.perf_counter()
    tasks = await asyncio.to_thread(lambda: [_request(log, video, first + n) for n in range(count)])
    for task in tasks:
        while await asyncio.to_thread(log.version, task) < 3:
            await asyncio.sleep(0.02)
    return count / (time.perf_counter() - begin)


async def _measure(nats_url: str, log: PostgresEventLog, args: argparse.Namespace) -> None:
    video = _register(log)
    async with await connect(nats_url, name="bench") as bus:
        await declare(bus)
        worker = Worker(bus)
        running = [asyncio.create_task(worker.run())]
        await _one_by_one(log, worker, video, 20)
        reached, completed = await _one_by_one(log, worker, _register(log), args.tasks)
        running += [asyncio.create_task(worker.run()) for _ in range(args.workers - 1)]
        rate = await _burst(log, video, 1_000_000, args.burst)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    rows = [
        (name, percentile(took, 0.5), percentile(took, 0.95), percentile(took, 0.99))
        for name, took in (("request → worker has it", reached), ("request → completed in the log", completed))
    ]
    stand.show("one no-op task at a time, ms", ("", "p50", "p95", "p99"), rows)
    stand.show("burst", ("", "tasks/s"), [(f"{args.burst:,} tasks, {args.workers} workers in one process", rate)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="no-op task dispatch")
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--burst", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    with stand.services() as settings, stand.role(settings, "relay"), stand.role(settings, "ingester"):
        assert settings.database_url is not None
        assert settings.nats_url is not None
        with PostgresEventLog(settings.database_url) as log:
            asyncio.run(_measure(settings.nats_url, log, args))


if __name__ == "__main__":
    main()
