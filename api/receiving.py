"""Bodies that are no uploads: received whole before anything else is done, bounded, and long ones handled in turn.

Whoever sends slowly holds a file and no memory; whoever sends much waits for those before.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPRequestEvent, HTTPScope, Receive, Scope, Send

from api.local import turn
from api.problems import MalformedBody
from domain.errors import ServiceUnavailable, TooLarge

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
BODY = "body"
"""Option of a handler: what kind of body it takes, UPLOAD or LONG; all others take short ones."""
UPLOAD, LONG = "upload", "long"
SHORT_BYTES = 256 * 1024
"""Takes some 30 ms to decode, whatever it holds."""
IN_MEMORY = 64 * 1024
LONG_AT_ONCE = 2
"""One of 32 MB becomes 150 MB of objects."""


class Receiving:
    """ASGI middleware: the application sees a whole body in one message."""

    def __init__(self, app: ASGIApp, *, most_bytes: int, folder: Path) -> None:
        self.app, self.most_bytes, self.folder = app, most_bytes, folder
        self._turns = asyncio.Semaphore(LONG_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP or scope["method"] not in WRITES or is_upload(scope):
            await self.app(scope, receive, send)
            return
        most = self.most_bytes
        if scope["route_handler"].opt.get(BODY) != LONG:
            most = min(SHORT_BYTES, most)
        async with self._received(receive, most) as body:
            await self.app(scope, _first(body, receive), send)

    @asynccontextmanager
    async def _received(self, receive: Receive, most: int) -> AsyncIterator[bytes]:
        """The whole body, in memory for the block."""
        file: SpooledTemporaryFile[bytes]
        with SpooledTemporaryFile(IN_MEMORY, dir=str(self.folder)) as file:
            size, more = 0, True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise MalformedBody("the client left before the body was whole")
                size, more = size + len(message["body"]), message["more_body"]
                if size > most:
                    raise TooLarge(f"a body has at most {most} bytes here")
                if size <= IN_MEMORY:
                    file.write(message["body"])
                else:
                    await self._store(file, message["body"])
            file.seek(0)
            if size <= SHORT_BYTES:
                yield file.read()
                return
            async with turn(self._turns, "too many long bodies are being worked on; try again"):
                yield await asyncio.to_thread(file.read)

    async def _store(self, file: Any, piece: bytes) -> None:
        def write() -> None:
            self.folder.mkdir(parents=True, exist_ok=True)
            file.write(piece)

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise ServiceUnavailable(f"the body cannot be stored: {os.strerror(error.errno or 0)}") from error


def is_upload(scope: HTTPScope) -> bool:
    """Whether the handler stores the body itself while it comes."""
    if scope["route_handler"].opt.get(BODY) != UPLOAD:
        return False
    return any(name == b"content-type" and value.lower().startswith(b"multipart/") for name, value in scope["headers"])


def _first(body: bytes, receive: Receive) -> Receive:
    """Gives the body, then whatever comes."""
    held: list[HTTPRequestEvent] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> HTTPReceiveMessage:
        return held.pop() if held else cast("HTTPReceiveMessage", await receive())

    return replay
