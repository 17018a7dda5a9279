"""The broker is disposable: with its whole store gone, every task that was asked for is still done, once."""

import asyncio
import functools
import shutil

import pytest

from application.reconcile import RUNNING_LOOKS, Broker, Reconciler
from domain import task
from infrastructure.nats.cancel import call_off
from infrastructure.nats.commands import pending_runs, pending_tasks
from infrastructure.nats.streams import declare
from tests.support.pipeline import Pipeline, now, pipeline, until


def reconciler(p: Pipeline) -> Reconciler:
    def open_tasks() -> list:
        asked = {r.item.originator_id for r in p.log.read(0, kinds=["task.requested"])}
        return [task_id for task_id in asked if p.status(task_id) in ("pending", "running")]

    broker = Broker(
        declare=functools.partial(declare, p.bus),
        waiting=functools.partial(pending_tasks, p.bus),
        unread=functools.partial(pending_runs, p.bus),
        call_off=functools.partial(call_off, p.bus),
    )
    return Reconciler(p.log, broker, open_tasks=open_tasks, clock=now)


async def relayed(p: Pipeline) -> None:
    await until(lambda: p.log.checkpoint("relay") == p.log.head())


@pytest.mark.slow
def test_a_store_that_is_deleted_costs_nothing_but_time(database, nats_server, tmp_path):
    async def story():
        async with pipeline(database, nats_server.url, tmp_path, "relay", "ingester") as p:
            tasks = [p.ask(p.given_video(), count=10) for _ in range(5)]
            await relayed(p)
            assert await pending_tasks(p.bus) == set(tasks)
            await asyncio.to_thread(nats_server.kill)
            shutil.rmtree(nats_server.folder / "store")
            await asyncio.to_thread(nats_server.start)
            stop = asyncio.Event()
            looking = asyncio.create_task(reconciler(p).run(stop, every_s=0.2))
            p.start("worker")
            for task_id in tasks:
                await p.reaches(task_id, "completed")
                assert len(p.artifacts(task_id)) == 10
                assert p.topics(task_id).count("task.completed") == 1
            stop.set()
            await looking

    asyncio.run(story())


def test_waiting_and_running_tasks_are_left_alone_however_often_one_looks(database, nats_url, tmp_path):
    async def story():
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester", "worker") as p:
            running = p.ask(p.given_video(), count=800, pace_s=0.01)
            waiting = p.ask(p.given_video(), count=1)
            await p.reaches(running, "running")
            mine, looks = reconciler(p), 0
            while p.status(waiting) != "completed":
                report = await mine.look()
                assert report == type(report)()
                looks += 1
            return looks, p.topics(running).count("task.started"), p.topics(waiting)

    looks, starts, topics = asyncio.run(story())
    assert (looks > RUNNING_LOOKS, starts) == (True, 1)
    assert topics == ["task.requested", "task.started", "task.completed"]


def test_the_command_of_a_task_that_ended_is_removed_from_the_broker(database, nats_url, tmp_path):
    async def story():
        async with pipeline(database, nats_url, tmp_path, "relay") as p:
            task_id = p.ask(p.given_video())
            await relayed(p)
            await p.stop("relay")
            p.order(task.CancelTask, task_id)
            before = await pending_tasks(p.bus)
            report = await reconciler(p).look()
            return before, report.called_off, await pending_tasks(p.bus), task_id

    before, called_off, after, task_id = asyncio.run(story())
    assert (before, called_off, after) == ({task_id}, (task_id,), set())
