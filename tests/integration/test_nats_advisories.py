"""What the server gives up on becomes a parked task, and leaves the stream."""

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from application.handle import handle, present
from application.ingest_results import apply_result
from domain import run as run_stream
from domain import task
from domain.errors import IntegrityConflict
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.nats.advisories import GivenUp, move_advisories, park
from infrastructure.nats.commands import CommandQueue, pending_tasks
from infrastructure.nats.dispatch import carry_out, plan
from infrastructure.nats.results import ingest, send
from infrastructure.nats.streams import ADV, MOVER, RES
from tests.support.bus import count, declared, eventually, run, short_ack_wait
from tests.support.given import META
from tests.support.memory_log import MemoryLog
from tests.support.results import Attempt, given_task, given_video

TYPE = "object_detection"


@pytest.fixture
def log(database):
    with PostgresEventLog(database) as log:
        yield log


@asynccontextmanager
async def moving(log, bus):
    stop = asyncio.Event()
    work = asyncio.create_task(move_advisories(log, bus, stop))
    try:
        yield
    finally:
        stop.set()
        await work


async def queued_task(log, bus, key="0"):
    if not log.load(UUID(int=100)):
        given_video(log)
    before = log.head()
    task_id = given_task(log, key=key)
    await carry_out(log, bus, plan(log, log.read(before)))
    return task_id


def status(log, task_id):
    return present(log, task, task_id).status


async def all_answered(bus):
    info = await bus.js.consumer_info(ADV, MOVER)
    return info.num_pending == info.num_ack_pending == 0 and info.delivered.consumer_seq > 0


def test_a_command_that_nobody_ends_is_parked_and_leaves_the_stream(log, nats_url):
    async def work():
        async with declared(nats_url) as bus, moving(log, bus):
            await short_ack_wait(bus, TYPE, ack_wait_s=0.3, max_deliver=3)
            task_id = await queued_task(log, bus)
            queue = CommandQueue(bus, [TYPE])
            for delivery in (1, 2, 3):
                assert (await queue.next(5)).delivery == delivery
            assert await queue.next(1.5) is None  # the server gives up when somebody asks
            await eventually(lambda: _is(pending_tasks(bus), set()))
            parked = log.load(task_id)[-1]
            assert isinstance(parked, task.TaskParked)
            assert (parked.deliveries, parked.reason) == (3, "delivered 3 times without an end")
            handle(log, task.RetryTask(stream_id=task_id, meta=META))
            await carry_out(log, bus, plan(log, log.read(log.head() - 1)))
            again = await queue.next(5)
            assert (again.delivery, again.message.request_version) == (1, 3)
            await queue.close()

    run(work())


def test_a_rejected_command_is_parked_with_the_workers_reason(log, nats_url):
    async def work():
        async with declared(nats_url) as bus, moving(log, bus):
            task_id = await queued_task(log, bus)
            queue = CommandQueue(bus, [TYPE])
            delivery = await queue.next(5)
            apply_result(log, Attempt(task_id).started())
            await delivery.reject("no such codec: xyz")
            await eventually(lambda: _is(_value(status(log, task_id)), "parked"))
            assert log.load(task_id)[-1].reason == "no such codec: xyz"
            ended = log.load(Attempt(task_id).run_id)[-1]
            assert (ended.TOPIC, ended.code, ended.error) == ("run.failed", "PARKED", "no such codec: xyz")
            await queue.close()

    run(work())


@pytest.mark.parametrize(("ended_by", "deliveries", "is_over"), [("worker", 2, True), ("worker", 3, False), ("ingester", 9, True), (None, 2, False)])
def test_the_run_of_an_attempt_that_is_over_is_closed_and_another_may_still_report(ended_by, deliveries, is_over):
    log = MemoryLog()
    given_video(log)
    task_id = given_task(log)
    attempt = Attempt(task_id, 2)
    apply_result(log, attempt.started())
    park(log, GivenUp(task_id, 1, deliveries, "why", ended_by), lambda: META.at)
    assert status(log, task_id) == "parked"
    assert present(log, run_stream, attempt.run_id).has_ended is is_over
    for result in (attempt.produced(2), attempt.completed()):
        apply_result(log, result)
    assert status(log, task_id) == ("parked" if is_over else "completed")
    assert present(log, run_stream, attempt.run_id).has_ended


def test_nothing_is_closed_for_a_request_that_is_no_longer_the_newest():
    log = MemoryLog()
    given_video(log)
    task_id = given_task(log)
    handle(log, task.RequeueTask(stream_id=task_id, meta=META, request_version=1, reason="lost"))
    attempt = Attempt(task_id, request_version=2)
    apply_result(log, attempt.started())
    park(log, GivenUp(task_id, 1, 1, "why", "worker"), lambda: META.at)
    assert (status(log, task_id), present(log, run_stream, attempt.run_id).has_ended) == ("running", False)


def test_a_task_that_has_failed_already_is_not_parked_by_the_reject_that_follows(log, nats_url):
    async def work():
        async with declared(nats_url) as bus, moving(log, bus):
            task_id = await queued_task(log, bus)
            queue = CommandQueue(bus, [TYPE])
            delivery = await queue.next(5)
            run_id = Attempt(task_id).run_id
            handle(log, task.StartTask(stream_id=task_id, meta=META, run_id=run_id, request_version=1, delivery=1, worker="w"))
            handle(log, task.FailTask(stream_id=task_id, meta=META, run_id=run_id, code="X", error="e", retryable=False))
            await delivery.reject("broken")
            await eventually(lambda: all_answered(bus))
            assert status(log, task_id) == "failed"
            await queue.close()

    run(work())


def test_a_result_that_contradicts_the_log_parks_its_task(log, nats_url):
    async def work():
        async with declared(nats_url) as bus, moving(log, bus):
            task_id = await queued_task(log, bus)

            def apply(result):
                raise IntegrityConflict(result.run_id, 1)

            stop = asyncio.Event()
            ingesting = asyncio.create_task(ingest(bus, apply, stop))
            await send(bus, Attempt(task_id).started(), 1)
            await eventually(lambda: _is(_value(status(log, task_id)), "parked"))
            assert log.load(task_id)[-1].reason.startswith("INTEGRITY_CONFLICT")
            assert await count(bus, RES) == 0
            stop.set()
            await ingesting

    run(work())


def test_a_notice_that_means_nothing_to_us_stops_nothing(log, nats_url):
    async def work():
        async with declared(nats_url) as bus, moving(log, bus):
            subject = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.EIOKU_CMD.x"
            unknown = b'{"type":"io.nats.jetstream.advisory.v1.terminated","stream":"EIOKU_CMD","stream_seq":1,"reason":"%s"}'
            await bus.publish(subject, b"{")
            await bus.publish(subject, unknown % b"said by hand")
            await bus.publish(subject, unknown % f"{uuid4()}.1 a task of nobody".encode())
            task_id = await queued_task(log, bus)
            await bus.publish(subject, unknown % f"{task_id}.1 enough".encode())
            await eventually(lambda: _is(_value(status(log, task_id)), "parked"))
            await eventually(lambda: all_answered(bus))

    run(work())


async def _is(value, expected):
    return await value == expected


async def _value(value):
    return value
