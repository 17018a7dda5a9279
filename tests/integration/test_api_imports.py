import uuid

import pytest

from tests.support.tiny_avi import tiny_avi

BOX = [0.1, 0.1, 0.2, 0.2]


@pytest.fixture
def video(api, api_folder):
    name = f"{uuid.uuid4()}.avi"
    answer = api.post("/v1/videos", json={"source": str(tiny_avi(api_folder / name)), "pipeline": []})
    assert answer.status_code == 202, answer.text
    return answer.json()["video_id"]


def detection(start_ms=100, label="dog", **more):
    payload = {"label": label, "confidence": 0.9, "box": BOX, "frame_index": 0}
    return {
        "artifact_type": "object.detection",
        "span_start_ms": start_ms,
        "span_end_ms": start_ms,
        "payload": payload,
    } | more


def wish(*artifacts, **more):
    return {"producer": "elsewhere", "producer_version": "1", "artifacts": list(artifacts)} | more


def test_thousands_of_artifacts_of_two_types_become_one_run(api, video):
    many = [detection(n) for n in range(2_500)]
    spoken = {
        "artifact_type": "transcript.segment",
        "span_start_ms": 0,
        "span_end_ms": 900,
        "payload": {"text": "Guten Tag", "language": "de"},
    }
    answer = api.post(f"/v1/videos/{video}/imports", json=wish(*many, spoken, artifact_types=["scene"]))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["count"] == 2_501
    run = api.get(f"/v1/runs/{made['run_id']}").json()
    assert run["status"] == "completed"
    assert run["counts"] == {"object.detection": 2_500, "transcript.segment": 1, "scene": 0}
    task = api.get(f"/v1/tasks/{made['task_id']}").json()
    assert (task["status"], task["task_type"], task["artifact_count"]) == ("completed", "import", 2_501)
    runs = api.get(f"/v1/videos/{video}/runs", params={"artifact_type": "scene"}).json()["runs"]
    assert [r["run_id"] for r in runs] == [made["run_id"]]
    page = api.get("/v1/artifacts/search", params={"kind": "object", "label": "dog"}).json()
    assert page["total"] == 2_500


def test_a_run_takes_the_language_on_which_all_segments_agree(api, video):
    def spoken(language):
        payload = {"text": "x"} | ({"language": language} if language else {})
        return {
            "artifact_type": "transcript.segment",
            "span_start_ms": 0,
            "span_end_ms": 1,
            "payload": payload,
        }

    for languages, expected in ((["de", "de"], "de"), (["de", "en"], None), ([None], None)):
        answer = api.post(f"/v1/videos/{video}/imports", json=wish(*map(spoken, languages)))
        assert api.get(f"/v1/runs/{answer.json()['run_id']}").json()["language"] == expected


def test_the_same_run_again_changes_nothing_and_other_content_is_refused(api, video):
    run_id, artifact_id = str(uuid.uuid4()), str(uuid.uuid4())
    body = wish(detection(artifact_id=artifact_id), run_id=run_id)
    first = api.post(f"/v1/videos/{video}/imports", json=body)
    again = api.post(f"/v1/videos/{video}/imports", json=body)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert len(api.get(f"/v1/videos/{video}/artifacts", params={"selection": "all"}).json()["artifacts"]) == 1
    for other in (
        wish(detection(101, artifact_id=artifact_id), run_id=run_id),
        body | {"producer": "somebody else"},
        body | {"model_profile": "fast"},
        body | {"artifact_types": ["scene"]},
    ):
        answer = api.post(f"/v1/videos/{video}/imports", json=other)
        assert (answer.status_code, answer.json()["code"]) == (409, "CONTENT_MISMATCH")


