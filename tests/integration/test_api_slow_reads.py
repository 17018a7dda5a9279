"""Reads that take long, and readers that leave: they hold nothing that others need."""

import time
import uuid
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from tests.support.api_server import running_api
from tests.support.raw_http import connection

CONNECTIONS = 4


@contextmanager
def locked(database, table):
    """No statement gets at the table."""
    with psycopg.connect(database) as holder:
        holder.execute(f"LOCK TABLE read.{table} IN ACCESS EXCLUSIVE MODE")
        yield
        holder.rollback()


def at_work(database):
    with psycopg.connect(database, autocommit=True) as looking:
        return looking.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'eioku api' AND state = 'active'"
            " AND datname = current_database()"
        ).fetchone()[0]


def until(condition):
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


READS = [
    ("/v1/videos/{id}/find?q=dog&direction=next", "transcript_fts"),
    ("/v1/artifacts/search?kind=object&label=dog", "object_labels"),
    ("/v1/tasks", "tasks"),
    ("/v1/videos", "videos"),
    ("/v1/facets?kind=face", "run_types"),
]


@pytest.mark.parametrize(("path", "table"), READS)
def test_what_nobody_waits_for_any_more_is_cancelled(database, tmp_path, path, table):
    with running_api(database, tmp_path, projections=False, read_connections=CONNECTIONS) as url:
        ask = f"GET {path.format(id=uuid.UUID(int=1))} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode()
        with locked(database, table):
            for _ in range(10):
                clients = [connection(url) for _ in range(CONNECTIONS)]
                for client in clients:
                    client.sendall(ask)
                until(lambda: at_work(database) >= 1)
                for client in clients:
                    client.close()
            until(lambda: at_work(database) == 0)
            # All connections are there again, for whoever asks for something else.
            assert httpx.get(f"{url}/v1/runs/{uuid.UUID(int=1)}", timeout=30).status_code == 404
        assert httpx.get(url + path.format(id=uuid.UUID(int=1)), timeout=30).status_code in (200, 404)


@pytest.mark.parametrize(("path", "table"), READS)
def test_a_read_that_takes_too_long_is_a_503_that_says_so(database, tmp_path, path, table):
    with running_api(database, tmp_path, projections=False, read_timeout_s=0.5) as url:
        with locked(database, table):
            answer = httpx.get(url + path.format(id=uuid.UUID(int=1)), timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert "too long" in answer.json()["detail"]
        assert answer.headers["Retry-After"] == "1"


def test_a_write_goes_on_when_its_client_leaves(database, tmp_path):
    with running_api(database, tmp_path) as url:
        made = httpx.post(f"{url}/v1/discover", json={"root": str(tmp_path)}).headers
        httpx.get(f"{url}/v1/videos", params={"min_position": made["Eioku-Position"], "wait_ms": 20_000})
        body = b'{"task_type":"ocr","dry_run":true}'
        ask = (
            b"POST /v1/rerun HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Idempotency-Key: once\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        with locked(database, "videos"), connection(url) as client:
            client.sendall(ask)
            until(lambda: at_work(database) >= 1)
        until(lambda: at_work(database) == 0)
        with psycopg.connect(database, autocommit=True) as looking:
            until(lambda: looking.execute("SELECT count(*) FROM api.idempotency").fetchone()[0] == 1)
