"""Idempotency keys, tasks, selections, discoveries, tenants."""

import threading
import uuid
from datetime import UTC, datetime

import httpx
import pytest

from application.handle import handle
from domain.event import Meta
from domain.pipeline import config_hash, full_config
from domain.task import FailTask, RequestTask, StartTask, task_id_of
from infrastructure.event_store.log import PostgresEventLog
from tests.support.tiny_avi import tiny_avi


@pytest.fixture
def video(api, api_folder):
    name = f"{uuid.uuid4()}.avi"
    answer = api.post("/v1/videos", json={"source": str(tiny_avi(api_folder / name)), "pipeline": []})
    return answer.json()["video_id"]


@pytest.fixture
def log(api_database):
    with PostgresEventLog(api_database) as log:
        yield log


def meta_of(api):
    return Meta(
        at=datetime.now(UTC), tenant_id=api.headers["Eioku-Tenant"], actor="test", correlation_id=uuid.uuid4()
    )


# ---- idempotency -------------------------------------------------------------------------------------------------


def test_one_key_sent_by_many_at_once_does_the_work_once(api, api_url, api_folder):
    source = str(tiny_avi(api_folder / f"{uuid.uuid4()}.avi"))
    headers = {"Idempotency-Key": "k", "Eioku-Tenant": api.headers["Eioku-Tenant"]}
    answers = []

    def send():
        answers.append(
            httpx.post(
                f"{api_url}/v1/videos", json={"source": source, "pipeline": []}, headers=headers, timeout=30
            )
        )

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.status_code for a in answers} == {202}
    assert len({a.content for a in answers}) == 1
    assert len({a.headers["Eioku-Position"] for a in answers}) == 1
    assert len({a.headers["Location"] for a in answers}) == 1
    api.position = int(answers[0].headers["Eioku-Position"])
    assert len(api.get("/v1/videos").json()["videos"]) == 1


def test_a_key_with_another_query_is_a_mismatch(api, video):
    more = {"content": b"WEBVTT\n", "headers": {"Idempotency-Key": "k", "Content-Type": "text/vtt"}}
    assert api.post(f"/v1/videos/{video}/imports?language=de", **more).status_code == 201
    answer = api.post(f"/v1/videos/{video}/imports?language=fr", **more)
    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_MISMATCH")


def test_a_key_with_another_body_or_path_is_a_mismatch(api, video):
    headers = {"Idempotency-Key": "k"}
    first = api.post(f"/v1/videos/{video}/tasks", json={"task_type": "ocr"}, headers=headers)
    assert first.status_code == 202
    for path, body in (
        (f"/v1/videos/{video}/tasks", {"task_type": "ocr", "priority": "hi"}),
        (f"/v1/videos/{uuid.uuid4()}/tasks", {"task_type": "ocr"}),
    ):
        answer = api.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_MISMATCH")
    other_tenant = api.post(
        f"/v1/videos/{video}/tasks",
        json={"task_type": "ocr"},
        headers=headers | {"Eioku-Tenant": "somebody-else"},
    )
    assert other_tenant.status_code == 404


@pytest.mark.parametrize("how", ["cancelled", "completed"])
def test_the_events_of_a_task_that_has_ended_say_so(api, video, how):
    if how == "cancelled":
        task_id = api.post(f"/v1/videos/{video}/tasks", json={"task_type": "ocr"}).json()["task_id"]
        api.post(f"/v1/tasks/{task_id}/cancel")
    else:
        body = {"producer": "p", "producer_version": "1", "artifacts": [], "artifact_types": ["scene"]}
        task_id = api.post(f"/v1/videos/{video}/imports", json=body).json()["task_id"]
    told = api.get(f"/v1/tasks/{task_id}/events").text
    assert [line for line in told.splitlines() if line.startswith("event:")] == ["event: task", "event: end"]
    assert f'"status":"{how}"' in told


def test_a_refusal_is_remembered_too(api, video):
    headers = {"Idempotency-Key": "k"}
    body = {"task_type": "dance"}
    first = api.post(f"/v1/videos/{video}/tasks", json=body, headers=headers)
    again = api.post(f"/v1/videos/{video}/tasks", json=body, headers=headers)
    assert (first.status_code, first.content) == (422, again.content)
    assert again.headers["content-type"] == "application/problem+json"


def test_a_crash_before_the_key_was_noted_does_not_ask_twice(api, video, api_database):
    import psycopg

    headers = {"Idempotency-Key": "k"}
    first = api.post(f"/v1/videos/{video}/tasks", json={"task_type": "ocr"}, headers=headers)
    with psycopg.connect(api_database, autocommit=True) as connection:
        # What a process leaves that died between its append and the note of the key.
        connection.execute("DELETE FROM api.idempotency WHERE tenant_id = %s", (api.headers["Eioku-Tenant"],))
    again = api.post(f"/v1/videos/{video}/tasks", json={"task_type": "ocr"}, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    assert api.get("/v1/tasks").json()["total"] == 1


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 201])
def test_an_odd_key_is_refused(api, key):
    answer = api.post("/v1/discover", json={"root": "/"}, headers=[("Idempotency-Key", key.encode())])
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.text


