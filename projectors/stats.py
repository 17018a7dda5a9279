"""Counts over the read models, for /metrics and `eioku status`."""

from typing import Any

import msgspec
import psycopg


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is."""

    videos: int
    tasks: dict[str, dict[str, int]]
    """Task type → status → number; only what there is."""
    runs: int
    """Completed."""
    artifacts: dict[str, int]
    """Artifact type → number in completed runs, as the runs say."""
    parked: dict[str, int]
    """Projection → events it could not digest; only those with some. Always for all tenants."""


async def stats(connection: psycopg.AsyncConnection, *, tenant_id: str | None = None) -> Stats:
    """The counts of a tenant, or of all, in one round trip."""
    rows = await connection.execute(
        """WITH mine AS (SELECT %(tenant)s::text AS tenant_id)
        SELECT
            (SELECT count(*) FROM videos, mine WHERE mine.tenant_id IS NULL OR videos.tenant_id = mine.tenant_id),
            (SELECT coalesce(jsonb_agg(jsonb_build_array(task_type, status, n)), '[]') FROM (
                SELECT task_type, status, count(*) AS n FROM tasks, mine
                WHERE mine.tenant_id IS NULL OR tasks.tenant_id = mine.tenant_id GROUP BY 1, 2) AS t),
            (SELECT count(DISTINCT run_id) FROM run_types AS r, mine
                WHERE mine.tenant_id IS NULL OR r.tenant_id = mine.tenant_id),
            (SELECT coalesce(jsonb_object_agg(artifact_type, n), '{}') FROM (
                SELECT artifact_type, sum(artifact_count) AS n FROM run_types AS r, mine
                WHERE mine.tenant_id IS NULL OR r.tenant_id = mine.tenant_id GROUP BY 1) AS a),
            (SELECT coalesce(jsonb_object_agg(projection, n), '{}') FROM (
                SELECT projection, count(*) AS n FROM parked GROUP BY 1) AS p)""",
        {"tenant": tenant_id},
    )
    row: tuple[Any, ...] | None = await rows.fetchone()
    assert row is not None
    videos, counted, runs, artifacts, parked = row
    tasks: dict[str, dict[str, int]] = {}
    for task_type, status, n in counted:
        tasks.setdefault(task_type, {})[status] = n
    return Stats(videos=videos, tasks=tasks, runs=runs, artifacts=artifacts, parked=parked)
