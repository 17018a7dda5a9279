"""Idempotency keys: the same key with the same request gives the same answer, also when both come at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, cast

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPRequestEvent, Message, Receive, Scope, Send
from psycopg_pool import AsyncConnectionPool

from api.receiving import SHORT_BYTES, WRITES, is_upload
from domain.errors import IdempotencyMismatch, ServiceUnavailable

KEPT = "2 days"
"""How long an answer is remembered."""
TURN_S = 30.0
"""How long a request waits for one with the same key."""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer, as it was and will be given."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Keys:
    """The keys that were used, in the database, so that any API process knows them."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        # A pool of its own: a keyed request holds a connection while it does its work with others.
        self._pool = pool
        self._here: dict[tuple[str, str], _Turn] = {}

    async def once(
        self, tenant: str, key: str, digest: bytes, produce: Callable[[], Awaitable[Answer]]
    ) -> tuple[Answer, bool]:
        """What `produce` answers, or what it answered to this key before; whether it was before.

        Raises:
            IdempotencyMismatch: the key was used with a request of another digest.
        """
        async with self._turn((tenant, key)), self._pool.connection() as connection, connection.transaction():
            # Other processes wait here; a crash lets go.
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"api.idempotency/{tenant}/{key}",)
            )
            cursor = await connection.execute(
                "SELECT digest, answer FROM api.idempotency WHERE tenant_id = %s AND key = %s", (tenant, key)
            )
            known = await cursor.fetchone()
            if known is not None:
                if bytes(known[0]) != digest:
                    raise IdempotencyMismatch(f"idempotency key {key!r} was used with another request")
                return msgspec.msgpack.decode(known[1], type=Answer), True
            answer = await produce()
            if answer.status < 500 and answer.status != 429:
                await connection.execute(
                    "INSERT INTO api.idempotency (tenant_id, key, digest, answer) VALUES (%s, %s, %s, %s)",
                    (tenant, key, digest, msgspec.msgpack.encode(answer)),
                )
                await connection.execute(
                    "DELETE FROM api.idempotency WHERE (tenant_id, key) IN (SELECT tenant_id, key FROM"
                    " api.idempotency WHERE created_at < now() - %s::interval LIMIT 10 FOR UPDATE SKIP LOCKED)",
                    (KEPT,),
                )
            return answer, False

    @asynccontextmanager
    async def _turn(self, of: tuple[str, str]) -> AsyncIterator[None]:
        """One at a time for each key in this process, so that waiting takes no connections."""
        turn = self._here.setdefault(of, _Turn())
        turn.waiting += 1
        try:
            try:
                async with asyncio.timeout(TURN_S):
                    await turn.lock.acquire()
            except TimeoutError as error:
                raise ServiceUnavailable("a request with the same idempotency key is still under way") from error
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                self._here.pop(of, None)


class _Turn:
    def __init__(self) -> None:
        self.lock, self.waiting = asyncio.Lock(), 0


class Idempotency:
    """ASGI middleware: writes that carry a key, their bodies whole. Uploads are left to their handler, which hashes while
    it stores.
    """

    def __init__(self, app: ASGIApp, *, keys: Callable[[], Keys]) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP or "key" not in scope["state"] or scope["method"] not in WRITES:
            await self.app(scope, receive, send)
            return
        if is_upload(scope):
            await self.app(scope, receive, send)
            return
        kind = next((v for n, v in scope["headers"] if n == b"content-type"), b"")
        body = cast("HTTPRequestEvent", await receive())["body"]
        about = (scope["method"].encode(), scope["raw_path"], scope["query_string"], kind, body)
        digest = await asyncio.to_thread(_digest, about) if len(body) > SHORT_BYTES else _digest(about)
        state = scope["state"]

        async def produce() -> Answer:
            return await captured(self.app, scope, body)

        answer, _ = await self.keys().once(state["tenant"], state["key"], digest, produce)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def _digest(parts: Sequence[bytes]) -> bytes:
    return sha256(b"\0".join(parts)).digest()


async def captured(app: ASGIApp, scope: Scope, body: bytes) -> Answer:
    """What `app` answers to a request with this body."""
    status, headers, parts = 500, [], []
    sent = False

    async def receive() -> Any:
        nonlocal sent
        if sent:
            # Whether the client leaves or not: what a key stands for is done whole.
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = [(bytes(n), bytes(v)) for n, v in message["headers"]]
            # The position belongs to the answer: a replay must name the one at which the effect can be read.
            if "position" in scope["state"]:
                headers.append((b"eioku-position", str(scope["state"]["position"]).encode()))
        elif message["type"] == "http.response.body":
            parts.append(message["body"])

    await app(scope, receive, send)
    return Answer(status, headers, b"".join(parts))
