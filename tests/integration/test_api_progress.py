"""Live progress of a task: core NATS to server-sent events."""

import asyncio
import json
import time
import uuid

import httpx
import pytest

from application.messages import Progress
from domain.task import CancelTask
from domain.video import FileFacts, RecordProbe
from eioku import show
from eioku.client import Client
from infrastructure.nats.connection import connect
from infrastructure.nats.progress import publish
from tests.support.api_server import running_api
from tests.support.pipeline import pipeline
from tests.support.tiny_avi import tiny_avi


def test_progress_reaches_a_listener_until_the_task_ends(database, tmp_path, nats_url):
    with running_api(database, tmp_path, nats_url=nats_url) as url:
        video = httpx.post(
            f"{url}/v1/videos", json={"source": str(tiny_avi(tmp_path / "a.avi")), "pipeline": []}
        ).json()
        asked = httpx.post(f"{url}/v1/videos/{video['video_id']}/tasks", json={"task_type": "ocr"})
        task_id, position = asked.json()["task_id"], asked.headers["Eioku-Position"]
        events = asyncio.run(_follow(url, nats_url, task_id, position))
    assert [name for name, _ in events] == ["task", "progress", "task", "end"]
    assert events[1][1]["done_ms"] == 500
    assert [body["status"] for name, body in events if name == "task"] == ["pending", "cancelled"]


async def _follow(url, nats_url, task_id, position):
    events, names = [], []
    told = Progress(task_id=uuid.UUID(task_id), run_id=uuid.uuid4(), done_ms=500, total_ms=1000, worker="w")

    async def tell(bus, client):
        # Core NATS keeps nothing: told again until somebody has heard it.
        while "progress" not in names:
            await publish(bus, "default", told)
            await asyncio.sleep(0.05)
        await client.post(f"{url}/v1/tasks/{task_id}/cancel")

    async with await connect(nats_url, name="test") as bus, httpx.AsyncClient(timeout=30) as client:
        teller = asyncio.create_task(tell(bus, client))
        async with client.stream("GET", f"{url}/v1/tasks/{task_id}/events?min_position={position}") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event:"):
                    names.append(line.removeprefix("event:").strip())
                elif line.startswith("data:") and (names[-1] != "progress" or names.count("progress") == 1):
                    events.append((names[-1], json.loads(line.removeprefix("data:"))))
        await teller
    return events


def test_a_running_task_tells_how_quick_it_is_and_the_library_how_long_it_will_take(database, tmp_path, nats_url, capsys):
    async def story():
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester", "worker") as p:
            measured = p.given_video()
            facts = FileFacts(duration_ms=60_000, container="mp4", has_video=True, has_audio=False)
            p.order(RecordProbe, measured, facts=facts)
            await p.reaches(p.ask(measured, count=20, pace_s=0.01), "completed")
            other = p.given_video()
            p.order(RecordProbe, other, facts=facts)
            running = p.ask(other, count=1_000, pace_s=0.01)
            with running_api(database, tmp_path, nats_url=nats_url) as url:
                seen = await asyncio.to_thread(_look, url, running, p.log.head())
                await asyncio.to_thread(show.status, Client(url), as_json=False)
                p.order(CancelTask, running)
            return seen

    task, listed, queues = asyncio.run(story())
    told = task["progress"]
    assert (told["total_ms"], 0 < told["done_ms"] < 10_000, told["rate"] > 0) == (10_000, True, True)
    assert told["eta_s"] == pytest.approx((10_000 - told["done_ms"]) / 1000 / told["rate"], rel=0.05)
    assert listed["progress"]["run_id"] == task["run_id"]
    (queue,) = [one for one in queues["queues"] if one["open_ms"]]
    assert (queue["task_type"], queue["open_ms"], queue["rate"] > 0) == ("object_detection", 60_000, True)
    assert queues["eta_s"] == queue["eta_s"] == pytest.approx(60 / queue["rate"], rel=0.1, abs=0.1)
    printed = capsys.readouterr().out
    assert "1 min 00 s" in printed
    assert "to go" in printed


def _look(url, task_id, position):
    with httpx.Client(base_url=url, timeout=30, params={"min_position": position, "wait_ms": 20_000}) as client:
        for _ in range(200):
            task = client.get(f"/v1/tasks/{task_id}").json()
            if task["progress"] and task["progress"]["done_ms"]:
                break
            time.sleep(0.05)
        (listed,) = client.get("/v1/tasks", params={"status": "running"}).json()["tasks"]
        return task, listed, client.get("/v1/queues").json()
