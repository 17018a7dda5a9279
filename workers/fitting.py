"""Batches that fit into memory: half of one that does not, then the CPU, then a clear error (ADR-0018).

What several jobs have for one model goes into one batch (ADR-0024).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import structlog

from domain.errors import OutOfMemory
from workers.calls import Request
from workers.leases import Lease
from workers.memory import CPU, give_back, is_out_of_memory

log = structlog.get_logger(__name__)

M = TypeVar("M")
T = TypeVar("T")
R = TypeVar("R")

_fitted: dict[tuple[Hashable, str, Hashable], int] = {}
"""The largest batch that may fit, by model, device and size of one item; as long as the process lives."""


class Fitting(Generic[M]):
    """Runs a leased model, for one job; one thread of the process calls the model at a time."""

    def __init__(
        self,
        lease: Lease[M],
        *,
        most: Callable[[M], int] = lambda _: 1,
        size: Hashable = None,
        wait: Callable[[], None] = lambda: None,
    ) -> None:
        """`most`: items in a batch where memory allows; `size`: what the memory for one item depends on.

        `wait` is called again and again while it is another job's turn; what it raises passes through.
        """
        self._lease, self._most, self._size, self._wait = lease, most, size, wait
        self._shortages = self._merged = 0
        self._has_moved = False

    @property
    def device(self) -> str:
        """Where the model is now: "cpu" or "cuda:0"."""
        return self._lease.device

    @property
    def batch(self) -> int:
        """Items to hand over at once."""
        most = self._most(self._lease.model)
        return min(most, _fitted.get(self._key, most))

    @property
    def metrics(self) -> dict[str, float]:
        """For the run: the batch in the end, how often memory ran out, whether the CPU had to take over, and how many
        batches held items of other jobs, too.
        """
        return {
            "batch": float(self.batch),
            "out_of_memory": float(self._shortages),
            "moved_to_cpu": float(self._has_moved),
            "merged": float(self._merged),
        }

    def run(self, work: Callable[[M], R]) -> R:
        """What `work` makes with the model, where there is nothing to halve; raises OutOfMemory."""
        return self.over((None,), lambda model, _: [work(model)])[0]

    def over(
        self, items: Sequence[T], work: Callable[[M, Sequence[T]], Sequence[R]], *, alike: Hashable = None
    ) -> list[R]:
        """What `work` makes of all items, a result each, in batches.

        Items of other jobs are in them where `work`, `size` and `alike` are equal: hand over a function of a module, or
        what compares by what it does; a lambda has its batches for itself. What an item of another job raises is raised
        there alone.

        Raises:
            OutOfMemory: not even one item fits, and there is no CPU to go to.
        """
        results: list[R] = []
        kind: Hashable = (work, self._size, alike)
        while len(results) < len(items):
            most = self.batch
            request = Request(kind, items[len(results) : len(results) + most], most)
            with self._lease.calls.turn(request, self._wait) as together:
                if together:
                    self._call(together, work)
            self._shortages += request.is_short
            if request.results is not None:
                self._merged += request.has_company
                results += request.results
                kind = (work, self._size, alike)
            elif not request.is_short:
                kind = object()  # by itself: nothing is equal to it
        return results

    def _call(self, together: Sequence[Request], work: Callable[[M, Sequence[T]], Sequence[R]]) -> None:
        """One call for all of them; raises only what is this job's own."""
        items = [item for request in together for item in request.items]
        try:
            results = list(work(self._lease.model, items))
            if len(results) != len(items):
                raise ValueError(f"{len(results)} results of {len(items)} items")  # noqa: TRY301 — as if `work` did
        except Exception as error:
            if not is_out_of_memory(error):
                if len(together) == 1:
                    raise
                log.warning("batch.divided", jobs=len(together), error=repr(error)[:200])
                return
            problem = str(error)
        else:
            for request in together:
                request.results, results = results[: len(request.items)], results[len(request.items) :]
                request.has_company = len(together) > 1
            return
        # Outside of the handler: the traceback holds what filled the memory.
        for request in together:
            request.is_short = True
        self._relieve(len(items), problem)

    def _relieve(self, tried: int, problem: str) -> None:
        give_back()
        if self._lease.make_room():
            return
        device = self._lease.device
        if tried > 1:
            _fitted[self._key] = min(tried // 2, _fitted.get(self._key, tried))
            log.warning("model.smaller_batch", device=device, batch=tried // 2, error=problem[:200])
        elif self._lease.move_to_cpu():
            self._has_moved = True
            log.warning("model.on_cpu", model=self._lease.loadable.name, error=problem[:200])
        else:
            cpu = "" if device == CPU else ", and EIOKU_DEVICE does not allow the CPU"
            raise OutOfMemory(f"not even one at a time fits into the memory of {device}{cpu}: {problem}"[:500])

    @property
    def _key(self) -> tuple[Hashable, str, Hashable]:
        return self._lease.loadable.key, self._lease.device, self._size
