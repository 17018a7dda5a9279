"""What the relay role runs: relay, policies, scans, dead letters, reconciler. One process has them, others stand by."""

import asyncio
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID

import psycopg
import structlog
from psycopg import AsyncConnection

from application import faces, policies
from application.follow import Follower
from application.gate import pauses
from application.reconcile import Broker, Reconciler
from application.scan import Scanner
from domain.errors import ServiceUnavailable
from eioku import answers, sweep
from eioku.bootstrap import database_url, now, pictures
from eioku.parking import park_record
from eioku.pipeline_file import load_plans
from eioku.settings import Settings
from infrastructure.event_store.log import CHANNEL, PostgresEventLog
from infrastructure.media.fingerprint import fingerprint
from infrastructure.media.opening import ROOTS
from infrastructure.nats.advisories import move_advisories
from infrastructure.nats.cancel import call_off
from infrastructure.nats.commands import pending_runs, pending_tasks
from infrastructure.nats.connection import Bus
from infrastructure.nats.gates import run_gates
from infrastructure.nats.relay import run_relay
from infrastructure.nats.streams import declare
from infrastructure.postgres.connections import connect, connect_async
from infrastructure.postgres.listen import Listener
from projectors.task_index import PostgresTaskIndex
from projectors.video_index import PostgresVideoIndex

log = structlog.get_logger()

LOCK = 0x656F6B75_0002
"""Advisory lock of the one process that reacts ("eoku", 2)."""
_STANDBY_S = 1.0
_STILL_S = 5.0


async def run(settings: Settings, event_log: PostgresEventLog, bus: Bus, stop: asyncio.Event) -> None:
    """React until `stop` is set.

    Raises:
        ServiceUnavailable: the place was lost, with the Postgres session that held it: start again.
    """
    url = database_url(settings)
    async with _place(url, stop) as lost:
        if lost is None:
            return
        halt = threading.Event()
        broker = Broker(
            declare=functools.partial(declare, bus, replicas=settings.nats_replicas),
            waiting=functools.partial(pending_tasks, bus),
            unread=functools.partial(pending_runs, bus),
            call_off=functools.partial(call_off, bus),
        )
        reconciler = Reconciler(event_log, broker, open_tasks=functools.partial(_open_tasks, url), clock=now)
        # Scans read files: only what lies beneath these folders.
        videos, roots = PostgresVideoIndex(url), (*settings.media_roots, str(settings.data / "uploads"))
        ROOTS.folders = roots
        follower = Follower(
            policies.FOLLOWER,
            event_log,
            functools.partial(
                policies.react,
                event_log,
                clock=now,
                tasks=PostgresTaskIndex(url),
                videos=videos,
                roots=roots,
                plans=load_plans(settings),
            ),
            kinds=policies.TOPICS,
            park=functools.partial(park_record, url, policies.FOLLOWER),
        )
        clusterer = Follower(
            faces.FOLLOWER,
            event_log,
            faces.FaceClusterer(event_log, clock=now).react,
            kinds=faces.KINDS,
            park=functools.partial(park_record, url, faces.FOLLOWER),
        )
        sweeper = Follower(
            sweep.FOLLOWER,
            event_log,
            functools.partial(sweep.sweep, event_log, url, pictures(settings)),
            kinds=sweep.KINDS,
            park=functools.partial(park_record, url, sweep.FOLLOWER),
        )
        scanner = Scanner(
            event_log,
            clock=now,
            videos=videos,
            roots=roots,
            fingerprint=_fingerprint,
            is_allowed=functools.partial(_is_allowed, settings.media_roots),
        )
        work = [
            asyncio.ensure_future(one)
            for one in (
                run_relay(event_log, bus, url, stop, deployment=settings.deployment),
                move_advisories(event_log, bus, stop),
                reconciler.run(stop),
                run_gates(event_log, bus, lambda: pauses(event_log, settings.window(), now()), stop),
                asyncio.to_thread(_waiting, follower.run, url, halt),
                asyncio.to_thread(_waiting, clusterer.run, url, halt),
                asyncio.to_thread(_waiting, sweeper.run, url, halt),
                asyncio.to_thread(_waiting, scanner.run, url, halt),
                answers.run(url, bus, stop),
                _stopped_or_lost(stop, lost),
            )
        ]
        done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        halt.set()
        await asyncio.wait(work)
        for one in (*done, *work):
            one.result()  # raises what ended it


async def _stopped_or_lost(stop: asyncio.Event, lost: asyncio.Future[str]) -> None:
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((stopped, lost), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if lost.done():
        raise ServiceUnavailable(f"the Postgres session that held our place is gone: {lost.result()}")


def _waiting(
    run_in_thread: Callable[[Callable[[], object], threading.Event], None], url: str, halt: threading.Event
) -> None:
    with Listener(url, CHANNEL) as news:
        run_in_thread(news.wait, halt)


@asynccontextmanager
async def _place(url: str, stop: asyncio.Event) -> AsyncIterator[asyncio.Future[str] | None]:
    """Be the one that reacts, on a session that holds the lock; None when stopped before. The future: it is lost."""
    try:
        connection = await connect_async(url, application_name="eioku reactions")
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(f"no Postgres: {error}") from error
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    watch: asyncio.Task[None] | None = None
    try:
        while not await _has_lock(connection):
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _STANDBY_S)
            if stop.is_set():
                yield None
                return
        watch = asyncio.create_task(_watch(connection, lost))
        yield lost
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.wait((watch,))
        await connection.close()


async def _has_lock(connection: AsyncConnection) -> bool:
    try:
        row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])).fetchone()
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(f"Postgres is gone: {error}") from error
    return bool(row and row[0])


async def _watch(connection: AsyncConnection, lost: asyncio.Future[str]) -> None:
    while True:
        await asyncio.sleep(_STILL_S)
        try:
            await connection.execute("SELECT 1")
        except psycopg.Error as error:
            lost.set_result(str(error))
            return


def _open_tasks(url: str) -> Collection[UUID]:
    with connect(url, application_name="eioku reconciler", search_path="read") as connection:
        return [
            task_id
            for (task_id,) in connection.execute("SELECT task_id FROM tasks WHERE status IN ('pending', 'running')")
        ]


def _fingerprint(path: Path, on_bytes: Callable[[int, int], None]) -> tuple[str, int]:
    return fingerprint(path, on_bytes=on_bytes)


def _is_allowed(roots: Collection[str], path: str) -> bool:
    """Whether a real path lies under one of the media roots."""
    folders = [os.path.realpath(root) for root in roots if "://" not in root]
    return any(Path(path).is_relative_to(folder) for folder in folders)
