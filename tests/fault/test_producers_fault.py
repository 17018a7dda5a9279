"""Producers that go wrong on a real film, in real worker processes: each task ends clearly, the others are whole."""

import asyncio
import os
import signal
import threading
from abc import abstractmethod
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain import task
from eioku.demo_film import Film
from infrastructure.nats.advisories import move_advisories
from tests.support import media
from tests.support.pipeline import QUICK, Pipeline, pipeline, until
from workers.attempt import Limits
from workers.face_detection import FaceDetection
from workers.producer import ModelPlaces
from workers.scene_detection import SceneDetection

pytestmark = pytest.mark.slow
AFTER_FRAMES = 30
LIMITS = msgspec.structs.replace(QUICK, stall_s=60.0, most_deliveries=2)


class Faulty(SceneDetection):
    """The real producer, in whose model something happens with every thirtieth frame."""

    def warm(self, models: ModelPlaces) -> None:
        from scenedetect import ContentDetector

        super().warm(models)
        look, looked = ContentDetector.process_frame, 0

        def process_frame(detector: Any, *frame: Any) -> Any:
            nonlocal looked
            looked += 1
            if looked % AFTER_FRAMES == 0:
                self.happen(models)
            return look(detector, *frame)

        ContentDetector.process_frame = process_frame

    @abstractmethod
    def happen(self, models: ModelPlaces) -> None:
        """What happens."""


class Raising(Faulty):
    def happen(self, models: ModelPlaces) -> None:
        raise ValueError("operands could not be broadcast together")


class Hanging(Faulty):
    def happen(self, models: ModelPlaces) -> None:
        threading.Event().wait()


class KilledOnce(Faulty):
    """As the kernel does when memory is short."""

    def happen(self, models: ModelPlaces) -> None:
        died = models.models_dir / "died"
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def way(database, nats_url, tmp_path):
    """A pipeline whose light worker has this producer for scenes."""

    def start(scenes: type[SceneDetection], *roles: str, limits: Limits = LIMITS):
        return pipeline(
            database, nats_url, tmp_path, "relay", "ingester", "worker", *roles,
            producers=(scenes, FaceDetection), task_types=None, limits=limits,
            models=ModelPlaces(is_offline=True, models_dir=tmp_path),
        )  # fmt: skip

    return start


async def parked(p: Pipeline, task_id: UUID) -> str:
    """Why, once it is."""
    stop = asyncio.Event()
    moving = asyncio.create_task(move_advisories(p.log, p.bus, stop))
    await p.reaches(task_id, "parked", timeout_s=120)
    stop.set()
    await moving
    return p.log.load(task_id)[-1].reason


def ask_for_both(p: Pipeline, film: Film) -> tuple[UUID, UUID]:
    """Scenes and faces of one video."""
    video_id = p.given_video(film.path)
    return p.ask(video_id, "scene_detection"), p.ask(video_id, "face_detection", every_ms=2_000)


async def assert_whole(p: Pipeline, faces: UUID) -> None:
    """The task beside the faulty one."""
    await p.reaches(faces, "completed", timeout_s=120)
    assert {face.span_start_ms for face in p.artifacts(faces)} >= {6_000, 8_000, 10_000}


def test_frames_that_nobody_can_decode_cost_themselves_and_are_counted(way, demo_films, tmp_path):
    truth = demo_films[1].truth
    film = media.scratched(demo_films[1].path, tmp_path / "scratched.mp4", from_ms=6_000, to_ms=7_000)

    async def story():
        async with way(SceneDetection) as p:
            tasks = ask_for_both(p, Film(path=film, truth=truth))
            for task_id in tasks:
                await p.reaches(task_id, "completed", timeout_s=120)
            ends = [p.log.load(p.log.load(task_id)[-1].run_id)[-1] for task_id in tasks]
            return [p.artifacts(task_id) for task_id in tasks], [end.metrics for end in ends]

    (scenes, faces), metrics = asyncio.run(story())
    # The picture jumps where it comes back; every true cut is there too, to the frame.
    starts = [scene.span_start_ms for scene in scenes]
    assert set(starts) >= {0, *truth.cuts_ms}
    assert all(6_000 <= at <= 8_000 for at in set(starts) - {0, *truth.cuts_ms})
    assert scenes[-1].span_end_ms == pytest.approx(truth.duration_ms, abs=40)
    assert [face.span_start_ms for face in faces][-1] >= 8_000
    assert [one["damaged_packets"] for one in metrics] == [25.0, 25.0]


def test_a_model_that_raises_ends_its_task_with_the_words_and_no_other(way, demo_films):
    async def story():
        async with way(Raising) as p:
            bad, faces = ask_for_both(p, demo_films[1])
            reason = await parked(p, bad)
            await assert_whole(p, faces)
            return reason

    reason = asyncio.run(story())
    assert "ValueError: operands could not be broadcast together (attempt 2 of 2)" in reason


def test_a_model_that_never_returns_is_ended_tried_again_and_given_up(way, demo_films):
    async def story():
        async with way(Hanging, limits=msgspec.structs.replace(LIMITS, stall_s=4.0)) as p:
            bad, faces = ask_for_both(p, demo_films[1])
            reason = await parked(p, bad)
            await assert_whole(p, faces)
            return reason, p.topics(bad)

    reason, topics = asyncio.run(story())
    assert "no progress for 4 s (attempt 2 of 2)" in reason
    assert topics.count("task.started") in (1, 2)  # the last attempt's start may come after the server's notice


def test_a_task_whose_model_never_returns_is_cancelled_within_two_seconds(way, demo_films):
    async def story():
        async with way(Hanging, "policies") as p:
            task_id = p.ask(p.given_video(demo_films[1].path), "scene_detection")
            await p.reaches(task_id, "running", timeout_s=120)
            await asyncio.sleep(0.5)  # in its thirtieth frame by now
            loop = asyncio.get_running_loop()
            began = loop.time()
            p.order(task.CancelTask, task_id)
            await until(lambda: p.runs(task_id)[0].has_ended)
            return loop.time() - began, p.status(task_id), p.log.load(p.log.load(task_id)[1].run_id)[-1].code

    took_s, status, code = asyncio.run(story())
    assert (status, code) == ("cancelled", "CANCELLED")
    assert took_s < 2.0


def test_a_process_killed_for_memory_costs_one_attempt(way, demo_films):
    async def story():
        async with way(KilledOnce) as p:
            killed, faces = ask_for_both(p, demo_films[1])
            await p.reaches(killed, "completed", timeout_s=120)
            await assert_whole(p, faces)
            return [scene.span_start_ms for scene in p.artifacts(killed)], p.runs(killed)

    starts, (first, second) = asyncio.run(story())
    assert starts == [0, *demo_films[1].truth.cuts_ms]
    assert (first.counts, first.has_ended, second.attempt) == (None, True, 2)
