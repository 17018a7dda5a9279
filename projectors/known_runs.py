"""Whether the same was done before: the same content, config, producer and weights (ADR-0021)."""

from typing import Any

import psycopg

from application.messages import KnownRun, KnownWanted


async def known_run(connection: psycopg.AsyncConnection[Any], wanted: KnownWanted) -> KnownRun:
    """The newest completed run of the video that fits. The language asked for is part of the config hash."""
    rows = await connection.execute(
        """SELECT run_id FROM runs
        WHERE video_id = %(video_id)s AND tenant_id = %(tenant_id)s AND status = 'completed'
            AND (task_type, profile, config_hash) = (%(task_type)s, %(profile)s, %(config_hash)s)
            AND (input_hash, producer, producer_version) = (%(input_hash)s, %(producer)s, %(producer_version)s)
            AND model->>'name' IS NOT DISTINCT FROM %(model_name)s::text
            AND model->>'digest' IS NOT DISTINCT FROM %(model_digest)s::text
        ORDER BY created_at DESC, position DESC LIMIT 1""",
        {name: getattr(wanted, name) for name in wanted.__struct_fields__},
    )
    row = await rows.fetchone()
    return KnownRun(None if row is None else row[0])
