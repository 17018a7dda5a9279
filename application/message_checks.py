"""What a worker's message must be before anybody acts on it: checked as clients' bodies are, as it too becomes events."""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from application.messages import Announced, Fault, ResultMessage, Started
from domain.artifacts import LATEST
from domain.errors import InvalidMessage
from domain.pipeline import FAMILIES
from domain.task import run_id_of

S = TypeVar("S", bound=msgspec.Struct)

MOST_NAME, MOST_TEXT = 4_096, 20_000
"""Characters of a name, and of a text for people."""
MOST_ENTRIES = 10_000
DEEPEST = 32
"""Levels of a config."""
EARLIEST, AHEAD = datetime(2000, 1, 1, tzinfo=UTC), timedelta(days=1)
"""A worker's clock may be wrong, but what is said to be found tomorrow would be the newest for a day."""
_LATEST_DATE = datetime(9998, 12, 31, tzinfo=UTC)
"""Of a film: its moments are added to it."""
_TEXTS = frozenset({"error", "missing", "remedy", "source"})
_LARGE = frozenset({"size_bytes", "bit_rate"})
_COUNTED = frozenset({"request_version", "delivery", "part"})
"""Numbers that begin with 1."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_IN_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def check(result: ResultMessage, now: datetime) -> None:
    """Raises InvalidMessage, with the first thing that is wrong."""
    for flaw in _flaws(result, now):
        raise InvalidMessage(flaw)


def cleaned(message: S) -> S:
    """The same, with its texts for people as a message may carry them, whatever a library said."""
    texts: dict[str, str | Fault] = {}
    for name in message.__struct_fields__:
        part = getattr(message, name)
        if isinstance(part, str) and name in _TEXTS:
            texts[name] = cleaned_text(part)
        elif isinstance(part, Fault):
            texts[name] = cleaned(part)
    return msgspec.structs.replace(message, **texts) if texts else message


def cleaned_text(text: str) -> str:
    """A text for people without control characters, all Unicode, and not too long."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    return _CONTROL_IN_TEXT.sub("\N{REPLACEMENT CHARACTER}", plain)[:MOST_TEXT]


def _flaws(result: ResultMessage, now: datetime) -> Iterator[str]:
    yield from _in_struct(result, "")
    if not EARLIEST <= result.at <= now + AHEAD:
        yield f"at: {result.at.isoformat()} is not between 2000 and tomorrow; set the clock of {result.worker}"
    if isinstance(result, Announced):
        if result.family not in FAMILIES:
            yield f"family: {result.family!r} is none of {', '.join(FAMILIES)}"
        return
    if result.run_id != run_id_of(result.task_id, result.request_version, result.delivery):
        yield "run_id: is not that of this delivery of the task"
    if isinstance(result, Started) and (unknown := set(result.artifact_types) - set(LATEST)):
        yield f"artifact_types: nobody knows {', '.join(sorted(unknown))}"


def _in_struct(value: msgspec.Struct, at: str) -> Iterator[str]:
    for name in value.__struct_fields__:
        part, place = getattr(value, name), f"{at}.{name}" if at else name
        if name == "config":
            yield from _in_config(part, place, DEEPEST)
        else:
            yield from _in_value(part, name, place)


def _in_value(value: Any, name: str, at: str) -> Iterator[str]:
    match value:
        case None | bool() | UUID() | msgspec.Raw():  # artifacts are checked against their schemas
            pass
        case str():
            most, control = (MOST_TEXT, _CONTROL_IN_TEXT) if name in _TEXTS else (MOST_NAME, _CONTROL)
            if len(value) > most:
                yield f"{at}: has {len(value)} characters, at most {most} are taken"
            elif control.search(value):
                yield f"{at}: holds control characters"
        case int():
            least, highest = int(name in _COUNTED), 2**53 if name in _LARGE else 2**31 - 1
            if not least <= value <= highest:
                yield f"{at}: {value} is not between {least} and {highest}"
        case float():
            if not math.isfinite(value):
                yield f"{at}: is no number"
        case datetime():
            if value.tzinfo is None or not datetime.min.replace(tzinfo=UTC) <= value <= _LATEST_DATE:
                yield f"{at}: needs a time zone, and a year from 1 to 9998"
        case msgspec.Struct():
            yield from _in_struct(value, at)
        case tuple() | dict():
            if len(value) > MOST_ENTRIES:
                yield f"{at}: has {len(value)} entries, at most {MOST_ENTRIES} are taken"
                return
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, part in pairs:
                if isinstance(key, str):
                    yield from _in_value(key, name, at)
                yield from _in_value(part, name, f"{at}.{key}" if isinstance(key, str) else f"{at}[{key}]")
        case _:
            yield f"{at}: cannot be checked"


def _in_config(value: Any, at: str, levels: int) -> Iterator[str]:
    """Any JSON, as the task was asked for: texts may be long and have lines, but Postgres holds no NUL."""
    if levels == 0:
        yield f"{at}: is nested too deep"
        return
    match value:
        case str():
            if "\0" in value:
                yield f"{at}: holds a NUL character"
        case dict():
            for key, part in value.items():
                yield from _in_config(key, at, levels - 1)
                yield from _in_config(part, at, levels - 1)
        case list():
            for part in value:
                yield from _in_config(part, at, levels - 1)
        case _:
            pass
