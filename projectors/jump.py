"""Jump: the next or previous hit on the timeline, in one video or across the library, by one query."""

from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from domain.errors import ConflictingFilters, InvalidParameter, NoMatch, VideoNotFound
from projectors import cursor as cursors
from projectors import hits
from projectors.cursor import Place
from projectors.hits import Matching
from projectors.kinds import Kind, Preview, Span, kind_of, preview_of
from projectors.query import Query, query_of
from projectors.selection import SelectionFilter, clause
from projectors.text import exact

DIRECTIONS = ("next", "prev")
KINDS_IN_VIDEO = ("scene", "transcript", "object", "face", "place", "ocr")
MAX_LIMIT = 50
_CURSOR = "timeline"
_WINDOW = 256
"""Texts looked at in order before the word index is asked: a frequent word is met in it, a rare one has few hits."""
_WINDOW_A_HIT = 32
"""So many more for each further hit asked for."""


class JumpFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for. Filters that mean nothing for the kind are ignored."""

    tenant_id: str
    kind: str
    direction: str
    from_ms: int | None = None
    """Starts there are no hits, in either direction; None = before the first or behind the last."""
    label: str | None = None
    query: str | None = None
    face_cluster_id: str | None = None
    min_confidence: float | None = None
    """Rows without a confidence pass."""
    min_lat: float | None = None
    max_lat: float | None = None
    min_lon: float | None = None
    """Greater than `max_lon` = across the 180th meridian."""
    max_lon: float | None = None
    cursor: str | None = None
    """Goes on from there; `from_ms` and `from_video_id` no longer count."""
    selection: SelectionFilter = SelectionFilter()


class VideoJump(msgspec.Struct, frozen=True, kw_only=True):
    """The hit in one video."""

    jump_to: Span
    artifact_ids: list[UUID]
    video_id: UUID
    preview: Preview
    cursor: str


class GlobalHit(msgspec.Struct, frozen=True, kw_only=True):
    """A hit in the library."""

    video_id: UUID
    video_filename: str
    file_created_at: datetime | None
    jump_to: Span
    artifact_id: UUID
    preview: Preview
    cursor: str


class GlobalJump(msgspec.Struct, frozen=True, kw_only=True):
    """Hits in the direction asked for, nearest first."""

    results: list[GlobalHit]
    has_more: bool


async def jump_in_video(connection: AsyncConnection, video_id: UUID, asked: JumpFilter) -> VideoJump:
    """The nearest hit in a video.

    Raises:
        InvalidParameter, ConflictingFilters: the request makes no sense.
        VideoNotFound: no such video.
        NoMatch: nothing there.
    """
    kind = kind_of(asked.kind, among=KINDS_IN_VIDEO)
    _check(asked)
    place = None if asked.cursor is None else cursors.decode(_CURSOR, asked.cursor, Place)
    if place is not None and place.video_id != video_id:
        raise InvalidParameter("cursor", "is of another video")
    query = _query(kind, asked)
    rows = await _rows(connection, kind, asked, query, place, video_id=video_id, limit=1)
    if not rows:
        await must_exist(connection, asked.tenant_id, video_id)
        raise NoMatch
    (row,) = rows
    return VideoJump(
        jump_to=Span(row["start_ms"], row["end_ms"]),
        artifact_ids=[row["artifact_id"]],
        video_id=video_id,
        preview=preview_of(kind, row, query),
        cursor=_cursor(row),
    )


async def jump_global(
    connection: AsyncConnection, asked: JumpFilter, *, from_video_id: UUID | None = None, limit: int = 1
) -> GlobalJump:
    """The nearest hits of the library, seen from a place in a video, a cursor, or the far end of time.

    Raises:
        InvalidParameter, ConflictingFilters: the request makes no sense.
        VideoNotFound: no such video to start from.
    """
    kind = kind_of(asked.kind)
    _check(asked)
    if kind.is_text and asked.query is None:
        raise InvalidParameter("query", f"kind {kind.name} needs it")
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidParameter("limit", f"must be from 1 to {MAX_LIMIT}")
    place = None if asked.cursor is None else cursors.decode(_CURSOR, asked.cursor, Place)
    if place is None and from_video_id is None and asked.from_ms is not None:
        raise InvalidParameter("from_ms", "needs from_video_id")
    query = _query(kind, asked)
    rows = await _rows(connection, kind, asked, query, place, from_video_id=from_video_id, limit=limit + 1)
    if not rows and place is None and from_video_id is not None:
        await must_exist(connection, asked.tenant_id, from_video_id)
    results = [
        GlobalHit(
            video_id=row["video_id"],
            video_filename=row["filename"],
            file_created_at=row["file_created_at"],
            jump_to=Span(row["start_ms"], row["end_ms"]),
            artifact_id=row["artifact_id"],
            preview=preview_of(kind, row, query),
            cursor=_cursor(row),
        )
        for row in rows[:limit]
    ]
    return GlobalJump(results=results, has_more=len(rows) > limit)


async def must_exist(connection: AsyncConnection, tenant_id: str, video_id: UUID) -> None:
    """Raise VideoNotFound unless the tenant has that video."""
    found = await connection.execute(
        "SELECT 1 FROM videos WHERE video_id = %s AND tenant_id = %s", (video_id, tenant_id)
    )
    if await found.fetchone() is None:
        raise VideoNotFound(video_id)


def _check(asked: JumpFilter) -> None:
    if asked.direction not in DIRECTIONS:
        raise InvalidParameter("direction", f"{asked.direction!r} is none of next, prev")
    if asked.label is not None and asked.query is not None:
        raise ConflictingFilters("label and query exclude each other")
    if asked.from_ms is not None and asked.from_ms < 0:
        raise InvalidParameter("from_ms", "may not be negative")


def _query(kind: Kind, asked: JumpFilter) -> Query | None:
    if asked.query is None or not (kind.is_text or kind.name == "location"):
        return None
    return query_of("query", asked.query)


def _cursor(row: dict[str, Any]) -> str:
    return cursors.encode(
        _CURSOR, Place(row["captured_us"], row["video_id"], row["start_ms"], row["artifact_id"])
    )


class _Shape(NamedTuple):
    """What the text of the statement depends on."""

    kind: Kind
    selected: str
    backwards: bool
    is_in_video: bool
    is_anchored: bool
    conditions: tuple[str, ...]
    text: Matching | None
    """How texts are compared with the query; None when they are not."""
    limit: int
    """Part of the text, since the planner guesses badly about a parameter."""


async def _rows(
    connection: AsyncConnection,
    kind: Kind,
    asked: JumpFilter,
    query: Query | None,
    place: Place | None,
    *,
    limit: int,
    video_id: UUID | None = None,
    from_video_id: UUID | None = None,
) -> list[dict[str, Any]]:
    selected, parameters = clause(asked.selection)
    conditions = _conditions(kind, asked, query, parameters)
    backwards = asked.direction == "prev"
    anchor = video_id or (from_video_id if place is None else place.video_id)
    if place is None:
        start_ms, artifact_id = hits.bound(asked.from_ms, backwards=backwards)
    else:
        start_ms, artifact_id = place.start_ms, place.artifact_id
    if kind.name == "location" and place is not None:
        artifact_id = (
            hits.FIRST if backwards else hits.LAST
        )  # One hit a video: the rest of this one is passed over.
    parameters |= {
        "tenant_id": asked.tenant_id,
        "video_id": anchor,
        "start_ms": start_ms,
        "artifact_id": artifact_id,
        "captured_us": None if place is None else place.captured_us,
        "is_cursor": place is not None,
    }
    text = None
    if kind.is_text and query is not None:
        text = hits.matching(kind, query)
        parameters |= query.parameters
    shape = _Shape(
        kind=kind,
        selected=selected,
        backwards=backwards,
        is_in_video=video_id is not None,
        is_anchored=anchor is not None,
        conditions=conditions,
        text=text,
        limit=limit,
    )
    async with connection.cursor(row_factory=dict_row) as found:
        await found.execute(_statement(shape), parameters)
        return await found.fetchall()


def _conditions(
    kind: Kind, asked: JumpFilter, query: Query | None, parameters: dict[str, object]
) -> tuple[str, ...]:
    """Conditions on rows `o`; their parameters are added to `parameters`."""
    conditions = []
    label = asked.face_cluster_id if kind.name == "face" else asked.label
    if kind.label is not None and label is not None:
        conditions.append(f"o.{kind.label} = %(label)s")
        parameters["label"] = exact("face_cluster_id" if kind.name == "face" else "label", label)
    if kind.has_confidence and asked.min_confidence is not None:
        condition = "o.confidence >= %(min_confidence)s"
        conditions.append(f"(o.confidence IS NULL OR {condition})" if kind.is_text else condition)
        parameters["min_confidence"] = asked.min_confidence
    if kind.name == "location":
        if query is not None:
            parameters |= query.name_parameters("place")
            conditions.append(query.names("o.names_bare", "o.names_folded", "place"))
        conditions += _in_box(asked, parameters)
    return tuple(conditions)


def _in_box(asked: JumpFilter, parameters: dict[str, object]) -> list[str]:
    conditions = []
    for name, condition in (
        ("min_lat", "o.latitude >= %(min_lat)s"),
        ("max_lat", "o.latitude <= %(max_lat)s"),
        ("min_lon", "o.longitude >= %(min_lon)s"),
        ("max_lon", "o.longitude <= %(max_lon)s"),
    ):
        value = getattr(asked, name)
        if value is not None:
            parameters[name] = value
            conditions.append(condition)
    if asked.min_lon is not None and asked.max_lon is not None and asked.min_lon > asked.max_lon:
        east_or_west = f"({conditions.pop()} OR {conditions.pop()})"
        conditions.append(east_or_west)
    return conditions


@lru_cache(maxsize=1024)
def _statement(shape: _Shape) -> str:
    if shape.text:
        found = _searched_in_video(shape, shape.text) if shape.is_in_video else _searched(shape, shape.text)
    elif shape.kind.name == "location":
        found = _one_a_video(shape)
    else:
        found = (
            f"SELECT {_columns(shape)} FROM {_walk(shape)} ORDER BY {_order('o', shape)} LIMIT {shape.limit}"
        )
    marked = hits.MARKED if shape.text else hits.UNMARKED
    shown = ", ".join(f"h.{column}" for column in shape.kind.preview)
    video, join = "", ""
    if not shape.is_in_video:
        video = "v.filename, nullif(v.captured_at, 'infinity') AS file_created_at,"
        join = "JOIN videos v ON v.video_id = h.video_id"
    return f"""{_with(shape)}
        SELECT {hits.CAPTURED_US}, h.video_id, h.start_ms, h.end_ms, h.artifact_id, {video} {marked}, {shown}
        FROM ({found}) h {join} ORDER BY {_order("h", shape)}"""


def _order(alias: str, shape: _Shape) -> str:
    return hits.ordered(alias, backwards=shape.backwards)


def _columns(shape: _Shape) -> str:
    return ", ".join(
        f"o.{c}"
        for c in ("captured_at", "video_id", "start_ms", "end_ms", "artifact_id", *shape.kind.preview)
    )


def _bounded(shape: _Shape) -> str:
    """Conditions on rows `o` that leave the tenant's hits on the right side of the anchor."""
    conditions = ["o.tenant_id = %(tenant_id)s", *shape.conditions]
    if shape.is_anchored:
        captured_at = hits.captured_at(shape.kind)
        way = "<" if shape.backwards else ">"
        key = "%(video_id)s::uuid, %(start_ms)s::integer, %(artifact_id)s::uuid"
        if shape.is_in_video:
            conditions += [f"o.captured_at = {captured_at}", "o.video_id = %(video_id)s::uuid"]
            conditions.append(
                f"(o.start_ms, o.artifact_id) {way} (%(start_ms)s::integer, %(artifact_id)s::uuid)"
            )
        else:
            conditions.append(
                f"(o.captured_at, o.video_id, o.start_ms, o.artifact_id) {way} ({captured_at}, {key})"
            )
    return " AND ".join(conditions)


