"""Workers ask whether a result is known already: core NATS, request and reply (ADR-0021)."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec
from nats.aio.msg import Msg

from application.messages import UNREADABLE, KnownRun, KnownWanted, NoAnswer
from domain.errors import EiokuError
from infrastructure.nats.connection import UNKNOWN, Bus
from infrastructure.nats.inputs import respond, serve_each

SUBJECT = "eioku.known"
QUEUE = "known"
PATIENCE_S = 3.0
"""How long an answer may take; then the work is done, which is never wrong."""
_Reply = KnownRun | NoAnswer
_decoder: msgspec.json.Decoder[_Reply] = msgspec.json.Decoder(_Reply)


async def ask(bus: Bus, wanted: KnownWanted) -> UUID | None:
    """The run; None when there is none or nobody can say."""
    try:
        reply = await bus.request(SUBJECT, msgspec.json.encode(wanted), timeout_s=PATIENCE_S)
    except UNKNOWN:
        return None
    answer = _decoder.decode(reply.data)
    return answer.run_id if isinstance(answer, KnownRun) else None


async def serve(bus: Bus, read: Callable[[KnownWanted], Awaitable[KnownRun]], stop: asyncio.Event) -> None:
    """Answer until `stop` is set. Several may; each question goes to one."""

    async def answer(message: Msg) -> None:
        reply: _Reply
        try:
            reply = await read(msgspec.json.decode(message.data, type=KnownWanted))
        except (EiokuError, *UNREADABLE) as error:
            reply = NoAnswer(str(error))
        await respond(message, reply)

    await serve_each(bus, SUBJECT, QUEUE, answer, stop)
