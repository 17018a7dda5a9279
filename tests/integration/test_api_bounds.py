"""What a client sends comes back in lists: so it is bounded, and so are pages."""

import uuid

import psycopg
import pytest

from api.pages import MOST_BYTES
from tests.support.tiny_avi import tiny_avi

ASK = {"producer": "p", "producer_version": "1", "artifacts": [], "artifact_types": ["scene"]}


@pytest.fixture
def video(api, api_folder):
    answer = api.post("/v1/videos", json={"source": str(tiny_avi(api_folder / f"{uuid.uuid4()}.avi")), "pipeline": []})
    return answer.json()["video_id"]


def spoken(start_ms=0, **payload):
    return {"artifact_type": "transcript.segment", "span_start_ms": start_ms, "span_end_ms": start_ms + 1, "payload": payload}


def deep(levels):
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "config",
    [{"a": "x" * 17_000}, {str(n): n for n in range(3_000)}, {"a": [0] * 9_000}, {"a": "\n" * 9_000}, deep(900) | {"a": ["xx"] * 5_000}],
    ids=["text", "keys", "list", "escapes", "deep"],
)
def test_an_import_has_a_small_config(api, video, config):
    answer = api.post(f"/v1/videos/{video}/imports", json=ASK | {"config": config})
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "config")
    assert "16384" in answer.json()["detail"]
    assert api.get("/v1/tasks").json()["tasks"] == []


@pytest.mark.parametrize(
    "artifact",
    [
        spoken(text="x" * 66_000),
        spoken(text="x", speaker="x" * 66_000),
        spoken(text="x", words=[{"word": "x" * 66_000, "start_ms": 0, "end_ms": 1}]),
        spoken(text="x", words=[{"word": "x", "start_ms": 0, "end_ms": 1}] * 3_000),
        {"artifact_type": "scene", "span_start_ms": 0, "span_end_ms": 9, "payload": {"scene_index": 0, "method": "m" * 66_000}},
    ],
    ids=["text", "speaker", "word", "words", "method"],
)
def test_an_imported_payload_is_bounded(api, video, artifact):
    answer = api.post(f"/v1/videos/{video}/imports", json=ASK | {"artifacts": [spoken(text="good"), artifact]})
    assert (answer.status_code, answer.json()["errors"][0]["index"]) == (422, 1)
    assert "65536" in answer.json()["detail"]
    assert api.get(f"/v1/videos/{video}/artifacts").json()["artifacts"] == []


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/videos/{video}/imports", ASK | {"producer": "x" * 300_000}, "producer"),
        ("/v1/videos/{video}/imports", ASK | {"producer_version": "x" * 201}, "producer_version"),
        ("/v1/videos/{video}/imports", ASK | {"model_profile": "x" * 201}, "model_profile"),
        ("/v1/videos/{video}/imports", ASK | {"language": "de" + "-aa" * 200}, "language"),
        ("/v1/videos/{video}/tasks", {"task_type": "ocr", "config": {"a": "x" * 3_000}}, "config"),
        ("/v1/videos/{video}/tasks", {"task_type": "ocr", "language": "de" + "-aa" * 200}, "language"),
        ("/v1/videos/{video}/tasks", {"task_type": "ocr", "profile": "x" * 201}, "profile"),
        ("/v1/rerun", {"task_type": "ocr", "config": {"a": "x" * 3_000}}, "config"),
        ("/v1/rerun", {"task_type": "ocr", "where": "x" * 3_000}, "where"),
        ("/v1/videos", {"source": "/" + "x" * 5_000}, "source"),
        ("/v1/videos", {"source": "/a", "collection": "x" * 256}, "collection"),
        ("/v1/videos", {"source": "/a", "pipeline": ["ocr"] * 101}, "pipeline"),
        ("/v1/discover", {"root": "/" + "x" * 5_000}, "root"),
        ("/v1/queues/ocr/pause", {"reason": "x" * 1_001}, "reason"),
    ],
)
def test_every_text_has_a_bound(api, video, path, body, named):
    answer = api.post(path.replace("{video}", video), json=body)
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, named), answer.text
    assert len(answer.text) < 5_000


def test_what_was_stored_before_is_short_in_lists_and_whole_by_itself(api, video, api_database):
    made = api.post(f"/v1/videos/{video}/imports", json=ASK | {"config": {"a": 1}}).json()
    task, run = f"/v1/tasks/{made['task_id']}", f"/v1/runs/{made['run_id']}"
    lists = ("/v1/tasks", "tasks"), (f"/v1/videos/{video}/runs", "runs"), (f"/v1/videos/{video}", "tasks")
    for path, name in lists:
        assert api.get(path).json()[name][0]["config"] == {"a": 1}
    for text in ("x" * 3_000_000, "".join(chr(33 + n * n % 90) for n in range(300_000))):
        with psycopg.connect(api_database) as older:
            for table, key in (("tasks", made["task_id"]), ("runs", made["run_id"])):
                older.execute(
                    f"UPDATE read.{table} SET config = jsonb_build_object('a', %s::text) WHERE {table[:-1]}_id = %s",
                    (text, key),
                )
        for path, name in lists:
            answer = api.get(path)
            assert answer.json()[name][0]["config"]["left_out_bytes"] > len(text)
            assert len(answer.content) < 10_000
        for path in (task, run):
            assert api.get(path).json()["config"] == {"a": text}


def walked(api, path, name):
    """All items of a list, by cursor; each page is small enough."""
    found, cursor, pages = [], None, 0
    while True:
        answer = api.get(path, params={"cursor": cursor} if cursor else {})
        page = answer.json()
        assert len(answer.content) <= MOST_BYTES
        assert page[name], "a page without anything would never end"
        found += page[name]
        pages += 1
        if not page["has_more"]:
            return found, pages
        cursor = page[name][-1]["cursor"]


def test_a_page_that_would_be_too_long_ends_earlier_and_loses_nothing(api, video):
    for start in range(0, 100, 10):
        segments = [spoken(start + n, text=f"dog{start + n} dog " + "&" * 60_000) for n in range(10)]
        body = ASK | {"artifacts": segments, "artifact_types": [], "language": "en"}
        assert api.post(f"/v1/videos/{video}/imports", json=body).status_code == 201
    for path, name in (
        (f"/v1/videos/{video}/find?q=dog&direction=next&limit=100&selection=all", "matches"),
        (f"/v1/videos/{video}/find?q=dog&direction=prev&limit=100&selection=all", "matches"),
        ("/v1/artifacts/search?kind=transcript&query=dog&limit=100&selection=all", "results"),
        ("/v1/jump/global?kind=transcript&query=dog&direction=next&limit=50&selection=all", "results"),
    ):
        found, pages = walked(api, path, name)
        ids = [item["artifact_id"] for item in found]
        assert (len(ids), len(set(ids))) == (100, 100), path
        assert pages > 1 + ("limit=50" in path)
    # What fits is one page, as before.
    assert walked(api, f"/v1/videos/{video}/artifacts?limit=100&selection=all", "artifacts")[1] == 1
