"""Thumbnails, sprite sheets and posters of real films: made by a worker, served by the API; and a disk that is full."""

import asyncio
import io
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from uuid import UUID

import httpx
import numpy as np
import psycopg
import pytest
from PIL import Image

from application.messages import SourceSpan, SpansPage, SpansWanted
from domain import run, task, video
from infrastructure.media.pictures import Pictures
from infrastructure.nats import inputs
from projectors.inputs import inputs_of
from tests.integration.test_pipeline import film, settled, tasks_of
from tests.support.api_server import running_api
from tests.support.pipeline import QUICK, Pipeline, pipeline
from workers import PRODUCERS

PIPELINE = ("metadata_extraction", "scene_detection", "thumbnails")
ROLES = ("policies", "relay", "ingester", "answers")
LIGHT = {"task_types": PIPELINE, "producers": PRODUCERS, "limits": QUICK}
CUE = re.compile(r"(\S+) --> (\S+)\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)")


@pytest.fixture
def told(database, nats_url, tmp_path) -> Any:
    """Runs a story that gets a pipeline with a worker, and a client of the API."""

    def run(story: Any, **worker: Any) -> Any:
        async def whole() -> Any:
            with running_api(database, tmp_path, nats_url=nats_url) as url:
                async with pipeline(database, nats_url, tmp_path, *ROLES) as p:
                    p.start("worker", **{**LIGHT, "pictures": tmp_path / "data" / "thumbnails", **worker})
                    with httpx.Client(base_url=url, timeout=60) as api:
                        return await story(p, api)

        return asyncio.run(whole())

    return run


def fresh(p: Pipeline, api: httpx.Client, url: str, **headers: str) -> httpx.Response:
    return api.get(url, params={"min_position": p.log.head(), "wait_ms": 20_000}, headers=headers)


def colour(image: Image.Image, x: int, y: int) -> np.ndarray:
    return np.asarray(image.convert("RGB"), int)[y, x]


def test_a_film_gets_a_picture_of_each_moment_sheets_and_a_poster(told, tmp_path):
    async def story(p: Pipeline, api: httpx.Client) -> None:
        path = film(tmp_path / "film.mp4", seconds=5)
        video_id = p.given_video(path, pipeline=PIPELINE)
        assert await settled(p, video_id) == dict.fromkeys(PIPELINE, "completed")
        await asyncio.to_thread(look, p, api, video_id)

    def look(p: Pipeline, api: httpx.Client, video_id: UUID) -> None:
        of_video = f"/v1/videos/{video_id}"
        blake3 = fresh(p, api, of_video).json()["blake3"]
        artifacts = p.artifacts(tasks_of(p, video_id)["thumbnails"])
        kinds: dict[str, list[int]] = {}
        for artifact in artifacts:
            kinds.setdefault(artifact.payload["kind"], []).append(artifact.span_start_ms)
        # Where scenes begin, and twice within each, to choose a poster from.
        moments = [second * 1_000 + at_ms for second in range(5) for at_ms in (0, 250, 750)]
        assert kinds["thumbnail"] == moments
        folder = Pictures(tmp_path / "data/thumbnails", blake3).folder
        (poster,) = kinds["poster"]
        (sprite,) = (each.name for each in folder.glob("sprite-*"))
        made = {f"{at_ms}.webp" for at_ms in kinds["thumbnail"]} | {f"poster-{poster}.webp", sprite}
        assert {each.name for each in folder.iterdir()} == made
        # The thumbnails show their scene, whoever made them.
        for second in range(5):
            kept, later = (
                Image.open(io.BytesIO(api.get(f"/v1/thumbnails/{video_id}/{at}").content))
                for at in (second * 1_000, second * 1_000 + 730)
            )
            assert abs(colour(kept, 99, 99) - colour(later, 99, 99)).max() < 12
        track(api, f"{of_video}/sprites.vtt", video_id)
        picture = api.get(f"{of_video}/poster")
        assert picture.content == (folder / f"poster-{poster}.webp").read_bytes()
        assert api.get(f"{of_video}/poster", headers={"If-None-Match": picture.headers["etag"]}).status_code == 304

    def track(api: httpx.Client, url: str, video_id: UUID) -> None:
        answer = api.get(url)
        assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
        assert answer.headers["cache-control"] == "public, max-age=604800"
        assert api.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        assert answer.text.startswith("WEBVTT\n\n")
        cues = CUE.findall(answer.text)
        assert [cue[:2] for cue in cues] == [
            ("00:00:00.000", "00:00:02.000"), ("00:00:02.000", "00:00:04.000"), ("00:00:04.000", "00:00:05.000"),
        ]  # fmt: skip
        sheet_url = urljoin(str(answer.url), cues[0][2])
        assert sheet_url.startswith(urljoin(str(answer.url), "sprites/0?run_id="))
        sheet = api.get(sheet_url)
        assert (sheet.status_code, sheet.headers["content-type"]) == (200, "image/webp")
        image = Image.open(io.BytesIO(sheet.content))
        assert image.size == (3 * 160, 120)
        for number, (*_, x, y, width, height) in enumerate(cues):
            assert (int(x), int(y), int(width), int(height)) == (160 * number, 0, 160, 120)
            shown = Image.open(io.BytesIO(api.get(f"/v1/thumbnails/{video_id}/{2_000 * number}").content))
            assert abs(colour(image, int(x) + 80, 60) - colour(shown, 160, 120)).max() < 12
        assert api.get(f"{url[:-4]}/1").status_code == 404
        assert api.get(f"{url}?run_id={UUID(int=1)}").json()["code"] == "NO_MATCH"

    told(story)


