"""Read model: videos."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from application.ports import Recorded
from domain.errors import VideoNotFound
from domain.video import (
    EVENTS,
    FileFacts,
    VideoChanged,
    VideoDeleted,
    VideoDuplicateFound,
    VideoEvent,
    VideoFingerprinted,
    VideoMissing,
    VideoProbed,
    VideoPromoted,
    VideoRegistered,
    VideoRelocated,
    VideoRestored,
    filename_after_move,
)
from domain.words import bare, composed, fold
from projectors.checkpoint import follower_of
from projectors.cursor import decode, encode
from projectors.metadata import metadata
from projectors.projection import Projection
from projectors.query import query_of
from projectors.rows import Row, Rows

UNDATED = "infinity"
"""Sorts after every date."""

videos = Table(
    "videos",
    metadata,
    Column("video_id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("filename_folded", Text, nullable=False),
    Column("filename_bare", Text, nullable=False),
    Column("collection", Text),
    Column("pipeline", ARRAY(Text)),
    Column("registered_at", DateTime(timezone=True), nullable=False),
    Column("given_created_at", DateTime(timezone=True)),
    Column("captured_at", DateTime(timezone=True), nullable=False),
    Column("size_bytes", BigInteger),
    Column("mtime_ms", BigInteger),
    Column("blake3", Text),
    Column("facts", JSONB),
    Column("duplicate_of", Uuid),
    Column("is_missing", Boolean, nullable=False),
    Column("position", BigInteger, nullable=False),
    Index("videos_timeline", "tenant_id", "captured_at", "video_id"),
    # Paths can be longer than what a B-tree takes.
    Index("videos_source", "source", postgresql_using="hash"),
    Index("videos_size", "tenant_id", "size_bytes"),
)
"""`captured_at` is 'infinity' when nobody knows; `filename_folded` and `filename_bare` are for search: `domain.words`."""


videos_deleted = Table(
    "videos_deleted",
    metadata,
    Column("video_id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("mtime_ms", BigInteger),
    Column("blake3", Text),
    Index("videos_deleted_source", "source", postgresql_using="hash"),
    Index("videos_deleted_size", "tenant_id", "size_bytes"),
)
"""Videos that somebody removed, so that a scan leaves their files alone wherever they lie."""


class Videos(Projection):
    """Videos that are registered and not deleted; of those that somebody removed, where their files lie."""

    name = "videos"
    version = 2
    tables = (videos, videos_deleted)
    topics = frozenset(event.TOPIC for event in EVENTS)

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """One row a video, in one of the tables."""
        ids = [r.item.originator_id for r in records if isinstance(r.item, VideoEvent)]
        rows, removed = Rows(connection, videos, ids), Rows(connection, videos_deleted, ids)
        gone: set[UUID] = set()
        for record in records:
            match record.item:
                case VideoRegistered() as event:
                    removed.forget_video(event.originator_id)
                    rows.put(event.originator_id, _registered(event, record.position))
                case VideoDeleted(originator_id=video_id, merged_into=other):
                    if other is None and (row := rows.get(video_id)) is not None:
                        removed.put(video_id, {name: row.get(name) for name in videos_deleted.columns.keys()})  # noqa: SIM118
                    gone.add(video_id)
                    rows.forget_video(video_id)
                case VideoEvent() as event if (row := rows.get(event.originator_id)) is not None:
                    _change(row, event)
                    row["position"] = record.position
                case VideoRelocated() as event if (row := removed.get(event.originator_id)) is not None:
                    row |= _moved(event)
        if gone:
            connection.execute("DELETE FROM videos WHERE video_id = ANY(%s)", (list(gone),))
        rows.save()
        removed.save()


def _moved(event: VideoRelocated) -> Row:
    facts = {"size_bytes": event.size_bytes, "mtime_ms": event.mtime_ms}
    return {"source": event.source, **{name: value for name, value in facts.items() if value is not None}}


def _registered(event: VideoRegistered, position: int) -> Row:
    return {
        "tenant_id": event.tenant_id,
        "source": event.source,
        **_name(event.filename),
        "collection": None if event.collection is None else composed(event.collection),
        "pipeline": event.pipeline,
        "registered_at": event.recorded_at,
        "given_created_at": event.file_created_at,
        "captured_at": event.file_created_at or UNDATED,
        "size_bytes": event.size_bytes,
        "mtime_ms": event.mtime_ms,
        "is_missing": False,
        "position": position,
    }


def _name(filename: str) -> Row:
    folded = fold(filename)
    return {"filename": filename, "filename_folded": folded, "filename_bare": bare(folded)}


def _change(row: Row, event: VideoEvent) -> None:
    match event:
        case VideoChanged():
            row |= {
                "size_bytes": event.size_bytes,
                "mtime_ms": event.mtime_ms,
                "blake3": None,
                "facts": None,
                "duplicate_of": None,
                "is_missing": False,
            }
        case VideoFingerprinted():
            row |= {"blake3": event.blake3, "size_bytes": event.size_bytes}
        case VideoProbed(facts=facts):
            row["facts"] = facts
            row["captured_at"] = row["given_created_at"] or facts.file_created_at or UNDATED
        case VideoDuplicateFound():
            row["duplicate_of"] = event.duplicate_of
        case VideoPromoted():
            row["duplicate_of"] = None
        case VideoRelocated():
            name = filename_after_move(row["filename"], row["source"], event.source)
            row |= {"is_missing": False, **_name(name), **_moved(event)}
        case VideoMissing():
            row["is_missing"] = True
        case VideoRestored():
            row["is_missing"] = False
        case _:
            raise TypeError(event)


# ---- queries ------------------------------------------------------------------------------------------------------

VideoStatus = Literal["registered", "processing", "ready", "failed", "duplicate", "missing"]
STATUSES: tuple[VideoStatus, ...] = get_args(VideoStatus)
"""What a list shows of a video; the first that applies:

