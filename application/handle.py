"""The one handler of all commands: load, decide, append, and again when somebody was quicker."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any
from uuid import UUID

import structlog

from application.ports import EventLog, LogItem
from domain import capability, content, face_cluster, queue, run, scan, selection, task, video
from domain.errors import ConcurrencyConflict, Conflict, IdTaken, NotFound
from domain.event import Command, DomainEvent

logger = structlog.get_logger()

TRIES = 5
"""Conflicts come from two writers on one stream; five in a row mean something is wrong."""

STREAMS: dict[type[DomainEvent], ModuleType] = {}
"""Base class of a stream's events → its module."""
_BASES: dict[str, type[DomainEvent]] = {}
"""Name of a stream's module → base class of its events."""
for _module, _base in (
    (video, video.VideoEvent),
    (task, task.TaskEvent),
    (run, run.RunEvent),
    (selection, selection.SelectionEvent),
    (content, content.ContentEvent),
    (scan, scan.ScanEvent),
    (capability, capability.CapabilityEvent),
    (face_cluster, face_cluster.FaceClusterEvent),
    (queue, queue.QueueEvent),
):
    STREAMS[_base] = _module
    _BASES[_module.__name__] = _base
SHARED = frozenset({capability, queue})
"""Streams that serve all tenants, as the workers do."""
_BY_MODULE_NAME = {module.__name__: module for module in STREAMS.values()}


def decide(log: EventLog, *commands: Command) -> Sequence[DomainEvent]:
    """What `commands` cause on the present state of their streams, each seeing what those before it caused.

    A stream of another kind or tenant is not there for a command. One that would begin it is refused: the id is taken.
    """
    states: dict[UUID, Any] = {}
    foreign: set[UUID] = set()
    events: list[DomainEvent] = []
    for command in commands:
        stream_id, stream = command.stream_id, _BY_MODULE_NAME[type(command).__module__]
        if stream_id not in states:
            history = log.load(stream_id)
            states[stream_id] = None
            if all(_is_for(event, stream, command) for event in history):
                states[stream_id] = _folded(stream, history)
            else:
                foreign.add(stream_id)
        for event in stream.decide(states[stream_id], command):
            if stream_id in foreign:
                raise IdTaken(stream_id)
            states[stream_id] = stream.evolve(states[stream_id], event)
            events.append(event)
    return events


def _is_for(event: DomainEvent, stream: ModuleType, command: Command) -> bool:
    is_shared = stream in SHARED
    return isinstance(event, _BASES[stream.__name__]) and (
        is_shared or event.tenant_id == command.meta.tenant_id
    )


def present(log: EventLog, stream: ModuleType, stream_id: UUID) -> Any:
    """The present state of a stream; None when there is none, or when the id names a stream of another kind."""
    history = log.load(stream_id)
    is_of_kind = all(isinstance(event, _BASES[stream.__name__]) for event in history)
    return _folded(stream, history) if is_of_kind else None


def _folded(stream: ModuleType, history: Sequence[DomainEvent]) -> Any:
    state: Any = None
    for event in history:
        state = stream.evolve(state, event)
    return state


def handle(log: EventLog, *commands: Command) -> int:
    """Carry out commands, all or none; the position at which their effect can be read.

    Raises:
        Refused, NotFound, Conflict: what `decide` objects to.
        ConcurrencyConflict: somebody was quicker on the same stream, `TRIES` times.
    """
    return store(log, lambda: decide(log, *commands))


def wish(log: EventLog, *commands: Command) -> None:
    """Carry out, unless it is so already or the thing is gone."""
    try:
        handle(log, *commands)
    except (Conflict, NotFound) as refusal:
        logger.debug("policy.refused", reason=str(refusal))


def store(log: EventLog, items: Callable[[], Sequence[LogItem]]) -> int:
    """Append what `items` decides, deciding again when a stream grew meanwhile; the position to read at."""
    for left in reversed(range(TRIES)):
        decided = items()
        if not decided:
            return log.head()
        try:
            return log.append(decided)
        except ConcurrencyConflict:
            if not left:
                raise
    raise AssertionError
