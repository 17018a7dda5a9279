"""Whatever the broker does to messages — twice, late, out of order, from an old attempt — the log ends the same."""

from collections import deque
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from application.handle import handle, present
from application.ingest_results import apply_result
from application.messages import ResultMessage
from domain import run, task
from domain.artifacts.envelope import ArtifactBatch
from domain.errors import OutOfOrder
from domain.run import artifacts_stream_of
from domain.task import CancelTask
from tests.support.given import META
from tests.support.memory_log import MemoryLog
from tests.support.results import Attempt, given_task, given_video

SIZES = st.lists(st.integers(1, 3), max_size=4)


def fresh() -> tuple[MemoryLog, Any]:
    log = MemoryLog()
    given_video(log)
    return log, given_task(log)


def deliver(log: MemoryLog, messages: list[ResultMessage]) -> None:
    """As the ingester does: what is early goes to the back of the queue. Ends when a whole round brings nothing on."""
    queue, idle = deque(messages), 0
    while queue and idle <= len(queue):
        message = queue.popleft()
        try:
            apply_result(log, message)
        except OutOfOrder:
            queue.append(message)
            idle += 1
        else:
            idle = 0


def streams(log: MemoryLog) -> dict[Any, list[Any]]:
    """The log by stream; heads and order between streams may differ, nothing else."""
    found: dict[Any, list[Any]] = {}
    for record in log.records:
        item = record.item
        stream = artifacts_stream_of(item.head.run_id) if isinstance(item, ArtifactBatch) else item.originator_id
        found.setdefault(stream, []).append(msgspec.json.encode(item))
    return found


@settings(max_examples=200, deadline=None)
@given(SIZES, st.data())
def test_one_attempt_delivered_in_any_order_and_twice_leaves_the_same_log(sizes, data):
    log, task_id = fresh()
    messages = Attempt(task_id).whole(sizes)
    deliver(log, messages)
    expected = streams(log)

    other, _ = fresh()
    repeated = messages + data.draw(st.lists(st.sampled_from(messages), max_size=6))
    deliver(other, data.draw(st.permutations(repeated)))
    assert streams(other) == expected


@settings(max_examples=200, deadline=None)
@given(SIZES, st.integers(0, 4), SIZES, st.data())
def test_an_attempt_that_died_changes_nothing_of_what_the_next_one_finds(old_sizes, sent, sizes, data):
    log, task_id = fresh()
    died = Attempt(task_id, 1).whole(old_sizes)[:-1][:sent]
    whole = Attempt(task_id, 2).whole(sizes)
    messages = died + whole
    deliver(log, data.draw(st.permutations(messages + data.draw(st.lists(st.sampled_from(messages), max_size=5)))))

    alone, _ = fresh()
    deliver(alone, whole)
    new = whole[0].run_id
    found, expected = streams(log), streams(alone)
    artifacts = artifacts_stream_of(new)
    assert found.get(artifacts) == expected.get(artifacts)
    assert present(log, run, new).counts == {"object.detection": sum(sizes)}
    assert present(log, task, task_id).status == "completed"
    assert log.load(task_id)[-1].run_id == new
    if died:
        assert present(log, run, died[0].run_id).counts is None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(SIZES, st.sampled_from(["ends", "fails", "dies"])), min_size=1, max_size=4), st.booleans(), st.data())
def test_however_many_attempts_there_are_at_most_one_run_counts_and_all_its_artifacts_are_there(attempts, cancelled, data):
    log, task_id = fresh()
    messages: list[ResultMessage] = []
    for delivery, (sizes, end) in enumerate(attempts, start=1):
        attempt = Attempt(task_id, delivery)
        said = attempt.whole(sizes)
        messages += said if end == "ends" else [*said[:-1], attempt.failed()] if end == "fails" else said[:-1]
    order = data.draw(st.permutations(messages + data.draw(st.lists(st.sampled_from(messages), max_size=5))))
    half = data.draw(st.integers(0, len(order)))
    deliver(log, order[:half])
    if cancelled and present(log, task, task_id).status in ("pending", "running"):
        handle(log, CancelTask(stream_id=task_id, meta=META))
    deliver(log, order)  # what was out of order in the first half comes again

    state = present(log, task, task_id)
    runs = {message.run_id: present(log, run, message.run_id) for message in messages}
    completed = [run_id for run_id, found in runs.items() if found and found.counts is not None]
    assert len(completed) == (state.status == "completed")
    for run_id in completed:
        assert state.run_id == run_id
        assert log.version(artifacts_stream_of(run_id)) == sum(runs[run_id].counts.values())
    assert [e.TOPIC for e in log.load(task_id)].count("task.completed") == len(completed)
    running = [run_id for run_id, found in runs.items() if found and not found.has_ended]
    assert running in ([], [state.run_id])
