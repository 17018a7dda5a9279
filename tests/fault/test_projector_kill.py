"""Projectors and rebuilds killed with SIGKILL: nothing is lost, nothing is twice, nothing is left over."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infrastructure.event_store.log import PostgresEventLog
from projectors import PROJECTIONS
from projectors.artifacts import Artifacts
from projectors.overview import list_parked
from projectors.rebuild import rebuild
from tests.support.following import content, following, reached
from tests.support.history import History

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ("-m", "tests.fault.projector_process")


@pytest.fixture
def log(database: str) -> Iterator[PostgresEventLog]:
    with PostgresEventLog(database) as log:
        yield log


def started(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *PROGRAM, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def long_history(log: PostgresEventLog, runs: int = 60) -> None:
    history = History(log, seed=40, videos=3, runs=runs)
    for number in range(3):
        history.register(number)
    for number in range(runs):
        history.start_run(number, on=number % 3)
        for _ in range(4):
            history.produce(number, "object.detection", 500)
        history.end_run(number, counts={"object.detection": 2000})


def count(database: str, statement: str) -> int:
    with psycopg.connect(database, autocommit=True) as connection:
        row = connection.execute(statement).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row[0])


def test_a_projector_killed_again_and_again_applies_everything_once(
    database: str, log: PostgresEventLog
) -> None:
    long_history(log)
    for share in (0.1, 0.4, 0.7):
        with started("follow", database) as projector:
            try:
                reached_artifacts(database, int(120_000 * share))
            finally:
                projector.kill()
    with following(database):
        reached(database, log.head())

    assert count(database, "SELECT count(*) FROM read.artifacts") == 120_000
    assert count(database, "SELECT count(*) FROM read.object_labels") == 120_000
    assert count(database, "SELECT count(DISTINCT run_id) FROM read.run_types") == 60
    assert list_parked(database) == []
    for name in ("object_labels", "run_types", "runs"):
        assert rebuild(database, name).differences == ()


def reached_artifacts(database: str, rows: int) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("LISTEN eioku_read")
        for _ in range(600):
            found = connection.execute("SELECT count(*) FROM read.artifacts").fetchone()
            if found is not None and found[0] >= rows:
                return
            list(connection.notifies(timeout=0.1, stop_after=1))
    raise AssertionError(f"never came to {rows} rows")


@pytest.mark.parametrize("phase", ["load", "compare", "swap"])
def test_a_rebuild_that_is_killed_leaves_all_as_it_was_and_the_next_starts_clean(
    database: str, log: PostgresEventLog, phase: str
) -> None:
    long_history(log, runs=30)
    with following(database):
        reached(database, log.head())
    before = content(database, [Artifacts])

    with started("rebuild", database, "artifacts") as building:
        assert building.stdout is not None
        try:
            assert any(line.startswith(phase) for line in building.stdout)
        finally:
            building.kill()

    assert content(database, [Artifacts]) == before
    report = rebuild(database, "artifacts")
    assert (report.differences, report.is_swapped) == ((), True)
    assert content(database, [Artifacts]) == before
    assert count(database, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'read\\_%'") == 0
    assert count(database, "SELECT count(*) FROM es.tracking") == len(PROJECTIONS)
