"""How far running tasks are, as workers told last: nothing of it is stored, each API process listens for itself."""

import time
from collections import OrderedDict
from typing import TypeVar
from uuid import UUID

import msgspec

from application.messages import Progress
from infrastructure.nats import progress
from infrastructure.nats.connection import Bus
from projectors.tasks import TaskView

Task = TypeVar("Task", bound=TaskView)
KEPT_S = 30.0
"""Workers repeat themselves every five seconds; who says nothing for so long has ended or is gone."""
MOST = 10_000
"""Tasks that run at once and are remembered."""


class Board:
    """The newest word about each task."""

    def __init__(self) -> None:
        self._told: OrderedDict[UUID, tuple[float, Progress]] = OrderedDict()

    async def listen(self, bus: Bus) -> None:
        """Note what comes, for as long as the connection lasts."""
        await progress.listen(bus, self.note)

    def note(self, told: Progress) -> None:
        """Remember it, and forget what is old."""
        now = time.monotonic()
        self._told.pop(told.task_id, None)
        self._told[told.task_id] = now, told
        while self._told:
            at, _ = next(iter(self._told.values()))
            if now - at <= KEPT_S and len(self._told) <= MOST:
                return
            self._told.popitem(last=False)

    def seen(self, task: Task) -> Task:
        """The task with its progress, if it runs and something is known of this very attempt."""
        at, told = self._told.get(task.task_id, (0.0, None))
        if told is None or task.status != "running" or told.run_id != task.run_id or time.monotonic() - at > KEPT_S:
            return task
        return msgspec.structs.replace(task, progress=told)
