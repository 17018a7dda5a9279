"""The relay: follows the log and tells the bus. The log is the outbox; there is no other.

For each stretch of the log, in this order: commands stored → events stored → checkpoint. Each step may happen again,
none is skipped. Where to go on is read from EIOKU_EVT itself: its last message says which position it holds, so a relay
that died before its checkpoint repeats nothing, however long ago that was. Each message is bound to the sequence before
it, so a second relay that believes itself to be the only one is refused at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from uuid import UUID

import psycopg
import structlog
from nats.errors import Error
from nats.js.errors import NotFoundError
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from application.ports import EventLog, Recorded
from domain.errors import ConcurrencyConflict, IntegrityConflict, ServiceUnavailable, Undecodable
from domain.event import DomainEvent
from domain.task import TaskEvent, TaskRequested
from domain.video import VideoEvent
from infrastructure.nats.cloudevents import Outgoing, outgoing
from infrastructure.nats.connection import Bus, BusError, DuplicateInBatch, Stored
from infrastructure.nats.dispatch import CalledOff, Waiting, carry_out, plan
from infrastructure.nats.publish import BATCH_FROM, atomically, batches, side_by_side
from infrastructure.nats.streams import EVT
from infrastructure.postgres.connections import connect_async

logger = structlog.get_logger()

FOLLOWER = "relay"
CHANNEL = "eioku_log"
LOCK = 0x656F6B75_0001
"""Advisory lock of the one active relay ("eoku", 1)."""
POLL_S = 0.25
"""A notification may be lost; then the log is looked at this much later."""
STANDBY_S = 1.0
READ_EVENTS = 2_000
"""Events at a time; commands wait no longer than it takes to store these."""
RETRY_S = (0.1, 5.0)


class Relay:
    """One run of the relay, from where EIOKU_EVT ends. `wake` returns when there may be news in the log."""

    def __init__(self, log: EventLog, bus: Bus, wake: Callable[[], Awaitable[object]], *, deployment: str) -> None:
        self._log, self._bus, self._wake = log, bus, wake
        self._source = f"/eioku/{deployment}"
        self._video_of_task = lru_cache(maxsize=10_000)(self._load_video_of_task)
        self._told = 0
        """Commands of all events up to here are on the bus."""
        self._checkpoint = 0
        self._sequence = 0
        """The newest message of EIOKU_EVT."""
        self.position = 0
        """Events up to here are on EIOKU_EVT."""

    async def resume(self) -> None:
        """Find out where to go on.

        Normally EIOKU_EVT is level with the checkpoint, or ahead when we died in between. Behind it the stream has lost
        its tail, or was made anew: those events are published again, their commands are the reconciler's business.
        """
        try:
            state = (await self._bus.js.stream_info(EVT)).state
            last = await self._bus.js.get_msg(EVT, seq=state.last_seq) if state.messages else None
        except (NotFoundError, Error, TimeoutError) as error:
            raise ServiceUnavailable(f"no answer about {EVT}: {error!r}") from error
        self._checkpoint = await asyncio.to_thread(self._log.checkpoint, FOLLOWER)
        self._sequence = state.last_seq
        if last is None:
            # Nothing was ever stored, or all of it was too old to keep.
            self.position = self._checkpoint if state.last_seq else 0
        elif "eioku-position" in (headers := last.headers or {}):
            self.position = int(headers["eioku-position"])
        else:
            # Subscribers drop what they see again by its id.
            logger.error("relay.foreign_message", stream=EVT, sequence=state.last_seq, subject=last.subject)
            self.position = self._checkpoint
        self._told = max(self._checkpoint, self.position)
        logger.info("relay.resumed", position=self.position, checkpoint=self._checkpoint)

    async def follow(self, stop: asyncio.Event) -> None:
        """Publish what there is and what comes, until `stop` is set."""
        await self.resume()
        while not stop.is_set():
            if not await self.step():
                await self._wake()

    async def step(self) -> bool:
        """Publish the next stretch of the log; False when there is none."""
        records, planned, messages = await asyncio.to_thread(self._next)
        if not records:
            return False
        await carry_out(self._log, self._bus, planned)
        last = records[-1].position
        self._told = max(self._told, last)
        await self._publish(messages)
        self.position = last
        if last > self._checkpoint:
            await asyncio.to_thread(self._log.advance, FOLLOWER, last)
            self._checkpoint = last
        return True

    def _next(self) -> tuple[Sequence[Recorded], list[Waiting | CalledOff], list[Outgoing]]:
        """What to do next; in a thread."""
        records = self._log.read(self.position, limit=READ_EVENTS)
        planned = plan(self._log, [recorded for recorded in records if recorded.position > self._told])
        messages = [
            message
            for recorded in records
            for message in outgoing(recorded, source=self._source, video_id=self._video_of(recorded))
            if message.position > self.position  # of a batch that is half published
        ]
        return records, planned, messages

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        for batch in batches(messages):
            if len(batch) < BATCH_FROM:
                answers = await side_by_side(self._bus, EVT, batch, after=self._sequence)
                for answer in answers:
                    if isinstance(answer, Exception):
                        raise answer
                self._sequence += len(batch)
                continue
            try:
                self._sequence = (await atomically(self._bus, EVT, batch, after=self._sequence)).seq
            except DuplicateInBatch:
                # The server knows an id but no longer holds the message (somebody purged the stream): one by one the
                # known ones are passed over.
                for message in batch:
                    stored: Stored = await self._bus.store(EVT, message.subject, message.body, message.headers)
                    self._sequence = max(self._sequence, stored.seq)

    def _video_of(self, recorded: Recorded) -> UUID | None:
        match recorded.item:
            case VideoEvent(originator_id=video_id):
                return video_id
            case TaskRequested(video_id=video_id):
                return video_id
            case TaskEvent(originator_id=task_id):
                return self._video_of_task(task_id)
            case DomainEvent() as event:
                found = getattr(event, "video_id", None)
                return found if isinstance(found, UUID) else None
            case _:
                return None

    def _load_video_of_task(self, task_id: UUID) -> UUID | None:
        first = self._log.load(task_id)[0]
        return first.video_id if isinstance(first, TaskRequested) else None


async def run_relay(
    log: EventLog, bus: Bus, database_url: str, stop: asyncio.Event, *, deployment: str = "local"
) -> None:
    """Relay until `stop` is set. Several may run; one is active, the others wait for its Postgres session to end.

    `deployment` names this installation in the events' `source`. Streams must have been declared.

    Raises:
        ServiceUnavailable: the connection to NATS is closed for good; anything else that is away is waited for.
    """
    pause_s = RETRY_S[0]
    while not stop.is_set():
        try:
            async with _place(database_url, stop) as wake:
                if wake is not None:
                    await Relay(log, bus, wake, deployment=deployment).follow(stop)
                pause_s = RETRY_S[0]
        except (
            psycopg.OperationalError,
            ServiceUnavailable,
            IntegrityConflict,  # another relay has set the checkpoint
            ConcurrencyConflict,
            Undecodable,  # written by a newer version of Eioku: nothing is skipped
            BusError,
            Error,
            TimeoutError,
        ) as error:
            if bus.closed.done():
                raise ServiceUnavailable(f"connection to NATS closed: {bus.closed.result()}") from error
            logger.warning("relay.interrupted", error=repr(error), again_in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)
            pause_s = min(pause_s * 2, RETRY_S[1])


@asynccontextmanager
async def _place(url: str, stop: asyncio.Event) -> AsyncIterator[Callable[[], Awaitable[object]] | None]:
    """Be the active relay, on a connection that holds the lock and listens; None when stopped before. `wake` raises
    psycopg.OperationalError when the connection, and with it the place, is lost.
    """
    connection = await connect_async(url, application_name="eioku relay")
    try:
        while not await _locked(connection):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), STANDBY_S)
            if stop.is_set():
                yield None
                return
        await connection.execute(f"LISTEN {CHANNEL}")

        async def wake() -> None:
            async with contextlib.aclosing(connection.notifies(timeout=POLL_S, stop_after=1)) as arrivals:
                async for _ in arrivals:
                    pass

        yield wake
    finally:
        await connection.close()


async def _locked(connection: AsyncConnection[TupleRow]) -> bool:
    row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])).fetchone()
    return bool(row and row[0])
