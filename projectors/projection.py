"""What a projection is, and how it writes many rows at once."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Table

from application.ports import Recorded
from domain.artifacts.envelope import ArtifactBatch

Value = str | int | float | bool | UUID | datetime | None
"""What a cell of `copy_rows` may hold. Ids as text are quicker than UUID objects; JSON goes in as text."""


class Projection(ABC):
    """One read model: its tables, and how events change them.

    Records come in the order of the log, filtered to `topics` and `kinds`. Rows must be a function of that sequence
    alone: any way of cutting it into calls, and any restart between calls, gives equal rows. No clock, no random, no
    other projection's tables.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raise it when the same events are to give other rows: then a rebuild may differ from the live tables."""
    tables: ClassVar[tuple[Table, ...]]
    topics: ClassVar[frozenset[str]]
    kinds: ClassVar[frozenset[str]] = frozenset()
    """Artifact types whose batches it takes."""

    @abstractmethod
    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        """Change the rows, on a connection inside a transaction that also moves the checkpoint.

        Table names stay unqualified: the search path leads to the live tables, or to those of a rebuild.
        """

    @classmethod
    def wants(cls, record: Recorded) -> bool:
        """Whether the record is one of the projection's topics and kinds."""
        item = record.item
        if isinstance(item, ArtifactBatch):
            return item.head.artifact_type in cls.kinds
        return item.TOPIC in cls.topics


def execute_many(
    connection: psycopg.Connection, statement: LiteralString, rows: Sequence[dict[str, object]]
) -> None:
    """Run one statement for each row, in order, pipelined."""
    if rows:
        connection.cursor().executemany(statement, rows)


def copy_rows(
    connection: psycopg.Connection,
    table: str | Table,
    columns: Sequence[str],
    rows: Iterable[Sequence[Value]],
    *,
    skip_existing: bool = False,
) -> None:
    """Add rows by COPY, the quickest way in. Text loses NUL characters, which Postgres cannot hold.

    `skip_existing`: rows whose key is there already are passed over, the first of two equal keys stays; costs a second
    look only when there are some.

    Raises:
        psycopg.errors.UniqueViolation: a key is there already, without `skip_existing`.
    """
    name = table if isinstance(table, str) else table.name
    body = b"".join(map(_line, rows))
    if not body:
        return
    if not skip_existing:
        _copy(connection, name, columns, body)
        return
    try:
        with connection.transaction():
            _copy(connection, name, columns, body)
    except psycopg.errors.UniqueViolation:
        _copy_new(connection, name, columns, body)


def copy_lines(connection: psycopg.Connection, table: str, columns: Sequence[str], body: bytes) -> None:
    """Add rows that were formatted for COPY's text format already, like `copy_rows(skip_existing=True)`."""
    if not body:
        return
    try:
        with connection.transaction():
            _copy(connection, table, columns, body)
    except psycopg.errors.UniqueViolation:
        _copy_new(connection, table, columns, body)


def escape(text: str) -> str:
    """Text as COPY's text format wants it, without NUL characters."""
    return text.translate(_ESCAPES)


_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": None})


def _cell(value: Value) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _line(row: Sequence[Value]) -> bytes:
    return ("\t".join(map(_cell, row)) + "\n").encode()


def _copy(connection: psycopg.Connection, table: str, columns: Sequence[str], body: bytes) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor().copy(statement) as copy:
        copy.write(body)


def _copy_new(connection: psycopg.Connection, table: str, columns: Sequence[str], body: bytes) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    target = sql.Identifier(table)
    connection.execute("DROP TABLE IF EXISTS pg_temp.incoming")
    connection.execute(
        sql.SQL("CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            names, target
        )
    )
    _copy(connection, "incoming", columns, body)
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT {} FROM pg_temp.incoming ON CONFLICT DO NOTHING").format(
            target, names, names
        )
    )
    connection.execute("DROP TABLE pg_temp.incoming")
