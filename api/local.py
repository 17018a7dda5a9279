"""Work on files of this machine that a client waits for: in turn, and ended when the client goes away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from threading import Event
from typing import TypeVar

from api.request import Call
from domain.errors import JobCancelled, ServiceUnavailable
from infrastructure.media.source_cache import OnBytes, localised

FETCHES = asyncio.Semaphore(2)
"""Files that lie elsewhere and are copied here at a time, for people who wait."""
T = TypeVar("T")


@asynccontextmanager
async def here(request: Call, source: str) -> AsyncIterator[Path]:
    """The source as a file, for the block. One that lies elsewhere is copied first, unless a copy is here already."""
    if "://" not in source:
        yield Path(source)
        return

    def fetch() -> Path:
        return held.enter_context(localised(source, request.services.sources, _unless(stop)))

    with ExitStack() as held:
        stop = Event()
        async with turn(FETCHES, "too many files are being fetched; try again"):
            path = await while_connected(request, fetch, stop)
        yield path


@asynccontextmanager
async def turn(places: asyncio.Semaphore, refusal: str) -> AsyncIterator[None]:
    """One of the places; raises ServiceUnavailable when none is free for long."""
    try:
        async with asyncio.timeout(30):
            await places.acquire()
    except TimeoutError as error:
        raise ServiceUnavailable(refusal) from error
    try:
        yield
    finally:
        places.release()


async def while_connected(request: Call, work: Callable[[], T], stop: Event) -> T:
    """What `work` gives, done in a thread. When the client goes away `stop` is set; the thread has ended in any case."""
    working = asyncio.create_task(asyncio.to_thread(work))
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        gone.cancel()
        await asyncio.wait({working})
    return working.result()


def _unless(stop: Event) -> OnBytes:
    def check(_done: int, _total: int) -> None:
        if stop.is_set():
            raise JobCancelled("nobody waits for it any more")

    return check


async def _disconnected(request: Call) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
