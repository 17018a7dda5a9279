"""What works on the results of others is asked for once these have ended, in whatever order and way."""

from itertools import permutations
from typing import Any

import pytest

from application.ingest_results import apply_result
from application.messages import Unavailable
from application.policies import pipeline_task, present_task
from domain import task, video
from tests.support.results import VIDEO, Attempt, given_video
from tests.unit.test_policies import OTHER_HASH, World

PIPELINE = ("transcription", "ocr", "embedding")


@pytest.fixture
def world() -> World:
    made = World()
    given_video(made.log, pipeline=PIPELINE)
    return made.probed()


def asked(world: World) -> list[str]:
    """The states of all embedding tasks, in the order they were asked for."""
    return [
        world.state(task, record.item.originator_id).status
        for record in world.log.records
        if isinstance(record.item, task.TaskRequested) and record.item.task_type == "embedding"
    ]


def end(world: World, name: str, how: str) -> None:
    task_id = pipeline_task(VIDEO, name, world.state(video, VIDEO).content)
    attempt = Attempt(task_id, request_version=world.state(task, task_id).request_version, task_type=name)
    match how:
        case "cancelled":
            world.order(task.CancelTask, task_id)
        case "parked":
            world.order(task.ParkTask, task_id, request_version=1, reason="five times", deliveries=5)
        case "unavailable":
            apply_result(world.log, Unavailable(**attempt.head, missing="no model", remedy="put one there"))
        case _:
            ending: Any = attempt.completed() if how == "completed" else attempt.failed()
            for result in (attempt.started(), ending):
                apply_result(world.log, result)
    world.settle()


@pytest.mark.parametrize("order", list(permutations(("transcription", "ocr"))))
@pytest.mark.parametrize("how", ["completed", "failed", "unavailable", "cancelled", "parked"])
def test_it_is_asked_for_once_when_all_it_needs_has_ended(world, order, how):
    assert asked(world) == []
    end(world, order[0], how)
    assert asked(world) == []
    end(world, order[1], "completed")
    assert asked(world) == ["pending"]


def test_what_the_pipeline_does_not_have_is_not_waited_for():
    world = World()
    given_video(world.log, pipeline=("embedding",))
    assert asked(world.probed()) == ["pending"]


def test_a_result_that_comes_late_is_worked_on_too(world):
    end(world, "transcription", "unavailable")
    end(world, "ocr", "completed")
    assert asked(world) == ["pending"]
    world.order(task.RetryTask, pipeline_task(VIDEO, "transcription", 1))
    assert asked(world) == ["pending"]
    end(world, "transcription", "completed")
    assert asked(world) == ["pending", "pending"]


def test_a_changed_file_calls_it_off_and_has_its_own(world):
    for name in ("transcription", "ocr"):
        end(world, name, "completed")
    old = present_task(world.log, VIDEO, "embedding", 1)
    world.order(video.NoticeFile, size_bytes=6, mtime_ms=7)
    assert world.state(task, old).status == "cancelled"
    world.probed(blake3=OTHER_HASH)
    assert asked(world) == ["cancelled"]
    for name in ("transcription", "ocr"):
        end(world, name, "failed")
    assert asked(world) == ["cancelled", "pending"]


def test_a_request_by_hand_of_what_the_pipeline_asked_for_is_a_conflict(world):
    from application.request_task import request_task
    from domain.errors import TaskActive
    from tests.support.given import META

    for name in ("transcription", "ocr"):
        end(world, name, "completed")
    other = type(META)(at=META.at, actor="api", correlation_id=VIDEO)
    with pytest.raises(TaskActive):
        request_task(world.log, other, VIDEO, "embedding")
