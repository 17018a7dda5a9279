"""Storing several messages at once: atomic batches, which cost one fsync where singles cost one each.

nats-py has no call for it; it is three headers.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

from nats.aio.msg import Msg
from nats.errors import Error
from nats.nuid import NUID

from infrastructure.nats.connection import REPLY_S, Bus, BusError, Stored, answer_in

BATCH_FROM = 32
"""A batch costs some 15 ms to set up: fewer messages go faster one by one."""
BATCH_MESSAGES = 500
BATCH_BYTES = 8 << 20

_ids = NUID()


class Message(Protocol):
    """Something to be stored."""

    @property
    def subject(self) -> str: ...

    @property
    def body(self) -> bytes: ...

    @property
    def headers(self) -> dict[str, str]: ...


M = TypeVar("M", bound=Message)


def batches(messages: Sequence[M]) -> list[list[M]]:
    """Neighbours that the server takes as one batch."""
    found: list[list[M]] = []
    size = 0
    for message in messages:
        if not found or len(found[-1]) >= BATCH_MESSAGES or size + len(message.body) > BATCH_BYTES:
            found.append([])
            size = 0
        found[-1].append(message)
        size += len(message.body)
    return found


async def atomically(bus: Bus, stream: str, messages: Sequence[Message], *, after: int | None = None) -> Stored:
    """Store all or none; `Stored.seq` is the last one's. At most `BATCH_MESSAGES` and about `BATCH_BYTES`.

    `after`: the stream's last sequence as we know it; another writer's message makes it WrongLastSequence.

    Raises:
        TimeoutError: unknown whether they are stored.
        BusError: refused, all of them.
    """
    batch_id = _ids.next().decode()
    last = len(messages)
    stored = Stored()
    for number, message in enumerate(messages, 1):
        headers = {
            **message.headers,
            "Nats-Expected-Stream": stream,
            "Nats-Batch-Id": batch_id,
            "Nats-Batch-Sequence": str(number),
        }
        if number == 1 and after is not None:
            headers["Nats-Expected-Last-Sequence"] = str(after)
        if number == last:
            headers["Nats-Batch-Commit"] = "1"
        if number in (1, last):
            stored = await bus.ask(message.subject, message.body, headers)
        else:
            await bus.publish(message.subject, message.body, headers)
    return stored


async def side_by_side(
    bus: Bus, stream: str, messages: Sequence[Message], *, after: int | None = None
) -> list[Stored | Exception]:
    """Ask for all without waiting in between, in order; what became of each, errors as `Bus.ask` raises them.

    `after`: each is bound to the one before it, the first to this sequence. One that fails fails all after it.
    """
    inbox = bus.nc.new_inbox()
    answers: list[Stored | Exception] = [TimeoutError("no answer")] * len(messages)
    open_count = len(messages)
    all_there = asyncio.Event()

    async def take(reply: Msg) -> None:
        nonlocal open_count
        index = int(reply.subject.rpartition(".")[2])
        try:
            answers[index] = answer_in(reply)
        except (Error, BusError) as error:
            answers[index] = error
        open_count -= 1
        if not open_count:
            all_there.set()

    subscription = await bus.nc.subscribe(f"{inbox}.*", cb=take)
    try:
        for index, message in enumerate(messages):
            headers = {**message.headers, "Nats-Expected-Stream": stream}
            if after is not None:
                headers["Nats-Expected-Last-Sequence"] = str(after + index)
            await bus.nc.publish(message.subject, message.body, reply=f"{inbox}.{index}", headers=headers)
        with contextlib.suppress(TimeoutError):
            await bus.answered(all_there.wait(), REPLY_S)
    finally:
        with contextlib.suppress(Error, ConnectionError):
            await subscription.unsubscribe()
    return answers
