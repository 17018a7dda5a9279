"""What was ever stored can be read for ever.

One file a stored row, named for its topic and the schema version it was written with. They are never edited: when a
shape changes, raise the event's SCHEMA, write an upcaster, and add a row of the new shape with
`python -m tests.golden.write`.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.artifacts.envelope import unpack
from domain.event import DomainEvent
from domain.run import artifacts_stream_of
from infrastructure.event_store.codec import CODEC, EVENT_TYPES, decode_batch, encode_batch, events_of

FOLDER = Path(__file__).parent
EVENTS = sorted((FOLDER / "events").glob("*.json"))
BATCHES = sorted((FOLDER / "batches").glob("*.json"))
CURRENT = {event_type.TOPIC: event_type for event_type in EVENT_TYPES}


def stored_event(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def decoded(row: dict[str, Any]) -> DomainEvent:
    return CODEC.decode(
        row["topic"],
        row["schema_version"],
        row["state"].encode(),
        UUID(row["originator_id"]),
        row["originator_version"],
        row["tenant_id"],
        datetime.fromisoformat(row["recorded_at"]),
    )


def known(now, then):
    """`now` without the fields that `then` did not have yet, at any depth."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {name: known(now[name], then[name]) for name in then if name in now}
    return now


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_a_stored_event_decodes(path: Path) -> None:
    row = stored_event(path)
    event = decoded(row)
    assert type(event) is CURRENT[row["topic"]]
    assert (str(event.originator_id), event.originator_version) == (
        row["originator_id"],
        row["originator_version"],
    )
    assert (event.tenant_id, event.recorded_at.isoformat()) == (row["tenant_id"], row["recorded_at"])
    if row["schema_version"] == type(event).SCHEMA:
        now, then = json.loads(CODEC.encode(event).state), json.loads(row["state"])
        assert known(now, then) == then, "a field was renamed or dropped without a new SCHEMA"


@pytest.mark.parametrize("path", BATCHES, ids=lambda path: path.stem)
def test_a_stored_batch_decodes(path: Path) -> None:
    row = stored_event(path)
    batch = decode_batch(
        row["last_version"], row["count"], row["head"].encode(), row["codec"], bytes.fromhex(row["body"])
    )
    assert [msgspec.to_builtins(item) for item in unpack(batch)] == row["items"]
    assert (batch.head.artifact_type, batch.head.tenant_id) == (row["kind"], row["tenant_id"])
    assert str(artifacts_stream_of(batch.head.run_id)) == row["stream_id"]
    assert encode_batch(batch).digest.hex() == row["digest"], "a redelivery of old results would be refused"
    assert [event.originator_version for event in events_of(batch)] == [
        *range(row["last_version"] - row["count"] + 1, row["last_version"] + 1)
    ]


def test_every_event_and_version_has_a_golden_row() -> None:
    wanted = {f"{topic}.{v}" for topic, kind in CURRENT.items() for v in range(1, kind.SCHEMA + 1)}
    assert wanted - {path.stem for path in EVENTS} == set(), "run python -m tests.golden.write"
    assert BATCHES


def _with_topic(kind: type[DomainEvent]) -> set[type[DomainEvent]]:
    below = set().union(*map(_with_topic, kind.__subclasses__())) if kind.__subclasses__() else set()
    return below | ({kind} if kind.TOPIC and kind.__module__.startswith("domain.") else set())


def test_every_event_of_the_domain_is_registered() -> None:
    assert _with_topic(DomainEvent) == set(EVENT_TYPES)
