"""Batches of several jobs: whatever comes when, each job gets what it would get alone."""

import itertools
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.jobs import Job, Model, look
from workers.leases import Leases, Loadable

_names = itertools.count()


class Plan(NamedTuple):
    """What one job asks for."""

    kind: int
    """Jobs of one kind may share a call."""
    requests: list[int]
    """Items of each."""
    bad: int | None
    """The request that has an item which cannot be looked at."""


PLANS = st.lists(
    st.builds(
        Plan,
        kind=st.integers(0, 1),
        requests=st.lists(st.integers(1, 6), max_size=6),
        bad=st.one_of(st.none(), st.integers(0, 5)),
    ),
    min_size=1,
    max_size=5,
)


@given(plans=PLANS, fits=st.integers(1, 12), most=st.integers(1, 8))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_each_job_gets_its_own_results_and_its_own_errors(plans: list[Plan], fits: int, most: int) -> None:
    model, leases = Model(), Leases()
    model.fits = fits
    loadable = Loadable("model", f"property-{next(_names)}", (), lambda _: model)
    jobs = [
        Job(leases, loadable, lambda fit, n=n, plan=plan: _work(fit, n, plan), most=lambda _: most)
        for n, plan in enumerate(plans)
    ]
    for number, (job, plan) in enumerate(zip(jobs, plans, strict=True)):
        assert job.end() == [_expected(number, request, plan) for request in range(len(plan.requests))]
    kinds = [{plans[abs(item) // 1_000 - 1].kind for item in items} for items in model.calls]
    assert all(len(found) == 1 for found in kinds)
    assert all(len(items) <= most for items in model.calls)


def _items(number: int, plan: Plan) -> list[list[int]]:
    """Of each request; an item names its job and itself, and is negative where it is bad."""
    names = itertools.count(1_000 * (number + 1))
    found = [[next(names) for _ in range(count)] for count in plan.requests]
    if plan.bad is not None and plan.bad < len(found):
        found[plan.bad][0] *= -1
    return found


def _expected(number: int, request: int, plan: Plan) -> list[int] | str:
    items = _items(number, plan)[request]
    return "bad" if items[0] < 0 else [item * 10 for item in items]


def _work(fit: Any, number: int, plan: Plan) -> list[list[int] | str]:
    found: list[list[int] | str] = []
    for items in _items(number, plan):
        try:
            found.append(fit.over(items, look, alike=plan.kind))
        except ValueError:
            found.append("bad")
    return found
