"""Stream queue: whether the waiting tasks of one type are handed to workers, by class. What runs already goes on.

A queue serves all tenants, as its workers do.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import assert_never
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from domain.event import Command, DomainEvent, head
from domain.task import PRIORITIES, Priority

BY_OTHERS = "paused by the operator"
"""All that a tenant is told of a pause that is another's."""


def queue_id_of(task_type: str) -> UUID:
    """The stream of the queue of one task type."""
    return uuid5(NAMESPACE_URL, f"eioku:queue:{task_type}")


class QueueEvent(DomainEvent, frozen=True, kw_only=True):
    """Base of the stream's events."""

    task_type: str
    priorities: tuple[Priority, ...]
    """The classes that it is about; never empty."""


class QueuePaused(QueueEvent, frozen=True, kw_only=True):
    """Waiting tasks are held back until somebody resumes the queue."""

    TOPIC = "queue.paused"
    reason: str
    """For people; may be empty."""


class QueueResumed(QueueEvent, frozen=True, kw_only=True):
    """Waiting tasks are handed out again."""

    TOPIC = "queue.resumed"


EVENTS: tuple[type[QueueEvent], ...] = (QueuePaused, QueueResumed)


class PauseQueue(Command, frozen=True, kw_only=True):
    """Hold back the waiting tasks of some classes."""

    task_type: str
    priorities: tuple[Priority, ...] = PRIORITIES
    reason: str = ""


class ResumeQueue(Command, frozen=True, kw_only=True):
    """Hand out the waiting tasks of some classes again."""

    task_type: str
    priorities: tuple[Priority, ...] = PRIORITIES


QueueCommand = PauseQueue | ResumeQueue


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Why tasks wait although workers may be free."""

    reason: str
    by: str
    """Who paused it; `system:off-peak` for the window of the settings."""
    since: datetime | None = None
    """None for the off-peak window."""
    until: datetime | None = None
    """When it ends by itself; None = when somebody resumes it."""


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What is paused now, by class."""

    version: int
    paused: Mapping[Priority, Pause] = {}
    paused_by: Mapping[Priority, str] = {}
    """The tenant whose people paused it."""

    def seen_by(self, tenant_id: str) -> dict[Priority, Pause]:
        """What is paused, as a tenant may see it: what people of others wrote is not for it."""
        return {
            name: pause
            if self.paused_by.get(name) == tenant_id
            else msgspec.structs.replace(pause, by="operator", reason=BY_OTHERS)
            for name, pause in self.paused.items()
        }


def evolve(state: Queue | None, event: QueueEvent) -> Queue:
    """The state after `event`."""
    before = {} if state is None else dict(state.paused)
    by = {} if state is None else dict(state.paused_by)
    match event:
        case QueuePaused():
            pause = Pause(reason=event.reason, by=event.actor, since=event.recorded_at)
            paused = before | dict.fromkeys(event.priorities, pause)
            by |= dict.fromkeys(event.priorities, event.tenant_id)
        case QueueResumed():
            paused = {name: pause for name, pause in before.items() if name not in event.priorities}
        case _:
            raise TypeError(event)
    return Queue(version=event.originator_version, paused=paused, paused_by=by)


def decide(state: Queue | None, command: QueueCommand) -> Sequence[QueueEvent]:
    """The event that `command` causes, for the classes that it changes; none when it is so already."""
    now = state or Queue(version=0)
    base = head(command, now.version + 1) | {"task_type": command.task_type}
    match command:
        case PauseQueue():
            new = tuple(name for name in PRIORITIES if name in command.priorities and name not in now.paused)
            return [QueuePaused(**base, priorities=new, reason=command.reason)] if new else []
        case ResumeQueue():
            held = tuple(name for name in PRIORITIES if name in command.priorities and name in now.paused)
            return [QueueResumed(**base, priorities=held)] if held else []
        case _:
            assert_never(command)
