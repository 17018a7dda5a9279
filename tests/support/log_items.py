"""Events and batches to put into a log."""

import random
from datetime import UTC, datetime
from uuid import UUID, uuid5

from domain.artifacts.envelope import ArtifactBatch, BatchHead, Item, artifact_id_of, pack
from domain.task import TaskCancelled

AT = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
CORRELATION = UUID(int=1)


def an_event(stream: UUID, version: int, reason: str = "because") -> TaskCancelled:
    """An event that any stream may hold; `reason` gives it a size."""
    return TaskCancelled(
        originator_id=stream,
        originator_version=version,
        recorded_at=AT,
        tenant_id="default",
        actor="user:test",
        correlation_id=CORRELATION,
        reason=reason,
    )


def events(stream: UUID, first: int, count: int, reason: str = "because") -> list[TaskCancelled]:
    return [an_event(stream, version, reason) for version in range(first, first + count)]


def a_batch(
    run: UUID,
    first: int,
    count: int,
    *,
    kind: str = "object.detection",
    label: str = "dog",
    size_bytes: int = 0,
) -> ArtifactBatch:
    """Artifacts `first`… of a run; `size_bytes` of noise in all, which zstd cannot pack."""
    head = BatchHead(
        run_id=run,
        video_id=uuid5(run, "video"),
        tenant_id="default",
        artifact_type=kind,
        schema_version=1,
        producer="test",
        producer_version="1",
        model_profile="fast",
        config_hash="c" * 64,
        input_hash="i" * 64,
        created_at=AT,
        actor="worker:test",
        correlation_id=CORRELATION,
    )
    noise = random.Random(0).randbytes(size_bytes // count // 2).hex() if size_bytes else ""
    items = [
        Item(
            artifact_id=artifact_id_of(run, version),
            start_ms=version * 40,
            end_ms=version * 40 + 40,
            payload={"label": label, "frame_index": version, "noise": noise[version % 7 :]},
        )
        for version in range(first, first + count)
    ]
    return pack(head, first, items)
