"""Jobs that lease one model, each in a thread of its own, and a model that tells what it was called with."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from workers.fitting import Fitting
from workers.leases import Lease, Leases, Loadable
from workers.memory import CPU
from workers.producer import ModelPlaces

PATIENCE_S = 30.0
"""Nothing here takes so long unless it hangs."""


class Hold:
    """A call that has begun waits until it may go on."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()


class Model:
    """Makes ten times the number out of a number; `calls` are the items of each call."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.fits = 1_000
        """Items in a call; then memory runs out."""
        self.holds: dict[Any, Hold] = {}
        """By the item that is in the call."""
        self._is_called = threading.Lock()

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        assert self._is_called.acquire(blocking=False), "two threads call the model at a time"
        try:
            self.calls.append(list(items))
            for hold in [self.holds[item] for item in items if item in self.holds]:
                hold.begun.set()
                assert hold.go_on.wait(PATIENCE_S)
            if len(items) > self.fits:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
            if bad := [item for item in items if item < 0]:
                raise ValueError(f"{bad} cannot be looked at")
            return [item * 10 for item in items]
        finally:
            self._is_called.release()


def look(model: Model, items: Sequence[Any]) -> list[Any]:
    """What jobs of a kind do."""
    return model(items)


class Job(threading.Thread):
    """One job: `work(fitting)` under a lease; `result` is what that returned or raised.

    `waits` is released whenever it waits for its turn; `cancel` is raised then, once it is set.
    """

    def __init__(self, leases: Leases, loadable: Loadable[Model], work: Callable[[Fitting[Model]], Any], **fitting: Any) -> None:
        super().__init__(daemon=True)
        self._leases, self._loadable, self._work = leases, loadable, work
        self._options = {"most": lambda _: 4, "size": loadable.key} | fitting
        self.waits = threading.Semaphore(0)
        self.cancel: Exception | None = None
        self.result: Any = None
        self.metrics: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        """In a thread of its own."""
        try:
            with self._leases.lease(self._loadable, CPU, ModelPlaces(device="cpu")) as lease:
                fitting = self._fitting(lease)
                self.result = self._work(fitting)
                self.metrics = fitting.metrics
        except Exception as error:  # noqa: BLE001 — looked at by the test
            self.result = error

    def _fitting(self, lease: Lease[Model]) -> Fitting[Model]:
        return Fitting(lease, wait=self._wait, **self._options)

    def _wait(self) -> None:
        self.waits.release()
        if self.cancel is not None:
            raise self.cancel

    def is_waiting(self) -> None:
        """Return once it has waited for a while."""
        assert self.waits.acquire(timeout=PATIENCE_S)

    def is_waiting_again(self) -> None:
        """Return once it waits though whatever it waited for is done: that may be told once more, and not twice."""
        while self.waits.acquire(blocking=False):
            pass
        for _ in range(2):
            self.is_waiting()

    def end(self) -> Any:
        """Its result."""
        self.join(PATIENCE_S)
        assert not self.is_alive()
        return self.result
