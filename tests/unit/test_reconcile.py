"""The log against the broker: what is lost comes back, what runs is left alone."""

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import pytest

from application.handle import handle, present
from application.ingest_results import apply_result
from application.reconcile import RUNNING_LOOKS, Broker, Reconciler, Report
from domain import task, video
from domain.errors import ServiceUnavailable
from tests.support.given import AT, META
from tests.support.memory_log import MemoryLog
from tests.support.results import VIDEO, Attempt, given_task, given_video


class World:
    """A log, and a broker and a read model whose contents a test writes down."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        given_video(self.log)
        self.waiting: set[UUID] = set()
        self.unread: set[UUID] = set()
        self.open: set[UUID] = set()
        self.called_off: list[tuple[str, UUID]] = []
        self.declared = 0
        self.reconciler = Reconciler(
            self.log, self.broker(self._waiting), open_tasks=lambda: self.open, clock=lambda: AT
        )

    def broker(self, waiting: Any) -> Broker:
        return Broker(declare=self._declare, waiting=waiting, unread=self._unread, call_off=self._call_off)

    async def _declare(self) -> None:
        self.declared += 1

    async def _waiting(self) -> set[UUID]:
        return self.waiting

    async def _unread(self) -> set[UUID]:
        return self.unread

    async def _call_off(self, tenant_id: str, task_id: UUID, position: int) -> None:
        self.called_off.append((tenant_id, task_id))

    def task(self, **options: Any) -> UUID:
        task_id = given_task(self.log, **options)
        self.open.add(task_id)
        return task_id

    def relayed(self) -> None:
        self.log.advance("relay", self.log.head())

    def look(self, times: int = 1) -> Report:
        for _ in range(times):
            report = asyncio.run(self.reconciler.look())
        return report

    def version(self, task_id: UUID) -> int:
        return present(self.log, task, task_id).request_version


@pytest.fixture
def world() -> World:
    return World()


def test_a_command_that_the_broker_lost_is_asked_for_again_at_the_second_look(world):
    task_id = world.task()
    world.relayed()
    assert world.look() == Report()
    assert world.look() == Report(requeued=(task_id,))
    assert (world.version(task_id), world.declared) == (2, 2)


def test_a_command_that_the_relay_has_not_sent_yet_is_not_lost(world):
    world.task()
    assert world.look(5) == Report()
    world.relayed()
    assert len(world.look().requeued) == 1


def test_a_waiting_command_is_left_alone(world):
    world.waiting.add(world.task())
    world.relayed()
    assert world.look(3) == Report()


def test_a_task_whose_results_are_not_in_the_log_yet_is_left_alone(world):
    task_id = world.task()
    world.relayed()
    world.unread.add(Attempt(task_id, 3).run_id)
    assert world.look(3) == Report()


def test_a_task_that_ended_while_the_read_model_lags_is_left_alone(world):
    task_id = world.task()
    world.relayed()
    for result in Attempt(task_id).whole([1]):
        apply_result(world.log, result)
    assert world.look(3) == Report()
    assert present(world.log, task, task_id).status == "completed"


def test_a_running_task_without_a_command_gets_time_to_report(world):
    task_id = world.task()
    attempt = Attempt(task_id)
    apply_result(world.log, attempt.started())
    world.relayed()
    assert world.look(RUNNING_LOOKS - 1) == Report()
    assert present(world.log, task, task_id).status == "running"
    assert world.look().requeued == (task_id,)
    apply_result(world.log, attempt.completed())
    assert present(world.log, task, task_id).status == "pending"


def test_a_command_seen_again_starts_the_count_anew(world):
    task_id = world.task()
    world.relayed()
    world.look()
    world.waiting.add(task_id)
    world.look()
    world.waiting.clear()
    assert world.look() == Report()


def test_a_request_made_anew_starts_the_count_anew(world):
    task_id = world.task()
    world.relayed()
    world.look()
    handle(world.log, task.CancelTask(stream_id=task_id, meta=META))
    handle(world.log, task.RetryTask(stream_id=task_id, meta=META))
    world.relayed()
    assert world.look() == Report()
    assert world.look().requeued == (task_id,)


def test_the_command_of_an_ended_task_is_removed(world):
    task_id = given_task(world.log)
    handle(world.log, task.CancelTask(stream_id=task_id, meta=META))
    world.waiting.add(task_id)
    assert world.look().called_off == (task_id,)
    assert world.called_off == [("default", task_id)]


def test_a_command_that_is_newer_than_the_read_model_is_left_alone(world):
    world.waiting.add(given_task(world.log))
    assert world.look(3) == Report()


def test_a_command_that_is_not_in_the_log_is_left_for_a_person(world):
    world.waiting.add(UUID(int=9))
    assert world.look(2) == Report()


def test_an_open_task_of_a_deleted_video_is_cancelled_with_and_without_a_command(world):
    lost, waiting = world.task(), given_task(world.log, "ocr")
    world.waiting.add(waiting)
    world.relayed()
    handle(world.log, video.DeleteVideo(stream_id=VIDEO, meta=META))
    assert set(world.look().cancelled) == {lost, waiting}
    assert {present(world.log, task, each).status for each in (lost, waiting)} == {"cancelled"}


def test_tasks_that_no_worker_takes_are_never_requeued(world):
    meta = msgspec.structs.replace(META)
    wish = task.RequestTask(
        stream_id=UUID(int=50), meta=meta, video_id=VIDEO, task_type="import", profile="x", config={}, config_hash="c"
    )
    handle(world.log, wish)
    world.open.add(UUID(int=50))
    world.relayed()
    assert world.look(3) == Report()


def test_a_broker_that_is_away_is_waited_for(world):
    task_id = world.task()
    world.relayed()
    world.look()
    stop, answers = asyncio.Event(), iter([ServiceUnavailable("away"), set()])

    async def waiting() -> set[UUID]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        stop.set()
        return answer

    world.reconciler._broker = world.broker(waiting)
    asyncio.run(world.reconciler.run(stop, every_s=0.01))
    assert world.version(task_id) == 2
