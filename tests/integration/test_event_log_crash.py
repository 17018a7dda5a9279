"""A writer that dies in the middle leaves no gap, no half of an append and no lock."""

import random
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from infrastructure.event_store.log import PostgresEventLog
from infrastructure.postgres.connections import connect
from tests.support.log_items import an_event

ROOT = Path(__file__).resolve().parents[2]

WHOLE = {
    "gaps": """SELECT count(*) FROM (
        SELECT position - count - lag(position, 1, 0::bigint) OVER (ORDER BY position) AS gap FROM es.segment
    ) AS s WHERE gap <> 0""",
    "events without a position": """SELECT count(*) FROM es.events AS e WHERE NOT EXISTS (
        SELECT FROM es.segment WHERE stream_id = originator_id AND NOT is_batch
        AND originator_version BETWEEN last_version - count + 1 AND last_version)""",
    "positions without their events": """SELECT sum(count) - (SELECT count(*) FROM es.events)
        FROM es.segment WHERE NOT is_batch""",
    "batches without a position": """SELECT count(*) FROM es.batch FULL JOIN (
        SELECT * FROM es.segment WHERE is_batch) AS s USING (stream_id, last_version, count)
        WHERE batch.kind IS DISTINCT FROM s.kind""",
    "streams that are not where their batches are": """SELECT count(*) FROM es.stream AS s
        WHERE version <> (SELECT max(last_version) FROM es.batch AS b WHERE b.stream_id = s.stream_id)""",
}


@pytest.mark.slow
def test_a_writer_killed_in_mid_append_leaves_no_gap(database: str) -> None:
    choose = random.Random(7)
    acknowledged: list[int] = []
    for round_ in range(8):
        writers = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.support.log_writer",
                    database,
                    str(100 * round_ + seed),
                    "1000000",
                ],
                cwd=ROOT,
                stdout=subprocess.PIPE,
            )
            for seed in range(2)
        ]
        for writer in writers:
            assert writer.stdout
            acknowledged += [int(writer.stdout.readline()) for _ in range(choose.randrange(1, 60))]
        for writer in writers:
            writer.kill()
        for writer in writers:
            writer.wait()
            assert writer.stdout
            acknowledged += [
                int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")
            ]
            writer.stdout.close()
    with PostgresEventLog(database) as log, connect(database) as connection:
        head = log.append([an_event(uuid4(), 1)])
        assert len(set(acknowledged)) == len(acknowledged) > 16
        places = {row[0] for row in connection.execute("SELECT position FROM es.segment")}
        assert set(acknowledged) <= places
        assert head == max(places)
        broken = {name: connection.execute(query).fetchone() for name, query in WHOLE.items()}
        assert broken == dict.fromkeys(WHOLE, (0,))


def test_a_frozen_writer_holds_nothing(database: str) -> None:
    """Its rows are in, it stops before asking for a position: others go on, and its append is not there."""
    with PostgresEventLog(database) as log, connect(database, autocommit=False) as frozen:
        stream = uuid4()
        frozen.execute("INSERT INTO es.events VALUES (%s, 1, 't', 1, 'default', now(), '')", (stream,))
        assert [log.append([an_event(uuid4(), 1)]) for _ in range(3)] == [1, 2, 3]
        frozen.rollback()
        assert log.append([an_event(stream, 1)]) == 4
