"""One connection to NATS, with the settings and the handling of unknowns that facts about nats-py 2.16 ask for.

BusError
├── SubjectTaken        the stream holds a message on this subject already (work is queued once)
├── StreamFull          the stream's or the server's byte limit is reached: wait
├── WrongLastSequence   somebody else wrote to the stream since we looked
├── DuplicateInBatch    an atomic batch holds a message id that the stream knows
└── BodyTooLarge        over what the server takes in one message
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Self, TypeVar

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, Error, NoRespondersError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from domain.errors import ServiceUnavailable
from infrastructure.redaction import redacted

logger = structlog.get_logger()

T = TypeVar("T")

CONNECT_S = 10.0
"""How long a process waits for the server at its start; `nats.connect` itself has no deadline."""
REPLY_S = 5.0
"""A reply that takes longer says nothing about what happened: ask again with the same message id."""
LONGEST_PAUSE_S = 2.0
UNAVAILABLE = 503
MAX_BODY_BYTES = 1_000_000
"""The server takes 1 MiB with headers. A larger one would close the connection for good."""


UNKNOWN = (TimeoutError, NoRespondersError, NoStreamResponseError)
"""Errors that do not say whether something was stored."""


class BusError(Exception):
    """The server refused to store a message."""


class SubjectTaken(BusError):
    """The stream holds a message on this subject already."""


class StreamFull(BusError):
    """No room: the publisher keeps what it has and waits."""


class WrongLastSequence(BusError):
    """The stream has grown since we looked: another writer."""


class DuplicateInBatch(BusError):
    """The whole batch was refused for one known message id."""


class BodyTooLarge(BusError):
    """More than `MAX_BODY_BYTES`."""


class Stored(msgspec.Struct, frozen=True):
    """The server's word that a message, or a batch of `count`, is on disk."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    count: int = 1


class Refusal(msgspec.Struct, frozen=True):
    """What the server says when it does not do something."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Reply(msgspec.Struct, frozen=True):
    """An answer of JetStream, of which only the error matters."""

    error: Refusal | None = None


def refusal(err_code: int | None, description: str | None) -> BusError | None:
    """What a server's error code means to a publisher; None for one that is no answer about the message itself."""
    match err_code:
        case 10077 if "per subject" in (description or ""):
            return SubjectTaken(description)
        case 10077 | 10023 | 10047:
            return StreamFull(description)
        case 10071:
            return WrongLastSequence(description)
        case 10201:
            return DuplicateInBatch(description)
        case 10054:
            return BodyTooLarge(description)
        case _:
            return None


def answer_in(reply: Msg) -> Stored:
    """What the server says to a message that should be stored; raises as `Bus.ask` does, all but TimeoutError."""
    if status_of(reply) == str(UNAVAILABLE):
        raise NoRespondersError
    if not reply.data:
        return Stored()  # a message within an atomic batch
    error = msgspec.json.decode(reply.data, type=Reply).error
    if error is None:
        return msgspec.json.decode(reply.data, type=Stored)
    known = refusal(error.err_code, error.description)
    if known is not None:
        raise known
    kind = ServiceUnavailableError if error.code == UNAVAILABLE else APIError
    raise kind(code=error.code, err_code=error.err_code, description=error.description)


def status_of(message: Msg) -> str | None:
    """The status of a message that is none ("404" no message, "408" request expired, "503" nobody there), else None."""
    return message.headers.get("Status") if message.headers and not message.reply else None


def description_of(message: Msg) -> str:
    """The text beside the status."""
    return (message.headers or {}).get("Description", "")


