"""The API's hold on its decoding processes: bounded in number, memory, time and in those who wait."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Self

import structlog

from api.decoding.jobs import HEAD_BYTES, AnyJob, Done, Failed, answer_of, packed
from domain.errors import (
    EiokuError,
    JobTimedOut,
    MediaMissing,
    MediaUnreadable,
    ServiceUnavailable,
    StorageFailed,
    WorkerDied,
)

log = structlog.get_logger()

GIB = 1 << 30
MOST_BYTES = 3 * GIB
"""Memory of a process. A clip of 4K takes 1 GiB with 8 threads."""
MOST_WAITING = 32
"""More are refused at once: the last of them would wait for minutes."""
WAIT_S = 30.0
MOST_JOBS = 200
"""Of a process: decoders leak."""
_ERRORS: dict[str, type[EiokuError]] = {kind.code: kind for kind in (MediaMissing, MediaUnreadable, StorageFailed)}
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}


class _Decoder:
    """One process."""

    def __init__(self) -> None:
        self.jobs = 0
        self.connection, theirs = socket.socketpair()
        self.connection.setblocking(False)
        with theirs:
            arguments = [str(theirs.fileno()), str(os.getpid()), str(MOST_BYTES)]
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "api.decoding.process", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "MALLOC_ARENA_MAX": "4"},
                start_new_session=True,
            )

    async def answer(self, job: AnyJob) -> Done | Failed | None:
        """None: the process has ended."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self.connection, packed(job))
            size = int.from_bytes(await self._received(HEAD_BYTES))
            return answer_of(await self._received(size))
        except (EOFError, ConnectionError):
            return None

    async def _received(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = await asyncio.get_running_loop().sock_recv(self.connection, size - len(parts))
            if not part:
                raise EOFError
            parts += part
        return parts

    async def end(self) -> int:
        """Kill it; its exit code. Waits as long as it takes: one that hangs in the kernel keeps its place."""
        self.process.kill()
        self.connection.close()
        while (code := self.process.poll()) is None:  # noqa: ASYNC110 - a thread that waits could hang with it
            await asyncio.sleep(0.01)
        return code


class Decoders:
    """Processes that are kept for the next job. A context manager, for the event loop that it is entered in."""

    def __init__(self, most: int) -> None:
        """`most`: processes, and so jobs at a time."""
        self._places = asyncio.Semaphore(most)
        self._idle: list[_Decoder] = []
        self._waiting = 0

    async def do(self, job: AnyJob, *, timeout_s: float) -> Done:
        """Have a job done. When the caller is cancelled, or the time is up, the process is ended.

        Raises:
            MediaMissing, MediaUnreadable, StorageFailed: as the decoders say.
            JobTimedOut: it took longer than `timeout_s`.
            ServiceUnavailable: too many wait already, or no place came free.
            WorkerDied: the process was ended by somebody else: the kernel, short of memory.
        """
        async with self._place():
            while self._idle and self._idle[-1].process.poll() is not None:
                self._idle.pop().connection.close()
            decoder = self._idle.pop() if self._idle else _Decoder()
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await decoder.answer(job)
            except TimeoutError as error:
                await self._replace(decoder)
                raise JobTimedOut(f"{job.path} was not decoded within {timeout_s:g} s") from error
            except BaseException:
                # Shielded: the place is free once the process is gone, also when we are cancelled again.
                await asyncio.shield(self._replace(decoder))
                raise
            if answer is None:
                raise _death(job, await self._replace(decoder))
            decoder.jobs += 1
            if decoder.jobs < MOST_JOBS:
                self._idle.append(decoder)
            else:
                await self._replace(decoder)
        if isinstance(answer, Failed):
            log.info("decoding.failed", path=str(job.path), code=answer.code, error=answer.error)
            raise _ERRORS.get(answer.code, MediaUnreadable)(answer.error)
        return answer

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._waiting >= MOST_WAITING:
            raise ServiceUnavailable("too many clips and pictures are being made; try again")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await self._places.acquire()
        except TimeoutError as error:
            raise ServiceUnavailable("too many clips and pictures are being made; try again") from error
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    async def _replace(self, decoder: _Decoder) -> int:
        """End it; a fresh one loads its libraries while nobody waits."""
        code = await decoder.end()
        self._idle.insert(0, _Decoder())
        return code

    async def __aenter__(self) -> Self:
        """Processes start when they are first needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End them."""
        for decoder in self._idle:
            await decoder.end()
        self._idle.clear()


def _death(job: AnyJob, code: int) -> EiokuError:
    if -code in _CRASHES:
        return MediaUnreadable(f"{job.path} crashed the decoder (signal {-code})")
    return WorkerDied(f"the process that decoded {job.path} was ended ({code}); if memory is short, try again later")
