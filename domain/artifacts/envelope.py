"""The envelope around every artifact, and the packed batch they travel and are stored in."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID, uuid5

import msgspec


class Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was found. One subclass for each (artifact type, schema version)."""

    NAME: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1

    @classmethod
    def example(cls) -> "Payload":
        """A valid payload, for documentation and tests."""
        raise TypeError(cls)

    def flaw(self) -> str | None:
        """What is wrong with the values beyond their types, or None."""
        return None


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact inside a batch: only what differs from its neighbours."""

    artifact_id: UUID
    start_ms: int
    """Integer milliseconds of the media's own clock."""
    end_ms: int
    """Exclusive; equal to `start_ms` for a point."""
    payload: Any
    """The payload as plain JSON values, checked against its schema before it was stored."""


class BatchHead(msgspec.Struct, frozen=True, kw_only=True):
    """What all artifacts of a batch share. A batch holds one artifact type of one run."""

    run_id: UUID
    video_id: UUID
    tenant_id: str
    artifact_type: str
    schema_version: int
    producer: str
    producer_version: str
    model_profile: str
    config_hash: str
    input_hash: str
    created_at: datetime
    """The run's."""
    actor: str
    correlation_id: UUID
    causation_id: str | None = None


class ArtifactBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Up to about 1,000 artifacts of one type of one run: `ArtifactProduced` events, packed.

    Event i (from 0) has stream version `first_version + i` in `domain.run.artifacts_stream_of(head.run_id)`.
    """

    head: BatchHead
    first_version: int
    """Place in the run of the first artifact, from 1, counted over all types of the run."""
    count: int
    items: msgspec.Raw
    """JSON array of `Item`."""

    @property
    def last_version(self) -> int:
        """Place in the run of the last artifact."""
        return self.first_version + self.count - 1


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact with its full envelope, as events and the API show it."""

    artifact_id: UUID
    asset_id: UUID
    """The video."""
    artifact_type: str
    schema_version: int
    span_start_ms: int
    span_end_ms: int
    payload: Any
    producer: str
    producer_version: str
    model_profile: str
    config_hash: str
    input_hash: str
    run_id: UUID
    created_at: datetime


_encoder = msgspec.json.Encoder()
_items = msgspec.json.Decoder(list[Item])


def artifact_id_of(run_id: UUID, version: int) -> UUID:
    """The id of the artifact at place `version` of a run, when the client chose none."""
    return uuid5(run_id, str(version))


def pack(head: BatchHead, first_version: int, items: Sequence[Item]) -> ArtifactBatch:
    """A batch of items that were checked already."""
    return ArtifactBatch(
        head=head, first_version=first_version, count=len(items), items=msgspec.Raw(_encoder.encode(items))
    )


def unpack(batch: ArtifactBatch) -> list[Item]:
    """The items of a batch, payloads as plain JSON values."""
    return _items.decode(batch.items)


def expand(batch: ArtifactBatch) -> list[Artifact]:
    """The artifacts of a batch, each with its full envelope."""
    head = batch.head
    return [
        Artifact(
            artifact_id=item.artifact_id,
            asset_id=head.video_id,
            artifact_type=head.artifact_type,
            schema_version=head.schema_version,
            span_start_ms=item.start_ms,
            span_end_ms=item.end_ms,
            payload=item.payload,
            producer=head.producer,
            producer_version=head.producer_version,
            model_profile=head.model_profile,
            config_hash=head.config_hash,
            input_hash=head.input_hash,
            run_id=head.run_id,
            created_at=head.created_at,
        )
        for item in unpack(batch)
    ]
