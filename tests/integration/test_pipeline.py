"""Real files through real producers: registered, probed, analysed, all by what follows from what."""

import asyncio
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from application.handle import present
from domain import content, task, video
from domain.content import content_id_of
from tests.support.looking import look
from tests.support.pipeline import QUICK, Pipeline, meta, pipeline, until
from workers import PRODUCERS

ROLES = ("policies", "relay", "ingester", "worker")
LIGHT = {"task_types": ("metadata_extraction", "scene_detection"), "producers": PRODUCERS, "limits": QUICK}
PIPELINE = ("metadata_extraction", "scene_detection")
FIRST = {"metadata_extraction", "scene_detection", "transcription", "object_detection"}
"""Of what is asked for without a pipeline of one's own, some that wait for nothing but the metadata."""


def film(path: Path, *, seconds: int = 3, seed: int = 0) -> Path:
    """One flat colour a second, at 10 frames a second: a hard cut at each full second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 255, (seconds, 3))
    colours[1::2] = 255 - colours[::2][: len(colours[1::2])]
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.time_base = 320, 240, Fraction(1, 10)
        for index in range(seconds * 10):
            picture = np.full((240, 320, 3), colours[index // 10], np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def tasks_of(p: Pipeline, video_id: Any) -> dict[str, Any]:
    """Newest task of each type on the video."""
    found: dict[str, Any] = {}
    for record in p.log.read(0, kinds=["task.requested"]):
        if record.item.video_id == video_id:
            found[record.item.task_type] = record.item.originator_id
    return found


async def settled(p: Pipeline, video_id: Any) -> dict[str, str]:
    """All tasks of the video have ended, and nothing more follows."""

    def look() -> Any:
        # Whatever this position causes is in the log once the policies have passed it.
        head = p.log.head()
        found = {name: p.status(task_id) for name, task_id in tasks_of(p, video_id).items()}
        is_over = found and not {"pending", "running"} & set(found.values())
        return found if is_over and p.log.checkpoint("policies") >= head == p.log.head() else None

    return await until(look, timeout_s=60)


@pytest.fixture
def way(database, nats_url, tmp_path):
    return lambda *roles: pipeline(database, nats_url, tmp_path, *(roles or ROLES), **LIGHT)


def test_a_film_is_probed_then_cut_into_scenes(way, tmp_path):
    async def story():
        async with way() as p:
            video_id = p.given_video(film(tmp_path / "film.mp4"), pipeline=PIPELINE)
            statuses = await settled(p, video_id)
            scenes = p.artifacts(tasks_of(p, video_id)["scene_detection"])
            return statuses, present(p.log, video, video_id), scenes, p.parked

    statuses, state, scenes, parked = asyncio.run(story())
    assert statuses == dict.fromkeys(PIPELINE, "completed")
    assert (state.facts.duration_ms, state.facts.width, len(state.blake3)) == (3_000, 320, 64)
    assert [(s.span_start_ms, s.payload["scene_index"]) for s in scenes] == [(0, 0), (1_000, 1), (2_000, 2)]
    assert all(scene.input_hash == state.blake3 for scene in scenes)
    assert parked == []


def test_the_same_film_twice_is_analysed_once_and_the_copy_takes_over_when_the_first_is_deleted(way, tmp_path):
    async def story():
        async with way() as p:
            first = p.given_video(film(tmp_path / "a.mp4"), pipeline=PIPELINE)
            await settled(p, first)
            copy = p.given_video(film(tmp_path / "b.mp4"), pipeline=PIPELINE)
            before = await settled(p, copy)
            duplicate_of = present(p.log, video, copy).duplicate_of
            p.order(video.DeleteVideo, first)
            await until(lambda: present(p.log, video, copy).duplicate_of is None)
            after = await settled(p, copy)
            holder = present(p.log, content, content_id_of("default", present(p.log, video, copy).blake3))
            return duplicate_of == first, before, after, holder.video_id == copy

    assert asyncio.run(story()) == (
        True, {"metadata_extraction": "completed"}, dict.fromkeys(PIPELINE, "completed"), True
    )  # fmt: skip


def test_a_file_that_changes_is_analysed_anew(way, tmp_path):
    async def story():
        async with way() as p:
            path = film(tmp_path / "a.mp4")
            again = {"root": tmp_path, "meta": meta(), "recursive": False}
            await asyncio.to_thread(look, p.log, **again)
            (video_id,) = {r.item.originator_id for r in p.log.read(0, kinds=["video.registered"])}
            await until(lambda: set(tasks_of(p, video_id)) >= FIRST)
            old = tasks_of(p, video_id)
            await until(lambda: p.status(old["scene_detection"]) == "completed")
            film(path, seconds=5, seed=1)
            await asyncio.to_thread(look, p.log, **again)
            await until(lambda: "video.changed" in p.topics(video_id))
            await until(
                lambda: tasks_of(p, video_id)["scene_detection"] != old["scene_detection"]
                and p.status(tasks_of(p, video_id)["scene_detection"]) == "completed"
            )
            # No worker took the others: those on the old content were called off.
            waiting = [p.status(old[name]) for name in ("transcription", "object_detection")]
            scenes = p.artifacts(tasks_of(p, video_id)["scene_detection"])
            return present(p.log, video, video_id).facts.duration_ms, waiting, len(scenes)

    duration_ms, waiting, scenes = asyncio.run(story())
    assert (duration_ms, waiting) == (5_000, ["cancelled", "cancelled"])
    assert scenes > 3


BAD = {
    "empty.mp4": (b"", "is empty (0 bytes)"),
    "text.mp4": (b"just words\n" * 1000, "no media file"),
    "cut.mp4": (None, "no media file"),
}


def test_one_bad_file_never_stops_a_folder(way, tmp_path):
    async def story():
        async with way() as p:
            folder = tmp_path / "films"
            good = film(folder / "good.mp4")
            for name, (body, _) in BAD.items():
                (folder / name).write_bytes(good.read_bytes()[:1500] if body is None else body)
            (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
            tally = await asyncio.to_thread(look, p.log, folder, meta=meta())
            videos = {r.item.filename: r.item.originator_id for r in p.log.read(0, kinds=["video.registered"])}
            await until(lambda: "scene_detection" in tasks_of(p, videos["good.mp4"]))
            await p.reaches(tasks_of(p, videos["good.mp4"])["scene_detection"], "completed")
            errors = {}
            for name in BAD:
                task_id = tasks_of(p, videos[name])["metadata_extraction"]
                await p.reaches(task_id, "failed")
                failed = p.log.load(task_id)[-1]
                errors[name] = (failed.code, failed.error, len(tasks_of(p, videos[name])))
            return tally, errors

    tally, errors = asyncio.run(story())
    assert (tally.found, tally.registered, tally.problem_count) == (4, 4, 1)
    for name, (_, why) in BAD.items():
        code, error, tasks = errors[name]
        assert (code, tasks) == ("MEDIA_UNREADABLE", 1)
        assert why in error
        assert name in error


def test_a_file_that_comes_back_is_analysed_after_all(way, tmp_path):
    async def story():
        async with way() as p:
            path = tmp_path / "a.mp4"
            film(tmp_path / "kept/a.mp4")
            video_id = p.given_video(source=str(path), filename="a.mp4", pipeline=PIPELINE)
            await until(lambda: "video.missing" in p.topics(video_id))
            (tmp_path / "kept/a.mp4").rename(path)
            facts = path.stat()
            p.order(video.NoticeFile, video_id, size_bytes=facts.st_size, mtime_ms=facts.st_mtime_ns // 1_000_000)
            await until(lambda: "scene_detection" in tasks_of(p, video_id))
            return await settled(p, video_id)

    assert asyncio.run(story()) == dict.fromkeys(PIPELINE, "completed")


def test_deleting_a_video_calls_off_what_waits_and_what_runs(way, tmp_path):
    async def story():
        async with way("policies", "relay", "ingester") as p:
            video_id = p.given_video(film(tmp_path / "a.mp4"), pipeline=PIPELINE)
            await until(lambda: "metadata_extraction" in tasks_of(p, video_id))
            p.order(video.DeleteVideo, video_id)
            return await settled(p, video_id)

    assert asyncio.run(story()) == {"metadata_extraction": "cancelled"}


def test_a_task_can_be_asked_for_again_after_it_was_cancelled(way, tmp_path):
    async def story():
        async with way("policies", "relay", "ingester") as p:
            video_id = p.given_video(film(tmp_path / "a.mp4"), pipeline=PIPELINE)
            await until(lambda: "metadata_extraction" in tasks_of(p, video_id))
            task_id = tasks_of(p, video_id)["metadata_extraction"]
            p.order(task.CancelTask, task_id)
            p.order(task.RetryTask, task_id)
            p.start("worker", **LIGHT)
            return await settled(p, video_id)

    assert asyncio.run(story()) == dict.fromkeys(PIPELINE, "completed")
