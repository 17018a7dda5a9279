"""Work on files that others own, in threads of its own: a disk that does not answer keeps those, and nothing else."""

import asyncio
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from domain.errors import ServiceUnavailable
from infrastructure.media.opening import open_beneath

THREADS = 8
"""For each root, so that the files of the others are still served when one disk hangs."""
ANSWER_S = 15.0
"""How long a disk may take: one that wakes up needs some seconds."""
T = TypeVar("T")


class Disks:
    """The disks below the folders in which files may be read."""

    def __init__(self, folders: Iterable[str | Path]) -> None:
        self.folders = tuple(str(folder) for folder in folders if "://" not in str(folder))
        self._pools: dict[str, ThreadPoolExecutor] = {}

    async def open(self, path: Path) -> int:
        """A descriptor of the regular file, beneath one of the folders, wherever its name leads by now.

        Raises:
            MediaMissing: as `open_beneath`.
            ServiceUnavailable: the disk does not answer.
        """
        return await self.do(path, partial(open_beneath, path, self.folders), undo=os.close)

    async def check(self, path: Path) -> None:
        """Raises as `open`, for what is opened elsewhere: a disk that does not answer must not cost a process."""
        os.close(await self.open(path))

    async def do(self, path: Path, work: Callable[[], T], *, undo: Callable[[T], None] = lambda _: None) -> T:
        """What `work` gives, which concerns `path`; `undo` takes back what comes too late.

        Raises:
            ServiceUnavailable: the disk does not answer.
        """
        future = self._pool_of(path).submit(work)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await asyncio.shield(asyncio.wrap_future(future))
        except TimeoutError as error:
            if not future.cancel():
                future.add_done_callback(partial(_undo, undo))
            raise ServiceUnavailable(f"the disk of {path} does not answer within {ANSWER_S:g} s") from error
        except asyncio.CancelledError:
            if not future.cancel():
                future.add_done_callback(partial(_undo, undo))
            raise

    def close(self) -> None:
        """Let the threads end; one that hangs is not waited for."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def _pool_of(self, path: Path) -> ThreadPoolExecutor:
        root = next((folder for folder in self.folders if path.is_relative_to(folder)), "")
        if root not in self._pools:
            self._pools[root] = ThreadPoolExecutor(THREADS, thread_name_prefix=f"disk {root}")
        return self._pools[root]


def _undo(undo: Callable[[T], None], late: Future[T]) -> None:
    if not late.cancelled() and late.exception() is None:
        with suppress(OSError):
            undo(late.result())
