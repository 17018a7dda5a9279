"""What waits and runs, by task type and class, and how quickly tasks were done lately."""

from typing import Any

import msgspec
import psycopg

from domain.task import Priority

MEASURED = 50
"""Newest completed tasks that a rate is measured on."""


class Load(msgspec.Struct, frozen=True):
    """Open tasks of one type and class."""

    task_type: str
    priority: Priority
    pending: int
    running: int
    open_ms: int
    """Of media, in all of them; videos that are not probed yet count nothing."""


async def loads(connection: psycopg.AsyncConnection[Any], *, tenant_id: str) -> list[Load]:
    """Open tasks of the tenant."""
    rows = await connection.execute(
        """SELECT t.task_type, t.priority, count(*) FILTER (WHERE t.status = 'pending'),
            count(*) FILTER (WHERE t.status = 'running'),
            coalesce(sum((v.facts->>'duration_ms')::bigint), 0)::bigint
        FROM tasks AS t LEFT JOIN videos AS v USING (video_id)
        WHERE t.tenant_id = %s AND t.status IN ('pending', 'running') GROUP BY 1, 2""",
        (tenant_id,),
    )
    return [Load(*row) for row in await rows.fetchall()]


async def rate_of(
    connection: psycopg.AsyncConnection[Any], *, tenant_id: str, task_type: str, profile: str | None = None
) -> float | None:
    """Media seconds a second of one worker, over the newest completed tasks; None when nothing was measured.

    Reused results count nothing: they have no time of their own.
    """
    rows = await connection.execute(
        """SELECT (sum(duration_ms) / nullif(sum(running_ms), 0))::float8 FROM (
            SELECT t.running_ms, (v.facts->>'duration_ms')::bigint AS duration_ms
            FROM tasks AS t JOIN videos AS v USING (video_id)
            WHERE t.tenant_id = %(tenant)s AND t.status = 'completed' AND t.task_type = %(type)s AND t.running_ms > 0
                AND (%(profile)s::text IS NULL OR t.profile = %(profile)s)
            ORDER BY t.created_at DESC, t.position DESC LIMIT %(most)s
        ) AS measured WHERE duration_ms > 0""",
        {"tenant": tenant_id, "type": task_type, "profile": profile, "most": MEASURED},
    )
    row = await rows.fetchone()
    return None if row is None else row[0]


def eta_s(open_ms: int, rate: float | None) -> float | None:
    """Seconds of one worker for that much media; None when the rate is unknown."""
    return None if not rate else round(open_ms / 1000 / rate, 1)
