"""What follows from what."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from application.handle import handle, present
from application.ingest_results import apply_result
from application.messages import Announced, Unavailable
from application.policies import TOPICS, pipeline_task, react
from domain import capability, content, selection, task, video
from domain.content import content_id_of
from domain.pipeline import BY_NAME, DEFAULT_PIPELINE
from domain.selection import selection_id_of
from domain.video import FileFacts
from tests.support.given import AT, META
from tests.support.memory_log import MemoryLog
from tests.support.memory_tasks import MemoryTasks
from tests.support.memory_videos import MemoryVideos
from tests.support.results import VIDEO, Attempt, given_task, given_video

FACTS = FileFacts(duration_ms=1, container="mp4", has_video=True, has_audio=True)
HASH, OTHER_HASH = "a" * 64, "b" * 64
TWIN, THIRD = UUID(int=101), UUID(int=102)
REST = tuple(name for name in DEFAULT_PIPELINE if BY_NAME[name].after == ("metadata_extraction",))


class World:
    """A log with the policies behind it; every event is answered twice, as after a crash.

    The read model knows the log up to `known`; None = all of it.
    """

    def __init__(self, known: int | None = None) -> None:
        self.log = MemoryLog()
        self.tasks = MemoryTasks(self.log, known)
        self.done = 0

    def settle(self) -> "World":
        while records := self.log.read(self.done, kinds=TOPICS, limit=1):
            for record in records * 2:
                react(self.log, record, clock=lambda: AT, tasks=self.tasks, videos=MemoryVideos(self.log))
            self.done = records[-1].position
        return self

    def probed(self, video_id: UUID = VIDEO, blake3: str = HASH, facts: FileFacts = FACTS) -> "World":
        """The metadata task of the present content ends."""
        self.settle()
        task_id = pipeline_task(video_id, "metadata_extraction", self.state(video, video_id).content)
        version = self.state(task, task_id).request_version
        attempt = Attempt(task_id, request_version=version, task_type="metadata_extraction", artifact_type="video.metadata", video_id=video_id)
        for result in (attempt.started(), attempt.completed(blake3=blake3, size_bytes=5, facts=facts)):
            apply_result(self.log, result)
        return self.settle()

    def order(self, kind: Any, stream: UUID = VIDEO, **fields: Any) -> "World":
        handle(self.log, kind(stream_id=stream, meta=META, **fields))
        return self.settle()

    def state(self, stream: Any, stream_id: UUID) -> Any:
        return present(self.log, stream, stream_id)

    def statuses(self, video_id: UUID = VIDEO) -> dict[str, str]:
        """Status of the pipeline's tasks on the video's newest content."""
        found: dict[str, str] = {}
        for record in self.log.records:
            if isinstance(record.item, task.TaskRequested) and record.item.video_id == video_id:
                found[record.item.task_type] = self.state(task, record.item.originator_id).status
        return found


@pytest.fixture(params=[None, 0, 8], ids=["current", "empty", "behind"])
def world(request: pytest.FixtureRequest) -> World:
    made = World(request.param)
    given_video(made.log)
    return made


def test_a_registered_video_gets_its_metadata_read_and_nothing_else(world):
    assert world.settle().statuses() == {"metadata_extraction": "pending"}


def test_a_probed_video_gets_the_rest_of_the_pipeline(world):
    world.probed()
    assert world.statuses() == {"metadata_extraction": "completed", **dict.fromkeys(REST, "pending")}
    assert world.state(content, content_id_of("default", HASH)).video_id == VIDEO


def test_a_chosen_pipeline_is_kept_to_and_an_empty_one_runs_nothing():
    world = World()
    given_video(world.log, pipeline=("ocr",))
    given_video(world.log, TWIN, "/media/b.mp4", pipeline=())
    world.probed()
    assert world.statuses() == {"metadata_extraction": "completed", "ocr": "pending"}
    assert world.statuses(TWIN) == {}


def test_what_a_scan_found_waits_behind_what_people_asked_for(world):
    meta = msgspec.structs.replace(META, actor="system:scan")
    handle(world.log, video.RegisterVideo(stream_id=TWIN, meta=meta, source="/media/b.mp4", filename="b.mp4"))
    world.settle()
    wishes = {r.item.video_id: r.item.priority for r in world.log.records if isinstance(r.item, task.TaskRequested)}
    assert wishes == {VIDEO: "std", TWIN: "bulk"}


def test_the_same_content_is_analysed_once(world):
    world.probed()
    given_video(world.log, TWIN, "/media/b.mp4")
    world.probed(TWIN)
    assert world.state(video, TWIN).duplicate_of == VIDEO
    assert world.statuses(TWIN) == {"metadata_extraction": "completed"}


def test_a_duplicate_takes_over_when_the_first_is_deleted(world):
    world.probed()
    for twin in (TWIN, THIRD):
        given_video(world.log, twin, f"/media/{twin}.mp4")
        world.probed(twin)
    world.order(video.DeleteVideo)
    assert world.state(video, TWIN).duplicate_of is None
    assert world.statuses(TWIN) == {"metadata_extraction": "completed", **dict.fromkeys(REST, "pending")}
    assert world.statuses(THIRD) == {"metadata_extraction": "completed"}
    assert world.statuses() == {"metadata_extraction": "completed", **dict.fromkeys(REST, "cancelled")}


def test_a_changed_file_is_analysed_anew_and_its_old_tasks_are_called_off(world):
    world.probed().order(video.NoticeFile, size_bytes=6, mtime_ms=7)
    old = [pipeline_task(VIDEO, name, 1) for name in REST]
    assert [world.state(task, task_id).status for task_id in old] == ["cancelled"] * len(REST)
    assert world.state(content, content_id_of("default", HASH)).video_id is None
    world.probed(blake3=OTHER_HASH)
    assert world.statuses() == {"metadata_extraction": "completed", **dict.fromkeys(REST, "pending")}
    assert world.state(content, content_id_of("default", OTHER_HASH)).video_id == VIDEO


def test_a_changed_file_with_the_same_facts_is_analysed_anew_too(world):
    world.probed().order(video.NoticeFile, size_bytes=6, mtime_ms=7).probed(blake3=HASH)
    assert world.statuses() == {"metadata_extraction": "completed", **dict.fromkeys(REST, "pending")}
    assert world.state(content, content_id_of("default", HASH)).video_id == VIDEO


def test_a_deleted_video_has_no_open_tasks_and_may_come_back(world):
    world.probed().order(video.DeleteVideo)
    assert set(world.statuses().values()) == {"completed", "cancelled"}
    world.order(video.RegisterVideo, source="/media/a.mp4", filename="a.mp4")
    assert world.statuses()["metadata_extraction"] == "pending"
    world.probed()
    assert world.statuses() == {"metadata_extraction": "completed", **dict.fromkeys(REST, "pending")}


def test_what_people_asked_for_on_a_deleted_video_is_called_off_and_its_runs_are_closed(world):
    world.probed()
    pending, running, unavailable, retried = (given_task(world.log, "ocr", key=key) for key in "0123")
    attempt = Attempt(running)
    apply_result(world.log, attempt.started())
    for task_id in (unavailable, retried):
        apply_result(world.log, Unavailable(**Attempt(task_id).head, missing="no weights", remedy="none"))
    world.order(task.RetryTask, retried)
    other = given_video(world.log, TWIN, "/media/b.mp4")
    elsewhere = given_task(world.log, "ocr", video_id=other)
    world.order(video.DeleteVideo)
    assert {world.state(task, task_id).status for task_id in (pending, running, retried)} == {"cancelled"}
    assert world.log.load(attempt.run_id)[-1].code == "CANCELLED"
    assert world.state(task, unavailable).status == "unavailable"
    assert world.state(task, elsewhere).status == "pending"


def test_policies_of_a_deleted_video_are_cleared_and_those_of_others_stay(world):
    streams = [selection_id_of("default", video_id, "scene") for video_id in (VIDEO, TWIN, None)]
    for stream, video_id in zip(streams, (VIDEO, TWIN, None), strict=True):
        world.order(selection.SetSelection, stream, video_id=video_id, artifact_type="scene", mode="all")
    world.order(video.DeleteVideo)
    assert [world.state(selection, stream).mode for stream in streams] == [None, "all", "all"]


def test_a_video_that_came_back_before_its_deletion_was_answered_keeps_its_tasks(world):
    task_id = given_task(world.log, "ocr")
    handle(world.log, video.DeleteVideo(stream_id=VIDEO, meta=META))
    world.order(video.RegisterVideo, source="/media/a.mp4", filename="a.mp4")
    assert world.state(task, task_id).status == "pending"


def test_a_missing_file_marks_the_video_and_its_return_asks_again(world):
    world.settle()
    task_id = pipeline_task(VIDEO, "metadata_extraction", 1)
    attempt = Attempt(task_id, task_type="metadata_extraction", artifact_type="video.metadata")
    for result in (attempt.started(), attempt.failed("MEDIA_MISSING", "there is no file")):
        apply_result(world.log, result)
    world.settle()
    assert world.state(video, VIDEO).is_missing
    world.order(video.RelocateVideo, source="/media/elsewhere.mp4")
    assert world.statuses() == {"metadata_extraction": "pending"}
    assert not world.state(video, VIDEO).is_missing


def test_a_broken_file_is_not_called_missing_and_is_not_tried_again(world):
    world.settle()
    attempt = Attempt(pipeline_task(VIDEO, "metadata_extraction", 1), task_type="metadata_extraction", artifact_type="video.metadata")
    for result in (attempt.started(), attempt.failed()):
        apply_result(world.log, result)
    world.order(video.RelocateVideo, source="/media/elsewhere.mp4")
    assert world.statuses() == {"metadata_extraction": "failed"}
    assert not world.state(video, VIDEO).is_missing


def test_cancelling_closes_the_run_of_a_worker_that_says_nothing_more(world):
    attempt = Attempt(given_task(world.log, "ocr"))
    apply_result(world.log, attempt.started())
    world.order(task.CancelTask, attempt.head["task_id"])
    assert world.log.load(attempt.run_id)[-1].code == "CANCELLED"


class TestCapability:
    def announce(self, world: World, digest: str, *task_types: str, minutes: int = 0) -> None:
        said = Announced(
            tenant_id="default", run_id=UUID(int=5), correlation_id=UUID(int=6), at=AT + timedelta(minutes=minutes),
            worker="w", family="torch", task_types=task_types, digest=digest,
        )  # fmt: skip
        apply_result(world.log, said)
        world.settle()

    def unavailable(self, world: World, task_type: str, request_version: int = 1) -> UUID:
        task_id = given_task(world.log, task_type) if request_version == 1 else self.task_id
        self.task_id = task_id
        head = Attempt(task_id, request_version=request_version).head
        apply_result(world.log, Unavailable(**head, missing="no weights", remedy="set EIOKU_DETECTOR_WEIGHTS"))
        return task_id

    def test_an_unavailable_task_is_asked_for_again_when_its_worker_announces(self, world):
        mine, other = self.unavailable(world, "object_detection"), self.unavailable(world, "transcription")
        self.announce(world, "d", "object_detection", "place_detection")
        assert world.state(task, mine).status == "pending"
        assert world.state(task, other).status == "unavailable"

    def test_the_answer_to_that_is_not_asked_again_until_something_is_new(self, world):
        task_id = self.unavailable(world, "object_detection")
        self.announce(world, "d", "object_detection")
        self.unavailable(world, "object_detection", request_version=3)
        self.announce(world, "d", "object_detection", minutes=1)
        assert world.state(task, task_id).status == "unavailable"
        self.announce(world, "e", "object_detection", minutes=2)
        assert world.state(task, task_id).status == "pending"

    def test_an_answer_that_came_after_the_announcement_is_not_undone_by_it(self, world):
        said = capability.AnnounceCapability(
            stream_id=capability.capability_id_of("torch"), meta=META, family="torch", worker="w",
            task_types=("object_detection",), digest="d",
        )  # fmt: skip
        handle(world.log, said)
        task_id = self.unavailable(world, "object_detection")
        world.settle()
        assert world.state(task, task_id).status == "unavailable"

    def test_a_task_of_another_tenant_is_freed_in_its_own_name(self, world):
        meta = msgspec.structs.replace(META, tenant_id="other")
        wish = task.RequestTask(
            stream_id=TWIN, meta=meta, video_id=THIRD, task_type="ocr", profile="fast", config={}, config_hash="c"
        )
        handle(world.log, wish)
        head = {**Attempt(TWIN).head, "tenant_id": "other", "video_id": THIRD}
        apply_result(world.log, Unavailable(**head, missing="no weights", remedy="none"))
        self.announce(world, "d", "ocr")
        assert [(e.TOPIC, e.tenant_id) for e in world.log.load(TWIN)][-1] == ("task.retried", "other")

    def test_a_task_that_failed_or_was_cancelled_meanwhile_stays_so(self, world):
        task_id = self.unavailable(world, "object_detection")
        handle(world.log, task.RetryTask(stream_id=task_id, meta=META))
        handle(world.log, task.CancelTask(stream_id=task_id, meta=META))
        self.announce(world, "d", "object_detection")
        assert world.state(task, task_id).status == "cancelled"
