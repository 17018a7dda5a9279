"""Rows in Postgres' binary formats, packed by hand: psycopg's dumpers cost more than the server's whole work."""

import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from eventsourcing.persistence import StoredEvent
from psycopg import pq
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper

from domain.event import DEFAULT_TENANT
from infrastructure.event_store.records import Segment

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_COLUMNS = struct.pack("!h", 7)
_TRAILER = struct.pack("!h", -1)
_ARRAY = struct.Struct("!iiiii")
_LENGTH = struct.Struct("!i").pack
_BIGINT = struct.Struct("!iq").pack
_SMALLINT = struct.Struct("!ih").pack
_BOOLEAN = {False: b"\0\0\0\1\0", True: b"\0\0\0\1\1"}
_UUID = _LENGTH(16)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class PackedArray(bytes):
    """A one-dimensional array, ready to be a parameter; a subclass for each type."""

    oid = 0
    element_oid = 0

    @classmethod
    def of(cls, fields: Sequence[bytes]) -> "PackedArray":
        """The array of elements that carry their length in front."""
        if not fields:
            return cls(struct.pack("!iii", 0, 0, cls.element_oid))
        return cls(_ARRAY.pack(1, 0, cls.element_oid, len(fields), 1) + b"".join(fields))


class BooleanArray(PackedArray):
    oid, element_oid = 1000, 16


class ByteaArray(PackedArray):
    oid, element_oid = 1001, 17


class TextArray(PackedArray):
    oid, element_oid = 1009, 25


class BigintArray(PackedArray):
    oid, element_oid = 1016, 20


class TimestamptzArray(PackedArray):
    oid, element_oid = 1185, 1184


class UuidArray(PackedArray):
    oid, element_oid = 2951, 2950


class _ArrayDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: PackedArray) -> Buffer:
        return obj


def register_arrays(context: AdaptContext) -> None:
    """Let a connection take packed arrays as parameters."""
    assert context.adapters is not None
    for kind in (BooleanArray, ByteaArray, TextArray, BigintArray, TimestamptzArray, UuidArray):
        context.adapters.register_dumper(
            kind, type(f"{kind.__name__}Dumper", (_ArrayDumper,), {"oid": kind.oid})
        )


def _text(value: str) -> bytes:
    data = value.encode()
    return _LENGTH(len(data)) + data


def _time(value: datetime) -> bytes:
    return _BIGINT(8, (value - _EPOCH) // _MICROSECOND)


def _fields(
    events: Sequence[StoredEvent], small: Callable[[int, int], bytes], size: int
) -> Iterator[tuple[bytes, ...]]:
    """The columns of each event: stream, version, topic, schema version, tenant, time, state."""
    now = datetime.now(UTC)
    texts: dict[str, bytes] = {}
    times: dict[datetime, bytes] = {}
    for event in events:
        topic, tenant = event.topic, getattr(event, "tenant_id", DEFAULT_TENANT)
        time = getattr(event, "recorded_at", None) or now
        for text in (topic, tenant):
            if text not in texts:
                texts[text] = _text(text)
        if time not in times:
            times[time] = _time(time)
        state = event.state
        yield (
            _UUID + event.originator_id.bytes,  # type: ignore[union-attr]  # checked when segments are made
            _BIGINT(8, event.originator_version),
            texts[topic],
            small(size, getattr(event, "schema_version", 1)),
            texts[tenant],
            times[time],
            _LENGTH(len(state)) + state,
        )


def event_arrays(events: Sequence[StoredEvent]) -> tuple[PackedArray, ...]:
    """The first seven parameters of `es.append`."""
    columns = zip(*_fields(events, _BIGINT, 8), strict=True)
    kinds: Sequence[type[PackedArray]] = (
        UuidArray,
        BigintArray,
        TextArray,
        BigintArray,
        TextArray,
        TimestamptzArray,
        ByteaArray,
    )
    return tuple(kind.of(column) for kind, column in zip(kinds, columns, strict=True))


def segment_arrays(segments: Sequence[Segment]) -> tuple[PackedArray, ...]:
    """The parameters of `es.place`, the last six of `es.append`."""
    return (
        UuidArray.of([_UUID + segment.stream_id.bytes for segment in segments]),
        BigintArray.of([_BIGINT(8, segment.last_version) for segment in segments]),
        BigintArray.of([_BIGINT(8, segment.length) for segment in segments]),
        TextArray.of([_text(segment.kind) for segment in segments]),
        BooleanArray.of([_BOOLEAN[segment.is_batch] for segment in segments]),
        BigintArray.of([_BIGINT(8, segment.size_bytes) for segment in segments]),
    )


def copy_stream(events: Sequence[StoredEvent]) -> bytes:
    """What COPY takes for the columns of `statements.COPY`."""
    parts: list[Any] = [_SIGNATURE]
    for fields in _fields(events, _SMALLINT, 2):
        parts.append(_COLUMNS)
        parts.extend(fields)
    parts.append(_TRAILER)
    return b"".join(parts)
