"""Tasks on their way to workers: taking the next one, answering it, and what is still waiting."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error

from application.messages import UNREADABLE, TaskMessage
from domain.errors import ServiceUnavailable
from domain.task import PRIORITIES, Priority
from infrastructure.nats import subjects
from infrastructure.nats.connection import REPLY_S, Bus, description_of, status_of
from infrastructure.nats.pulls import give_back, pull_request
from infrastructure.nats.streams import CMD, RES, durable_of

logger = structlog.get_logger()

LOOK_AGAIN_S = 1.0
"""An idle worker asks every consumer this often: redeliveries are not announced, and an announcement may be lost."""
LINGER_S = 0.02
"""How long a request waits for an announced message: 7 in 1,000 announcements are quicker than the consumer."""
BULK_EVERY = 10
"""Every tenth turn begins with `bulk`, or a steady stream of urgent work would starve it."""
ACK_S, ACK_TRIES = 2.0, 3
"""Time for one answer; tries while connected."""
PAGE = 100_000
"""Subjects in one answer of the server."""

_message = msgspec.json.Decoder(TaskMessage)


class Delivery:
    """One task in a worker's hands. Answer it with exactly one of `done`, `later`, `reject`; meanwhile `heartbeat`."""

    def __init__(self, bus: Bus, raw: Msg, message: TaskMessage) -> None:
        self.message = message
        self.delivery: int = raw.metadata.num_delivered
        """How often the server has handed it out, this time included; from 1."""
        self._bus, self._reply = bus, raw.reply

    async def heartbeat(self) -> None:
        """Still at it: the server waits another `ACK_WAIT_S`."""
        await self._bus.publish(self._reply, b"+WPI")

    async def done(self) -> bool:
        """The results are stored. True when the server has it on disk; False when it does not say so.

        Then it may hand the task out again: it never answers for a delivery that it forgot when it was killed.
        """
        unanswered = 0
        while unanswered < ACK_TRIES and not self._bus.nc.is_closed:
            try:
                await self._bus.request(self._reply, b"+ACK", timeout_s=ACK_S)
            except (TimeoutError, Error) as error:
                unanswered += self._bus.nc.is_connected
                logger.warning("command.ack_unanswered", task_id=str(self.message.task_id), error=repr(error))
            else:
                return True
        return False

    async def later(self, delay_s: float) -> None:
        """Give it to somebody, maybe us, after `delay_s`."""
        await self._bus.publish(self._reply, b'-NAK {"delay": %d}' % max(1, int(delay_s * 1e9)))

    async def reject(self, reason: str) -> None:
        """Never again: it is parked with this reason unless its end is in the log already."""
        await self._bus.publish(self._reply, termination(self.message.task_id, self.message.request_version, reason))


def termination(task_id: UUID, request_version: int, reason: str) -> bytes:
    """The answer that takes a message out of its stream; the reason names the task, for the message will be gone."""
    line = f"+TERM {task_id}.{request_version} {' '.join(reason.split())}"
    return line.encode(errors="backslashreplace")[:900]


