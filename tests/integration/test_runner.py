"""A worker with a real child process, on real NATS and Postgres."""

import asyncio
import contextlib

import pytest

from domain import task, video
from domain.artifacts.envelope import artifact_id_of
from infrastructure.media.source_cache import PIECE
from infrastructure.nats import cancel, progress
from infrastructure.nats.advisories import move_advisories
from infrastructure.nats.commands import pending_tasks
from tests.support.pipeline import QUICK, pipeline, until

ROLES = ("relay", "ingester", "worker")


@pytest.fixture
def way(database, nats_url, tmp_path):
    """Start a pipeline: `async with way(*roles, **worker options) as p`."""

    def start(*roles: str, **worker):
        return pipeline(database, nats_url, tmp_path, *(roles or ROLES), **worker)

    return start


def test_a_task_goes_the_whole_way(way):
    async def story():
        async with way() as p:
            task_id = p.ask(p.given_video(), count=2_500)
            await p.reaches(task_id, "completed")
            return p.artifacts(task_id), p.runs(task_id), p.log.load(task_id)[-1]

    artifacts, runs, done = asyncio.run(story())
    assert [a.payload["frame_index"] for a in artifacts] == list(range(2_500))
    assert [a.artifact_id for a in artifacts] == [artifact_id_of(done.run_id, n) for n in range(1, 2_501)]
    assert [r.counts for r in runs] == [{"object.detection": 2_500}]


def test_artifacts_of_several_types_are_packed_by_type_and_small_enough(way):
    async def story():
        async with way() as p:
            task_id = p.ask(p.given_video(), "scene_detection", count=1_200, size=1_000)
            await p.reaches(task_id, "completed")
            done = p.log.load(task_id)[-1]
            batches = [r.item for r in p.log.read(0, kinds=["scene", "object.detection"], limit=10**9)]
            return p.artifacts(task_id), p.runs(task_id)[0], [b for b in batches if b.head.run_id == done.run_id]

    artifacts, run, batches = asyncio.run(story())
    assert run.counts == {"scene": 1_200, "object.detection": 1_200, "ocr.text": 0}
    assert len({a.artifact_id for a in artifacts}) == 2_400
    assert all(batch.count <= 1_000 and len(bytes(batch.items)) <= 256 * 1024 + 10_000 for batch in batches)
    assert len(batches) > 5


@pytest.mark.parametrize(
    ("then", "code"), [("die", "WORKER_DIED: the computing process was ended by signal 9"), ("raise anew", "PRODUCER_FAILED")]
)
def test_a_task_whose_every_attempt_ends_otherwise_or_from_outside_is_parked_with_the_reason(way, then, code):
    async def story():
        async with way(limits=QUICK) as p:
            stop = asyncio.Event()
            moving = asyncio.create_task(move_advisories(p.log, p.bus, stop))
            bad = p.ask(p.given_video(), at=0, then=then)
            await p.reaches(bad, "parked", timeout_s=60)
            good = p.ask(p.given_video(), count=1)
            await p.reaches(good, "completed")
            stop.set()
            await moving
            return p.log.load(bad)

    events = asyncio.run(story())
    assert code in events[-1].reason
    assert "(attempt 5 of 5)" in events[-1].reason
    # The last attempt's start may reach the log after the server's notice.
    assert [e.TOPIC for e in events].count("task.started") in (4, 5)