`missing`: the file is gone from its place. `processing`: a task is pending or running. `duplicate`: another video has
the same bytes and is the one that is analysed. `failed`: the newest task of some type failed or was parked. `ready`:
all tasks have ended. `registered`: nothing was asked for yet.
"""


class VideoView(msgspec.Struct, frozen=True, kw_only=True):
    """A video as lists show it."""

    video_id: UUID
    filename: str
    source: str
    status: VideoStatus
    collection: str | None
    file_created_at: datetime | None
    """The client's date, else the file's own; None = undated."""
    registered_at: datetime
    pipeline: tuple[str, ...] | None
    size_bytes: int | None
    mtime_ms: int | None
    blake3: str | None
    facts: FileFacts | None
    duplicate_of: UUID | None
    is_missing: bool
    poster_url: str | None
    """The picture that stands for it; None when it has no pictures, or nobody has looked at it yet."""
    cursor: str
    """To go on after this video."""


class VideoPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some videos, in timeline order."""

    videos: list[VideoView]
    has_more: bool


class _Place(msgspec.Struct, frozen=True, array_like=True):
    captured_at: datetime | None
    video_id: UUID


_VIDEO = """
v.video_id, v.filename, v.source,
CASE WHEN v.is_missing THEN 'missing' WHEN work.is_open THEN 'processing'
    WHEN v.duplicate_of IS NOT NULL THEN 'duplicate' WHEN work.has_failed THEN 'failed'
    WHEN work.is_open IS NULL THEN 'registered' ELSE 'ready' END AS status,
v.collection, nullif(v.captured_at, 'infinity') AS captured_at, v.registered_at, v.pipeline, v.size_bytes, v.mtime_ms,
v.blake3, v.facts::text AS facts, v.duplicate_of, v.is_missing"""
_WORK = """
LEFT JOIN LATERAL (
    SELECT bool_or(status IN ('pending', 'running')) AS is_open,
        bool_or(status IN ('failed', 'parked') AND newest = 1) AS has_failed
    FROM (
        SELECT status, row_number() OVER (PARTITION BY task_type ORDER BY created_at DESC, position DESC) AS newest
        FROM tasks AS t WHERE t.video_id = v.video_id
    ) AS t
) AS work ON true"""


