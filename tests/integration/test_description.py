"""The API keeps to its own description: generated requests, good and bad, against the real API (schemathesis)."""

import json
import re
import subprocess
import sys
import uuid

import httpx
import pytest

from api.examples import COMPONENTS
from tests.support import media
from tests.support.api_server import running_api

pytestmark = pytest.mark.slow

@pytest.fixture(scope="module")
def described(api_database, tmp_path_factory):
    """A library with a bit of everything, the base URL of its API, and the description."""
    folder = tmp_path_factory.mktemp("described")
    media.clip(folder / "beach.mp4")
    media.clip(folder / "dunes.mp4", times_ms=range(0, 900, 100))
    with running_api(api_database, folder) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield Library(client, folder)


class Library:
    def __init__(self, client, folder):
        self.client, self.folder = client, folder
        self.document = json.loads(
            json.dumps(client.get("/openapi.json").json()).replace("/media/holiday", str(folder))
        )
        self.video_id = str(uuid.uuid4())
        body = {"source": str(folder / "dunes.mp4"), "pipeline": []}
        self.position = client.put(f"/v1/videos/{self.video_id}", json=body).headers["Eioku-Position"]
        # A position that is not reached is a 504 on purpose.
        for item in self.document["paths"].values():
            for operation in item.values():
                operation["parameters"] = [one for one in operation["parameters"] if one["name"] != "min_position"]


def test_answers_are_as_described(described, tmp_path):
    """Every operation: its examples, the bounds of every parameter, and random requests, fitting and unfitting."""
    (tmp_path / "openapi.json").write_text(json.dumps(described.document))
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(tmp_path / "openapi.json"),
        "--url", str(described.client.base_url), "--phases", "examples,coverage,fuzzing", "--max-examples", "5",
        "--generation-deterministic", "--continue-on-failure",
        "--request-timeout", "60", "--no-color",
        # What no schema can say, such as two parameters that exclude each other, is refused with 422.
        "--exclude-checks", "positive_data_acceptance",
        # A worker answers it, and none runs beside this API.
        "--exclude-path", "/v1/search/semantic",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:]


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_foreign_page_changes_nothing_by_any_operation(described, headers):
    client, reached = described.client, {"min_position": described.position, "wait_ms": 30_000}
    before = client.get("/v1/videos", params=reached).headers["Eioku-Position"]
    for path, item in described.document["paths"].items():
        for method in item:
            filled = re.sub(r"\{\w+\}", str(uuid.uuid4()), path)
            answer = client.request(
                method, filled, headers=headers, json={} if method in ("post", "put") else None
            )
            if method in ("get", "head"):
                assert answer.status_code < 500
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN"), path
    assert client.get("/v1/videos").headers["Eioku-Position"] == before


def bodies(document):
    """(path, method, name of the schema) of every JSON body."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                said = json.dumps(content["application/json"]["schema"])
                yield path, method, re.search(r"schemas/(\w+)", said)[1]


def test_every_body_refuses_unknown_members(described):
    schemas = described.document["components"]["schemas"]
    for path, method, name in bodies(described.document):
        assert schemas[name]["additionalProperties"] is False, (path, method)


def test_the_examples_of_the_document_succeed(described):
    tried = set()
    for path, method, name in bodies(described.document):
        if name not in COMPONENTS:
            continue
        example = described.document["components"]["schemas"][name]["example"]
        ids = {"video_id": described.video_id, "artifact_type": "object.detection"}
        if method == "put" and name == "VideoBody":
            ids["video_id"] = str(uuid.uuid4())
        answer = described.client.request(method, path.format_map(ids), json=example)
        assert answer.status_code < 300, (path, answer.text)
        if name == "VideoBody":  # one path is one video, so the next example needs it gone
            described.client.delete(f"/v1/videos/{answer.json()['video_id']}")
        tried.add(name)
    assert tried == {"VideoBody", "TaskBody", "PolicyBody", "DiscoverBody", "Import"}
