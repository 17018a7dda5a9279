"""SQL that all queries over the timeline are made of."""

from uuid import UUID

from domain.timeline import MAX_MS
from projectors.kinds import Kind

LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
FIRST = "00000000-0000-0000-0000-000000000000"
"""Artifact ids after and before all others at one start."""

MARKED_WORDS = """CASE WHEN h.has_words THEN ts_headline(('pg_catalog.' || h.config)::regconfig, h.words, h.query,
    'HighlightAll=true, StartSel="' || chr(1) || '", StopSel="' || chr(2) || '"') END AS marked_words"""
"""For rows `h` of a text kind with the columns `has_words` and `query` of `configured`."""

CAPTURED_US = "(extract(epoch FROM nullif(h.captured_at, 'infinity')) * 1000000)::bigint AS captured_us"


def matches(kind: Kind, contains: str) -> str:
    """Whether text `o` matches `q`, the query for its configuration; `contains` is `text.contains_of` the query."""
    return f"q.config = o.config AND CASE WHEN q.has_words THEN o.tsv @@ q.{kind.query} ELSE {contains} END"


def counted(kind: Kind, selected: str) -> str:
    """Whether the run of row `o` counts; `selected` is a condition on `run_types r`.

    Not a join: the planner thinks a join leaves few rows, and then reads all of them before it sorts. Run and video ids
    have one owner, so joins by them need no second look at the tenant; it would only invite worse indexes.
    """
    return (
        f"(SELECT {selected} FROM run_types r WHERE r.run_id = o.run_id"
        f" AND r.artifact_type = '{kind.artifact_type}')"
    )


def configured(*kinds: Kind) -> str:
    """CTE `q`: the query for each configuration that the tenant's texts use; `has_words` tells words from substring.

    `loose` is `query`, or all its words run together. `only_lexeme`: the word of a query that has just one, as the index
    has it.
    """
    configs = " UNION ".join(
        f"SELECT config FROM {kind.table}_configs WHERE tenant_id = %(tenant_id)s" for kind in kinds
    )
    return f"""q AS MATERIALIZED (
        SELECT config, query, numnode(query) > 0 AS has_words,
            CASE WHEN numnode(query) > 0 THEN query || joined ELSE query END AS loose,
            CASE WHEN cardinality(lexemes) = 1 THEN lexemes[1] END AS only_lexeme
        FROM (
            SELECT config, plainto_tsquery(regconfig, %(words)s) AS query,
                plainto_tsquery(regconfig, %(joined)s) AS joined,
                tsvector_to_array(to_tsvector(regconfig, %(words)s)) AS lexemes
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
