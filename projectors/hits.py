"""SQL that all queries over the timeline are made of."""

from typing import NamedTuple
from uuid import UUID

from domain.timeline import MAX_MS
from projectors.kinds import Kind
from projectors.query import Query

LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
FIRST = "00000000-0000-0000-0000-000000000000"
"""Artifact ids after and before all others at one start."""


def _marked(column: str) -> str:
    return (
        f"ts_headline(('pg_catalog.' || h.config)::regconfig, h.{column}, h.query,"
        " 'HighlightAll=true, StartSel=\"' || chr(1) || '\", StopSel=\"' || chr(2) || '\"')"
    )


MARKED = f"""CASE WHEN h.has_words THEN {_marked("words")} END AS marked_words,
    CASE WHEN h.has_words AND h.accented <> '' THEN {_marked("accented")} END AS marked_accents"""
"""What `snippet` needs, for rows `h` of a text kind with the columns of `found`."""
UNMARKED = "NULL AS marked_words, NULL AS marked_accents"

CAPTURED_US = "(extract(epoch FROM nullif(h.captured_at, 'infinity')) * 1000000)::bigint AS captured_us"


def found(kind: Kind) -> str:
    """Columns of text `o` and its query `q` that `MARKED` needs."""
    return f"o.words, o.accented, o.config, q.{kind.query} AS query, q.has_words"


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
    conditions = [f"o.tsv @@ q.{kind.query}"]
    if query.together:
        conditions.append("o.words LIKE ALL(%(together)s::text[])")
    if query.parameters["accented"]:
        # Where the stemmer takes accents away, the same word without them must not count; its other forms may.
        accented = """q.is_exact OR o.tsv @@ q.weighted OR (
            ts_filter(o.tsv, '{b}') || to_tsvector(q.regconfig, (
                SELECT coalesce(string_agg(word, ' '), '') FROM unnest(string_to_array(o.words, ' ')) word
                WHERE word <> ALL(%(left_out)s::text[])))) @@ q.accented"""
        joined = " OR o.tsv @@ q.joined" if kind.query == "loose" and query.parameters["joined"] else ""
        conditions.append(f"({accented}{joined})")
    return Matching(configured(query, kind), " AND ".join(conditions), query.contains)


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

    `loose` is `query`, or all its words run together. `only_lexeme`: the word of a query that has just one, as the read
    model counts it. Of a query with accents: `accented` is that part of it, `weighted` the same with the weight of words
    that have accents, and `is_exact` whether its lexemes are others than without accents.
    """
    configs = " UNION ".join(
        f"SELECT config FROM {kind.table}_configs WHERE tenant_id = %(tenant_id)s" for kind in kinds
    )
    # Only what the query has is asked of Postgres: parsing it is a good part of a quick answer.
    columns = ["to_tsquery(regconfig, %(query)s) AS query"]
    lexemes = "tsvector_to_array(to_tsvector(regconfig, %(unaccented)s))"
    loose, is_exact, more = "query", "true", ""
    if query.parameters["joined"]:
        columns.append("to_tsquery(regconfig, %(joined)s) AS joined")
        loose = "CASE WHEN numnode(query) > 0 THEN query || joined ELSE query END"
        more = ", joined"
    if query.parameters["accented"]:
        found = "tsvector_to_array(to_tsvector(regconfig, %(accented)s))"
        without = "tsvector_to_array(to_tsvector(regconfig, array_to_string(%(left_out)s::text[], ' ')))"
        columns += [
            "regconfig",
            "to_tsquery(regconfig, %(accented_query)s) AS accented",
            "to_tsquery(regconfig, %(weighted_query)s) AS weighted",
            f"NOT {found} && {without} AS is_exact",
        ]
        lexemes, is_exact = f"{lexemes} || {found}", "is_exact"
        more += ", regconfig, accented, weighted, is_exact"
    return f"""q AS MATERIALIZED (
        SELECT config, query, {loose} AS loose, numnode(query) > 0 AS has_words{more},
            CASE WHEN %(is_counted)s AND {is_exact} AND cardinality(lexemes) = 1 THEN lexemes[1] END AS only_lexeme
        FROM (
            SELECT config, {", ".join(columns)}, {lexemes} AS lexemes
            FROM (SELECT config, ('pg_catalog.' || config)::regconfig AS regconfig FROM ({configs}) u) c) parsed)"""


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
