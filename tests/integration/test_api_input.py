"""Whatever comes in, what goes out is an answer or a problem, never a 500."""

import json
import re
import uuid

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.examples import COMPONENTS
from api.services import ApiServices
from tests.support.api_server import running_api
from tests.support.tiny_avi import tiny_avi


def is_problem(answer):
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == answer.status_code
    assert {"type", "title", "detail", "code"} <= body.keys()
    assert re.fullmatch("[A-Z_]+", body["code"])
    assert "Traceback" not in answer.text
    return True


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND"),
        ("GET", "/v1/nothing/here", 404, "NOT_FOUND"),
        ("PATCH", "/v1/videos", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/v1/tasks", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/videos/nope", 422, "INVALID_PARAMETER"),
        ("GET", "/v1/videos/%20", 422, "INVALID_PARAMETER"),
        ("GET", "/v1/videos/%00", 422, "INVALID_PARAMETER"),
        ("GET", "/v1/artifacts/1e5", 422, "INVALID_PARAMETER"),
        ("GET", f"/v1/videos/{uuid.UUID(int=1)}", 404, "VIDEO_NOT_FOUND"),
        ("GET", f"/v1/tasks/{uuid.UUID(int=1)}", 404, "TASK_NOT_FOUND"),
        ("GET", f"/v1/runs/{uuid.UUID(int=1)}", 404, "RUN_NOT_FOUND"),
        ("GET", f"/v1/artifacts/{uuid.UUID(int=1)}", 404, "ARTIFACT_NOT_FOUND"),
        ("GET", f"/v1/artifacts/{uuid.UUID(int=1)}/provenance", 404, "ARTIFACT_NOT_FOUND"),
        ("DELETE", f"/v1/videos/{uuid.UUID(int=1)}", 404, "VIDEO_NOT_FOUND"),
        ("POST", f"/v1/tasks/{uuid.UUID(int=1)}/cancel", 404, "TASK_NOT_FOUND"),
        ("GET", "/v1/selections/smell", 422, "SCHEMA_NOT_FOUND"),
    ],
)
def test_what_is_not_there_is_said_in_one_shape(api, method, path, status, code):
    answer = api.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert is_problem(answer)
    assert status != 405 or "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/jump/global?kind=object&direction=next&min_confidence=nan", "min_confidence"),
        ("/v1/jump/global?kind=object&direction=next&min_confidence=inf", "min_confidence"),
        ("/v1/jump/global?kind=location&direction=next&min_lat=nan", "min_lat"),
        ("/v1/jump/global?kind=location&direction=next&max_lon=-Infinity", "max_lon"),
        ("/v1/jump/global?kind=object&direction=next&label=", "label"),
        ("/v1/jump/global?kind=object&direction=next&label=a%00b", "label"),
        ("/v1/jump/global?kind=transcript&direction=next&query=%20", "query"),
        ("/v1/jump/global?kind=transcript&direction=next&query=" + "x" * 1001, "query"),
        ("/v1/jump/global?kind=face&direction=next&face_cluster_id=%20", "face_cluster_id"),
        ("/v1/jump/global?kind=object&direction=next&limit=1e3", "limit"),
        ("/v1/jump/global?kind=object&direction=next&limit=99999999999999999999999", "limit"),
        ("/v1/jump/global?kind=object&direction=next&from_video_id=nope", "from_video_id"),
        ("/v1/jump/global?kind=object&direction=next&cursor=" + "A" * 2000, "cursor"),
        ("/v1/jump/global?kind=object&direction=next&cursor=%C3%A4", "cursor"),
        ("/v1/jump/global?kind=object&direction=next&selection=newest", "selection"),
        ("/v1/jump/global?kind=object&direction=next&selection=pinned", "run_id"),
        ("/v1/jump/global?kind=object&direction=next&selection=profile", "profile"),
        ("/v1/jump/global?kind=object&direction=next&profile=%20", "profile"),
        ("/v1/jump/global?kind=object&direction=next&run_id=nope", "run_id"),
        ("/v1/artifacts/search?kind=object&offset=-1", "offset"),
        ("/v1/artifacts/search?kind=object&offset=99999999999", "offset"),
        ("/v1/artifacts/search?kind=object&filename=%20", "filename"),
        ("/v1/artifacts/search?kind=object&group_by_video=perhaps", "group_by_video"),
        ("/v1/videos?limit=101", "limit"),
        ("/v1/videos?status=bogus", "status"),
        ("/v1/videos?captured_from=yesterday", "captured_from"),
        ("/v1/videos?cursor=x", "cursor"),
        ("/v1/tasks?limit=0", "limit"),
        ("/v1/tasks?offset=-1", "offset"),
        ("/v1/tasks?video_id=x", "video_id"),
        ("/v1/tasks?sort_order=up", "sort_order"),
        ("/v1/facets?kind=transcript", "kind"),
        ("/v1/facets", "kind"),
    ],
)
def test_a_bad_parameter_is_a_422_that_names_it(api, path, named):
    answer = api.get(path)
    assert answer.status_code == 422, answer.text
    assert is_problem(answer)
    assert named in {flaw.get("parameter") for flaw in answer.json()["errors"]}, answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,",
        b"nope",
        b"\xff\xfe",
        b'{"a": 1} x',
        b'{"source": NaN}',
        b'{"source": "\\ud800"}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_body_is_a_400(api, body):
    for method, path in (
        ("POST", "/v1/videos"),
        ("PUT", f"/v1/videos/{uuid.uuid4()}"),
        ("POST", "/v1/discover"),
    ):
        answer = api.request(method, path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in ((400, 422) if not body else (400,)), answer.text
        assert is_problem(answer)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "source"),
        ([], "body"),
        (None, "body"),
        ({"source": 1}, "source"),
        ({"source": "/etc/hostname"}, "source"),
        ({"source": "a\0b"}, "source"),
        ({"source": "s3://other/x.mp4"}, "source"),
        ({"source": "{avi}", "filename": ""}, "filename"),
        ({"source": "{avi}", "filename": "a\nb"}, "filename"),
        ({"source": "{avi}", "filename": "x" * 256}, "filename"),
        ({"source": "{avi}", "collection": "a\0"}, "collection"),
        ({"source": "{avi}", "file_created_at": "yesterday"}, "file_created_at"),
        ({"source": "{avi}", "file_created_at": "2025-01-01T00:00:00"}, "file_created_at"),
        ({"source": "{avi}", "file_created_at": "9999-12-31T23:59:59-14:00"}, "file_created_at"),
        ({"source": "{avi}", "file_created_at": 5}, "file_created_at"),
        ({"source": "{avi}", "pipeline": ["dance"]}, "pipeline"),
        ({"source": "{avi}", "pipeline": "ocr"}, "pipeline"),
        ({"source": "{avi}", "colour": "red"}, "colour"),
    ],
)
def test_a_wrong_video_is_refused_by_name(api, api_folder, body, named):
    avi = tiny_avi(api_folder / "wrong.avi")
    text = json.dumps(body).replace("{avi}", str(avi))
    answer = api.post("/v1/videos", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert is_problem(answer)
    assert named in {flaw.get("parameter") for flaw in answer.json()["errors"]}, answer.text


def test_too_large_a_body_is_a_413_with_or_without_a_key(api):
    body = b'{"root": "' + b"x" * 1_500_000 + b'"}'
    for headers in ({}, {"Idempotency-Key": "big"}):
        for content in (body, iter([body[:700_000], body[700_000:]])):
            answer = api.post(
                "/v1/discover", content=content, headers={"Content-Type": "application/json"} | headers
            )
            assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
            assert is_problem(answer)


def test_another_kind_of_body_is_a_415(api):
    answer = api.post("/v1/discover", content=b"<a/>", headers={"Content-Type": "application/xml"})
    assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


GETS = [
    "/v1/videos",
    "/v1/videos/{id}",
    "/v1/videos/{id}/artifacts",
    "/v1/videos/{id}/jump",
    "/v1/videos/{id}/find",
    "/v1/jump/global",
    "/v1/artifacts/search",
    "/v1/tasks",
    "/v1/facets",
    "/v1/videos/{id}/runs",
    "/v1/videos/{id}/clip",
    "/v1/videos/{id}/profiles",
    "/v1/videos/{id}/transcript.srt",
    "/v1/thumbnails/{id}/{id}",
]
NAMES = st.sampled_from(
    [
        "kind",
        "direction",
        "from_ms",
        "to_ms",
        "label",
        "query",
        "q",
        "face_cluster_id",
        "min_confidence",
        "limit",
        "offset",
        "cursor",
        "source",
        "selection",
        "profile",
        "run_id",
        "from_video_id",
        "type",
        "artifact_type",
        "payload.label",
        "payload.a.b",
        "status",
        "sort_by",
        "filename",
        "prefix",
        "min_lat",
        "start_ms",
        "end_ms",
        "buffer_ms",
        "group_by_video",
        "min_position",
        "wait_ms",
        "captured_from",
        "collection",
        "language",
    ]
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            "object",
            "transcript",
            "ocr",
            "face",
            "scene",
            "place",
            "location",
            "next",
            "prev",
            "all",
            "dog",
            "0",
            "1",
            "-1",
            "1e400",
            "true",
            "%",
            "_",
            "&",
            "|",
            "!",
            ":*",
            "'",
            "\\",
            "null",
            "NaN",
        ]
    ),
    st.sampled_from([str(uuid.UUID(int=5)), "x" * 3000, "\0", "😀", "2025-01-01T00:00:00Z"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(GETS),
    st.lists(st.tuples(NAMES, VALUES), max_size=6),
    st.sampled_from([str(uuid.UUID(int=7)), "x"]),
)
def test_no_query_whatsoever_is_a_500(api, path, params, video_id):
    url = httpx.URL(api.base_url).copy_with(path=path.replace("{id}", video_id))
    answer = api.get(str(url.copy_merge_params(params)).replace("min_position", "min_positio"))
    assert answer.status_code in (200, 404, 422), answer.text
    assert answer.status_code == 200 or is_problem(answer)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["/v1/videos", "/v1/discover", "/v1/videos/{id}/tasks", "/v1/videos/{id}/imports"]),
    JSON,
    st.dictionaries(
        st.sampled_from(
            ["source", "root", "task_type", "producer", "artifacts", "config", "pipeline", "producer_version"]
        ),
        JSON,
    ),
)
def test_no_body_whatsoever_is_a_500(api, path, anything, fields):
    body = fields or anything
    answer = api.post(path.replace("{id}", str(uuid.UUID(int=7))), json=body)
    assert answer.status_code in (400, 404, 422), answer.text
    assert is_problem(answer)


