"""Help with long jobs: a worker offers pieces of its job to idle ones, over core NATS (ADR-0019).

Nothing of it is stored: the job is the leader's, and what gets lost on the way the leader does itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import UUID

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from application.messages import UNREADABLE
from infrastructure.nats import subjects
from infrastructure.nats.connection import UNKNOWN, Bus
from infrastructure.nats.inputs import serve_each

logger = structlog.get_logger()

OFFER_EVERY_S = 1.0
"""An offer is repeated while there is something to do: whoever becomes idle meanwhile hears it."""
CLAIM_S = 12.0
"""Time for a piece to come; the leader may have to read on in its file."""
REPLY_S = 2.0


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """There is something to help with."""

    subject: str
    """Where to ask for pieces."""
    task_type: str
    terms: bytes
    """What a helper must have, as the producer understands it."""
    batch_size: int
    """Pieces that go through the model at once."""


class Claim(msgspec.Struct, frozen=True, tag=True):
    """A piece, please. The answer is the piece, or empty."""


class Still(msgspec.Struct, frozen=True, tag=True):
    """Is it still wanted? Any answer means yes; nobody there means no."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """What was found in a piece. The answer is empty."""

    found: bytes


_request: msgspec.msgpack.Decoder[Claim | Still | Done] = msgspec.msgpack.Decoder(Claim | Still | Done)
_offer = msgspec.msgpack.Decoder(Offer)


async def lead(
    bus: Bus,
    tenant_id: str,
    task_type: str,
    run_id: UUID,
    *,
    to_share: Callable[[], Awaitable[tuple[bytes, int] | None]],
    piece: Callable[[], Awaitable[bytes | None]],
    done: Callable[[bytes], Awaitable[None]],
) -> None:
    """Offer the pieces of a run, hand them out and take what helpers found, until it is cancelled.

    `to_share`: (terms, pieces at once), None when there is nothing to help with now.
    """
    subject = subjects.assisted_run(tenant_id, task_type, run_id)

    async def answer(message: Msg) -> None:
        match _request.decode(message.data):
            case Claim():
                body = await piece() or b""
            case Still():
                body = b""
            case Done(found):
                await done(found)
                body = b""
        with suppress(Error, ConnectionError):  # it will ask again, or the piece is done here
            await message.respond(body)

    async def offer() -> None:
        while True:
            if (shared := await to_share()) is not None:
                terms, batch_size = shared
                said = Offer(subject=subject, task_type=task_type, terms=terms, batch_size=batch_size)
                with suppress(Error, ConnectionError):
                    await bus.publish(subjects.assist(tenant_id, task_type), msgspec.msgpack.encode(said))
            await asyncio.sleep(OFFER_EVERY_S)

    offering = asyncio.create_task(offer())
    try:
        await serve_each(bus, subject, "", answer, asyncio.Event())
    finally:
        offering.cancel()
        await asyncio.wait((offering,))


class Offers:
    """The newest offer, as an idle worker hears it."""

    def __init__(self, bus: Bus, task_types: Sequence[str]) -> None:
        self._bus, self._task_types = bus, task_types
        self._subscriptions: list[Subscription] = []
        self._newest: Offer | None = None
        self._heard = asyncio.Event()

    async def open(self) -> None:
        """Begin to listen."""

        async def hear(message: Msg) -> None:
            with suppress(*UNREADABLE):  # a worker of another version
                self._newest = _offer.decode(message.data)
                self._heard.set()

        for task_type in self._task_types:
            self._subscriptions.append(await self._bus.nc.subscribe(subjects.assist_of_all(task_type), cb=hear))

    async def close(self) -> None:
        """Listen no more."""
        for subscription in self._subscriptions:
            with suppress(Error, ConnectionError):
                await subscription.unsubscribe()

    async def next(self) -> Offer:
        """An offer that was made after this is called: an older one may have been taken by others."""
        self._heard = asyncio.Event()
        await self._heard.wait()
        assert self._newest is not None
        return self._newest


async def claim(bus: Bus, offer: Offer) -> bytes | None:
    """A piece; None when there is none, or the leader is gone."""
    return await _ask(bus, offer, Claim(), CLAIM_S) or None


async def still(bus: Bus, offer: Offer) -> bool:
    """Whether the leader is still at it."""
    return await _ask(bus, offer, Still(), REPLY_S) is not None


async def hand_in(bus: Bus, offer: Offer, found: bytes) -> bool:
    """Give what was found; False when nobody took it."""
    return await _ask(bus, offer, Done(found), CLAIM_S) is not None


async def _ask(bus: Bus, offer: Offer, request: Claim | Still | Done, timeout_s: float) -> bytes | None:
    try:
        reply = await bus.request(offer.subject, msgspec.msgpack.encode(request), timeout_s=timeout_s)
    except (*UNKNOWN, Error, ConnectionError):
        return None
    return reply.data
