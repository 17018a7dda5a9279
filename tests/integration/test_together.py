"""Tasks that look at the frames of one video: taken together, decoded once, each with an end of its own."""

import asyncio
from itertools import chain

import pytest

from domain import task
from infrastructure.nats.cancel import Cancellations
from infrastructure.nats.commands import CommandQueue
from infrastructure.nats.subjects import token
from tests.support import media
from tests.support.bus import command, count, declared, enqueue, run
from tests.support.pipeline import pipeline, until
from tests.support.producers import SHARING
from workers import together
from workers.together import Gathering

TYPES = ("scene_detection", "face_detection")
SEEN, NEIGHBOUR = "object_detection", "place_detection"
FRAMES = 40


@pytest.fixture
def gathering(nats_url):
    """Run `await work(bus, next group's [(task type, source)] with deliveries)` against a queue."""

    def go(work):
        async def story():
            async with declared(nats_url) as bus, Cancellations(bus) as cancellations:
                groups = Gathering(CommandQueue(bus, TYPES), cancellations, TYPES, heartbeat_s=0.1)
                try:
                    return await work(bus, groups)
                finally:
                    await groups.close()

        return run(story())

    return go


def names(group) -> list[tuple[str, str, int]]:
    return sorted((each.message.source, each.message.task_type, each.delivery) for each in group)


def test_what_looks_at_one_video_is_taken_together_and_two_videos_are_kept_apart(gathering):
    async def work(bus, groups):
        for source, task_type in (("/a", TYPES[0]), ("/b", TYPES[1]), ("/b", TYPES[0]), ("/a", TYPES[1])):
            await enqueue(bus, command(task_type, source=source))
        return [names(await groups.next(5)) for _ in range(3)]

    taken = gathering(work)
    # Whichever type comes first: its neighbour is not the next of its type, so nothing of it is touched.
    assert sorted(map(len, taken)) == [1, 1, 2]
    assert sorted(chain(*taken)) == sorted((source, kind, 1) for source in ("/a", "/b") for kind in TYPES)
    assert all(len({source for source, _, _ in group}) == 1 for group in taken)


def test_one_that_is_published_a_moment_later_is_waited_for(gathering, monkeypatch):
    monkeypatch.setattr(together, "ALONE_S", 5.0)

    async def work(bus, groups):
        taking = asyncio.create_task(groups.next(5))
        await enqueue(bus, command(TYPES[0]))
        await asyncio.sleep(3 * together.LINGER_S)
        await enqueue(bus, command(TYPES[1]))
        return names(await taking)

    assert len(gathering(work)) == 2


def test_another_version_of_the_file_another_class_and_a_second_task_of_the_type_stay(gathering):
    async def work(bus, groups):
        others = (
            command(TYPES[1], blake3="f" * 64),
            command(TYPES[1], priority="bulk"),
            command(TYPES[0], config_hash="other"),
        )
        await enqueue(bus, command(TYPES[0]))
        taken = [await groups.next(5)]
        await enqueue(bus, *others)
        return [names(group) for group in (*taken, *[await groups.next(5) for _ in others])]

    assert [len(group) for group in gathering(work)] == [1, 1, 1, 1]


def test_one_that_comes_again_is_done_alone(gathering):
    async def work(bus, groups):
        await enqueue(bus, command(TYPES[0]), command(TYPES[1]))
        for delivery in await groups.next(5):
            await delivery.later(0)
        await asyncio.sleep(0.2)
        return [names(await groups.next(5)) for _ in TYPES]

    assert [[delivery for *_, delivery in group] for group in gathering(work)] == [[2], [2]]


def test_one_of_another_video_that_was_taken_is_kept_as_the_next_or_given_back(gathering, monkeypatch):
    async def is_next(*_):
        return True  # it was, until another worker took it

    monkeypatch.setattr(CommandQueue, "_is_next", is_next)

    async def work(bus, groups):
        await enqueue(bus, command(TYPES[0], source="/a"), command(TYPES[1], source="/b"))
        taken = [names(await groups.next(5))]
        await asyncio.sleep(0.3)  # it is held on to meanwhile
        taken.append(names(await groups.next(5)))
        await enqueue(bus, command(TYPES[0], source="/c"), command(TYPES[1], source="/d"))
        taken.append(names(await groups.next(5)))
        await groups.close()
        other = CommandQueue(bus, TYPES)
        returned = await other.next(5)
        await other.close()
        return taken, returned.delivery

    taken, delivery = gathering(work)
    assert sorted(chain(*taken[:2])) == [("/a", TYPES[0], 1), ("/b", TYPES[1], 1)]
    assert [len(group) for group in taken] == [1, 1, 1]
    assert delivery == 2


def test_one_that_was_called_off_while_it_was_kept_is_answered_for(gathering, monkeypatch):
    async def is_next(*_):
        return True

    monkeypatch.setattr(CommandQueue, "_is_next", is_next)

    async def work(bus, groups):
        messages = [command(TYPES[0], source="/a"), command(TYPES[1], source="/b")]
        await enqueue(bus, *messages)
        (first,) = await groups.next(5)
        (kept,) = (message for message in messages if message != first.message)
        groups._cancellations._heard[token(kept.tenant_id), kept.task_id] = (0.0, 10**9)
        await until(lambda: not groups._waiting)
        return await count(bus, "EIOKU_CMD")

    assert gathering(work) == 1  # the first one


