"""The relay on a real log and a real server: each event once, in order; each request once; exact after any death."""

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from application.handle import handle, present
from domain import run as run_stream
from domain import task, video
from domain.run import artifacts_stream_of
from infrastructure.event_store.log import PostgresEventLog
from infrastructure.nats.commands import CommandQueue, pending_tasks
from infrastructure.nats.connection import WrongLastSequence
from infrastructure.nats.relay import FOLLOWER, Relay, run_relay
from infrastructure.nats.streams import CMD, EVT
from tests.support.bus import count, declared, eventually, run
from tests.support.events import on_bus, positions
from tests.support.given import META
from tests.support.results import VIDEO, Attempt, given_task, given_video


@pytest.fixture
def log(database):
    with PostgresEventLog(database) as log:
        yield log


class Killed(BaseException):
    """The relay's process is gone."""


async def never():
    raise AssertionError("there is nothing to wait for")


async def caught_up(log, bus):
    """Relay what there is; the relay."""
    relay = Relay(log, bus, never, deployment="test")
    await relay.resume()
    while await relay.step():
        pass
    return relay


@asynccontextmanager
async def relaying(log, bus, database):
    stop = asyncio.Event()
    work = asyncio.create_task(run_relay(log, bus, database, stop, deployment="test"))
    try:
        yield
    finally:
        stop.set()
        await work


def cancel(log, task_id):
    handle(log, task.CancelTask(stream_id=task_id, meta=META))


def retry(log, task_id, priority="std"):
    handle(log, task.RetryTask(stream_id=task_id, meta=META, priority=priority))


def test_every_event_is_published_once_in_order_and_requests_become_commands(log, database, nats_url):
    async def work():
        async with declared(nats_url) as bus, relaying(log, bus, database):
            given_video(log, file_created_at=None)
            task_id = given_task(log)
            queue = CommandQueue(bus, ["object_detection"])
            delivery = await queue.next(5)
            message = delivery.message
            assert (message.task_id, message.video_id, message.request_version) == (task_id, VIDEO, 1)
            assert (message.source, message.blake3, message.position) == ("/media/a.mp4", None, 2)
            assert message.config["imgsz"] == 640
            assert message.correlation_id == META.correlation_id
            await eventually(lambda: _is(count(bus, EVT), 2))
            events = await on_bus(bus)
            assert [event["type"] for event in events] == ["eioku.video.registered.v1", "eioku.task.requested.v1"]
            assert [event["id"] for event in events] == ["g1", "g2"]
            await eventually(lambda: _value(log.checkpoint(FOLLOWER) == 2))
            await queue.close()

    run(work())


