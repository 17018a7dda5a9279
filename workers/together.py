"""Which tasks a worker does together: those that look at the frames of one video (ADR-0017)."""

import asyncio
from collections.abc import Collection, Sequence

from application.messages import TaskMessage
from infrastructure.nats.cancel import Cancellations
from infrastructure.nats.commands import CommandQueue, Delivery
from workers.protocol import MOST_TOGETHER

ALONE_S, LINGER_S = 0.25, 0.04
"""How long a task waits for its first neighbour, and from each one on for the next: the tasks of a video are asked for at
once and published within some ms, but by a machine that has just begun to work on it (40 ms were too few)."""
LOOK_S = 0.01


class Gathering:
    """The queue, by groups. What was taken and cannot go with its group waits here: given back it burns a delivery."""

    def __init__(
        self, queue: CommandQueue, cancellations: Cancellations, sharing: Collection[str], heartbeat_s: float
    ) -> None:
        """`sharing`: the task types that can share a pass over the frames."""
        self._queue, self._cancellations = queue, cancellations
        self._sharing = frozenset(sharing)
        self._waiting: list[Delivery] = []
        """Taken and not yet handed out, oldest first."""
        self._keeping = asyncio.create_task(self._keep(heartbeat_s))

    async def next(self, timeout_s: float) -> tuple[Delivery, ...]:
        """The next task and those that go with it; none after `timeout_s`. Cancel it freely."""
        if not self._waiting:
            delivery = await self._queue.next(timeout_s)
            if delivery is None:
                return ()
            self._waiting.append(delivery)
        first = self._waiting[0]
        if self._may_share(first):
            await self._look_for_others(first)
        together = self._group(first)
        self._waiting = [delivery for delivery in self._waiting if delivery not in together]
        return together

    def keep(self, group: Sequence[Delivery]) -> None:
        """Hold on to these, which `next` gave: they are what it gives next, unless they are called off until then."""
        self._waiting[:0] = group

    async def close(self) -> None:
        """Take no more, and give back what waits."""
        self._keeping.cancel()
        await asyncio.wait((self._keeping,))
        await self._queue.close(*self._waiting)

    async def _look_for_others(self, first: Delivery) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + (LINGER_S if len(self._group(first)) > 1 else ALONE_S)
        missing = self._sharing - {delivery.message.task_type for delivery in self._group(first)}
        while missing:
            for task_type in sorted(missing):
                found = await self._queue.next_if(
                    first.message.priority,
                    task_type,
                    lambda message: _video_of(message) == _video_of(first.message),
                )
                if found is not None:
                    self._waiting.append(found)
                    missing -= {task_type}  # also if somebody was quicker and it is another one
                    until = loop.time() + LINGER_S
            if loop.time() >= until:
                return
            await asyncio.sleep(LOOK_S)

    def _may_share(self, delivery: Delivery) -> bool:
        """A task that comes again is done alone: one that kills the process takes its neighbours down only once."""
        return delivery.delivery == 1 and delivery.message.task_type in self._sharing

    def _group(self, first: Delivery) -> tuple[Delivery, ...]:
        """Of those that wait, `first` and what can share a pass with it, one of a type."""
        group = {first.message.task_type: first}
        for delivery in self._waiting:
            is_of_it = _video_of(delivery.message) == _video_of(first.message)
            if is_of_it and self._may_share(first) and self._may_share(delivery):
                group.setdefault(delivery.message.task_type, delivery)
        return tuple(group.values())[:MOST_TOGETHER]

    async def _keep(self, every_s: float) -> None:
        """Hold on to what waits, while it is not called off."""
        while True:
            await asyncio.sleep(every_s)
            for delivery in tuple(self._waiting):
                if not self._cancellations.has(delivery.message):
                    await delivery.heartbeat()
                elif await delivery.done() and delivery in self._waiting:
                    self._waiting.remove(delivery)


def _video_of(message: TaskMessage) -> tuple[str, str | None]:
    """Where the bytes lie, and which they are."""
    return message.source, message.blake3
