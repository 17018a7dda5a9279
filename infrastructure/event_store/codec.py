"""Events and batches to bytes and back.

A stored state is a JSON object of the event's own fields, with actor, correlation and causation; stream, version,
tenant and time are columns. Every field is written out, defaults too: a default that changes later must not change
history.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import zstandard
from blake3 import blake3

from domain import capability, content, face_cluster, queue, run, scan, selection, task, video
from domain.artifacts.envelope import ArtifactBatch, BatchHead, expand
from domain.errors import InvalidArtifact, Undecodable
from domain.event import DomainEvent
from domain.run import ArtifactProduced, artifacts_stream_of
from infrastructure.event_store.records import LogEvent, LogRow, StoredBatch
from infrastructure.event_store.upcasters import UPCASTERS, Upcaster

EVENT_TYPES: tuple[type[DomainEvent], ...] = (
    *video.EVENTS,
    *task.EVENTS,
    *run.EVENTS,
    *selection.EVENTS,
    *content.EVENTS,
    *scan.EVENTS,
    *capability.EVENTS,
    *face_cluster.EVENTS,
    *queue.EVENTS,
    ArtifactProduced,
)
COLUMNS = frozenset({"originator_id", "originator_version", "recorded_at", "tenant_id"})
"""Fields of an event that are columns of the log."""
ZSTD_JSON = 1
"""Codec of a batch body: a zstd frame of the JSON array of items."""
ZSTD_LEVEL = 1
"""As small as 3 on detections (46 bytes each) and a quarter quicker."""
BATCH_MAX = 10_000
"""Artifacts in a batch at most; the table has the same limit."""
MAX_BODY_BYTES = 256 << 20
"""Unpacked; a frame that claims more is refused instead of filling the memory."""


_encoder = msgspec.json.Encoder()


class _Shape:
    """How one event type is stored."""

    def __init__(self, event_type: type[DomainEvent]) -> None:
        self.event_type = event_type
        fields = [field for field in msgspec.structs.fields(event_type) if field.name not in COLUMNS]
        self.names = tuple(field.name for field in fields)
        self.state_type = msgspec.defstruct(
            f"{event_type.__name__}State", [_definition(field) for field in fields], kw_only=True, frozen=True
        )
        self.decoder = msgspec.json.Decoder(self.state_type)


def _definition(field: msgspec.structs.FieldInfo) -> tuple[str, Any] | tuple[str, Any, Any]:
    if field.default is not msgspec.NODEFAULT:
        return field.name, field.type, field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return field.name, field.type, msgspec.field(default_factory=field.default_factory)
    return field.name, field.type


class EventCodec:
    """Stored states by topic, of any shape an event ever had."""

    def __init__(
        self,
        event_types: Sequence[type[DomainEvent]] = EVENT_TYPES,
        upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS,
    ) -> None:
        self._shapes = {event_type.TOPIC: _Shape(event_type) for event_type in event_types}
        if len(self._shapes) != len(event_types):
            raise ValueError("two event types share a TOPIC")
        self._upcasters = upcasters

    def encode(self, event: DomainEvent) -> LogEvent:
        """The event as it is stored.

        Raises:
            ValueError: it could not be read back, or its time has no zone.
        """
        if event.recorded_at.tzinfo is None:
            raise ValueError(f"{event.TOPIC}: recorded_at has no time zone")
        stored = self.encode_unchecked(event)
        # 2 µs against history that cannot be read: a NaN becomes null, and structs check no types when made.
        self._shapes[event.TOPIC].decoder.decode(stored.state)
        return stored

    def encode_unchecked(self, event: DomainEvent) -> LogEvent:
        """The same for an event that was read from the log itself."""
        state = _encoder.encode({name: getattr(event, name) for name in self._shapes[event.TOPIC].names})
        return LogEvent(
            originator_id=event.originator_id,
            originator_version=event.originator_version,
            topic=event.TOPIC,
            state=state,
            schema_version=event.SCHEMA,
            tenant_id=event.tenant_id,
            recorded_at=event.recorded_at,
        )

    def decode(  # noqa: PLR0917 - the columns of a row, in its order
        self,
        topic: str,
        schema_version: int,
        state: bytes,
        stream_id: UUID,
        version: int,
        tenant_id: str,
        recorded_at: datetime,
    ) -> DomainEvent:
        """The event of a stored state.

        Raises:
            Undecodable: unknown topic, a shape of the future, or a broken state.
        """
        shape = self._shapes.get(topic)
        if shape is None:
            raise Undecodable(f"nobody knows the topic {topic!r} of {stream_id} {version}")
        try:
            if schema_version != shape.event_type.SCHEMA:
                state = self._upcast(topic, schema_version, shape.event_type.SCHEMA, state)
            fields = msgspec.structs.asdict(shape.decoder.decode(state))
        except (msgspec.MsgspecError, LookupError) as error:
            raise Undecodable(
                f"{topic} version {schema_version} in {stream_id} {version}: {error}"
            ) from error
        return shape.event_type(
            originator_id=stream_id,
            originator_version=version,
            tenant_id=tenant_id,
            recorded_at=recorded_at,
            **fields,
        )

    def _upcast(self, topic: str, version: int, latest: int, state: bytes) -> bytes:
        values = msgspec.json.decode(state)
        while version != latest:
            values = self._upcasters[topic, version](values)
            version += 1
        return _encoder.encode(values)


CODEC = EventCodec()


class _Zstd(threading.local):
    """Contexts are not safe to share between threads, and making one costs more than a small body."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()
