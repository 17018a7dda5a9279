"""A small client of our own REST API, for the command line and the demo. Standard library only: starts at once."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any
from uuid import uuid4

from domain.errors import EiokuError, ServiceUnavailable


class ApiRefused(EiokuError):
    """The API answered with a problem; the sentence is its detail."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status, self.problem = status, problem
        self.code_sent = str(problem.get("code", status))
        super().__init__(f"{problem.get('detail') or problem.get('title') or status} ({self.code_sent})")


class Client:
    """Speaks to one API; answers are plain JSON values."""

    def __init__(self, url: str, *, tenant: str = "default", timeout_s: float = 60) -> None:
        self.url, self.tenant, self._timeout_s = url.rstrip("/"), tenant, timeout_s
        self.position = 0
        """Log position of the newest write; `get` asks to see at least that."""

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer to a GET; parameters that are None are left out.

        Raises:
            ApiRefused: any answer of 400 and more.
            ServiceUnavailable: nobody answers.
        """
        if self.position:
            query = {"min_position": self.position, "wait_ms": 10_000} | query
        return self._send("GET", path, query=query)

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer to a POST; safe to repeat by the caller, since each call has its own idempotency key."""
        return self._send("POST", path, body=body, headers={"Idempotency-Key": str(uuid4())})

    def put(self, path: str, body: Any) -> Any:
        """The JSON answer to a PUT."""
        return self._send("PUT", path, body=body)

    def pages(self, path: str, key: str, **query: Any) -> Iterator[Any]:
        """All items of a paged list; each carries the cursor to go on after it."""
        while True:
            page = self.get(path, **query)
            yield from page[key]
            if not page["has_more"]:
                return
            query["cursor"] = page[key][-1]["cursor"]

    def _send(
        self, method: str, path: str, *, query: dict[str, Any] | None = None, body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Any:  # fmt: skip
        given = {name: value for name, value in (query or {}).items() if value is not None}
        url = self.url + path + ("?" + urllib.parse.urlencode(given, doseq=True) if given else "")
        data = None if body is None else json.dumps(body).encode()
        own = {"Eioku-Tenant": self.tenant, "Accept": "application/json", **(headers or {})}
        if data is not None:
            own["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data=data, method=method, headers=own)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                content = answer.read()
                if method != "GET" and (position := answer.headers.get("Eioku-Position")):
                    self.position = max(self.position, int(position))
                return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            raise ApiRefused(error.code, _problem(error.read(), error.code)) from error
        except (OSError, HTTPException) as error:
            raise ServiceUnavailable(f"nobody answers at {self.url}: {error}") from error


def _problem(content: bytes, status: int) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"title": content.decode(errors="replace")[:500] or str(status)}
