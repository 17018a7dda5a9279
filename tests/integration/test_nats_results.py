"""Results: sent once, applied in order, never dropped because something is away."""

import asyncio
import random
import threading
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from application.messages import Announced
from domain.artifacts.object_detection import ObjectDetectionV1
from domain.errors import IntegrityConflict, OutOfOrder
from domain.pipeline import BY_NAME
from infrastructure.nats.commands import pending_runs
from infrastructure.nats.connection import BodyTooLarge
from infrastructure.nats.results import COMPRESS_BYTES, decode, encode, ingest, send
from infrastructure.nats.streams import ADV, INGESTER, RES
from tests.support.bus import count, declared, eventually, run
from tests.support.given import AT
from tests.support.results import Attempt


class Killed(BaseException):
    """The process is gone."""


@asynccontextmanager
async def ingesting(bus, apply):
    stop = asyncio.Event()
    work = asyncio.create_task(ingest(bus, apply, stop))
    try:
        yield
    finally:
        stop.set()
        await work


async def empty(bus):
    return await count(bus, RES) == 0


@pytest.mark.parametrize("artifacts", [0, 1, 1000])
def test_a_result_reads_back_as_it_was_sent(artifacts):
    attempt = Attempt(uuid4())
    for result in (attempt.started(), attempt.produced(artifacts), attempt.completed()):
        body, headers = encode(result)
        assert ("Content-Encoding" in headers) == (len(body) > 0 and artifacts == 1000 and type(result).__name__ == "Produced")
        assert decode(body, headers) == result
        assert len(body) < max(COMPRESS_BYTES, 100_000)


def test_results_of_a_run_are_applied_in_order_and_answered_after_that(nats_url):
    applied = []

    def apply(result):
        applied.append((result.run_id, type(result).__name__, getattr(result, "part", None)))

    async def work():
        async with declared(nats_url) as bus:
            attempts = [Attempt(uuid4()) for _ in range(5)]
            sent = {a.run_id: [a.started(), *[a.produced(20) for _ in range(12)], a.completed()] for a in attempts}
            for sequence in range(14):
                for results in sent.values():
                    await send(bus, results[sequence], sequence + 1)
            assert await pending_runs(bus) == set(sent)
            async with ingesting(bus, apply):
                await eventually(lambda: empty(bus))
            for run_id, results in sent.items():
                expected = [(run_id, type(r).__name__, getattr(r, "part", None)) for r in results]
                assert [each for each in applied if each[0] == run_id] == expected
            assert await pending_runs(bus) == set()

    run(work())


def test_sending_again_is_sending_once(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            started = Attempt(uuid4()).started()
            for _ in range(3):
                await send(bus, started, 1)
            assert await count(bus, RES) == 1

    run(work())


def test_a_retryable_error_or_a_lost_database_brings_the_result_again(nats_url):
    failures = [OutOfOrder(UUID(int=1), 0, 5), ConnectionError("database away"), OutOfOrder(UUID(int=1), 0, 5)]
    applied = []

    def apply(result):
        if failures:
            raise failures.pop()
        applied.append(result)

    async def work():
        async with declared(nats_url) as bus:
            await send(bus, started := Attempt(uuid4()).started(), 1)
            async with ingesting(bus, apply):
                await eventually(lambda: empty(bus))
            assert applied == [started]
            assert await count(bus, ADV) == 0

    run(work())


def test_a_result_that_can_never_be_applied_is_taken_out_and_names_its_task(nats_url):
    def apply(result):
        raise IntegrityConflict(result.run_id, 3)

    async def work():
        async with declared(nats_url) as bus:
            task_id = uuid4()
            await send(bus, Attempt(task_id, request_version=4).started(), 1)
            async with ingesting(bus, apply):
                await eventually(lambda: empty(bus))
            await eventually(lambda: _has(bus, ADV, 1))
            assert f"{task_id}.4 INTEGRITY_CONFLICT" in (await bus.js.get_msg(ADV, seq=1)).data.decode()

    run(work())


def test_a_body_that_cannot_be_read_is_taken_out_and_the_next_one_applied(nats_url):
    applied = []

    async def work():
        async with declared(nats_url) as bus:
            await bus.store(RES, "eioku.default.result.-.x", b"not zstd", {"Content-Encoding": "zstd", "Nats-Msg-Id": "1"})
            await bus.store(RES, "eioku.default.result.-.y", b"{}", {"Nats-Msg-Id": "2"})
            await send(bus, started := Attempt(uuid4()).started(), 1)
            async with ingesting(bus, applied.append):
                await eventually(lambda: empty(bus))
            assert applied == [started]

    run(work())


def test_an_announcement_travels_as_a_result(nats_url):
    applied = []
    announced = Announced(
        tenant_id="default", run_id=uuid4(), correlation_id=uuid4(), at=AT, worker="w", family="light",
        task_types=tuple(BY_NAME), digest="d",
    )  # fmt: skip

    async def work():
        async with declared(nats_url) as bus:
            await send(bus, announced, 1)
            async with ingesting(bus, applied.append):
                await eventually(lambda: empty(bus))
            assert applied == [announced]

    run(work())


def test_what_one_message_cannot_hold_is_refused_before_it_closes_the_connection(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            noise = random.Random(1).randbytes(2_000_000).hex()
            payload = ObjectDetectionV1(label=noise, confidence=0.5, box=(0, 0, 1, 1), frame_index=0)
            with pytest.raises(BodyTooLarge):
                await send(bus, Attempt(uuid4()).produced(1, payload), 1)
            await send(bus, Attempt(uuid4()).started(), 1)
            assert not bus.closed.done()

    run(work())


def test_results_unanswered_by_a_dead_ingester_come_again(nats_url):
    """Killed between the commit and the answer: the result is applied twice, never lost."""
    applied, reached = [], threading.Event()

    def stuck(_result):
        reached.set()
        raise Killed

    async def work():
        async with declared(nats_url) as bus, declared(nats_url) as dying:
            info = await bus.js.consumer_info(RES, INGESTER)
            await bus.js.add_consumer(RES, info.config.evolve(ack_wait=1))
            await send(bus, started := Attempt(uuid4()).started(), 1)
            first = asyncio.create_task(ingest(dying, stuck, asyncio.Event()))
            await eventually(lambda: _value(reached.is_set()))
            await asyncio.gather(first, return_exceptions=True)
            async with ingesting(bus, applied.append):
                await eventually(lambda: empty(bus))
            assert applied == [started]

    run(work())


async def _has(bus, stream, messages):
    return await count(bus, stream) == messages


async def _value(value):
    return value
