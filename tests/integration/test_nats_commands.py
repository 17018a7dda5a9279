"""Commands: taken once, in order of class, given back, given up, called off."""

import asyncio
from contextlib import aclosing
from uuid import UUID, uuid4

import pytest

from application.messages import Progress
from domain.errors import ServiceUnavailable
from domain.pipeline import TASK_TYPES
from domain.task import PRIORITIES
from infrastructure.nats import progress
from infrastructure.nats.cancel import Cancellations, call_off
from infrastructure.nats.commands import CommandQueue, pending_runs, pending_tasks
from infrastructure.nats.connection import StreamFull, SubjectTaken, connect, refusal
from infrastructure.nats.dispatch import Waiting
from infrastructure.nats.pulls import pull_request
from infrastructure.nats.streams import ADV, CMD, CONSUMERS, EVT, RES, STREAMS, declare
from tests.conftest import NatsServer
from tests.support.bus import command, count, declared, enqueue, eventually, run, short_ack_wait

TYPES = ("scene_detection", "face_detection")


def test_declaring_again_changes_nothing_and_what_differs_is_told_not_overwritten(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            assert await declare(bus) == []
            assert len(CONSUMERS) == len(TASK_TYPES) * len(PRIORITIES) + 2
            config = (await bus.js.stream_info(EVT)).config
            await bus.js.update_stream(config.evolve(max_bytes=5_000_000))
            await short_ack_wait(bus, "ocr", ack_wait_s=7)
            drifted = await declare(bus)
            assert {drift.name for drift in drifted} == {EVT, *(f"{CMD}/{p}-ocr" for p in PRIORITIES)}
            assert (await bus.js.stream_info(EVT)).config.max_bytes == 5_000_000
            assert (await bus.js.consumer_info(CMD, "hi-ocr")).config.ack_wait == 7

    run(work())


def test_streams_are_as_the_design_says(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            found = {name: (await bus.js.stream_info(name)).config for name in (CMD, RES, EVT, ADV)}
            assert {c.retention for c in (found[CMD], found[RES])} == {"workqueue"}
            assert (found[CMD].discard_new_per_subject, found[CMD].max_msgs_per_subject) == (True, 1)
            assert (found[EVT].deny_delete, found[EVT].compression, found[EVT].max_age) == (True, "s2", 14 * 86_400)
            assert all(config.storage == "file" for config in found.values())
            assert len(STREAMS) == 4

    run(work())


def test_a_worker_gets_the_command_as_it_was_sent_and_done_removes_it(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            queue = CommandQueue(bus, TYPES)
            sent = command(config={"a": [1, 2]}, language="de", tenant_id="Kunde 1.x*")
            await enqueue(bus, sent)
            delivery = await queue.next(5)
            assert delivery is not None
            assert (delivery.message, delivery.delivery) == (sent, 1)
            assert await pending_tasks(bus) == {sent.task_id}
            assert await delivery.done()
            assert await delivery.done()  # asked again after a lost answer: no harm
            assert await pending_tasks(bus) == set()
            assert await count(bus, CMD) == 0
            await queue.close()

    run(work())


def test_an_empty_queue_says_so_after_the_timeout(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            queue = CommandQueue(bus, TYPES)
            before = asyncio.get_running_loop().time()
            assert await queue.next(0.3) is None
            assert 0.3 <= asyncio.get_running_loop().time() - before < 3
            await queue.close()

    run(work())


def test_a_waiting_worker_gets_a_command_at_once(nats_url):
    async def work():
        async with declared(nats_url) as bus, declared(nats_url) as relay:
            queue = CommandQueue(bus, TYPES)
            assert await queue.next(0) is None
            loop, waits = asyncio.get_running_loop(), []
            for index in range(40):
                waiting = asyncio.create_task(queue.next(5))
                await bus.nc.flush()
                before = loop.time()
                await enqueue(relay, command(TYPES[index % 2], PRIORITIES[index % 3]))
                delivery = await waiting
                waits.append(loop.time() - before)
                assert delivery.delivery == 1
                await delivery.done()
            # Far below LOOK_AGAIN_S: it was told, it did not look.
            assert sorted(waits)[30] < 0.1, waits
            await queue.close()

    run(work())


def test_urgent_before_ordinary_before_bulk_but_bulk_is_not_starved(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            for priority in ("bulk", "std", "hi"):
                await enqueue(bus, *[command(TYPES[n % 2], priority) for n in range(10)])
            queue = CommandQueue(bus, TYPES)
            taken = []
            for _ in range(30):
                delivery = await queue.next(5)
                taken.append(delivery.message.priority)
                await delivery.done()
            assert taken[:9] == ["hi"] * 9
            assert taken[9] == "bulk", "every tenth turn begins with bulk"
            assert taken[10:12] == ["hi", "std"]
            assert sorted(taken) == sorted(["hi", "std", "bulk"] * 10)
            await queue.close()

    run(work())


def test_task_types_of_a_class_take_turns(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            await enqueue(bus, *[command(name) for name in TYPES for _ in range(4)])
            queue = CommandQueue(bus, TYPES)
            taken = []
            for _ in range(8):
                delivery = await queue.next(5)
                taken.append(delivery.message.task_type)
                await delivery.done()
            assert set(taken[:2]) == set(taken[2:4]) == set(TYPES)
            await queue.close()

    run(work())


def test_simultaneous_commands_burn_no_delivery_however_many_workers_wait(nats_url):
    """A request left open on each consumer would lose all but one of what arrives at once, or hand it back."""

    async def work():
        async with declared(nats_url) as bus:
            queues = [CommandQueue(bus, TYPES) for _ in range(5)]
            for _ in range(20):
                waiting = [asyncio.create_task(queue.next(5)) for queue in queues]
                await bus.nc.flush()
                sent = [command(TYPES[n % 2], PRIORITIES[n % 3]) for n in range(5)]
                await asyncio.gather(*[enqueue(bus, message) for message in sent])
                deliveries = await asyncio.gather(*waiting)
                assert {d.message.task_id for d in deliveries} == {m.task_id for m in sent}
                assert {d.delivery for d in deliveries} == {1}
                await asyncio.gather(*[d.done() for d in deliveries])
            assert await count(bus, CMD) == 0
            for queue in queues:
                await queue.close()

    run(work())


def test_the_same_task_is_never_queued_twice(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            message = command()
            await enqueue(bus, message)
            waiting = Waiting(message)
            again = {**waiting.headers, "Nats-Msg-Id": "another id"}
            with pytest.raises(SubjectTaken):
                await bus.store(CMD, waiting.subject, waiting.body, again)
            queue = CommandQueue(bus, TYPES)
            delivery = await queue.next(5)
            with pytest.raises(SubjectTaken):  # while it is worked on, too
                await bus.store(CMD, waiting.subject, waiting.body, again)
            await delivery.done()
            await bus.store(CMD, waiting.subject, waiting.body, again)
            await queue.close()

    run(work())


def test_a_full_stream_is_not_taken_for_a_task_that_is_queued(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            config = (await bus.js.stream_info(CMD)).config
            await bus.js.update_stream(config.evolve(max_bytes=2_000))
            with pytest.raises(StreamFull):
                await enqueue(bus, *[command() for _ in range(20)])
        assert isinstance(refusal(10077, "maximum bytes exceeded"), StreamFull)
        assert isinstance(refusal(10077, "maximum messages per subject exceeded"), SubjectTaken)
        assert refusal(10008, "anything else") is None

    run(work())


def test_a_command_that_nobody_answers_comes_again_and_a_heartbeat_keeps_it(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            await short_ack_wait(bus, TYPES[0], ack_wait_s=1)
            queue, other = CommandQueue(bus, TYPES), CommandQueue(bus, TYPES)
            await enqueue(bus, command())
            delivery = await queue.next(5)
            for _ in range(6):  # 1.8 s, nearly twice the server's patience
                await delivery.heartbeat()
                assert await other.next(0.3) is None
            again = await other.next(5)
            assert again.message == delivery.message
            assert again.delivery == 2
            await again.done()
            await queue.close()
            await other.close()

    run(work())


def test_later_comes_again_after_the_delay_and_not_before(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            queue = CommandQueue(bus, TYPES)
            await enqueue(bus, command())
            delivery = await queue.next(5)
            loop = asyncio.get_running_loop()
            before = loop.time()
            await delivery.later(0.7)
            again = await queue.next(5)
            assert again.delivery == 2
            assert 0.65 <= loop.time() - before < 3
            await again.done()
            await queue.close()

    run(work())


def test_reject_takes_the_command_out_and_leaves_a_notice_with_the_reason(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            queue = CommandQueue(bus, TYPES)
            await enqueue(bus, command())
            delivery = await queue.next(5)
            await delivery.reject("file has\nno picture")
            await eventually(lambda: _is(count(bus, ADV), 1))
            assert await count(bus, CMD) == 0
            notice = (await bus.js.get_msg(ADV, seq=1)).data.decode()
            assert f'"{delivery.message.task_id}.1 file has no picture"' in notice
            await queue.close()

    run(work())


def test_a_command_that_cannot_be_read_is_taken_out_and_the_next_one_served(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            task_id = uuid4()
            await bus.store(CMD, f"eioku.t.cmd.std.{TYPES[0]}.{task_id}", b"{", {"Nats-Msg-Id": f"{task_id}.3"})
            good = command()
            await enqueue(bus, good)
            queue = CommandQueue(bus, TYPES)
            delivery = await queue.next(5)
            assert delivery.message == good
            await eventually(lambda: _is(count(bus, ADV), 1))
            assert f"{task_id}.3 undecodable" in (await bus.js.get_msg(ADV, seq=1)).data.decode()
            await queue.close()

    run(work())


def test_a_cancelled_wait_loses_nothing(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            queue = CommandQueue(bus, TYPES)
            assert await queue.next(0) is None
            message = command()
            waiting = asyncio.create_task(queue.next(5))
            await bus.nc.flush()
            await enqueue(bus, message)  # about now it is asked for
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            if not waiting.cancelled():
                delivery = waiting.result()
            else:
                delivery = await queue.next(5)
            assert delivery.message == message
            await queue.close()

    run(work())


def test_what_came_for_a_worker_that_leaves_goes_to_another_at_once(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            leaving = CommandQueue(bus, TYPES)
            assert await leaving.next(0) is None
            await enqueue(bus, message := command())
            # Asked for, and the worker leaves before the answer.
            await bus.publish_request(
                f"$JS.API.CONSUMER.MSG.NEXT.{CMD}.std-{TYPES[0]}", pull_request(1, expires_s=None), leaving._inbox
            )
            await leaving.close()
            staying = CommandQueue(bus, TYPES)
            delivery = await staying.next(3)
            assert delivery.message == message
            await staying.close()

    run(work())


def test_calling_off_removes_what_waits_and_tells_who_works_on_it(nats_url):
    async def work():
        async with declared(nats_url) as bus, declared(nats_url) as worker, Cancellations(worker) as heard:
            waiting, running = command(position=10), command(position=11)
            await enqueue(bus, waiting, running)
            stopped = asyncio.create_task(heard.wait(running))
            for message in (waiting, running):
                await call_off(bus, message.tenant_id, message.task_id, 12)
            await asyncio.wait_for(stopped, 5)
            await eventually(lambda: _is(_value(heard.has(waiting)), True))
            assert await count(bus, CMD) == 0
            later = command(task_id=running.task_id, position=13, request_version=3)
            assert not heard.has(later), "asked for again after it was called off"
            assert not heard.has(command())

    run(work())


def test_progress_reaches_who_listens(nats_url):
    async def work():
        async with declared(nats_url) as bus, declared(nats_url) as api:
            task_id = uuid4()
            async with aclosing(progress.follow(api, "default", task_id)) as steps:
                first = asyncio.create_task(anext(steps))
                sent = Progress(task_id=task_id, run_id=UUID(int=1), done_ms=5, total_ms=10, worker="w")

                async def heard():
                    await progress.publish(bus, "default", sent)
                    return first.done()

                await eventually(heard)
                assert first.result() == sent

    run(work())


def test_a_missing_consumer_is_survived_until_it_is_declared_again(nats_url):
    async def work():
        async with declared(nats_url) as bus:
            queue = CommandQueue(bus, TYPES)
            await bus.js.delete_consumer(CMD, f"std-{TYPES[0]}")
            assert await queue.next(0.2) is None
            await enqueue(bus, other := command(TYPES[1]))
            delivery = await queue.next(5)
            assert delivery.message == other, "the other task types are served meanwhile"
            await delivery.done()
            await enqueue(bus, message := command(TYPES[0]))
            assert await queue.next(0.2) is None
            assert await declare(bus) == []
            delivery = await queue.next(5)
            assert delivery.message == message
            await queue.close()

    run(work())


def test_a_server_without_streams_is_unavailable_not_empty(nats_url):
    async def work():
        async with await connect(nats_url, name="test") as bus:
            with pytest.raises(ServiceUnavailable):
                await pending_tasks(bus)
            with pytest.raises(ServiceUnavailable):
                await pending_runs(bus)

    run(work())


def test_no_server_is_told_in_time(nats_server: NatsServer, monkeypatch):
    monkeypatch.setattr("infrastructure.nats.connection.CONNECT_S", 0.5)
    nats_server.kill()

    async def work():
        with pytest.raises(ServiceUnavailable):
            await connect(nats_server.url, name="test")

    run(work())


def test_a_connection_that_the_server_ends_for_good_ends_the_wait(nats_url):
    async def work():
        bus = await connect(nats_url, name="test")
        await bus.nc.close()  # as after "maximum payload violation": no reconnect
        assert await asyncio.wait_for(bus.closed, 5)
        ours = await connect(nats_url, name="test")
        await ours.close()
        assert ours.closed.result() == "closed by us"
        await ours.close()
        with pytest.raises(ServiceUnavailable):
            await bus.store(CMD, "eioku.t.cmd.std.ocr.x", b"", {"Nats-Msg-Id": "1"})

    run(work())


async def _is(value, expected):
    return await value == expected


async def _value(value):
    return value
