"""Which videos a re-run is about, what it costs and what it keeps."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from domain.pipeline import BY_NAME
from projectors.where import Where

LATELY = timedelta(minutes=1)
"""What was asked for in this time is not asked for again."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done again, and where."""

    tenant_id: str
    task_type: str
    profile: str
    config_hash: str
    where: Where
    at: datetime


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """How much it is."""

    videos: int
    """That fit."""
    already_asked: int
    """Of these: the same is pending, running, or was asked for within the last minute."""
    media_ms: int
    """Of the videos to be asked for; those that are not probed count nothing."""
    kept_runs: int
    """Completed runs of the task type that these videos have; they stay, and can be selected."""
    kept_artifacts: int


_FROM = """
FROM videos AS v
LEFT JOIN LATERAL (
    SELECT * FROM runs AS r WHERE r.video_id = v.video_id AND r.task_type = %(task_type)s AND r.status = 'completed'
    ORDER BY r.created_at DESC, r.position DESC LIMIT 1
) AS run ON true
LEFT JOIN LATERAL (
    SELECT * FROM tasks AS t WHERE t.video_id = v.video_id AND t.task_type = %(task_type)s
    ORDER BY t.created_at DESC, t.position DESC LIMIT 1
) AS task ON true
LEFT JOIN (
    SELECT DISTINCT ON (profile) profile, producer, producer_version, model FROM runs
    WHERE tenant_id = %(tenant_id)s AND task_type = %(task_type)s ORDER BY profile, started_at DESC, position DESC
) AS present ON present.profile = run.profile
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM tasks AS t WHERE t.video_id = v.video_id
            AND (t.task_type, t.profile, t.config_hash) = (%(task_type)s, %(profile)s, %(config_hash)s)
            AND (t.status IN ('pending', 'running') OR t.created_at > %(lately)s)
    ) AS asked
) AS already
WHERE v.tenant_id = %(tenant_id)s AND v.duplicate_of IS NULL AND NOT v.is_missing
    AND (v.facts IS NOT NULL OR %(is_first)s)"""
"""`present`: as the newest run of each profile has it, whether it has ended or not."""


async def scope_of(connection: psycopg.AsyncConnection[Any], wish: Wish) -> Scope:
    """How many videos fit, how long they are, and what they have of the task type already."""
    rows = await connection.execute(
        f"""WITH fitting AS (SELECT v.video_id, already.asked, (v.facts->>'duration_ms')::bigint AS duration_ms
            {_FROM} AND {wish.where.sql})
        SELECT count(*), count(*) FILTER (WHERE asked),
            coalesce(sum(duration_ms) FILTER (WHERE NOT asked), 0)::bigint,
            (SELECT count(*) FROM runs AS r WHERE r.task_type = %(task_type)s AND r.status = 'completed'
                AND r.video_id IN (SELECT video_id FROM fitting)),
            (SELECT coalesce(sum(n.value::bigint), 0)::bigint FROM runs AS r, jsonb_each_text(r.counts) AS n
                WHERE r.task_type = %(task_type)s AND r.status = 'completed'
                AND r.video_id IN (SELECT video_id FROM fitting))
        FROM fitting""",
        _values(wish),
    )
    row = await rows.fetchone()
    assert row is not None
    videos, asked, media_ms, kept_runs, kept_artifacts = row
    return Scope(
        videos=videos, already_asked=asked, media_ms=media_ms, kept_runs=kept_runs, kept_artifacts=kept_artifacts
    )


async def videos_to_ask(
    connection: psycopg.AsyncConnection[Any], wish: Wish, *, limit: int, after: UUID | None
) -> Sequence[UUID]:
    """The next videos, in order of their ids, for which it was not asked yet."""
    rows = await connection.execute(
        f"""SELECT v.video_id {_FROM} AND NOT already.asked AND {wish.where.sql}
            AND (%(after)s::uuid IS NULL OR v.video_id > %(after)s) ORDER BY v.video_id LIMIT %(limit)s""",
        _values(wish) | {"after": after, "limit": limit},
    )
    return [video_id for (video_id,) in await rows.fetchall()]


def _values(wish: Wish) -> dict[str, Any]:
    return wish.where.values | {
        "tenant_id": wish.tenant_id,
        "task_type": wish.task_type,
        "profile": wish.profile,
        "config_hash": wish.config_hash,
        "lately": wish.at - LATELY,
        "is_first": not BY_NAME[wish.task_type].after,
    }