def test_the_hash_of_the_media_goes_along_once_known(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            handle(log, video.RecordFingerprint(stream_id=VIDEO, meta=META, blake3="ab" * 32, size_bytes=5))
            handle(log, video.RelocateVideo(stream_id=VIDEO, meta=META, source="/media/b.mp4"))
            given_task(log)
            await caught_up(log, bus)
            queue = CommandQueue(bus, ["object_detection"])
            message = (await queue.next(5)).message
            assert (message.blake3, message.source) == ("ab" * 32, "/media/b.mp4")
            await queue.close()

    run(work())


def test_what_has_ended_meanwhile_is_not_queued(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            cancelled, open_task = given_task(log, key="0"), given_task(log, key="1")
            cancel(log, cancelled)
            deleted = given_video(log, UUID(int=101), "/media/z.mp4")
            orphan = given_task(log, video_id=deleted)
            handle(log, video.DeleteVideo(stream_id=deleted, meta=META))
            handle(
                log,
                task.RequestTask(
                    stream_id=uuid4(), meta=META, video_id=VIDEO, task_type=task.IMPORT, profile="p", config={}, config_hash="x"
                ),
            )
            await caught_up(log, bus)
            assert await pending_tasks(bus) == {open_task}
            assert present(log, task, orphan).status == "cancelled", "nobody else would ever end it"
            assert positions(await on_bus(bus)) == list(range(1, log.head() + 1)), "all of it is told to other systems"

    run(work())


def test_cancelling_removes_the_waiting_command_and_a_retry_queues_a_new_one(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            task_id = given_task(log)
            relay = await caught_up(log, bus)
            assert await pending_tasks(bus) == {task_id}
            cancel(log, task_id)
            assert await relay.step()
            assert await pending_tasks(bus) == set()
            retry(log, task_id, "hi")
            assert await relay.step()
            queue = CommandQueue(bus, ["object_detection"])
            message = (await queue.next(5)).message
            assert (message.priority, message.request_version) == ("hi", 3)
            await queue.close()

    run(work())


def test_a_new_request_replaces_an_older_command_whose_answer_is_overdue(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            task_id = given_task(log)
            relay = await caught_up(log, bus)
            queue = CommandQueue(bus, ["object_detection"])
            first = await queue.next(5)
            attempt = Attempt(task_id)
            handle(log, task.StartTask(stream_id=task_id, meta=META, run_id=attempt.run_id, request_version=1, delivery=1, worker="w"))
            handle(log, task.FailTask(stream_id=task_id, meta=META, run_id=attempt.run_id, code="X", error="e", retryable=True))
            retry(log, task_id)
            await relay.step()
            second = await queue.next(5)
            assert (first.message.request_version, second.message.request_version) == (1, 4)
            await first.done()  # the late answer to the first does not touch the second
            assert await pending_tasks(bus) == {task_id}
            await second.done()
            await queue.close()

    run(work())


@pytest.mark.parametrize("requests", [3, 40, 700])
def test_any_number_of_waiting_events_goes_out_in_order(log, nats_url, requests):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            handle(
                log,
                *[
                    task.RequestTask(
                        stream_id=uuid4(), meta=META, video_id=VIDEO, task_type="ocr", profile="p", config={}, config_hash=str(n)
                    )
                    for n in range(requests)
                ],
            )
            await caught_up(log, bus)
            assert positions(await on_bus(bus)) == list(range(1, requests + 2))
            assert len(await pending_tasks(bus)) == requests
            assert log.checkpoint(FOLLOWER) == requests + 1

    run(work())


@pytest.mark.parametrize("requests", [2, 50])
def test_a_relay_killed_between_storing_and_its_checkpoint_repeats_nothing(log, nats_url, monkeypatch, requests):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            for n in range(requests):
                given_task(log, key=str(n))
            with monkeypatch.context() as dying:
                dying.setattr(log, "advance", _die)
                with pytest.raises(Killed):
                    await caught_up(log, bus)
            assert log.checkpoint(FOLLOWER) == 0
            cancel(log, given_task(log, key="0 again"))
            # The server forgets message ids after a while: only the stream itself may tell where to go on.
            await bus.js.update_stream((await bus.js.stream_info(EVT)).config.evolve(duplicate_window=0.1))
            await asyncio.sleep(0.3)
            await caught_up(log, bus)
            assert positions(await on_bus(bus)) == list(range(1, log.head() + 1))
            assert len(await pending_tasks(bus)) == requests
            assert log.checkpoint(FOLLOWER) == log.head()

    run(work())


def test_a_relay_killed_between_commands_and_events_queues_nothing_twice(log, nats_url, monkeypatch):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            task_id = given_task(log)
            with monkeypatch.context() as dying:
                dying.setattr(Relay, "_publish", _die)
                with pytest.raises(Killed):
                    await caught_up(log, bus)
            assert (await pending_tasks(bus), await count(bus, EVT)) == ({task_id}, 0)
            await caught_up(log, bus)
            assert (await count(bus, CMD), await count(bus, EVT)) == (1, 2)

    run(work())


def test_a_batch_published_by_half_is_finished_not_repeated(log, nats_url, monkeypatch):
    async def work():
        async with declared(nats_url) as bus:
            attempt = Attempt(given_task_of(log))
            text = {"text": "x" * 2_000}
            head = log.head()
            log.append([attempt.produced(600, text).batch])
            relay = Relay(log, bus, never, deployment="test")
            await relay.resume()
            _, _, messages = relay._next()
            of_batch = [m for m in messages if m.position > head]
            assert len(of_batch) == 3
            await relay._publish(messages[: head + 1])  # the first part of the batch only
            await caught_up(log, bus)
            events = await on_bus(bus)
            assert positions(events) == list(range(1, head + 601))
            assert len(events) == head + 3

    run(work())


def test_a_second_relay_that_believes_itself_alone_is_refused(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            first = await caught_up(log, bus)
            second = await caught_up(log, bus)
            given_task(log)
            await second.step()
            with pytest.raises(WrongLastSequence):
                await first.step()
            assert positions(await on_bus(bus)) == [1, 2]

    run(work())


def test_of_two_relays_one_is_active_and_the_other_takes_over(log, database, nats_url):
    async def work():
        async with declared(nats_url) as bus, declared(nats_url) as other:
            stop_first, stop_second = asyncio.Event(), asyncio.Event()
            first = asyncio.create_task(run_relay(log, bus, database, stop_first))
            await asyncio.to_thread(given_video, log)
            await eventually(lambda: _is(count(bus, EVT), 1))
            second = asyncio.create_task(run_relay(log, other, database, stop_second))
            for n in range(20):
                await asyncio.to_thread(given_task, log, key=str(n))
            await eventually(lambda: _is(count(bus, EVT), 21))
            stop_first.set()
            await first
            await asyncio.to_thread(given_task, log, key="later")
            await eventually(lambda: _is(count(bus, EVT), 22))
            stop_second.set()
            await second
            assert positions(await on_bus(bus)) == list(range(1, 23))

    run(work())


def test_a_relay_whose_database_session_ends_goes_on(log, database, nats_url):
    import psycopg

    async def work():
        async with declared(nats_url) as bus, relaying(log, bus, database):
            await asyncio.to_thread(given_video, log)
            await eventually(lambda: _is(count(bus, EVT), 1))
            with psycopg.connect(database, autocommit=True) as admin:
                killed = admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eioku relay' AND datname = current_database()"
                ).fetchall()
                assert killed
            await asyncio.to_thread(given_task, log)
            await eventually(lambda: _is(count(bus, EVT), 2))
            assert positions(await on_bus(bus)) == [1, 2]

    run(work())


def test_a_stream_made_anew_is_filled_again_without_asking_for_work_again(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            given_task(log)
            await caught_up(log, bus)
            queue = CommandQueue(bus, ["object_detection"])
            await (await queue.next(5)).done()
            await queue.close()
            for name in (EVT, CMD):
                await bus.js.delete_stream(name)
            async with declared(nats_url):
                given_task(log, key="new")
                await caught_up(log, bus)
                assert positions(await on_bus(bus)) == [1, 2, 3]
                # What the log asked for before is the reconciler's business: it knows what is still open.
                assert len(await pending_tasks(bus)) == 1

    run(work())


def test_events_too_old_to_keep_are_not_published_again(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            relay = await caught_up(log, bus)
            await bus.js.purge_stream(EVT)
            again = Relay(log, bus, never, deployment="test")
            await again.resume()
            assert again.position == relay.position == 1
            assert not await again.step()

    run(work())


def test_ids_that_the_server_knows_but_no_longer_holds_do_not_stop_the_relay(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            for n in range(40):
                given_task(log, key=str(n))
            relay = await caught_up(log, bus)
            await bus.js.purge_stream(EVT)
            relay.position = 0
            log_before = log.checkpoint(FOLLOWER)
            given_task(log, key="new")
            await relay.step()
            assert log.checkpoint(FOLLOWER) == log_before + 1
            assert positions(await on_bus(bus)) == [42]

    run(work())


def test_commands_for_which_there_is_no_room_wait_in_the_log(log, database, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            config = (await bus.js.stream_info(CMD)).config
            await bus.js.update_stream(config.evolve(max_bytes=4_000))
            given_video(log)
            tasks = {given_task(log, key=str(n)) for n in range(12)}
            queue, done = CommandQueue(bus, ["object_detection"]), set()
            async with relaying(log, bus, database):
                await eventually(lambda: _at_least(count(bus, CMD), 2))
                assert await count(bus, CMD) < 12
                while done != tasks:  # each one done makes room
                    delivery = await queue.next(15)
                    done.add(delivery.message.task_id)
                    await delivery.done()
                await eventually(lambda: _value(log.checkpoint(FOLLOWER) == 13))
            await queue.close()

    run(work())


def test_a_task_whose_config_no_message_can_hold_is_parked_with_the_reason(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            task_id = uuid4()
            handle(
                log,
                task.RequestTask(
                    stream_id=task_id, meta=META, video_id=VIDEO, task_type="ocr", profile="p", config={"words": "x" * 600_000}, config_hash="h"
                ),
            )
            await caught_up(log, bus)
            assert present(log, task, task_id).status == "parked"
            assert "too large" in log.load(task_id)[-1].reason
            requested = (await on_bus(bus))[1]
            assert (requested["data"], requested["dataomitted"]) == (None, "true")

    run(work())


def test_a_foreign_message_on_the_stream_is_told_and_does_not_stop_the_relay(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            given_video(log)
            await caught_up(log, bus)
            await bus.js.publish("eioku.default.event.not.ours", b"{}")
            given_task(log)
            await caught_up(log, bus)
            assert await count(bus, EVT) == 3

    run(work())


def given_task_of(log):
    given_video(log)
    return given_task(log)


def test_runs_and_artifacts_name_their_video(log, nats_url):
    async def work():
        async with declared(nats_url) as bus:
            task_id = given_task_of(log)
            attempt = Attempt(task_id)
            handle(log, task.StartTask(stream_id=task_id, meta=META, run_id=attempt.run_id, request_version=1, delivery=1, worker="w"))
            log.append([attempt.produced(3).batch])
            assert log.version(artifacts_stream_of(attempt.run_id)) == 3
            await caught_up(log, bus)
            events = await on_bus(bus)
            assert [event["subject"] for event in events] == [str(VIDEO)] * 4
            assert run_stream.ArtifactProduced.TOPIC in events[-1]["type"]
            assert (events[-1]["firstposition"], events[-1]["position"], events[-1]["id"]) == ("4", "6", "g4-6")

    run(work())


def _die(*_args, **_kw):
    raise Killed


async def _is(value, expected):
    return await value == expected


async def _at_least(value, least):
    return await value >= least


async def _value(value):
    return value
