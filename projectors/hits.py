"""SQL that all queries over the timeline are made of."""

from typing import NamedTuple
from uuid import UUID

from domain.timeline import MAX_MS
from projectors.kinds import Kind
from projectors.query import ACCENTED_LEXEME, Query

LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
FIRST = "00000000-0000-0000-0000-000000000000"
"""Artifact ids after and before all others at one start."""


def _marked(column: str, query: str) -> str:
    return (
        f"ts_headline(('pg_catalog.' || h.config)::regconfig, h.{column}, h.{query},"
        " 'HighlightAll=true, StartSel=\"' || chr(1) || '\", StopSel=\"' || chr(2) || '\"')"
    )


MARKED = f"""CASE WHEN h.has_words THEN
        CASE WHEN numnode(h.plain) > 0 THEN {_marked("words", "plain")} ELSE h.words END END AS marked_words,
    CASE WHEN h.has_words AND h.accented <> '' THEN {_marked("accented", "query")} END AS marked_accents"""
"""What `snippet` needs, for rows `h` of a text kind with the columns of `found`."""
UNMARKED = "NULL AS marked_words, NULL AS marked_accents"

CAPTURED_US = "(extract(epoch FROM nullif(h.captured_at, 'infinity')) * 1000000)::bigint AS captured_us"


def found(kind: Kind) -> str:
    """Columns of text `o` and its query `q` that `MARKED` needs."""
    return (
        f"o.words, o.accented, o.config, q.{kind.query} AS query, q.plain_{kind.query} AS plain, q.has_words"
    )


class Matching(NamedTuple):
    """Conditions on text `o` and `q`, the query for its configuration."""

    configured: str
    """The CTE `q`."""
    by_index: str
    """For a query that has words."""
    by_reading: str
    """For one that has none."""

    @property
    def either(self) -> str:
        """Whichever applies."""
        return (
            f"q.config = o.config AND CASE WHEN q.has_words THEN {self.by_index} ELSE {self.by_reading} END"
        )


def matching(kind: Kind, query: Query) -> Matching:
    """How texts of that kind are compared with a query."""
    together = " AND o.words LIKE ALL(%(together)s::text[])" if query.together else ""
    return Matching(configured(query, kind), f"o.tsv @@ q.{kind.query}{together}", query.contains)


def counted(kind: Kind, selected: str) -> str:
    """Whether the run of row `o` counts; `selected` is a condition on `run_types r`.

    Not a join: the planner thinks a join leaves few rows, and then reads all of them before it sorts. Run and video ids
    have one owner, so joins by them need no second look at the tenant; it would only invite worse indexes.
    """
    return (
        f"(SELECT {selected} FROM run_types r WHERE r.run_id = o.run_id"
        f" AND r.artifact_type = '{kind.artifact_type}')"
    )


def configured(query: Query, *kinds: Kind) -> str:
    """CTE `q`: the query for each configuration that the tenant's texts use; `has_words` tells words from substring.

    `loose` is `query`, or all its words run together; `plain_…` is the part of it without accents. `only_lexeme`: the
    word of a query that has just one, as the read model counts it.
    """
    configs = " UNION ".join(
        f"SELECT config FROM {kind.table}_configs WHERE tenant_id = %(tenant_id)s" for kind in kinds
    )
    # Only what the query has is asked of Postgres: parsing it is a good part of a quick answer.
    has_accents, has_joined = query.parameters["accented"] is not None, query.parameters["joined"] is not None
    parts = ["to_tsquery(regconfig, %(query)s) AS query"]
    loose = plain = plain_loose = "query"
    lexemes = "tsvector_to_array(to_tsvector(regconfig, %(unaccented)s))"
    if has_joined:
        parts.append("to_tsquery(regconfig, %(joined)s) AS joined")
        loose = plain_loose = "CASE WHEN numnode(query) > 0 THEN query || joined ELSE query END"
    if has_accents:  # Words that are joined to one with accents are one with accents.
        parts.append("to_tsquery(regconfig, %(plain_query)s) AS plain")
        plain = plain_loose = "plain"
        lexemes += (
            f" || ARRAY(SELECT '{ACCENTED_LEXEME}' || lexeme FROM unnest(to_tsvector(regconfig, %(accented)s)))"
        )
    return f"""q AS MATERIALIZED (
        SELECT config, query, {loose} AS loose, {plain} AS plain_query,
            {plain_loose} AS plain_loose, numnode(query) > 0 AS has_words,
            CASE WHEN %(is_counted)s AND cardinality(lexemes) = 1 THEN lexemes[1] END AS only_lexeme
        FROM (
            SELECT config, {", ".join(parts)}, {lexemes} AS lexemes
            FROM (SELECT config, ('pg_catalog.' || config)::regconfig AS regconfig FROM ({configs}) u) c) parsed)"""


def of_each_spelling(kind: Kind, rows: str, order: str, limit: str) -> str:
    """The first of `rows`, a statement with `o.label = s.label`, by all spellings of the label asked for."""
    return f"""SELECT o.* FROM {kind.table}_spellings s CROSS JOIN LATERAL ({rows}) o
        WHERE s.tenant_id = %(tenant_id)s AND s.folded = %(label)s ORDER BY {order} LIMIT {limit}"""


def captured_at(kind: Kind) -> str:
    """The date of video `%(video_id)s`, looked up in the same statement; of a deleted one the cursor tells it."""
    return (
        f"coalesce((SELECT captured_at FROM {kind.table}_videos"
        " WHERE tenant_id = %(tenant_id)s AND video_id = %(video_id)s),"
        " CASE WHEN %(is_cursor)s::boolean THEN"
        " coalesce('epoch'::timestamptz + %(captured_us)s::bigint * interval '1 microsecond', 'infinity') END)"
    )


def ordered(alias: str, *, backwards: bool) -> str:
    """The timeline's order, or its mirror."""
    way = " DESC" if backwards else ""
    return ", ".join(
        f"{alias}.{column}{way}" for column in ("captured_at", "video_id", "start_ms", "artifact_id")
    )


def bound(from_ms: int | None, *, backwards: bool) -> tuple[int, str | UUID]:
    """(start_ms, artifact_id) that hits must lie strictly behind, or before when `backwards`."""
    if from_ms is None:
        return (MAX_MS, LAST) if backwards else (-1, LAST)
    if from_ms > MAX_MS:
        return MAX_MS, LAST
    return from_ms, FIRST if backwards else LAST
