"""How far running tasks are, as workers told last: nothing of it is stored, each API process listens for itself."""

import time
from collections import OrderedDict
from typing import TypeVar
from uuid import UUID

import msgspec

from application.messages import Progress
from infrastructure.nats import progress
from infrastructure.nats.connection import Bus
from infrastructure.nats.subjects import token
from projectors.tasks import TaskView

Task = TypeVar("Task", bound=TaskView)
KEPT_S = 30.0
"""Workers repeat themselves every five seconds; who says nothing for so long has ended or is gone."""
MOST = 10_000
"""Tasks that run at once and are remembered."""


class Board:
    """The newest word about each task."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, UUID], tuple[float, Progress]] = OrderedDict()
        """By the tenant's token and task."""

    async def listen(self, bus: Bus) -> None:
        """Note what comes, for as long as the connection lasts."""
        await progress.listen(bus, self.note)

    def note(self, tenant: str, told: Progress) -> None:
        """Remember what was told of a task of this tenant (its token), and forget what is old."""
        now, whose = time.monotonic(), (tenant, told.task_id)
        self._told.pop(whose, None)
        self._told[whose] = now, told
        while self._told:
            at, _ = next(iter(self._told.values()))
            if now - at <= KEPT_S and len(self._told) <= MOST:
                return
            self._told.popitem(last=False)

    def seen(self, tenant_id: str, task: Task) -> Task:
        """The tenant's task with its progress, if it runs and something is known of this very attempt."""
        at, told = self._told.get((token(tenant_id), task.task_id), (0.0, None))
        if told is None or task.status != "running" or told.run_id != task.run_id or time.monotonic() - at > KEPT_S:
            return task
        return msgspec.structs.replace(task, progress=told)
