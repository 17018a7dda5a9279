"""Helping each other with long jobs: what the parents of the computing processes do for it (ADR-0019)."""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any
from uuid import UUID

import structlog

from application.messages import TaskMessage
from domain.errors import WorkerDied
from infrastructure.nats import assist
from infrastructure.nats.assist import Offer, Offers
from infrastructure.nats.commands import Delivery
from infrastructure.nats.connection import Bus
from infrastructure.nats.streams import ACK_WAIT_S
from workers.child import Child
from workers.producer import ModelPlaces, Producer
from workers.protocol import Aid, Aided
from workers.sharing import Shareable

logger = structlog.get_logger()

STILL_EVERY_S = 1.0
"""How soon a helper notices that its help is no longer wanted."""
GIVE_WAY_S = 60.0
"""How long a task waits for the piece that is being done; then the computing process is ended."""


async def lead(bus: Bus, message: TaskMessage, run_id: UUID, child: Child) -> None:
    """Let idle workers help with the child's job until this is cancelled; a job that is not shared has no cost."""
    await assist.lead(
        bus,
        message.tenant_id,
        message.task_type,
        run_id,
        to_share=lambda: child.to_share(run_id),
        piece=lambda: child.piece(run_id),
        done=lambda found: child.piece_done(run_id, found),
    )


class Helper:
    """Helps others while there is nothing of its own to do."""

    def __init__(self, bus: Bus, producers: Sequence[type[Producer]], models: ModelPlaces) -> None:
        self._bus, self._models = bus, models
        self._offers = Offers(bus, [kind.task_type for kind in producers if issubclass(kind, Shareable)])
        self._helping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen for offers."""
        await self._offers.open()

    async def close(self) -> None:
        """Listen no more."""
        await self._offers.close()

    async def meanwhile(
        self, child: Child, waiting: Coroutine[Any, Any, tuple[Delivery, ...]]
    ) -> tuple[Delivery, ...]:
        """What `waiting` gives; the child helps until then, and is free again when there are tasks."""
        if self._helping is None or self._helping.done():
            self._helping = asyncio.create_task(self._help(child))
        task = asyncio.create_task(waiting)
        deliveries: tuple[Delivery, ...] = ()
        is_over = True
        try:
            deliveries = await task
            is_over = bool(deliveries)
        finally:
            task.cancel()
            if is_over:
                await self._give_way(child, self._helping, deliveries)
        return deliveries

    async def _give_way(
        self, child: Child, helping: "asyncio.Task[None]", deliveries: tuple[Delivery, ...]
    ) -> None:
        """A piece takes seconds: its end is waited for, but its result is not."""
        helping.cancel()
        until = asyncio.get_running_loop().time() + GIVE_WAY_S
        while not helping.done():
            await asyncio.wait((helping,), timeout=ACK_WAIT_S / 3)
            if not helping.done():
                for delivery in deliveries:
                    await delivery.heartbeat()
            if asyncio.get_running_loop().time() > until:
                child.kill(WorkerDied("it did not leave the job that it helped with"))

    async def _help(self, child: Child) -> None:
        with contextlib.suppress(WorkerDied):
            while True:
                offer = await self._offers.next()
                if await self._do(child, offer, ()) is None:
                    continue  # another model, or another device
                while pieces := await self._claim(offer):
                    logger.info("job.helped", subject=offer.subject, pieces=len(pieces))
                    found = await self._do(child, offer, pieces)
                    if found is None or not all([await assist.hand_in(self._bus, offer, each) for each in found]):
                        break

    async def _claim(self, offer: Offer) -> tuple[bytes, ...]:
        pieces: list[bytes] = []
        while len(pieces) < offer.batch_size and (piece := await assist.claim(self._bus, offer)) is not None:
            pieces.append(piece)
        return tuple(pieces)

    async def _do(self, child: Child, offer: Offer, pieces: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
        """What the child finds; it stops when the leader is gone, or when this is cancelled."""
        with child.slots(1) as (slot,):
            slot.assign(
                Aid(
                    number=slot.number,
                    wire=slot.wire,
                    task_type=offer.task_type,
                    terms=offer.terms,
                    pieces=pieces,
                    models=self._models,
                )
            )
            hearing = asyncio.create_task(slot.hear())
            try:
                while not hearing.done():
                    await asyncio.wait((hearing,), timeout=STILL_EVERY_S)
                    if not hearing.done() and not await assist.still(self._bus, offer):
                        slot.pulse.cancel(slot.number)
            finally:
                slot.pulse.cancel(slot.number)
                await asyncio.wait((hearing,))  # the next job must not hear the answer to this one
        match hearing.result():
            case Aided(found):
                return found
            case report:
                raise AssertionError(f"the child answers {report!r} to a wish for help")
