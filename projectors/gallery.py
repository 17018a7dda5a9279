"""Gallery: pages of hits in timeline order with their total, one by one or one for each video."""

from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from domain.errors import ConflictingFilters, InvalidParameter
from projectors import cursor as cursors
from projectors import hits
from projectors.cursor import Place
from projectors.hits import Matching
from projectors.kinds import Kind, Preview, Span, kind_of, preview_of, thumbnail_url
from projectors.query import Query, query_of
from projectors.selection import SelectionFilter, clause
from projectors.text import exact

KINDS_LISTED = ("object", "face", "transcript", "ocr", "scene", "place")
MAX_LIMIT = 100
_CURSOR = "gallery"


class GalleryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; all filters must hold, and those that mean nothing for the kind are ignored."""

    tenant_id: str
    kind: str
    label: str | None = None
    """For faces the cluster."""
    query: str | None = None
    filename: str | None = None
    """Part of the video's file name, in any case."""
    min_confidence: float | None = None
    """Texts without a confidence pass."""
    limit: int = 20
    offset: int = 0
    """Counted from the cursor when there is one."""
    cursor: str | None = None
    group_by_video: bool = False
    selection: SelectionFilter = SelectionFilter()


class GalleryHit(msgspec.Struct, frozen=True, kw_only=True):
    """A hit, or the earliest hit of a video."""

    video_id: UUID
    video_filename: str
    file_created_at: datetime | None
    artifact_id: UUID
    artifact_type: str
    start_ms: int
    jump_to: Span
    thumbnail_url: str
    preview: Preview
    artifact_count: int
    """Hits in the video when grouped, else 1."""
    cursor: str


class Gallery(msgspec.Struct, frozen=True, kw_only=True):
    """One page."""

    results: list[GalleryHit]
    total: int
    """Hits, or videos when grouped, on all pages together."""
    limit: int
    offset: int
    has_more: bool


class _Shape(NamedTuple):
    """What the text of the statement depends on."""

    kind: Kind
    selected: str
    conditions: tuple[str, ...]
    has_label: bool
    filename: str | None
    """Condition that video `v` has that name."""
    has_confidence: bool
    text: Matching | None
    """How texts are compared with the query; None when they are not."""
    is_grouped: bool
    is_continued: bool
    limit: int


async def gallery(connection: AsyncConnection, asked: GalleryFilter) -> Gallery:
    """A page of hits.

    Raises:
        InvalidParameter, ConflictingFilters: the request makes no sense.
    """
    kind = kind_of(asked.kind, among=KINDS_LISTED)
    if asked.label is not None and asked.query is not None:
        raise ConflictingFilters("label and query exclude each other")
    if not 1 <= asked.limit <= MAX_LIMIT:
        raise InvalidParameter("limit", f"must be from 1 to {MAX_LIMIT}")
    if not 0 <= asked.offset < 2**31:
        raise InvalidParameter("offset", "must be from 0 to 2147483647")
    place = None if asked.cursor is None else cursors.decode(_CURSOR, asked.cursor, Place)
    selected, parameters = clause(asked.selection)
    parameters |= {"tenant_id": asked.tenant_id, "offset": asked.offset}
    conditions = []
    has_label = kind.label is not None and asked.label is not None
    if has_label:
        conditions.append(f"o.{kind.label} = %(label)s")
        parameters["label"] = exact("label", asked.label or "")
    has_confidence = kind.has_confidence and asked.min_confidence is not None
    if has_confidence:
        condition = "o.confidence >= %(min_confidence)s"
        conditions.append(f"(o.confidence IS NULL OR {condition})" if kind.is_text else condition)
        parameters["min_confidence"] = asked.min_confidence
    name = None if asked.filename is None else query_of("filename", asked.filename)
    if name is not None:
        parameters |= name.name_parameters("filename")
    query = query_of("query", asked.query) if kind.is_text and asked.query is not None else None
    if query is not None:
        parameters |= query.parameters
    if place is not None:
        parameters |= {"captured_us": place.captured_us, "is_cursor": True, "video_id": place.video_id}
        parameters |= {"start_ms": place.start_ms, "artifact_id": place.artifact_id}
    shape = _Shape(
        kind=kind,
        selected=selected,
        conditions=tuple(conditions),
        has_label=has_label,
        filename=None if name is None else name.names("v.filename_bare", "v.filename_folded", "filename"),
        has_confidence=has_confidence,
        text=None if query is None else hits.matching(kind, query),
        is_grouped=asked.group_by_video,
        is_continued=place is not None,
        limit=asked.limit + 1,
    )
    async with connection.cursor(row_factory=dict_row) as found:
        await found.execute(_statement(shape), parameters)
        rows = await found.fetchall()
    page = [row for row in rows if row["video_id"] is not None]
    return Gallery(
        results=[_hit(kind, row, query) for row in page[: asked.limit]],
        total=rows[0]["total"],
        limit=asked.limit,
        offset=asked.offset,
        has_more=len(page) > asked.limit,
    )


