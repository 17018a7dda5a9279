"""The part of the schema that needs the extension pgvector, which not every Postgres has.

Without it the vectors are stored all the same, as arrays that nothing can search; once it is there, the next
`eioku migrate` (every `eioku up` does that) turns them into what can be searched.
"""

from typing import Any

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

DIM = 384
"""Of text vectors."""
INDEXED_DIMS = (512, 768, 1024, 1152)
"""Of frame vectors, which are as wide as their model makes them: CLIP and SigLIP, small to large. Others are found too,
by reading all of them.
"""
REMEDY = "install pgvector 0.7 or newer into Postgres, `CREATE EXTENSION vector SCHEMA public`, then `eioku migrate`"
_TYPES = {"text_vectors": f"public.halfvec({DIM})", "frame_vectors": "public.halfvec"}
_INDEXES = {
    "text_vectors": ("CREATE INDEX text_vectors_vector ON {table} USING hnsw (vector public.halfvec_cosine_ops)",),
    "frame_vectors": tuple(
        f"CREATE INDEX frame_vectors_vector_{dim} ON {{table}}"
        f" USING hnsw ((vector::public.halfvec({dim})) public.halfvec_cosine_ops) WHERE dim = {dim}"
        for dim in INDEXED_DIMS
    ),
}
STATE = """SELECT to_regclass('read.' || %(table)s) IS NOT NULL,
    to_regtype('public.halfvec') IS NOT NULL,
    (SELECT atttypid = to_regtype('public.halfvec') FROM pg_attribute
        WHERE attrelid = to_regclass('read.' || %(table)s) AND attname = 'vector')"""


def enable(connection: Connection) -> None:
    """Make the vectors searchable if this Postgres can; changes nothing where they are, or where it cannot."""
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public"))
    except DBAPIError:
        pass  # not installed, or not ours to create: `missing` says so to whoever asks
    for table, column_type in _TYPES.items():
        has_table, has_type, is_done = connection.exec_driver_sql(STATE, {"table": table}).one()
        if has_table and has_type and not is_done:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.exec_driver_sql(
                f"ALTER TABLE read.{table} ALTER COLUMN vector TYPE {column_type} USING vector::{column_type}"
            )
            for index in _INDEXES[table]:
                connection.exec_driver_sql(index.format(table=f"read.{table}"))


def missing(row: tuple[Any, ...] | None) -> str | None:
    """Why nothing can be searched by meaning, told from the row of `STATE`; None when it can."""
    if row is None or not row[0]:
        return "the database is older than this version: run `eioku migrate`"
    if row[2]:
        return None
    return f"this Postgres searches no vectors: {REMEDY}"


def trouble(connection: psycopg.Connection) -> str | None:
    """Why nothing can be searched by meaning here, and what to do about it; None when it can."""
    return missing(connection.execute(STATE, {"table": "text_vectors"}).fetchone())
