"""Tasks of several videos in one process at once: each is what it is alone, and has an end of its own (ADR-0024)."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile
from uuid import UUID

import numpy as np
import pytest

from domain import task
from infrastructure.media.source_cache import SourceCache
from infrastructure.nats.streams import CMD, durable_of
from tests.support import media
from tests.support.bus import command
from tests.support.pipeline import pipeline, until
from tests.support.producers import JOINING, SHARING
from workers.attempt import Limits
from workers.child import Child, Slot
from workers.place_detection import PlaceDetection
from workers.producer import ModelPlaces
from workers.protocol import Assignment, Described, Finished, Packed

JOINS, ALONE = "object_detection", "place_detection"
FRAMES = 20


@pytest.fixture
def way(database, nats_url, tmp_path):
    """Start a pipeline without a worker; `way.worker` are the options of one that does two videos at once."""
    film = media.clip(tmp_path / "a.mp4", times_ms=range(0, FRAMES * 100, 100))

    def start(*roles: str):
        return pipeline(database, nats_url, tmp_path, "relay", "ingester", *roles)

    start.film = film
    start.worker = {"producers": JOINING, "task_types": (JOINS, ALONE), "videos": 2}
    return start


async def asked(p, *wishes: tuple[Path, str, dict]) -> list[UUID]:
    """Tasks of as many videos, in the queue before a worker comes."""
    tasks = [p.ask(p.given_video(film), task_type, **config) for film, task_type, config in wishes]
    await until(lambda: p.log.checkpoint("relay") == p.log.head())
    return tasks


async def taken(p, task_type: str) -> None:
    """Wait until a worker has the task of that type."""
    loop, consumer = asyncio.get_running_loop(), durable_of("std", task_type)

    def is_taken() -> bool:
        info = asyncio.run_coroutine_threadsafe(p.bus.js.consumer_info(CMD, consumer), loop).result(10)
        return bool(info.num_ack_pending)

    await until(is_taken)


def metrics(p, task_id):
    return p.log.load(p.log.load(task_id)[-1].run_id)[-1].metrics


def assert_whole(p, task_id, runs=1):
    assert [a.payload["frame_index"] for a in p.artifacts(task_id)] == list(range(FRAMES))
    assert [run.has_ended for run in p.runs(task_id)] == [True] * runs


@pytest.mark.parametrize("then", ["die", "hang"])
def test_a_job_that_ends_the_process_comes_again_alone_and_so_does_what_was_beside_it(way, tmp_path, then):
    there = str(tmp_path / "good is there")
    done = str(tmp_path / "done")
    bad = {"awaits": there, "at": 1, "then": then, "once": done}
    good = {"touches": there, "awaits": str(tmp_path / "never"), "once": done}  # so it is still at work then

    async def story():
        async with way() as p:
            tasks = await asked(p, (way.film, JOINS, bad), (way.film, JOINS, good))
            p.start("worker", **way.worker)
            for task_id in tasks:
                await p.reaches(task_id, "completed")
                assert_whole(p, task_id, runs=2)
            return [metrics(p, task_id)["at_once"] for task_id in tasks]

    assert asyncio.run(story()) == [1, 1]


def test_two_videos_are_done_at_once_and_one_that_is_cancelled_leaves_the_other_whole(way, tmp_path):
    one, other = str(tmp_path / "one"), str(tmp_path / "other")

    async def story():
        async with way("policies") as p:
            gone, stays = await asked(
                p,
                (way.film, JOINS, {"touches": one, "awaits": str(tmp_path / "never")}),
                (way.film, JOINS, {"touches": other, "awaits": one, "pace_s": 0.02}),
            )
            p.start("worker", **way.worker)
            await p.reaches(gone, "running")
            await until(lambda: Path(one).exists() and Path(other).exists())
            loop = asyncio.get_running_loop()
            before = loop.time()
            p.order(task.CancelTask, gone)
            await until(lambda: p.runs(gone)[0].has_ended)
            took_s = loop.time() - before
            await p.reaches(stays, "completed")
            assert_whole(p, stays)
            return took_s, p.status(gone), metrics(p, stays)["at_once"]

    took_s, status, at_once = asyncio.run(story())
    assert (status, at_once) == ("cancelled", 2)
    assert took_s < 2.0


def test_one_that_shares_no_batches_waits_until_it_is_alone_and_is_not_left_waiting(way, tmp_path):
    here, go = tmp_path / "here", tmp_path / "go"
    films = [copyfile(way.film, tmp_path / f"{name}.mp4") for name in "123"]

    async def story():
        async with way() as p:
            (first,) = await asked(p, (films[0], JOINS, {"touches": str(here), "awaits": str(go)}))
            p.start("worker", **way.worker)
            await until(here.exists)
            (alone,) = await asked(p, (films[1], ALONE, {}))
            await taken(p, ALONE)
            (last,) = await asked(p, (films[2], JOINS, {}))
            go.touch()
            for task_id in (first, alone, last):
                await p.reaches(task_id, "completed")
                assert_whole(p, task_id)
            ended = [record.item for record in p.log.read(0, limit=10**9)]
            order = [event.originator_id for event in ended if isinstance(event, task.TaskCompleted)]
            return order == [first, alone, last], [metrics(p, each)["at_once"] for each in (first, alone, last)]

    assert asyncio.run(story()) == (True, [1, 1, 1])


@pytest.mark.ml_torch
def test_places_of_two_videos_at_once_are_those_of_one_after_the_other(database, nats_url, tmp_path, places_checkpoint):
    rng = np.random.default_rng(1)
    films = [
        media.clip(
            tmp_path / f"{width}.mp4",
            times_ms=range(0, 1_800, 100),
            pictures=[np.full((120, width, 3), colour, np.uint8) for colour in rng.integers(0, 255, (18, 3))],
        )
        for width in (160, 120)
    ]
    wish = {"every_ms": 100, "confidence": 0.0}

    async def story():
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester") as p:
            together = await asked(p, *[(film, "place_detection", wish) for film in films])
            p.start(
                "worker", family="torch", producers=(PlaceDetection,), task_types=("place_detection",), videos=2,
                models=ModelPlaces(is_offline=True, places_model=places_checkpoint), limits=Limits(),
            )  # fmt: skip
            for task_id in together:
                await p.reaches(task_id, "completed", timeout_s=60)
            alone = []
            for film in films:
                alone += await asked(p, (film, "place_detection", wish))
                await p.reaches(alone[-1], "completed")
            return [[*map(seen, p.artifacts(task_id))] for task_id in (*together, *alone)]

    first, second, *alone = asyncio.run(story())
    assert [first, second] == alone
    assert len(first) > 5
    assert first != second


def seen(artifact):
    """Without the last digits of the scores, which depend on the size of the batch."""
    place = artifact.payload
    return artifact.span_start_ms, artifact.span_end_ms, place["frame_index"], place["label"], place["environment"]


def test_a_job_whose_neighbour_was_called_off_before_it_began_is_heard(tmp_path):
    async def last_word():
        async with asyncio.timeout(60):
            await child.ready()
            with child.slots(2) as (gone, stays):
                stays.assign(assignment(media.clip(tmp_path / "a.mp4"), stays))
                gone.leave()
                while isinstance(report := await stays.hear(), Described | Packed):
                    pass
                return report

    child = Child("test", SHARING, ModelPlaces())
    try:
        assert isinstance(asyncio.run(last_word()), Finished)
    finally:
        child.close()


def assignment(path: Path, slot: Slot) -> Assignment:
    return Assignment(
        number=slot.number, wire=slot.wire, message=command(JOINS, source=str(path)), run_id=UUID(int=3), delivery=1,
        models=ModelPlaces(), sources=SourceCache(folder=path.parent), pictures=path.parent, worker="w",
        started_at=datetime(2024, 1, 1, tzinfo=UTC),
    )  # fmt: skip
