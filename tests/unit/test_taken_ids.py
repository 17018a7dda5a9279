"""An id that something else has: a command finds nothing there, and cannot begin there."""

from itertools import product
from typing import Any
from uuid import UUID, uuid5

import msgspec
import pytest

from application.handle import SHARED, STREAMS, decide
from domain.errors import Conflict, InvalidParameter, NotFound
from domain.event import Command, DomainEvent
from domain.ids import chosen
from tests.support.examples import example
from tests.support.given import META, head
from tests.support.memory_log import MemoryLog

ID = UUID(int=0xA2)
OTHERS = msgspec.structs.replace(META, tenant_id="other")
COMMANDS = [
    (module, kind)
    for module in STREAMS.values()
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Command) and kind.__module__ == module.__name__
]
FIRST = {module: module.EVENTS[0] for module in STREAMS.values()}  # type: ignore[attr-defined]


def made(kind: type[Command]) -> Any:
    fields = {
        field.name: example(field.type, field.name)
        for field in msgspec.structs.fields(kind)
        if field.name not in ("stream_id", "meta")
    }
    return kind(stream_id=ID, meta=META, **fields)


def event(kind: type[DomainEvent], meta: Any = META) -> Any:
    own = head(1, stream=ID, meta=meta)
    fields = {
        field.name: example(field.type, field.name) for field in msgspec.structs.fields(kind) if field.name not in own
    }
    return kind(**own, **fields)


def outcome(first: Any, command: Any) -> Any:
    log = MemoryLog()
    log.append([first])
    try:
        return list(decide(log, command))
    except (NotFound, Conflict) as error:
        return error


@pytest.mark.parametrize(
    ("command", "first"),
    [(command, first) for (module, command), (other, first) in product(COMMANDS, FIRST.items()) if other is not module],
    ids=lambda kind: kind.__name__,
)
def test_a_stream_of_another_kind_is_not_there_and_its_id_is_taken(command, first):
    found = outcome(event(first), made(command))
    assert not found if isinstance(found, list) else str(ID) in str(found)


@pytest.mark.parametrize(
    ("module", "command"), [each for each in COMMANDS if each[0] not in SHARED], ids=lambda each: each.__name__
)
def test_a_stream_of_another_tenant_is_not_there_and_its_id_is_taken(module, command):
    found = outcome(event(FIRST[module], OTHERS), made(command))
    assert not found if isinstance(found, list) else str(ID) in str(found)


def test_a_taken_id_is_refused_in_the_same_words_whoever_has_it():
    from domain import content, task, video

    wish = made(video.RegisterVideo)
    own = event(video.VideoRegistered)
    said = {
        str(outcome(first, wish))
        for first in (
            msgspec.structs.replace(own, source="/another.mp4"),
            event(video.VideoRegistered, OTHERS),
            event(content.ContentClaimed),
            event(task.TaskRequested, OTHERS),
        )
    }
    assert said == {f"the id {ID} is taken; choose another one"}


@pytest.mark.parametrize("name", ["content", "selection", "task", "queue", "capability"])
def test_what_the_system_derives_cannot_be_chosen(name):
    with pytest.raises(InvalidParameter, match="version 5"):
        chosen("video_id", uuid5(ID, name))
    assert chosen("video_id", uuid5(ID, name), derived=uuid5(ID, name)) == uuid5(ID, name)


@pytest.mark.parametrize("version", [1, 3, 4, 6, 7, 8])
def test_ids_of_other_versions_may_be_chosen(version):
    free = UUID(f"01234567-89ab-{version}def-8123-456789abcdef")
    assert chosen("video_id", free) == free
    assert chosen("run_id", UUID(int=0)) == UUID(int=0)