@pytest.mark.parametrize(
    ("then", "code", "words"),
    [
        ("raise", "PRODUCER_FAILED", "KeyError: 'a bug'"),
        ("exit", "WORKER_CRASHED", "ended with exit code 3"),
        ("crash", "WORKER_CRASHED", "signal 11 (SIGSEGV)"),
        ("hang", "TIMED_OUT", "no progress for 2 s"),
    ],
)
def test_an_unknown_error_that_comes_twice_in_the_same_words_fails_the_task(way, then, code, words):
    async def story():
        async with way(limits=QUICK) as p:
            bad = p.ask(p.given_video(), at=0, then=then)
            await p.reaches(bad, "failed")
            good = p.ask(p.given_video(), count=1)
            await p.reaches(good, "completed")
            await until(lambda: all(run.has_ended for run in p.runs(bad)))
            return p.log.load(bad), len(p.runs(bad)), await pending_tasks(p.bus)

    events, attempts, waiting = asyncio.run(story())
    assert [e.TOPIC.partition(".")[2] for e in events] == ["requested", "started", "postponed", "started", "failed"]
    _, _, postponed, _, failed = events
    assert (failed.code, failed.retryable, failed.is_repeated) == (code, False, True)
    assert words in failed.error
    assert failed.remedy
    assert (postponed.code, postponed.error) == (failed.code, failed.error)
    assert postponed.next_try_at > postponed.recorded_at
    assert attempts == 2
    assert waiting == set()  # the broker has no third attempt


def test_a_task_between_two_tries_waits_with_its_reason_and_can_be_cancelled(way):
    slow = type(QUICK)(retry_s=60.0, heartbeat_s=0.5)

    async def story():
        async with way("policies", *ROLES, limits=slow) as p:
            task_id = p.ask(p.given_video(), at=0, then="raise")
            await until(lambda: p.topics(task_id)[-1] == "task.postponed")
            waiting = p.status(task_id)
            p.order(task.CancelTask, task_id)
            async with asyncio.timeout(20):
                while await pending_tasks(p.bus):  # noqa: ASYNC110 - the broker tells nobody
                    await asyncio.sleep(0.05)
            return waiting, p.status(task_id), [run.has_ended for run in p.runs(task_id)]

    assert asyncio.run(story()) == ("pending", "cancelled", [True])


def test_a_crash_that_happens_once_costs_one_attempt(way, tmp_path):
    async def story():
        async with way() as p:
            task_id = p.ask(p.given_video(), count=5_000, at=3_000, then="die", once=str(tmp_path / "died"))
            await p.reaches(task_id, "completed")
            return p.artifacts(task_id), p.runs(task_id)

    artifacts, runs = asyncio.run(story())
    assert len(artifacts) == 5_000
    assert [run.counts for run in runs] == [None, {"object.detection": 5_000}]
    assert runs[0].has_ended


def test_a_job_that_hangs_is_ended_and_tried_again(way, tmp_path):
    async def story():
        async with way() as p:
            task_id = p.ask(p.given_video(), at=1, then="hang", once=str(tmp_path / "hung"))
            await p.reaches(task_id, "completed")
            return len(p.runs(task_id))

    assert asyncio.run(story()) == 2


def test_a_job_over_its_deadline_has_failed_and_may_be_retried(way):
    async def story():
        async with way(limits=type(QUICK)(deadline_s=1.0, heartbeat_s=0.5)) as p:
            task_id = p.ask(p.given_video(), count=10_000, pace_s=0.01)
            await p.reaches(task_id, "failed")
            p.order(task.RetryTask, task_id)
            await p.reaches(task_id, "pending", "running")
            return p.log.load(task_id)

    failed = next(e for e in asyncio.run(story()) if isinstance(e, task.TaskFailed))
    assert (failed.code, failed.retryable) == ("TIMED_OUT", True)


@pytest.mark.parametrize("how", ["cooperative", "hanging"])
def test_a_running_task_is_cancelled_and_the_worker_goes_on(way, how):
    async def story():
        async with way("policies", *ROLES) as p:
            config = {"pace_s": 0.01} if how == "cooperative" else {"at": 1, "then": "hang"}
            task_id = p.ask(p.given_video(), count=100_000, **config)
            await p.reaches(task_id, "running")
            loop = asyncio.get_running_loop()
            before = loop.time()
            p.order(task.CancelTask, task_id)
            free = p.ask(p.given_video(), count=1)
            await p.reaches(free, "completed")
            took_s = loop.time() - before
            await until(lambda: p.runs(task_id)[0].has_ended)
            return took_s, p.status(task_id), p.log.load(p.log.load(task_id)[1].run_id)[-1].code

    took_s, status, code = asyncio.run(story())
    assert (status, code) == ("cancelled", "CANCELLED")
    assert took_s < 30  # it would take 1,000 s, or for ever


