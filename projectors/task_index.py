"""What the policies ask of the read model `tasks`."""

from collections.abc import Sequence
from uuid import UUID

import psycopg

from domain.errors import ServiceUnavailable
from infrastructure.postgres.connections import connect
from projectors.checkpoint import follower_of
from projectors.tasks import Tasks


class PostgresTaskIndex:
    """`application.ports.TaskIndex` over the read model."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url

    def of_video(self, video_id: UUID) -> tuple[int, Sequence[UUID]]:
        """Tasks of a video; of a deleted one at least those that are open."""
        return self._ask("video_id = %s", video_id)

    def unavailable(self, task_types: Sequence[str]) -> tuple[int, Sequence[UUID]]:
        """Tasks of these types that no worker could do, all tenants."""
        return self._ask("status = 'unavailable' AND task_type = ANY(%s)", list(task_types))

    def _ask(self, where: str, value: object) -> tuple[int, Sequence[UUID]]:
        try:
            with connect(self._url, application_name="eioku policies", search_path="read") as connection:
                # One statement sees one state, and rows and checkpoint are committed together.
                row = connection.execute(
                    "SELECT coalesce((SELECT notification_id FROM es.tracking WHERE application_name = %s), 0),"
                    f" array(SELECT task_id FROM tasks WHERE {where} ORDER BY position)",
                    (follower_of(Tasks.name), value),
                ).fetchone()
        except psycopg.OperationalError as error:
            raise ServiceUnavailable(f"no answer about tasks: {error}") from error
        assert row is not None
        return row[0], row[1]