def _walk(shape: _Shape) -> str:
    return f"{shape.kind.table} o WHERE {_bounded(shape)} AND {_counted(shape)}"


def _counted(shape: _Shape) -> str:
    return hits.counted(shape.kind, shape.selected)


def _one_a_video(shape: _Shape) -> str:
    """Locations: of several in one video the first counts, in both directions."""
    way = " DESC" if shape.backwards else ""
    first = f"o.captured_at{way}, o.video_id{way}"
    return f"""SELECT DISTINCT ON ({first.replace(" DESC", "")}) {_columns(shape)} FROM {_walk(shape)}
        ORDER BY {first}, o.artifact_id LIMIT {shape.limit}"""


def _found_columns(shape: _Shape) -> str:
    return f"{_columns(shape)}, {hits.found(shape.kind)}"


def _with(shape: _Shape) -> str:
    if not shape.text:
        return ""
    if shape.is_in_video:
        return f"WITH {shape.text.configured}"
    order, limit, window = (
        _order("o", shape),
        f"LIMIT {shape.limit}",
        _WINDOW + _WINDOW_A_HIT * (shape.limit - 1),
    )
    return f"""WITH {shape.text.configured},
        stretch AS MATERIALIZED (
            SELECT o.* FROM {shape.kind.table} o WHERE {_bounded(shape)} ORDER BY {order} LIMIT {window}),
        near AS MATERIALIZED (
            SELECT {_found_columns(shape)} FROM stretch o JOIN q ON {shape.text.either}
            WHERE {_counted(shape)} ORDER BY {order} {limit}),
        enough AS MATERIALIZED (
            SELECT CASE WHEN (SELECT count(*) FROM near) = {shape.limit} THEN true
                ELSE (SELECT count(*) FROM stretch) < {window} END AS so)"""