def test_what_is_there_is_not_made_again_and_another_profile_adds_its_own(told, tmp_path):
    async def story(p: Pipeline, api: httpx.Client) -> None:
        video_id = p.given_video(film(tmp_path / "film.mp4"), pipeline=PIPELINE)
        await settled(p, video_id)
        folder = tmp_path / "data/thumbnails"
        before = {each: each.stat().st_mtime_ns for each in folder.rglob("*.webp")}
        first = await asyncio.to_thread(fresh, p, api, f"/v1/videos/{video_id}/sprites.vtt")
        metrics = []
        for every_ms in (2_000, 1_000):
            task_id = p.ask(video_id, "thumbnails", every_ms=every_ms)
            await p.reaches(task_id, "completed")
            (done,) = p.runs(task_id)
            completed = next(e for e in p.log.load(p.log.load(task_id)[-1].run_id) if isinstance(e, run.RunCompleted))
            metrics.append((done.has_ended, completed.metrics["files_made"], completed.metrics["frames"] > 0))
        assert metrics == [(True, 0.0, False), (True, 1.0, True)]
        assert {each: each.stat().st_mtime_ns for each in before} == before
        second = await asyncio.to_thread(fresh, p, api, f"/v1/videos/{video_id}/sprites.vtt")
        assert [len(CUE.findall(answer.text)) for answer in (first, second)] == [2, 3]
        for answer in (first, second):  # a track in somebody's cache goes on with its own sheets
            url = urljoin(str(answer.url), CUE.findall(answer.text)[0][2])
            sheet = await asyncio.to_thread(api.get, url)
            assert Image.open(io.BytesIO(sheet.content)).width == 160 * len(CUE.findall(answer.text))

    told(story)


