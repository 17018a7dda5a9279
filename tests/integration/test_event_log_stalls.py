"""No append of any size stalls, and nobody waits for anybody's data."""

import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent, Tracking
from eventsourcing.postgres import PostgresDatastore

from application.ports import LogItem
from domain.errors import ConcurrencyConflict
from infrastructure.event_store.factory import LogFactory
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.event_store.recorder import LogRecorder
from infrastructure.postgres.connections import connect
from tests.support.log_items import a_batch, an_event, events

MB = 1 << 20
SLOW = """
CREATE FUNCTION delayed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;
CREATE TRIGGER slow_batches AFTER INSERT ON es.batch EXECUTE FUNCTION delayed();
CREATE TRIGGER slow_events AFTER INSERT ON es.events
    FOR EACH ROW WHEN (NEW.originator_version = 7) EXECUTE FUNCTION delayed();
"""

LARGE: dict[str, Callable[[UUID], Sequence[LogItem]]] = {
    "a batch of 5 MB": lambda stream: [a_batch(stream, 1, 1_000, size_bytes=10 * MB)],
    "an event of 5 MB": lambda stream: events(stream, 7, 1, "x" * 5 * MB),
    "2,000 events of 2.5 KB": lambda stream: events(stream, 1, 2_000, "x" * 2_500),
    "both": lambda stream: [
        *events(stream, 1, 100, "x" * 25_000),
        a_batch(stream, 1, 100, size_bytes=5 * MB),
    ],
}


@pytest.mark.parametrize("large", LARGE)
def test_a_large_append_never_stalls_others(database: str, large: str) -> None:
    """Its data takes two seconds to go in; others go on meanwhile as if it were not there."""
    with connect(database) as connection:
        connection.execute(SLOW)
    items = LARGE[large](uuid4())
    with PostgresEventLog(database) as log:
        thread = threading.Thread(target=log.append, args=[items])
        started = time.monotonic()
        thread.start()
        stream, times = uuid4(), []
        for version_ in range(8, 10_000):
            before = time.monotonic()
            log.append([an_event(stream, version_)])
            times.append(time.monotonic() - before)
            if not thread.is_alive():
                break
        thread.join()
        took = time.monotonic() - started
        assert took > 2
        assert max(times) < 2
        assert len(times) > 20
        assert log.head() == len(times) + sum(getattr(item, "count", 1) for item in items)


@pytest.mark.parametrize(("count", "size_bytes"), [(2_000, 320), (6_000, 100), (1, 5 * MB), (100_000, 20)])
def test_an_append_of_any_size_ends(database: str, count: int, size_bytes: int) -> None:
    """The library's own does not return over about 1.2 MB, holding its lock."""
    factory = LogFactory({"POSTGRES_URL": database})
    try:
        recorder = factory.application_recorder()
        stream = uuid4()
        stored = [StoredEvent(stream, number, "t:x", b"x" * size_bytes) for number in range(1, count + 1)]
        assert recorder.insert_events(stored) == [*range(1, count + 1)]
        assert recorder.max_version(stream) == count
        assert len(recorder.select_notifications(1, count)) == count
    finally:
        factory.close()


def test_an_append_to_the_same_stream_waits_for_that_one_only(database: str) -> None:
    """Of two that want the same version one wins, and a third that wants nothing of theirs is not held up."""
    with connect(database) as connection:
        connection.execute(SLOW)
    stream, outcomes = uuid4(), []
    with PostgresEventLog(database) as log:

        def contend() -> None:
            try:
                outcomes.append(log.append([an_event(stream, 7)]))
            except ConcurrencyConflict:
                outcomes.append(None)

        threads = [threading.Thread(target=contend) for _ in range(2)]
        for thread in threads:
            thread.start()
        before = time.monotonic()
        log.append([an_event(uuid4(), 1)])
        assert time.monotonic() - before < 1.9
        for thread in threads:
            thread.join()
    assert sorted(outcomes, key=str) == [2, None]


def test_writers_that_want_each_others_streams_do_not_deadlock(database: str) -> None:
    a, b = uuid4(), uuid4()
    outcomes: list[object] = []
    with PostgresEventLog(database) as log:
        barrier = threading.Barrier(2)

        def contend(first: UUID, second: UUID) -> None:
            for number in range(1, 40):
                barrier.wait()
                try:
                    outcomes.append(log.append([an_event(first, number), an_event(second, number)]))
                except ConcurrencyConflict as error:
                    outcomes.append(error)

        threads = [threading.Thread(target=contend, args=pair) for pair in ((a, b), (b, a))]
        before = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A deadlock is found after one second.
        assert time.monotonic() - before < 30  # 39 of them
        assert log.head() == 2 * 39
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 39


def test_the_same_batch_delivered_twice_at_once_is_stored_once(database: str) -> None:
    with connect(database) as connection:
        connection.execute(SLOW)
    run, positions = uuid4(), []
    with PostgresEventLog(database) as log:
        deliver = lambda: positions.append(log.append([a_batch(run, 1, 10)]))  # noqa: E731
        threads = [threading.Thread(target=deliver) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (positions, log.head()) == ([10, 10, 10], 10)


# ---- defects of eventsourcing 9.5.6 that our recorders must never inherit -----------------------------------------------


def test_the_library_is_the_one_these_tests_were_written_for() -> None:
    assert version("eventsourcing").startswith("9.5."), "read its recorders again, then change this line"


def test_the_unsafe_mode_of_the_library_is_refused() -> None:
    """`enable_db_functions` hands out positions without a lock: a tailing reader lost 61,244 of 102,000 events."""
    with pytest.raises(ValueError, match="loses events"):
        LogRecorder(PostgresDatastore("db", "", "", "", "", enable_db_functions=True))


def test_no_function_or_table_of_the_library_is_made(database: str) -> None:
    """Its insert function is one per schema: two applications wrote into one table."""
    factory = LogFactory({"POSTGRES_URL": database, "CREATE_TABLE": "yes"})
    try:
        factory.application_recorder().create_table()
        factory.process_recorder().create_table()
        factory.tracking_recorder().create_table()
    finally:
        factory.close()
    with connect(database) as connection:
        made = connection.execute("SELECT proname FROM pg_proc WHERE proname LIKE 'es_insert%'").fetchall()
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relname ~ '^(stored|notification)'"
        ).fetchall()
    assert (made, tables) == ([], [])


@pytest.mark.parametrize("count", [0, 1, 2, 500])
def test_tracking_is_recorded_with_the_events(database: str, count: int) -> None:
    factory = LogFactory({"POSTGRES_URL": database})
    try:
        recorder = factory.process_recorder()
        stream = uuid4()
        stored = [StoredEvent(stream, number, "t:x", b"{}") for number in range(1, count + 1)]
        assert recorder.insert_events(stored, tracking=Tracking("up", 7)) == [*range(1, count + 1)]
        assert recorder.max_tracking_id("up") == 7
        again = [StoredEvent(stream, number, "t:x", b"{}") for number in range(count + 1, count + 3)]
        with pytest.raises(IntegrityError):
            recorder.insert_events(again, tracking=Tracking("up", 7))
        assert recorder.max_version(stream) == count
    finally:
        factory.close()
