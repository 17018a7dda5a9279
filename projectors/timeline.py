"""What all read models of the timeline share: their columns, the videos' dates, and how batches become rows."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
)

from application.ports import LogItem, Recorded
from domain.artifacts import LATEST, upcast
from domain.artifacts.envelope import ArtifactBatch, unpack
from domain.run import RunCompleted
from domain.video import VideoDeleted, VideoProbed, VideoRegistered
from domain.words import fold
from projectors.metadata import metadata
from projectors.projection import Projection, copy_lines, escape

KEY = ("captured_at", "video_id", "start_ms", "artifact_id")
"""The order of everything, see `domain.timeline`; `captured_at` is 'infinity' for undated videos."""
_COMMON = ("tenant_id", "video_id", "captured_at", "run_id")
"""Columns that are equal in all rows of a batch."""


_COUNTED_BY = ("run_id", "confidence")
"""Columns that the index of a label has too, so that counting reads the index alone."""


def timeline_table(name: str, *own: Column[Any], label: str | None = None) -> Table:
    """The table of a timeline read model; rows of one `label` lie together in an index of their own."""
    by_label = (
        ()
        if label is None
        else (Index(f"{name}_{label}", "tenant_id", label, *KEY, postgresql_include=_COUNTED_BY),)
    )
    return Table(
        name,
        metadata,
        Column("tenant_id", Text, nullable=False),
        Column("captured_at", DateTime(timezone=True), nullable=False),
        Column("video_id", Uuid, nullable=False),
        Column("start_ms", Integer, nullable=False),
        Column("end_ms", Integer, nullable=False),
        Column("artifact_id", Uuid, nullable=False),
        Column("run_id", Uuid, nullable=False),
        *own,
        Index(f"{name}_timeline", "tenant_id", *KEY),
        *by_label,
    )


def videos_table(name: str) -> Table:
    """The read model's own note of which videos exist and when they were filmed."""
    return Table(
        f"{name}_videos",
        metadata,
        Column("tenant_id", Text, nullable=False),
        Column("video_id", Uuid, nullable=False),
        Column("captured_at", DateTime(timezone=True), nullable=False),
        Column("is_given", Boolean, nullable=False),
        PrimaryKeyConstraint("tenant_id", "video_id", name=f"{name}_videos_pkey"),
    )


def counts_table(name: str) -> Table:
    """How many rows each label has in each run: totals without reading the rows."""
    return Table(
        f"{name}_counts",
        metadata,
        Column("tenant_id", Text, nullable=False),
        Column("label", Text(collation="C"), nullable=False),
        Column("captured_at", DateTime(timezone=True), nullable=False),
        Column("video_id", Uuid, nullable=False),
        Column("run_id", Uuid, nullable=False),
        Column("n", Integer, nullable=False),
        PrimaryKeyConstraint(
            "tenant_id", "label", "captured_at", "video_id", "run_id", name=f"{name}_counts_pkey"
        ),
        Index(f"{name}_counts_video", "tenant_id", "video_id"),
    )


def spellings_table(name: str) -> Table:
    """The labels of a tenant as they were written, by the form in which they are asked for."""
    return Table(
        f"{name}_spellings",
        metadata,
        Column("tenant_id", Text, nullable=False),
        Column("folded", Text(collation="C"), nullable=False),
        Column("label", Text(collation="C"), nullable=False),
        PrimaryKeyConstraint("tenant_id", "folded", "label", name=f"{name}_spellings_pkey"),
    )


def write_spellings(connection: psycopg.Connection, name: str, labels: set[tuple[str, str]]) -> None:
    """Add (tenant, label) to a table of spellings."""
    spelled = sorted((tenant_id, fold(label), label) for tenant_id, label in labels)
    connection.execute(
        f"INSERT INTO {name}_spellings SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]) ON CONFLICT DO NOTHING",
        [list(column) for column in zip(*spelled, strict=True)],
    )


class Found(msgspec.Struct, gc=False):
    """Base of what is decoded of an artifact: only what the rows need, ids as text."""

    artifact_id: str
    start_ms: int
    end_ms: int


class _Video(msgspec.Struct, frozen=True):
    captured_at: datetime | None
    """None = undated."""
    is_given: bool
    """The client gave the date; what the file says no longer counts."""


_Key = tuple[str, UUID]
"""(tenant, video)"""


F = TypeVar("F", bound=Found)


class Escaped(dict[str | None, str]):
    """Text → the same for COPY's text format; for columns whose few values repeat."""

    def __missing__(self, text: str | None) -> str:
        self[text] = escaped = "\\N" if text is None else escape(text)
        return escaped


