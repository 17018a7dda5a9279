"""Clients that send half a request, an endless one, or nothing: somebody else's request is answered all the same."""

import json
import resource
import socket
import time
import uuid
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from api import connections
from tests.support.api_server import running_api
from tests.support.raw_http import answer_to, connection, read_answer

MOST = 50


@pytest.fixture(scope="module")
def url(api_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("connections")
    with running_api(api_database, folder, projections=False, most_connections=MOST) as url:
        yield url


@pytest.fixture
def short(monkeypatch):
    """Deadlines of a second, so that a test need not wait for them."""
    for name in ("HEAD_S", "BODY_S", "READER_S", "LINGER_S"):
        monkeypatch.setattr(connections, name, 1.0)


def head(url, more=""):
    return f"GET /health/live HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n{more}\r\n".encode()


def lives(url):
    return httpx.get(f"{url}/health/live", timeout=30).status_code == 200


@pytest.mark.parametrize("begin", [b"", b"G", b"GET / HTTP/1.1\r\nHost: localh", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_half_sent_heads_lock_nobody_out(url, begin):
    with ExitStack() as held:
        for _ in range(4 * MOST):
            client = held.enter_context(connection(url))
            client.sendall(begin)
            client.setblocking(False)
        assert all(lives(url) for _ in range(20))


def test_a_client_that_is_served_is_not_the_one_that_makes_room(url):
    with httpx.Client(base_url=url, timeout=30) as kept, ExitStack() as held:
        for _ in range(3 * MOST):
            held.enter_context(connection(url)).sendall(b"GET")
            assert kept.get("/health/live").status_code == 200  # never idle for as long as the others


def is_refused(answer, status):
    code, came = answer
    # A client that goes on sending after the answer may see the connection break before it has read it.
    assert code in (status, None), came[:300]
    if code is not None:
        problem = json.loads(came.partition(b"\r\n\r\n")[2])
        assert problem["status"] == status
    return True


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?q=" + b"a" * 10_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 65_536 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10_000_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X:1\r\n" * 101 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X:1\r\n" * 500_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X" * 10_000_000 + b": 1\r\n",
        b"POST /v1/rerun HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: 1\r\n" * 500_000,
        b"POST /v1/rerun HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 10_000_000,
    ],
    ids=["path", "query", "value", "endless value", "lines", "endless lines", "name", "trailers", "chunk extension"],
)
def test_an_oversized_head_is_refused(url, request_):
    assert is_refused(answer_to(url, request_), 431)
    assert lives(url)


def test_the_largest_heads_that_are_allowed_are_served(url):
    assert answer_to(url, head(url, "X:1\r\n" * 99))[0] == 200
    assert answer_to(url, head(url, "X: " + "a" * 60_000 + "\r\n"))[0] == 200
    # In many small pieces, too.
    with connection(url) as client:
        for byte in head(url):
            client.sendall(bytes([byte]))
        assert read_answer(client)[0] == 200


def test_a_trailer_is_no_header(url):
    body = b'{"task_type":"ocr"}'
    request = (
        b"POST /v1/rerun HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        b"\r\n%x\r\n%s\r\n0\r\nContent-Type: text/plain\r\nEioku-Tenant: NOT VALID\r\nHost: evil.example\r\n\r\n"
    )
    assert answer_to(url, request % (len(body), body))[0] == 200


@pytest.mark.parametrize("rubbish", [b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET  HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_is_said_to_be_none(url, rubbish):
    status, came = answer_to(url, rubbish)
    assert status == 400
    assert json.loads(came.partition(b"\r\n\r\n")[2])["code"] == "MALFORMED_REQUEST"


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET / HT",
        b"POST /v1/rerun HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        (
            b"POST /v1/rerun HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: %s\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
        ),
        (
            b"POST /v1/videos HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 9999\r\n\r\n--x\r\n"
        ),
    ],
    ids=["nothing", "head", "body", "keyed body", "upload"],
)
def test_who_keeps_us_waiting_is_told_so_and_let_go(url, begin):
    begin = begin.replace(b"%s", uuid.uuid4().hex.encode())
    status, came = answer_to(url, begin, timeout_s=60)
    assert status == 408, came
    assert lives(url)


@pytest.mark.usefixtures("short")
def test_a_body_that_trickles_is_let_go(url):
    request = b"POST /v1/rerun HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
    with connection(url, 60) as client:
        client.sendall(request)
        client.setblocking(False)
        ends = time.monotonic() + 60
        came = b""
        while not came and time.monotonic() < ends:
            try:
                client.sendall(b" ")
                came = client.recv(1000)
            except BlockingIOError:
                time.sleep(0.1)
    assert came.startswith(b"HTTP/1.1 408")


@pytest.mark.usefixtures("short")
def test_a_slow_body_that_gets_on_is_taken(url):
    body = b'{"task_type":"ocr"}' + b" " * 5_000
    request = b"POST /v1/rerun HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with connection(url, 60) as client:
        client.sendall(request % len(body))
        for start in range(0, len(body), 200):
            client.sendall(body[start : start + 200])
            time.sleep(0.1)  # 2 kB/s, for longer than a deadline
        assert read_answer(client)[0] == 200


@pytest.mark.usefixtures("short")
def test_a_next_request_has_a_deadline_of_its_own(url):
    with connection(url, 60) as client:
        client.sendall(head(url))
        assert read_answer(client)[0] == 200
        time.sleep(2.5)  # a connection may be kept for longer than a head may take
        client.sendall(head(url))
        assert read_answer(client)[0] == 200
        client.sendall(b"GET /heal")
        assert read_answer(client)[0] == 408


@pytest.mark.usefixtures("short")
def test_a_reader_that_takes_nothing_is_let_go(url, api_url, api, api_folder):
    big = api_folder / "big.avi"
    big.write_bytes(b"\0" * 20_000_000)
    video = api.post("/v1/videos", json={"source": str(big), "pipeline": []}).json()["video_id"]
    api.get(f"/v1/videos/{video}")
    place = urlsplit(api_url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((place.hostname, place.port))
        client.settimeout(60)
        tenant = api.headers["Eioku-Tenant"]
        client.sendall(f"GET /v1/videos/{video}/stream HTTP/1.1\r\nHost: localhost\r\nEioku-Tenant: {tenant}\r\n\r\n".encode())
        assert client.recv(15).startswith(b"HTTP/1.1 200")
        time.sleep(4)
        got = 0
        with suppress(OSError):
            while piece := client.recv(1 << 20):
                got += len(piece)
        assert got < 20_000_000


def test_one_connection_cannot_queue_requests_without_end(url):
    with connection(url) as client:
        client.sendall(head(url) * 5)
        came = b""
        while came.count(b"HTTP/1.1 200 OK") < 5 and (piece := client.recv(65536)):
            came += piece
        assert came.count(b"HTTP/1.1 200 OK") == 5
    many = answer_to(url, head(url) * 2_000)
    assert many[0] in (200, 429, None)
    assert lives(url)


def test_descriptors_are_raised_to_what_the_system_allows(url):
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert lives(url)
    assert now == most or now >= 65_536
