"""Read model: which completed runs count, for each video and artifact type. Every query over artifacts joins it."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import (
    BigInteger,
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
from sqlalchemy.dialects.postgresql import JSONB

from application.ports import Recorded
from domain.artifacts.envelope import ArtifactBatch
from domain.run import RunCompleted, RunFailed, RunStarted
from domain.selection import SelectionCleared, SelectionSet
from domain.video import VideoDeleted, VideoRegistered
from projectors.metadata import metadata
from projectors.projection import Projection
from projectors.rows import DeletedVideos, Rows, to_json
from projectors.selection_policies import selection_policies

run_types = Table(
    "run_types",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("run_id", Uuid, nullable=False),
    Column("artifact_type", Text, nullable=False),
    Column("video_id", Uuid, nullable=False),
    Column("profile", Text, nullable=False),
    Column("language", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("artifact_count", Integer, nullable=False),
    Column("is_latest", Boolean, nullable=False),
    Column("is_latest_of_profile", Boolean, nullable=False),
    Column("is_latest_of_language", Boolean, nullable=False),
    Column("is_best", Boolean, nullable=False),
    Column("is_selected", Boolean, nullable=False),
    PrimaryKeyConstraint("run_id", "artifact_type", name="run_types_pkey"),
    Index("run_types_video", "tenant_id", "video_id", "artifact_type"),
)
"""One row for each completed run and artifact type it looked for, also when it found none."""

run_types_open = Table(
    "run_types_open",
    metadata,
    Column("run_id", Uuid, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("video_id", Uuid, nullable=False),
    Column("profile", Text, nullable=False),
    Column("language", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("spoken", JSONB, nullable=False),
    PrimaryKeyConstraint("run_id"),
    Index("run_types_open_video", "video_id"),
)
"""Runs that have started and not ended. `spoken`: languages met in payloads, by artifact type."""

run_types_deleted = Table(
    "run_types_deleted",
    metadata,
    Column("video_id", Uuid, nullable=False),
    Column("tenant_id", Text, nullable=False),
    PrimaryKeyConstraint("video_id"),
)


class RunTypes(Projection):
    """Completed runs by artifact type, and for each whether it counts under every way to choose.

    The stored policies are kept by this projection too: `is_selected` follows from them.
    """

    name = "run_types"
    tables = (run_types, run_types_open, run_types_deleted, selection_policies)
    topics = frozenset(
        event.TOPIC
        for event in (
            RunStarted,
            RunCompleted,
            RunFailed,
            SelectionSet,
            SelectionCleared,
            VideoRegistered,
            VideoDeleted,
        )
    )
    kinds = frozenset({"transcript.segment", "ocr.text"})

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """Rows first, then the flags of all that they touch."""
        deleted = DeletedVideos(connection, run_types_deleted, records)
        started = Rows(connection, run_types_open, _run_ids(records))
        ended: set[UUID] = set()
        completed: list[dict[str, Any]] = []
        policies: dict[tuple[str, str, str], SelectionSet | SelectionCleared] = {}
        for record in records:
            match record.item:
                case ArtifactBatch() as batch:
                    _listen(started, batch)
                case VideoRegistered() as event:
                    deleted.revive(event)
                case VideoDeleted(originator_id=video_id) as event:
                    deleted.bury(event)
                    started.forget_video(video_id)
                    completed = [row for row in completed if str(row["video_id"]) != str(video_id)]
                case RunStarted() as event if event.video_id not in deleted:
                    started.put(event.originator_id, _open(event))
                    ended.discard(event.originator_id)
                case RunCompleted() as event:
                    completed += _completed(started, event, record.position)
                    ended.add(event.originator_id)
                case RunFailed(originator_id=run_id):
                    ended.add(run_id)
                case SelectionSet() | SelectionCleared() as event:
                    policies[event.tenant_id, _scope(event.video_id), event.artifact_type] = event
                case _:
                    pass
        deleted.save(run_types, run_types_open)
        started.save()
        if ended:
            connection.execute("DELETE FROM run_types_open WHERE run_id = ANY(%s)", (list(ended),))
        _add(connection, completed)
        _store(connection, policies.values())
        _flag(connection, completed)
        _select(connection, policies.values())


def _run_ids(records: Iterable[Recorded]) -> set[UUID]:
    ids = set()
    for record in records:
        match record.item:
            case ArtifactBatch(head=head):
                ids.add(head.run_id)
            case RunStarted() | RunCompleted() | RunFailed() as event:
                ids.add(event.originator_id)
            case _:
                pass
    return ids


def _scope(video_id: UUID | None) -> str:
    return "library" if video_id is None else str(video_id)


def _open(event: RunStarted) -> dict[str, Any]:
    return {
        "tenant_id": event.tenant_id,
        "video_id": event.video_id,
        "profile": event.profile,
        "language": event.language,
        "created_at": event.created_at,
        "spoken": {},
    }


class _Spoken(msgspec.Struct):
    language: str | None = None


class _Said(msgspec.Struct):
    payload: _Spoken


_said = msgspec.json.Decoder(list[_Said])


def _listen(started: Rows, batch: ArtifactBatch) -> None:
    row = started.get(batch.head.run_id)
    if row is None or row["language"] is not None:
        return
    heard = {item.payload.language for item in _said.decode(batch.items)}
    known = row["spoken"].get(batch.head.artifact_type, [])
    row["spoken"][batch.head.artifact_type] = sorted({*known, *(language or "" for language in heard)})


def _completed(started: Rows, event: RunCompleted, position: int) -> list[dict[str, Any]]:
    row = started.get(event.originator_id)
    if row is None:
        return []
    shared = {key: row[key] for key in ("tenant_id", "video_id", "profile", "created_at")}
    language = event.language or row["language"]
    return [
        shared
        | {
            "run_id": event.originator_id,
            "artifact_type": artifact_type,
            "language": language or _only(row["spoken"].get(artifact_type, [])),
            "position": position,
            "artifact_count": count,
            "is_latest": False,
            "is_latest_of_profile": False,
            "is_latest_of_language": False,
            "is_best": False,
            "is_selected": False,
        }
        for artifact_type, count in event.counts.items()
    ]


def _only(languages: list[str]) -> str | None:
    return languages[0] or None if len(languages) == 1 else None


def _add(connection: psycopg.Connection, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(
            "INSERT INTO run_types SELECT * FROM jsonb_populate_recordset(NULL::run_types, %s::jsonb)",
            (to_json(rows),),
        )


def _store(connection: psycopg.Connection, policies: Iterable[SelectionSet | SelectionCleared]) -> None:
    for event in policies:
        key = (event.tenant_id, _scope(event.video_id), event.artifact_type)
        connection.execute(
            "DELETE FROM selection_policies WHERE (tenant_id, scope, artifact_type) = (%s, %s, %s)", key
        )
        if isinstance(event, SelectionSet):
            connection.execute(
                "INSERT INTO selection_policies"
                " (tenant_id, scope, artifact_type, video_id, mode, profile, run_id, set_at, set_by)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    *key,
                    event.video_id,
                    event.mode,
                    event.profile,
                    event.run_id,
                    event.recorded_at,
                    event.actor,
                ),
            )


_IS_SELECTED = """
CASE coalesce(own.mode, library.mode, 'latest')
    WHEN 'all' THEN true
    WHEN 'best_quality' THEN {flags}.is_best
    WHEN 'latest_per_language' THEN {flags}.is_latest_of_language
    WHEN 'profile' THEN
        {flags}.is_latest_of_profile AND r.profile = CASE WHEN own.mode IS NULL THEN library.profile ELSE own.profile END
    WHEN 'pinned' THEN r.run_id = CASE WHEN own.mode IS NULL THEN library.run_id ELSE own.run_id END
    ELSE {flags}.is_latest