# ---- health, metrics, description --------------------------------------------------------------------------------


def test_a_ready_server_says_so_and_shows_figures(api):
    api.get("/v1/videos")
    assert api.get("/health/live").json() == {"status": "alive"}
    ready = api.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    page = api.get("/metrics").text
    for line in (
        r'eioku_http_request_seconds_bucket\{le="0\.0?01",method="GET",route="/v1/videos",status="200"\} \d',
        r"eioku_log_head \d",
        r'eioku_follower_lag_events\{follower="projection:videos"\}',
        r'eioku_tasks\{state="pending"\}|# TYPE eioku_tasks gauge',
        r"# TYPE eioku_queue_depth gauge",
        r"eioku_database_up 1",
    ):
        assert re.search(line, page), line


def test_a_server_without_its_database_lives_but_is_not_ready(tmp_path, database):
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    with running_api(
        database, tmp_path, projections=False, database_url=nowhere, nats_url="nats://127.0.0.1:1"
    ) as url:
        assert httpx.get(f"{url}/health/live").status_code == 200
        ready = httpx.get(f"{url}/health/ready", timeout=20)
        assert ready.status_code == 503
        assert {flaw["parameter"] for flaw in ready.json()["errors"]} == {"postgres", "nats"}
        reading = httpx.get(f"{url}/v1/videos", timeout=20)
        assert (reading.status_code, reading.json()["code"]) == (503, "UNAVAILABLE")
        assert is_problem(reading)
        assert "eioku_database_up 0" in httpx.get(f"{url}/metrics", timeout=20).text


