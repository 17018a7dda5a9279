"""examples/subscriber.py, as its own process: from the start, live, and across restarts of itself and of the server."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from application.handle import handle
from domain import video
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.nats.connection import connect
from infrastructure.nats.relay import run_relay
from infrastructure.nats.streams import EVT, declare
from tests.conftest import ROOT, NatsServer
from tests.support.bus import declared, run
from tests.support.given import META
from tests.support.results import Attempt, given_task, given_video


@pytest.fixture
def log(database):
    with PostgresEventLog(database) as log:
        yield log


class Following:
    """A running subscriber and the lines that it has printed."""

    def __init__(self, process):
        self.process, self.lines = process, []

    async def next(self, count):
        for _ in range(count):
            line = await self.process.stdout.readline()
            assert line, "the subscriber has ended"
            self.lines.append(json.loads(line))

    async def end(self):
        if self.process.returncode is None:
            self.process.terminate()
        rest, _ = await self.process.communicate()
        self.lines += [json.loads(line) for line in rest.splitlines()]
        assert self.process.returncode == 0
        return [event["id"] for event in self.lines]


@asynccontextmanager
async def subscriber(url, *arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "subscriber.py"), url, "--json", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Following(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def relaying(log, bus, database):
    stop = asyncio.Event()
    work = asyncio.create_task(run_relay(log, bus, database, stop))
    try:
        yield
    finally:
        stop.set()
        await work


def register(log, first, count):
    for n in range(first, first + count):
        given_video(log, UUID(int=1000 + n), f"/media/{n}.mp4")


def ids(last):
    return [f"g{position}" for position in range(1, last + 1)]


def test_it_reads_from_the_start_and_goes_on_live(log, database, nats_url):
    async def work():
        async with declared(nats_url) as bus, relaying(log, bus, database):
            await asyncio.to_thread(register, log, 0, 150)
            async with subscriber(nats_url) as following:
                await following.next(150)
                await asyncio.to_thread(register, log, 150, 5)
                await following.next(5)
                assert await following.end() == ids(155)

    run(work())


def test_with_a_state_file_it_goes_on_where_it_was(log, database, nats_url, tmp_path):
    state = str(tmp_path / "seen.json")

    async def work():
        async with declared(nats_url) as bus, relaying(log, bus, database):
            await asyncio.to_thread(register, log, 0, 10)
            async with subscriber(nats_url, "--state", state) as following:
                await following.next(10)
                assert await following.end() == ids(10)
            await asyncio.to_thread(register, log, 10, 7)
            async with subscriber(nats_url, "--state", state, "--count", "7") as following:
                assert await _whole(following) == ids(17)[10:]

    run(work())


def test_it_shows_only_what_it_is_asked_for(log, database, nats_url):
    async def work():
        async with declared(nats_url) as bus, relaying(log, bus, database):
            await asyncio.to_thread(given_video, log)
            task_id = await asyncio.to_thread(given_task, log)
            await asyncio.to_thread(log.append, [Attempt(task_id).produced(5).batch])
            handle(log, video.DeleteVideo(stream_id=UUID(int=100), meta=META))
            async with subscriber(nats_url, "--topic", "video.*", "--tenant", "default", "--count", "2") as following:
                assert await _whole(following) == ["g1", "g8"]

    run(work())


def test_no_event_is_missed_or_shown_twice_while_the_server_is_killed_and_started(log, database, nats_server: NatsServer):
    """The relay goes on publishing meanwhile; two hundred events, three deaths of the server."""

    async def work():
        async with declared(nats_server.url) as bus, relaying(log, bus, database), subscriber(nats_server.url) as following:
            for n in range(3):
                writing = asyncio.create_task(asyncio.to_thread(register, log, n * 60, 60))
                await following.next(10)
                nats_server.kill()
                await writing
                nats_server.start()
            await asyncio.to_thread(register, log, 180, 20)
            await following.next(200 - len(following.lines))
            assert await following.end() == ids(200)

    run(work())


def test_a_stream_that_was_lost_and_filled_again_shows_nothing_twice(log, database, nats_server: NatsServer, tmp_path):
    state = str(tmp_path / "seen.json")

    async def work():
        async with await connect(nats_server.url, name="test") as bus:
            await declare(bus)
            async with subscriber(nats_server.url, "--state", state) as following:
                async with relaying(log, bus, database):
                    await asyncio.to_thread(register, log, 0, 20)
                    await following.next(20)
                await bus.js.delete_stream(EVT)
                await asyncio.to_thread(register, log, 20, 5)
                await declare(bus)
                async with relaying(log, bus, database):
                    await following.next(5)
                assert await following.end() == ids(25)

    run(work())


async def _whole(following):
    output, _ = await following.process.communicate()
    return [json.loads(line)["id"] for line in output.splitlines()]
