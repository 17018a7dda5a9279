"""Search by meaning: what was said, written or seen that lies nearest to a query, or to something in the library."""

from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from domain.errors import InvalidParameter, ServiceUnavailable
from migrations.vectors import DIM, STATE, missing
from projectors.artifacts import get_artifact
from projectors.jump import must_exist
from projectors.kinds import Span, thumbnail_url
from projectors.selection import STORED, SelectionFilter, clause

MAX_LIMIT = 100
MeaningKind = Literal["all", "transcript", "ocr", "frame"]
SOURCES = {"transcript": "transcript.segment", "ocr": "ocr.text"}
_KIND_OF = {artifact_type: kind for kind, artifact_type in SOURCES.items()}


class _Space(NamedTuple):
    """Vectors that are compared with each other, as far as they are of one model."""

    table: str
    artifact_type: str
    made_by: str
    """The task type."""
    source: str
    """Columns source_id, source_type, excerpt: what the vector is of."""


_TEXT = _Space("text_vectors", "embedding", "embedding", "o.source_id, o.source_type, o.excerpt")
_FRAME = _Space(
    "frame_vectors",
    "frame.embedding",
    "frame_embedding",
    "o.artifact_id AS source_id, NULL AS source_type, '' AS excerpt",
)


def _space(kind: MeaningKind) -> _Space:
    return _FRAME if kind == "frame" else _TEXT


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched from."""

    model: str
    model_digest: str
    vector: tuple[float, ...]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a video."""

    video_id: UUID
    at_ms: int


class MeaningFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for."""

    tenant_id: str
    point: Point
    """Vectors made with other weights than its own are passed over."""
    kind: MeaningKind = "all"
    """"all" is all texts: no score of a text can be compared with one of a frame."""
    min_score: float | None = None
    limit: int = 20
    selection: SelectionFilter = STORED
    """Of the runs that made the vectors."""


class Near(msgspec.Struct, frozen=True, kw_only=True):
    """A text or a frame that means something near."""

    score: float
    """Cosine of the angle between the two, at most 1; comparable within one model only."""
    video_id: UUID
    video_filename: str
    file_created_at: datetime | None
    kind: str
    jump_to: Span
    artifact_id: UUID
    """The transcript segment, the line of text or the frame's embedding."""
    text: str
    """How it begins; empty for a frame."""
    thumbnail_url: str


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """Texts or frames, nearest first."""

    model: str
    results: list[Near]


async def near(connection: AsyncConnection, asked: MeaningFilter) -> Meaning:
    """What has the nearest vectors, by the index: the very nearest may rarely be missed.

    Raises:
        InvalidParameter: the request makes no sense.
        ServiceUnavailable: this Postgres cannot, and what to do about it.
    """
    if not 1 <= asked.limit <= MAX_LIMIT:
        raise InvalidParameter("limit", f"must be from 1 to {MAX_LIMIT}")
    space, dim, model = _space(asked.kind), len(asked.point.vector), asked.point.model
    if space is _TEXT and dim != DIM:
        raise ServiceUnavailable(f"the model {model} makes {dim} numbers, the index holds {DIM}")
    selected, parameters = clause(asked.selection)
    # Written out, as the conditions of the indexes are.
    column = "o.vector" if space is _TEXT else f"o.vector::public.halfvec({dim})"
    only = f"AND o.dim = {dim}" if space is _FRAME else ""
    if asked.kind in SOURCES:
        only = "AND o.source_type = %(source_type)s"
    distance = f"({column}) OPERATOR(public.<=>) %(vector)s::public.halfvec({dim})"
    parameters |= {
        "tenant_id": asked.tenant_id,
        "vector": f"[{','.join(map(repr, asked.point.vector))}]",
        "digest": asked.point.model_digest,
        "source_type": SOURCES.get(asked.kind),
        "limit": asked.limit,
        "least": -2.0 if asked.min_score is None else asked.min_score,
    }
    async with connection.transaction(), connection.cursor(row_factory=dict_row) as found:
        await _must_be_searchable(connection, space)
        # Filters may throw away what the index gives: it goes on until there is enough.
        await connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
        await connection.execute("SET LOCAL hnsw.ef_search = 100")
        await found.execute(
            f"""SELECT h.video_id, h.start_ms, h.end_ms, h.source_id, h.source_type, h.excerpt, h.score, v.filename,
                nullif(h.captured_at, 'infinity') AS filmed_at FROM (
                SELECT o.captured_at, o.video_id, o.start_ms, o.end_ms, {space.source}, 1 - ({distance}) AS score
                FROM {space.table} o
                WHERE o.tenant_id = %(tenant_id)s AND o.model_digest = %(digest)s {only}
                    AND (SELECT {selected} FROM run_types r
                        WHERE r.run_id = o.run_id AND r.artifact_type = '{space.artifact_type}')
                ORDER BY {distance} LIMIT %(limit)s) h
            JOIN videos v ON v.tenant_id = %(tenant_id)s AND v.video_id = h.video_id
            WHERE h.score >= %(least)s
            ORDER BY h.score DESC, h.video_id, h.start_ms, h.source_id""",
            parameters,
        )
        rows = await found.fetchall()
    return Meaning(model=model, results=[_near(row) for row in rows])