def test_an_old_database_is_named_with_the_remedy(tmp_path, database):
    import psycopg

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001_log'")
    with running_api(database, tmp_path) as url:
        ready = httpx.get(f"{url}/health/ready", timeout=20)
    assert ready.status_code == 503
    assert "eioku migrate" in ready.json()["detail"]


def test_the_description_is_whole_and_its_page_needs_nothing_from_elsewhere(api):
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    text = json.dumps(document)
    for name in re.findall(r"#/components/schemas/([\w.]+)", text):
        assert name in document["components"]["schemas"], name
    operations = [op for item in document["paths"].values() for op in item.values()]
    assert all(op["description"] and op["responses"]["default"] for op in operations)
    shown = document["paths"]["/v1/videos/{video_id}/jump"]["get"]
    assert {"min_position", "wait_ms", "Eioku-Tenant", "kind"} <= {p["name"] for p in shown["parameters"]}
    assert "multipart/form-data" in document["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    page = api.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"(src|href)=\"?(https?:)?//", page.text)


def test_every_example_of_a_body_is_taken(api, api_folder):
    import msgspec

    from api.routes.discover import DiscoverBody
    from api.routes.selections import PolicyBody
    from api.routes.tasks import TaskBody
    from api.routes.videos import VideoBody
    from application.imports import Import

    structs = {s.__name__: s for s in (DiscoverBody, PolicyBody, TaskBody, VideoBody, Import)}
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    assert COMPONENTS.keys() <= schemas.keys()
    for name, struct in structs.items():
        msgspec.json.decode(json.dumps(schemas[name]["example"]), type=struct)
    example = COMPONENTS["Import"]
    video = api.post(
        "/v1/videos", json={"source": str(tiny_avi(api_folder / "example.avi")), "pipeline": []}
    ).json()
    assert api.post(f"/v1/videos/{video['video_id']}/imports", json=example).status_code == 201


def test_services_have_bounds_by_default():
    defaults = dict(
        zip(
            ApiServices.__struct_fields__[-len(ApiServices.__struct_defaults__) :],
            ApiServices.__struct_defaults__,
            strict=True,
        )
    )
    assert defaults["max_body_bytes"] == 32 * 1024 * 1024
