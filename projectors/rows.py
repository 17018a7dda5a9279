"""Rows changed in memory: loaded once for many events, written back together."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import Table

from application.ports import Recorded
from domain.artifacts.envelope import ArtifactBatch
from domain.run import RunStarted
from domain.task import TaskRequested
from domain.video import VideoDeleted, VideoEvent, VideoRegistered

Row = dict[str, Any]
"""A row as JSON: ids and times are text."""


LISTED_CONFIG_BYTES = 16 * 1024


def short_config(column: str) -> str:
    """SQL: a config as lists show it. Imports once took them of any size, and a page has 100."""
    # Only what is large as it is stored is looked at: the second length takes it apart.
    return (
        f"CASE WHEN pg_column_size({column}) > 200 AND octet_length({column}::text) > {LISTED_CONFIG_BYTES}"
        f" THEN jsonb_build_object('left_out_bytes', octet_length({column}::text)) ELSE {column} END AS config"
    )


def without_nul(value: Any) -> Any:
    """A JSON value without NUL characters, which Postgres cannot hold."""
    match value:
        case str():
            return value.replace("\0", "")
        case dict():
            return {without_nul(k): without_nul(v) for k, v in value.items()}
        case list() | tuple():
            return [without_nul(v) for v in value]
        case _:
            return value


def to_json(value: object) -> str:
    """JSON text that Postgres takes as jsonb."""
    encoded = msgspec.json.encode(value)
    if b"\\u0000" in encoded:
        encoded = msgspec.json.encode(without_nul(msgspec.json.decode(encoded)))
    return encoded.decode()


class Rows:
    """The rows of one table under some ids; the table's key is its one uuid column.

    Change what `get` gives in place; `put` adds; nothing is written before `save`.
    """

    def __init__(self, connection: psycopg.Connection, table: Table, ids: Iterable[UUID]) -> None:
        self._connection, self._table = connection, table
        (self._key,) = table.primary_key.columns.keys()
        found = connection.execute(
            f"SELECT to_jsonb(t) FROM {table.name} AS t WHERE {self._key} = ANY(%s)", (list(set(ids)),)
        )
        self._rows: dict[str, Row] = {row[self._key]: row for (row,) in found}
        self._changed: set[str] = set()
        self._gone: set[str] = set()

    def videos(self) -> set[UUID]:
        """The videos that the rows belong to."""
        return {UUID(str(row["video_id"])) for row in self._rows.values()}

    def get(self, key: UUID) -> Row | None:
        """The row to change, or None. It will be written back."""
        row = self._rows.get(str(key))
        if row is not None:
            self._changed.add(str(key))
        return row

    def put(self, key: UUID, row: Row) -> None:
        """Add or replace a row; fields of any type that msgspec encodes."""
        self._rows[str(key)] = row | {self._key: key}
        self._changed.add(str(key))
        self._gone.discard(str(key))

    def forget(self, key: UUID | str) -> None:
        """Delete a row."""
        del self._rows[str(key)]
        self._changed.discard(str(key))
        self._gone.add(str(key))

    def forget_video(self, video_id: UUID, *, but: Callable[[Row], bool] = lambda _: False) -> None:
        """Delete the rows of a video that were loaded or put, `but` some; the others are deleted otherwise."""
        for key, row in list(self._rows.items()):
            if str(row["video_id"]) == str(video_id) and not but(row):
                self.forget(key)

    def save(self) -> None:
        """Write what was changed, in one statement, and delete in another."""
        if self._gone:
            self._connection.execute(
                f"DELETE FROM {self._table.name} WHERE {self._key} = ANY(%s::uuid[])", (list(self._gone),)
            )
            self._gone.clear()
        rows = [self._rows[key] for key in sorted(self._changed)]
        if not rows:
            return
        table, key = self._table.name, self._key
        updates = ", ".join(f"{c} = EXCLUDED.{c}" for c in self._table.columns.keys() if c != key)  # noqa: SIM118
        self._connection.execute(
            f"INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, %s::jsonb)"
            f" ON CONFLICT ({key}) DO UPDATE SET {updates}",
            (to_json(rows),),
        )
        self._changed.clear()


class DeletedVideos:
    """Which videos are deleted, as a projection remembers in a table of its own (video_id, tenant_id).

    Results of a deleted video may still be on their way; they are passed over. A video registered again counts again.
    """

    def __init__(
        self,
        connection: psycopg.Connection,
        table: Table,
        records: Sequence[Recorded],
        *,
        also: Iterable[UUID] = (),
    ) -> None:
        """Knows of the videos that the records name, and `also` of others."""
        self._connection, self._table = connection, table.name
        asked = {video_id for r in records if (video_id := _video_of(r)) is not None} | set(also)
        found = connection.execute(
            f"SELECT video_id, tenant_id FROM {self._table} WHERE video_id = ANY(%s)", (list(asked),)
        )
        self._before: dict[UUID, str] = dict(found.fetchall())
        self._now = dict(self._before)
        self.emptied: set[UUID] = set()
        """Videos deleted in these records: their older rows must go."""

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._now

    def bury(self, event: VideoDeleted) -> None:
        """The video is deleted from here on."""
        self._now[event.originator_id] = event.tenant_id
        self.emptied.add(event.originator_id)

    def revive(self, event: VideoRegistered) -> None:
        """The video counts from here on."""
        self._now.pop(event.originator_id, None)

    def save(self, *tables: Table) -> None:
        """Remember, and delete the rows of emptied videos from `tables`."""
        if self.emptied:
            for table in tables:
                self._connection.execute(
                    f"DELETE FROM {table.name} WHERE video_id = ANY(%s)", (list(self.emptied),)
                )
        added = self._now.keys() - self._before.keys()
        if added:
            self._connection.execute(
                f"INSERT INTO {self._table} (video_id, tenant_id) SELECT * FROM unnest(%s::uuid[], %s::text[])",
                (list(added), [self._now[video_id] for video_id in added]),
            )
        removed = self._before.keys() - self._now.keys()
        if removed:
            self._connection.execute(f"DELETE FROM {self._table} WHERE video_id = ANY(%s)", (list(removed),))


def _video_of(record: Recorded) -> UUID | None:
    match record.item:
        case ArtifactBatch(head=head):
            return head.video_id
        case (
            VideoEvent(originator_id=video_id)
            | TaskRequested(video_id=video_id)
            | RunStarted(video_id=video_id)
        ):
            return video_id
        case _:
            return None
