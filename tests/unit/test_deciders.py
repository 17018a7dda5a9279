"""What each stream makes of a command: the rules, one by one."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from domain import capability, content, run, scan, selection, task, video
from domain.errors import (
    ContentMismatch,
    InvalidParameter,
    InvalidState,
    RunNotFound,
    ScanNotFound,
    TaskActive,
    TaskNotFound,
    VideoNotFound,
)
from domain.video import FileFacts
from tests.support.given import AT, META, given, head, order

VIDEO, RUN, OTHER = UUID(int=10), UUID(int=11), UUID(int=12)
ELSEWHERE = msgspec.structs.replace(META, tenant_id="other")
FACTS = FileFacts(duration_ms=1000, container="mp4", has_video=True, has_audio=False)

registered = video.VideoRegistered(**head(1), source="/v/a.mp4", filename="a.mp4", size_bytes=5, mtime_ms=6)
requested = task.TaskRequested(
    **head(1), video_id=VIDEO, task_type="ocr", profile="balanced", config={}, config_hash="c"
)


def started(version: int, *, run_id: UUID = RUN, delivery: int = 1, request_version: int = 1) -> task.TaskStarted:
    return task.TaskStarted(
        **head(version), run_id=run_id, attempt=1, request_version=request_version, delivery=delivery, worker="w"
    )


def failed(version: int) -> task.TaskFailed:
    return task.TaskFailed(**head(version), run_id=RUN, code="X", error="x", retryable=False)


start = order(task.StartTask, run_id=RUN, request_version=1, delivery=1, worker="w")
complete = order(task.CompleteTask, run_id=RUN, artifact_count=3)
fail = order(task.FailTask, run_id=RUN, code="MEDIA_UNREADABLE", error="broken", retryable=False)


class TestVideo:
    def test_registering_twice_is_registering_once(self):
        wish = order(video.RegisterVideo, source="/v/a.mp4", filename="a.mp4")
        given(video).when(wish, wish).then("video.registered", filename="a.mp4")

    def test_an_id_never_gets_a_second_source(self):
        given(video, registered).when(order(video.RegisterVideo, source="/v/b.mp4", filename="b.mp4")).refused(ContentMismatch)

    def test_an_id_never_changes_its_tenant(self):
        wish = order(video.RegisterVideo, source="/v/a.mp4", filename="a.mp4", meta=ELSEWHERE)
        given(video, registered).when(wish).refused(ContentMismatch)

    def test_an_unchanged_file_is_no_news(self):
        given(video, registered).when(order(video.NoticeFile, size_bytes=5, mtime_ms=6)).then()

    def test_another_size_or_time_is_a_changed_file_and_forgets_what_was_known_of_the_content(self):
        spec = given(
            video,
            registered,
            video.VideoFingerprinted(**head(2), blake3="f" * 64, size_bytes=5),
            video.VideoProbed(**head(3), facts=FACTS),
            video.VideoMissing(**head(4)),
        ).when(order(video.NoticeFile, size_bytes=5, mtime_ms=7))
        spec.then("video.changed", mtime_ms=7)
        assert (spec.state.blake3, spec.state.facts, spec.state.is_missing, spec.state.content) == (None, None, False, 5)

    def test_a_missing_file_that_is_back_unchanged_is_restored(self):
        given(video, registered, video.VideoMissing(**head(2))).when(
            order(video.NoticeFile, size_bytes=5, mtime_ms=6)
        ).then("video.restored")

    def test_a_deleted_video_takes_no_late_facts_and_cannot_be_deleted_again(self):
        spec = given(video, registered, video.VideoDeleted(**head(2)))
        spec.when(order(video.RecordFingerprint, blake3="f" * 64, size_bytes=5)).then()
        spec.when(order(video.RecordProbe, facts=FACTS)).then()
        spec.when(order(video.MarkMissing)).then()
        spec.when(order(video.DeleteVideo)).refused(VideoNotFound)

    def test_a_deleted_video_may_be_registered_anew(self):
        spec = given(video, registered, video.VideoDeleted(**head(2)))
        spec.when(order(video.RegisterVideo, source="/v/b.mp4", filename="b.mp4")).then("video.registered")
        assert (spec.state.is_deleted, spec.state.content) == (False, 3)

    def test_another_tenants_video_is_unknown(self):
        given(video, registered).when(order(video.DeleteVideo, meta=ELSEWHERE)).refused(VideoNotFound)

    def test_a_video_is_never_its_own_duplicate(self):
        given(video, registered).when(order(video.MarkDuplicate, duplicate_of=order(video.MarkMissing).stream_id)).then()

    def test_a_duplicate_is_promoted_once(self):
        spec = given(video, registered, video.VideoDuplicateFound(**head(2), duplicate_of=OTHER))
        spec.when(order(video.PromoteVideo), order(video.PromoteVideo)).then("video.promoted")
        assert spec.state.duplicate_of is None

    def test_the_same_hash_again_is_no_news(self):
        wish = order(video.RecordFingerprint, blake3="f" * 64, size_bytes=5)
        given(video, registered).when(wish, wish).then("video.fingerprinted")


class TestTask:
    def test_an_attempt_from_start_to_end(self):
        given(task, requested).when(start, complete).then("task.started", "task.completed", artifact_count=3)

    def test_the_same_wish_while_active_is_refused(self):
        wish = order(task.RequestTask, video_id=VIDEO, task_type="ocr", profile="balanced", config={}, config_hash="c")
        given(task, requested).when(wish).refused(TaskActive)
        given(task, requested, started(2), failed(3)).when(wish).refused(InvalidState)

    def test_a_redelivered_start_is_no_second_attempt(self):
        given(task, requested).when(start, start).then("task.started", attempt=1)

    def test_a_later_delivery_takes_over_and_the_older_one_changes_nothing_any_more(self):
        newer = order(task.StartTask, run_id=OTHER, request_version=1, delivery=2, worker="w2")
        given(task, requested, started(2)).when(newer, complete, fail, start).then("task.started", attempt=2)

    def test_a_start_for_an_older_request_is_old_news(self):
        again = task.TaskRequeued(**head(3), reason="lost")
        given(task, requested, started(2), again).when(start, complete).then()

    def test_a_cancelled_task_takes_no_results(self):
        given(task, requested, started(2), task.TaskCancelled(**head(3), reason="no")).when(complete, fail).then()

    def test_a_parked_task_whose_newest_attempt_ends_after_all_is_completed(self):
        parked = task.TaskParked(**head(3), reason="too often", deliveries=5)
        given(task, requested, started(2), parked).when(complete).then("task.completed")

    def test_an_answer_to_an_older_request_parks_and_frees_nothing(self):
        spec = given(task, requested, started(2), failed(3), task.TaskRetried(**head(4), priority="hi"))
        spec.when(order(task.ParkTask, request_version=1, reason="x", deliveries=5)).then()
        spec.when(order(task.MarkUnavailable, request_version=1, missing="x", remedy="y")).then()
        spec.when(order(task.RequeueTask, request_version=1, reason="x")).then()

    @pytest.mark.parametrize("end", [failed(3), task.TaskCancelled(**head(3), reason="x"),
                                     task.TaskParked(**head(3), reason="x", deliveries=5),
                                     task.TaskUnavailable(**head(3), missing="x", remedy="y")], ids=lambda e: e.TOPIC)  # fmt: skip
    def test_what_ended_without_a_result_can_be_retried(self, end):
        spec = given(task, requested, started(2), end).when(order(task.RetryTask, priority="hi"))
        spec.then("task.retried", priority="hi")
        assert (spec.state.status, spec.state.request_version) == ("pending", 4)

    @pytest.mark.parametrize(
        ("first", "second", "is_unexplained", "follows"),
        [
            ("KeyError: 'x'", "KeyError: 'x'", True, "task.failed"),
            ("at 0x7f3a in 12 ms", "at 0x7f99 in 9 ms", True, "task.failed"),
            ("KeyError: 'x'", "KeyError: 'y'", True, "task.postponed"),
            ("no memory", "no memory", False, "task.postponed"),
        ],
    )
    def test_an_unexplained_error_in_the_same_words_will_not_pass(self, first, second, is_unexplained, follows):
        def end(error: str, run_id: UUID) -> task.PostponeTask:
            return order(
                task.PostponeTask, run_id=run_id, code="X", error=error, remedy="r", next_try_at=AT,
                is_unexplained=is_unexplained,
            )  # fmt: skip

        again = order(task.StartTask, run_id=OTHER, request_version=1, delivery=2, worker="w")
        spec = given(task, requested, started(2)).when(end(first, RUN), end(first, RUN), again, end(second, OTHER))
        spec.then("task.postponed", "task.started", follows)
        assert spec.state.status == ("failed" if follows == "task.failed" else "pending")

    def test_a_retried_task_begins_anew_with_its_tries(self):
        wish = order(
            task.PostponeTask, run_id=OTHER, code="X", error="e", remedy="", next_try_at=AT, is_unexplained=True
        )
        past = [
            task.TaskPostponed(**head(3), run_id=RUN, code="X", error="e", remedy="", next_try_at=AT),
            task.TaskCancelled(**head(4), reason="x"),
            task.TaskRetried(**head(5), priority="std"),
            task.TaskStarted(**head(6), run_id=OTHER, attempt=2, request_version=5, delivery=1, worker="w"),
        ]
        given(task, requested, started(2), *past).when(wish).then("task.postponed")

    def test_a_task_whose_result_is_known_completes_with_the_earlier_run(self):
        wish = order(task.ReuseRun, request_version=1, run_id=OTHER, artifact_count=3)
        known = {"run_id": OTHER, "artifact_count": 3, "is_reused": True}
        given(task, requested).when(wish, wish).then("task.completed", **known)
        given(task, requested, task.TaskCancelled(**head(2), reason="by request")).when(wish).then()
        given(task, requested, task.TaskRequeued(**head(2), reason="lost")).when(wish).then()

    def test_what_runs_or_has_completed_is_not_retried_and_what_ended_is_not_cancelled(self):
        given(task, requested, started(2)).when(order(task.RetryTask)).refused(InvalidState)
        done = given(task, requested, started(2), task.TaskCompleted(**head(3), run_id=RUN, artifact_count=0))
        done.when(order(task.RetryTask)).refused(InvalidState)
        done.when(order(task.CancelTask)).refused(InvalidState)

    def test_unknown_and_foreign_tasks_are_not_found(self):
        given(task).when(order(task.CancelTask)).refused(TaskNotFound)
        given(task, requested).when(order(task.CancelTask, meta=ELSEWHERE)).refused(TaskNotFound)

    def test_ids_tell_wishes_and_attempts_apart(self):
        ids = {task.task_id_of(VIDEO, "ocr", "fast", "c", key) for key in ("0", "1", "content-1")}
        assert len(ids) == 3
        assert len({task.run_id_of(VIDEO, version, n) for version in (1, 11) for n in (1, 11)}) == 4


class TestRun:
    started = run.RunStarted(
        **head(1), task_id=OTHER, video_id=VIDEO, task_type="ocr", producer="p", producer_version="1", profile="fast",
        config={}, config_hash="c", input_hash="", attempt=1, worker="w", device="cpu", created_at=AT,
        artifact_types=("ocr.text", "scene"),
    )  # fmt: skip

    def test_what_was_looked_for_and_not_found_counts_as_zero(self):
        given(run, self.started).when(order(run.CompleteRun, counts={"scene": 2}, metrics={})).then(
            "run.completed", counts={"ocr.text": 0, "scene": 2}
        )

    def test_a_failed_run_is_never_completed(self):
        spec = given(run, self.started).when(order(run.FailRun, code="X", error="x"), order(run.FailRun, code="Y", error="y"))
        spec.then("run.failed", code="X")
        spec.when(order(run.CompleteRun, counts={}, metrics={})).refused(InvalidState)

    def test_a_completed_run_does_not_fail_afterwards(self):
        spec = given(run, self.started).when(order(run.CompleteRun, counts={}, metrics={}))
        spec.when(order(run.FailRun, code="X", error="x")).then()
        spec.when(order(run.CompleteRun, counts={}, metrics={})).then()

    def test_an_end_without_a_start_is_refused(self):
        given(run).when(order(run.FailRun, code="X", error="x")).refused(RunNotFound)


class TestContent:
    claim, other = order(content.ClaimContent, video_id=VIDEO), order(content.ClaimContent, video_id=OTHER)

    def test_the_first_to_claim_holds_it_and_the_next_waits(self):
        spec = given(content).when(self.claim, self.other, self.claim, self.other)
        spec.then("content.claimed", "content.shared", video_id=OTHER)
        assert spec.state.video_id == VIDEO

    def test_who_waits_takes_over(self):
        release = order(content.ReleaseContent, video_id=VIDEO)
        spec = given(content).when(self.claim, self.other, release, release)
        spec.then("content.claimed", "content.shared", "content.released", "content.claimed", video_id=OTHER)
        assert (spec.state.video_id, spec.state.waiting) == (OTHER, ())

    def test_who_waits_no_longer_does_not_take_over(self):
        leave = order(content.ReleaseContent, video_id=OTHER)
        spec = given(content).when(self.claim, self.other, leave, order(content.ReleaseContent, video_id=VIDEO))
        assert spec.state.video_id is None


class TestScan:
    asked = scan.ScanRequested(**head(1), root="/v", recursive=True, watch=False)
    end = order(scan.CompleteScan, found=1, registered=1, changed=0, problems=(), problem_count=0)

    def test_a_scan_completes_once_unless_it_watches(self):
        given(scan, self.asked).when(self.end, self.end).then("scan.completed")
        watched = msgspec.structs.replace(self.asked, watch=True)
        given(scan, watched).when(self.end, self.end).then("scan.completed", "scan.completed")

    def test_a_stopped_watch_completes_no_more(self):
        watched = msgspec.structs.replace(self.asked, watch=True)
        given(scan, watched).when(self.end, order(scan.StopScan), self.end, order(scan.StopScan)).then(
            "scan.completed", "scan.stopped"
        )

    def test_an_unknown_scan_cannot_complete(self):
        given(scan).when(self.end).refused(ScanNotFound)


class TestSelection:
    def wish(self, mode: selection.Mode, **fields: object) -> selection.SetSelection:
        return order(selection.SetSelection, video_id=VIDEO, artifact_type="scene", mode=mode, **fields)

    def test_pinned_needs_a_run_and_profile_a_name(self):
        given(selection).when(self.wish("pinned")).refused(InvalidParameter, "run_id")
        given(selection).when(self.wish("profile")).refused(InvalidParameter, "profile")

    def test_what_does_not_belong_to_the_mode_is_not_stored(self):
        given(selection).when(self.wish("latest", run_id=RUN, profile="fast")).then("selection.set", run_id=None, profile=None)

    def test_the_same_policy_again_is_no_news(self):
        clear = order(selection.ClearSelection, video_id=VIDEO, artifact_type="scene")
        given(selection).when(self.wish("all"), self.wish("all"), clear, clear).then("selection.set", "selection.cleared")


class TestCapability:
    def say(self, digest: str, minutes: int) -> capability.AnnounceCapability:
        meta = msgspec.structs.replace(META, at=AT + timedelta(minutes=minutes))
        return order(capability.AnnounceCapability, family="asr", worker="w", task_types=("ocr",), digest=digest, meta=meta)

    def test_a_worker_that_comes_up_again_and_again_is_heard_once_in_ten_minutes(self):
        given(capability).when(self.say("a", 0), self.say("a", 1), self.say("a", 9), self.say("a", 10)).then(
            "capability.announced", "capability.announced"
        )

    def test_something_new_is_heard_at_once(self):
        given(capability).when(self.say("a", 0), self.say("b", 0)).then("capability.announced", "capability.announced")
