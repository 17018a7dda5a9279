"""What HTTP itself asks for, on every address: methods, parameters, compression."""

import gzip
import re
import uuid
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.routes import HTTPRoute

from api.app import create_app
from api.compression import accepts_gzip
from api.services import ApiServices

FOUND = [
    (route.path_format, frozenset(map(str, route.methods)))
    for route in create_app(ApiServices(log=None, database_url="postgresql://", data_dir=Path("none"))).routes  # type: ignore[arg-type]
    if isinstance(route, HTTPRoute)
]
ROUTES = sorted(FOUND, key=lambda one: one[0])
"""In one order, which the framework's is not: processes that share the tests must collect the same."""
SOME = {"video_id": str(uuid.UUID(int=1)), "task_id": str(uuid.UUID(int=1)), "artifact_type": "scene", "task_type": "ocr"}


def address(template):
    return re.sub(r"\{(\w+)\}", lambda match: SOME.get(match[1], "1"), template)


@pytest.mark.parametrize(("template", "methods"), ROUTES, ids=[path for path, _ in ROUTES])
def test_every_address_names_its_methods_and_refuses_the_others(api, template, methods):
    also_head = methods | {"HEAD"} if "GET" in methods else methods
    answer = api.options(address(template))
    assert answer.status_code == 204
    assert set(answer.headers["Allow"].split(", ")) == also_head
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} - also_head:
        refused = api.request(method, address(template))
        assert refused.status_code == 405, (method, refused.text)
        assert set(refused.headers["Allow"].split(", ")) == also_head


@pytest.mark.parametrize("template", [path for path, methods in ROUTES if "GET" in methods])
def test_head_says_what_get_says(api, template):
    path = address(template)
    got, asked = api.get(path), api.head(path)
    assert asked.content == b""
    assert asked.status_code == got.status_code
    same = {"content-type", "content-length", "vary", "content-encoding"}
    if not path.endswith("/metrics"):  # its figures move
        assert {n: v for n, v in got.headers.items() if n in same} == {n: v for n, v in asked.headers.items() if n in same}


@pytest.mark.parametrize(("template", "methods"), ROUTES, ids=[path for path, _ in ROUTES])
def test_an_unknown_parameter_is_named(api, template, methods):
    for method in methods - {"OPTIONS"}:
        for query, named in (("colour=red", "colour"), ("LIMIT=5", "LIMIT"), ("x", "x"), ("limit%20=1", "limit ")):
            answer = api.request(method, f"{address(template)}?{query}")
            assert answer.status_code == 422, (method, query, answer.text)
            if method != "HEAD":
                assert answer.json()["errors"][0]["parameter"] == named


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v1/videos?limit={}", "limit"),
        ("/v1/tasks?offset={}", "offset"),
        ("/v1/videos/{video}/jump?kind=scene&direction=next&from_ms={}", "from_ms"),
        ("/v1/videos/{video}/clip?start_ms=0&end_ms={}", "end_ms"),
        ("/v1/thumbnails/{video}/{}", "timestamp_ms"),
        ("/v1/videos/{video}/sprites/{}", "index"),
        ("/v1/videos?min_position={}", "min_position"),
    ],
)
@pytest.mark.parametrize("number", ["1e1", "1.0", "1E0", "10e-1", "0x1", "%2B1", "%201", "1_0", "\u0663", "", "nan", "true"])
def test_a_whole_number_is_written_in_digits(api, path, named, number):
    answer = api.get(path.replace("{video}", SOME["video_id"]).replace("{}", number))
    if number == "" and path.endswith("/{}"):
        assert answer.status_code == 404
        return
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["parameter"] == named


def test_a_parameter_that_comes_twice_is_named(api):
    answer = api.get("/v1/tasks?limit=1&limit=2")
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "limit")
    assert api.get("/v1/videos", params={"min_position": 0, "wait_ms": 1}).status_code == 200
    assert api.get("/v1/videos?" + "&".join(f"p{n}=" for n in range(2_000))).status_code == 422


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(st.characters(codec="utf-8", exclude_characters="#"), max_size=30))
def test_no_query_is_more_than_refused(api, query):
    answer = api.get(f"/v1/tasks?{httpx.QueryParams({query: query})}")
    assert answer.status_code == (422 if query not in ("status", "limit") else answer.status_code), query


def test_texts_are_compressed_for_those_who_take_it(api):
    for accepted in ("gzip", "GZIP;q=0.5", "br, gzip", "gzip;q=1.000"):
        answer = api.get("/openapi.json", headers={"Accept-Encoding": accepted})
        assert answer.headers["Content-Encoding"] == "gzip", accepted
        assert answer.headers["Vary"] == "Accept-Encoding"
    for accepted in ("identity", "gzip;q=0", "gzip;q=0.000", "xgzip", "br"):
        answer = api.get("/openapi.json", headers={"Accept-Encoding": accepted})
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Vary"] == "Accept-Encoding"
    small = api.get("/health/live", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers


def test_the_bytes_are_the_same(api_url):
    plain = httpx.get(f"{api_url}/openapi.json", headers={"Accept-Encoding": "identity"}).content
    with httpx.stream("GET", f"{api_url}/openapi.json", headers={"Accept-Encoding": "gzip"}) as answer:
        packed = b"".join(answer.iter_raw())
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 4


def test_media_is_not_compressed(api, api_folder):
    (api_folder / "plain.avi").write_bytes(b"\0" * 100_000)
    video = api.post("/v1/videos", json={"source": str(api_folder / "plain.avi"), "pipeline": []}).json()["video_id"]
    answer = api.get(f"/v1/videos/{video}/stream", headers={"Accept-Encoding": "gzip"})
    assert (answer.headers["Content-Length"], len(answer.content)) == ("100000", 100_000)
    assert "Content-Encoding" not in answer.headers
    asked = api.head(f"/v1/videos/{video}/stream", headers={"Range": "bytes=0-9"})
    assert (asked.status_code, asked.headers["Content-Length"], asked.content) == (206, "10", b"")


@given(st.binary(max_size=30))
def test_no_accept_encoding_is_too_odd(value):
    assert accepts_gzip([(b"accept-encoding", value)]) in (True, False)