_head_decoder = msgspec.json.Decoder(BatchHead)
_raw_items = msgspec.json.Decoder(list[msgspec.Raw])


def encode_batch(batch: ArtifactBatch) -> StoredBatch:
    """The batch as it is stored.

    Raises:
        InvalidArtifact: the items are no JSON array of `count` things, or too many.
    """
    items = bytes(batch.items)
    try:
        count = len(_raw_items.decode(items))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArtifact(f"items: {error}") from error
    if count != batch.count or not 0 < count <= BATCH_MAX or batch.first_version < 1:
        raise InvalidArtifact(f"a batch of {batch.count} from {batch.first_version} holds {count} items")
    head = _encoder.encode(batch.head)
    return StoredBatch(
        stream_id=artifacts_stream_of(batch.head.run_id),
        last_version=batch.last_version,
        length=count,
        kind=batch.head.artifact_type,
        tenant_id=batch.head.tenant_id,
        head=head,
        codec=ZSTD_JSON,
        digest=blake3(head + items).digest(),
        body=_zstd.compressor.compress(items),
    )


def decode_batch(last_version: int, count: int, head: bytes, codec: int, body: bytes) -> ArtifactBatch:
    """The batch of a stored row; its items are not looked into.

    Raises:
        Undecodable: unknown codec, or a broken head or body.
    """
    try:
        if codec != ZSTD_JSON:
            raise Undecodable(f"nobody knows the batch codec {codec}")
        size = zstandard.get_frame_parameters(body).content_size
        if size > MAX_BODY_BYTES:
            raise Undecodable(f"a batch body of {size} bytes")
        return ArtifactBatch(
            head=_head_decoder.decode(head),
            first_version=last_version - count + 1,
            count=count,
            items=msgspec.Raw(_zstd.decompressor.decompress(body)),
        )
    except (msgspec.MsgspecError, zstandard.ZstdError) as error:
        raise Undecodable(f"batch up to version {last_version}: {error}") from error


def batch_of(row: LogRow) -> ArtifactBatch:
    """The batch of a row of the log."""
    assert row.head is not None
    return decode_batch(row.version, row.length, row.head, row.schema_version, row.body)


def events_of(batch: ArtifactBatch) -> Iterator[ArtifactProduced]:
    """The events that are packed in a batch, one by one."""
    head = batch.head
    stream_id = artifacts_stream_of(head.run_id)
    for index, artifact in enumerate(expand(batch)):
        yield ArtifactProduced(
            originator_id=stream_id,
            originator_version=batch.first_version + index,
            recorded_at=head.created_at,
            tenant_id=head.tenant_id,
            actor=head.actor,
            correlation_id=head.correlation_id,
            causation_id=head.causation_id,
            artifact=artifact,
        )
