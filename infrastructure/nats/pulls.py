"""Reading a consumer without end: one pull request after the other into one inbox, so that no message falls between two.

Not `PullSubscription.fetch`: an idle one ends in three ways, a cancelled one leaves its request behind at the server.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from infrastructure.nats.connection import Bus, description_of, status_of

logger = structlog.get_logger()

EXPIRES_S = 5.0
GONE_PAUSE_S = 1.0
"""Between two requests to a consumer that is not there."""


def pull_request(batch: int, *, expires_s: float | None) -> bytes:
    """The body of a pull request; `expires_s` None = answer at once, message or not."""
    if expires_s is None:
        return msgspec.json.encode({"batch": batch, "no_wait": True})
    return msgspec.json.encode({"batch": batch, "expires": int(expires_s * 1e9)})


async def messages(
    bus: Bus, stream: str, durable: str, stop: asyncio.Event, *, batch: int = 32
) -> AsyncGenerator[Msg]:
    """The consumer's messages as they come, until `stop` is set; at most `batch` are here and unanswered, plus yours.

    Survives restarts of the server and a consumer that is deleted and declared again. What was received and not
    handed out at the end is given back. Close it (`contextlib.aclosing`) where you leave it early.
    """
    arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
    left = 0
    """How many messages the open request may still bring; 0 = none is open."""

    async def take(message: Msg) -> None:
        arrived.put_nowait(message)

    def ask_again() -> None:
        nonlocal left
        left = 0
        arrived.put_nowait(None)

    async def end() -> None:
        await stop.wait()
        arrived.put_nowait(None)

    subject, inbox = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox, cb=take)
    ending = asyncio.create_task(end())
    bus.reconnected.add(ask_again)
    try:
        while not stop.is_set():
            if not left:
                await bus.publish_request(subject, pull_request(batch, expires_s=EXPIRES_S), inbox)
                left = batch
            try:
                async with asyncio.timeout(EXPIRES_S + 1):
                    message = await arrived.get()
            except TimeoutError:
                left = 0  # not even "expired" came: the request is lost
                continue
            if message is None:
                continue
            status = status_of(message)
            if status is None:
                left = max(0, left - 1)
                yield message
                continue
            left = 0
            if status == "503" or "Deleted" in description_of(message):
                logger.error("bus.consumer_gone", stream=stream, durable=durable)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), GONE_PAUSE_S)
    finally:
        bus.reconnected.discard(ask_again)
        ending.cancel()
        await give_back(subscription, arrived)


async def give_back(subscription: Subscription, arrived: "asyncio.Queue[Msg] | asyncio.Queue[Msg | None]") -> None:
    """End a subscription of pulled messages; what came and was not handed out goes to somebody else at once."""
    with contextlib.suppress(Error, TimeoutError, ConnectionError):
        async with asyncio.timeout(2):
            await subscription.drain()  # type: ignore[no-untyped-call]  # nats-py; also hears what the server sent before it knew
        while not arrived.empty():
            message = arrived.get_nowait()
            if message is not None and status_of(message) is None:
                await message.nak()
