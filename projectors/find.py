"""Find: the next or previous texts of a video that match, spoken and seen ones merged."""

from functools import lru_cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from domain.errors import InvalidParameter
from projectors import cursor as cursors
from projectors import hits
from projectors.cursor import Millis
from projectors.jump import DIRECTIONS, must_exist
from projectors.kinds import KINDS, Kind, Span
from projectors.query import Query, query_of
from projectors.selection import SelectionFilter, clause
from projectors.snippet import snippet

SOURCES = ("all", "transcript", "ocr")
MAX_LIMIT = 100
_CURSOR = "find"
_RANK = {"transcript": 0, "ocr": 1}
"""On equal start the transcript comes first, in both directions."""


class FindFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for."""

    tenant_id: str
    q: str
    direction: str
    from_ms: int | None = None
    """Starts there are no matches, in either direction; None = before the first or behind the last."""
    source: str = "all"
    limit: int = 10
    cursor: str | None = None
    """Goes on from there; `from_ms` no longer counts."""
    selection: SelectionFilter = SelectionFilter()


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A text that matches."""

    jump_to: Span
    artifact_id: UUID
    snippet: str
    """The text as HTML, hits in `<b>`."""
    source: str
    cursor: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Matches in the direction asked for, nearest first."""

    matches: list[Match]
    has_more: bool


class _Place(msgspec.Struct, frozen=True, array_like=True):
    start_ms: Millis
    source: Literal["transcript", "ocr"]
    artifact_id: UUID


async def find(connection: AsyncConnection, video_id: UUID, asked: FindFilter) -> Found:
    """The nearest matches in a video.

    Raises:
        InvalidParameter: the request makes no sense.
        VideoNotFound: no such video.
    """
    if asked.direction not in DIRECTIONS:
        raise InvalidParameter("direction", f"{asked.direction!r} is none of next, prev")
    if asked.source not in SOURCES:
        raise InvalidParameter("source", f"{asked.source!r} is none of {', '.join(SOURCES)}")
    if not 1 <= asked.limit <= MAX_LIMIT:
        raise InvalidParameter("limit", f"must be from 1 to {MAX_LIMIT}")
    if asked.from_ms is not None and asked.from_ms < 0:
        raise InvalidParameter("from_ms", "may not be negative")
    query = query_of("q", asked.q)
    kinds = tuple(KINDS[name] for name in _RANK if asked.source in ("all", name))
    backwards = asked.direction == "prev"
    selected, parameters = clause(asked.selection)
    parameters |= {"tenant_id": asked.tenant_id, "video_id": video_id} | query.parameters
    place = None if asked.cursor is None else cursors.decode(_CURSOR, asked.cursor, _Place)
    for kind in kinds:
        start_ms, artifact_id = _bound(asked.from_ms, place, kind, backwards=backwards)
        parameters |= {f"{kind.name}_start_ms": start_ms, f"{kind.name}_artifact_id": artifact_id}
    matching = tuple(hits.matching(kind, query).either for kind in kinds)
    shape = _Shape(
        kinds, hits.configured(query, *kinds), matching, selected, backwards, asked.limit + 1
    )
    async with connection.cursor(row_factory=dict_row) as found:
        await found.execute(_statement(shape), parameters)
        rows = await found.fetchall()
    if not rows:
        await must_exist(connection, asked.tenant_id, video_id)
    return Found(
        matches=[_match(row, query) for row in rows[: asked.limit]], has_more=len(rows) > asked.limit
    )


def _match(row: dict[str, Any], query: Query) -> Match:
    source = row["source"]
    return Match(
        jump_to=Span(row["start_ms"], row["end_ms"]),
        artifact_id=row["artifact_id"],
        snippet=snippet(row["text"], query, row["marked_words"], row["marked_accents"]),
        source=source,
        cursor=cursors.encode(_CURSOR, _Place(row["start_ms"], source, row["artifact_id"])),
    )


def _bound(
    from_ms: int | None, place: _Place | None, kind: Kind, *, backwards: bool
) -> tuple[int, str | UUID]:
    """(start_ms, artifact_id) that the hits of a source must lie strictly behind, or before when `backwards`."""
    if place is None:
        return hits.bound(from_ms, backwards=backwards)
    if place.source == kind.name:
        return place.start_ms, place.artifact_id
    # The other source's hits at the same start come after the place if they rank behind it, in both directions.
    if (_RANK[kind.name] > _RANK[place.source]) == backwards:
        return place.start_ms, hits.LAST
    return (place.start_ms, hits.FIRST) if backwards else (place.start_ms - 1, hits.LAST)


class _Shape(NamedTuple):
    kinds: tuple[Kind, ...]
    configured: str
    matching: tuple[str, ...]
    """For each kind, whether a text matches."""
    selected: str
    backwards: bool
    limit: int


@lru_cache(maxsize=256)
def _statement(shape: _Shape) -> str:
    way = " DESC" if shape.backwards else ""
    order = f"start_ms{way}, rank, artifact_id{way} LIMIT {shape.limit}"
    sources = " UNION ALL ".join(
        f"({_source(shape, kind, matches, order)})"
        for kind, matches in zip(shape.kinds, shape.matching, strict=True)
    )
    return f"""WITH {shape.configured}
        SELECT h.source, h.start_ms, h.end_ms, h.artifact_id, h.text, {hits.MARKED}
        FROM (SELECT * FROM ({sources}) o ORDER BY {order}) h ORDER BY h.start_ms{way}, h.rank, h.artifact_id{way}"""


def _source(shape: _Shape, kind: Kind, matches: str, order: str) -> str:
    before_or_after = "<" if shape.backwards else ">"
    return f"""SELECT '{kind.name}' AS source, {_RANK[kind.name]} AS rank, o.start_ms, o.end_ms, o.artifact_id,
            o.text, {hits.found(kind)}
        FROM (SELECT o.* FROM {kind.table} o WHERE o.tenant_id = %(tenant_id)s
                AND o.captured_at = (SELECT captured_at FROM {kind.table}_videos
                    WHERE tenant_id = %(tenant_id)s AND video_id = %(video_id)s)
                AND o.video_id = %(video_id)s
                AND (o.start_ms, o.artifact_id) {before_or_after}
                    (%({kind.name}_start_ms)s::integer, %({kind.name}_artifact_id)s::uuid) OFFSET 0) o
            JOIN q ON {matches}
        WHERE {hits.counted(kind, shape.selected)} ORDER BY {order}"""
