"""The event log's contract, in memory: for tests of rules that need no database."""

import threading
from collections.abc import Sequence
from uuid import UUID

from application.ports import LogItem, Recorded
from domain.artifacts.envelope import ArtifactBatch
from domain.errors import ConcurrencyConflict, IntegrityConflict, OutOfOrder
from domain.event import DomainEvent
from domain.run import artifacts_stream_of


class MemoryLog:
    """`application.ports.EventLog` over a list."""

    def __init__(self) -> None:
        self.records: list[Recorded] = []
        self._streams: dict[UUID, list[DomainEvent]] = {}
        self._batches: dict[tuple[UUID, int], ArtifactBatch] = {}
        self._versions: dict[UUID, int] = {}
        self._checkpoints: dict[str, int] = {}
        self._lock = threading.RLock()

    def load(self, stream_id: UUID) -> Sequence[DomainEvent]:
        return list(self._streams.get(stream_id, ()))

    def version(self, stream_id: UUID) -> int:
        return self._versions.get(stream_id, 0)

    def append(self, items: Sequence[LogItem]) -> int:
        with self._lock:
            versions: dict[UUID, int] = {}
            fresh: list[LogItem] = []
            for item in items:
                if isinstance(item, ArtifactBatch):
                    stream, first, last = artifacts_stream_of(item.head.run_id), item.first_version, item.last_version
                else:
                    stream, first, last = item.originator_id, item.originator_version, item.originator_version
                now = versions.get(stream, self.version(stream))
                if isinstance(item, ArtifactBatch) and first <= now:
                    if self._batches.get((stream, first)) != item:
                        raise IntegrityConflict(stream, first)
                    continue
                if first != now + 1:
                    raise OutOfOrder(stream, now, first) if isinstance(item, ArtifactBatch) else ConcurrencyConflict(stream, first - 1)
                versions[stream] = last
                fresh.append(item)
            for item in fresh:
                self._store(item)
            self._versions.update(versions)
            return self.head()

    def _store(self, item: LogItem) -> None:
        count = item.count if isinstance(item, ArtifactBatch) else 1
        self.records.append(Recorded(position=self.head() + count, item=item))
        if isinstance(item, ArtifactBatch):
            self._batches[artifacts_stream_of(item.head.run_id), item.first_version] = item
        else:
            self._streams.setdefault(item.originator_id, []).append(item)

    def head(self) -> int:
        return self.records[-1].position if self.records else 0

    def read(self, after: int, *, limit: int = 5_000, kinds: Sequence[str] | None = None) -> Sequence[Recorded]:
        found = []
        for record in self.records:
            item = record.item
            kind = item.head.artifact_type if isinstance(item, ArtifactBatch) else item.TOPIC
            if record.position > after and (kinds is None or kind in kinds):
                found.append(record)
            if len(found) >= limit:
                break
        return found

    def checkpoint(self, follower: str) -> int:
        return self._checkpoints.get(follower, 0)

    def advance(self, follower: str, position: int) -> None:
        if position < self.checkpoint(follower):
            raise IntegrityConflict(UUID(int=0), position)
        self._checkpoints[follower] = position
