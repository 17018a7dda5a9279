"""The parent's hold on its computing process: start it, give it jobs, hear them, end it."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

import structlog

from application.messages import NoAnswer, Space, TextVector
from domain.errors import EiokuError, OutOfMemory, WorkerCrashed, WorkerDied
from infrastructure.logs import LogStyle, style_of_this_process
from workers.compute import compute
from workers.memory import killed_for_memory
from workers.producer import ModelPlaces, Producer
from workers.protocol import (
    MOST_TOGETHER,
    Aid,
    Answer,
    Assignment,
    PieceDone,
    PieceWanted,
    Pulse,
    Question,
    Ready,
    Report,
    Told,
    Wanted,
    Wire,
)

logger = structlog.get_logger()

END_S = 5.0
PIECE_S = 10.0
"""How long the child may take to answer about pieces: it may have to read on in the file."""


class Child:
    """A computing process. Start it from the main thread: it ends with the thread that started it."""

    def __init__(
        self,
        name: str,
        producers: Sequence[type[Producer]],
        models: ModelPlaces,
        *,
        videos: int = 1,
        folders: tuple[str, ...] | None = None,
    ) -> None:
        """`videos`: how many groups of jobs may be done at once, each of at most `MOST_TOGETHER`.

        `folders`: the only ones in which files are opened; None = all.
        """
        # Never fork: CUDA, OpenMP and gRPC threads do not survive it.
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._questions, asked = context.Pipe()
        self._asking = threading.Lock()
        self._asked = 0
        pipes = [(context.Pipe(duplex=False), Pulse(context)) for _ in range(videos * MOST_TOGETHER)]
        self.wires = [Wire(receiving, pulse) for (receiving, _), pulse in pipes]
        their_wires = [Wire(sending, pulse) for (_, sending), pulse in pipes]
        self._process = context.Process(
            target=compute,
            args=((theirs, asked), their_wires, tuple(producers), models),
            kwargs={
                "folders": folders,
                "parent": os.getpid(),
                "log_style": style_of_this_process() or LogStyle(f"{name}-compute"),
            },
            name=f"{name}-compute",
            daemon=True,
        )
        self._killed_before = killed_for_memory()
        self._process.start()
        for connection in (theirs, asked, *(wire.reports for wire in their_wires)):
            connection.close()
        self.jobs = 0
        """How many attempts it was meant for; also the number of the newest."""
        self._reason: EiokuError | None = None
        self.killer: Slot | None = None
        """Whose job it was ended for."""
        self._free = list(range(len(self.wires)))
        """Wires that no job has."""
        self._at_work: list[Slot] = []
        self.is_ready = False

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can take a job."""
        return self._reason is None and self._process.is_alive()

    async def ready(self) -> None:
        """Wait until the models are loaded; raises WorkerDied."""
        while not self.is_ready:
            self.is_ready = isinstance(await self.listen(self._connection), Ready)

    @contextlib.contextmanager
    def slots(self, count: int) -> "Iterator[tuple[Slot, ...]]":
        """For the block: places for jobs that are done together. Each is to be assigned or left, and heard to its end."""
        group = [Slot(self, self._free.pop(0)) for _ in range(count)]
        for slot in group:
            slot.group = group
        self._at_work += group
        if len(self._at_work) > 1:
            for slot in self._at_work:
                slot.is_shared = True
        try:
            yield tuple(group)
        finally:
            self._at_work = [slot for slot in self._at_work if slot not in group]
            self._free += [slot.wire for slot in group]

    def begin(self, group: "Sequence[Slot]") -> None:
        """Once it is known of every slot whether it has a job: give them to the process; raises WorkerDied."""
        assignments = tuple(slot.assignment for slot in group if slot.assignment is not None)
        if assignments and all(slot.is_settled for slot in group):
            try:
                self._connection.send(assignments)
            except OSError as error:
                raise self._death() from error

    async def listen(self, connection: Connection) -> Any:
        """What comes next; raises as `Slot.hear`."""
        try:
            return await _in_thread(connection)
        except (EOFError, OSError) as error:
            raise self._death() from error

    async def meaning_of(self, text: str, space: Space, timeout_s: float) -> TextVector | NoAnswer:
        """What a query means; the child tells it while its job goes on."""
        try:
            answer: Answer | None = await asyncio.to_thread(
                self._ask, lambda number: Question(number, text, space), timeout_s
            )
        except (EOFError, OSError) as error:
            return NoAnswer(f"the computing process of the worker ended: {error!r}")
        return NoAnswer("the model is not loaded yet, or busy: try again") if answer is None else answer.answer

    async def to_share(self, run_id: UUID) -> tuple[bytes, int] | None:
        """(terms, pieces at once) for who helps with the run; None when there is nothing to help with."""
        shared: tuple[bytes, int] | None = await self._about_pieces(lambda number: Wanted(number, run_id))
        return shared

    async def piece(self, run_id: UUID) -> bytes | None:
        """A piece of the run for a helper; None when there is none."""
        piece: bytes | None = await self._about_pieces(lambda number: PieceWanted(number, run_id))
        return piece

    async def piece_done(self, run_id: UUID, found: bytes) -> None:
        """What a helper found."""
        await self._about_pieces(lambda number: PieceDone(number, run_id, found))

    async def _about_pieces(self, question: Callable[[int], Wanted | PieceWanted | PieceDone]) -> Any:
        try:
            told: Told | None = await asyncio.to_thread(self._ask, question, PIECE_S)
        except (EOFError, OSError):  # it ended; who has the job will notice
            return None
        return None if told is None else told.body

    def _ask(self, question: Callable[[int], Any], timeout_s: float) -> Any:
        """The answer, None when it does not come in time; raises EOFError or OSError when the child has ended."""
        until = time.monotonic() + timeout_s
        if not self._asking.acquire(timeout=timeout_s):
            return None
        try:
            self._asked += 1
            self._questions.send(question(self._asked))
            while self._questions.poll(max(0.0, until - time.monotonic())):
                answer: Answer | Told = self._questions.recv()
                if answer.number == self._asked:  # not one that came too late for who asked before
                    return answer
        finally:
            self._asking.release()
        return None

    def kill(self, reason: EiokuError, killer: "Slot | None" = None) -> None:
        """End it now; who listens gets `reason`."""
        if self._reason is None:
            self._reason, self.killer = reason, killer
        self._process.kill()

    def close(self) -> None:
        """End it and give back what it held."""
        self.kill(WorkerDied("the worker is stopping"))
        self._process.join(END_S)
        for connection in (self._connection, *(wire.reports for wire in self.wires)):
            connection.close()
        with self._asking:  # who asks has heard by now that nobody is there
            self._questions.close()
        with contextlib.suppress(
            ValueError
        ):  # a process that does not even end when killed hangs in a driver
            self._process.close()

    def _death(self) -> EiokuError:
        if self._reason is not None:
            return self._reason
        self._process.join(END_S)
        self._reason = death_of(self._process.exitcode, killed_for_memory() - self._killed_before)
        return self._reason


