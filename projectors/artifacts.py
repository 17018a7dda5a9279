"""Read model: artifacts, whole. Visible once their run is in `run_types`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
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
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from application.ports import Recorded
from domain.artifacts import LATEST, upcast
from domain.artifacts.envelope import Artifact, ArtifactBatch
from domain.errors import ArtifactNotFound
from domain.run import RunFailed
from domain.video import VideoDeleted, VideoRegistered
from projectors.cursor import decode, encode
from projectors.metadata import metadata
from projectors.projection import Projection, copy_lines, escape
from projectors.rows import DeletedVideos, to_json
from projectors.selection import SelectionFilter, clause
from projectors.videos import require_video

artifacts = Table(
    "artifacts",
    metadata,
    Column("tenant_id", Text, nullable=False),
    Column("artifact_id", Uuid, nullable=False),
    Column("run_id", Uuid, nullable=False),
    Column("video_id", Uuid, nullable=False),
    Column("artifact_type", Text, nullable=False),
    Column("schema_version", SmallInteger, nullable=False),
    Column("start_ms", Integer, nullable=False),
    Column("end_ms", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("payload", JSONB, nullable=False),
    PrimaryKeyConstraint("tenant_id", "artifact_id", "run_id"),
    Index("artifacts_run", "run_id", "artifact_type", "start_ms", "artifact_id", "end_ms"),
)

artifacts_runs = Table(
    "artifacts_runs",
    metadata,
    Column("run_id", Uuid, nullable=False),
    Column("artifact_type", Text, nullable=False),
    Column("tenant_id", Text, nullable=False),
    Column("video_id", Uuid, nullable=False),
    Column("producer", Text, nullable=False),
    Column("producer_version", Text, nullable=False),
    Column("model_profile", Text, nullable=False),
    Column("config_hash", Text, nullable=False),
    Column("input_hash", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("run_id", "artifact_type"),
    Index("artifacts_runs_video", "video_id"),
)
"""The part of the envelope that all artifacts of a run share."""

artifacts_deleted = Table(
    "artifacts_deleted",
    metadata,
    Column("video_id", Uuid, nullable=False),
    Column("tenant_id", Text, nullable=False),
    PrimaryKeyConstraint("video_id"),
)
"""Videos that are deleted now: what still comes for them is passed over."""

_COLUMNS = (
    "tenant_id",
    "run_id",
    "video_id",
    "artifact_type",
    "schema_version",
    "position",
    "artifact_id",
    "start_ms",
    "end_ms",
    "payload",
)


class Artifacts(Projection):
    """All artifacts of videos that are not deleted, except those of failed runs, payloads at their latest version."""

    name = "artifacts"
    tables = (artifacts, artifacts_runs, artifacts_deleted)
    topics = frozenset({VideoDeleted.TOPIC, VideoRegistered.TOPIC, RunFailed.TOPIC})
    kinds = frozenset(LATEST)

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """Batches go in by COPY, payloads unparsed."""
        deleted = DeletedVideos(connection, artifacts_deleted, records)
        failed: set[UUID] = set()
        arrived: list[tuple[int, ArtifactBatch]] = []
        for record in records:
            match record.item:
                case ArtifactBatch() as batch if batch.head.video_id not in deleted:
                    arrived.append((record.first_position, batch))
                case VideoRegistered() as event:
                    deleted.revive(event)
                case VideoDeleted(originator_id=video_id) as event:
                    deleted.bury(event)
                    arrived = [(p, b) for p, b in arrived if b.head.video_id != video_id]
                case RunFailed(originator_id=run_id):
                    failed.add(run_id)
                    arrived = [(p, b) for p, b in arrived if b.head.run_id != run_id]
                case _:
                    pass
        _delete_runs(connection, failed, deleted.emptied)
        deleted.save()
        _add_runs(connection, (batch for _, batch in arrived))
        copy_lines(connection, "artifacts", _COLUMNS, b"".join(_lines(p, batch) for p, batch in arrived))


def _delete_runs(connection: psycopg.Connection, run_ids: set[UUID], video_ids: set[UUID]) -> None:
    if not run_ids and not video_ids:
        return
    gone = connection.execute(
        "DELETE FROM artifacts_runs WHERE run_id = ANY(%s) OR video_id = ANY(%s) RETURNING run_id",
        (list(run_ids), list(video_ids)),
    )
    connection.execute("DELETE FROM artifacts WHERE run_id = ANY(%s)", ([run_id for (run_id,) in gone],))


def _add_runs(connection: psycopg.Connection, batches: Iterable[ArtifactBatch]) -> None:
    rows = [
        {name: getattr(head, name) for name in artifacts_runs.columns.keys()}  # noqa: SIM118
        for head in {(b.head.run_id, b.head.artifact_type): b.head for b in reversed(list(batches))}.values()
    ]
    if rows:
        connection.execute(
            "INSERT INTO artifacts_runs SELECT * FROM jsonb_populate_recordset(NULL::artifacts_runs, %s::jsonb)"
            " ON CONFLICT DO NOTHING",
            (to_json(rows),),
        )


class _Item(msgspec.Struct):
    """An item with its id as text and its payload unparsed: neither is looked at on the way."""

    artifact_id: str
    start_ms: int
    end_ms: int
    payload: msgspec.Raw


_items = msgspec.json.Decoder(list[_Item])
_ODD = (b"\t", b"\n", b"\r", b"\\u0000")
"""Blanks between JSON values would end a line of COPY; NUL is text that Postgres cannot hold."""


def _lines(first_position: int, batch: ArtifactBatch) -> bytes:
    head = batch.head
    latest = LATEST[head.artifact_type].VERSION
    items = _items.decode(batch.items)
    raw = bytes(batch.items)
    if head.schema_version == latest and not any(odd in raw for odd in _ODD):
        texts = [bytes(item.payload).decode() for item in items]
        if b"\\" in raw:
            texts = [text.replace("\\", "\\\\") for text in texts]
    else:
        texts = [escape(to_json(_latest(head.artifact_type, head.schema_version, item))) for item in items]
    start = f"{escape(head.tenant_id)}\t{head.run_id}\t{head.video_id}\t{head.artifact_type}\t{latest}\t"
    return "".join(
        f"{start}{position}\t{item.artifact_id}\t{item.start_ms}\t{item.end_ms}\t{text}\n"
        for position, (item, text) in enumerate(zip(items, texts, strict=True), first_position)
    ).encode()


def _latest(artifact_type: str, version: int, item: _Item) -> Any:
    return upcast(artifact_type, version, msgspec.json.decode(item.payload))


# ---- queries ------------------------------------------------------------------------------------------------------


class ArtifactView(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact with its full envelope; `payload` is JSON as `msgspec.Raw`."""

    artifact: Artifact
    position: int
    """Of its event."""
    cursor: str = ""
    """To go on after it; empty outside of lists."""


class ArtifactPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some artifacts, by start, then id."""

    artifacts: list[ArtifactView]
    has_more: bool


class _Place(msgspec.Struct, frozen=True, array_like=True):
    start_ms: int
    artifact_id: UUID
    run_id: UUID


_ROW = "a.artifact_id, a.video_id, a.artifact_type, a.schema_version, a.start_ms, a.end_ms, a.payload::text, a.position"
_ENVELOPE = (
    "e.producer, e.producer_version, e.model_profile, e.config_hash, e.input_hash, e.run_id, e.created_at"
)


async def list_artifacts(
    connection: psycopg.AsyncConnection,
    *,
    tenant_id: str,
    video_id: UUID,
    selection: SelectionFilter,
    artifact_type: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    payload: Mapping[str, str] | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> ArtifactPage:
    """Artifacts of selected runs that overlap [from_ms, to_ms), see `domain.timeline.overlaps`.

    `payload`: field → value that it must have, both as text; `a.b` looks into objects. Numbers compare by value.

    Raises:
        VideoNotFound: no such video for this tenant.
        InvalidParameter: names `cursor`.
    """
    chosen, values = clause(selection)
    values |= {"tenant_id": tenant_id, "video_id": video_id, "limit": limit + 1}
    runs = ["r.tenant_id = %(tenant_id)s", "r.video_id = %(video_id)s", chosen]
    where = ["a.run_id = r.run_id", "a.artifact_type = r.artifact_type"]
    if artifact_type is not None:
        runs.append("r.artifact_type = %(artifact_type)s")
        values["artifact_type"] = artifact_type
    if to_ms is not None:
        where.append("a.start_ms < %(to_ms)s")
        values["to_ms"] = to_ms
    if from_ms is not None:
        where.append("(a.end_ms > %(from_ms)s OR (a.start_ms = a.end_ms AND a.end_ms >= %(from_ms)s))")
        values["from_ms"] = from_ms
    for index, (field, value) in enumerate((payload or {}).items()):
        where.append(_payload_is(index, value))
        values |= {f"field{index}": field.split("."), f"value{index}": value}
    if cursor is not None:
        place = decode("artifacts", cursor, _Place)
        where.append("(a.start_ms, a.artifact_id) >= (%(start_ms)s, %(artifact_id)s)")
        where.append("(a.start_ms, a.artifact_id, a.run_id) > (%(start_ms)s, %(artifact_id)s, %(after_run)s)")
        values |= {"start_ms": place.start_ms, "artifact_id": place.artifact_id, "after_run": place.run_id}
    # Each run and type gives its first few in order of the index; a run that is not selected is never touched.
    rows = await connection.execute(
        f"""SELECT {_ROW.replace("::text", "")}, {_ENVELOPE}
        FROM run_types AS r CROSS JOIN LATERAL (
            SELECT {_ROW} FROM artifacts AS a WHERE {" AND ".join(where)}
            ORDER BY a.start_ms, a.artifact_id LIMIT %(limit)s
        ) AS a JOIN artifacts_runs AS e ON (e.run_id, e.artifact_type) = (r.run_id, r.artifact_type)
        WHERE {" AND ".join(runs)}
        ORDER BY a.start_ms, a.artifact_id, r.run_id LIMIT %(limit)s""",
        values,
    )
    found = [_view(row) for row in await rows.fetchall()]
    if not found:
        await require_video(connection, tenant_id=tenant_id, video_id=video_id)
    return ArtifactPage(artifacts=found[:limit], has_more=len(found) > limit)


def _payload_is(index: int, value: str) -> str:
    field, wished = f"a.payload #>> %(field{index})s::text[]", f"%(value{index})s::text"
    if _NUMBER.fullmatch(value):
        number = f"CASE jsonb_typeof(a.payload #> %(field{index})s::text[]) WHEN 'number' THEN ({field})::numeric END"
        return f"coalesce({number} = {wished}::numeric, {field} = {wished})"
    return f"{field} = {wished}"


_NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?(e[+-]?[0-9]{1,2})?", re.IGNORECASE)


async def get_artifact(
    connection: psycopg.AsyncConnection, *, tenant_id: str, artifact_id: UUID
) -> ArtifactView:
    """One artifact of a completed run; the newest run's, should several have it under the same id.

    Raises:
        ArtifactNotFound: no such artifact for this tenant.
    """
    rows = await connection.execute(
        f"""SELECT {_ROW}, {_ENVELOPE} FROM artifacts AS a
        JOIN run_types AS r ON (r.run_id, r.artifact_type) = (a.run_id, a.artifact_type)
        JOIN artifacts_runs AS e ON (e.run_id, e.artifact_type) = (a.run_id, a.artifact_type)
        WHERE a.tenant_id = %s AND a.artifact_id = %s ORDER BY r.created_at DESC, r.position DESC LIMIT 1""",
        (tenant_id, artifact_id),
    )
    row = await rows.fetchone()
    if row is None:
        raise ArtifactNotFound(artifact_id)
    return _view(row)


def _view(row: tuple[Any, ...]) -> ArtifactView:
    artifact_id, video_id, artifact_type, schema_version, start_ms, end_ms, payload, position, *envelope = row
    producer, producer_version, model_profile, config_hash, input_hash, run_id, created_at = envelope
    return ArtifactView(
        artifact=Artifact(
            artifact_id=artifact_id,
            asset_id=video_id,
            artifact_type=artifact_type,
            schema_version=schema_version,
            span_start_ms=start_ms,
            span_end_ms=end_ms,
            payload=msgspec.Raw(payload.encode()),
            producer=producer,
            producer_version=producer_version,
            model_profile=model_profile,
            config_hash=config_hash,
            input_hash=input_hash,
            run_id=run_id,
            created_at=created_at,
        ),
        position=position,
        cursor=encode("artifacts", _Place(start_ms, artifact_id, run_id)),
    )
