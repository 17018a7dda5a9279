"""The API asks a worker what a query means: core NATS, request and reply (ADR-0015)."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from nats.aio.msg import Msg

from application.messages import UNREADABLE, NoAnswer, Space, TextVector
from domain.errors import EiokuError, ServiceUnavailable
from infrastructure.nats.connection import UNKNOWN, Bus
from infrastructure.nats.inputs import respond, serve_each

SUBJECTS: dict[Space, str] = {"text": "eioku.meaning", "frame": "eioku.meaning.frame"}
TASKS: dict[Space, str] = {"text": "embedding", "frame": "frame_embedding"}
"""Who answers."""
QUEUE = "meaning"
PATIENCE_S = 10.0
_Reply = TextVector | NoAnswer
_decoder: msgspec.json.Decoder[_Reply] = msgspec.json.Decoder(_Reply)


async def ask(bus: Bus, text: str, space: Space, *, timeout_s: float = PATIENCE_S) -> TextVector:
    """The vector of a query among those of `space`.

    Raises:
        ServiceUnavailable: no worker answers, or none has the model; says what to do.
    """
    try:
        reply = await bus.request(SUBJECTS[space], msgspec.json.encode(text), timeout_s=timeout_s)
    except UNKNOWN as error:
        raise ServiceUnavailable(
            f"no worker of the family torch that does {TASKS[space]} answers: start one, or try again when it is ready"
        ) from error
    answer = _decoder.decode(reply.data)
    if isinstance(answer, NoAnswer):
        raise ServiceUnavailable(answer.reason)
    return answer


async def serve(
    bus: Bus, space: Space, embed: Callable[[str, Space], Awaitable[TextVector]], stop: asyncio.Event
) -> None:
    """Answer until `stop` is set."""

    async def answer(message: Msg) -> None:
        reply: _Reply
        try:
            reply = await embed(msgspec.json.decode(message.data, type=str), space)
        except (EiokuError, *UNREADABLE) as error:
            reply = NoAnswer(str(error))
        await respond(message, reply)

    await serve_each(bus, SUBJECTS[space], QUEUE, answer, stop)