def death_of(exit_code: int | None, killed_for_memory: int) -> EiokuError:
    """Why a process ended that nobody here has ended. `killed_for_memory`: how many the kernel killed meanwhile."""
    if exit_code is None or exit_code >= 0:
        return WorkerCrashed(f"the computing process ended with exit code {exit_code}")
    name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else "unknown"
    how = f"the computing process was ended by signal {-exit_code} ({name})"
    match -exit_code:
        case signal.SIGKILL if killed_for_memory:
            return OutOfMemory(f"{how}: the kernel had no memory left")
        case signal.SIGKILL | signal.SIGTERM | signal.SIGINT | signal.SIGHUP | signal.SIGQUIT:
            return WorkerDied(how)
        case _:
            return WorkerCrashed(f"{how}: native code of a library crashed")


class Slot:
    """One job's hold on the process."""

    def __init__(self, child: Child, wire: int) -> None:
        self.child, self.wire = child, wire
        self.group: Sequence[Slot] = (self,)
        """Those that are done together, this one among them."""
        self.is_shared = False
        """Whether other jobs were in the process meanwhile."""
        child.jobs += 1
        self.number = child.jobs
        """Of this attempt alone, also when nothing is computed: a late cancellation must not hit the next one."""
        self.pulse = child.wires[wire].pulse
        self.assignment: Assignment | Aid | None = None
        self.is_settled = False
        """Whether it is known if there is anything to compute."""
        self.listens_since: float | None = time.monotonic()
        """Since when we have waited for the job's next word; None while it waits for us."""

    def assign(self, assignment: Assignment | Aid) -> None:
        """Give it a job, which begins when all that are to be done together are there; raises WorkerDied."""
        self.pulse.reset()
        self.assignment, self.is_settled = assignment, True
        self.child.begin(self.group)

    def leave(self) -> None:
        """The job has ended; those that are to be done together wait for it no longer. Raises WorkerDied."""
        if not self.is_settled:
            self.is_settled = True
            self.child.begin(self.group)

    async def hear(self) -> Report:
        """The job's next word. While nobody listens it stops when the pipe is full, so nothing piles up.

        Raises:
            WorkerDied: the process ended; or the reason that `kill` was given.
        """
        self.listens_since = time.monotonic()
        try:
            report: Report = await self.child.listen(self.child.wires[self.wire].reports)
        finally:
            self.listens_since = None
        return report

    def kill(self, reason: EiokuError) -> None:
        """End the process because of this job."""
        self.child.kill(reason, self)

    @property
    def has_died_of_others(self) -> bool:
        """Whether the process ended, and maybe not because of this job: others were done together with it."""
        return self.is_shared and not self.child.is_alive and self.child.killer is not self


async def _in_thread(connection: Connection) -> Any:
    """One object, received in a thread: a large one takes several reads."""
    receiving = asyncio.get_running_loop().run_in_executor(None, connection.recv)
    try:
        return await asyncio.shield(receiving)
    except asyncio.CancelledError:
        # The thread ends when the child does; what it gets until then is nobody's.
        receiving.add_done_callback(lambda done: done.exception())
        raise
