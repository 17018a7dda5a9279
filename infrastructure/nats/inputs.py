"""Dependent tasks ask for what they work on: core NATS, request and reply, page by page (ADR-0015)."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.errors import Error

from application.messages import (
    UNREADABLE,
    NoAnswer,
    SourceSpan,
    SourceText,
    SpansPage,
    SpansWanted,
    TextsPage,
    TextsWanted,
)
from domain.errors import EiokuError, JobTimedOut
from infrastructure.nats.connection import UNKNOWN, Bus

logger = structlog.get_logger()

SUBJECT = "eioku.inputs"
QUEUE = "inputs"
PATIENCE_S = 20.0
"""How long one page may take: the read models may have to catch up first."""
AT_ONCE = 1_000
Wanted = TextsWanted | SpansWanted
Page = TextsPage | SpansPage
_wanted: msgspec.json.Decoder[Wanted] = msgspec.json.Decoder(Wanted)
_reply: msgspec.json.Decoder[Page | NoAnswer] = msgspec.json.Decoder(Page | NoAnswer)


async def ask_texts(bus: Bus, wanted: TextsWanted) -> tuple[SourceText, ...]:
    """All the texts.

    Raises:
        JobTimedOut: nobody answers now, or the read models are behind; try again later.
    """
    texts: list[SourceText] = []
    while True:
        page = await _page(bus, wanted)
        assert isinstance(page, TextsPage)
        texts += page.texts
        if page.is_last:
            return tuple(texts)
        last = page.texts[-1]
        wanted = msgspec.structs.replace(wanted, after=(last.start_ms, last.artifact_id))


async def ask_spans(bus: Bus, wanted: SpansWanted) -> tuple[SourceSpan, ...]:
    """All the spans; raises as `ask_texts`."""
    spans: list[SourceSpan] = []
    while True:
        page = await _page(bus, wanted)
        assert isinstance(page, SpansPage)
        spans += page.spans
        if page.is_last:
            return tuple(spans)
        wanted = msgspec.structs.replace(wanted, after=page.spans[-1])


async def _page(bus: Bus, wanted: Wanted) -> Page:
    try:
        reply = await bus.request(SUBJECT, msgspec.json.encode(wanted), timeout_s=PATIENCE_S)
    except UNKNOWN as error:
        raise JobTimedOut(f"nobody tells what was found in the video: {error!r}") from error
    page = _reply.decode(reply.data)
    if isinstance(page, NoAnswer):
        raise JobTimedOut(f"nobody can tell what was found in the video: {page.reason}")
    return page


async def serve(bus: Bus, read: Callable[[Wanted], Awaitable[Page]], stop: asyncio.Event) -> None:
    """Answer until `stop` is set. Several may; each question goes to one."""

    async def answer(message: Msg) -> None:
        reply: Page | NoAnswer
        try:
            reply = await read(_wanted.decode(message.data))
        except (EiokuError, *UNREADABLE) as error:
            reply = NoAnswer(str(error))
        await respond(message, reply)

    await serve_each(bus, SUBJECT, QUEUE, answer, stop)


async def serve_each(
    bus: Bus, subject: str, queue: str, answer: Callable[[Msg], Awaitable[None]], stop: asyncio.Event
) -> None:
    """Call `answer` for each message, up to `AT_ONCE` at once, until `stop` is set; those beyond ask again."""
    under_way: set[asyncio.Task[None]] = set()

    async def begin(message: Msg) -> None:
        if len(under_way) >= AT_ONCE:
            logger.warning("question.too_many", subject=subject)
            return
        task = asyncio.ensure_future(answer(message))
        under_way.add(task)
        task.add_done_callback(_ended)

    def _ended(task: "asyncio.Task[None]") -> None:
        under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("question.not_answered", subject=subject, error=repr(error))

    subscription = await bus.nc.subscribe(subject, queue=queue, cb=begin)
    try:
        await stop.wait()
    finally:
        for task in list(under_way):
            task.cancel()
        if not bus.nc.is_closed:
            await subscription.unsubscribe()


async def respond(message: Msg, reply: msgspec.Struct) -> None:
    """Answer a question; who has gone meanwhile gets nothing."""
    try:
        await message.respond(msgspec.json.encode(reply))
    except (Error, ConnectionError) as error:  # who asked will ask again
        logger.warning("question.no_way_back", subject=message.subject, error=repr(error))
