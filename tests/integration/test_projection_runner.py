"""Projections follow the log: all of it, each once, also over restarts; waits for a position end."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import ClassVar
from uuid import UUID

import psycopg
import pytest

from application.ports import Recorded
from infrastructure.event_store.log import PostgresEventLog
from projectors import PROJECTIONS
from projectors.checkpoint import follower_of
from projectors.feed import Lane
from projectors.overview import list_parked, list_projections, retry_parked
from projectors.scans import Scans
from projectors.videos import Videos
from tests.support.following import content, following, reached
from tests.support.history import History


@pytest.fixture
def log(database: str) -> Iterator[PostgresEventLog]:
    with PostgresEventLog(database) as log:
        yield log


def test_all_read_models_follow_a_history_as_if_it_were_read_at_once(
    database: str, log: PostgresEventLog, connection: psycopg.Connection
) -> None:
    history = History(log, seed=1)
    with following(database):
        history.play(60)
        reached(database, log.head())
    history.play(60)  # nobody follows
    with following(database):
        history.play(60)
        reached(database, log.head())
    found = content(database)

    assert found == at_once(connection, log.read(0, limit=10_000))


def at_once(connection: psycopg.Connection, records: Sequence[Recorded]) -> dict[str, list[object]]:
    """The rows that all records make in one go, in tables of their own."""
    rows = {}
    for projection in PROJECTIONS:
        with connection.transaction(force_rollback=True):
            for table in projection.tables:
                connection.execute(f"CREATE TEMP TABLE {table.name} (LIKE read.{table.name} INCLUDING ALL)")
            projection().apply(connection, [record for record in records if projection.wants(record)])
            for table in projection.tables:
                rows[table.name] = sorted(
                    connection.execute(f"SELECT to_jsonb(t)::text FROM pg_temp.{table.name} AS t").fetchall()
                )
    return rows


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        database, autocommit=True, options="-c search_path=pg_temp,read -c timezone=UTC"
    ) as connection:
        yield connection


def test_checkpoints_come_to_the_head_though_nothing_concerns_the_projection(
    database: str, log: PostgresEventLog
) -> None:
    with following(database):
        History(log, seed=2).register(0)
        reached(database, log.head())


def test_the_log_is_read_once_for_all_projections(
    database: str, log: PostgresEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    History(log, seed=3, batch=200).play(300)
    read = rows_read(monkeypatch)
    with following(database):
        reached(database, log.head())

    assert sum(read) < 2 * len(log.read(0, limit=10**6))


def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each read of the log gives from now on."""
    read: list[int] = []
    original = PostgresEventLog.read_rows

    def counting(self: PostgresEventLog, after: int, **kwargs: object) -> object:
        rows = original(self, after, **kwargs)  # type: ignore[arg-type]
        read.append(len(rows))
        return rows

    monkeypatch.setattr(PostgresEventLog, "read_rows", counting)
    return read