def test_deleting_a_video_stops_its_running_job_and_calls_off_the_waiting_one(way):
    async def story():
        async with way("policies", *ROLES) as p:
            video_id = p.given_video()
            running = p.ask(video_id, count=100_000, pace_s=0.01)
            await p.reaches(running, "running")
            waiting = p.ask(video_id, "scene_detection")
            p.order(video.DeleteVideo, video_id)
            late = p.ask(video_id, "scene_detection", count=7)
            other = p.ask(p.given_video(), count=1)
            await p.reaches(other, "completed")
            for task_id in (running, waiting, late):
                await p.reaches(task_id, "cancelled")
            await until(lambda: p.runs(running)[0].has_ended)
            return p.topics(waiting), await pending_tasks(p.bus)

    assert asyncio.run(story()) == (["task.requested", "task.cancelled"], set())


def test_a_task_cancelled_while_it_waits_is_never_begun(way):
    async def story():
        async with way("relay", "ingester") as p:
            task_id = p.ask(p.given_video())
            p.order(task.CancelTask, task_id)
            p.start("worker")
            other = p.ask(p.given_video())
            await p.reaches(other, "completed")
            return p.topics(task_id)

    assert asyncio.run(story()) == ["task.requested", "task.cancelled"]


def test_a_task_taken_after_its_cancellation_leaves_the_next_one_alone(way):
    async def story():
        async with way() as p:
            running = p.ask(p.given_video(), count=100, pace_s=0.01)
            await p.reaches(running, "running")
            late = p.ask(p.given_video(), count=1)
            await cancel.publish(p.bus, "default", late, 10**9)
            other = p.ask(p.given_video(), count=1)
            return await p.reaches(other, "completed", "failed"), p.topics(late)

    assert asyncio.run(story()) == ("completed", ["task.requested"])


def test_progress_is_told_while_it_runs(way):
    async def story():
        async with way() as p:
            task_id = p.ask(p.given_video(), count=300, pace_s=0.005)
            seen = []
            async with contextlib.aclosing(progress.follow(p.bus, "default", task_id)) as arrivals:
                async for said in arrivals:
                    seen.append(said)
                    if len(seen) == 5:
                        break
            await p.reaches(task_id, "completed")
            return seen

    seen = asyncio.run(story())
    assert [s.done_ms for s in seen] == sorted({s.done_ms for s in seen})
    assert {s.total_ms for s in seen} == {3_000}
    assert all(s.rate > 0 for s in seen)


def test_a_worker_that_is_stopped_gives_its_job_to_another_one_at_once(way):
    async def story():
        async with way("relay", "ingester") as p:
            p.start("worker-1", name="w1", grace_s=0.2)
            task_id = p.ask(p.given_video(), count=400, pace_s=0.01)
            await p.reaches(task_id, "running")
            await p.stop("worker-1")
            p.start("worker-2", name="w2")
            await p.reaches(task_id, "completed")
            return [e.worker for e in p.log.load(task_id) if isinstance(e, task.TaskStarted)], len(p.artifacts(task_id))

    assert asyncio.run(story()) == (["w1", "w2"], 400)


def test_a_worker_that_is_stopped_finishes_what_ends_in_time(way):
    async def story():
        async with way("relay", "ingester") as p:
            p.start("worker-1", grace_s=10.0)
            task_id = p.ask(p.given_video(), count=100, pace_s=0.01)
            await p.reaches(task_id, "running")
            await p.stop("worker-1")
            await p.reaches(task_id, "completed")
            return len(p.runs(task_id))

    assert asyncio.run(story()) == 1


