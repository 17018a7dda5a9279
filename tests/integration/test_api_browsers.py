"""Requests that a foreign page makes through somebody's browser, under our name or under its own."""

import json
import uuid
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from api.authority import Authority, Origin
from api.hosts import Hosts
from api.problems import Forbidden, HostNotOurs
from tests.support.api_server import running_api
from tests.support.raw_http import answer_to
from tests.support.tiny_avi import tiny_avi

OURS = ("eioku.example.org", "nas:8700", "[fd00::7]")
FRIEND = "https://app.example.org"


@pytest.fixture(scope="module")
def url(api_database, tmp_path_factory):
    with running_api(
        api_database,
        tmp_path_factory.mktemp("browsers"),
        projections=False,
        hosts=OURS,
        cors_origins=(FRIEND,),
    ) as url:
        yield url


def get(url, *hosts, version="1.1", path="/v1/videos"):
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    return answer_to(url, f"GET {path} HTTP/{version}\r\n{lines}\r\n".encode("latin-1"))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8700",
        "localhost.",
        "localhost:1",
        "127.0.0.1",
        "127.0.0.1:8700",
        "[::1]",
        "[0:0:0:0:0:0:0:1]:8700",
        "eioku.example.org",
        "EIOKU.example.ORG.:443",
        "nas:8700",
        "[FD00:0::7]:9",
    ],
)
def test_our_own_names_are_answered_in_all_spellings(url, host):
    assert get(url, host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8700",
        "127.0.0.1.evil.example",
        "xeioku.example.org",
        "sub.eioku.example.org",
        "nas",
        "nas:80",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "[::]",
        "[::1",
        "localhost@evil.example",
        "localhost, evil.example",
        "localhost/",
        "",
        "\xe4",
        "a" * 5_000,
    ],
)
@pytest.mark.parametrize("path", ["/v1/videos", "/nowhere", "/docs"])
def test_any_other_name_is_421_wherever_it_asks(url, host, path):
    status, answer = get(url, host, path=path)
    assert status in (421, 400), answer
    problem = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert problem["status"] == status
    assert status == 400 or problem["code"] == "MISDIRECTED_REQUEST"


def test_a_request_has_exactly_one_host(url):
    assert get(url, "localhost", "localhost")[0] == 400
    assert get(url, "localhost", "evil.example")[0] == 400
    assert get(url)[0] == 400
    assert get(url, version="1.0")[0] == 421
    assert get(url, "localhost", version="1.0")[0] == 200


def test_a_load_balancer_may_ask_by_any_name_whether_it_lives(url):
    assert get(url, "10.0.0.17:8700", path="/health/live")[0] == 200
    assert get(url, version="1.0", path="/health/live")[0] == 200
    assert get(url, "10.0.0.17:8700", path="/health/ready")[0] == 421


def test_what_a_proxy_says_about_the_host_is_not_believed(url):
    forged = {"X-Forwarded-Host": "localhost", "Forwarded": "host=localhost", "X-Forwarded-For": "127.0.0.1"}
    assert httpx.get(f"{url}/v1/videos", headers={"Host": "evil.example", **forged}).status_code == 421
    assert httpx.get(f"{url}/v1/videos", headers={"X-Forwarded-Host": "evil.example"}).status_code == 200
    posed = httpx.post(
        f"{url}/v1/queues/all/pause", headers={"Origin": "https://localhost", "X-Forwarded-Proto": "https"}
    )
    assert posed.status_code == 403


def foreign(origin=None, site=None):
    return [("Origin", origin)] * (origin is not None) + [("Sec-Fetch-Site", site)] * (site is not None)


