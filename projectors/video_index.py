"""What scans and policies ask of the read model `videos`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from application.ports import KnownVideo
from domain.errors import ServiceUnavailable
from infrastructure.postgres.connections import connect
from projectors.checkpoint import follower_of
from projectors.videos import Videos

PAGE = 1_000
ROOTS = 1_000
_KNOWN: LiteralString = """
SELECT video_id, source, size_bytes, mtime_ms, blake3, is_missing, false FROM videos WHERE {}
UNION ALL SELECT video_id, source, size_bytes, mtime_ms, blake3, false, true FROM videos_deleted WHERE {}"""


class PostgresVideoIndex:
    """`application.ports.VideoIndex` over the read model."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    def position(self) -> int:
        """How far the read model has come."""
        ask = "SELECT coalesce((SELECT notification_id FROM es.tracking WHERE application_name = %s), 0)"
        with self._connected() as connection:
            row = connection.execute(ask, (follower_of(Videos.name),)).fetchone()
        assert row is not None
        return int(row[0])

    def at(self, tenant_id: str, sources: Sequence[str]) -> list[KnownVideo]:
        """Videos with these sources, deleted ones included."""
        return self._ask("tenant_id = %s AND source = ANY(%s)", tenant_id, list(sources))

    def of_sizes(self, tenant_id: str, sizes: Sequence[int]) -> list[KnownVideo]:
        """Videos whose file has, or had, one of these sizes, deleted ones included."""
        return self._ask("tenant_id = %s AND size_bytes = ANY(%s)", tenant_id, list(sizes))

    def under(self, tenant_id: str, folder: str) -> Iterator[KnownVideo]:
        """Videos below a folder that are neither missing nor deleted."""
        ask = (
            "SELECT video_id, source, size_bytes, mtime_ms, blake3, false, false FROM videos"
            " WHERE tenant_id = %s AND video_id > %s AND starts_with(source, %s) AND NOT is_missing"
            " ORDER BY video_id LIMIT %s"
        )
        after = UUID(int=0)
        while True:
            with self._connected() as connection:
                values = (tenant_id, after, folder.rstrip("/") + "/", PAGE)
                page = [_known(row) for row in connection.execute(ask, values)]
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].video_id

    def scan_roots(self, tenant_id: str) -> list[str]:
        """Folders that the tenant asked to have looked through, the newest request first."""
        ask = "SELECT root FROM scans WHERE tenant_id = %s GROUP BY root ORDER BY max(requested_at) DESC LIMIT %s"
        with self._connected() as connection:
            return [root for (root,) in connection.execute(ask, (tenant_id, ROOTS))]

    def _ask(self, where: LiteralString, *values: Any) -> list[KnownVideo]:
        with self._connected() as connection:
            return [_known(row) for row in connection.execute(_KNOWN.format(where, where), values * 2)]

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with connect(self._url, application_name="eioku scans", search_path="read") as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise ServiceUnavailable(f"no answer about videos: {error}") from error


def _known(row: Sequence[Any]) -> KnownVideo:
    return KnownVideo(**dict(zip(KnownVideo.__struct_fields__, row, strict=True)))
