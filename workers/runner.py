"""The worker: takes tasks of one model family from NATS, has them computed in a child process, sends the results.

One task at a time, or those of one video that look at its frames together (ADR-0017), or those of several videos whose
frames go into the same batches (ADR-0024).

Order of effects: result stored at the broker, then the command answered. A worker may die anywhere in between; the
command is then delivered again, as another attempt with another run id, and what the dead one sent is never shown.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import structlog

from application.messages import Announced, NoAnswer, Space, TextVector
from domain.errors import EiokuError, ServiceUnavailable, WorkerDied
from domain.event import DEFAULT_TENANT
from domain.pipeline import Family
from infrastructure.media.source_cache import SourceCache
from infrastructure.nats import meaning
from infrastructure.nats.cancel import Cancellations
from infrastructure.nats.commands import CommandQueue, Delivery
from infrastructure.nats.connection import Bus, connect
from infrastructure.nats.results import send
from workers import PRODUCERS
from workers.assist import Helper
from workers.attempt import Attempt, Limits
from workers.capability import digest_of, task_types_of
from workers.child import Child, Slot
from workers.producer import Knowing, ModelPlaces, Producer
from workers.together import Gathering

logger = structlog.get_logger()

T = TypeVar("T")

FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 60.0
"""Before a computing process that does not come up is started again."""
LOOK_S = 30.0
"""How long one request for a task lasts, and so how often a cancelled one is renewed."""


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process."""

    name: str
    """Unique in the deployment: shows in tasks and runs."""
    family: Family
    nats_url: str
    models: ModelPlaces
    sources: SourceCache
    """Where files that lie elsewhere are copied to; the workers of a machine share it."""
    pictures: Path
    """Where the API looks for pictures."""
    folders: tuple[str, ...] | None = None
    """The only ones in which files are opened; None = all that this user may read."""
    task_types: tuple[str, ...] | None = None
    """Take only these; None = all of the family."""
    producers: tuple[type[Producer], ...] = PRODUCERS
    limits: Limits = Limits()
    grace_s: float = 15.0
    """How long a job may go on after the worker was asked to stop."""
    videos: int = 1
    """How many videos may be worked on at once, by producers that share batches."""
    recycle_after: int = 1_000
    """Jobs that one computing process does before a fresh one takes over: model libraries leak."""
    look_around_s: float = 60.0
    """How often it is looked whether something was installed meanwhile."""


async def run_worker(settings: WorkerSettings, stop: asyncio.Event) -> None:
    """Work until `stop` is set: a running job gets `grace_s` to end, then it is given back for somebody else.

    Raises:
        ServiceUnavailable: NATS is not there at the start, or the connection is closed for good.
    """
    async with (
        await connect(settings.nats_url, name=settings.name) as bus,
        Cancellations(bus) as cancellations,
    ):
        worker = Worker(settings, bus, cancellations)
        work = asyncio.create_task(worker.run(stop))
        try:
            await asyncio.wait((work, bus.closed), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ServiceUnavailable(f"the connection to NATS is closed for good: {bus.closed.result()}")
            await work
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, EiokuError):
                await work


