"""Read model: runs, with their provenance in full."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from application.ports import Recorded
from domain.errors import RunNotFound
from domain.run import EVENTS, ModelIdentity, RunCompleted, RunEvent, RunFailed, RunStarted
from domain.video import VideoDeleted, VideoRegistered
from projectors.cursor import decode, encode
from projectors.metadata import metadata
from projectors.projection import Projection
from projectors.rows import DeletedVideos, Row, Rows, short_config
from projectors.videos import require_video

runs = Table(
    "runs",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("tenant_id", Text, nullable=False),
    Column("task_id", Uuid, nullable=False),
    Column("video_id", Uuid, nullable=False),
    Column("task_type", Text, nullable=False),
    Column("producer", Text, nullable=False),
    Column("producer_version", Text, nullable=False),
    Column("profile", Text, nullable=False),
    Column("config", JSONB, nullable=False),
    Column("config_hash", Text, nullable=False),
    Column("input_hash", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("artifact_types", ARRAY(Text), nullable=False),
    Column("language", Text),
    Column("model", JSONB),
    Column("status", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("counts", JSONB),
    Column("metrics", JSONB),
    Column("code", Text),
    Column("error", Text),
    Column("position", BigInteger, nullable=False),
    Index("runs_video", "video_id"),
    Index("runs_task", "task_id"),
)
"""`created_at` is when the work was done (imports tell), `started_at` when we were told."""

runs_deleted = Table(
    "runs_deleted",
    metadata,
    Column("video_id", Uuid, nullable=False),
    Column("tenant_id", Text, nullable=False),
    PrimaryKeyConstraint("video_id"),
)


class Runs(Projection):
    """Runs on videos that are not deleted."""

    name = "runs"
    tables = (runs, runs_deleted)
    topics = frozenset({*(event.TOPIC for event in EVENTS), VideoDeleted.TOPIC, VideoRegistered.TOPIC})

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """One row a run."""
        rows = Rows(connection, runs, (r.item.originator_id for r in records if isinstance(r.item, RunEvent)))
        deleted = DeletedVideos(connection, runs_deleted, records)
        for record in records:
            match record.item:
                case VideoRegistered() as event:
                    deleted.revive(event)
                case VideoDeleted() as event:
                    deleted.bury(event)
                    rows.forget_video(event.originator_id)
                case RunStarted() as event if event.video_id not in deleted:
                    rows.put(event.originator_id, _started(event, record.position))
                case RunEvent() as event if (row := rows.get(event.originator_id)) is not None:
                    _end(row, event)
        deleted.save(runs)
        rows.save()


def _started(event: RunStarted, position: int) -> Row:
    return {
        "tenant_id": event.tenant_id,
        "task_id": event.task_id,
        "video_id": event.video_id,
        "task_type": event.task_type,
        "producer": event.producer,
        "producer_version": event.producer_version,
        "profile": event.profile,
        "config": event.config,
        "config_hash": event.config_hash,
        "input_hash": event.input_hash,
        "attempt": event.attempt,
        "worker": event.worker,
        "device": event.device,
        "artifact_types": event.artifact_types,
        "language": event.language,
        "model": event.model,
        "status": "running",
        "created_at": event.created_at,
        "started_at": event.recorded_at,
        "position": position,
    }


def _end(row: Row, event: RunEvent) -> None:
    row["ended_at"] = event.recorded_at
    match event:
        case RunCompleted():
            row |= {"status": "completed", "counts": event.counts, "metrics": event.metrics}
            row["language"] = event.language or row["language"]
        case RunFailed():
            row |= {"status": "failed", "code": event.code, "error": event.error}
        case _:
            raise TypeError(event)


# ---- queries ------------------------------------------------------------------------------------------------------


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a task, with its provenance in full."""

    run_id: UUID
    task_id: UUID
    video_id: UUID
    task_type: str
    producer: str
    producer_version: str
    profile: str
    config: dict[str, Any]
    """In lists, one of more than 16 KiB is `{"left_out_bytes": its size}`; the run itself has it whole."""
    config_hash: str
    input_hash: str
    attempt: int
    worker: str
    device: str
    artifact_types: list[str]
    language: str | None
    model: ModelIdentity | None
    status: Literal["running", "completed", "failed"]
    created_at: datetime
    """When the work was done; for imports as told by the client."""
    started_at: datetime
    ended_at: datetime | None
    counts: dict[str, int] | None
    metrics: dict[str, float] | None
    code: str | None
    error: str | None