async def list_videos(
    connection: psycopg.AsyncConnection,
    *,
    tenant_id: str,
    status: VideoStatus | None = None,
    filename: str | None = None,
    collection: str | None = None,
    captured_from: datetime | None = None,
    captured_to: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> VideoPage:
    """Videos in timeline order. `filename` is a part of the name in any case; a capture range leaves out undated ones.

    The range is half-open.

    Raises:
        InvalidParameter: names `cursor` or `filename`.
    """
    where = ["v.tenant_id = %(tenant_id)s"]
    values: dict[str, object] = {"tenant_id": tenant_id, "limit": limit + 1}
    if filename is not None:
        name = query_of("filename", filename)
        where.append(name.names("v.filename_bare", "v.filename_folded", "filename"))
        values |= name.name_parameters("filename")
    if collection is not None:
        where.append("v.collection = %(collection)s")
        values["collection"] = composed(collection)
    if captured_from is not None:
        where.append("v.captured_at >= %(captured_from)s")
        values["captured_from"] = captured_from
    if captured_to is not None:
        where.append("v.captured_at < %(captured_to)s")
        values["captured_to"] = captured_to
    if captured_from is not None or captured_to is not None:
        where.append("v.captured_at < 'infinity'")
    if cursor is not None:
        place = decode("videos", cursor, _Place)
        where.append(
            "(v.captured_at, v.video_id) > (coalesce(%(after_at)s::timestamptz, 'infinity'), %(after_id)s::uuid)"
        )
        values |= {"after_at": place.captured_at, "after_id": place.video_id}
    found = f"SELECT {_VIDEO} FROM videos AS v {_WORK} WHERE {' AND '.join(where)}"
    if status is not None:
        found = f"SELECT * FROM ({found}) AS v WHERE status = %(status)s"
        values["status"] = status
    rows = await connection.execute(
        f"{found} ORDER BY coalesce(captured_at, 'infinity'), video_id LIMIT %(limit)s"
        if status is not None
        else f"{found} ORDER BY v.captured_at, v.video_id LIMIT %(limit)s",
        values,
    )
    videos = [_view(row) for row in await rows.fetchall()]
    return VideoPage(videos=videos[:limit], has_more=len(videos) > limit)


async def get_video(connection: psycopg.AsyncConnection, *, tenant_id: str, video_id: UUID) -> VideoView:
    """One video; its tasks are `tasks.tasks_of_video`.

    Raises:
        VideoNotFound: no such video for this tenant, or it was deleted.
    """
    rows = await connection.execute(
        f"SELECT {_VIDEO} FROM videos AS v {_WORK} WHERE v.tenant_id = %s AND v.video_id = %s",
        (tenant_id, video_id),
    )
    row = await rows.fetchone()
    if row is None:
        raise VideoNotFound(video_id)
    return _view(row)


async def require_video(connection: psycopg.AsyncConnection, *, tenant_id: str, video_id: UUID) -> None:
    """Raises VideoNotFound unless the tenant has the video."""
    rows = await connection.execute(
        "SELECT FROM videos WHERE tenant_id = %s AND video_id = %s", (tenant_id, video_id)
    )
    if await rows.fetchone() is None:
        raise VideoNotFound(video_id)


async def videos_at(
    connection: psycopg.AsyncConnection, *, tenant_id: str, source: str
) -> tuple[int, list[UUID]]:
    """Videos with this source, removed ones too, and the position up to which that is known."""
    rows = await connection.execute(
        "SELECT coalesce((SELECT notification_id FROM es.tracking WHERE application_name = %(follower)s), 0), array("
        " SELECT video_id FROM videos WHERE tenant_id = %(tenant_id)s AND source = %(source)s UNION ALL"
        " SELECT video_id FROM videos_deleted WHERE tenant_id = %(tenant_id)s AND source = %(source)s)",
        {"follower": follower_of(Videos.name), "tenant_id": tenant_id, "source": source},
    )
    row = await rows.fetchone()
    assert row is not None
    return row[0], row[1]


def _view(row: tuple[Any, ...]) -> VideoView:
    (
        video_id,
        name,
        source,
        status,
        collection,
        captured_at,
        registered_at,
        pipeline,
        size,
        mtime,
        blake3,
        facts,
        *rest,
    ) = row
    duplicate_of, is_missing = rest
    known = None if facts is None else msgspec.json.decode(facts, type=FileFacts)
    return VideoView(
        video_id=video_id,
        filename=name,
        source=source,
        status=status,
        collection=collection,
        file_created_at=captured_at,
        registered_at=registered_at,
        pipeline=None if pipeline is None else tuple(pipeline),
        size_bytes=size,
        mtime_ms=mtime,
        blake3=blake3,
        facts=known,
        duplicate_of=duplicate_of,
        is_missing=is_missing,
        poster_url=f"/v1/videos/{video_id}/poster" if known is not None and known.has_video else None,
        cursor=encode("videos", _Place(captured_at, video_id)),
    )
