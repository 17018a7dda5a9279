"""The port `application.ports.EventLog` on the library's application, repository and recorders."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, cast
from uuid import UUID

import msgspec
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    StoredEvent,
    Tracking,
)

from application.ports import LogItem, Recorded
from domain.artifacts.envelope import ArtifactBatch
from domain.errors import ConcurrencyConflict, IntegrityConflict, ServiceUnavailable
from domain.event import DomainEvent
from domain.run import ArtifactProduced, artifacts_stream_of
from infrastructure.event_store.codec import CODEC, batch_of, encode_batch
from infrastructure.event_store.factory import LogFactory
from infrastructure.event_store.recorder import CHANNEL, LogRecorder
from infrastructure.event_store.records import LogRow, StoredBatch

__all__ = ["CHANNEL", "PostgresEventLog"]

_TAKEN = re.compile(r"\(originator_id, originator_version\)=\(([-0-9a-f]{36}), (-?\d+)\)")


class EventLogApplication(Application[UUID]):
    """The library's application over the log. Its commands are deciders, so it has no methods of its own."""

    # Not "eioku": the library would look for its settings among ours, EIOKU_….
    name = "event_log"


class History(msgspec.Struct, frozen=True):
    """The events of one stream, as the repository hands them out."""

    id: UUID
    version: int
    events: tuple[DomainEvent, ...]


def extended(history: History | None, events: Iterable[DomainEvent]) -> History | None:
    """`history` with what followed it; None as long as there is nothing."""
    stored = (history.events if history else ()) + tuple(events)
    return History(stored[-1].originator_id, stored[-1].originator_version, stored) if stored else None


class PostgresEventLog:
    """The event log. Safe to share between threads; up to `pool_size` of them at work at once."""

    def __init__(self, database_url: str, *, pool_size: int = 5) -> None:
        self.application = EventLogApplication(
            {
                "PERSISTENCE_MODULE": f"{LogFactory.__module__}:{LogFactory.__qualname__}",
                "POSTGRES_URL": database_url,
                "POSTGRES_POOL_SIZE": str(pool_size),
            }
        )
        self._recorder = cast("LogRecorder", self.application.recorder)
        self._tracking = self.application.factory.tracking_recorder()

    # ---- the port ------------------------------------------------------------------------------------------------

    def load(self, stream_id: UUID) -> Sequence[DomainEvent]:
        """All events of one small stream in order; empty when there is none."""
        with _available():
            try:
                history: History = self.application.repository.get(stream_id, projector_func=extended)
            except AggregateNotFoundError:
                return ()
            return history.events

    def version(self, stream_id: UUID) -> int:
        """The newest version in a stream, artifact streams included; 0 when there is none."""
        with _available():
            return self._recorder.max_version(stream_id)

    def append(self, items: Sequence[LogItem]) -> int:
        """Store events and batches in this order, all or none; the position of the last.

        Raises:
            ConcurrencyConflict: an event's version is taken.
            IntegrityConflict: a batch's versions hold other content.
            OutOfOrder: a batch does not follow the last one of its stream.
            ValueError: an event that could not be read back.
            InvalidArtifact: a batch whose items are not what it says.
            ServiceUnavailable: the database is not there.
        """
        stored = [_stored(item) for item in items]
        if not stored:
            return self.head()
        with _available():
            try:
                return self._recorder.append(stored)
            except IntegrityError as error:
                raise _conflict(error, stored) from error

    def head(self) -> int:
        """The newest global position, 0 when empty. Everything up to it can be read."""
        with _available():
            return self._recorder.max_notification_id() or 0

    def read(
        self, after: int, *, limit: int = 5_000, kinds: Sequence[str] | None = None
    ) -> Sequence[Recorded]:
        """What follows position `after`, in order, batches unexpanded; empty only when there is nothing more.

        Raises:
            Undecodable: something that this version cannot read; `read_rows` gets past it.
        """
        return [recorded(row) for row in self.read_rows(after, limit=limit, kinds=kinds)]

    def checkpoint(self, follower: str) -> int:
        """How far `follower` has come; 0 at first."""
        with _available():
            return self._tracking.max_tracking_id(follower) or 0

    def advance(self, follower: str, position: int) -> None:
        """Note that `follower` has come to `position`; raises IntegrityConflict when it was further already."""
        with _available():
            try:
                self._tracking.insert_tracking(Tracking(follower, position))
            except IntegrityError as error:
                now = self.checkpoint(follower)
                if now > position:
                    reason = f"{follower} cannot go back from position {now} to {position}"
                    raise IntegrityConflict(follower, position, reason=reason) from error

    # ---- beyond the port -----------------------------------------------------------------------------------------

    def read_rows(
        self, after: int, *, limit: int = 5_000, kinds: Sequence[str] | None = None
    ) -> Sequence[LogRow]:
        """The same as `read`, not decoded: for skipping over what cannot be."""
        with _available():
            return self._recorder.select_log(after, limit=limit, kinds=kinds)

    def artifact_events(self, run_id: UUID) -> Iterator[ArtifactProduced]:
        """The artifacts of a run as the events they are, one by one."""
        with _available():
            events = self.application.events.get(artifacts_stream_of(run_id))
        return cast("Iterator[ArtifactProduced]", events)

    def replay(self, after: int = 0, *, limit: int = 1_000) -> Iterator[tuple[int, DomainEvent]]:
        """Every event after a position with its own position, batches expanded, up to the present head."""
        while True:
            with _available():
                page = self._recorder.select_notifications(after, limit, inclusive_of_start=False)
            for notification in page:
                yield (
                    notification.id,
                    cast("DomainEvent", self.application.mapper.to_domain_event(notification)),
                )
            if len(page) < limit:
                return
            after = page[-1].id

    def close(self) -> None:
        """Close the connections."""
        self.application.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def recorded(row: LogRow) -> Recorded:
    """A row of the log, decoded; a batch's items are left alone.

    Raises:
        Undecodable: this version cannot read it.
    """
    if row.is_batch:
        return Recorded(position=row.position, item=batch_of(row))
    assert row.recorded_at is not None  # only batches have none
    event = CODEC.decode(
        row.kind, row.schema_version, row.body, row.stream_id, row.version, row.tenant_id, row.recorded_at
    )
    return Recorded(position=row.position, item=event)


def _stored(item: LogItem) -> StoredEvent | StoredBatch:
    if isinstance(item, ArtifactBatch):
        return encode_batch(item)
    if isinstance(item, ArtifactProduced):
        raise TypeError("artifacts are appended as batches")
    return CODEC.encode(item)


def _conflict(error: IntegrityError, stored: Sequence[StoredEvent | StoredBatch]) -> ConcurrencyConflict:
    taken = _TAKEN.search(str(error))
    if taken:
        return ConcurrencyConflict(UUID(taken[1]), int(taken[2]) - 1)
    event = next(item for item in stored if isinstance(item, StoredEvent))
    return ConcurrencyConflict(cast("UUID", event.originator_id), event.originator_version - 1)


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise ServiceUnavailable(f"the database is not there: {error}") from error
