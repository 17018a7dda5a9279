"""What several jobs have for one model: one call for all of them, and each gets its own (ADR-0024)."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from domain.errors import JobCancelled, OutOfMemory
from tests.support.jobs import PATIENCE_S, Hold, Job, Model, look
from workers.leases import Leases, Loadable

_names = itertools.count()
FIRST = 99
"""The item of the job that holds the model while the others come."""


class Stand:
    """One model, and the jobs that lease it."""

    def __init__(self) -> None:
        self.model, self.leases = Model(), Leases()
        self.loadable = Loadable("model", f"batches-{next(_names)}", (), lambda _: self.model)

    def job(self, *items: int, work: Any = look, alike: Any = None, **fitting: Any) -> Job:
        return self.doing(lambda fit: fit.over(items, work, alike=alike), **fitting)

    def doing(self, work: Callable[[Any], Any], **fitting: Any) -> Job:
        return Job(self.leases, self.loadable, work, **fitting)

    def busy(self) -> Job:
        """A job that has the model until others are `waiting`."""
        hold = self.model.holds[FIRST] = Hold()
        first = self.job(FIRST, alike="by itself")
        assert hold.begun.wait(PATIENCE_S)
        return first

    def waiting(self, *jobs: Job) -> None:
        for job in jobs:
            job.is_waiting()
        self.model.holds[FIRST].go_on.set()


@pytest.fixture
def stand() -> Stand:
    return Stand()


def test_what_came_while_the_model_was_busy_goes_into_one_call_and_each_gets_its_own(stand: Stand) -> None:
    first = stand.busy()
    two, one = stand.job(1, 2), stand.job(3)
    stand.waiting(two, one)
    assert (first.end(), two.end(), one.end()) == ([990], [10, 20], [30])
    assert sorted(map(sorted, stand.model.calls)) == [[1, 2, 3], [FIRST]]
    assert [job.metrics["merged"] for job in (first, two, one)] == [0, 1, 1]


def test_a_call_has_no_more_items_than_fit(stand: Stand) -> None:
    stand.busy()
    jobs = [stand.job(1, 2, 3), stand.job(4, 5), stand.job(6)]
    stand.waiting(*jobs)
    assert [job.end() for job in jobs] == [[10, 20, 30], [40, 50], [60]]
    assert all(len(items) <= 4 for items in stand.model.calls)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"alike": (1080, 1920)}, {"alike": (720, 1280)}),
        ({"size": 640}, {"size": 320}),
        ({"work": lambda model, items: model(items)}, {"work": lambda model, items: model(items)}),
    ],
    ids=["another shape", "another size", "nobody knows what they do"],
)
def test_what_is_not_alike_has_calls_of_its_own(stand: Stand, one: dict, other: dict) -> None:
    stand.busy()
    jobs = [stand.job(1, **one), stand.job(2, **other)]
    stand.waiting(*jobs)
    assert [job.end() for job in jobs] == [[10], [20]]
    assert sorted(stand.model.calls) == [[1], [2], [FIRST]]


def test_one_that_finds_the_model_free_waits_for_nobody(stand: Stand) -> None:
    def work(fit: Any) -> list[int]:
        return [*fit.over([1], look), *stand.job(2).end(), *fit.over([3], look)]  # the other one is at work all the while

    assert stand.doing(work).end() == [10, 20, 30]
    assert stand.model.calls == [[1], [2], [3]]


def test_a_batch_of_several_that_does_not_fit_is_halved_for_all_of_them(stand: Stand) -> None:
    stand.model.fits = 3
    stand.busy()
    jobs = [stand.job(1, 2), stand.job(3, 4)]
    stand.waiting(*jobs)
    assert [job.end() for job in jobs] == [[10, 20], [30, 40]]
    assert list(map(len, stand.model.calls)) == [1, 4, 2, 2]
    assert [(job.metrics["batch"], job.metrics["out_of_memory"]) for job in jobs] == [(2, 1), (2, 1)]


def test_where_not_even_one_fits_each_job_fails_by_itself(stand: Stand) -> None:
    stand.busy()
    jobs = [stand.job(1), stand.job(2)]
    stand.model.fits = 0
    stand.waiting(*jobs)
    assert [type(job.end()) for job in jobs] == [OutOfMemory, OutOfMemory]


def test_only_the_job_whose_item_it_was_fails(stand: Stand) -> None:
    stand.busy()
    bad, good = stand.job(-1), stand.job(2, 3)
    for job in (bad, good):
        job.is_waiting()
    hold = stand.model.holds[7] = Hold()
    other = stand.job(7, alike="something else")
    stand.waiting(other)
    assert hold.begun.wait(PATIENCE_S)  # their common call has failed
    for job in (bad, good):
        job.is_waiting_again()
    hold.go_on.set()
    assert (str(bad.end()), good.end()) == ("[-1] cannot be looked at", [20, 30])
    assert sorted(map(sorted, stand.model.calls)) == [[-1], [-1, 2, 3], [2, 3], [7], [FIRST]]
    assert stand.job(5).end() == [50]


def test_one_that_is_cancelled_while_it_waits_takes_its_items_with_it(stand: Stand) -> None:
    first = stand.busy()
    gone, stays = stand.job(1), stand.job(2)
    gone.cancel = JobCancelled("called off")
    assert gone.end() is gone.cancel  # though the model is still busy
    stand.waiting(stays)
    assert (first.end(), stays.end()) == ([990], [20])
    assert stand.model.calls == [[FIRST], [2]]


def test_one_that_is_cancelled_while_its_items_are_in_a_call_leaves_the_others_theirs(stand: Stand) -> None:
    stand.busy()
    hold = stand.model.holds[1] = Hold()
    caller = stand.job(1)
    caller.is_waiting()
    gone = stand.job(2)
    stand.waiting(gone)
    assert hold.begun.wait(PATIENCE_S)
    gone.cancel = JobCancelled("called off")
    assert gone.end() is gone.cancel
    hold.go_on.set()
    assert caller.end() == [10]
    assert stand.model.calls == [[FIRST], [1, 2]]