# ---- tasks -------------------------------------------------------------------------------------------------------


def test_the_same_wish_is_refused_while_open_and_new_after_its_end(api, video):
    first = api.post(f"/v1/videos/{video}/tasks", json={"task_type": "ocr"})
    task_id = first.json()["task_id"]
    assert first.headers["Location"] == f"/v1/tasks/{task_id}"
    again = api.post(
        f"/v1/videos/{video}/tasks", json={"task_type": "ocr", "profile": "balanced", "config": {}}
    )
    assert (again.status_code, again.json()["code"]) == (409, "TASK_ACTIVE")
    for other in ({"language": "de"}, {"profile": "fast"}, {"config": {"every_ms": 5}}):
        assert api.post(f"/v1/videos/{video}/tasks", json={"task_type": "ocr"} | other).status_code == 202
    assert api.post(f"/v1/tasks/{task_id}/cancel").json() == {"task_id": task_id, "status": "cancelled"}
    assert api.post(f"/v1/tasks/{task_id}/cancel").status_code == 409
    new = api.post(f"/v1/videos/{video}/tasks", json={"task_type": "ocr"})
    assert new.status_code == 202
    assert new.json()["task_id"] != task_id
    assert api.post(f"/v1/tasks/{task_id}/retry").status_code == 202
    assert api.get(f"/v1/tasks/{task_id}").json()["status"] == "pending"


def test_a_task_of_the_pipeline_counts_while_it_is_open(api, video, log):
    meta, video_id = meta_of(api), uuid.UUID(video)
    profile, config = full_config("transcription", None, None)
    hashed = config_hash("transcription", config, None)
    task_id = task_id_of(video_id, "transcription", profile, hashed, "content-1")
    wish = {
        "video_id": video_id,
        "task_type": "transcription",
        "profile": profile,
        "config": config,
        "config_hash": hashed,
    }
    api.position = handle(log, RequestTask(stream_id=task_id, meta=meta, **wish))
    answer = api.post(f"/v1/videos/{video}/tasks", json={"task_type": "transcription"})
    assert (answer.status_code, answer.json()["code"]) == (409, "TASK_ACTIVE")
    assert str(task_id) in answer.json()["detail"]
    run = {"run_id": uuid.uuid4()}
    started = StartTask(stream_id=task_id, meta=meta, **run, request_version=1, delivery=1, worker="w")
    handle(log, started, FailTask(stream_id=task_id, meta=meta, **run, code="X", error="e", retryable=False))
    assert api.post(f"/v1/videos/{video}/tasks", json={"task_type": "transcription"}).status_code == 202


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "task_type"),
        ({"task_type": "dance"}, "task_type"),
        ({"task_type": "import"}, "task_type"),
        ({"task_type": "ocr", "profile": "best"}, "profile"),
        ({"task_type": "ocr", "language": "!!"}, "language"),
        ({"task_type": "ocr", "priority": "now"}, "priority"),
        ({"task_type": "ocr", "config": []}, "config"),
        ({"task_type": "ocr", "config": {"x": "y" * 5000}}, "config"),
        ({"task_type": "ocr", "config": {"every_ms": "soon"}}, "config.every_ms"),
        ({"task_type": "ocr", "config": {"every_ms": 2.5}}, "config.every_ms"),
        ({"task_type": "ocr", "config": {"confidence": True}}, "config.confidence"),
        ({"task_type": "ocr", "config": {"model": None}}, "config.model"),
        ({"task_type": "object_detection", "config": {"track": 1}}, "config.track"),
        ({"task_type": 1}, "task_type"),
        ({"task_type": "ocr", "profil": "fast"}, "profil"),
    ],
)
def test_a_wrong_task_is_refused_by_name(api, video, body, named):
    answer = api.post(f"/v1/videos/{video}/tasks", json=body)
    assert answer.status_code == 422
    assert named in {e.get("parameter") for e in answer.json()["errors"]}


def test_events_of_a_task_end_with_it(api, api_url, video):
    task_id = api.post(f"/v1/videos/{video}/tasks", json={"task_type": "ocr"}).json()["task_id"]
    tenant = {"Eioku-Tenant": api.headers["Eioku-Tenant"]}
    url = f"{api_url}/v1/tasks/{task_id}/events?min_position={api.position}"
    states = []
    with httpx.stream("GET", url, headers=tenant, timeout=30) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data:") and '"status"' in line:
                states.append(line.split('"status":"')[1].split('"')[0])
                if len(states) == 1:
                    api.post(f"/v1/tasks/{task_id}/cancel")
    assert states == ["pending", "cancelled"]
    assert httpx.get(f"{api_url}/v1/tasks/{uuid.uuid4()}/events", headers=tenant).status_code == 404


# ---- selections, discoveries, tenants ----------------------------------------------------------------------------


