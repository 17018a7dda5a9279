"""What happens around every request that found its route: tenant, parameters, position, figures."""

import re
from collections.abc import Callable, Mapping
from time import perf_counter

from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from api.parameters import EVERY_READ, Parameters
from domain.errors import InvalidParameter, PositionNotReached
from projectors.position import ServedPosition

TENANT = re.compile(rb"[a-z0-9-]{1,63}")
KEY = re.compile(rb"[\x21-\x7e]{1,200}")
WAIT_MS, MOST_WAIT_MS = 2_000, 30_000


class Edge:
    """ASGI middleware of every route: checks the tenant and the parameters, lets reads wait for a position, says which
    was served.
    """

    def __init__(
        self, app: ASGIApp, *, served: ServedPosition, metrics: Metrics, parameters: Callable[[], Parameters]
    ) -> None:
        self.app, self.served, self.metrics, self.parameters = app, served, metrics, parameters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        state, method, status = scope["state"], scope["method"], 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if "position" in state:
                    MutableScopeHeaders.from_message(message)["Eioku-Position"] = str(state["position"])
                if method == "OPTIONS":
                    # The framework's own answer names the methods of one handler where several share a path.
                    MutableScopeHeaders.from_message(message)["Allow"] = self.parameters().allowed(scope)
            await send(message)

        try:
            self._identify(scope)
            if method != "OPTIONS":
                query = self.parameters().check(scope)
                if method == "GET":
                    state["position"] = await self._wait(query)
            await self.app(scope, receive, answer)
        except InvalidParameter:
            status = 422
            raise
        except PositionNotReached:
            status = 504
            raise
        finally:
            self.metrics.observe(scope.get("path_template", ""), method, status, perf_counter() - began)

    @staticmethod
    def _identify(scope: Scope) -> None:
        state = scope["state"]
        state["tenant"] = "default"
        for name, value in scope["headers"]:
            if name == b"eioku-tenant":
                if not TENANT.fullmatch(value):
                    raise InvalidParameter("Eioku-Tenant", "1 to 63 lower-case letters, digits and -")
                state["tenant"] = value.decode()
            elif name == b"idempotency-key":
                if not KEY.fullmatch(value):
                    raise InvalidParameter("Idempotency-Key", "1 to 200 visible ASCII characters")
                state["key"] = value.decode()

    async def _wait(self, query: Mapping[str, str]) -> int:
        """The position served, once it is the one asked for."""
        if not query.keys() & EVERY_READ:
            return self.served.now()
        position = _whole(query, "min_position", 0, 2**63 - 1)
        wait_ms = _whole(query, "wait_ms", WAIT_MS, MOST_WAIT_MS)
        return await self.served.reach(position, wait_ms / 1000)


def _whole(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise InvalidParameter(name, f"a whole number from 0 to {most}")
    return int(text)
