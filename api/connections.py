"""Connections that do not get on: bounds on request heads, waiting and number, which uvicorn does not have.

Everybody who can open a connection may send half a request, or an endless one, and wait. So whatever a client owes us has
a size and a deadline, and when there are too many connections the one that owes a request for longest makes room.
"""

import math
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api.problems import problem_body

HEAD_BYTES = 64 * 1024
"""Of a request line and its header lines; also of what comes between two pieces of a body."""
HEAD_LINES = 100
HEAD_S = 15.0
"""From a connection's first moment, or a later request's first byte, to the end of its head."""
BODY_S = 30.0
"""A body may stall for so long …"""
BODY_BYTES_S = 500
"""… and be this slow for long: a tenth of the worst mobile line."""
READER_S = 300.0
"""A client may take nothing of its answer for so long. A player that was paused for longer asks again with a range."""
LINGER_S = 5.0
"""How long a refused client may go on sending: closed at once, it would see a broken connection and no answer."""
PIPELINED = 16
"""Requests that a client may send before the first is answered."""


class Connections:
    """All connections of one process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.open: set[Connection] = set()
        self.idle: dict[Connection, None] = {}
        """Those without a whole request head, the one that is without for longest first."""

    def make_room(self) -> None:
        """End the connections that are idle for longest while there are too many."""
        while len(self.open) > self._most and self.idle:
            next(iter(self.idle)).end()

    async def tick(self) -> None:
        """Once a second: end what is too late."""
        for connection in tuple(self.open):
            connection.end_if_late()


class Connection(HttpToolsProtocol):
    """One connection, with bounds."""

    def __init__(self, *, connections: Connections, **more: Any) -> None:
        super().__init__(**more)
        self._all = connections
        self._silent_bytes = 0
        """What came since the last whole head or piece of a body."""
        self._owes_head = True
        self._deadline = math.inf
        """Of what the client owes us, a head or more of a body; infinite while it owes nothing."""
        self._reader_deadline = math.inf
        self._is_refused = False
        self._fault = (400, "MALFORMED_REQUEST", "this is not HTTP as we know it")

    # ---- what the transport tells --------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """A client came."""
        super().connection_made(transport)
        self._deadline = self.loop.time() + HEAD_S
        self._all.open.add(self)
        self._all.idle[self] = None
        self._all.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._all.open.discard(self)
        self._all.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It sent something."""
        if self._is_refused:
            return
        if self._owes_head and self._deadline == math.inf:
            self._deadline = self.loop.time() + HEAD_S
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._silent_bytes > HEAD_BYTES:
            self._refuse(431, "HEAD_TOO_LARGE", f"the head of a request has at most {HEAD_BYTES} bytes")

    def pause_writing(self) -> None:
        """It takes less than we send."""
        super().pause_writing()
        self._reader_deadline = self.loop.time() + READER_S

    def resume_writing(self) -> None:
        """It took what we sent."""
        super().resume_writing()
        self._reader_deadline = math.inf

    # ---- what the parser tells -----------------------------------------------------------------------------------

    def on_headers_complete(self) -> None:
        """A head is whole; an exception makes the parser stop and `send_400_response` answer."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.headers) > HEAD_LINES:
            self._fault = (431, "HEAD_TOO_LARGE", f"the head of a request has at most {HEAD_LINES} lines")
        elif size > HEAD_BYTES:
            self._fault = (431, "HEAD_TOO_LARGE", f"the head of a request has at most {HEAD_BYTES} bytes")
        elif len(self.pipeline) >= PIPELINED:
            self._fault = (429, "RATE_LIMITED", f"at most {PIPELINED} requests may wait on one connection")
        else:
            super().on_headers_complete()
            # Trailers come here too: they must not become header lines of a request that was checked already.
            self.headers = []
            self._all.idle.pop(self, None)
            self._owes_head, self._silent_bytes = False, 0
            self._deadline = self.loop.time() + BODY_S
            return
        raise ValueError(self._fault)

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._silent_bytes = 0
        now = self.loop.time()
        self._deadline = min(self._deadline + len(body) / BODY_BYTES_S, now + BODY_S)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._owes_head, self._silent_bytes, self._deadline = True, 0, math.inf
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is out."""
        super().on_response_complete()
        if self._owes_head and not self.pipeline and self in self._all.open:
            self._all.idle[self] = None

    # ---- ends ----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Close at once. It counts no more from here on: that it is gone is told in a later turn of the loop."""
        self._all.open.discard(self)
        self._all.idle.pop(self, None)
        self.transport.abort()

    def end_if_late(self) -> None:
        """Close if the client is too slow."""
        now = self.loop.time()
        if now > self._reader_deadline or (self._is_refused and now > self._deadline):
            self.end()
        elif self.flow.read_paused and self._deadline != math.inf:
            self._deadline = now + BODY_S  # it is us who do not read
        elif now > self._deadline:
            owed = "head" if self._owes_head else "body"
            self._refuse(408, "REQUEST_TIMEOUT", f"the {owed} of the request came too slowly")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's own sentence
        """The parser stopped."""
        self._refuse(*self._fault)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer if no other answer is under way, and close once the client has had time to read it."""
        if self._is_refused:
            return
        self._is_refused, self._deadline = True, self.loop.time() + LINGER_S
        self._all.idle[self] = None
        # uvicorn says that there is always a cycle; before the first request there is none.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_complete:
            cycle = None
        if cycle is not None and (self._owes_head or cycle.response_started):
            self.end()
            return
        body = msgspec.json.encode(problem_body(status, code.replace("_", " ").capitalize(), detail, code))
        self.transport.write(
            b"".join(
                (
                    STATUS_LINE[status],
                    b"content-type: application/problem+json\r\nconnection: close\r\ncontent-length: ",
                    str(len(body)).encode(),
                    b"\r\n\r\n",
                    body,
                )
            )
        )
        if cycle is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
