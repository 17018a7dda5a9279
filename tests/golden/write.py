"""Writes golden rows for events that have none; never touches one that is there. `python -m tests.golden.write`."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from domain.artifacts.envelope import unpack
from infrastructure.event_store.codec import CODEC, EVENT_TYPES, encode_batch
from tests.support.examples import example
from tests.support.log_items import a_batch

FOLDER = Path(__file__).parent


def write(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text(json.dumps(row, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    for event_type in EVENT_TYPES:
        stored = CODEC.encode(example(event_type))
        assert stored.recorded_at is not None
        row = {
            "topic": stored.topic,
            "schema_version": stored.schema_version,
            "originator_id": str(stored.originator_id),
            "originator_version": stored.originator_version,
            "tenant_id": stored.tenant_id,
            "recorded_at": stored.recorded_at.isoformat(),
            "state": stored.state.decode(),
        }
        write(FOLDER / "events" / f"{stored.topic}.{stored.schema_version}.json", row)
    batch = a_batch(UUID(int=3), 4, 2)
    packed = encode_batch(batch)
    row = {
        "stream_id": str(packed.stream_id),
        "last_version": packed.last_version,
        "count": packed.length,
        "kind": packed.kind,
        "tenant_id": packed.tenant_id,
        "head": packed.head.decode(),
        "codec": packed.codec,
        "digest": packed.digest.hex(),
        "body": packed.body.hex(),
        "items": [msgspec.to_builtins(item) for item in unpack(batch)],
    }
    write(FOLDER / "batches" / f"codec-{packed.codec}.json", row)


if __name__ == "__main__":
    main()
