"""What a read model of tasks knows, made from the log up to some position: for tests of rules that need no database."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from application.ports import EventLog
from domain import task
from domain.task import Task, TaskEvent, TaskRequested
from domain.video import VideoDeleted

OPEN = ("pending", "running")


class MemoryTasks:
    """`application.ports.TaskIndex` that knows the log up to `until`; None = all of it."""

    def __init__(self, log: EventLog, until: int | None = None) -> None:
        self._log, self.until = log, until

    def of_video(self, video_id: UUID) -> tuple[int, Sequence[UUID]]:
        position, tasks = self._known()
        return position, [task_id for task_id, state in tasks.items() if state.video_id == video_id]

    def unavailable(self, task_types: Sequence[str]) -> tuple[int, Sequence[UUID]]:
        position, tasks = self._known()
        return position, [
            task_id
            for task_id, state in tasks.items()
            if state.status == "unavailable" and state.task_type in task_types
        ]

    def _known(self) -> tuple[int, dict[UUID, Task]]:
        position = self._log.head() if self.until is None else min(self.until, self._log.head())
        tasks: dict[UUID, Task] = {}
        deleted: set[Any] = set()
        for record in self._log.read(0, limit=10**9):
            event = record.item
            if record.position > position:
                break
            if isinstance(event, VideoDeleted):
                deleted.add(event.originator_id)
                for task_id in [t for t, s in tasks.items() if s.video_id == event.originator_id and s.status not in OPEN]:
                    del tasks[task_id]
            elif isinstance(event, TaskEvent) and (isinstance(event, TaskRequested) or event.originator_id in tasks):
                state = task.evolve(tasks.get(event.originator_id), event)
                tasks[event.originator_id] = state
                if state.video_id in deleted and state.status not in OPEN:
                    del tasks[event.originator_id]
        return position, tasks