def test_a_missing_file_fails_the_task_and_marks_the_video(way, tmp_path):
    async def story():
        async with way("policies", *ROLES) as p:
            video_id = p.given_video(source=str(tmp_path / "gone.mp4"), filename="gone.mp4")
            task_id = p.ask(video_id)
            await p.reaches(task_id, "failed")
            await until(lambda: "video.missing" in p.topics(video_id))
            return p.log.load(task_id)[-1], p.runs(task_id)

    failed, runs = asyncio.run(story())
    assert (failed.code, "gone.mp4" in failed.error) == ("MEDIA_MISSING", True)
    assert [run.has_ended for run in runs] == [True]


def test_a_broken_file_fails_the_task_at_the_first_attempt(way):
    async def story():
        async with way() as p:
            task_id = p.ask(p.given_video(), count=3, at=1, then="refuse")
            await p.reaches(task_id, "failed")
            return p.log.load(task_id)[-1], p.topics(task_id)

    failed, topics = asyncio.run(story())
    assert (failed.code, failed.retryable) == ("MEDIA_UNREADABLE", False)
    assert topics == ["task.requested", "task.started", "task.failed"]


@pytest.fixture
def elsewhere(elsewhere):
    """The server has film.mp4."""
    (elsewhere.folder / "film.mp4").write_bytes(b"not really a film")
    elsewhere.asked.clear()
    return elsewhere


def test_a_source_that_lies_elsewhere_is_fetched_once_and_worked_on(way, elsewhere, tmp_path):
    async def story():
        async with way() as p:
            video_id = p.given_video(source=f"{elsewhere.url}/film.mp4", filename="film.mp4")
            for kind in ("object_detection", "scene_detection"):
                await p.reaches(p.ask(video_id, kind), "completed")

    asyncio.run(story())
    (copy,) = (tmp_path / "sources").glob("*.mp4")
    assert copy.read_bytes() == b"not really a film"


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("gone.mp4", "MEDIA_MISSING", "there is no http"),
        ("denied.mp4", "MEDIA_MISSING", "credentials"),
        ("empty.mp4", "MEDIA_UNREADABLE", "is empty"),
        ("film.mp4?x=1", "MEDIA_UNREADABLE", "a query"),
    ],
)
def test_a_source_elsewhere_that_cannot_be_had_fails_the_task_with_the_reason(way, elsewhere, name, code, why):
    (elsewhere.folder / "empty.mp4").touch()

    async def story():
        async with way() as p:
            task_id = p.ask(p.given_video(source=f"{elsewhere.url}/{name}", filename="a.mp4"))
            await p.reaches(task_id, "failed")
            return p.log.load(task_id)[-1], p.runs(task_id)

    failed, runs = asyncio.run(story())
    assert (failed.code, why in failed.error, [run.has_ended for run in runs]) == (code, True, [True])


def test_a_store_that_answers_with_errors_is_tried_again_until_it_works(way, elsewhere):
    (elsewhere.folder / "broken.mp4").write_bytes(b"mended")

    async def story():
        async with way() as p:
            task_id = p.ask(p.given_video(source=f"{elsewhere.url}/broken.mp4", filename="a.mp4"))
            await until(lambda: len(elsewhere.asked) > 4)  # the first attempt asks three times
            elsewhere.mended.add("/broken.mp4")
            await p.reaches(task_id, "completed")

    asyncio.run(story())