FOREIGN = [
    foreign("https://evil.example"),
    foreign("null"),
    foreign("http://localhost"),  # another port of this machine is another program
    foreign("http://localhost:3000"),
    foreign("http://127.0.0.1:8700.evil.example"),
    foreign("http://eioku.example.org:8080"),
    foreign("http://nas"),
    foreign("chrome-extension://abcdef"),
    foreign(""),
    foreign(site="cross-site"),
    foreign(site="same-site"),
    foreign(site="SAME-ORIGIN"),
    foreign(site=""),
    foreign("https://evil.example", "same-origin"),
    foreign("https://evil.example", "none"),
    foreign("https://evil.example") + foreign(FRIEND),
    foreign(FRIEND) + foreign(FRIEND),
    foreign(site="same-origin") + foreign(site="cross-site"),
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_origin_changes_nothing(url, api_folder, headers):
    avi, tenant = tiny_avi(api_folder / "page.avi"), {"Eioku-Tenant": f"t-{uuid.uuid4().hex[:8]}"}
    sent = headers + list(tenant.items())
    form = {"files": {"file": ("a.avi", avi.read_bytes())}}
    for method, path, body in (
        ("POST", "/v1/videos", {"json": {"source": str(avi)}}),
        ("POST", "/v1/videos", form),
        ("PUT", f"/v1/videos/{uuid.uuid4()}", form),
        ("DELETE", f"/v1/videos/{uuid.uuid4()}", {}),
        ("POST", "/v1/queues/all/pause", {}),
        ("POST", "/v1/rerun", {"json": {"task_type": "ocr", "dry_run": False}}),
        ("POST", f"/v1/videos/{uuid.uuid4()}/imports", {"content": b"WEBVTT", "headers": [("Content-Type", "text/vtt")]}),
        ("PATCH", "/nowhere", {}),
    ):
        more = dict(body)
        answer = httpx.request(method, url + path, headers=[*sent, *more.pop("headers", [])], **more)
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN"), (method, path, answer.text)
    assert httpx.get(f"{url}/v1/videos", headers=sent).json()["videos"] == []


@pytest.mark.parametrize(
    "headers",
    [
        [],
        foreign(site="same-origin"),
        foreign(site="none"),
        foreign("{url}"),
        foreign("{url}", "same-origin"),
        foreign("https://eioku.example.org"),  # behind a proxy that replaces the Host
        foreign("http://nas:8700"),
        foreign(FRIEND),
        foreign(FRIEND, "cross-site"),
        foreign("HTTPS://APP.example.org:443", "cross-site"),
    ],
)
def test_programs_our_own_pages_and_friends_may(url, headers):
    sent = [(name, value.replace("{url}", url)) for name, value in headers]
    answer = httpx.post(f"{url}/v1/rerun", headers=sent, json={"task_type": "ocr"})
    assert answer.status_code == 200, answer.text


def test_a_page_behind_a_proxy_that_encrypts_is_our_own(url):
    for host, origin in (
        ("eioku.example.org", "https://eioku.example.org"),
        ("localhost:8443", "https://localhost:8443"),
        ("localhost:443", "https://localhost"),
    ):
        headers = {"Host": host, "Origin": origin}
        assert httpx.post(f"{url}/v1/rerun", headers=headers, json={"task_type": "ocr"}).status_code == 200


def test_reading_needs_no_origin_but_only_friends_may_see_the_answer(url):
    for origin, is_friend in ((FRIEND, True), ("https://evil.example", False), ("null", False)):
        answer = httpx.get(f"{url}/v1/videos", headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 200
        assert (answer.headers.get("Access-Control-Allow-Origin") == origin) == is_friend
        ask = {"Origin": origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
        preflight = httpx.options(f"{url}/v1/videos/{uuid.uuid4()}", headers=ask)
        assert (preflight.headers.get("Access-Control-Allow-Origin") == origin) == is_friend
        assert (preflight.status_code == 204) == is_friend


def test_without_friends_there_are_no_cors_headers(api_url):
    headers = {"Origin": FRIEND, "Access-Control-Request-Method": "PUT"}
    for answer in (httpx.get(f"{api_url}/v1/videos", headers=headers), httpx.options(f"{api_url}/v1/videos", headers=headers)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_body_says_what_it_is(url):
    host = f"Host: {urlsplit(url).netloc}\r\n"
    body = '{"task_type":"ocr"}'
    for head, status in (
        (f"Content-Length: {len(body)}\r\n", 415),
        (f"Content-Type:\r\nContent-Length: {len(body)}\r\n", 415),
        (f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n", 415),
        (f"Content-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n", 415),
        (f"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n", 415),
        (f"Content-Type: application/json\r\nContent-Encoding: identity, br\r\nContent-Length: {len(body)}\r\n", 415),
        (f"Content-Type: application/json\r\nContent-Encoding: Identity\r\nContent-Length: {len(body)}\r\n", 200),
        (f"Content-Type: Application/JSON; charset=utf-8\r\nContent-Length: {len(body)}\r\n", 200),
    ):
        for path in ("/v1/rerun",) + ("/v1/videos",) * (status == 415):
            answer = answer_to(url, f"POST {path} HTTP/1.1\r\n{host}{head}\r\n{body}".encode())
            assert answer[0] == status, (path, head, answer)
    chunked = f"POST /v1/rerun HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    assert answer_to(url, chunked.encode())[0] == 415


def test_nothing_needs_no_type(api):
    assert api.post(f"/v1/tasks/{uuid.UUID(int=1)}/cancel").json()["code"] == "TASK_NOT_FOUND"
    assert api.post(f"/v1/tasks/{uuid.UUID(int=1)}/cancel", headers={"Content-Length": "0"}).status_code == 404


HOSTS = Hosts(OURS, (FRIEND,))
TEXTS = st.text(st.characters(codec="latin-1"), max_size=40) | st.from_regex(r"(http://)?[a-z.\[\]:0-9]{0,20}", fullmatch=True)


@given(host=TEXTS, origin=TEXTS, site=st.sampled_from(["same-origin", "none", "cross-site", "same-site", "x", None]))
@example(host="localhost", origin="http://localhost", site=None)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_the_headers_say_only_our_pages_pass(host, origin, site):
    headers = [(b"host", host.encode("latin-1")), (b"origin", origin.encode("latin-1"))]
    headers += [(b"sec-fetch-site", site.encode())] if site else []
    named, page = Authority.parse(host), Origin.parse(origin)
    is_ours = named is not None and (named.host in ("localhost", "127.0.0.1", "[::1]", "eioku.example.org", "[fd00::7]") or named == ("nas", 8700))
    may = is_ours and page is not None and site in ("same-origin", "none", None) and page.is_at(named)
    try:
        HOSTS.check({"headers": headers, "method": "POST", "http_version": "1.1"})
    except (Forbidden, HostNotOurs):
        assert not may
    else:
        named_ours = page is not None and page.host in ("eioku.example.org", "[fd00::7]", "nas", "app.example.org")
        assert may or (is_ours and named_ours)
