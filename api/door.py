"""What every request passes before the application: the host, the page it comes from, what its body is.

It stands around the application because the framework's own middleware runs only behind a route that was found.
"""

from collections.abc import Iterable

from litestar import Litestar, Request
from litestar.enums import ScopeType
from litestar.types import Message, Receive, Scope, Send

from api.compression import Compressed, accepts_gzip
from api.hosts import Hosts
from api.problems import UnsupportedMediaType, problem_of
from domain.errors import EiokuError

PROBED = "/health/live"
"""Takes GET alone, and answers under every name: load balancers ask by an address that nobody knows beforehand."""


class Door:
    """The ASGI application that the server runs."""

    def __init__(self, app: Litestar, hosts: Hosts) -> None:
        self.app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        try:
            if scope["path"] != PROBED:
                self._hosts.check(scope)
            _check_body(scope["headers"])
        except EiokuError as error:
            refusal = problem_of(error).to_asgi_response(app=None, request=Request(scope, receive, send))
            await refusal(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # The server knows from its own scope that no body may follow.
            scope, send = {**scope, "method": "GET"}, _Head(send).send
        answer = Compressed(send, accepted=accepts_gzip(scope["headers"]))
        await self.app(scope, receive, answer.send)


class _Head:
    """Passes the head of an answer on and ends the answer with its first piece: the server then tells the application
    that nobody listens any more, so that a stream ends too.
    """

    def __init__(self, send: Send) -> None:
        self._send, self._has_ended = send, False

    async def send(self, message: Message) -> None:
        """One message of the answer to a GET."""
        if message["type"] != "http.response.body":
            await self._send(message)
        elif not self._has_ended:
            self._has_ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _check_body(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a body that does not say what it is, or that is compressed."""
    kinds, has_body = 0, False
    for name, value in headers:
        if name == b"content-type":
            kinds += bool(value.strip())
        elif name == b"content-encoding":
            if value.strip().lower() not in (b"", b"identity"):
                raise UnsupportedMediaType("send the body as it is, without Content-Encoding")
        elif name == b"transfer-encoding":
            has_body = True
        elif name == b"content-length":
            has_body = has_body or value.strip() != b"0"
    if kinds > 1 or (has_body and not kinds):
        raise UnsupportedMediaType("a body needs one Content-Type that says what it is")