def test_a_fetch_is_seen_and_cancelled_between_two_pieces(way, elsewhere, tmp_path):
    (elsewhere.folder / "slow.mp4").write_bytes(bytes(PIECE + 1))
    elsewhere.go_on.clear()

    async def story():
        async with way("policies", *ROLES) as p:
            video_id = p.given_video(source=f"{elsewhere.url}/slow.mp4", filename="slow.mp4")
            async with contextlib.aclosing(progress.follow(p.bus, "default")) as arrivals:
                heard = asyncio.create_task(anext(arrivals))
                await asyncio.sleep(0)  # it has subscribed: what is told once must find a listener
                await p.bus.nc.flush()
                task_id = p.ask(video_id)
                said = await asyncio.wait_for(heard, 60)
            p.order(task.CancelTask, task_id)
            other = p.ask(p.given_video(), count=1)
            await p.reaches(other, "completed")
            return said, p.status(task_id)

    said, status = asyncio.run(story())
    assert (said.fetched_bytes, said.source_bytes, said.total_ms) == (PIECE, PIECE + 1, 0)
    assert status == "cancelled"


def test_a_task_type_without_a_producer_is_unavailable_with_a_remedy(way):
    async def story():
        async with way(task_types=None) as p:
            task_id = p.ask(p.given_video(), "ocr")
            await p.reaches(task_id, "unavailable")
            return p.log.load(task_id)[-1]

    answer = asyncio.run(story())
    assert (answer.missing, "imports" in answer.remedy) == ("nobody here does ocr", True)


def test_a_library_that_is_not_there_makes_a_task_unavailable_at_once(way):
    async def story():
        async with way() as p:
            task_id = p.ask(p.given_video(), at=0, then="import")
            await p.reaches(task_id, "unavailable")
            return p.log.load(task_id)

    *before, last = asyncio.run(story())
    assert [e.TOPIC for e in before].count("task.started") == 1
    assert "No module named 'no_such_library'" in last.missing
    assert "eioku doctor" in last.remedy


def test_an_unavailable_task_is_done_when_its_weights_appear_beside_a_running_worker(way, tmp_path):
    weights = tmp_path / "model.bin"

    async def story():
        async with way("policies", *ROLES, look_around_s=0.2) as p:
            task_id = p.ask(p.given_video(), needs=str(weights))
            await p.reaches(task_id, "unavailable")
            weights.write_bytes(bytes(100_000))
            await p.reaches(task_id, "completed")
            return p.topics(task_id)

    assert asyncio.run(story()) == [
        "task.requested", "task.unavailable", "task.retried", "task.started", "task.completed"
    ]  # fmt: skip


def test_an_unavailable_task_is_done_when_a_worker_with_the_weights_comes_up(way, tmp_path):
    weights = tmp_path / "model.bin"

    async def story():
        async with way("policies", "relay", "ingester") as p:
            p.start("worker-1")
            task_id = p.ask(p.given_video(), needs=str(weights))
            await p.reaches(task_id, "unavailable")
            await p.stop("worker-1")
            weights.write_bytes(bytes(100_000))
            p.start("worker-2")
            await p.reaches(task_id, "completed")

    asyncio.run(story())


def test_urgent_work_goes_first(way):
    async def story():
        async with way("relay", "ingester") as p:
            bulk = p.ask(p.given_video(), count=1, priority="bulk")
            urgent = p.ask(p.given_video(), count=1, priority="hi")
            await until(lambda: p.log.checkpoint("relay") == p.log.head())
            p.start("worker")
            await p.reaches(bulk, "completed")
            await p.reaches(urgent, "completed")
            started = [r.item for r in p.log.read(0, kinds=["task.started"])]
            return [event.originator_id for event in started] == [urgent, bulk]

    assert asyncio.run(story())


def test_the_computing_process_stays_between_jobs_and_is_renewed_after_enough_of_them(way):
    async def story():
        async with way(recycle_after=3) as p:
            pids = []
            for _ in range(5):
                task_id = p.ask(p.given_video(), count=1)
                await p.reaches(task_id, "completed")
                run_id = p.log.load(task_id)[-1].run_id
                pids.append(p.log.load(run_id)[-1].metrics["pid"])
            return pids

    pids = asyncio.run(story())
    assert pids[0] == pids[1] == pids[2] != pids[3] == pids[4]


