"""What the use cases need from outside. Only things with two real implementations."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from domain.artifacts.envelope import ArtifactBatch
from domain.event import DomainEvent

LogItem = DomainEvent | ArtifactBatch


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """Something read back from the log, with its place."""

    position: int
    """Global position of the event; of the last event for a batch."""
    item: LogItem

    @property
    def first_position(self) -> int:
        """Global position of the first event; differs from `position` only for a batch."""
        return self.position - (self.item.count - 1 if isinstance(self.item, ArtifactBatch) else 0)


class EventLog(Protocol):
    """The append-only truth. Synchronous; call it from a thread. All methods are safe to call from several threads."""

    def load(self, stream_id: UUID) -> Sequence[DomainEvent]:
        """All events of one small stream in order; empty when there is none. Not for artifact streams."""

    def version(self, stream_id: UUID) -> int:
        """The newest version in a stream, artifact streams included; 0 when there is none."""

    def append(self, items: Sequence[LogItem]) -> int:
        """Store events and batches, in this order, all or none; the position of the last.

        A batch whose versions are stored already with the same content is passed over (redelivery).

        Raises:
            ConcurrencyConflict: an event's version is taken.
            IntegrityConflict: a batch's versions hold other content.
            OutOfOrder: a batch does not follow the last one of its stream.
        """

    def head(self) -> int:
        """The newest global position, 0 when empty."""

    def read(
        self, after: int, *, limit: int = 5_000, kinds: Sequence[str] | None = None
    ) -> Sequence[Recorded]:
        """What follows position `after`, in order, batches unexpanded, at most about `limit` events (at least one item).

        `kinds`: topics of events and artifact types of batches to return; None = all.
        """

    def checkpoint(self, follower: str) -> int:
        """How far `follower` has come; 0 at first."""

    def advance(self, follower: str, position: int) -> None:
        """Note that `follower` has come to `position`; raises IntegrityConflict when it was further already."""


class TaskIndex(Protocol):
    """Which tasks there are, from a read model, which may lag. Each answer comes with the position up to which it knows
    the log: what came later must be looked for there.
    """

    def of_video(self, video_id: UUID) -> tuple[int, Sequence[UUID]]:
        """Tasks of a video; of a deleted one at least those that are open. Raises ServiceUnavailable."""

    def unavailable(self, task_types: Sequence[str]) -> tuple[int, Sequence[UUID]]:
        """Tasks of these types that no worker could do, all tenants. Raises ServiceUnavailable."""


class KnownVideo(msgspec.Struct, frozen=True, kw_only=True):
    """A video as the read model has it: enough to tell a file that has not changed."""

    video_id: UUID
    source: str
    size_bytes: int | None
    mtime_ms: int | None
    blake3: str | None
    is_missing: bool = False
    is_deleted: bool = False
    """Somebody removed it from the library; scans leave its file alone."""


class VideoIndex(Protocol):
    """Which videos there are, from a read model, which may lag. All methods raise ServiceUnavailable."""

    def position(self) -> int:
        """How far the read model has come."""

    def at(self, tenant_id: str, sources: Sequence[str]) -> Sequence[KnownVideo]:
        """Videos with these sources, deleted ones included."""

    def of_sizes(self, tenant_id: str, sizes: Sequence[int]) -> Sequence[KnownVideo]:
        """Videos whose file has, or had, one of these sizes, deleted ones included."""

    def under(self, tenant_id: str, folder: str) -> Iterator[KnownVideo]:
        """Videos below a folder that are neither missing nor deleted."""

    def scan_roots(self, tenant_id: str) -> Sequence[str]:
        """Folders that the tenant asked to have looked through, the newest request first."""


class Clock(Protocol):
    """Where the time comes from."""

    def __call__(self) -> datetime:
        """Now, timezone-aware UTC."""


def walk(log: EventLog, after: int, *, limit: int = 5_000) -> Iterator[Recorded]:
    """Everything from `after` to the present head."""
    while records := log.read(after, limit=limit):
        yield from records
        after = records[-1].position