async def point_of(
    connection: AsyncConnection,
    like: UUID | Moment,
    *,
    tenant_id: str,
    kind: MeaningKind,
    selection: SelectionFilter,
) -> Point:
    """The vector of something in the library: of an artifact, or of a moment of a video.

    Among frames it is the one nearest to where the artifact starts; among texts the artifact's own. An embedding stands
    for itself, whether or not its run counts.

    Raises:
        ArtifactNotFound, VideoNotFound: there is no such thing.
        InvalidParameter: it has no vector.
        ServiceUnavailable: this Postgres holds no vectors.
    """
    space, artifact_id = _space(kind), None
    if not isinstance(like, Moment):
        artifact = (await get_artifact(connection, tenant_id=tenant_id, artifact_id=like)).artifact
        artifact_id, like = like, Moment(video_id=artifact.asset_id, at_ms=artifact.span_start_ms)
    await _must_be_searchable(connection, space)
    selected, parameters = clause(selection)
    itself = "coalesce(o.artifact_id = %(artifact_id)s, false)"
    fits = f"({itself} OR o.source_id = %(artifact_id)s)" if space is _TEXT else "true"
    rows = await connection.execute(
        f"""SELECT o.model, o.model_digest, o.vector::real[] FROM {space.table} o
        WHERE o.tenant_id = %(tenant_id)s AND o.video_id = %(video_id)s AND {fits} AND ({itself}
            OR (SELECT {selected} FROM run_types r
                WHERE r.run_id = o.run_id AND r.artifact_type = '{space.artifact_type}'))
        ORDER BY {itself} DESC, abs(o.start_ms - %(at_ms)s), o.artifact_id LIMIT 1""",
        parameters
        | {
            "tenant_id": tenant_id,
            "video_id": like.video_id,
            "at_ms": like.at_ms,
            "artifact_id": artifact_id,
        },
    )
    if (row := await rows.fetchone()) is None:
        await must_exist(connection, tenant_id, like.video_id)
        raise InvalidParameter("like", f"nothing there has a vector: {space.made_by} makes them")
    model, digest, vector = row
    return Point(model=model, model_digest=digest, vector=tuple(vector))


async def _must_be_searchable(connection: AsyncConnection, space: _Space) -> None:
    state = await (await connection.execute(STATE, {"table": space.table})).fetchone()
    if (why := missing(state)) is not None:
        raise ServiceUnavailable(why)


def _near(row: dict[str, Any]) -> Near:
    return Near(
        score=round(row["score"], 4),
        video_id=row["video_id"],
        video_filename=row["filename"],
        file_created_at=row["filmed_at"],
        kind="frame" if row["source_type"] is None else _KIND_OF[row["source_type"]],
        jump_to=Span(row["start_ms"], row["end_ms"]),
        artifact_id=row["source_id"],
        text=row["excerpt"],
        thumbnail_url=thumbnail_url(row["video_id"], row["start_ms"]),
    )
