"""Facets: what there is to search for, with counts."""

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import class_row

from domain.errors import InvalidParameter
from projectors.cursor import decode, encode
from projectors.kinds import kind_of
from projectors.query import query_of
from projectors.selection import STORED, SelectionFilter, clause
from projectors.text import exact

KINDS_COUNTED = ("object", "face", "place", "location")
MAX_LIMIT = 1000


class Facet(msgspec.Struct, frozen=True, kw_only=True):
    """A value that can be asked for."""

    field: str
    """`label`, `cluster_id`, or for locations `country`, `state`, `city`."""
    value: str
    count: int
    """Hits; for locations videos."""
    video_count: int
    cursor: str = ""
    """To go on after this one."""


class Facets(msgspec.Struct, frozen=True, kw_only=True):
    """The values of a kind, the most frequent first."""

    kind: str
    facets: list[Facet]
    has_more: bool


class _Place(msgspec.Struct, frozen=True, array_like=True):
    count: int
    value: str
    field: str


async def facets(
    connection: AsyncConnection,
    tenant_id: str,
    kind: str,
    *,
    prefix: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
    selection: SelectionFilter = STORED,
) -> Facets:
    """The values that start with `prefix`, in any case.

    Raises:
        InvalidParameter: a kind without values to count, a limit out of its range, or another list's cursor.
    """
    what = kind_of(kind, among=KINDS_COUNTED)
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidParameter("limit", f"must be from 1 to {MAX_LIMIT}")
    selected, parameters = clause(selection)
    parameters |= {"tenant_id": tenant_id, "limit": limit + 1}
    start = query_of("prefix", prefix) if prefix else None
    after = ""
    if cursor is not None:
        place = decode(f"facets.{kind}", cursor, _Place)
        after = "HAVING (-sum(n)::bigint, value, field) > (-%(after_count)s::bigint, %(after_value)s, %(after_field)s)"
        parameters |= {
            "after_count": place.count,
            "after_value": exact("cursor", place.value),
            "after_field": exact("cursor", place.field),
        }
    if what.label is not None:
        values = f"SELECT '{what.label}' AS field, c.label AS value, c.n, c.run_id FROM {what.table}_counts c"
        # A run has one row for each value. So only where several runs of a video count may a video come twice:
        # all other rows need not be told apart by their videos, which is most of the work.
        video = "CASE WHEN count(*) OVER (PARTITION BY r.video_id) > 1 THEN r.video_id END"
    else:
        values = f"""SELECT f.field, f.value, 1 AS n, c.run_id, split_part(c.names_folded, E'\\n', f.line) AS folded
            FROM {what.table} c,
                LATERAL (VALUES (1, 'country', c.country), (2, 'state', c.state), (3, 'city', c.city))
                    f (line, field, value)"""
        video = "r.video_id"
    asked = "c.value IS NOT NULL"
    if start is not None:
        parameters["prefix"] = f"^{start.pattern}"
        if what.has_spellings:
            asked = f"""c.value IN (SELECT s.label FROM {what.table}_spellings s
                WHERE s.tenant_id = %(tenant_id)s AND s.folded ~ %(prefix)s)"""
        else:
            asked = "c.value ~* %(prefix)s" if what.label else "c.folded ~ %(prefix)s"
    async with connection.cursor(row_factory=class_row(Facet)) as found:
        await found.execute(
            f"""WITH runs AS MATERIALIZED (
                    SELECT r.run_id, {video} AS video_id FROM run_types r
                    WHERE r.tenant_id = %(tenant_id)s AND r.artifact_type = '{what.artifact_type}' AND {selected})
                SELECT field, value, sum(n)::bigint AS count, sum(videos)::bigint AS video_count FROM (
                    SELECT c.field, c.value, sum(c.n) AS n,
                        CASE WHEN r.video_id IS NULL THEN count(*) ELSE 1 END AS videos
                    FROM ({values} WHERE c.tenant_id = %(tenant_id)s) c JOIN runs r ON r.run_id = c.run_id
                    WHERE {asked} GROUP BY c.field, c.value, r.video_id) f
                GROUP BY field, value {after} ORDER BY count DESC, value, field LIMIT %(limit)s""",
            parameters,
        )
        rows = await found.fetchall()
    shown = [
        msgspec.structs.replace(
            facet, cursor=encode(f"facets.{kind}", _Place(facet.count, facet.value, facet.field))
        )
        for facet in rows[:limit]
    ]
    return Facets(kind=kind, facets=shown, has_more=len(rows) > limit)
