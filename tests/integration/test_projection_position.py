"""Readers wait for a position that all read models have reached."""

import asyncio
import time
from collections.abc import Iterator

import psycopg
import pytest

from domain.errors import PositionNotReached
from infrastructure.event_store.log import PostgresEventLog
from projectors import PROJECTIONS
from projectors.position import ServedPosition, served
from tests.support.following import following, reached
from tests.support.history import History


@pytest.fixture
def log(database: str) -> Iterator[PostgresEventLog]:
    with PostgresEventLog(database) as log:
        yield log


async def served_now(database: str) -> int:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        return await served(connection)


def test_the_slowest_projection_says_what_is_served(database: str, log: PostgresEventLog) -> None:
    assert asyncio.run(served_now(database)) == 0
    History(log, seed=50).play(10)
    with following(database):
        reached(database, log.head())
    assert asyncio.run(served_now(database)) == log.head()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "UPDATE es.tracking SET notification_id = 2 WHERE application_name = %s",
            (f"projection:{PROJECTIONS[-1].name}",),
        )
    assert asyncio.run(served_now(database)) == 2


def test_what_was_written_can_be_waited_for(database: str, log: PostgresEventLog) -> None:
    history = History(log, seed=51)

    async def write_and_read() -> list[float]:
        waits = []
        async with ServedPosition(database) as position:
            for number in range(20):
                await asyncio.to_thread(history.register, number)
                head = log.head()
                began = time.perf_counter()
                assert await position.reach(head, 10) >= head
                waits.append(time.perf_counter() - began)
                assert position.now() >= head
        return waits

    with following(database):
        reached(database, 0)
        waits = sorted(asyncio.run(write_and_read()))

    assert (
        waits[len(waits) // 2] < 0.25
    )  # woken, not polled: the poll alone would take longer than this twice over


def test_a_wait_that_is_too_long_ends_and_says_what_is_served(database: str) -> None:
    async def wait() -> None:
        async with ServedPosition(database) as position:
            await position.reach(7, 0.05)

    with pytest.raises(PositionNotReached) as caught:
        asyncio.run(wait())
    assert (caught.value.asked, caught.value.served) == (7, 0)


def test_watching_goes_on_after_the_connection_was_lost(database: str, log: PostgresEventLog) -> None:
    history = History(log, seed=52)

    async def lose() -> None:
        async with ServedPosition(database) as position:
            history.register(0)
            await position.reach(log.head(), 10)
            with psycopg.connect(database, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND (application_name LIKE 'eioku served%'"
                    " OR application_name LIKE 'eioku listen%')"
                )
            history.register(1)
            await position.reach(log.head(), 10)

    with following(database):
        asyncio.run(lose())