class Worker:
    """A loop that does one group of tasks after the other, or some beside each other."""

    def __init__(self, settings: WorkerSettings, bus: Bus, cancellations: Cancellations) -> None:
        self._settings, self._bus, self._cancellations = settings, bus, cancellations
        self.task_types = settings.task_types or task_types_of(settings.family, settings.producers)
        self._producers = tuple(kind for kind in settings.producers if kind.task_type in self.task_types)
        self._sharing_batches = {kind.task_type for kind in self._producers if kind.shares_batches}
        self._videos = settings.videos if self._sharing_batches else 1
        self._child: Child | None = None
        self._doing: set[asyncio.Task[None]] = set()
        """The groups at work."""
        self._is_closed = False
        """Nothing may begin beside them."""

    async def run(self, stop: asyncio.Event) -> None:
        """Take and do tasks until `stop` is set."""
        stopping = asyncio.create_task(stop.wait())
        announcing = asyncio.create_task(self._announce())
        telling = asyncio.create_task(self._tell_meanings(stop))
        gathering = Gathering(
            CommandQueue(self._bus, self.task_types),
            self._cancellations,
            [kind.task_type for kind in self._producers if kind.shares_frames],
            self._settings.limits.heartbeat_s,
        )
        helper = Helper(self._bus, self._producers, self._settings.models)
        await helper.open()
        logger.info("worker.started", worker=self._settings.name, task_types=self.task_types)
        try:
            while not stop.is_set():
                if self._doing and self._is_full:
                    await asyncio.wait((*self._doing, stopping), return_when=asyncio.FIRST_COMPLETED)
                elif child := await _unless(stopping, self._ready()):
                    waiting = gathering.next(LOOK_S)
                    taking = waiting if self._doing else helper.meanwhile(child, waiting)
                    group = await _unless(stopping, taking)
                    if group and not self._begin(group, child, stopping):
                        gathering.keep(group)
                self._take_leave()
                if announcing.done():
                    await announcing  # raises what ended it
                if telling.done():
                    await telling
            if self._doing:
                await asyncio.wait(self._doing)  # each gives back what it cannot end in time
            self._take_leave()
        finally:
            tasks = (*self._doing, stopping, announcing, telling)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await helper.close()
            await gathering.close()
            if self._child is not None:
                await asyncio.to_thread(self._child.close)
            logger.info("worker.stopped", worker=self._settings.name)

    async def _ready(self) -> Child:
        """The computing process with its models loaded: the one we have, or a fresh one."""
        pause_s = FIRST_PAUSE_S
        while True:
            child = self._child
            if child is not None and self._is_spent:
                await asyncio.to_thread(child.close)
                child = None
            if child is None:
                child = self._child = Child(
                    self._settings.name,
                    self._producers,
                    self._settings.models,
                    videos=self._videos,
                    folders=self._settings.folders,
                )
            try:
                async with asyncio.timeout(self._settings.limits.load_s):
                    await child.ready()
            except (WorkerDied, TimeoutError) as error:
                child.kill(WorkerDied("it did not come up"))
                logger.error("worker.not_ready", error=repr(error), again_in_s=pause_s)  # noqa: TRY400
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LAST_PAUSE_S)
            else:
                return child

    @property
    def _is_spent(self) -> bool:
        """Whether the computing process is to be replaced, once nothing is at work."""
        child = self._child
        return child is not None and (not child.is_alive or child.jobs >= self._settings.recycle_after)

    @property
    def _is_full(self) -> bool:
        """Whether something at work has to end before another group may begin."""
        return self._is_closed or self._is_spent or len(self._doing) >= self._videos

    def _begin(self, group: Sequence[Delivery], child: Child, stopping: "asyncio.Task[bool]") -> bool:
        """Do these, beside what is at work if they go with it; whether they do."""
        # What comes again is alone in the process: one that kills it takes others down only once.
        goes_along = all(
            delivery.delivery == 1 and delivery.message.task_type in self._sharing_batches for delivery in group
        )
        if not child.is_alive or (self._doing and not goes_along):
            self._is_closed = True
            return False
        self._doing.add(asyncio.create_task(self._do(group, child, stopping)))
        self._is_closed = not goes_along
        return True

    def _take_leave(self) -> None:
        """Of what has ended; raises what went wrong."""
        ended = {group for group in self._doing if group.done()}
        self._doing -= ended
        for group in ended:
            group.result()

    async def _do(self, group: Sequence[Delivery], child: Child, stopping: "asyncio.Task[bool]") -> None:
        """Do these together, each with an end of its own."""
        with child.slots(len(group)) as slots:
            jobs = [
                asyncio.create_task(self._answer(delivery, slot, child))
                for delivery, slot in zip(group, slots, strict=True)
            ]
            doing = asyncio.gather(*jobs, return_exceptions=True)
            try:
                await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not doing.done():
                    await asyncio.wait((doing,), timeout=self._settings.grace_s)
            finally:
                for job in jobs:
                    job.cancel()
                await asyncio.wait(jobs)
        for job in jobs:
            if not job.cancelled():
                job.result()

    async def _answer(self, delivery: Delivery, slot: Slot, child: Child) -> None:
        task_type = delivery.message.task_type
        attempt = Attempt(
            delivery,
            slot,
            next((kind for kind in self._producers if kind.task_type == task_type), None),
            self._bus,
            self._cancellations,
            worker=self._settings.name,
            models=self._settings.models,
            sources=self._settings.sources,
            pictures=self._settings.pictures,
            limits=self._settings.limits,
        )
        try:
            await attempt.run()
        except Exception as error:
            # What it computed is lost, or stored and superseded; the broker brings the task again.
            child.kill(WorkerDied("its job was abandoned"))
            if not isinstance(error, EiokuError):
                raise
            logger.warning("job.abandoned", task_id=str(delivery.message.task_id), error=repr(error))

    async def _tell_meanings(self, stop: asyncio.Event) -> None:
        """Say what queries mean, if that can be done here; also while a job runs."""

        async def embed(text: str, space: Space) -> TextVector:
            child = self._child
            if child is None or not child.is_alive or not child.is_ready:
                raise ServiceUnavailable("the worker that knows what texts mean is starting: try again")
            answer = await child.meaning_of(text, space, meaning.PATIENCE_S - 1)
            if isinstance(answer, NoAnswer):
                raise ServiceUnavailable(answer.reason)
            return answer

        spaces = [kind.space for kind in self._producers if issubclass(kind, Knowing)]
        await asyncio.gather(stop.wait(), *(meaning.serve(self._bus, space, embed, stop) for space in spaces))

    async def _announce(self) -> None:
        """Say what this worker can do, at once and whenever it changes."""
        producers, models = self._producers, self._settings.models
        told: str | None = None
        while True:
            digest = await asyncio.to_thread(digest_of, self.task_types, producers, models)
            if digest != told:
                told = digest
                said = Announced(
                    tenant_id=DEFAULT_TENANT,
                    run_id=uuid4(),
                    correlation_id=uuid4(),
                    at=datetime.now(UTC),
                    worker=self._settings.name,
                    family=self._settings.family,
                    task_types=tuple(kind.task_type for kind in producers),
                    digest=digest,
                )
                await send(self._bus, said, 1)
            await asyncio.sleep(self._settings.look_around_s)


async def _unless(stopping: "asyncio.Task[bool]", awaited: Coroutine[Any, Any, T]) -> T | None:
    """What `awaited` gives; None when the worker is to stop first: it is cancelled then."""
    task = asyncio.create_task(awaited)
    try:
        await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        await asyncio.wait((task,))