def test_what_was_read_is_kept_for_a_short_time_and_then_read_again(
    log: PostgresEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    History(log, seed=3).play(20)
    read = rows_read(monkeypatch)
    lane = Lane(log)
    first = lane.read(0)
    lane.forget()
    second = lane.read(0)
    assert (second.entries, len(read)) == (first.entries, 1)

    later_s = time.monotonic() + 60
    monkeypatch.setattr("time.monotonic", lambda: later_s)
    lane.forget()
    third = lane.read(0)

    assert (third.entries, third.upto, len(read)) == (first.entries, first.upto, 2)


def test_one_process_has_a_projection_and_another_takes_over(database: str, log: PostgresEventLog) -> None:
    with psycopg.connect(database, autocommit=True) as first:
        first.execute(
            "SELECT pg_advisory_lock(hashtextextended(%s, 0))", (f"eioku {follower_of(Videos.name)}",)
        )
        with following(database, [Videos, Scans]):
            History(log, seed=4).register(0)
            reached(database, log.head(), [Scans])
            assert content(database, [Videos])["videos"] == []
            first.close()  # as if its process had died
            reached(database, log.head(), [Videos])
    assert len(content(database, [Videos])["videos"]) == 1


def test_who_was_overtaken_applies_nothing_twice(database: str, log: PostgresEventLog) -> None:
    class Counting(Videos):
        name = "videos"
        applied: ClassVar[list[int]] = []

        def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
            self.applied.extend(record.position for record in records)
            super().apply(connection, records)

    history = History(log, seed=5)
    history.register(0)
    with following(database, [Counting]):
        reached(database, log.head(), [Counting])
        with psycopg.connect(database) as other:  # somebody else moves the checkpoint over what comes next
            other.execute(
                "UPDATE es.tracking SET notification_id = notification_id + 1 WHERE application_name = %s",
                (follower_of("videos"),),
            )
            history.register(1)
            other.commit()
        history.register(2)
        reached(database, log.head(), [Counting])

    assert Counting.applied == [1, 3]


class Picky(Videos):
    """Fails on one video as long as it has a bad day."""

    name = "videos"
    hates: ClassVar[str | None] = "Film 1 Ärger.mp4"

    def apply(self, connection: psycopg.Connection, records: Sequence[Recorded]) -> None:
        super().apply(connection, records)
        if any(getattr(record.item, "filename", None) == self.hates for record in records):
            connection.execute("SELECT 1 / 0")


def test_a_poison_event_is_parked_shown_and_retried_while_the_others_go_on(
    database: str, log: PostgresEventLog
) -> None:
    history = History(log, seed=6)
    for number in range(3):
        history.register(number)
    with following(database, [Picky]):
        reached(database, log.head(), [Picky])

    names = {row for (row,) in query(database, "SELECT filename FROM read.videos")}
    (parked,) = list_parked(database)
    (status,) = list_projections(database, projections=[Videos])
    assert names == {"Film 0 Ärger.mp4", "Film 2 Ärger.mp4"}
    assert (parked.position, parked.topic, parked.version) == (2, "video.registered", 1)
    assert "division by zero" in parked.error
    assert (status.parked, status.lag) == (1, 0)

    assert retry_parked(database, "videos") == (1, 0)  # by the projection as it is now
    assert list_parked(database) == []
    assert len(query(database, "SELECT FROM read.videos")) == 3


def test_what_is_parked_stays_parked_when_the_retry_fails(
    database: str, log: PostgresEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    History(log, seed=6).register(1)
    with following(database, [Picky]):
        reached(database, log.head(), [Picky])
    monkeypatch.setattr("projectors.overview.PROJECTIONS", (Picky,))

    assert retry_parked(database) == (0, 1)
    assert len(list_parked(database, "videos")) == 1


def test_an_event_that_cannot_be_decoded_is_parked_by_all_that_may_want_it(
    database: str, log: PostgresEventLog
) -> None:
    History(log, seed=7).register(0)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO es.events (originator_id, originator_version, topic, schema_version, tenant_id, recorded_at, state)"
            " VALUES (%(id)s, 1, 'video.teleported', 1, 'default', now(), '{}')",
            {"id": UUID(int=9)},
        )
        connection.execute(
            "SELECT es.place(ARRAY[%s]::uuid[], ARRAY[1]::bigint[], ARRAY[1]::bigint[], ARRAY['video.teleported'],"
            " ARRAY[false], ARRAY[2]::bigint[])",
            (UUID(int=9),),
        )
    History(log, seed=7).register(1)
    with following(database, [Videos, Scans]):
        reached(database, log.head(), [Videos, Scans])

    assert [(p.projection, p.position, p.topic) for p in list_parked(database)] == [
        ("scans", 2, "video.teleported"),
        ("videos", 2, "video.teleported"),
    ]
    assert len(content(database, [Videos])["videos"]) == 2


def test_a_missing_table_stops_the_projection_visibly_and_parks_nothing(
    database: str, log: PostgresEventLog
) -> None:
    query(database, "ALTER TABLE read.videos RENAME TO elsewhere", returns=False)
    History(log, seed=8).register(0)
    with following(database, [Videos, Scans]):
        reached(database, log.head(), [Scans])
        for _ in range(100):
            ((error,),) = query(
                database,
                "SELECT max(error) FROM read.projection_state WHERE name = 'videos' AND error IS NOT NULL",
            )
            if error:
                break
            threading.Event().wait(0.1)
        assert "UndefinedTable" in error
        query(database, "ALTER TABLE read.elsewhere RENAME TO videos", returns=False)
        reached(database, log.head(), [Videos])
        assert list_parked(database) == []
    (status,) = list_projections(database, projections=[Videos])
    assert status.error is None


def test_lost_connections_cost_nothing(
    database: str, log: PostgresEventLog, connection: psycopg.Connection
) -> None:
    history = History(log, seed=9)
    with following(database):
        for _ in range(4):
            history.play(10)
            query(
                database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'eioku projector%'",
            )
        reached(database, log.head())
    assert list_parked(database) == []
    assert content(database) == at_once(connection, log.read(0, limit=10_000))


def query(database: str, statement: str, *, returns: bool = True) -> list[tuple[object, ...]]:
    with psycopg.connect(database, autocommit=True) as connection:
        found = connection.execute(statement)  # type: ignore[arg-type]
        return found.fetchall() if returns else []
