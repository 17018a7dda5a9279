"""A small client of our own REST API, for the command line and the demo. Standard library only: starts at once."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from domain.errors import EiokuError, InvalidParameter, ServiceUnavailable
from infrastructure.redaction import redacted

if TYPE_CHECKING:
    from http.client import HTTPResponse

_MOST_BYTES = 256 << 20
"""Of one answer. Pages are far smaller; a server that never ends must not fill the memory."""


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
        self._shown = redacted(self.url)
        self.position = 0
        """Log position of the newest write; `get` asks to see at least that."""

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer to a GET; parameters that are None are left out.

        Raises:
            ApiRefused: any answer of 400 and more.
            InvalidParameter: a value is not Unicode text, as a file name or an argument need not be.
            ServiceUnavailable: nobody answers, or what answers is not Eioku.
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
        try:
            url = self.url + path + ("?" + urllib.parse.urlencode(given, doseq=True) if given else "")
            data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InvalidParameter("argument", f"{ascii(error.object)[:200]} is not UTF-8 text") from error
        own = {"Eioku-Tenant": self.tenant, "Accept": "application/json", **(headers or {})}
        if data is not None:
            own["Content-Type"] = "application/json"
        request = urllib.request.Request(url, data=data, method=method, headers=own)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                return self._taken(method, answer)
        except urllib.error.HTTPError as error:
            with error:
                raise ApiRefused(error.code, self._problem(error)) from error
        except (OSError, HTTPException, ValueError) as error:
            raise ServiceUnavailable(f"nobody answers at {self._shown}: {redacted(str(error))}") from error

    def _taken(self, method: str, answer: "HTTPResponse") -> Any:
        """The JSON in an answer of Eioku; remembers how far a write went."""
        position = answer.headers.get("Eioku-Position") or ""
        content = answer.read(_MOST_BYTES + 1)
        # Every read of the API answers its position, so without one this is another server.
        if (method == "GET" and not position.isdecimal()) or len(content) > _MOST_BYTES:
            raise self._foreign(f"{answer.status} {answer.headers.get_content_type()}")
        if method != "GET" and position.isdecimal():
            self.position = max(self.position, int(position))
        try:
            return json.loads(content) if content else None
        except (ValueError, RecursionError) as error:
            raise self._foreign("no JSON") from error

    def _problem(self, error: urllib.error.HTTPError) -> dict[str, Any]:
        try:
            found = json.loads(error.read(_MOST_BYTES))
        except (OSError, HTTPException, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or "code" not in found:
            raise self._foreign(f"{error.code} {error.reason}") from error
        return found

    def _foreign(self, said: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"{self._shown} is not an Eioku API, or a proxy answers for it: it said {said[:200]!r}; check EIOKU_API_URL"
        )
