"""Following the log: in order, from the checkpoint, nothing skipped in silence."""

import threading
from typing import Any
from uuid import UUID

import pytest

from api.followers import STUCK_S, Followers
from application.follow import CONFLICTS, TRIES, Follower
from application.ports import Recorded
from domain import video
from domain.errors import ConcurrencyConflict, InvalidState, ServiceUnavailable
from tests.support.memory_log import MemoryLog
from tests.support.results import given_task, given_video


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog()
    for n in range(1, 6):
        given_video(made, UUID(int=n), f"/media/{n}.mp4")
    return made


class Reactor:
    """Keeps what it saw; fails at one position as often as told."""

    def __init__(self, at: int = 0, error: Exception | None = None, times: int = 10**9) -> None:
        self.seen: list[int] = []
        self.parked: list[tuple[int, Exception]] = []
        self.at, self.error, self.times = at, error, times
        self.tries = 0

    def __call__(self, record: Recorded) -> None:
        if record.position == self.at and self.tries < self.times and self.error is not None:
            self.tries += 1
            raise self.error
        self.seen.append(record.position)

    def park(self, record: Recorded, error: Exception) -> None:
        self.parked.append((record.position, error))


def follower(log: MemoryLog, reactor: Reactor, **options: Any) -> Follower:
    options = {"kinds": [video.VideoRegistered.TOPIC], **options}
    return Follower("test", log, reactor, park=reactor.park, **options)


def test_every_record_once_and_in_order_over_a_restart(log):
    reactor = Reactor()
    follower(log, reactor, limit=2).step()
    follower(log, reactor, limit=2).step()
    again = follower(log, reactor, limit=2)
    while again.step():
        pass
    assert reactor.seen == [1, 2, 3, 4, 5]
    assert log.checkpoint("test") == 5


def test_what_is_not_asked_for_is_passed_over_once(log):
    given_task(log)
    reactor = Reactor()
    mine = follower(log, reactor)
    while mine.step():
        pass
    assert (log.checkpoint("test"), reactor.seen) == (log.head(), [1, 2, 3, 4, 5])


def test_a_reaction_that_never_succeeds_is_parked_and_the_rest_goes_on(log):
    reactor = Reactor(3, KeyError("poison"))
    follower(log, reactor).step()
    assert reactor.seen == [1, 2, 4, 5]
    assert reactor.tries == TRIES
    assert [(position, str(error)) for position, error in reactor.parked] == [(3, "'poison'")]


def test_a_refusal_that_nobody_expected_is_parked_too(log):
    reactor = Reactor(3, InvalidState("no"))
    follower(log, reactor).step()
    assert [position for position, _ in reactor.parked] == [3]


def test_a_reaction_that_fails_once_is_not_parked(log):
    reactor = Reactor(3, KeyError("passing"), times=1)
    follower(log, reactor).step()
    assert (reactor.seen, reactor.parked) == ([1, 2, 3, 4, 5], [])


def test_a_service_that_is_away_stops_the_follower_without_losing_anything(log):
    reactor = Reactor(3, ServiceUnavailable("away"), times=5)
    stop = threading.Event()

    def wait() -> None:
        stop.set()

    follower(log, reactor).run(wait, stop)
    assert (reactor.seen, reactor.parked, reactor.tries) == ([1, 2, 3, 4, 5], [], 5)


def test_when_even_parking_fails_nothing_is_skipped(log):
    reactor = Reactor(3, KeyError("poison"))

    def park(record: Recorded, error: Exception) -> None:
        raise ServiceUnavailable("away")

    stuck = Follower("test", log, reactor, kinds=[video.VideoRegistered.TOPIC], park=park)
    with pytest.raises(ServiceUnavailable):
        stuck.step()
    assert log.checkpoint("test") < 3
    later = follower(log, reactor)
    later.step()
    assert [position for position, _ in reactor.parked] == [3]


def test_a_stopped_follower_leaves_in_the_middle_and_goes_on_there(log):
    stop = threading.Event()
    reactor = Reactor()

    def react(record: Recorded) -> None:
        reactor(record)
        if record.position == 2:
            stop.set()

    Follower("test", log, react, kinds=[video.VideoRegistered.TOPIC], park=reactor.park).step(stop)
    assert (reactor.seen, log.checkpoint("test")) == ([1, 2], 2)


def following(log: MemoryLog, reactor: Reactor) -> None:
    """Follow until there is nothing more, without the pauses."""

    class Quick(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return self.is_set()

    stop = Quick()
    follower(log, reactor).run(stop.set, stop)


def test_a_conflict_that_never_passes_is_parked_and_the_rest_goes_on(log):
    reactor = Reactor(3, ConcurrencyConflict(UUID(int=7), 0))
    following(log, reactor)
    assert (reactor.seen, reactor.tries) == ([1, 2, 4, 5], CONFLICTS)
    assert [position for position, _ in reactor.parked] == [3]


def test_a_race_that_moves_on_is_not_parked(log):
    class Busy(Reactor):
        def __call__(self, record: Recorded) -> None:
            self.error = ConcurrencyConflict(UUID(int=7), self.tries)
            super().__call__(record)

    reactor = Busy(3, ServiceUnavailable("away"), times=CONFLICTS * 3)
    following(log, reactor)
    assert (reactor.seen, reactor.parked) == ([1, 2, 3, 4, 5], [])


def test_while_it_is_at_a_conflict_its_checkpoint_tells_where(log):
    reactor = Reactor(4, ConcurrencyConflict(UUID(int=7), 0))
    with pytest.raises(ConcurrencyConflict):
        follower(log, reactor).step()
    assert log.checkpoint("test") == 3


def test_a_follower_is_stuck_when_it_stands_still_with_something_to_read():
    seen = Followers(["policies", "faces"])
    seen.note({"policies": 4, "faces": 9}, 9, now=0)
    seen.note({"policies": 4, "faces": 9}, 12, now=STUCK_S / 2)
    assert seen.stuck(now=STUCK_S) == []
    (said,) = seen.stuck(now=STUCK_S + 1)
    assert "policies" in said
    assert "position 4" in said
    seen.note({"policies": 5, "faces": 12}, 12, now=STUCK_S + 1)
    assert seen.stuck(now=STUCK_S + 2) == []


def test_a_follower_that_had_nothing_to_read_for_long_is_not_stuck():
    seen = Followers(["policies"])
    for now in (0, 1_000, 2_000):
        seen.note({"policies": 9}, 9, now=now)
    seen.note({"policies": 9}, 10, now=2_001)
    assert seen.stuck(now=2_002) == []
