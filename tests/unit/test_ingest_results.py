"""Results into the log: each once, whole or not at all."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from application.handle import handle, present
from application.ingest_results import apply_result
from application.messages import Announced, Fault, Postponed, Reused, Unavailable
from domain import capability, run, task, video
from domain.artifacts.envelope import ArtifactBatch
from domain.artifacts.object_detection import ObjectDetectionV1
from domain.errors import InvalidMessage, OutOfOrder
from domain.run import artifacts_stream_of
from domain.task import CancelTask, RequeueTask
from domain.video import FileFacts
from tests.support.given import AT, META
from tests.support.memory_log import MemoryLog
from tests.support.results import VIDEO, Attempt, given_task, given_video


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog()
    given_video(made)
    return made


def topics(log: MemoryLog, stream: UUID) -> list[str]:
    return [event.TOPIC for event in log.load(stream)]


def status(log: MemoryLog, task_id: UUID) -> str:
    state: Any = present(log, task, task_id)
    return state.status


def tell(log: MemoryLog, *results: Any) -> None:
    for result in results:
        apply_result(log, result)


def test_an_attempt_is_stored_from_start_to_end(log):
    task_id = given_task(log)
    attempt = Attempt(task_id)
    tell(log, *attempt.whole([3, 2]))
    assert topics(log, attempt.run_id) == ["run.started", "run.completed"]
    assert topics(log, task_id) == ["task.requested", "task.started", "task.completed"]
    assert log.load(attempt.run_id)[-1].counts == {"object.detection": 5}
    assert log.version(artifacts_stream_of(attempt.run_id)) == 5


def test_everything_twice_is_stored_once(log):
    attempt = Attempt(given_task(log))
    messages = attempt.whole([3, 2])
    tell(log, *messages)
    head = log.head()
    tell(log, *messages)
    assert log.head() == head


def test_what_comes_before_its_predecessor_is_asked_for_again(log):
    attempt = Attempt(given_task(log))
    started, first, second, completed = attempt.whole([3, 2])
    for early in (first, completed):
        with pytest.raises(OutOfOrder):
            tell(log, early)
    tell(log, started)
    for early in (second, completed):
        with pytest.raises(OutOfOrder):
            tell(log, early)
    tell(log, first, second, completed)
    assert status(log, attempt.head["task_id"]) == "completed"


def test_a_newer_attempt_ends_the_run_of_the_older_one(log):
    task_id = given_task(log)
    old, new = Attempt(task_id, 1), Attempt(task_id, 2)
    tell(log, old.started(), old.produced(4), new.started())
    assert topics(log, old.run_id) == ["run.started", "run.failed"]
    assert log.load(old.run_id)[-1].code == "SUPERSEDED"
    tell(log, old.produced(1), old.completed(), *new.whole([2])[1:], old.failed())
    assert topics(log, old.run_id) == ["run.started", "run.failed"]
    assert log.version(artifacts_stream_of(old.run_id)) == 4
    assert log.load(task_id)[-1].run_id == new.run_id
    assert status(log, task_id) == "completed"


def test_an_attempt_that_starts_after_the_task_was_completed_is_recorded_and_ended(log):
    task_id = given_task(log)
    first, late = Attempt(task_id, 1), Attempt(task_id, 2)
    tell(log, *first.whole([1]), *late.whole([1]))
    assert topics(log, late.run_id) == ["run.started", "run.failed"]
    assert log.version(artifacts_stream_of(late.run_id)) == 0
    assert topics(log, task_id) == ["task.requested", "task.started", "task.completed"]


def test_results_of_a_cancelled_task_do_not_count(log):
    task_id = given_task(log)
    attempt = Attempt(task_id)
    tell(log, attempt.started(), attempt.produced(2))
    handle(log, CancelTask(stream_id=task_id, meta=META))
    tell(log, attempt.completed(), attempt.completed())
    assert topics(log, attempt.run_id) == ["run.started", "run.failed"]
    assert log.load(attempt.run_id)[-1].code == "CANCELLED"
    assert status(log, task_id) == "cancelled"


def test_a_requeued_task_takes_only_the_new_attempt(log):
    task_id = given_task(log)
    lost, again = Attempt(task_id), Attempt(task_id, request_version=3)
    tell(log, lost.started())
    handle(log, RequeueTask(stream_id=task_id, meta=META, request_version=1, reason="gone"))
    tell(log, lost.completed(), *again.whole([1]))
    assert topics(log, lost.run_id) == ["run.started", "run.failed"]
    assert status(log, task_id) == "completed"


def test_a_failure_ends_run_and_task_with_its_reason(log):
    task_id = given_task(log)
    attempt = Attempt(task_id)
    tell(log, attempt.started(), attempt.failed("MEDIA_MISSING", "there is no file"), attempt.failed())
    assert [e.code for e in (log.load(attempt.run_id)[-1], log.load(task_id)[-1])] == ["MEDIA_MISSING"] * 2
    assert topics(log, task_id)[-1] == "task.failed"


def test_unavailable_names_what_is_missing_and_needs_no_run(log):
    task_id = given_task(log)
    head = Attempt(task_id).head
    result = Unavailable(**head, missing="no detector weights", remedy="set EIOKU_DETECTOR_WEIGHTS")
    tell(log, result, result)
    assert topics(log, task_id) == ["task.requested", "task.unavailable"]
    assert log.load(task_id)[-1].remedy == "set EIOKU_DETECTOR_WEIGHTS"


def test_metadata_tells_the_video_its_hash_and_facts_with_its_completion(log):
    task_id = given_task(log, "metadata_extraction")
    attempt = Attempt(task_id, task_type="metadata_extraction", artifact_type="video.metadata")
    facts = FileFacts(duration_ms=1, container="mp4", has_video=True, has_audio=True)
    completed = attempt.completed(blake3="f" * 64, size_bytes=9, facts=facts)
    tell(log, attempt.started(), completed, completed)
    state: Any = present(log, video, VIDEO)
    assert (state.blake3, state.size_bytes, state.facts) == ("f" * 64, 9, facts)
    assert topics(log, VIDEO) == ["video.registered", "video.fingerprinted", "video.probed"]


def test_what_could_be_read_of_a_damaged_file_counts_though_the_task_has_failed(log):
    task_id = given_task(log, "metadata_extraction")
    attempt = Attempt(task_id, task_type="metadata_extraction", artifact_type="video.metadata")
    facts = FileFacts(duration_ms=1, container="mp4", has_video=True, has_audio=True)
    flaw = Fault(code="MEDIA_UNREADABLE", error="no frame", remedy="copy it again")
    completed = attempt.completed(blake3="f" * 64, size_bytes=9, facts=facts, flaw=flaw)
    tell(log, attempt.started(), completed, completed)
    failed = log.load(task_id)[-1]
    assert (failed.code, failed.error, failed.remedy) == (flaw.code, flaw.error, flaw.remedy)
    assert topics(log, task_id)[1:] == ["task.started", "task.failed"]
    assert topics(log, attempt.run_id) == ["run.started", "run.completed"]
    assert topics(log, VIDEO) == ["video.registered", "video.fingerprinted", "video.probed"]


def test_an_attempt_that_is_tried_again_ends_its_run_and_leaves_the_task_open(log):
    task_id = given_task(log)
    attempt = Attempt(task_id)
    fault = Fault(code="OUT_OF_MEMORY", error="no room", remedy="more memory")
    later = Postponed(**attempt.head, fault=fault, is_unexplained=False, next_try_at=AT)
    tell(log, attempt.started(), later, later)
    assert topics(log, task_id) == ["task.requested", "task.started", "task.postponed"]
    assert (log.load(attempt.run_id)[-1].TOPIC, status(log, task_id)) == ("run.failed", "pending")
    second = Attempt(task_id, delivery=2)
    tell(log, *second.whole([1]), later)
    assert status(log, task_id) == "completed"


GOOD = ObjectDetectionV1.example()
BROKEN = [
    ({"label": "dog"}, {}, "missing required field"),
    (msgspec.structs.replace(GOOD, confidence=1.5), {}, "artifacts[0]"),
    (msgspec.structs.replace(GOOD, label="a\0b"), {}, "NUL"),
    (GOOD, {"artifact_type": "scene"}, "never said"),
    (GOOD, {"schema_version": 7}, "no schema for object.detection version 7"),
    (GOOD, {"video_id": UUID(int=1)}, "another run, video or tenant"),
]


@pytest.mark.parametrize(("payload", "changed", "why"), BROKEN, ids=[b[2] for b in BROKEN])
def test_an_invalid_batch_fails_run_and_task_and_shows_nothing(log, payload, changed, why):
    task_id = given_task(log)
    attempt = Attempt(task_id)
    messages = [attempt.started(), attempt.produced(2), attempt.produced(2, payload, **changed), attempt.completed()]
    tell(log, *messages, *messages)
    assert topics(log, attempt.run_id) == ["run.started", "run.failed"]
    assert topics(log, task_id) == ["task.requested", "task.started", "task.failed"]
    assert why in log.load(task_id)[-1].error


def test_a_batch_with_another_number_of_artifacts_than_it_says_is_invalid(log):
    attempt = Attempt(given_task(log))
    sent = attempt.produced(2)
    short = msgspec.structs.replace(sent, batch=msgspec.structs.replace(sent.batch, count=3))
    tell(log, attempt.started(), short)
    assert log.load(attempt.run_id)[-1].code == "INVALID_ARTIFACT"


def test_other_content_under_the_same_versions_is_refused_for_ever(log):
    attempt = Attempt(given_task(log))
    other = msgspec.structs.replace(GOOD, label="cat")
    first = attempt.produced(2)
    attempt._next = 1
    tell(log, attempt.started(), first, attempt.produced(2, other))
    assert log.load(attempt.run_id)[-1].code == "INTEGRITY_CONFLICT"
    assert [r.item for r in log.records if isinstance(r.item, ArtifactBatch)] == [first.batch]


def test_a_worker_that_counts_less_than_it_sent_is_refused(log):
    attempt = Attempt(given_task(log))
    tell(log, attempt.started(), attempt.produced(2), attempt.completed(counts={"object.detection": 1}))
    assert log.load(attempt.run_id)[-1].code == "INVALID_ARTIFACT"


def test_results_for_a_task_that_nobody_asked_for_are_refused(log):
    head = log.head()
    attempt = Attempt(UUID(int=77))
    for message in (*attempt.whole([2]), attempt.failed(), unavailable(attempt), reused(attempt)):
        with pytest.raises(InvalidMessage):
            tell(log, message)
    assert log.head() == head


def unavailable(attempt: Attempt) -> Unavailable:
    return Unavailable(**attempt.head, missing="m", remedy="r")


def reused(attempt: Attempt) -> Reused:
    return Reused(**attempt.head, known=UUID(int=8))


@pytest.mark.parametrize("changed", [{"tenant_id": "bob"}, {"video_id": UUID(int=1)}, {"task_id": UUID(int=2)}], ids=repr)
@pytest.mark.parametrize("has_begun", [True, False])
def test_what_speaks_of_another_tenant_video_or_task_changes_nothing(log, changed, has_begun):
    task_id = given_task(log)
    right, forged = Attempt(task_id), Attempt(task_id)
    if has_begun:
        tell(log, right.started())
    forged.head |= changed
    head = log.head()
    for message in (*forged.whole([2]), forged.failed(), unavailable(forged), reused(forged)):
        with pytest.raises(InvalidMessage):
            tell(log, message)
    assert log.head() == head
    tell(log, *right.whole([2]))
    assert status(log, task_id) == "completed"


def test_a_run_that_somebody_else_has_is_not_written_to(log):
    """What an import with the id of a coming run once did."""
    task_id = given_task(log)
    attempt = Attempt(task_id)
    other = Attempt(given_task(log, key="1"))
    started = msgspec.structs.replace(other.started(), run_id=attempt.run_id)
    tell(log, started)
    for message in attempt.whole([2]):
        with pytest.raises(InvalidMessage):
            tell(log, message)
    assert topics(log, attempt.run_id) == ["run.started"]


def test_counts_of_what_was_not_looked_for_fail_the_run(log):
    attempt = Attempt(given_task(log))
    tell(log, attempt.started(), attempt.completed(counts={"object.detection": 0, "scene": 0}))
    assert log.load(attempt.run_id)[-1].code == "INVALID_ARTIFACT"


def test_an_announcement_is_kept(log):
    said = Announced(
        tenant_id="default", run_id=UUID(int=5), correlation_id=UUID(int=6), at=AT, worker="w", family="torch",
        task_types=("object_detection",), digest="d",
    )  # fmt: skip
    tell(log, said, said)
    assert topics(log, capability.capability_id_of("torch")) == ["capability.announced"]


def test_the_run_knows_which_attempt_it_was(log):
    task_id = given_task(log)
    tell(log, Attempt(task_id, 1).started(), Attempt(task_id, 3).started())
    state: Any = present(log, run, Attempt(task_id, 3).run_id)
    assert state.attempt == 2
