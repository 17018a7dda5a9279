"""Workers that help each other, with real child processes, on real NATS and Postgres."""

import asyncio
import contextlib

import pytest

from domain import task
from tests.support.divisible import Divisible
from tests.support.pipeline import Pipeline, pipeline, until
from tests.support.producers import Obedient

TASKS = ("transcription", "object_detection")


@pytest.fixture
def two(database, nats_url, tmp_path):
    """A pipeline with two workers that are ready."""

    @contextlib.asynccontextmanager
    async def start():
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester") as p:
            for name in ("worker-1", "worker-2"):
                p.start(name, name=name, task_types=TASKS, producers=(Obedient, Divisible))
            warm = [p.ask(p.given_video(), count=1, pace_s=1.0) for _ in range(2)]
            for task_id in warm:
                await p.reaches(task_id, "completed")
            yield p

    return start


def workers_of(p: Pipeline, task_id) -> list[str]:
    """Who did each piece, in order."""
    return [each.payload["text"] for each in p.artifacts(task_id)]


def test_an_idle_worker_helps_and_leaves_at_once_when_it_has_a_task_of_its_own(two):
    async def story():
        async with two() as p:
            long = p.ask(p.given_video(), "transcription", count=120, pace_s=0.05)
            await p.reaches(long, "running")
            await asyncio.sleep(2)
            own = p.ask(p.given_video(), count=1)
            await p.reaches(own, "completed")
            meanwhile = p.status(long)
            await p.reaches(long, "completed")
            return meanwhile, workers_of(p, long), [each.span_start_ms for each in p.artifacts(long)]

    meanwhile, did, order = asyncio.run(story())
    assert meanwhile == "running"
    assert len(set(did)) == 2
    assert order == list(range(120))


def test_who_would_find_something_else_does_not_help(two):
    async def story():
        async with two() as p:
            task_id = p.ask(p.given_video(), "transcription", count=40, pace_s=0.05, terms="another model")
            await p.reaches(task_id, "completed")
            return workers_of(p, task_id)

    assert len(set(asyncio.run(story()))) == 1


def test_a_cancelled_job_frees_its_helper(two):
    async def story():
        async with two() as p:
            long = p.ask(p.given_video(), "transcription", count=1_000, pace_s=0.3)
            await p.reaches(long, "running")
            await asyncio.sleep(2)
            p.order(task.CancelTask, long)
            await until(lambda: p.runs(long)[0].has_ended)
            both = [p.ask(p.given_video(), count=3, pace_s=0.5) for _ in range(2)]
            began = asyncio.get_running_loop().time()
            for task_id in both:
                await p.reaches(task_id, "completed")
            return p.status(long), asyncio.get_running_loop().time() - began

    status, took_s = asyncio.run(story())
    assert status == "cancelled"
    assert took_s < 10
