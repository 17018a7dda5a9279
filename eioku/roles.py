"""The roles: what each process of a deployment runs.

All end on SIGTERM or SIGINT, and when their connection is lost for good: whoever started them starts them again.
"""

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import structlog

from domain.errors import InvalidParameter, ServiceUnavailable
from domain.pipeline import Family
from eioku import bootstrap
from eioku.liveness import Heart
from eioku.settings import Settings, worker_families
from infrastructure.logs import log_loop_errors

log = structlog.get_logger()

_GRACE_S = 30.0
"""How long after the signal a role may take to end before it is ended: nothing may outlive `eioku up`."""
_M_ARENA_MAX = -8
"""As in glibc's malloc.h."""


def api(settings: Settings, *, fd: int | None = None) -> None:
    """Serve the REST API, on the open socket `fd` if given."""
    bootstrap.start_logging(settings, "api")
    from api.server import make_server

    with bootstrap.event_log(settings) as event_log:
        server = make_server(
            bootstrap.api_services(settings, event_log), host=settings.host, port=settings.port
        )
        _end_in_time()
        sockets = None if fd is None else [socket.socket(fileno=fd)]
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(_beating(server.serve(sockets=sockets)))


def relay(settings: Settings) -> None:
    """Follow the log: commands to workers, events to others, reactions; compare the queue with the log; scan folders."""
    bootstrap.start_logging(settings, "relay")
    from eioku import reactions

    with bootstrap.event_log(settings, pool_size=10) as event_log:
        _run_async(settings, "relay", functools.partial(reactions.run, settings, event_log))


def ingester(settings: Settings) -> None:
    """Write what workers send into the log."""
    bootstrap.start_logging(settings, "ingester")
    from application.ingest_results import apply_result
    from eioku import parking
    from infrastructure.nats.connection import Bus
    from infrastructure.nats.results import ingest

    with bootstrap.event_log(settings, pool_size=6) as event_log:

        async def run(bus: Bus, stop: asyncio.Event) -> None:
            park = functools.partial(parking.park_result, bootstrap.database_url(settings))
            await ingest(bus, functools.partial(apply_result, event_log), stop, park=park)

        _run_async(settings, "ingester", run)


def projector(settings: Settings) -> None:
    """Keep the read models current."""
    bootstrap.start_logging(settings, "projector")
    _share_arenas()
    from projectors.renewal import renew
    from projectors.runner import run_projections

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _end_in_time()
    renewal = threading.Thread(target=renew, args=(bootstrap.database_url(settings), stop), name="renewal")
    renewal.start()
    run_projections(bootstrap.database_url(settings), stop, beat=Heart().beat)
    renewal.join()


def _share_arenas() -> None:
    """Let the threads of this process allocate from two arenas. With one each, as glibc has it, what every read model has
    once held stays with its thread: the process grew by 24 MB with the second million artifacts, by 2 with two arenas.
    """
    with contextlib.suppress(AttributeError):  # not every C library has it
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def worker(settings: Settings, *, family: str | None, tasks: str | None) -> None:
    """Work on tasks of one family, or on some of its task types.

    Raises:
        InvalidParameter: neither says which family, or the task types belong to several.
    """
    wanted = worker_families(",".join(part for part in (family, tasks) if part) or "none")
    if tasks and family:  # `light,scene_detection` would mean all of light
        wanted = worker_families(tasks)
    if len(wanted) != 1 or (family and family not in wanted):
        raise InvalidParameter("EIOKU_WORKER_TASKS", "name one --family, or --tasks of one family")
    ((chosen, task_types),) = wanted.items()
    bootstrap.start_logging(settings, f"worker-{chosen}")
    from infrastructure.nats.connection import Bus
    from workers.runner import WorkerSettings, run_worker

    own = WorkerSettings(
        name=f"{socket.gethostname()}-{chosen}-{os.getpid()}",
        family=cast("Family", chosen),
        nats_url=bootstrap.nats_url(settings),
        models=bootstrap.model_places(settings),
        sources=bootstrap.source_cache(settings),
        pictures=bootstrap.pictures(settings),
        folders=bootstrap.media_folders(settings),
        task_types=task_types,
        videos=bootstrap.videos_together(settings),
    )

    async def run(_: Bus, stop: asyncio.Event) -> None:
        await run_worker(own, stop)

    _run_async(settings, f"worker-{chosen}", run)


def _run_async(
    settings: Settings, name: str, run: Callable[[Any, asyncio.Event], Awaitable[None]]
) -> None:
    """Run `run(bus, stop)` until it returns, a signal comes or the bus is closed for good."""
    from infrastructure.nats.connection import connect
    from infrastructure.nats.streams import declare

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        log_loop_errors(loop)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with await connect(bootstrap.nats_url(settings), name=f"eioku-{name}") as bus:
            await declare(bus, replicas=settings.nats_replicas)
            work = asyncio.ensure_future(run(bus, stop))
            await asyncio.wait((work, bus.closed), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                raise ServiceUnavailable(f"the connection to NATS is closed for good: {bus.closed.result()}")
            await work

    _end_in_time()
    asyncio.run(_beating(main()))


async def _beating(work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and tell whoever keeps this process running that its event loop moves."""
    beating = asyncio.create_task(Heart().keep_beating())
    try:
        await work
    finally:
        beating.cancel()


def _end_in_time() -> None:
    """End this process hard when it does not end by itself in time once its parent is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        time.sleep(_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
