"""The order of the log: gapless, in commit order, and never held up by strangers."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import psycopg
import pytest

from application.ports import Recorded
from domain.artifacts.envelope import ArtifactBatch
from domain.run import artifacts_stream_of
from infrastructure.event_store.factory import LogFactory
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.event_store.recorder import LogRecorder
from infrastructure.event_store.records import LogNotification
from infrastructure.postgres.connections import connect
from infrastructure.postgres.listen import Listener
from tests.support.log_items import a_batch, an_event, events
from tests.support.log_writer import streams_of

ROOT = Path(__file__).resolve().parents[2]
WRITERS, EACH = 6, 17_500

SLOW_COMMITS = """
CREATE FUNCTION delayed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(0.004); RETURN NULL; END $$;
-- One append in twenty takes its time between getting its position and being seen,
CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON es.segment DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.position % 20 = 0) EXECUTE FUNCTION delayed();
-- and one in ten between its rows and its position.
CREATE TRIGGER slow_rows AFTER INSERT ON es.events
    FOR EACH ROW WHEN (NEW.originator_version % 50 = 0) EXECUTE FUNCTION delayed();
"""


def writer(url: str, seed: int, total: int, output: int | IO[bytes]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.support.log_writer", url, str(seed), str(total)]
    return subprocess.Popen(command, cwd=ROOT, stdout=output)


@pytest.mark.slow
def test_a_tailing_reader_skips_none_and_sees_none_twice(database: str) -> None:
    with connect(database) as connection:
        connection.execute(SLOW_COMMITS)
    seen: list[tuple[int, int]] = []
    versions: Counter[object] = Counter()
    misplaced: list[Recorded] = []
    with PostgresEventLog(database, pool_size=2) as log:

        def follow(records: Sequence[Recorded]) -> None:
            for record in records:
                seen.append((record.first_position, record.position))
                item = record.item
                if isinstance(item, ArtifactBatch):
                    stream, first, last = (
                        artifacts_stream_of(item.head.run_id),
                        item.first_version,
                        item.last_version,
                    )
                else:
                    stream, first, last = item.originator_id, item.originator_version, item.originator_version
                if versions[stream] != first - 1:
                    misplaced.append(record)
                versions[stream] = last

        writers = [writer(database, seed, EACH, subprocess.DEVNULL) for seed in range(WRITERS)]
        while any(process.poll() is None for process in writers):
            follow(log.read(seen[-1][1] if seen else 0, limit=500))
        assert [process.returncode for process in writers] == [0] * WRITERS
        while records := log.read(seen[-1][1], limit=500):
            follow(records)

        assert log.head() == WRITERS * EACH >= 100_000
    assert [first for first, _ in seen] == [1, *(last + 1 for _, last in seen[:-1])]
    assert seen[-1][1] == WRITERS * EACH
    assert misplaced == []
    assert versions.keys() == {stream for seed in range(WRITERS) for stream in streams_of(seed)}


def test_the_librarys_subscription_sees_every_event_of_batches_too(database: str) -> None:
    with connect(database) as connection:
        connection.execute(SLOW_COMMITS)
    factory = LogFactory({"POSTGRES_URL": database, "POSTGRES_POOL_SIZE": "5"})
    try:
        writers = [writer(database, seed, 2_000, subprocess.DEVNULL) for seed in range(3)]
        with factory.application_recorder().subscribe(gt=0) as subscription:
            positions = [next(subscription).id for _ in range(6_000)]
        assert [process.wait() for process in writers] == [0, 0, 0]
    finally:
        factory.close()
    assert positions == [*range(1, 6_001)]


def test_a_subscription_sees_what_was_committed_while_it_was_starting(database: str) -> None:
    """The notification may come between its first read and its LISTEN: here there is none at all."""
    factory = LogFactory({"POSTGRES_URL": database, "POSTGRES_POOL_SIZE": "5"})
    first_read = threading.Event()

    class Recorder(LogRecorder):
        def select_notifications(self, *args: Any, **kwargs: Any) -> Sequence[LogNotification]:
            found = super().select_notifications(*args, **kwargs)
            first_read.set()
            return found

    try:
        with Recorder(factory.datastore).subscribe(gt=0) as subscription, connect(database) as connection:
            first_read.wait()
            with connection.transaction():
                stream = {"stream": streams_of(0)[0]}
                connection.execute(
                    "INSERT INTO es.events VALUES (%(stream)s, 1, 't', 1, 'default', now(), '')", stream
                )
                connection.execute(
                    "INSERT INTO es.segment VALUES (1, %(stream)s, 1, 1, 't', false, 0)", stream
                )
            assert next(subscription).id == 1
    finally:
        factory.close()


def test_a_foreign_transaction_does_not_hold_the_tail_back(database: str) -> None:
    stream = streams_of(0)[0]
    with connect(database) as connection:
        connection.execute("CREATE TABLE elsewhere (x int)")
    foreign = psycopg.connect(database)
    foreign.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    foreign.execute("INSERT INTO elsewhere VALUES (1)")
    try:
        with PostgresEventLog(database) as log:
            for version in range(1, 500):
                position = log.append([an_event(stream, version)])
                assert log.read(position - 1)[0].position == position
    finally:
        foreign.close()


def test_appends_stay_quick_while_a_foreign_transaction_lasts(database: str) -> None:
    """A head row that is updated gets a dead version by every append, and all are walked over by the next."""
    stream = streams_of(0)[0]
    with connect(database) as connection:
        connection.execute("CREATE TABLE elsewhere (x int)")
    foreign = psycopg.connect(database)
    foreign.execute("INSERT INTO elsewhere VALUES (1)")
    try:
        with PostgresEventLog(database) as log, connect(database) as connection:
            log.append(events(stream, 1, 50))
            for version in range(51, 1_051):
                log.append([an_event(stream, version)])
            (dead,) = connection.execute("SELECT count(*) FROM es.head").fetchone() or (None,)
            (size,) = connection.execute("SELECT pg_relation_size('es.head')").fetchone() or (None,)
            assert (dead, size) == (1, 8192)
    finally:
        foreign.close()


def test_threads_share_a_log(database: str) -> None:
    with connect(database) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")  # type: ignore[call-overload]
    with PostgresEventLog(database, pool_size=3) as log:
        runs = [streams_of(seed)[0] for seed in range(8)]
        failed: list[BaseException] = []

        def work(index: int) -> None:
            try:
                for place in range(20):
                    log.append([an_event(runs[index], place + 1)])
                    log.append([a_batch(runs[index], place * 5 + 1, 5)])
                    assert log.version(runs[index]) == place + 1
            except BaseException as error:  # noqa: BLE001 - judged below
                failed.append(error)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert log.head() == 8 * 20 * 6


def test_the_tail_wakes_within_moments(database: str) -> None:
    """Reading begins with the log empty; what comes later is announced, not polled for."""
    with PostgresEventLog(database) as log, Listener(database, "eioku_log") as news:
        assert log.read(0) == []
        log.append([an_event(streams_of(0)[0], 1)])
        started = time.monotonic()
        assert news.wait(30)
        assert time.monotonic() - started < 5
        assert log.read(0)[0].position == 1