# ---- the whole way


@pytest.fixture
def way(database, nats_url, tmp_path):
    """Start a pipeline whose worker shares: `async with way(*roles, **worker options) as p`."""
    film = media.clip(tmp_path / "a.mp4", times_ms=range(0, FRAMES * 100, 100))

    def start(*roles: str, **worker):
        return pipeline(
            database, nats_url, tmp_path, *roles, producers=SHARING, task_types=(SEEN, NEIGHBOUR), **worker
        )

    start.film = film
    return start


async def asked(p, way, config, neighbours):
    """Both tasks of one video, in the queue before a worker comes."""
    video_id = p.given_video(way.film)
    both = p.ask(video_id, SEEN, **config), p.ask(video_id, NEIGHBOUR, **neighbours)
    await until(lambda: p.log.checkpoint("relay") == p.log.head())
    return both


def metrics(p, task_id):
    return p.log.load(p.log.load(task_id)[-1].run_id)[-1].metrics


def assert_whole(p, task_id, runs=1):
    assert [a.payload["frame_index"] for a in p.artifacts(task_id)] == list(range(FRAMES))
    assert [run.has_ended for run in p.runs(task_id)] == [True] * runs


def test_tasks_of_one_video_share_a_pass_and_each_is_whole(way):
    async def story():
        async with way("relay", "ingester") as p:
            both = await asked(p, way, {}, {})
            p.start("worker", producers=SHARING, task_types=(SEEN, NEIGHBOUR))
            for task_id in both:
                await p.reaches(task_id, "completed")
                assert_whole(p, task_id)
            shared = [metrics(p, task_id) for task_id in both]
            alone = p.ask(p.given_video(way.film), SEEN)
            await p.reaches(alone, "completed")
            return shared, metrics(p, alone)

    (first, second), alone = asyncio.run(story())
    assert (first["alone"], second["alone"], alone["alone"]) == (0, 0, 1)
    assert first["pid"] == second["pid"] == alone["pid"]


@pytest.mark.parametrize("then", ["raise", "refuse", "die", "hang"])
def test_a_failing_task_leaves_its_neighbour_whole(way, tmp_path, then):
    async def story():
        async with way("relay", "ingester") as p:
            bad, good = await asked(p, way, {"at": 20, "then": then, "once": str(tmp_path / "done")}, {})
            p.start("worker", producers=SHARING, task_types=(SEEN, NEIGHBOUR))
            await p.reaches(good, "completed")
            end = await p.reaches(bad, "completed", "failed")
            # Where the process ended, its neighbour lost its first run too, and came again at once.
            assert_whole(p, good, runs=2 if then in ("die", "hang") else 1)
            return end, [run.has_ended for run in p.runs(bad)], metrics(p, good)["alone"]

    end, ended, is_alone = asyncio.run(story())
    assert (end, ended) == (("failed", [True]) if then == "refuse" else ("completed", [True, True]))
    assert is_alone == (then in ("die", "hang"))


@pytest.mark.parametrize("how", ["cooperative", "hanging"])
def test_cancelling_one_of_two_takes_two_seconds_at_most_and_the_other_goes_on(way, how):
    async def story():
        async with way("relay", "ingester", "policies") as p:
            config = {"pace_s": 0.05} if how == "cooperative" else {"at": 1, "then": "hang"}
            one, other = await asked(p, way, config, {"pace_s": 0.05})
            p.start("worker", producers=SHARING, task_types=(SEEN, NEIGHBOUR))
            await p.reaches(one, "running")
            await p.reaches(other, "running")
            loop = asyncio.get_running_loop()
            before = loop.time()
            p.order(task.CancelTask, one)
            await until(lambda: p.runs(one)[0].has_ended)
            took_s = loop.time() - before
            await p.reaches(other, "completed")
            assert_whole(p, other, runs=1 if how == "cooperative" else 2)
            return took_s, p.status(one), p.log.load(p.log.load(one)[1].run_id)[-1].code

    took_s, status, code = asyncio.run(story())
    assert (status, code) == ("cancelled", "CANCELLED")
    assert took_s < 2.0


def test_a_neighbour_that_cannot_begin_is_not_waited_for(way, tmp_path):
    async def story():
        async with way("relay", "ingester") as p:
            one, other = await asked(p, way, {"needs": str(tmp_path / "no weights")}, {})
            p.start("worker", producers=SHARING, task_types=(SEEN, NEIGHBOUR))
            await p.reaches(one, "unavailable")
            await p.reaches(other, "completed")
            assert_whole(p, other)

    asyncio.run(story())


def test_a_worker_that_is_stopped_gives_back_all_it_does_together(way):
    async def story():
        async with way("relay", "ingester") as p:
            both = await asked(p, way, {"pace_s": 0.1}, {"pace_s": 0.1})
            options = {"producers": SHARING, "task_types": (SEEN, NEIGHBOUR)}
            p.start("worker-1", grace_s=0.2, **options)
            for task_id in both:
                await p.reaches(task_id, "running")
            await p.stop("worker-1")
            p.start("worker-2", **options)
            for task_id in both:
                await p.reaches(task_id, "completed")
                assert_whole(p, task_id, runs=2)

    asyncio.run(story())
