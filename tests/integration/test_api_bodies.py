"""Bodies of any size and shape: others are answered meanwhile, memory stays, what is broken off leaves nothing."""

import json
import threading
import time
import uuid
from contextlib import nullcontext

import httpx
import pytest

from api.bodies import decode
from api.receiving import IN_MEMORY, SHORT_BYTES
from application.imports import Import
from domain.errors import InvalidParameter
from tests.support.api_server import running_api
from tests.support.raw_http import connection
from tests.support.tiny_avi import tiny_avi

DETECTION = {
    "artifact_type": "object.detection",
    "span_start_ms": 1,
    "span_end_ms": 1,
    "payload": {"label": "dog", "confidence": 0.9, "box": [0.1, 0.1, 0.2, 0.2], "frame_index": 0},
}


@pytest.fixture(scope="module")
def place(api_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bodies")
    with running_api(api_database, folder) as url:
        yield url, folder


@pytest.fixture
def video(place):
    url, folder = place
    with httpx.Client(base_url=url, headers={"Eioku-Tenant": f"t-{uuid.uuid4().hex[:9]}"}, timeout=120) as client:
        source = str(tiny_avi(folder / f"{uuid.uuid4()}.avi"))
        answer = client.post("/v1/videos", json={"source": source, "pipeline": []})
        yield client, answer.json()["video_id"]


def wish(**more):
    return {"producer": "p", "producer_version": "1", "artifacts": [], "artifact_types": ["scene"]} | more


@pytest.mark.parametrize("size", [IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1, SHORT_BYTES, SHORT_BYTES + 1, 5_000_000])
@pytest.mark.parametrize("key", [None, "k"])
def test_bodies_of_every_size_arrive_whole(video, size, key):
    client, video_id = video
    body = json.dumps(wish(artifacts=[DETECTION])).encode()
    body += b" " * (size - len(body))
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    answer = client.post(f"/v1/videos/{video_id}/imports", content=body, headers=headers)
    assert (answer.status_code, answer.json()["count"]) == (201, 1)


@pytest.mark.parametrize("path", ["/v1/rerun", "/v1/videos", "/v1/discover", "/v1/videos/{video}/tasks", "/v1/queues/ocr/pause"])
def test_only_imports_are_long(video, path):
    client, video_id = video
    for body in (b"{" + b" " * SHORT_BYTES, b'{"config":{"a":[' + b"{}," * 200_000, b"[" * (SHORT_BYTES + 1)):
        answer = client.post(
            path.replace("{video}", video_id), content=body, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE"), answer.text


@pytest.mark.parametrize(
    ("named", "value"),
    [
        ("config", {"a": [{}] * 3_000_000}),
        ("artifact_types", ["scene"] * 1_000_000),
        ("producer", "x" * 5_000_000),
        ("language", "de" * 5_000_000),
        ("run_id", [0] * 3_000_000),
    ],
)
def test_nothing_but_artifacts_is_long(video, named, value):
    client, video_id = video
    answer = client.post(f"/v1/videos/{video_id}/imports", json=wish(**{named: value}))
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, named)


@pytest.mark.parametrize("break_off", [b'{"producer":"p"', b"WEBVTT\n\n00:01.000 --> 00:02.000\nhalf of wh"])
@pytest.mark.parametrize("key", ["", "Idempotency-Key: half\r\n"])
def test_a_body_that_breaks_off_leaves_nothing(video, break_off, key):
    client, video_id = video
    kind = "application/json" if break_off[:1] == b"{" else "text/vtt"
    head = (
        f"POST /v1/videos/{video_id}/imports HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{key}"
        f"Eioku-Tenant: {client.headers['Eioku-Tenant']}\r\nContent-Length: 5000\r\n\r\n"
    )
    with connection(str(client.base_url)) as half:
        half.sendall(head.encode() + break_off)
    for _ in range(5):
        assert client.get("/v1/tasks").json()["tasks"] == []
        time.sleep(0.05)


def test_others_are_answered_while_long_bodies_are_worked_on(place, video):
    (url, _), (client, video_id) = place, video
    body = json.dumps(wish(artifacts=[DETECTION] * 100_000)).encode()
    answers = []

    def bring():
        headers = {"Content-Type": "application/json", "Eioku-Tenant": client.headers["Eioku-Tenant"]}
        answer = httpx.post(f"{url}/v1/videos/{video_id}/imports", content=body, headers=headers, timeout=300)
        answers.append(answer.status_code)

    bringing = [threading.Thread(target=bring) for _ in range(4)]
    for one in bringing:
        one.start()
    looked = 0
    while any(one.is_alive() for one in bringing):
        assert httpx.get(f"{url}/health/live", timeout=30).status_code == 200
        looked += 1
        time.sleep(0.05)
    assert sorted(set(answers)) in ([201], [201, 503])
    assert looked > 4


@pytest.mark.parametrize(
    ("text", "is_nul"), [("\\u0000", True), ("\\\\u0000", False), ("\\\\\\u0000", True), ("\\\\" * 50_000 + "u0000", False)]
)
def test_nul_is_told_from_text_about_it(text, is_nul):
    body = f'{{"producer":"{text}","producer_version":"1","artifacts":[]}}'.encode()
    if len(text) > 200:
        body = b'{"producer":"p","producer_version":"1","artifacts":[],"config":{"a":"' + text.encode() + b'"}}'
    with pytest.raises(InvalidParameter, match="producer") if is_nul else nullcontext():
        decode(body, Import)
