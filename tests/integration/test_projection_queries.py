"""The questions that the basic read models answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import psycopg
import pytest

from domain import scan, task, video
from domain.errors import (
    ArtifactNotFound,
    ConflictingFilters,
    InvalidParameter,
    RunNotFound,
    ScanNotFound,
    TaskNotFound,
    VideoNotFound,
)
from domain.run import CompleteRun
from projectors import PROJECTIONS
from projectors.artifacts import get_artifact, list_artifacts
from projectors.runs import get_run, profiles_of_video, runs_of_video
from projectors.scans import get_scan, list_scans
from projectors.selection import SelectionFilter, selection_filter
from projectors.selection_policies import get_policy
from projectors.stats import stats
from projectors.task_index import PostgresTaskIndex
from projectors.tasks import TaskView, get_task, list_tasks, tasks_of_video
from projectors.videos import get_video, list_videos, require_video
from tests.support.given import AT
from tests.support.history import History, run_id, video_id
from tests.support.memory_log import MemoryLog

R = TypeVar("R")
LATEST = SelectionFilter(mode="latest")
ALL = SelectionFilter(mode="all")


class Library:
    """A history and the read models of it."""

    def __init__(self, database: str) -> None:
        self.database, self.log = database, MemoryLog()
        self.history = History(self.log, seed=30)
        self._connection = psycopg.connect(
            database, autocommit=True, options="-c search_path=read -c timezone=UTC"
        )
        self._projected = 0

    def ask(self, question: Callable[..., Awaitable[R]], **parameters: Any) -> R:
        """Bring the read models up to date, then ask."""
        fresh = self.log.records[self._projected :]
        self._projected = len(self.log.records)
        for projection in PROJECTIONS:
            if wanted := [record for record in fresh if projection.wants(record)]:
                with self._connection.transaction():
                    projection().apply(self._connection, wanted)

        async def asked() -> R:
            async with await psycopg.AsyncConnection.connect(
                self.database, autocommit=True, options="-c search_path=read -c timezone=UTC"
            ) as connection:
                return await question(connection, **parameters)

        return asyncio.run(asked())

    def close(self) -> None:
        self._connection.close()

    # ---- what happens ----

    def run(self, number: int, *, on: int = 0, days: int = 0, found: int = 1, **fields: Any) -> UUID:
        """A completed run that found transcript segments, made `days` after the epoch of tests."""
        made = {
            "artifact_types": ("transcript.segment",),
            "created_at": AT + timedelta(days=days),
            "language": None,
        }
        stream = self.history.start_run(number, on=on, **made | fields)
        if found:
            self.history.produce(number, "transcript.segment", found)
        counts = {"transcript.segment": found}
        assert self.history.do(CompleteRun, stream, on, counts=counts, metrics={"seconds": 1.0})
        return stream

    def ids(self, selection: SelectionFilter, **parameters: Any) -> set[UUID]:
        """The runs that a listing of video 0 shows artifacts of."""
        page = self.ask(
            list_artifacts, tenant_id="default", video_id=video_id(0), selection=selection, **parameters
        )
        return {view.artifact.run_id for view in page.artifacts}


@pytest.fixture
def library(database: str) -> Iterator[Library]:
    library = Library(database)
    library.history.register(0, file_created_at=None, filename="Beach_100%.MP4", collection="a")
    yield library
    library.close()


def test_videos_are_listed_in_timeline_order_and_walked_without_gap(library: Library) -> None:
    for number, date in ((2, AT), (4, AT - timedelta(days=1)), (6, AT), (8, None)):
        library.history.register(number, file_created_at=date)
    seen: list[UUID] = []
    cursor = None
    while True:
        page = library.ask(list_videos, tenant_id="default", limit=2, cursor=cursor)
        seen += [found.video_id for found in page.videos]
        if not page.has_more:
            break
        cursor = page.videos[-1].cursor

    assert seen == [video_id(n) for n in (4, 2, 6, 0, 8)]
    assert library.ask(list_videos, tenant_id="nobody").videos == []


@pytest.mark.parametrize(
    ("filters", "hits"),
    [
        ({"filename": "beach"}, {0}),
        ({"filename": "100%"}, {0}),
        ({"filename": "h_1"}, {0}),
        ({"filename": "%"}, {0}),
        ({"filename": "straße"}, {2}),
        ({"filename": "STRASSE"}, {2}),
        ({"filename": "b_ach"}, set()),
        ({"collection": "a"}, {0}),
        ({"captured_from": AT}, {2}),
        ({"captured_from": AT, "captured_to": AT}, set()),
        ({"captured_to": AT + timedelta(1)}, {2}),
        ({"status": "registered"}, {0, 2}),
        ({"status": "ready"}, set()),
    ],
)
def test_videos_are_filtered(library: Library, filters: dict[str, Any], hits: set[int]) -> None:
    library.history.register(2, filename="Straße.mp4", file_created_at=AT, collection="b")
    found = library.ask(list_videos, tenant_id="default", **filters)
    assert {view.video_id for view in found.videos} == {video_id(n) for n in hits}


def request(library: Library, task_id: UUID, task_type: str = "ocr", on: int = 0) -> None:
    wish = {
        "video_id": video_id(on),
        "task_type": task_type,
        "profile": "fast",
        "config": {"a": 1},
        "config_hash": "h",
    }
    assert library.history.do(task.RequestTask, task_id, on, **wish)


def test_a_videos_status_follows_its_tasks(library: Library) -> None:
    def status() -> str:
        return library.ask(get_video, tenant_id="default", video_id=video_id(0)).status

    first, second = UUID(int=1), UUID(int=2)
    assert status() == "registered"
    request(library, first)
    assert status() == "processing"
    library.history.do(task.StartTask, first, run_id=run_id(1), request_version=1, delivery=1, worker="w")
    library.history.do(task.FailTask, first, run_id=run_id(1), code="X", error="broken", retryable=False)
    assert status() == "failed"
    request(library, second)
    library.history.do(task.StartTask, second, run_id=run_id(2), request_version=1, delivery=1, worker="w")
    library.history.do(task.CompleteTask, second, run_id=run_id(2), artifact_count=3)
    assert status() == "ready"  # the newest of its type counts
    library.history.do(video.MarkDuplicate, video_id(0), duplicate_of=video_id(2))
    assert status() == "duplicate"
    library.history.do(video.MarkMissing, video_id(0))
    assert status() == "missing"
    assert [
        found.status for found in library.ask(list_videos, tenant_id="default", status="missing").videos
    ] == ["missing"]


def test_what_is_known_of_a_video(library: Library) -> None:
    facts = video.FileFacts(
        duration_ms=5,
        container="mp4",
        has_video=True,
        has_audio=False,
        file_created_at=datetime(2020, 1, 1, tzinfo=UTC),
    )
    library.history.do(video.RecordProbe, video_id(0), facts=facts)
    library.history.do(video.RecordFingerprint, video_id(0), blake3="ab" * 32, size_bytes=9)
    found = library.ask(get_video, tenant_id="default", video_id=video_id(0))
    assert (found.facts, found.file_created_at, found.blake3, found.size_bytes) == (
        facts,
        facts.file_created_at,
        "ab" * 32,
        9,
    )
    with pytest.raises(VideoNotFound):
        library.ask(get_video, tenant_id="other", video_id=video_id(0))
    with pytest.raises(VideoNotFound):
        library.ask(require_video, tenant_id="default", video_id=video_id(2))


def test_tasks_are_sorted_with_nulls_last_and_walked_in_both_orders(library: Library) -> None:
    for number in range(1, 8):
        library.history._now += timedelta(seconds=number % 2)  # ties on purpose
        request(library, UUID(int=number), ("ocr", "transcription")[number % 2])
    for number in (3, 5):
        library.history._now += timedelta(seconds=1)
        library.history.do(
            task.StartTask, UUID(int=number), run_id=run_id(number), request_version=1, delivery=1, worker="w"
        )
        library.history._now += timedelta(seconds=number)
        library.history.do(task.CompleteTask, UUID(int=number), run_id=run_id(number), artifact_count=1)

    def walk(**parameters: Any) -> list[int]:
        seen, cursor = [], None
        while True:
            page = library.ask(list_tasks, tenant_id="default", limit=2, cursor=cursor, **parameters)
            seen += [found.task_id.int for found in page.tasks]
            assert page.total == 7
            if not page.has_more:
                return seen
            cursor = page.tasks[-1].cursor

    assert walk() == [7, 6, 5, 4, 3, 2, 1]
    assert walk(sort_order="asc") == [1, 2, 3, 4, 5, 6, 7]
    assert walk(sort_by="running_time") == [5, 3, 7, 6, 4, 2, 1]
    assert walk(sort_by="running_time", sort_order="asc") == [3, 5, 1, 2, 4, 6, 7]
    assert walk(sort_by="started_at", sort_order="asc") == [3, 5, 1, 2, 4, 6, 7]
    page = library.ask(list_tasks, tenant_id="default", offset=5)
    assert ([found.task_id.int for found in page.tasks], page.total) == ([2, 1], 7)
    assert library.ask(list_tasks, tenant_id="default", offset=50).total == 7
    assert (
        library.ask(list_tasks, tenant_id="default", status="completed", task_type="transcription").total == 2
    )
    with pytest.raises(VideoNotFound):
        library.ask(list_tasks, tenant_id="default", video_id=video_id(1))
    with pytest.raises(InvalidParameter, match="cursor"):
        library.ask(list_tasks, tenant_id="default", cursor=page.tasks[0].cursor, sort_by="running_time")


def test_a_task_that_is_tried_again_tells_why_and_when_until_it_ends(library: Library) -> None:
    task_id, when = UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC)

    def seen() -> TaskView:
        listed = library.ask(list_tasks, tenant_id="default").tasks[0]
        of_video = library.ask(tasks_of_video, tenant_id="default", video_id=video_id(0))[0]
        one, _ = library.ask(get_task, tenant_id="default", task_id=task_id)
        assert msgspec.structs.replace(listed, cursor="") == of_video == one
        return one

    request(library, task_id)
    library.history.do(task.StartTask, task_id, run_id=run_id(1), request_version=1, delivery=1, worker="w1")
    library.history.do(
        task.PostponeTask, task_id, run_id=run_id(1), code="OUT_OF_MEMORY", error="no room", remedy="more memory",
        next_try_at=when, is_unexplained=False,
    )  # fmt: skip
    waits = seen()
    assert (waits.status, waits.last_error, waits.next_try_at) == ("pending", "OUT_OF_MEMORY: no room", when)
    assert (waits.remedy, waits.error, waits.attempts) == ("more memory", None, 1)
    library.history.do(task.StartTask, task_id, run_id=run_id(2), request_version=1, delivery=2, worker="w1")
    again = seen()
    assert (again.status, again.last_error, again.next_try_at) == ("running", "OUT_OF_MEMORY: no room", None)
    library.history.do(task.CompleteTask, task_id, run_id=run_id(2), artifact_count=1)
    done = seen()
    assert (done.status, done.last_error, done.next_try_at, done.remedy) == ("completed", None, None, None)


def test_a_task_tells_its_attempts_and_its_place_in_the_queue(library: Library) -> None:
    first, second = UUID(int=1), UUID(int=2)
    request(library, first)
    request(library, second)
    library.history.do(task.StartTask, first, run_id=run_id(1), request_version=1, delivery=1, worker="w1")
    library.history.do(task.StartTask, first, run_id=run_id(2), request_version=1, delivery=2, worker="w2")
    library.history._now += timedelta(seconds=3)
    library.history.do(task.FailTask, first, run_id=run_id(2), code="TIMED_OUT", error="slow", retryable=True)

    failed, place = library.ask(get_task, tenant_id="default", task_id=first)
    assert place is None
    assert (failed.status, failed.attempts, failed.run_ids) == ("failed", 2, [run_id(1), run_id(2)])
    assert (failed.code, failed.error, failed.retryable, failed.running_ms) == (
        "TIMED_OUT",
        "slow",
        True,
        3000,
    )
    assert (failed.config, failed.worker) == ({"a": 1}, "w2")
    assert library.ask(get_task, tenant_id="default", task_id=second)[1] == 0

    library.history.do(task.RetryTask, first, priority="hi")
    retried, place = library.ask(get_task, tenant_id="default", task_id=first)
    assert (retried.status, retried.error, retried.started_at, place) == ("pending", None, None, 0)
    assert library.ask(get_task, tenant_id="default", task_id=second)[1] == 1  # a hurried one came before
    assert [t.task_id for t in library.ask(tasks_of_video, tenant_id="default", video_id=video_id(0))] == [
        first,
        second,
    ]
    with pytest.raises(TaskNotFound):
        library.ask(get_task, tenant_id="other", task_id=first)


def test_selections_choose_runs(library: Library) -> None:
    fast = library.run(1, days=1, profile="fast", language="en")
    best = library.run(2, days=2, profile="high_quality", language="de")
    newer = library.run(3, days=3, profile="fast", language="en")
    latest = library.run(4, days=4, profile="own", language="en")

    assert library.ids(SelectionFilter()) == {latest}
    assert library.ids(selection_filter(selection="default")) == {latest}
    assert library.ids(selection_filter(selection="all")) == {fast, best, newer, latest}
    assert library.ids(selection_filter(profile="fast")) == {newer}
    assert library.ids(selection_filter(selection="best_quality")) == {best}
    assert library.ids(selection_filter(selection="latest_per_language")) == {best, latest}
    assert library.ids(selection_filter(run_id=fast)) == {fast}
    assert library.ids(selection_filter(profile="nothing")) == set()

    library.history.select(0, video_id=None, artifact_type="transcript.segment", mode="best_quality")
    assert library.ids(SelectionFilter()) == {best}
    assert library.ids(selection_filter(selection="default")) == {latest}
    library.history.select(
        0, video_id=video_id(0), artifact_type="transcript.segment", mode="pinned", run_id=fast
    )
    assert library.ids(SelectionFilter()) == {fast}
    stored = library.ask(
        get_policy, tenant_id="default", artifact_type="transcript.segment", video_id=video_id(0)
    )
    assert (stored.mode, stored.run_id, stored.profile) == ("pinned", fast, None)
    assert (
        library.ask(get_policy, tenant_id="other", artifact_type="transcript.segment", video_id=None) is None
    )


def test_a_newer_run_that_found_nothing_is_the_latest(library: Library) -> None:
    library.run(1, days=1)
    library.run(2, days=2, found=0)
    assert library.ids(LATEST) == set()


def test_a_run_is_seen_once_it_is_complete(library: Library) -> None:
    stream = library.history.start_run(1, on=0, artifact_types=("transcript.segment",))
    library.history.produce(1, "transcript.segment", 1)
    assert library.ids(ALL) == set()
    library.history.do(CompleteRun, stream, counts={"transcript.segment": 1}, metrics={})
    assert library.ids(ALL) == {stream}


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"selection": "newest"}, InvalidParameter),
        ({"selection": "pinned"}, InvalidParameter),
        ({"selection": "profile"}, InvalidParameter),
        ({"profile": " "}, InvalidParameter),
        ({"selection": "latest", "profile": "fast"}, ConflictingFilters),
    ],
)
def test_selections_that_make_no_sense_are_refused(
    parameters: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        selection_filter(**parameters)


def test_artifacts_are_walked_by_start_and_filtered_by_overlap_and_payload(library: Library) -> None:
    library.run(1, found=40)
    library.run(2, found=40)

    def page(**parameters: Any) -> Any:
        return library.ask(
            list_artifacts, tenant_id="default", video_id=video_id(0), selection=ALL, **parameters
        )

    everything = [view.artifact for view in page().artifacts]
    keys = [(a.span_start_ms, str(a.artifact_id)) for a in everything]
    assert len(everything) == 80
    assert keys == sorted(keys)

    walked, cursor = [], None
    while True:
        part = page(limit=7, cursor=cursor)
        walked += [view.artifact.artifact_id for view in part.artifacts]
        if not part.has_more:
            break
        cursor = part.artifacts[-1].cursor
    assert walked == [a.artifact_id for a in everything]

    for start, end in ((100, 200), (0, 1), (300, 300), (None, 100), (350, None)):
        expected = [
            a.artifact_id
            for a in everything
            if (end is None or a.span_start_ms < end)
            and (start is None or a.span_end_ms > start or a.span_start_ms == a.span_end_ms >= start)
        ]
        assert [v.artifact.artifact_id for v in page(from_ms=start, to_ms=end).artifacts] == expected

    payloads = [msgspec.json.decode(a.payload) for a in everything]
    german = sum(payload["language"] == "de" for payload in payloads)
    assert 0 < german < 80
    assert len(page(payload={"language": "de"}).artifacts) == german
    assert len(page(payload={"confidence": "0.930"}).artifacts) == 80  # numbers by value
    assert page(payload={"nothing": "x"}).artifacts == []
    assert page(artifact_type="scene").artifacts == []
    texts = {payload["text"] for payload in payloads}
    assert texts == {'ask "not"', "tab\there\nline", "back\\slash", "žluťoučký 🐎"}
    with pytest.raises(VideoNotFound):
        library.ask(list_artifacts, tenant_id="other", video_id=video_id(0), selection=ALL)


def test_an_artifact_comes_with_its_envelope(library: Library) -> None:
    stream = library.run(1, profile="fast")
    listed = library.ask(list_artifacts, tenant_id="default", video_id=video_id(0), selection=ALL).artifacts[
        0
    ]
    found = library.ask(get_artifact, tenant_id="default", artifact_id=listed.artifact.artifact_id)
    assert msgspec.json.encode(found.artifact) == msgspec.json.encode(listed.artifact)
    assert (found.artifact.run_id, found.artifact.model_profile, found.artifact.producer) == (
        stream,
        "fast",
        "p",
    )
    assert found.artifact.created_at == AT
    assert library.log.records[found.position - 1].position == found.position
    with pytest.raises(ArtifactNotFound):
        library.ask(get_artifact, tenant_id="other", artifact_id=listed.artifact.artifact_id)


def test_runs_and_profiles_of_a_video(library: Library) -> None:
    first, second, third = (
        library.run(n, days=d, profile=p) for n, d, p in ((1, 2, "b"), (2, 1, "a"), (3, 3, "b"))
    )
    library.history.start_run(4, on=0)
    parameters = {"tenant_id": "default", "video_id": video_id(0), "artifact_type": "transcript.segment"}

    newest_first = library.ask(runs_of_video, **parameters)
    profiles = library.ask(profiles_of_video, **parameters)

    assert [found.run_id for found in newest_first.runs] == [third, first, second]
    assert [(p.profile, p.artifact_count, p.run_ids) for p in profiles.profiles] == [
        ("a", 1, [second]),
        ("b", 2, [first, third]),
    ]
    assert newest_first.runs[0].metrics == {"seconds": 1.0}
    assert library.ask(get_run, tenant_id="default", run_id=run_id(4)).status == "running"
    for question in (runs_of_video, profiles_of_video):
        with pytest.raises(VideoNotFound):
            library.ask(question, **parameters | {"tenant_id": "other"})
    with pytest.raises(RunNotFound):
        library.ask(get_run, tenant_id="default", run_id=run_id(99))


def test_a_deleted_video_is_gone_and_comes_back_empty(library: Library) -> None:
    old = library.run(1)
    half = library.history.start_run(2, on=0, artifact_types=("transcript.segment",))
    library.history.delete(0)
    library.history.produce(2, "transcript.segment", 1)
    with pytest.raises(VideoNotFound):
        library.ids(ALL)
    with pytest.raises(RunNotFound):
        library.ask(get_run, tenant_id="default", run_id=old)

    library.history.register(0)
    library.history.do(CompleteRun, half, counts={"transcript.segment": 1}, metrics={})
    assert library.ids(ALL) == set()
    assert library.ids(ALL) | {library.run(3)} == library.ids(ALL) | {run_id(3)}
    assert library.ids(ALL) == {run_id(3)}


def test_open_tasks_of_a_deleted_video_stay_until_they_end_and_the_index_knows_them(library: Library) -> None:
    index = PostgresTaskIndex(library.database)
    waiting, ended, weightless, late = (UUID(int=n) for n in (1, 2, 3, 4))

    def of_video() -> set[UUID]:
        library.ask(list_tasks, tenant_id="default")  # brings the read models up to date
        return set(index.of_video(video_id(0))[1])

    for task_id, kind in ((waiting, "ocr"), (ended, "face_detection"), (weightless, "place_detection")):
        request(library, task_id, kind)
    library.history.do(task.CancelTask, ended)
    library.history.do(task.MarkUnavailable, weightless, request_version=1, missing="no weights", remedy="none")
    assert of_video() == {waiting, ended, weightless}
    assert index.unavailable(("ocr", "place_detection")) == (0, [weightless])
    assert index.unavailable(("ocr",)) == (0, [])

    library.history.delete(0)
    assert of_video() == {waiting}
    assert index.unavailable(("place_detection",)) == (0, [])
    request(library, late, "scene_detection")
    library.history.do(task.CancelTask, waiting)
    assert of_video() == {late}
    library.history.register(0)
    library.history.do(task.CancelTask, late)
    assert of_video() == {late}


def test_the_index_tells_how_far_it_knows_the_log(library: Library) -> None:
    with psycopg.connect(library.database) as connection:
        connection.execute("INSERT INTO es.tracking (application_name, notification_id) VALUES ('projection:tasks', 7)")
    assert PostgresTaskIndex(library.database).of_video(video_id(0)) == (7, [])


def test_scans(library: Library) -> None:
    stream = UUID(int=5)
    problem = scan.ScanProblem("/media/x", "broken")
    library.history.do(scan.RequestScan, stream, root="/media", watch=True)
    assert library.ask(get_scan, tenant_id="default", scan_id=stream).status == "running"
    for _ in range(2):
        library.history.do(
            scan.CompleteScan, stream, found=3, registered=2, changed=1, problems=(problem,), problem_count=1
        )
    found = library.ask(get_scan, tenant_id="default", scan_id=stream)
    assert (found.status, found.looks, found.registered, found.problems) == ("watching", 2, 4, [problem])
    library.history.do(scan.StopScan, stream)
    assert [s.status for s in library.ask(list_scans, tenant_id="default")] == ["stopped"]
    with pytest.raises(ScanNotFound):
        library.ask(get_scan, tenant_id="other", scan_id=stream)


def test_stats_count_what_there_is(library: Library) -> None:
    library.run(1, found=3)
    library.run(2, found=2)
    request(library, UUID(int=1))
    library.history.register(1)
    mine = library.ask(stats, tenant_id="default")
    assert (mine.videos, mine.tasks, mine.runs) == (1, {"ocr": {"pending": 1}}, 2)
    assert mine.artifacts == {"transcript.segment": 5}
    assert library.ask(stats).videos == 2
    assert library.ask(stats).parked == {}