def test_an_artifact_id_belongs_to_one_run(api, video):
    artifact_id = str(uuid.uuid4())
    assert (
        api.post(f"/v1/videos/{video}/imports", json=wish(detection(artifact_id=artifact_id))).status_code
        == 201
    )
    answer = api.post(f"/v1/videos/{video}/imports", json=wish(detection(7, artifact_id=artifact_id)))
    assert (answer.status_code, answer.json()["code"]) == (409, "CONTENT_MISMATCH")
    answer = api.post(
        f"/v1/videos/{video}/imports", json=wish(*[detection(artifact_id=str(uuid.UUID(int=9)))] * 2)
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_ARTIFACT")


@pytest.mark.parametrize(
    ("flaw", "code", "named"),
    [
        ({"span_start_ms": 2, "span_end_ms": 1}, "INVALID_ARTIFACT", "artifacts[1]"),
        ({"span_start_ms": -1}, "INVALID_ARTIFACT", "artifacts[1]"),
        ({"span_end_ms": 2**31}, "INVALID_ARTIFACT", "artifacts[1]"),
        ({"span_end_ms": 10**30}, "INVALID_ARTIFACT", "artifacts[1]"),
        ({"span_start_ms": "100"}, "INVALID_PARAMETER", "artifacts"),
        ({"span_start_ms": 1.5}, "INVALID_PARAMETER", "artifacts"),
        ({"payload": {"label": "dog"}}, "INVALID_ARTIFACT", "artifacts[1]"),
        (
            {"payload": {"label": "dog", "confidence": 2, "box": BOX, "frame_index": 0}},
            "INVALID_ARTIFACT",
            "confidence",
        ),
        (
            {"payload": {"label": "", "confidence": 1, "box": BOX, "frame_index": 0}},
            "INVALID_ARTIFACT",
            "label",
        ),
        (
            {"payload": {"label": "a\0b", "confidence": 1, "box": BOX, "frame_index": 0}},
            "INVALID_PARAMETER",
            "label",
        ),
        (
            {"payload": {"label": "x", "confidence": 1, "box": BOX, "frame_index": 10**40}},
            "INVALID_ARTIFACT",
            "frame_index",
        ),
        (
            {"payload": {"label": "x", "confidence": 1, "box": [0, 0, 1], "frame_index": 0}},
            "INVALID_ARTIFACT",
            "box",
        ),
        (
            {"payload": {"label": "x", "confidence": 1, "box": BOX, "frame_index": 0, "extra": 1}},
            "INVALID_ARTIFACT",
            "extra",
        ),
        ({"payload": []}, "INVALID_ARTIFACT", "artifacts[1]"),
        ({"payload": None}, "INVALID_ARTIFACT", "artifacts[1]"),
        ({"artifact_type": "smell"}, "SCHEMA_NOT_FOUND", "artifact_type"),
        ({"schema_version": 7}, "SCHEMA_NOT_FOUND", "version 7"),
        ({"artifact_id": "nope"}, "INVALID_PARAMETER", "artifact_id"),
        ({"colour": "red"}, "INVALID_PARAMETER", "colour"),
    ],
)
def test_one_wrong_artifact_refuses_the_whole_import(api, video, flaw, code, named):
    answer = api.post(f"/v1/videos/{video}/imports", json=wish(detection(), detection(200) | flaw))
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert named in answer.text
    assert api.get(f"/v1/videos/{video}/artifacts", params={"selection": "all"}).json()["artifacts"] == []


@pytest.mark.parametrize(
    "body",
    [
        wish(),
        wish(detection(), producer=""),
        wish(detection(), language="not a language"),
        wish(detection(), created_at="2025-01-01T00:00:00"),
        wish(detection(), created_at="0001-01-01T00:00:00+14:00"),
        wish(detection(), run_id="x"),
        wish(detection(), artifact_types=["smell"]),
        {"artifacts": [detection()]},
        [],
        "text",
    ],
)
def test_a_wrong_envelope_is_refused(api, video, body):
    answer = api.post(f"/v1/videos/{video}/imports", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_subtitles_keep_speaker_and_language(api, video):
    body = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ada>Guten Tag &amp; willkommen\n"
    answer = api.post(
        f"/v1/videos/{video}/imports",
        params={"language": "de"},
        content=body.encode(),
        headers={"Content-Type": "text/vtt"},
    )
    assert answer.status_code == 201, answer.text
    (found,) = api.get(f"/v1/videos/{video}/artifacts").json()["artifacts"]
    assert found["payload"] == {"text": "Guten Tag & willkommen", "language": "de", "speaker": "Ada"}
    text = api.get(f"/v1/videos/{video}/transcript.vtt").text
    assert text == "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nGuten Tag &amp; willkommen\n\n"
    assert api.get(f"/v1/videos/{video}/transcript.txt").text == "Guten Tag & willkommen\n"
    kinds = {"vtt": "text/vtt", "srt": "application/x-subrip", "txt": "text/plain"}
    for ending, kind in kinds.items():
        told = api.get(f"/v1/videos/{video}/transcript.{ending}").headers["content-type"]
        assert told == f"{kind}; charset=utf-8"
    for kind, content in (("text/vtt", b"no header"), ("application/x-subrip", b"\xff"), ("text/vtt", b"")):
        refused = api.post(f"/v1/videos/{video}/imports", content=content, headers={"Content-Type": kind})
        assert refused.status_code in (400, 422), refused.text


def test_an_empty_subtitle_file_counts_as_nothing_said(api, video):
    headers = {"Content-Type": "text/vtt"}
    api.post(
        f"/v1/videos/{video}/imports", content=b"WEBVTT\n\n00:01.000 --> 00:02.000\nold\n", headers=headers
    )
    answer = api.post(f"/v1/videos/{video}/imports", content=b"WEBVTT\n", headers=headers)
    assert (answer.status_code, answer.json()["count"]) == (201, 0)
    assert api.get(f"/v1/videos/{video}/transcript.vtt").text == "WEBVTT\n\n"
    assert api.get(f"/v1/videos/{video}/artifacts").json()["artifacts"] == []


@pytest.mark.parametrize("ending", ["vtt", "srt", "txt"])
def test_there_is_no_transcript_of_what_nobody_has_transcribed(api, video, ending):
    api.post(f"/v1/videos/{video}/imports", json=wish(detection()))
    for query in ("", "?language=de", "?profile=fast", f"?run_id={uuid.uuid4()}", "?selection=all"):
        answer = api.get(f"/v1/videos/{video}/transcript.{ending}{query}")
        assert (answer.status_code, answer.json()["code"]) == (404, "NO_MATCH"), query
        assert "transcript" in answer.json()["detail"]
    spoken = {"artifact_type": "transcript.segment", "span_start_ms": 0, "span_end_ms": 9, "payload": {"text": "x"}}
    api.post(f"/v1/videos/{video}/imports", json=wish(spoken, model_profile="fast"))
    assert api.get(f"/v1/videos/{video}/transcript.{ending}?profile=fast").status_code == 200
    assert api.get(f"/v1/videos/{video}/transcript.{ending}?language=de").status_code == 200
    assert api.get(f"/v1/videos/{video}/transcript.{ending}?profile=balanced").status_code == 404


def test_an_import_for_a_deleted_or_foreign_video_is_404(api, video):
    foreign = api.post(
        f"/v1/videos/{video}/imports", json=wish(detection()), headers={"Eioku-Tenant": "somebody-else"}
    )
    assert (foreign.status_code, foreign.json()["code"]) == (404, "VIDEO_NOT_FOUND")
    assert api.delete(f"/v1/videos/{video}").status_code == 204
    assert api.post(f"/v1/videos/{video}/imports", json=wish(detection())).status_code == 404
