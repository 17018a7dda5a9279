"""What is stored: the library's stored event with our columns, and the packed batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from eventsourcing.persistence import Notification, StoredEvent

from domain.event import DEFAULT_TENANT

SEGMENT_MAX = 1_000
"""Events of one stream under one segment, so that a page of the log has a size."""


@dataclass(frozen=True)
class LogEvent(StoredEvent):
    """A stored event; `state` repeats nothing that a column holds."""

    schema_version: int = 1
    tenant_id: str = DEFAULT_TENANT
    recorded_at: datetime | None = None
    """Timezone-aware; None = when it is stored."""


@dataclass(frozen=True)
class LogNotification(Notification):
    """A stored event with its position in the whole log."""

    schema_version: int = 1
    tenant_id: str = DEFAULT_TENANT
    recorded_at: datetime | None = None


class StoredBatch(NamedTuple):
    """A batch as it lies in `es.batch`."""

    stream_id: UUID
    last_version: int
    length: int
    """Events in it."""
    kind: str
    """Artifact type."""
    tenant_id: str
    head: bytes
    codec: int
    digest: bytes
    body: bytes

    @property
    def first_version(self) -> int:
        """Version of the first artifact."""
        return self.last_version - self.length + 1


class LogRow(NamedTuple):
    """One row of the log as read: an event, or a batch unexpanded."""

    position: int
    """Of the event, or of the last one of the batch."""
    stream_id: UUID
    version: int
    """Of the event, or of the last one of the batch."""
    length: int
    """Events in it: 1, or those of the batch."""
    kind: str
    """Topic, or artifact type."""
    is_batch: bool
    tenant_id: str
    schema_version: int
    """Of the event; the codec of a batch."""
    recorded_at: datetime | None
    """Of the event."""
    head: bytes | None
    """Of the batch."""
    body: bytes
    """State of the event, body of the batch."""


class Segment(NamedTuple):
    """Consecutive versions of one stream and kind that are appended together."""

    stream_id: UUID
    last_version: int
    length: int
    """Events in it."""
    kind: str
    is_batch: bool
    size_bytes: int


def segments(items: Sequence[StoredEvent | StoredBatch]) -> list[Segment]:
    """The segments of an append, in its order.

    Raises:
        TypeError: a stream whose id is text; the library allows it, our tables do not.
    """
    found: list[Segment] = []
    # Of the segment that is still growing; length 0 = none is.
    stream_id, version, kind, length, size_bytes = UUID(int=0), 0, "", 0, 0
    for item in items:
        if isinstance(item, StoredBatch):
            if length:
                found.append(Segment(stream_id, version, length, kind, False, size_bytes))
                length = 0
            found.append(
                Segment(item.stream_id, item.last_version, item.length, item.kind, True, len(item.body))
            )
            continue
        version += 1
        follows = (
            item.originator_version == version and item.originator_id == stream_id and item.topic == kind
        )
        if follows and 0 < length < SEGMENT_MAX:
            length += 1
            size_bytes += len(item.state)
            continue
        if length:
            found.append(Segment(stream_id, version - 1, length, kind, False, size_bytes))
        if not isinstance(item.originator_id, UUID):
            raise TypeError(item.originator_id)
        stream_id, version, kind = item.originator_id, item.originator_version, item.topic
        length, size_bytes = 1, len(item.state)
    if length:
        found.append(Segment(stream_id, version, length, kind, False, size_bytes))
    return found
