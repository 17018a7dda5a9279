"""The server killed under load, its store wiped, the relay killed for real: nothing lost, nothing twice."""

import asyncio
import os
import shutil
import signal
import sys
from uuid import UUID, uuid4

import pytest
from nats.errors import Error

from application.handle import handle
from domain import task
from domain.errors import ServiceUnavailable
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.nats.commands import CommandQueue, pending_tasks
from infrastructure.nats.connection import connect
from infrastructure.nats.relay import run_relay
from infrastructure.nats.results import ingest, send
from infrastructure.nats.streams import CMD, EVT, RES, declare
from tests.conftest import ROOT, NatsServer
from tests.support.bus import command, count, declared, enqueue, eventually, run
from tests.support.events import on_bus, positions
from tests.support.given import META
from tests.support.results import VIDEO, Attempt, given_task, given_video

TYPE = "object_detection"


@pytest.fixture
def log(database):
    with PostgresEventLog(database) as log:
        yield log


def test_every_job_ends_once_while_the_server_is_killed_again_and_again(nats_server: NatsServer):
    """Sixty jobs, two workers, one ingester, three deaths of the server."""
    applied: list[tuple[UUID, int]] = []

    def apply(result):
        applied.append((result.task_id, result.request_version))

    async def worker(bus, stop):
        queue = CommandQueue(bus, [TYPE])
        while not stop.is_set():
            delivery = await queue.next(0.5)
            if delivery is not None:
                attempt = Attempt(delivery.message.task_id, delivery.delivery)
                await send(bus, attempt.started(), 1)
                await delivery.done()
        await queue.close()

    async def work():
        async with declared(nats_server.url) as bus, declared(nats_server.url) as other:
            stop = asyncio.Event()
            roles = [
                asyncio.create_task(worker(bus, stop)),
                asyncio.create_task(worker(other, stop)),
                asyncio.create_task(ingest(bus, apply, stop)),
            ]
            sent = [command(TYPE) for _ in range(60)]
            for n in range(3):
                storing = asyncio.create_task(enqueue(other, *sent[n * 20 : n * 20 + 20]))
                await eventually(lambda n=n: _value(len({t for t, _ in applied}) >= n * 20 + 3))
                nats_server.kill()
                nats_server.start()
                await storing
            await eventually(lambda: _is(count(bus, CMD), 0), 40)
            await eventually(lambda: _is(count(bus, RES), 0))
            assert {task_id for task_id, _ in applied} == {message.task_id for message in sent}
            # A result may come twice when its answer was lost with the server; that is what idempotence is for.
            assert len(applied) <= 70
            stop.set()
            await asyncio.gather(*roles)

    run(work())


def test_the_relay_goes_on_exactly_while_the_server_is_killed(log, database, nats_server: NatsServer):
    async def work():
        async with declared(nats_server.url) as bus:
            stop = asyncio.Event()
            relay = asyncio.create_task(run_relay(log, bus, database, stop))
            await asyncio.to_thread(given_video, log)
            for n in range(4):
                requests = [_request(f"{n}-{k}") for k in range(50)]
                await asyncio.to_thread(handle, log, *requests)
                await eventually(lambda n=n: _at_least(count(bus, EVT), n * 50 + 2))
                nats_server.kill()
                nats_server.start()
            await eventually(lambda: _is(_position(bus), log.head()))
            assert positions(await on_bus(bus)) == list(range(1, 202))
            assert await count(bus, CMD) == 200
            stop.set()
            await relay

    run(work())


RELAY = """
import asyncio, sys
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.nats.connection import connect
from infrastructure.nats.relay import run_relay
async def main(database, nats):
    with PostgresEventLog(database) as log:
        async with await connect(nats, name="relay") as bus:
            await run_relay(log, bus, database, asyncio.Event())
asyncio.run(main(*sys.argv[1:]))
"""


def test_a_relay_process_killed_at_any_moment_repeats_and_skips_nothing(log, database, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            await asyncio.to_thread(given_video, log)
            writing = asyncio.create_task(asyncio.to_thread(_write, log, 600))
            for deaths in range(1, 5):
                process = await asyncio.create_subprocess_exec(sys.executable, "-c", RELAY, database, nats_url, cwd=ROOT)
                await eventually(lambda d=deaths: _at_least(count(bus, EVT), d * 100))
                process.send_signal(signal.SIGKILL)
                await process.wait()
            await writing
            async with await connect(nats_url, name="last") as last:
                stop = asyncio.Event()
                relay = asyncio.create_task(run_relay(log, last, database, stop))
                await eventually(lambda: _is(_position(bus), log.head()), 30)
                stop.set()
                await relay
            assert positions(await on_bus(bus)) == list(range(1, log.head() + 1))
            assert await count(bus, CMD) == 600

    run(work())


def test_after_its_store_was_wiped_what_is_open_can_be_asked_for_again(log, database, nats_server: NatsServer):
    async def work():
        async with declared(nats_server.url) as bus:
            stop = asyncio.Event()
            relay = asyncio.create_task(run_relay(log, bus, database, stop))
            await asyncio.to_thread(given_video, log)
            open_task = await asyncio.to_thread(given_task, log)
            await eventually(lambda: _is(count(bus, EVT), 2))
            nats_server.kill()
            shutil.rmtree(nats_server.folder / "store")
            nats_server.start()
            await eventually(lambda: _declared(bus))
            assert await pending_tasks(bus) == set()
            requeue = task.RequeueTask(stream_id=open_task, meta=META, request_version=1, reason="the broker lost it")
            await asyncio.to_thread(handle, log, requeue)
            queue = CommandQueue(bus, [TYPE])
            delivery = await queue.next(10)
            assert (delivery.message.task_id, delivery.message.request_version) == (open_task, 2)
            await eventually(lambda: _is(_position(bus), 3))
            assert positions(await on_bus(bus)) == [1, 2, 3], "other systems can read it from the start again"
            await queue.close()
            stop.set()
            await relay

    run(work())


def test_a_frozen_server_is_noticed_and_left_for_the_one_that_answers(nats_server: NatsServer):
    """Frozen, not dead: the socket stays open. Publishing goes on with the same id once it answers."""

    async def work():
        async with declared(nats_server.url) as bus:
            os.kill(nats_server.process.pid, signal.SIGSTOP)
            sending = asyncio.create_task(send(bus, Attempt(uuid4()).started(), 1))
            try:
                await asyncio.wait([sending], timeout=6)  # longer than one try
                assert not sending.done()
            finally:
                os.kill(nats_server.process.pid, signal.SIGCONT)
            await sending
            assert await count(bus, RES) == 1

    run(work())


def _request(key):
    return task.RequestTask(
        stream_id=uuid4(), meta=META, video_id=VIDEO, task_type="ocr", profile="p", config={}, config_hash=key
    )


def _write(log, total):
    for n in range(0, total, 20):
        handle(log, *[_request(f"{n + k}") for k in range(20)])


async def _declared(bus):
    return await _quiet(declare(bus)) == []


async def _position(bus):
    state = (await bus.js.stream_info(EVT)).state
    if not state.messages:
        return 0
    return int((await bus.js.get_msg(EVT, seq=state.last_seq)).headers["eioku-position"])


async def _is(value, expected):
    return await _quiet(value) == expected


async def _at_least(value, least):
    found = await _quiet(value)
    return found is not None and found >= least


async def _quiet(value):
    """None while the server is away."""
    try:
        return await value
    except (TimeoutError, Error, ServiceUnavailable):
        return None


async def _value(value):
    return value
