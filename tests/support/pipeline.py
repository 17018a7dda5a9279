"""The whole way on real services: log in Postgres, relay, ingester, policies, and workers in this process."""

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

from application import policies
from application.follow import Follower
from application.handle import handle, present
from application.ingest_results import apply_result
from application.ports import Recorded
from domain import run, task, video
from domain.artifacts.envelope import Artifact, ArtifactBatch, expand
from domain.event import Meta
from domain.pipeline import config_hash
from domain.task import task_id_of
from eioku import answers
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.media.source_cache import SourceCache
from infrastructure.nats.connection import Bus, connect
from infrastructure.nats.relay import run_relay
from infrastructure.nats.results import ingest
from infrastructure.nats.streams import CONSUMERS, declare
from projectors.task_index import PostgresTaskIndex
from projectors.video_index import PostgresVideoIndex
from tests.support.producers import ALL
from workers.attempt import Limits
from workers.producer import ModelPlaces
from workers.runner import WorkerSettings, run_worker

QUICK = Limits(stall_s=2.0, cancel_s=0.5, retry_s=0.2, most_retry_s=0.5, heartbeat_s=0.5, progress_s=0.1, repeat_s=0.5)


def now() -> datetime:
    return datetime.now(UTC)


def meta() -> Meta:
    return Meta(at=now(), actor="user:test", correlation_id=uuid4())


async def until(is_so: Callable[[], Any], *, timeout_s: float = 30.0) -> Any:
    """Wait for a condition that somebody else brings about; its value. Looked at in a thread: it may ask the database."""
    end = asyncio.get_running_loop().time() + timeout_s
    while not (value := await asyncio.to_thread(is_so)):
        if asyncio.get_running_loop().time() > end:
            raise TimeoutError(f"not so within {timeout_s} s: {inspect.getsource(is_so)}")
        await asyncio.sleep(0.02)
    return value


class Pipeline:
    """Roles that can be started and stopped one by one."""

    def __init__(self, database: str, nats_url: str, folder: Path) -> None:
        self.database, self.nats_url, self.folder = database, nats_url, folder
        self.log = PostgresEventLog(database, pool_size=8)
        self.bus: Bus
        self.parked: list[tuple[Recorded, Exception]] = []
        self._running: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> Self:
        self.bus = await connect(self.nats_url, name="test")
        await declare(self.bus)
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self._running):
            await self.stop(name)
        await self.bus.close()
        self.log.close()

    # ---- roles

    def start(self, *names: str, **options: Any) -> None:
        """Start roles: relay, ingester, policies, answers (needs projections), worker."""
        for name in names:
            stop = asyncio.Event()
            role = getattr(self, f"_{name.partition('-')[0]}")
            self._running[name] = (stop, asyncio.create_task(role(stop, **options)))

    async def stop(self, name: str) -> None:
        """Stop a role and wait for its end."""
        stop, task = self._running.pop(name)
        stop.set()
        await task

    async def _relay(self, stop: asyncio.Event) -> None:
        async with await connect(self.nats_url, name="relay") as bus:
            await run_relay(self.log, bus, self.database, stop)

    async def _ingester(self, stop: asyncio.Event) -> None:
        async with await connect(self.nats_url, name="ingester") as bus:
            await ingest(bus, functools.partial(apply_result, self.log), stop)

    async def _policies(self, stop: asyncio.Event) -> None:
        ending = threading.Event()
        follower = Follower(
            policies.FOLLOWER,
            self.log,
            functools.partial(
                policies.react,
                self.log,
                clock=now,
                tasks=PostgresTaskIndex(self.database),
                videos=PostgresVideoIndex(self.database),
            ),
            kinds=policies.TOPICS,
            park=lambda record, error: self.parked.append((record, error)),
        )
        following = asyncio.create_task(asyncio.to_thread(follower.run, lambda: ending.wait(0.02), ending))
        await stop.wait()
        ending.set()
        await following

    async def _answers(self, stop: asyncio.Event) -> None:
        async with await connect(self.nats_url, name="answers") as bus:
            await answers.run(self.database, bus, stop)

    async def _worker(self, stop: asyncio.Event, **options: Any) -> None:
        await run_worker(self.worker_settings(**options), stop)

    def worker_settings(self, **options: Any) -> WorkerSettings:
        given: dict[str, Any] = {
            "name": "w1",
            "family": "light",
            "nats_url": self.nats_url,
            "models": ModelPlaces(models_dir=self.folder),
            "sources": SourceCache(folder=self.folder / "sources"),
            "pictures": self.folder / "thumbnails",
            "task_types": ("object_detection", "scene_detection"),
            "producers": ALL,
            "limits": QUICK,
            "grace_s": 5.0,
        }
        return WorkerSettings(**(given | options))

    async def redeliver_after(self, seconds: float) -> None:
        """Shorten the time after which what a killed worker or ingester held comes again."""
        for stream, config in CONSUMERS:
            await self.bus.js.add_consumer(stream, config.evolve(ack_wait=seconds))

    # ---- what happens

    def given_video(self, path: Path | None = None, **fields: Any) -> UUID:
        path = path or self.folder / "a.mp4"
        if not path.exists() and "source" not in fields:
            path.write_bytes(b"not really a film")
        video_id = uuid4()
        fields = {"source": str(path), "filename": path.name, "pipeline": (), **fields}
        handle(self.log, video.RegisterVideo(stream_id=video_id, meta=meta(), **fields))
        return video_id

    def ask(self, video_id: UUID, task_type: str = "object_detection", *, priority: Any = "std", **config: Any) -> UUID:
        hashed = config_hash(task_type, config, None)
        task_id = task_id_of(video_id, task_type, "balanced", hashed, "0")
        wish = task.RequestTask(
            stream_id=task_id, meta=meta(), video_id=video_id, task_type=task_type, profile="balanced", config=config,
            config_hash=hashed, priority=priority,
        )  # fmt: skip
        handle(self.log, wish)
        return task_id

    def order(self, kind: Any, stream_id: UUID, **fields: Any) -> None:
        handle(self.log, kind(stream_id=stream_id, meta=meta(), **fields))

    def status(self, task_id: UUID) -> str:
        state: Any = present(self.log, task, task_id)
        return state.status

    async def reaches(self, task_id: UUID, *statuses: str, timeout_s: float = 30.0) -> str:
        return await until(lambda: (now_at := self.status(task_id)) in statuses and now_at, timeout_s=timeout_s)

    def topics(self, stream_id: UUID) -> list[str]:
        return [event.TOPIC for event in self.log.load(stream_id)]

    def runs(self, task_id: UUID) -> list[Any]:
        """State of every attempt that was recorded, oldest first."""
        ids = [event.run_id for event in self.log.load(task_id) if isinstance(event, task.TaskStarted)]
        return [present(self.log, run, run_id) for run_id in ids]

    def artifacts(self, task_id: UUID) -> list[Artifact]:
        """What the completed run of the task holds."""
        done = self.log.load(task_id)[-1]
        assert isinstance(done, task.TaskCompleted)
        records = self.log.read(0, limit=10**9)
        batches = [r.item for r in records if isinstance(r.item, ArtifactBatch) and r.item.head.run_id == done.run_id]
        return [artifact for batch in batches for artifact in expand(batch)]


@contextlib.asynccontextmanager
async def pipeline(database: str, nats_url: str, folder: Path, *roles: str, **worker: Any) -> AsyncIterator[Pipeline]:
    """A pipeline with these roles running; `worker` options go to its settings."""
    async with Pipeline(database, nats_url, folder) as made:
        for role in roles:
            made.start(role, **(worker if role.startswith("worker") else {}))
        yield made
