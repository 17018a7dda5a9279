"""What workers found: from a worker into the stream, and from the stream into the log."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID
from zlib import crc32

import msgspec
import structlog
import zstandard
from nats.aio.msg import Msg
from nats.errors import Error

from application.message_checks import check
from application.messages import UNREADABLE, Announced, ResultMessage, Started
from domain.errors import EiokuError, InvalidMessage, OutOfOrder, ServiceUnavailable
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
MOST_TRIES = 8
"""About half a minute: what fails so often, with every service there, fails for ever and holds up the others."""
MAX_UNPACKED_BYTES = 16 << 20
"""Workers send batches of a quarter of a megabyte."""

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
    """The inverse; raises InvalidMessage."""
    try:
        if (headers or {}).get("Content-Encoding") == "zstd":
            body = _unpacked(body)
        return _decoder.decode(body)
    except (*UNREADABLE, zstandard.ZstdError) as error:
        raise InvalidMessage(f"cannot be read: {error}") from error


def _unpacked(body: bytes) -> bytes:
    """Never more than `MAX_UNPACKED_BYTES`, whatever the frame claims: 1 MB can hold 16 GB of zeros."""
    with zstandard.ZstdDecompressor(max_window_size=MAX_UNPACKED_BYTES).stream_reader(body) as reader:
        unpacked = reader.read(MAX_UNPACKED_BYTES + 1)
    if len(unpacked) > MAX_UNPACKED_BYTES:
        raise InvalidMessage(f"is larger than {MAX_UNPACKED_BYTES} bytes unpacked")
    return unpacked


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


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was taken out of the stream without effect, for people to see."""

    sequence: int
    """Of the stream."""
    run_id: UUID
    """As its subject says; nil when that is no UUID."""
    deliveries: int
    topic: str
    """`result.<kind>`; `result` when it could not be read."""
    error: str


Park = Callable[[Refused], None]
"""Keeps what was refused where health shows it, durably, before it returns. Called in a thread."""


async def ingest(
    bus: Bus, apply: Callable[[ResultMessage], None], stop: asyncio.Event, *, park: Park = lambda _: None
) -> None:
    """Hand every result to `apply`, in a thread, and answer for it once `apply` has committed.

    Results of one run are applied in order; up to `LANES` runs at a time, so `apply` must be safe to call from several
    threads. It must be idempotent: a lost answer is a redelivery. What it raises decides:

    - a service that is away: it comes again, later each time, for as long as it takes
    - OutOfOrder: the same while the stream holds an earlier result of the run; without one it can never be applied
    - any other retryable error, and what is no error of ours: the same, `MOST_TRIES` times

    What can never be applied is parked and taken out. So is its task, unless the message cannot be believed in what it
    says of it, or the reconciler will ask for it again.
    """
    ingester = _Ingester(bus, apply, park)
    lanes: list[asyncio.Queue[Msg]] = [asyncio.Queue(maxsize=8) for _ in range(LANES)]
    async with contextlib.aclosing(messages(bus, RES, INGESTER, stop)) as arrivals, asyncio.TaskGroup() as group:
        workers = [group.create_task(_work(lane, ingester)) for lane in lanes]
        async for message in arrivals:
            await lanes[crc32(message.subject.rpartition(".")[2].encode()) % LANES].put(message)
        for lane in lanes:
            await lane.join()
        for worker in workers:
            worker.cancel()


async def _work(lane: "asyncio.Queue[Msg]", ingester: "_Ingester") -> None:
    while True:
        message = await lane.get()
        try:
            await ingester.take(message)
        finally:
            lane.task_done()


