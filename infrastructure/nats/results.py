"""What workers found: from a worker into the stream, and from the stream into the log."""

import asyncio
import contextlib
from collections.abc import Callable
from zlib import crc32

import msgspec
import structlog
import zstandard
from nats.aio.msg import Msg

from application.messages import Announced, ResultMessage, Started
from domain.errors import EiokuError
from infrastructure.nats import subjects
from infrastructure.nats.commands import termination
from infrastructure.nats.connection import Bus, Pauses, StreamFull
from infrastructure.nats.pulls import messages
from infrastructure.nats.streams import INGESTER, RES

logger = structlog.get_logger()

COMPRESS_BYTES = 4096
"""Bodies over this travel compressed."""
LANES = 4
"""Runs are ingested side by side, the messages of one run one after the other."""
FIRST_RETRY_S, LAST_RETRY_S = 0.25, 30.0

_decoder: msgspec.json.Decoder[ResultMessage] = msgspec.json.Decoder(ResultMessage)


def encode(result: ResultMessage) -> tuple[bytes, dict[str, str]]:
    """Body and headers."""
    body = msgspec.json.encode(result)
    headers = {"Content-Type": "application/json"}
    if len(body) > COMPRESS_BYTES:
        body = zstandard.compress(body, 3)
        headers["Content-Encoding"] = "zstd"
    return body, headers


def decode(body: bytes, headers: dict[str, str] | None) -> ResultMessage:
    """The inverse; raises msgspec.MsgspecError or zstandard.ZstdError."""
    if (headers or {}).get("Content-Encoding") == "zstd":
        body = zstandard.decompress(body)
    return _decoder.decode(body)


async def send(bus: Bus, result: ResultMessage, sequence: int) -> None:
    """Store one result; returns when it is on disk. `sequence` numbers the messages of a run, from 1.

    Asks again, with the same message id, for as long as there is no answer or no room: cancel it to give up.

    Raises:
        BodyTooLarge: over 1 MB compressed; make smaller batches.
        ServiceUnavailable: the connection is closed for good.
    """
    task_type = result.task_type if isinstance(result, Started) else "-"
    subject = subjects.result(result.tenant_id, task_type, result.run_id)
    body, headers = encode(result)
    headers["Nats-Msg-Id"] = f"{result.run_id}.{sequence}"
    pauses = Pauses(None)
    while True:
        try:
            await bus.store(RES, subject, body, headers)
        except StreamFull as error:
            await bus.pause(pauses, error, subject)
        else:
            return


async def ingest(bus: Bus, apply: Callable[[ResultMessage], None], stop: asyncio.Event) -> None:
    """Hand every result to `apply`, in a thread, and answer for it once `apply` has committed.

    Results of one run are applied in order; up to `LANES` runs at a time, so `apply` must be safe to call from several
    threads. It must be idempotent: a lost answer is a redelivery. What it raises decides:

    - a retryable error, or one that is not ours (a database that is away): it comes again, later each time
    - any other error of ours, or a body that cannot be read: it is taken out and its task parked
    """
    lanes: list[asyncio.Queue[Msg]] = [asyncio.Queue(maxsize=8) for _ in range(LANES)]
    async with contextlib.aclosing(messages(bus, RES, INGESTER, stop)) as arrivals, asyncio.TaskGroup() as group:
        workers = [group.create_task(_work(bus, lane, apply)) for lane in lanes]
        async for message in arrivals:
            await lanes[crc32(message.subject.rpartition(".")[2].encode()) % LANES].put(message)
        for lane in lanes:
            await lane.join()
        for worker in workers:
            worker.cancel()


async def _work(bus: Bus, lane: "asyncio.Queue[Msg]", apply: Callable[[ResultMessage], None]) -> None:
    while True:
        message = await lane.get()
        try:
            await _ingest_one(bus, message, apply)
        finally:
            lane.task_done()


async def _ingest_one(bus: Bus, message: Msg, apply: Callable[[ResultMessage], None]) -> None:
    try:
        result = decode(message.data, message.headers)
    except (msgspec.MsgspecError, zstandard.ZstdError) as error:
        logger.error("result.undecodable", subject=message.subject, error=str(error))  # noqa: TRY400
        await message.term()
        return
    try:
        await asyncio.to_thread(apply, result)
    except EiokuError as error:
        if error.retryable:
            await _again(message, error)
            return
        logger.error("result.refused", run_id=str(result.run_id), error=str(error))  # noqa: TRY400
        if isinstance(result, Announced):
            await message.term()
        else:
            await bus.publish(
                message.reply, termination(result.task_id, result.request_version, f"{error.code}: {error}")
            )
    except Exception as error:  # noqa: BLE001 - a result is never dropped because the database is away
        await _again(message, error)
    else:
        await message.ack()


async def _again(message: Msg, error: Exception) -> None:
    tries = message.metadata.num_delivered
    delay_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(tries - 1, 10))
    logger.warning("result.again", subject=message.subject, tries=tries, error=repr(error), again_in_s=delay_s)
    await message.nak(delay=delay_s)
