"""One API over one database for all API tests; each test has a tenant of its own."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest

from tests.support.api_server import running_api
from tests.support.http_files import Files, serving


@pytest.fixture(scope="session")
def api_database(postgres_url: str, _template: str) -> Iterator[str]:
    """URL of a database that API tests share."""
    name = f"api_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {_template}")
        yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def api_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The media root of the shared API."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    """A server on this machine whose files the shared API takes as sources."""
    with serving(tmp_path_factory.mktemp("elsewhere")) as files:
        yield files


@pytest.fixture(scope="session")
def api_url(api_database: str, api_folder: Path, elsewhere: Files) -> Iterator[str]:
    """Base URL of the shared API, which takes small uploads and bodies only."""
    with running_api(
        api_database,
        api_folder,
        media_roots=(api_folder, "s3://films/holiday", elsewhere.url),
        max_upload_bytes=2_000_000,
        max_body_bytes=1_000_000,
    ) as url:
        yield url


class Api(httpx.Client):
    """A client in a tenant of its own; reads wait for what it wrote."""

    position = 0

    def request(self, method, url, **more):
        params = dict(more.pop("params", None) or {})
        if method in ("GET", "HEAD") and self.position and "min_position" not in params:
            params |= {"min_position": self.position, "wait_ms": 20_000}
        if params:
            more["params"] = httpx.URL(url).params.merge(params)
        answer = super().request(method, url, **more)
        if method not in ("GET", "HEAD"):
            self.position = max(self.position, int(answer.headers.get("Eioku-Position", 0)))
        return answer


@pytest.fixture
def api(api_url: str) -> Iterator[Api]:
    """A client of the shared API."""
    with Api(base_url=api_url, headers={"Eioku-Tenant": f"t-{uuid.uuid4().hex[:12]}"}, timeout=60) as client:
        yield client