def test_policies_are_stored_replaced_and_removed(api, video):
    path = f"/v1/videos/{video}/selections/scene"
    assert api.get(path).json()["is_stored"] is False
    assert api.put(path, json={"mode": "profile", "profile": "fast"}).status_code == 200
    assert api.put(path, json={"mode": "all"}).json()["profile"] is None
    assert api.get(path).json() == {
        "artifact_type": "scene",
        "mode": "all",
        "profile": None,
        "run_id": None,
        "is_stored": True,
    }
    assert api.delete(path).status_code == 204
    assert api.get(path).json()["is_stored"] is False
    assert api.put("/v1/selections/smell", json={"mode": "all"}).json()["code"] == "SCHEMA_NOT_FOUND"
    unknown = api.put("/v1/selections/scene", json={"mode": "pinned", "run_id": str(uuid.uuid4())})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "RUN_NOT_FOUND")


def test_a_discovery_is_accepted_shown_and_stopped(api, api_folder):
    answer = api.post("/v1/discover", json={"root": str(api_folder), "watch": True})
    assert answer.status_code == 202
    where = answer.headers["Location"]
    assert api.get(where).json()["watch"] is True
    assert api.delete(where).status_code == 204
    assert api.get(where).json()["watch"] is False
    assert api.get(f"/v1/discoveries/{uuid.uuid4()}").json()["code"] == "SCAN_NOT_FOUND"
    refused = api.post("/v1/discover", json={"root": "/etc"})
    assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (422, "root")


def test_nothing_of_a_tenant_is_seen_or_touched_by_another(api, video):
    task = api.post(f"/v1/videos/{video}/tasks", json={"task_type": "ocr"}).json()["task_id"]
    artifact = {
        "artifact_type": "scene",
        "span_start_ms": 0,
        "span_end_ms": 9,
        "payload": {"scene_index": 0, "method": "m"},
    }
    run = api.post(
        f"/v1/videos/{video}/imports",
        json={"producer": "p", "producer_version": "1", "artifacts": [artifact]},
    ).json()
    found = api.get(f"/v1/videos/{video}/artifacts").json()["artifacts"][0]["artifact_id"]
    other = {"Eioku-Tenant": "somebody-else"}
    for path in (
        f"/v1/videos/{video}",
        f"/v1/videos/{video}/artifacts",
        f"/v1/videos/{video}/stream",
        f"/v1/videos/{video}/location",
        f"/v1/videos/{video}/clip?start_ms=0&end_ms=9",
        f"/v1/videos/{video}/transcript.txt",
        f"/v1/thumbnails/{video}/0",
        f"/v1/videos/{video}/jump?kind=scene&direction=next",
        f"/v1/videos/{video}/find?q=x&direction=next",
        f"/v1/videos/{video}/runs",
        f"/v1/videos/{video}/profiles?artifact_type=scene",
        f"/v1/videos/{video}/selections/scene",
        f"/v1/tasks/{task}",
        f"/v1/tasks/{task}/events",
        f"/v1/runs/{run['run_id']}",
        f"/v1/artifacts/{found}",
        f"/v1/artifacts/{found}/provenance",
        f"/v1/jump/global?kind=scene&direction=next&from_video_id={video}",
    ):
        if not path.endswith("/events"):  # for its owner it would go on until the task ends
            assert api.get(path).status_code in (200, 404), path
        answer = api.get(path, headers=other)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path
    for path in (
        "/v1/videos",
        "/v1/tasks",
        "/v1/jump/global?kind=scene&direction=next",
        "/v1/artifacts/search?kind=scene",
    ):
        body = api.get(path, headers=other).json()
        assert next(v for v in body.values() if isinstance(v, list)) == [], path
    for method, path, body in (
        ("DELETE", f"/v1/videos/{video}", None),
        ("POST", f"/v1/tasks/{task}/cancel", None),
        ("POST", f"/v1/tasks/{task}/retry", None),
        ("POST", f"/v1/videos/{video}/tasks", {"task_type": "ocr"}),
        ("PUT", f"/v1/videos/{video}/selections/scene", {"mode": "all"}),
    ):
        assert api.request(method, path, json=body, headers=other).status_code == 404, path
    pinned = api.put("/v1/selections/scene", json={"mode": "pinned", "run_id": run["run_id"]}, headers=other)
    assert pinned.status_code == 404


@pytest.mark.parametrize("tenant", ["Upper", "with space", "a" * 64, "", "a_b", "ä", "../x"])
def test_an_odd_tenant_is_refused(api, tenant):
    answer = api.get("/v1/videos", headers=[("Eioku-Tenant", tenant.encode())])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "Eioku-Tenant"


def test_a_position_from_the_future_is_a_504_that_tells_the_present_one(api):
    answer = api.get("/v1/videos", params={"min_position": 10**15, "wait_ms": 20})
    assert (answer.status_code, answer.json()["code"]) == (504, "POSITION_NOT_REACHED")
    assert int(answer.headers["Eioku-Position"]) >= 0
    for bad in (
        {"min_position": "-1"},
        {"min_position": "x"},
        {"min_position": 1, "wait_ms": 10**9},
        {"min_position": "9" * 40},
    ):
        assert api.get("/v1/videos", params=bad).status_code == 422
