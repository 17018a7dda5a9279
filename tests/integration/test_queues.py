"""Queues that are paused: real worker, NATS, Postgres and API."""

import asyncio
import functools

import httpx
import pytest

from application.gate import pauses
from domain.pipeline import BY_NAME
from infrastructure.nats.gates import hold, run_gates
from infrastructure.nats.streams import CMD, declare
from tests.support.api_server import running_api
from tests.support.bus import command, declared, enqueue, eventually, run
from tests.support.pipeline import now, pipeline


def test_a_paused_queue_keeps_its_tasks_and_what_runs_goes_on(database, nats_url, tmp_path):
    async def story():
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester", "worker") as p:
            stop = asyncio.Event()
            gates = asyncio.create_task(run_gates(p.log, p.bus, lambda: pauses(p.log, None, now()), stop))
            running = p.ask(p.given_video(), count=300, pace_s=0.01)
            await p.reaches(running, "running")
            with running_api(database, tmp_path, nats_url=nats_url) as url, httpx.Client(base_url=url, timeout=30) as api:
                told = await asyncio.to_thread(
                    api.post, "/v1/queues/object_detection/pause", json={"priorities": ["std"], "reason": "lent out"}
                )
                assert told.status_code == 200, told.text
                await eventually(functools.partial(_is_held, p.bus, "std-object_detection"))
                waiting = p.ask(p.given_video(), count=1)
                urgent = p.ask(p.given_video(), priority="hi", count=1)
                await p.reaches(urgent, "completed")
                await p.reaches(running, "completed")
                seen = await asyncio.to_thread(
                    api.get, f"/v1/tasks/{waiting}", params={"min_position": p.log.head(), "wait_ms": 20_000}
                )
                status = p.status(waiting)
                # What the server forgot with its store is told it again.
                await p.bus.js.delete_consumer(CMD, "std-object_detection")
                await declare(p.bus)
                held = await asyncio.to_thread(api.get, "/v1/queues")
                again = await asyncio.to_thread(api.post, "/v1/queues/all/resume", json={})
                await p.reaches(waiting, "completed")
            stop.set()
            await gates
            return seen.json(), status, held.json(), again.json()

    seen, status, held, again = asyncio.run(story())
    assert (status, seen["status"]) == ("pending", "pending")
    assert (seen["paused"]["reason"], seen["paused"]["by"]) == ("lent out", "api")
    (queue,) = [one for one in held["queues"] if one["task_type"] == "object_detection"]
    assert [c["priority"] for c in queue["classes"] if c["paused"]] == ["std"]
    assert all(not c["paused"] for one in again["queues"] for c in one["classes"])
    assert [one["task_type"] for one in held["queues"]] == list(BY_NAME)


async def _is_held(bus, durable):
    return bool((await bus.js.consumer_info(CMD, durable)).pause_remaining)


def test_what_is_held_stays_so_until_it_is_not_wished_any_more(nats_url):
    from domain.queue import Pause

    async def work():
        async with declared(nats_url) as bus:
            paused = {("bulk", "ocr"): Pause(reason="", by="api"), ("std", "scene_detection"): Pause(reason="", by="api")}
            assert await hold(bus, paused) == 2
            assert await hold(bus, paused) == 0
            assert await declare(bus) == []  # a paused consumer has not drifted
            await enqueue(bus, command())
            assert await hold(bus, {}) == 2
            assert await hold(bus, {}) == 0

    run(work())


@pytest.mark.parametrize(
    ("path", "body", "status", "names"),
    [
        ("orc/pause", {}, 422, "task_type"),
        ("ocr/pause", {"priorities": ["urgent"]}, 400, "priorities"),
        ("ocr/pause", {"priorities": []}, 400, "priorities"),
        ("ocr/resume", {"why": "x"}, 400, "why"),
    ],
)
def test_a_wrong_pause_is_refused_by_name(api, path, body, status, names):
    answer = api.post(f"/v1/queues/{path}", json=body)
    assert answer.status_code in (status, 422), answer.text
    assert names in answer.text


def test_a_pause_is_accounted_for_once(api):
    first = api.post("/v1/queues/face_detection/pause", json={"priorities": ["bulk"], "reason": "night only"})
    second = api.post("/v1/queues/face_detection/pause", json={"priorities": ["bulk"], "reason": "again"})
    try:
        of = {one["task_type"]: one for one in second.json()["queues"]}["face_detection"]
        assert first.json()["queues"] == second.json()["queues"]
        assert [(c["priority"], (c["paused"] or {}).get("reason")) for c in of["classes"]] == [
            ("hi", None), ("std", None), ("bulk", "night only"),
        ]  # fmt: skip
        assert (of["rate"], of["eta_s"], of["open_ms"]) == (None, None, 0)
    finally:
        assert api.post("/v1/queues/face_detection/resume").status_code == 200