END"""
_POLICIES = """
LEFT JOIN selection_policies AS own
    ON (own.tenant_id, own.scope, own.artifact_type) = (r.tenant_id, r.video_id::text, r.artifact_type)
LEFT JOIN selection_policies AS library
    ON (library.tenant_id, library.scope, library.artifact_type) = (r.tenant_id, 'library', r.artifact_type)"""

_FLAG = f"""
WITH touched AS (
    SELECT DISTINCT * FROM unnest(%(tenants)s::text[], %(videos)s::uuid[], %(types)s::text[])
        AS t (tenant_id, video_id, artifact_type)
), ranked AS (
    SELECT r.*,
        row_number() OVER (of_type ORDER BY r.created_at DESC, r.position DESC) = 1 AS latest,
        row_number() OVER (
            PARTITION BY r.tenant_id, r.video_id, r.artifact_type, r.profile
            ORDER BY r.created_at DESC, r.position DESC) = 1 AS latest_of_profile,
        row_number() OVER (
            PARTITION BY r.tenant_id, r.video_id, r.artifact_type, coalesce(r.language, '')
            ORDER BY r.created_at DESC, r.position DESC) = 1 AS latest_of_language,
        row_number() OVER (of_type ORDER BY
            CASE r.profile WHEN 'high_quality' THEN 0 WHEN 'balanced' THEN 1 WHEN 'fast' THEN 2 ELSE 3 END,
            r.created_at DESC, r.position DESC) = 1 AS best
    FROM run_types AS r JOIN touched USING (tenant_id, video_id, artifact_type)
    WINDOW of_type AS (PARTITION BY r.tenant_id, r.video_id, r.artifact_type)
), flags AS (
    SELECT run_id, artifact_type, latest AS is_latest, latest_of_profile AS is_latest_of_profile,
        latest_of_language AS is_latest_of_language, best AS is_best
    FROM ranked
), wished AS (
    SELECT flags.*, {_IS_SELECTED.format(flags="flags")} AS is_selected
    FROM flags JOIN run_types AS r USING (run_id, artifact_type) {_POLICIES}
)
UPDATE run_types AS r SET
    is_latest = w.is_latest, is_latest_of_profile = w.is_latest_of_profile,
    is_latest_of_language = w.is_latest_of_language, is_best = w.is_best, is_selected = w.is_selected