def test_a_changed_file_never_shows_old_pictures(told, tmp_path):
    async def story(p: Pipeline, api: httpx.Client) -> None:
        path = film(tmp_path / "film.mp4")
        video_id = p.given_video(path, pipeline=PIPELINE)
        await settled(p, video_id)
        urls = [f"/v1/thumbnails/{video_id}/0", f"/v1/videos/{video_id}/poster", f"/v1/videos/{video_id}/sprites/0"]
        old = [(await asyncio.to_thread(fresh, p, api, url)).content for url in urls]
        film(path, seconds=4, seed=7)
        facts = path.stat()
        p.order(video.NoticeFile, video_id, size_bytes=facts.st_size, mtime_ms=facts.st_mtime_ns // 1_000_000)
        await settled(p, video_id)
        new = [await asyncio.to_thread(fresh, p, api, url) for url in urls]
        assert [answer.status_code for answer in new] == [200] * 3
        assert all(answer.content != before for answer, before in zip(new, old, strict=True))

    told(story)


def test_a_sound_file_has_no_pictures_and_that_is_no_failure(told, tmp_path, jfk):
    async def story(p: Pipeline, api: httpx.Client) -> None:
        video_id = p.given_video(jfk, pipeline=PIPELINE)
        assert await settled(p, video_id) == dict.fromkeys(PIPELINE, "completed")
        assert p.artifacts(tasks_of(p, video_id)["thumbnails"]) == []
        for what in ("poster", "sprites.vtt", "sprites/0"):
            answer = await asyncio.to_thread(fresh, p, api, f"/v1/videos/{video_id}/{what}")
            assert (answer.status_code, answer.json()["code"]) == (404, "NO_MATCH")

    told(story)


# ---- a full disk -------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB of its own."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_while_thumbnails_are_written_ends_as_a_failure_with_the_rest_intact(
    told, tmp_path, tiny_disk
):
    ballast, pictures = tiny_disk / "ballast", tiny_disk / "thumbnails"

    async def story(p: Pipeline, api: httpx.Client) -> None:
        ballast.write_bytes(bytes(256 * 1024 - 24 * 1024))  # room for some pictures, not for all
        video_id = p.given_video(film(tmp_path / "film.mp4", seconds=8), pipeline=PIPELINE)
        statuses = await settled(p, video_id)
        assert statuses == {**dict.fromkeys(PIPELINE, "completed"), "thumbnails": "failed"}
        task_id = tasks_of(p, video_id)["thumbnails"]
        failed = p.log.load(task_id)[-1]
        assert isinstance(failed, task.TaskFailed)
        assert (failed.code, failed.retryable) == ("STORAGE_FAILED", True)
        assert "No space left on device" in failed.error
        assert len(p.runs(task_id)) == 1, "it is not tried again before somebody has made room"
        kept = list(pictures.rglob("*.*"))
        assert kept
        for path in kept:  # what was written before is whole, and nothing lies around
            assert path.suffix == ".webp"
            Image.open(path).load()
        assert len(p.artifacts(tasks_of(p, video_id)["scene_detection"])) == 8
        shown = (await asyncio.to_thread(fresh, p, api, f"/v1/tasks/{task_id}")).json()
        assert (shown["status"], shown["code"], shown["retryable"]) == ("failed", "STORAGE_FAILED", True)
        ballast.unlink()
        p.order(task.RetryTask, task_id)
        assert await settled(p, video_id) == dict.fromkeys(PIPELINE, "completed")
        artifacts = p.artifacts(task_id)
        files = {path.stem for path in pictures.rglob("*.webp")}
        assert {str(a.span_start_ms) for a in artifacts if a.payload["kind"] == "thumbnail"} < files

    told(story, pictures=pictures)


# ---- what it is made of ------------------------------------------------------------------------------------------


def test_spans_are_told_once_each_in_order_and_over_several_pages(database, nats_url, tmp_path, monkeypatch):
    monkeypatch.setattr("projectors.inputs.SPANS", 4)

    async def story() -> tuple[SourceSpan, ...]:
        with running_api(database, tmp_path) as url, httpx.Client(base_url=url, timeout=60) as api:
            async with pipeline(database, nats_url, tmp_path, "answers") as p:
                video_id = p.given_video()
                box = {"label": "dog", "confidence": 0.9, "box": [0, 0, 1, 1], "frame_index": 0}
                found = [("object.detection", at, at, box) for at in (500, 0, 0, 500, 1_000)] + [
                    ("scene", n * 500, n * 500 + 500, {"scene_index": n, "method": "content"}) for n in range(3)
                ]
                artifacts = [
                    {"artifact_type": kind, "span_start_ms": start, "span_end_ms": end, "payload": payload}
                    for kind, start, end, payload in found
                ]
                body = {"producer": "hand", "producer_version": "1", "artifacts": artifacts}
                await asyncio.to_thread(fresh, p, api, f"/v1/videos/{video_id}")
                made = await asyncio.to_thread(api.post, f"/v1/videos/{video_id}/imports", json=body)
                assert made.status_code == 201, made.text
                wanted = SpansWanted(
                    tenant_id="default", video_id=video_id, artifact_types=("scene", "object.detection"),
                    position=int(made.headers["Eioku-Position"]),
                )  # fmt: skip
                await p.bus.nc.flush()
                spans = await inputs.ask_spans(p.bus, wanted)
                async with await psycopg.AsyncConnection.connect(
                    database, autocommit=True, options="-c search_path=read"
                ) as connection:
                    page = await inputs_of(connection, wanted)
                assert isinstance(page, SpansPage)
                assert (len(page.spans), page.is_last) == (4, False)
                return spans

    assert [(s.start_ms, s.end_ms, s.artifact_type) for s in asyncio.run(story())] == [
        (0, 0, "object.detection"), (0, 500, "scene"), (500, 500, "object.detection"), (500, 1_000, "scene"),
        (1_000, 1_000, "object.detection"), (1_000, 1_500, "scene"),
    ]  # fmt: skip