class ListedRun(RunView, frozen=True, kw_only=True):
    """A run in a list."""

    cursor: str
    """To go on after this run."""


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some completed runs, newest first."""

    runs: list[ListedRun]
    has_more: bool


class ProfileView(msgspec.Struct, frozen=True, kw_only=True):
    """What a video has of one profile."""

    profile: str
    artifact_count: int
    run_ids: list[UUID]
    """Oldest first."""
    cursor: str
    """To go on after this profile."""


class ProfilePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some profiles, by name."""

    profiles: list[ProfileView]
    has_more: bool


class _Place(msgspec.Struct, frozen=True, array_like=True):
    created_at: datetime
    position: int


class _ProfilePlace(msgspec.Struct, frozen=True, array_like=True):
    profile: str


_FIELDS = RunView.__struct_fields__
_COLUMNS = ", ".join(f"x.{name}" for name in _FIELDS)
_LISTED = ", ".join(short_config("x.config") if name == "config" else f"x.{name}" for name in _FIELDS)


async def get_run(connection: psycopg.AsyncConnection, *, tenant_id: str, run_id: UUID) -> RunView:
    """One run, whether it has ended or not.

    Raises:
        RunNotFound: no such run for this tenant.
    """
    rows = await connection.execute(
        f"SELECT {_COLUMNS} FROM runs AS x WHERE x.tenant_id = %s AND x.run_id = %s", (tenant_id, run_id)
    )
    row = await rows.fetchone()
    if row is None:
        raise RunNotFound(run_id)
    return _view(row)


async def runs_of_video(
    connection: psycopg.AsyncConnection,
    *,
    tenant_id: str,
    video_id: UUID,
    artifact_type: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> RunPage:
    """Completed runs, newest first, that looked for the type, or for anything.

    Raises:
        VideoNotFound: no such video for this tenant.
        InvalidParameter: names `cursor`.
    """
    of_type = "AND r.artifact_type = %(type)s" if artifact_type is not None else ""
    values = {"tenant": tenant_id, "video": video_id, "type": artifact_type, "limit": limit + 1}
    after = ""
    if cursor is not None:
        place = decode("runs", cursor, _Place)
        after = "WHERE (x.created_at, done.position) < (%(at)s, %(position)s)"
        values |= {"at": place.created_at, "position": place.position}
    rows = await connection.execute(
        f"""SELECT done.position, {_LISTED} FROM runs AS x JOIN (
                SELECT r.run_id, max(r.position) AS position FROM run_types AS r
                WHERE r.tenant_id = %(tenant)s AND r.video_id = %(video)s {of_type} GROUP BY r.run_id
            ) AS done USING (run_id) {after} ORDER BY x.created_at DESC, done.position DESC LIMIT %(limit)s""",
        values,
    )
    found = [_listed(*row) for row in await rows.fetchall()]
    if not found:
        await require_video(connection, tenant_id=tenant_id, video_id=video_id)
    return RunPage(runs=found[:limit], has_more=len(found) > limit)


async def profiles_of_video(
    connection: psycopg.AsyncConnection,
    *,
    tenant_id: str,
    video_id: UUID,
    artifact_type: str,
    limit: int = 100,
    cursor: str | None = None,
) -> ProfilePage:
    """What completed runs of each profile found of the type, by profile name.

    Raises:
        VideoNotFound: no such video for this tenant.
        InvalidParameter: names `cursor`.
    """
    after = None if cursor is None else decode("profiles", cursor, _ProfilePlace).profile
    rows = await connection.execute(
        """SELECT r.profile, sum(r.artifact_count)::bigint, array_agg(r.run_id ORDER BY r.created_at, r.position)
        FROM run_types AS r WHERE r.tenant_id = %s AND r.video_id = %s AND r.artifact_type = %s
            AND (%s::text IS NULL OR r.profile COLLATE "C" > %s)
        GROUP BY r.profile ORDER BY r.profile COLLATE "C" ASC LIMIT %s""",
        (tenant_id, video_id, artifact_type, after, after, limit + 1),
    )
    found = [
        ProfileView(
            profile=name, artifact_count=n, run_ids=ids, cursor=encode("profiles", _ProfilePlace(name))
        )
        for name, n, ids in await rows.fetchall()
    ]
    if not found:
        await require_video(connection, tenant_id=tenant_id, video_id=video_id)
    return ProfilePage(profiles=found[:limit], has_more=len(found) > limit)


def _listed(position: int, *row: Any) -> ListedRun:
    run = dict(zip(_FIELDS, row, strict=True))
    return msgspec.convert(run | {"cursor": encode("runs", _Place(run["created_at"], position))}, ListedRun)


def _view(row: tuple[Any, ...]) -> RunView:
    return msgspec.convert(dict(zip(_FIELDS, row, strict=True)), RunView)