def _hit(kind: Kind, row: dict[str, Any], query: Query | None) -> GalleryHit:
    place = Place(row["captured_us"], row["video_id"], row["start_ms"], row["artifact_id"])
    return GalleryHit(
        video_id=row["video_id"],
        video_filename=row["filename"],
        file_created_at=row["file_created_at"],
        artifact_id=row["artifact_id"],
        artifact_type=kind.artifact_type,
        start_ms=row["start_ms"],
        jump_to=Span(row["start_ms"], row["end_ms"]),
        thumbnail_url=thumbnail_url(row["video_id"], row["start_ms"]),
        preview=preview_of(kind, row, query),
        artifact_count=row["n"],
        cursor=cursors.encode(_CURSOR, place),
    )


@lru_cache(maxsize=1024)
def _statement(shape: _Shape) -> str:
    parts = [shape.text.configured] if shape.text else []
    parts.append(f"groups AS MATERIALIZED ({_groups(shape)})")
    total = "count(*)" if shape.is_grouped else "coalesce(sum(n), 0)::bigint"
    page = _page_of_videos(shape) if shape.is_grouped else _page(shape)
    marked = hits.MARKED if shape.text else hits.UNMARKED
    shown = ", ".join(f"h.{column}" for column in shape.kind.preview)
    return f"""WITH {", ".join(parts)}
        SELECT t.total, {hits.CAPTURED_US}, h.video_id, h.start_ms, h.end_ms, h.artifact_id, h.n,
            h.filename, h.file_created_at, {marked}, {shown}
        FROM (SELECT {total} AS total FROM groups) t LEFT JOIN (
            SELECT h.*, v.filename, nullif(v.captured_at, 'infinity') AS file_created_at
            FROM ({page}) h JOIN videos v ON v.video_id = h.video_id) h ON true
        ORDER BY {hits.ordered("h", backwards=False)}"""


def _named(shape: _Shape, alias: str = "o") -> str:
    """Condition that the video of row `alias` has the file name asked for."""
    if shape.filename is None:
        return "true"
    return (
        f"({alias}.video_id IN (SELECT v.video_id FROM videos v"
        f" WHERE v.tenant_id = %(tenant_id)s AND {shape.filename}))"
    )


def _runs(shape: _Shape) -> str:
    """Join of rows `o` to the runs that count, for statements that read all of them."""
    return (
        f"JOIN run_types r ON r.run_id = o.run_id AND r.artifact_type = '{shape.kind.artifact_type}'"
        f" AND {shape.selected}"
    )


def _matching(shape: _Shape, tenant: str = "o.tenant_id = %(tenant_id)s") -> str:
    return " AND ".join((tenant, *shape.conditions))