class CommandQueue:
    """The next task for one worker slot, by class (hi, std, bulk), of some task types.

    Takes one message at a time, never one more than is asked for: a message that waits in a worker burns its time, and
    one that is handed back burns one of its deliveries. So no request is left open at the server; instead the server
    announces what it stores (`republish` of EIOKU_CMD), and a free worker asks the consumer in question. Several free
    workers ask; one gets it.
    """

    def __init__(self, bus: Bus, task_types: Sequence[str]) -> None:
        self._bus = bus
        self._order = {
            priority: [(priority, task_type) for task_type in task_types] for priority in PRIORITIES
        }
        self._names = {subjects.queued(*pair): pair for pairs in self._order.values() for pair in pairs}
        self._maybe: set[tuple[Priority, str]] = set(self._names.values())
        """Consumers that may have something: announced, not yet found empty."""
        self._announced = asyncio.Event()
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()
        self._came = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self._inbox = bus.nc.new_inbox()
        self._turn = 0
        self._taking = asyncio.Lock()

    async def next(self, timeout_s: float) -> Delivery | None:
        """The next task, or None after `timeout_s`. Cancel it freely: what arrives then is kept for the next call."""
        async with self._taking:
            if not self._subscriptions:
                await self._open()
            loop = asyncio.get_running_loop()
            until = loop.time() + timeout_s
            expires_s: float | None = None
            while True:
                delivery = await self._take(expires_s)
                if delivery is not None:
                    self._turn += 1
                    return delivery
                left_s = until - loop.time()
                if left_s <= 0:
                    return None
                try:
                    async with asyncio.timeout(min(left_s, LOOK_AGAIN_S)):
                        await self._announced.wait()
                    expires_s = LINGER_S
                except TimeoutError:
                    self._maybe.update(self._names.values())
                    expires_s = None

    async def next_if(
        self, priority: Priority, task_type: str, is_wanted: Callable[[TaskMessage], bool]
    ) -> Delivery | None:
        """The next task of that class and type, if it is one that is wanted: it is looked at before it is taken.

        Between the two another worker may take it, and what is taken then is whatever came next. Answers soon.
        """
        async with self._taking:
            if not await self._is_next(priority, task_type, is_wanted):
                return None
            raw = await self._ask((priority, task_type), None)
            return None if raw is None else await self._delivery(raw)

    async def _is_next(
        self, priority: Priority, task_type: str, is_wanted: Callable[[TaskMessage], bool]
    ) -> bool:
        durable = durable_of(priority, task_type)
        try:
            consumer = await self._bus.js.consumer_info(CMD, durable)
            if not consumer.num_pending or consumer.config is None or consumer.delivered is None:
                return False
            # The stream holds what waits and what is being worked on; the consumer goes by the order of the stream.
            stored = await self._bus.js.get_msg(
                CMD, seq=consumer.delivered.stream_seq + 1, subject=consumer.config.filter_subject, next=True
            )
            return is_wanted(_message.decode(stored.data or b""))
        except (TimeoutError, Error, *UNREADABLE):  # whoever takes it will see what is wrong
            return False

    async def close(self, *untouched: Delivery) -> None:
        """Take no more. What has arrived and was not handed out, or is `untouched`, goes to another worker at once."""
        self._bus.reconnected.discard(self._look_everywhere)
        with contextlib.suppress(Error, ConnectionError):
            for delivery in untouched:
                await delivery.later(0)
        if self._subscriptions:
            inbox, *others = self._subscriptions
            self._subscriptions = []
            await give_back(inbox, self._arrived)
            with contextlib.suppress(Error, ConnectionError):
                for subscription in others:
                    await subscription.unsubscribe()

    async def _open(self) -> None:
        async def take(message: Msg) -> None:
            self._arrived.put_nowait(message)
            self._came.set()

        async def announced(message: Msg) -> None:
            self._maybe.add(self._names[message.subject])
            self._announced.set()

        self._subscriptions = [
            await self._bus.nc.subscribe(self._inbox, cb=take),
            *[await self._bus.nc.subscribe(subject, cb=announced) for subject in self._names],
        ]
        self._bus.reconnected.add(self._look_everywhere)

    def _look_everywhere(self) -> None:
        self._maybe.update(self._names.values())
        self._announced.set()

    async def _take(self, expires_s: float | None) -> Delivery | None:
        """Ask the consumers that may have something, best first, until one has."""
        self._announced.clear()
        for pair in self._candidates():
            if pair not in self._maybe:
                continue
            self._maybe.discard(pair)  # before asking: an announcement meanwhile puts it back
            raw = await self._ask(pair, expires_s)
            if raw is None:
                continue
            self._maybe.add(pair)
            if (delivery := await self._delivery(raw)) is not None:
                return delivery
        return None

    async def _delivery(self, raw: Msg) -> Delivery | None:
        try:
            return Delivery(self._bus, raw, _message.decode(raw.data))
        except UNREADABLE as error:
            logger.error("command.undecodable", subject=raw.subject, error=str(error))  # noqa: TRY400
            await self._refuse(raw, str(error))
            return None

    def _candidates(self) -> list[tuple[Priority, str]]:
        classes = PRIORITIES[::-1] if self._turn % BULK_EVERY == BULK_EVERY - 1 else PRIORITIES
        pairs = []
        for priority in classes:
            of_class = self._order[priority]
            first = self._turn % len(of_class) if of_class else 0
            pairs += of_class[first:] + of_class[:first]
        return pairs

    async def _ask(self, pair: tuple[Priority, str], expires_s: float | None) -> Msg | None:
        """One request, one answer. An answer that comes too late is what the next call finds first."""
        while not self._arrived.empty():
            late = self._arrived.get_nowait()
            if status_of(late) is None:
                return late
        self._came.clear()
        durable = durable_of(*pair)
        request = pull_request(1, expires_s=expires_s)
        await self._bus.publish_request(f"$JS.API.CONSUMER.MSG.NEXT.{CMD}.{durable}", request, self._inbox)
        try:
            await self._bus.answered(self._came.wait(), REPLY_S)
        except TimeoutError:
            logger.warning("bus.no_answer", subject=durable)
            return None
        answer = self._arrived.get_nowait()
        status = status_of(answer)
        if status is None:
            return answer
        if status == "503" or "Deleted" in description_of(answer):
            logger.error("bus.consumer_gone", stream=CMD, durable=durable)
        return None

    async def _refuse(self, raw: Msg, reason: str) -> None:
        task_id, _, version = raw.headers["Nats-Msg-Id"].rpartition(".") if raw.headers else ("", "", "")
        with contextlib.suppress(ValueError):
            await self._bus.publish(raw.reply, termination(UUID(task_id), int(version), f"undecodable: {reason}"))
            return
        await raw.term()


class _State(msgspec.Struct, frozen=True):
    subjects: dict[str, int] | None = None


class _StreamInfo(msgspec.Struct, frozen=True):
    state: _State | None = None
    total: int = 0


async def pending_tasks(bus: Bus) -> set[UUID]:
    """Tasks that wait for a worker or are in a worker's hands, all tenants; 1,000 take about 3 ms.

    Raises:
        ServiceUnavailable: the stream is not there, or nobody answers.
    """
    return await _last_tokens(bus, CMD)


async def pending_runs(bus: Bus) -> set[UUID]:
    """Attempts with results that are not yet in the log. Raises as `pending_tasks` does."""
    return await _last_tokens(bus, RES)


async def _last_tokens(bus: Bus, stream: str) -> set[UUID]:
    found: set[UUID] = set()
    offset = 0
    while True:
        request = msgspec.json.encode({"subjects_filter": ">", "offset": offset})
        try:
            reply = await bus.request(f"$JS.API.STREAM.INFO.{stream}", request)
        except (TimeoutError, Error) as error:
            raise ServiceUnavailable(f"JetStream does not answer: {error!r}") from error
        info = msgspec.json.decode(reply.data, type=_StreamInfo)
        if info.state is None:
            raise ServiceUnavailable(f"stream {stream} is not there")
        page = info.state.subjects or {}
        for subject in page:
            with contextlib.suppress(ValueError):  # somebody else's: nothing of ours goes by it
                found.add(UUID(subject.rpartition(".")[2]))
        offset += len(page)
        if not page or offset >= info.total:
            return found
