"""Waiting for news: woken by a notification, by the poll when there is none, and after a lost connection."""

import asyncio
import time
from uuid import uuid4

import psycopg

from infrastructure.event_store.log import CHANNEL, PostgresEventLog
from infrastructure.postgres.connections import async_pool, connect, pool
from infrastructure.postgres.listen import AsyncListener, Listener
from tests.support.log_items import an_event, events

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'eioku listen %'"


def test_a_thread_is_woken_once_for_an_append_of_any_size(database: str) -> None:
    with PostgresEventLog(database) as log, Listener(database, CHANNEL) as news:
        assert not news.wait(0.01)
        log.append(events(uuid4(), 1, 300))
        assert news.wait(30)
        assert not news.wait(0.01)


def test_the_payload_is_the_position(database: str) -> None:
    with PostgresEventLog(database) as log, connect(database) as connection:
        connection.execute(f"LISTEN {CHANNEL}")  # type: ignore[call-overload]
        log.append(events(uuid4(), 1, 3))
        log.append(events(uuid4(), 1, 100))
        arrived = [notification.payload for notification in connection.notifies(timeout=30, stop_after=2)]
    assert arrived == ["3", "103"]


def test_a_thread_listens_again_after_a_lost_connection(database: str) -> None:
    with (
        PostgresEventLog(database) as log,
        Listener(database, CHANNEL) as news,
        connect(database) as connection,
    ):
        connection.execute(CUT)
        assert not news.wait(0.01)
        assert news.wait(0.01), "something may have been missed, so it is worth a look"
        log.append([an_event(uuid4(), 1)])
        assert news.wait(30)


def test_a_coroutine_is_woken_and_listens_again(database: str) -> None:
    async def follow() -> None:
        async with AsyncListener(database, CHANNEL) as news:
            assert not await news.wait(0.01)
            await asyncio.to_thread(log.append, [an_event(uuid4(), 1)])
            assert await news.wait(30)
            connection.execute(CUT)
            assert not await news.wait(0.01)
            assert await news.wait(0.01)
            waiting = asyncio.create_task(news.wait(30))
            started = time.monotonic()
            await asyncio.to_thread(log.append, [an_event(uuid4(), 1)])
            assert await waiting
            assert time.monotonic() - started < 5

    with PostgresEventLog(database) as log, connect(database) as connection:
        asyncio.run(follow())


def test_a_log_works_again_after_all_its_connections_were_cut(database: str) -> None:
    stream = uuid4()
    with PostgresEventLog(database) as log, connect(database) as connection:
        log.append([an_event(stream, 1)])
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eioku log'"
        )
        assert log.append([an_event(stream, 2)]) == 2
        assert len(log.load(stream)) == 2


def test_pools_have_the_same_settings_as_connections(database: str) -> None:
    show = "SELECT current_setting('TimeZone'), current_setting('statement_timeout'), current_setting('search_path')"
    settings = {"search_path": "read", "statement_timeout_ms": 1_500}
    expected = ("UTC", "1500ms", "read")

    async def through_pool() -> object:
        async with (
            async_pool(database, size=2, **settings) as connections,
            connections.connection() as connection,
        ):
            return await (await connection.execute(show)).fetchone()

    with pool(database, size=2, **settings) as connections, connections.connection() as connection:
        assert connection.execute(show).fetchone() == expected
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert asyncio.run(through_pool()) == expected
    with connect(database, **settings) as connection:
        assert connection.execute(show).fetchone() == expected
