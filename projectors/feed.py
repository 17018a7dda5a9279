"""The log as the projections of one process follow it: woken together, read and decoded once."""

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
import psycopg
import structlog

from application.ports import Recorded
from domain.artifacts import LATEST
from domain.artifacts.envelope import ArtifactBatch
from domain.errors import EiokuError, SchemaNotFound, ServiceUnavailable, Undecodable
from domain.run import artifacts_stream_of
from infrastructure.event_store.codec import EVENT_TYPES
from infrastructure.event_store.log import CHANNEL, PostgresEventLog, recorded
from infrastructure.event_store.records import LogRow
from infrastructure.postgres.listen import POLL_S, Listener
from projectors.projection import Projection

STEP = 20_000
"""Events in one transaction at most: short ones keep the tables' dead rows few, and a restart loses little."""
_KEPT_BYTES = 32 << 20
"""Decoded events that are kept for the other projections, besides those read last."""
_KEPT_S = 10.0
"""How long: all projections at the head have passed them by then, and who has not reads them again."""
_EVENT_BYTES = 1_000
"""About what an event takes that is not in a batch."""
_KNOWN = frozenset({*LATEST, *(event.TOPIC for event in EVENT_TYPES)})

log = structlog.get_logger(__name__)


class Unreadable(msgspec.Struct, frozen=True):
    """Something in the log that this version cannot decode. It is parked, never passed over in silence."""

    position: int
    stream_id: UUID
    version: int
    topic: str
    """Or artifact type."""
    error: EiokuError

    def concerns(self, projection: type[Projection]) -> bool:
        """Whether the projection might have wanted it. Of what nobody here knows, nobody can say no."""
        return self.topic in projection.topics or self.topic in projection.kinds or self.topic not in _KNOWN


Entry = Recorded | Unreadable


class Stretch(NamedTuple):
    """Consecutive entries: all that lies in (after, upto]."""

    after: int
    upto: int
    entries: Sequence[Entry]
    size_bytes: int

    def wanted_by(self, projection: type[Projection]) -> list[Entry]:
        """The entries that the projection handles."""
        return [
            e
            for e in self.entries
            if (e.concerns(projection) if isinstance(e, Unreadable) else projection.wants(e))
        ]


def read_entries(source: PostgresEventLog, after: int, *, kinds: Sequence[str] | None = None) -> list[Entry]:
    """What follows `after`, at most about `STEP` events; empty only when there is nothing more."""
    return [decoded(row) for row in source.read_rows(after, limit=STEP, kinds=kinds)]


def decoded(row: LogRow) -> Entry:
    """A row of the log, decoded if that is possible."""
    if row.is_batch and row.kind not in LATEST:
        return Unreadable(row.position, row.stream_id, row.version, row.kind, SchemaNotFound(row.kind))
    try:
        return recorded(row)
    except Undecodable as error:
        return Unreadable(row.position, row.stream_id, row.version, row.kind, error)


def described(entry: Entry) -> tuple[UUID, int, str]:
    """Stream, version and topic of an entry; of a batch, its last version and its artifact type."""
    if isinstance(entry, Unreadable):
        return entry.stream_id, entry.version, entry.topic
    item = entry.item
    if isinstance(item, ArtifactBatch):
        return artifacts_stream_of(item.head.run_id), item.last_version, item.head.artifact_type
    return item.originator_id, item.originator_version, item.TOPIC


class Lane:
    """Reads forward; what was read last is kept, so that whoever comes next at that place need not read again."""

    def __init__(self, source: PostgresEventLog) -> None:
        self._source, self._lock = source, threading.Lock()
        self._kept: list[Stretch] = []
        self._until_s: deque[float] = deque()
        """Until when each is kept."""

    def read(self, after: int) -> Stretch:
        """What follows `after`; `upto` equals `after` when nothing does."""
        with self._lock:
            for kept in self._kept:
                if kept.after <= after < kept.upto:
                    start = bisect_right(kept.entries, after, key=lambda entry: entry.position)
                    return Stretch(after, kept.upto, kept.entries[start:], 0)
            entries = read_entries(self._source, after)
            fresh = Stretch(
                after, entries[-1].position if entries else after, entries, sum(map(_size_bytes, entries))
            )
            if entries:
                self._kept.append(fresh)
                self._until_s.append(time.monotonic() + _KEPT_S)
                while sum(kept.size_bytes for kept in self._kept[:-1]) > _KEPT_BYTES:
                    self._drop()
            return fresh

    def forget(self) -> None:
        """Drop what has been kept for long enough; another time, when somebody is reading."""
        if self._lock.acquire(blocking=False):
            try:
                while self._until_s and self._until_s[0] < time.monotonic():
                    self._drop()
            finally:
                self._lock.release()

    def _drop(self) -> None:
        del self._kept[0]
        self._until_s.popleft()


def _size_bytes(entry: Entry) -> int:
    if isinstance(entry, Recorded) and isinstance(entry.item, ArtifactBatch):
        return len(bytes(entry.item.items))
    return _EVENT_BYTES


class Feed:
    """One reader of the log for several threads."""

    def __init__(self, source: PostgresEventLog, database_url: str) -> None:
        self._source, self._url = source, database_url
        # Who is far behind reads on its own lane, so that nobody at the head waits for it.
        self._tail, self._past = Lane(source), Lane(source)
        self._arrived = threading.Condition()
        self._head = 0

    @property
    def head(self) -> int:
        """The newest position known."""
        return self._head

    def wait(self, after: int, timeout_s: float) -> None:
        """Return when something follows `after`, or later."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._head > after, timeout_s)

    def read(self, after: int) -> Stretch:
        """What follows `after`; `upto` equals `after` when nothing does.

        Raises:
            ServiceUnavailable: the database is not there.
        """
        return (self._tail if after >= self._head - STEP else self._past).read(after)

    def watch(self, stop: threading.Event) -> None:
        """Keep `head` fresh until `stop`: listening starts before the first look, and looks go on without news."""
        while not stop.is_set():
            try:
                with Listener(self._url, CHANNEL) as news:
                    while not stop.is_set():
                        self._note(self._source.head())
                        self._tail.forget()
                        self._past.forget()
                        news.wait()
            except (psycopg.OperationalError, ServiceUnavailable) as error:
                log.warning("feed.database_lost", error=str(error))
                stop.wait(POLL_S)
        self._note(self._head)

    def _note(self, head: int) -> None:
        with self._arrived:
            self._head = max(self._head, head)
            self._arrived.notify_all()