class Bus:
    """A connection that reconnects for ever. `closed` ends when it cannot any more: then the process must end too."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The reason; never an exception."""
        self.errors: Counter[str] = Counter()
        """What came to the error callback: the only place where refused permissions and dropped messages show."""
        self.reconnected: set[Callable[[], None]] = set()
        """Called after each reconnect: pull requests that were waiting at the server are gone then."""
        self._new_connection: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done at the next reconnect."""
        self.nc: Client = Client()
        self.js: JetStreamContext = self.nc.jetstream(timeout=REPLY_S)

    async def open(self, url: str, **options: Any) -> None:
        """Connect; raises ServiceUnavailable after `CONNECT_S`."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self.nc.connect(
                    servers=[part.strip() for part in url.split(",")],
                    name=self.name,
                    error_cb=self._on_error,
                    closed_cb=self._on_closed,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    max_reconnect_attempts=-1,
                    # Spread by process, or a restarted server meets everybody at once. (Typed int, used as seconds.)
                    reconnect_time_wait=0.2 + random.random() * 0.2,  # type: ignore[arg-type]  # noqa: S311
                    connect_timeout=2,
                    ping_interval=10,
                    max_outstanding_pings=2,
                    pending_size=16 << 20,
                    **options,
                )
        except (TimeoutError, OSError, Error) as error:
            raise ServiceUnavailable(redacted(f"no NATS server at {url}: {error!r}")) from error

    async def close(self) -> None:
        """Leave; safe to call twice."""
        if not self.closed.done():
            self.closed.set_result("closed by us")
        # The socket may be gone already.
        with contextlib.suppress(ConnectionError, Error):
            await self.nc.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Core NATS: at most once."""
        await self.nc.publish(subject, body, headers=dict(headers) if headers else None)

    async def publish_request(self, subject: str, body: bytes, inbox: str) -> None:
        """A request whose answers come to a subscription of one's own: messages of a stream keep their subject."""
        await self.nc.publish(subject, body, reply=inbox)

    async def store(
        self, stream: str, subject: str, body: bytes, headers: Mapping[str, str], *, patience_s: float | None = None
    ) -> Stored:
        """Store one message and wait until it is on disk, asking again with the same `Nats-Msg-Id` while nobody answers.

        Raises:
            BusError: the server refused it.
            ServiceUnavailable: no answer for `patience_s` (None = wait for ever), or the connection is closed for good.
        """
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"{len(body)} bytes for {subject}")
        pauses = Pauses(patience_s)
        while True:
            try:
                return await self.ask(subject, body, {**headers, "Nats-Expected-Stream": stream})
            except (*UNKNOWN, ServiceUnavailableError, ConnectionClosedError) as error:
                await self.pause(pauses, error, subject)

    async def ask(self, subject: str, body: bytes, headers: Mapping[str, str]) -> Stored:
        """One try of `store`; also for the messages of a batch that are answered.

        Raises:
            TimeoutError: unknown whether it is stored.
            NoRespondersError: no stream takes this subject.
            BusError: the server refused it.
            APIError: anything else that the server says.
        """
        return answer_in(await self.request(subject, body, headers))

    async def request(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None, *, timeout_s: float = REPLY_S
    ) -> Msg:
        """The answer to a request; raises TimeoutError or NoRespondersError."""
        request = self.nc.request(subject, body, timeout=timeout_s, headers=dict(headers) if headers else None)
        return await self.answered(request, timeout_s + 1)

    async def answered(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """What `work` returns, which waits for an answer of the server.

        Raises:
            TimeoutError: after `timeout_s`, or when the connection is made anew: what was asked before is lost.
        """
        task = asyncio.ensure_future(work)
        try:
            either: set[asyncio.Future[Any]] = {task, self._new_connection}
            await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            task.cancel()
        raise TimeoutError("no answer from NATS")

    async def pause(self, pauses: "Pauses", error: Exception, subject: str) -> None:
        """Wait before the next try, or raise ServiceUnavailable when patience or the connection has ended."""
        if self.nc.is_closed:
            raise ServiceUnavailable(f"connection to NATS closed: {error!r}") from error
        pause_s = pauses.next()
        if pause_s is None:
            raise ServiceUnavailable(f"no answer from NATS for {subject}: {error!r}") from error
        logger.warning("bus.no_answer", subject=subject, error=repr(error), again_in_s=round(pause_s, 2))
        await asyncio.sleep(pause_s)

    async def _on_error(self, error: Exception) -> None:
        self.errors[type(error).__name__] += 1
        logger.warning("bus.error", bus=self.name, error=repr(error))

    async def _on_disconnected(self) -> None:
        if not self.closed.done():
            logger.warning("bus.disconnected", bus=self.name)

    async def _on_reconnected(self) -> None:
        logger.info("bus.reconnected", bus=self.name)
        self._new_connection.set_result(None)
        self._new_connection = asyncio.get_running_loop().create_future()
        for call in tuple(self.reconnected):
            call()

    async def _on_closed(self) -> None:
        if not self.closed.done():
            reason = repr(self.nc.last_error)
            logger.error("bus.closed", bus=self.name, reason=reason)
            self.closed.set_result(reason)


class Pauses:
    """0.1 s, doubling to `LONGEST_PAUSE_S`, until `patience_s` has passed."""

    def __init__(self, patience_s: float | None) -> None:
        now = asyncio.get_running_loop().time()
        self._until = None if patience_s is None else now + patience_s
        self._pause_s = 0.05

    def next(self) -> float | None:
        """How long to wait now; None = patience has ended."""
        if self._until is not None and asyncio.get_running_loop().time() >= self._until:
            return None
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        return self._pause_s


async def connect(url: str, *, name: str, **options: Any) -> Bus:
    """A connection to the server(s) at `url` (comma-separated); `name` shows in the server's monitoring.

    `options` go to `nats.connect`: `user_credentials`, `nkeys_seed`, `tls`, `inbox_prefix`.

    Raises:
        ServiceUnavailable: nobody there for `CONNECT_S`.
    """
    bus = Bus(name)
    try:
        await bus.open(url, **options)
    except BaseException:
        await bus.close()
        raise
    return bus