def _searched(shape: _Shape, text: Matching) -> str:
    """First a walk over the nearest texts, then, if they hold too few hits, the word index over all."""
    order, limit = _order("o", shape), f"LIMIT {shape.limit}"
    by_index = f"""SELECT {_found_columns(shape)} FROM q CROSS JOIN LATERAL (
            SELECT o.* FROM {shape.kind.table} o WHERE {text.by_index} OFFSET 0) o
        WHERE q.has_words AND NOT (SELECT so FROM enough) AND o.config = q.config AND {_bounded(shape)}
        AND {_counted(shape)}
        ORDER BY {order} {limit}"""
    by_reading = f"""SELECT {_found_columns(shape)} FROM q CROSS JOIN LATERAL (
            SELECT o.* FROM {shape.kind.table} o
            WHERE o.config = q.config AND {text.by_reading} AND {_bounded(shape)}
            ORDER BY {order} OFFSET 0) o
        WHERE NOT q.has_words AND NOT (SELECT so FROM enough) AND {_counted(shape)}
        ORDER BY {order} {limit}"""
    return f"""SELECT * FROM (
            SELECT * FROM near WHERE (SELECT so FROM enough) UNION ALL ({by_index}) UNION ALL ({by_reading})) o
        ORDER BY {order} {limit}"""


def _searched_in_video(shape: _Shape, text: Matching) -> str:
    return f"""SELECT {_found_columns(shape)}
        FROM (SELECT o.* FROM {shape.kind.table} o WHERE {_bounded(shape)} ORDER BY {_order("o", shape)} OFFSET 0) o
        JOIN q ON {text.either} WHERE {_counted(shape)}
        ORDER BY {_order("o", shape)} LIMIT {shape.limit}"""