def _groups(shape: _Shape) -> str:
    """(captured_at, video_id, n) of each video with hits, as far as possible without reading the hits."""
    if not shape.text and not shape.has_confidence:
        if shape.has_label:
            return f"""SELECT o.captured_at, o.video_id, sum(o.n)::bigint AS n
                FROM {shape.kind.table}_counts o {_runs(shape)}
                WHERE o.tenant_id = %(tenant_id)s AND o.label = %(label)s AND {_named(shape)}
                GROUP BY o.captured_at, o.video_id"""
        return f"""SELECT v.captured_at, r.video_id, sum(r.artifact_count)::bigint AS n FROM run_types r
                JOIN {shape.kind.table}_videos v ON v.tenant_id = r.tenant_id AND v.video_id = r.video_id
            WHERE r.tenant_id = %(tenant_id)s AND r.artifact_type = '{shape.kind.artifact_type}'
                AND r.artifact_count > 0 AND {shape.selected} AND {_named(shape, "r")}
            GROUP BY v.captured_at, r.video_id"""
    if not shape.text:
        matches = f"""SELECT o.run_id, count(*) AS n FROM {shape.kind.table} o
            WHERE {_matching(shape)} GROUP BY o.run_id"""
    else:
        # One word is counted already, several are by the word index, a query without words by reading. No other index
        # is to be used; EXISTS keeps the planner from reading before it knows whether there is anything to read for.
        matching = _matching(shape, "o.tenant_id IS NOT DISTINCT FROM %(tenant_id)s")
        by_count, is_counted = "", "false"
        if not shape.has_confidence:
            is_counted = f"q.only_lexeme IS NOT NULL AND q.{shape.kind.query} = q.query"
            by_count = f"""SELECT o.run_id, o.n FROM q JOIN {shape.kind.table}_words o
                ON o.tenant_id = %(tenant_id)s AND o.config = q.config AND o.lexeme = q.only_lexeme
                WHERE {is_counted}
                UNION ALL"""
        matches = f"""{by_count}
            SELECT o.run_id, count(*) AS n
            FROM q JOIN {shape.kind.table} o ON {shape.text.by_index} AND o.config = q.config
            WHERE q.has_words AND NOT ({is_counted}) AND {matching} GROUP BY o.run_id
            UNION ALL
            SELECT o.run_id, count(*) AS n
            FROM q JOIN {shape.kind.table} o ON o.config = q.config AND {shape.text.by_reading}
            WHERE NOT q.has_words AND EXISTS (SELECT FROM q WHERE NOT has_words) AND {matching} GROUP BY o.run_id"""
    return f"""SELECT v.captured_at, r.video_id, sum(o.n)::bigint AS n FROM ({matches}) o {_runs(shape)}
            CROSS JOIN LATERAL (SELECT v.captured_at FROM {shape.kind.table}_videos v
                WHERE v.tenant_id = r.tenant_id AND v.video_id = r.video_id OFFSET 0) v
        WHERE {_named(shape, "r")} GROUP BY v.captured_at, r.video_id"""


def _columns(shape: _Shape) -> str:
    columns = ["captured_at", "video_id", "start_ms", "end_ms", "artifact_id", *shape.kind.preview]
    return ", ".join(f"o.{column}" for column in columns) + (
        f", {hits.found(shape.kind)}" if shape.text else ""
    )


def _page(shape: _Shape) -> str:
    """The hits of the page: the counts tell which videos they are in, so only those are read."""
    if shape.is_continued:
        # What is left of the cursor's own video is not counted, so it always takes part.
        videos = f"""SELECT g.*, sum(n) OVER (ORDER BY captured_at, video_id) - n AS before FROM groups g
            WHERE (captured_at, video_id) > ({_place(shape)}, %(video_id)s)
            UNION ALL SELECT g.*, 0 FROM groups g WHERE video_id = %(video_id)s"""
        within = "(o.start_ms, o.artifact_id) > (%(start_ms)s, %(artifact_id)s::uuid)"
        behind = f"AND (o.video_id <> %(video_id)s OR {within})"
        skipped, first = "0", "true"
    else:
        videos = "SELECT g.*, sum(n) OVER (ORDER BY captured_at, video_id) - n AS before FROM groups g"
        behind = ""
        skipped, first = "(SELECT coalesce(min(before), 0) FROM page)", "before + n > %(offset)s::bigint"
    hits_of_video = _in_video(shape, f"%(offset)s::bigint - g.before + {shape.limit}", behind)
    return f"""WITH page AS MATERIALIZED (
            SELECT * FROM ({videos}) g WHERE before < %(offset)s::bigint + {shape.limit} AND {first})
        SELECT o.*, 1 AS n FROM page g CROSS JOIN LATERAL ({hits_of_video}) o
        ORDER BY {hits.ordered("o", backwards=False)} LIMIT {shape.limit} OFFSET %(offset)s::bigint - {skipped}"""


def _page_of_videos(shape: _Shape) -> str:
    behind = f"(captured_at, video_id) > ({_place(shape)}, %(video_id)s)" if shape.is_continued else "true"
    return f"""SELECT o.*, g.n FROM (
            SELECT * FROM groups WHERE {behind}
            ORDER BY captured_at, video_id LIMIT {shape.limit} OFFSET %(offset)s::bigint) g
        CROSS JOIN LATERAL ({_in_video(shape, "1")}) o"""


def _place(shape: _Shape) -> str:
    return hits.captured_at(shape.kind)


def _in_video(shape: _Shape, limit: str, condition: str = "") -> str:
    """The first hits of video `g`."""
    searched = f"JOIN q ON {shape.text.either}" if shape.text else ""
    return f"""SELECT {_columns(shape)} FROM (
            SELECT o.* FROM {shape.kind.table} o
            WHERE {_matching(shape)} AND o.captured_at = g.captured_at AND o.video_id = g.video_id OFFSET 0) o {searched}
        WHERE {hits.counted(shape.kind, shape.selected)} {condition}
        ORDER BY o.start_ms, o.artifact_id LIMIT {limit}"""