class TimelineProjection(Projection, Generic[F]):
    """A read model with one row (or none) for each artifact of one type.

    Rows carry the video's capture date. A later date moves them; a deleted video takes them away, and batches of
    runs that end after it are ignored.
    """

    topics = frozenset({VideoRegistered.TOPIC, VideoProbed.TOPIC, VideoDeleted.TOPIC})
    artifact_type: ClassVar[str]
    decoder: ClassVar[msgspec.json.Decoder[Any]]
    """Of `list[F]`."""
    own_columns: ClassVar[tuple[str, ...]]
    has_counts: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if hasattr(cls, "artifact_type"):
            cls.kinds = frozenset({cls.artifact_type})

    @abstractmethod
    def lines(self, found: Sequence[F]) -> list[str]:
        """The rows in COPY's text format: `start_ms end_ms artifact_id`, then `own_columns`."""

    def labels(self, found: Sequence[F]) -> Iterable[str]:  # noqa: ARG002
        """The labels to count, one for each row that has one; none without `has_counts`."""
        return ()

    def note(self, tenant_id: str, found: Sequence[F]) -> set[tuple[str, str]]:  # noqa: ARG002
        """What a batch says beyond its rows: (tenant, something)."""
        return set()

    def write_noted(self, connection: psycopg.Connection, noted: set[tuple[str, str]]) -> None:
        """Store what `note` found."""

    def sum_up(
        self, connection: psycopg.Connection, completed: Sequence[tuple[str, UUID, datetime | None, UUID]]
    ) -> None:
        """Take in that runs have all their rows: (tenant, video, capture date, run). For `run.completed` in `topics`."""

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """Work out what all records together change, then write that."""
        before = self._load(connection, records)
        videos = dict(before)
        rows: dict[_Key, list[tuple[UUID, list[str], Counter[str]]]] = {}
        gone: set[_Key] = set()
        completed: dict[_Key, list[UUID]] = {}
        noted: set[tuple[str, str]] = set()
        for record in records:
            item = record.item
            if isinstance(item, ArtifactBatch):
                key = _key_of(item)
                if key in videos:
                    found = self._decode(item)
                    noted |= self.note(item.head.tenant_id, found)
                    counts = Counter(label.replace("\0", "") for label in self.labels(found))
                    rows.setdefault(key, []).append((item.head.run_id, self.lines(found), counts))
                continue
            key = _key_of(item)
            match item:
                case RunCompleted(originator_id=run_id, counts=found_of) if key in videos:
                    if found_of.get(self.artifact_type):
                        completed.setdefault(key, []).append(run_id)
                case VideoRegistered(file_created_at=given):
                    videos[key] = _Video(_utc(given), given is not None)
                case VideoProbed(facts=facts) if key in videos and not videos[key].is_given:
                    videos[key] = _Video(_utc(facts.file_created_at), is_given=False)
                case VideoDeleted() if key in videos:
                    del videos[key]
                    rows.pop(key, None)
                    completed.pop(key, None)
                    gone.add(key)
        self._forget(connection, [(*key, before[key].captured_at) for key in gone if key in before])
        self._move(
            connection,
            [
                (*key, old.captured_at, videos[key].captured_at)
                for key, old in before.items()
                if key in videos and key not in gone and videos[key].captured_at != old.captured_at
            ],
        )
        self._note_videos(
            connection,
            {key: video for key, video in videos.items() if key in gone or before.get(key) != video},
        )
        self._add(connection, videos, rows)
        if completed:
            self.sum_up(
                connection,
                [
                    (*key, videos[key].captured_at, run_id)
                    for key, runs in completed.items()
                    for run_id in runs
                ],
            )
        if noted:
            self.write_noted(connection, noted)

    def _load(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> dict[_Key, _Video]:
        keys = {_key_of(record.item) for record in records}
        found = connection.execute(
            f"SELECT tenant_id, video_id, nullif(captured_at, 'infinity'), is_given FROM {self.name}_videos"
            " WHERE (tenant_id, video_id) IN (SELECT * FROM unnest(%s::text[], %s::uuid[]))",
            ([key[0] for key in keys], [key[1] for key in keys]),
        )
        return {(tenant_id, video_id): _Video(at, given) for tenant_id, video_id, at, given in found}

    def _decode(self, batch: ArtifactBatch) -> list[F]:
        kind, version = batch.head.artifact_type, batch.head.schema_version
        if version == LATEST[kind].VERSION:
            found: list[F] = self.decoder.decode(batch.items)
            return found
        now = [
            msgspec.structs.replace(item, payload=upcast(kind, version, item.payload))
            for item in unpack(batch)
        ]
        old: list[F] = self.decoder.decode(msgspec.json.encode(now))
        return old

    def _forget(
        self, connection: psycopg.Connection, gone: Sequence[tuple[str, UUID, datetime | None]]
    ) -> None:
        if not gone:
            return
        arrays = [list(column) for column in zip(*gone, strict=True)]
        connection.execute(
            f"DELETE FROM {self.name} t"
            " USING unnest(%s::text[], %s::uuid[], %s::timestamptz[]) g (tenant_id, video_id, at)"
            " WHERE t.tenant_id = g.tenant_id AND t.captured_at = coalesce(g.at, 'infinity') AND t.video_id = g.video_id",
            arrays,
        )
        for table in (f"{self.name}_counts", f"{self.name}_videos")[0 if self.has_counts else 1 :]:
            connection.execute(
                f"DELETE FROM {table} t USING unnest(%s::text[], %s::uuid[]) g (tenant_id, video_id)"
                " WHERE t.tenant_id = g.tenant_id AND t.video_id = g.video_id",
                arrays[:2],
            )

    def _move(
        self,
        connection: psycopg.Connection,
        moved: Sequence[tuple[str, UUID, datetime | None, datetime | None]],
    ) -> None:
        if not moved:
            return
        arrays = [list(column) for column in zip(*moved, strict=True)]
        for table in (self.name, f"{self.name}_counts")[: 2 if self.has_counts else 1]:
            connection.execute(
                f"UPDATE {table} t SET captured_at = coalesce(m.new, 'infinity')"
                " FROM unnest(%s::text[], %s::uuid[], %s::timestamptz[], %s::timestamptz[])"
                " m (tenant_id, video_id, old, new) WHERE t.tenant_id = m.tenant_id"
                " AND t.captured_at = coalesce(m.old, 'infinity') AND t.video_id = m.video_id",
                arrays,
            )

    def _note_videos(self, connection: psycopg.Connection, changed: dict[_Key, _Video]) -> None:
        if not changed:
            return
        connection.execute(
            f"INSERT INTO {self.name}_videos (tenant_id, video_id, captured_at, is_given)"
            " SELECT tenant_id, video_id, coalesce(at, 'infinity'), is_given"
            " FROM unnest(%s::text[], %s::uuid[], %s::timestamptz[], %s::boolean[]) u (tenant_id, video_id, at, is_given)"
            " ON CONFLICT (tenant_id, video_id) DO UPDATE"
            " SET captured_at = excluded.captured_at, is_given = excluded.is_given",
            (
                [key[0] for key in changed],
                [key[1] for key in changed],
                [video.captured_at for video in changed.values()],
                [video.is_given for video in changed.values()],
            ),
        )

    def _add(
        self,
        connection: psycopg.Connection,
        videos: dict[_Key, _Video],
        rows: dict[_Key, list[tuple[UUID, list[str], Counter[str]]]],
    ) -> None:
        body: list[str] = []
        totals: dict[tuple[str, UUID, str, UUID], Counter[str]] = {}
        for key, batches in rows.items():
            tenant_id, video_id = key
            at = _when(videos[key].captured_at)
            for run_id, lines, counts in batches:
                if lines:
                    end = f"\t{escape(tenant_id)}\t{video_id}\t{at}\t{run_id}\n"
                    body += (end.join(lines), end)
                if counts:
                    totals.setdefault((tenant_id, video_id, at, run_id), Counter()).update(counts)
        if body:
            columns = ("start_ms", "end_ms", "artifact_id", *self.own_columns, *_COMMON)
            copy_lines(connection, self.name, columns, "".join(body).encode())
        if totals:
            self._count(connection, totals)

    def _count(
        self, connection: psycopg.Connection, totals: dict[tuple[str, UUID, str, UUID], Counter[str]]
    ) -> None:
        cells = [(*key, label, n) for key, counts in totals.items() for label, n in counts.items()]
        connection.execute(
            f"INSERT INTO {self.name}_counts AS c (tenant_id, video_id, captured_at, run_id, label, n)"
            " SELECT * FROM unnest(%s::text[], %s::uuid[], %s::timestamptz[], %s::uuid[], %s::text[], %s::int[])"
            " ON CONFLICT (tenant_id, label, captured_at, video_id, run_id) DO UPDATE SET n = c.n + excluded.n",
            [list(column) for column in zip(*cells, strict=True)],
        )


def _key_of(item: LogItem) -> _Key:
    match item:
        case ArtifactBatch(head=head):
            return head.tenant_id, head.video_id
        case RunCompleted(video_id=video_id):
            return item.tenant_id, video_id
        case _:
            return item.tenant_id, item.originator_id


def _utc(at: datetime | None) -> datetime | None:
    return at if at is None or at.tzinfo else at.replace(tzinfo=UTC)


def _when(captured_at: datetime | None) -> str:
    return "infinity" if captured_at is None else captured_at.astimezone(UTC).isoformat()
