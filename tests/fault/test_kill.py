"""Whatever is killed, whenever: the same artifacts in the end, each once."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from application.messages import Progress
from domain.artifacts.envelope import ArtifactBatch, artifact_id_of
from domain.run import artifacts_stream_of
from infrastructure.nats import progress
from tests.support.pipeline import Pipeline, pipeline, until

ROOT = Path(__file__).resolve().parent.parent.parent


@contextlib.contextmanager
def process(role: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A role of its own that a test may kill."""
    started = subprocess.Popen([sys.executable, "-m", "tests.support.role_process", role, *arguments], cwd=ROOT)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


async def first_progress(p: Pipeline, task_id: UUID, beyond_ms: int = 0) -> Progress:
    """The task is in the middle of it."""
    async with contextlib.aclosing(progress.follow(p.bus, "default", task_id)) as arrivals:
        async for said in arrivals:
            if said.done_ms > beyond_ms:
                return said
    raise AssertionError


def assert_whole(p: Pipeline, task_id: UUID, count: int) -> None:
    """Exactly one completed run, with all artifacts, each once and in order."""
    topics = p.topics(task_id)
    assert topics.count("task.completed") == 1
    run_id = p.log.load(task_id)[-1].run_id
    assert [run.counts for run in p.runs(task_id) if run.counts is not None] == [{"object.detection": count}]
    found = p.artifacts(task_id)
    assert [a.payload["frame_index"] for a in found] == list(range(count))
    assert [a.artifact_id for a in found] == [artifact_id_of(run_id, n) for n in range(1, count + 1)]
    assert p.log.version(artifacts_stream_of(run_id)) == count


def stored(p: Pipeline) -> int:
    """Artifacts in the log, of all runs."""
    records = p.log.read(0, limit=10**9, kinds=["object.detection"])
    return sum(r.item.count for r in records if isinstance(r.item, ArtifactBatch))


def children_of(pid: int) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = (entry / "status").read_text()
                if f"\nPPid:\t{pid}\n" in status:
                    found.add(int(entry.name))
    return found


def is_gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_task(database, nats_url, tmp_path):
    async def story():
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester") as p:
            await p.redeliver_after(2.0)
            task_id = p.ask(p.given_video(), count=3_000, pace_s=0.001)
            with process("worker", nats_url, str(tmp_path), "w1") as first:
                await first_progress(p, task_id, beyond_ms=15_000)
                children = children_of(first.pid)
                first.kill()
                first.wait()
            assert len(children) >= 1
            await until(lambda: all(is_gone(child) for child in children), timeout_s=5)
            with process("worker", nats_url, str(tmp_path), "w2"):
                await p.reaches(task_id, "completed", timeout_s=60)
            assert_whole(p, task_id, 3_000)
            old, new = p.runs(task_id)
            assert (old.counts, old.has_ended, new.attempt) == (None, True, 2)

    asyncio.run(story())


@pytest.mark.slow
def test_a_worker_killed_again_and_again_at_any_moment(database, nats_url, tmp_path):
    async def story():
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester") as p:
            await p.redeliver_after(1.0)
            tasks = [p.ask(p.given_video(), count=1_500, pace_s=0.0005) for _ in range(6)]
            for kill in range(4):
                with process("worker", nats_url, str(tmp_path), f"w{kill}"):
                    before = sum(p.status(t) == "completed" for t in tasks)
                    await until(lambda: sum(p.status(t) == "completed" for t in tasks) > before, timeout_s=60)  # noqa: B023
            with process("worker", nats_url, str(tmp_path), "last"):
                for task_id in tasks:
                    await p.reaches(task_id, "completed", timeout_s=90)
            for task_id in tasks:
                assert_whole(p, task_id, 1_500)

    asyncio.run(story())


@pytest.mark.slow
def test_the_ingester_killed_in_the_middle_of_batches(database, nats_url, tmp_path):
    async def story():
        async with pipeline(database, nats_url, tmp_path, "relay", "worker") as p:
            await p.redeliver_after(1.0)
            tasks = [p.ask(p.given_video(), count=20_000) for _ in range(3)]
            for _ in range(4):
                with process("ingester", nats_url, database):
                    before = stored(p)
                    await until(lambda: stored(p) > before, timeout_s=60)  # noqa: B023
            with process("ingester", nats_url, database):
                for task_id in tasks:
                    await p.reaches(task_id, "completed", timeout_s=90)
            for task_id in tasks:
                assert_whole(p, task_id, 20_000)
                assert len(p.runs(task_id)) == 1

    asyncio.run(story())


@pytest.mark.slow
def test_the_broker_killed_while_tasks_run(database, nats_server, tmp_path):
    async def story():
        async with pipeline(database, nats_server.url, tmp_path, "relay", "ingester", "worker") as p:
            await p.redeliver_after(2.0)
            tasks = [p.ask(p.given_video(), count=4_000, pace_s=0.0005) for _ in range(3)]
            for _ in range(3):
                before = stored(p)
                await until(lambda: stored(p) > before, timeout_s=60)  # noqa: B023
                await asyncio.to_thread(nats_server.kill)
                await asyncio.to_thread(nats_server.start)
            for task_id in tasks:
                await p.reaches(task_id, "completed", timeout_s=120)
                assert_whole(p, task_id, 4_000)

    asyncio.run(story())


@pytest.mark.slow
def test_the_computing_process_killed_from_outside(database, nats_url, tmp_path):
    async def story():
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester") as p:
            task_id = p.ask(p.given_video(), count=3_000, pace_s=0.001)
            with process("worker", nats_url, str(tmp_path), "w1") as worker:
                await first_progress(p, task_id, beyond_ms=10_000)
                for child in children_of(worker.pid):
                    os.kill(child, 9)
                await p.reaches(task_id, "completed", timeout_s=60)
                assert worker.poll() is None
            assert_whole(p, task_id, 3_000)
            assert len(p.runs(task_id)) == 2

    asyncio.run(story())
