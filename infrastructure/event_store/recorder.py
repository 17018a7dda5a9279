"""The library's Postgres recorders, extended: same methods, but batches, gapless positions and no stalls.

What changes against `PostgresApplicationRecorder` 9.5.6:

- Rows go in first, the one lock comes last, for a few small rows and the commit (`es.place`). The library locks the
  table for the whole append, and one over about 1 MB never ends (psycopg leaves pipeline sending early).
- A small append is one statement; a large one is COPY, packed by hand.
- Batches of artifacts are one row, and come out of the library's reading methods as ordinary events.
- The lock is taken and the commit done in one message: a client that freezes or dies cannot hold it.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from eventsourcing.persistence import InterfaceError, OperationalError, StoredEvent
from eventsourcing.postgres import (
    PostgresApplicationRecorder,
    PostgresDatastore,
    PostgresProcessRecorder,
    PostgresTrackingRecorder,
)
from eventsourcing.utils import retry
from psycopg import ClientCursor, Connection
from psycopg.rows import tuple_row

from domain.errors import IntegrityConflict, OutOfOrder
from domain.event import DEFAULT_TENANT
from domain.run import ArtifactProduced
from infrastructure.event_store import statements
from infrastructure.event_store.codec import BATCH_MAX, CODEC, batch_of, events_of
from infrastructure.event_store.packing import copy_stream, event_arrays, segment_arrays
from infrastructure.event_store.records import (
    LogEvent,
    LogNotification,
    LogRow,
    Segment,
    StoredBatch,
    segments,
)
from infrastructure.event_store.subscription import LogSubscription

CHANNEL = "eioku_log"
ONE_STATEMENT_MAX = 200
"""Events up to here go as arrays in one round trip, more by COPY, which needs five; about equal from 200 to 1,000."""
PAGE_BYTES = 8 << 20
"""Stored size of what one reading step brings in, unless a single row is larger."""
_WINDOW_MAX = 1_000_000

P = ParamSpec("P")
R = TypeVar("R")


def _retried(method: Callable[P, R]) -> Callable[P, R]:
    """Again after a lost connection. What was committed just then is refused as a conflict, not stored twice."""
    return cast("Callable[P, R]", retry((InterfaceError, OperationalError), max_attempts=6, wait=0.1)(method))


class LogRecorder(PostgresApplicationRecorder):
    """Records events and batches in the schema `es`, which migrations own."""

    def __init__(
        self, datastore: PostgresDatastore, *, events_table_name: str = "events", **kwargs: Any
    ) -> None:
        if datastore.enable_db_functions:
            raise ValueError("enable_db_functions loses events: it hands out positions without a lock")
        super().__init__(datastore, events_table_name=events_table_name, **kwargs)
        self.channel_name = CHANNEL

    def create_table(self) -> None:
        """Nothing: `migrations.upgrade` makes the tables."""

    # ---- writing -------------------------------------------------------------------------------------------------

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Store events, and with `tracking` a follower's position, all or none; their positions.

        Raises:
            eventsourcing.persistence.IntegrityError: a version is taken, or the follower was further already.
        """
        if not stored_events and kwargs.get("tracking") is None:
            return []
        last = self._append(stored_events, **kwargs)
        return list(range(last - len(stored_events) + 1, last + 1))

    def append(self, items: Sequence[StoredEvent | StoredBatch]) -> int:
        """Store events and batches in this order, all or none; the position of the last.

        A batch that is stored already is passed over.

        Raises:
            eventsourcing.persistence.IntegrityError: an event's version is taken.
            OutOfOrder: a batch does not follow the last one of its stream.
            IntegrityConflict: a batch's versions hold something else.
        """
        return self._append(items)

    @_retried
    def _append(self, items: Sequence[StoredEvent | StoredBatch], **kwargs: Any) -> int:
        parts = segments(items)
        events = [item for item in items if isinstance(item, StoredEvent)]
        batches = [item for item in items if isinstance(item, StoredBatch)]
        if len(parts) > 1:
            # One order for all writers, or two of them could wait for each other's rows.
            events.sort(key=lambda event: (cast("UUID", event.originator_id).int, event.originator_version))
            batches.sort(key=lambda batch: (batch.stream_id.int, batch.last_version))
        with self.datastore.get_connection() as connection:
            if kwargs.get("tracking") is None:
                if not batches and len(events) <= ONE_STATEMENT_MAX:
                    return _append_events(connection, events, parts)
                if len(batches) == 1 and not events:
                    return _append_batch(connection, batches[0])
            return self._append_in_transaction(connection, parts, events, batches, **kwargs)

    def _append_in_transaction(
        self,
        connection: Connection[Any],
        parts: Sequence[Segment],
        events: Sequence[StoredEvent],
        batches: Sequence[StoredBatch],
        **kwargs: Any,
    ) -> int:
        known: dict[tuple[UUID, int], int] = {}
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            self._insert_events(cursor, events, **kwargs)
        with connection.cursor(row_factory=tuple_row) as cursor:
            for batch in batches:
                cursor.execute(statements.PUT_BATCH, batch, prepare=True)
                position = _outcome(batch, *_one(cursor.fetchone()))
                if position is not None:
                    known[batch.stream_id, batch.last_version] = position
            if events:
                with cursor.copy(statements.COPY) as copy:
                    copy.write(copy_stream(events))
        fresh = [
            part for part in parts if not part.is_batch or (part.stream_id, part.last_version) not in known
        ]
        with ClientCursor(connection, row_factory=tuple_row) as cursor:
            if not fresh:
                cursor.execute("COMMIT")
                return max(known.values(), default=0)
            cursor.execute(statements.PLACE_AND_COMMIT, [list(column) for column in zip(*fresh, strict=True)])
            return cast("int", _one(cursor.fetchone())[0])

    # ---- reading -------------------------------------------------------------------------------------------------

    @_retried
    def select_log(
        self, after: int, *, limit: int, kinds: Sequence[str] | None = None, with_batches: bool = False
    ) -> Sequence[LogRow]:
        """What follows position `after`, in order, batches unexpanded; empty only when there is nothing more.

        As many rows as make up about `limit` events or PAGE_BYTES, at least one. `kinds`: topics and artifact types,
        None = all; `with_batches`: batches of every type as well.
        """
        window = limit + BATCH_MAX
        with self.datastore.get_connection() as connection:
            cursor = connection.cursor(binary=True, row_factory=tuple_row)
            while True:
                page = {
                    "after": after,
                    "until": after + window,
                    "limit": limit,
                    "bytes": PAGE_BYTES,
                    "kinds": None if kinds is None else list(kinds),
                    "with_batches": with_batches,
                }
                rows = cursor.execute(statements.SELECT_LOG, page, prepare=True).fetchall()
                if rows or kinds is None:
                    return [LogRow._make(row) for row in rows]
                if after + window >= (_one(cursor.execute(statements.HEAD, prepare=True).fetchone())[0] or 0):
                    return []
                after += window
                window = min(window * 4, _WINDOW_MAX)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[LogNotification]:
        """Events by position, batches expanded; as the library defines it."""
        after = 0 if start is None else start - inclusive_of_start
        found: list[LogNotification] = []
        kinds = list(topics) or None
        with_batches = ArtifactProduced.TOPIC in topics
        while len(found) < limit:
            rows = self.select_log(after, limit=limit - len(found), kinds=kinds, with_batches=with_batches)
            for row in rows:
                for notification in _notifications(row, after):
                    if len(found) == limit or (stop is not None and notification.id > stop):
                        return found
                    found.append(notification)
            if not rows or (stop is not None and rows[-1].position >= stop):
                break
            after = rows[-1].position
        return found

    @_retried
    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[LogEvent]:
        """Events of a stream by version, batches expanded; as the library defines it."""
        bounds = {"stream": originator_id, "gt": gt, "lte": lte, "limit": limit}
        with self.datastore.get_connection() as connection:
            cursor = connection.cursor(binary=True, row_factory=tuple_row)
            # A stream holds either events or batches.
            rows = cursor.execute(statements.SELECT_EVENTS[desc], bounds, prepare=True).fetchall()
            if rows:
                return [LogEvent(*row) for row in rows]
            rows = cursor.execute(statements.SELECT_BATCHES[desc], bounds, prepare=True).fetchall()
        found: list[LogEvent] = []
        for row in rows:
            events = list(_expanded(LogRow._make(row)))
            inside = [
                event
                for event in (reversed(events) if desc else events)
                if (gt is None or event.originator_version > gt)
                and (lte is None or event.originator_version <= lte)
            ]
            found.extend(inside)
        return found if limit is None else found[:limit]

    @_retried
    def max_notification_id(self) -> int | None:
        """The newest position, None when the log is empty."""
        with (
            self.datastore.get_connection() as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            return cast("int | None", _one(cursor.execute(statements.HEAD, prepare=True).fetchone())[0])

    @_retried
    def max_version(self, originator_id: UUID) -> int:
        """The newest version of a stream, whether it holds events or batches; 0 when there is none."""
        with (
            self.datastore.get_connection() as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            row = cursor.execute(statements.VERSION, {"stream": originator_id}, prepare=True).fetchone()
            return cast("int", _one(row)[0])

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> LogSubscription:
        """Events after position `gt` as they come, batches expanded."""
        return LogSubscription(recorder=self, gt=gt, topics=topics)


class LogProcessRecorder(LogRecorder, PostgresProcessRecorder):
    """Stores events and a follower's position together."""


class LogTrackingRecorder(PostgresTrackingRecorder):
    """Followers' positions in `es.tracking`."""

    def create_table(self) -> None:
        """Nothing: `migrations.upgrade` makes the tables."""


def _append_events(
    connection: Connection[Any], events: Sequence[StoredEvent], parts: Sequence[Segment]
) -> int:
    with connection.cursor(row_factory=tuple_row) as cursor:
        if len(events) == 1:
            (event,) = events
            row = (
                event.originator_id,
                event.originator_version,
                event.topic,
                getattr(event, "schema_version", 1),
                getattr(event, "tenant_id", DEFAULT_TENANT),
                getattr(event, "recorded_at", None) or datetime.now(UTC),
                event.state,
            )
            cursor.execute(statements.APPEND_EVENT, row, prepare=True)
        else:
            cursor.execute(statements.APPEND, event_arrays(events) + segment_arrays(parts), prepare=True)
        return cast("int", _one(cursor.fetchone())[0])


def _append_batch(connection: Connection[Any], batch: StoredBatch) -> int:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(statements.APPEND_BATCH, batch, prepare=True)
        outcome, place = _one(cursor.fetchone())
        _outcome(batch, outcome, place)
        return cast("int", place)


def _outcome(batch: StoredBatch, outcome: str, place: int) -> int | None:
    """The position of a batch that was there already, None when it was stored."""
    match outcome:
        case "stored":
            return None
        case "known":
            return place
        case "early":
            raise OutOfOrder(batch.stream_id, place, batch.first_version)
        case _:
            raise IntegrityConflict(batch.stream_id, batch.last_version)


def _one(row: tuple[Any, ...] | None) -> tuple[Any, ...]:
    assert row is not None  # aggregates and function calls return a row
    return row


def _expanded(row: LogRow) -> Iterator[LogEvent]:
    return map(CODEC.encode_unchecked, events_of(batch_of(row)))


def _notifications(row: LogRow, after: int) -> Iterator[LogNotification]:
    """The events of a row that lie after position `after`."""
    if not row.is_batch:
        yield LogNotification(
            id=row.position,
            originator_id=row.stream_id,
            originator_version=row.version,
            topic=row.kind,
            state=row.body,
            schema_version=row.schema_version,
            tenant_id=row.tenant_id,
            recorded_at=row.recorded_at,
        )
        return
    for position, event in enumerate(_expanded(row), row.position - row.length + 1):
        if position > after:
            yield LogNotification(id=position, **vars(event))
