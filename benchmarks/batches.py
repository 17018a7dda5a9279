"""Several videos at once before one model: one after the other, beside each other, and in the same batches (ADR-0024).

    python -m benchmarks.batches

The turns and the batches are those of workers. The model and the decoder are simulated by sleeping, as a GPU and a core of
its own for each video would let a process sleep: a call costs so much by itself and so much for each item. It shows what
the scheme does with such costs, and nothing about a real card.
"""

import itertools
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import structlog

from benchmarks.stand import show
from workers.fitting import Fitting
from workers.leases import Leases, Loadable
from workers.memory import CPU
from workers.producer import ModelPlaces

AT_ONCE, BATCH = 4, 16
_names = itertools.count()


class Case(NamedTuple):
    """Videos, and what they cost."""

    name: str
    videos: int
    items: int
    """Of each."""
    call_ms: int
    """Of a call, whatever is in it."""
    item_ms: int
    """Of each item in it."""
    decode_ms: int
    """Until the next item is there."""


CASES = (
    Case("long videos, slow model", 4, 160, 20, 4, 1),
    Case("long videos, slow decoding", 4, 160, 5, 1, 8),
    Case("short videos, slow model", 40, 6, 20, 4, 2),
    Case("short videos, slow decoding", 40, 6, 5, 1, 10),
)


class Model:
    """Takes its time."""

    def __init__(self, case: Case) -> None:
        self.case, self.calls = case, 0

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls += 1
        time.sleep((self.case.call_ms + self.case.item_ms * len(items)) / 1000)
        return list(items)


def look(model: Model, items: Sequence[int]) -> list[int]:
    """What may be shared."""
    return model(items)


def main() -> None:
    """Measure and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows: list[list[object]] = []
    for case in CASES:
        (alone_s, alone), (beside_s, _), (merged_s, merged) = (
            _measured(case, at_once, is_shared=is_shared) for at_once, is_shared in ((1, True), (AT_ONCE, False), (AT_ONCE, True))
        )
        rows.append([case.name, alone_s, beside_s, merged_s, alone, merged])
    show(
        f"Seconds, and calls of a model that is simulated; {AT_ONCE} videos at once, {BATCH} items in a call",
        ("", "one by one", "beside each other", "in the same batches", "calls", "calls, same batches"),
        rows,
    )


def _measured(case: Case, at_once: int, *, is_shared: bool) -> tuple[float, int]:
    """(seconds, calls)."""
    model, leases = Model(case), Leases()
    loadable = Loadable("model", next(_names), (), lambda _: model)

    def video(_: int) -> None:
        with leases.lease(loadable, CPU, ModelPlaces(device="cpu")) as lease:
            fitting, left = Fitting(lease, most=lambda _: BATCH), case.items
            while left:
                some = range(min(left, fitting.batch))
                time.sleep(case.decode_ms * len(some) / 1000)
                fitting.over(some, look if is_shared else lambda model, items: model(items))
                left -= len(some)

    begun = time.monotonic()
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(video, range(case.videos)))
    return time.monotonic() - begun, model.calls


if __name__ == "__main__":
    main()