class _Ingester:
    """Answers one message after the other; lanes share it."""

    def __init__(self, bus: Bus, apply: Callable[[ResultMessage], None], park: Park) -> None:
        self._bus, self._apply, self._park = bus, apply, park
        self._tries: Counter[int] = Counter()
        """By sequence, of what failed for a reason of its own; as many as the consumer has unanswered."""

    async def take(self, message: Msg) -> None:
        """Apply one message and answer for it."""
        try:
            result = decode(message.data, message.headers)
            _check_subject(message.subject, result)
            check(result, datetime.now(UTC))
        except InvalidMessage as error:
            await self._refuse(message, None, error)
            return
        try:
            await self._once(message, result)
        except ServiceUnavailable as error:
            await _again(message, error)
        except OutOfOrder as error:
            await (self._refuse(message, result, error) if await self._is_first(message) else _again(message, error))
        except EiokuError as error:
            if error.retryable:
                await self._again_or_never(message, result, error)
            else:
                await self._refuse(message, result, error)
        except OSError as error:
            await _again(message, error)
        except Exception as error:  # noqa: BLE001 - one message must not end the ingestion of all others
            await self._again_or_never(message, result, error)
        else:
            self._tries.pop(message.metadata.sequence.stream, None)
            await message.ack()

    async def _once(self, message: Msg, result: ResultMessage) -> None:
        try:
            await asyncio.to_thread(self._apply, result)
        except OutOfOrder:
            if not await self._is_first(message):
                raise
            # What came before it was taken out meanwhile, so it is in the log if it ever will be.
            await asyncio.to_thread(self._apply, result)

    async def _is_first(self, message: Msg) -> bool:
        """Whether the stream holds no earlier message of the same run: then none will come."""
        subject = f"eioku.*.result.*.{message.subject.rpartition('.')[2]}"
        try:
            first = await self._bus.js.get_msg(RES, seq=1, subject=subject, next=True)
        except (TimeoutError, Error):
            return False  # not known; it comes again
        return first.seq == message.metadata.sequence.stream

    async def _again_or_never(self, message: Msg, result: ResultMessage, error: Exception) -> None:
        sequence = message.metadata.sequence.stream
        self._tries[sequence] += 1
        if self._tries[sequence] < MOST_TRIES:
            await _again(message, error)
        else:
            await self._refuse(message, result, error)

    async def _refuse(self, message: Msg, result: ResultMessage | None, error: Exception) -> None:
        sequence = message.metadata.sequence.stream
        refused = Refused(
            sequence=sequence,
            run_id=_run_in(message.subject),
            deliveries=message.metadata.num_delivered,
            topic="result" if result is None else f"result.{result.__struct_config__.tag}",
            error=f"{message.subject[:200]}: {error!r}",
        )
        logger.error("result.refused", **msgspec.to_builtins(refused))
        try:
            await asyncio.to_thread(self._park, refused)
        except EiokuError as away:
            await _again(message, away)
            return
        self._tries.pop(sequence, None)
        if result is None or isinstance(result, Announced) or isinstance(error, InvalidMessage | OutOfOrder):
            await message.ack()  # a termination would be a notice to the mover, which has nothing to move
        else:
            why = f"{error.code}: {error}" if isinstance(error, EiokuError) else repr(error)
            await self._bus.publish(message.reply, termination(result.task_id, result.request_version, why))


def _check_subject(subject: str, result: ResultMessage) -> None:
    """Rights are given by subject, so the body must not speak of another tenant or run."""
    expected = subjects.result(result.tenant_id, "-", result.run_id).split(".")
    told = subject.split(".")
    told[3:4] = "-"  # the task type is for people
    if told != expected:
        raise InvalidMessage("the body speaks of another tenant or run than the subject")


def _run_in(subject: str) -> UUID:
    try:
        return UUID(subject.rpartition(".")[2])
    except ValueError:
        return UUID(int=0)


async def _again(message: Msg, error: Exception) -> None:
    tries = message.metadata.num_delivered
    delay_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(tries - 1, 10))
    logger.warning("result.again", subject=message.subject, tries=tries, error=repr(error), again_in_s=delay_s)
    await message.nak(delay=delay_s)