FROM wished AS w
WHERE (r.run_id, r.artifact_type) = (w.run_id, w.artifact_type)
    AND (r.is_latest, r.is_latest_of_profile, r.is_latest_of_language, r.is_best, r.is_selected)
    IS DISTINCT FROM (w.is_latest, w.is_latest_of_profile, w.is_latest_of_language, w.is_best, w.is_selected)
"""

_SELECT = f"""
UPDATE run_types AS u SET is_selected = w.is_selected
FROM (
    SELECT r.run_id, r.artifact_type, {_IS_SELECTED.format(flags="r")} AS is_selected
    FROM run_types AS r {_POLICIES}
    WHERE r.tenant_id = %(tenant)s AND r.artifact_type = %(type)s
        AND (%(video)s::uuid IS NULL OR r.video_id = %(video)s)
) AS w
WHERE (u.run_id, u.artifact_type) = (w.run_id, w.artifact_type) AND u.is_selected IS DISTINCT FROM w.is_selected
"""


def _flag(connection: psycopg.Connection, completed: Sequence[dict[str, Any]]) -> None:
    if completed:
        connection.execute(
            _FLAG,
            {
                "tenants": [row["tenant_id"] for row in completed],
                "videos": [str(row["video_id"]) for row in completed],
                "types": [row["artifact_type"] for row in completed],
            },
        )


def _select(connection: psycopg.Connection, policies: Iterable[SelectionSet | SelectionCleared]) -> None:
    for event in policies:
        connection.execute(
            _SELECT, {"tenant": event.tenant_id, "type": event.artifact_type, "video": event.video_id}
        )
