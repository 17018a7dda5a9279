"""The same asked for again is recognised: real worker, NATS, Postgres and read models."""

import asyncio

from application.request_task import request_task
from domain import video
from domain.run import ModelIdentity
from tests.support.following import following, reached
from tests.support.pipeline import meta, pipeline
from tests.support.producers import Obedient
from workers.producer import Description, Job


class Weighty(Obedient):
    """Obedient, with weights whose digest stands in a file."""

    def describe(self, job: Job) -> Description:
        """Name the weights as they are now."""
        place = job.models.models_dir
        assert place is not None
        model = ModelIdentity(name="m", digest=(place / "digest").read_text())
        return Description(device="cpu", artifact_types=("object.detection",), model=model)


class Newer(Weighty):
    version = "2"


def test_the_same_is_done_once_and_what_differs_is_done(database, nats_url, tmp_path):
    (tmp_path / "digest").write_text("aa")

    async def story():
        given = {"producers": (Weighty,), "task_types": ("object_detection",)}
        async with pipeline(
            database, nats_url, tmp_path, "relay", "ingester", "answers", "worker", **given
        ) as p:
            video_id = p.given_video()

            async def ask(**options):
                wished = {"config": {"count": 5}, **options}
                asked = request_task(p.log, meta(), video_id, "object_detection", **wished)
                await p.reaches(asked.task_id, "completed")
                await asyncio.to_thread(reached, database, p.log.head())
                done = p.log.load(asked.task_id)[-1]
                return done.run_id, done.is_reused, done.artifact_count, p.topics(asked.task_id)

            unknown = await ask()
            p.order(video.RecordFingerprint, video_id, blake3="0" * 64, size_bytes=1)
            first, again, forced = await ask(), await ask(), await ask(force=True)
            newest, other_config = await ask(), await ask(config={"count": 6})
            (tmp_path / "digest").write_text("bb")
            other_weights, known_weights = await ask(), await ask()
            await p.stop("worker")
            p.start("worker", **given | {"producers": (Newer,)})
            other_version = await ask()
            p.order(video.RecordFingerprint, video_id, blake3="1" * 64, size_bytes=1)
            other_content = await ask()
            return (
                unknown, first, again, forced, newest, other_config, other_weights, known_weights, other_version,
                other_content,
            )  # fmt: skip

    with following(database):
        answers = asyncio.run(story())
    unknown, first, again, forced, newest, other_config, other_weights, known_weights, *others = answers
    done = ["task.requested", "task.started", "task.completed"]
    for asked in (unknown, first, forced, other_config, other_weights, *others):
        assert asked[1:] == (False, 6 if asked is other_config else 5, done)
    assert again == (first[0], True, 5, ["task.requested", "task.completed"])
    assert newest == (forced[0], True, 5, ["task.requested", "task.completed"])
    assert known_weights == (other_weights[0], True, 5, ["task.requested", "task.completed"])
    runs = [asked[0] for asked in (unknown, first, forced, other_config, other_weights, *others)]
    assert len(set(runs)) == len(runs)


def test_a_job_that_has_begun_before_the_answer_leaves_nothing_behind(database, nats_url, tmp_path):
    (tmp_path / "digest").write_text("aa")

    async def story():
        given = {"producers": (Weighty,), "task_types": ("object_detection",)}
        async with pipeline(
            database, nats_url, tmp_path, "relay", "ingester", "answers", "worker", **given
        ) as p:
            video_id = p.given_video()
            p.order(video.RecordFingerprint, video_id, blake3="0" * 64, size_bytes=1)
            config = {"count": 2_500}
            for reused in (False, True):
                asked = request_task(p.log, meta(), video_id, "object_detection", config=config)
                await p.reaches(asked.task_id, "completed")
                await asyncio.to_thread(reached, database, p.log.head())
                assert p.log.load(asked.task_id)[-1].is_reused is reused
            other = p.ask(video_id, count=1)
            await p.reaches(other, "completed")
            return p.runs(other), len(p.log.read(0, kinds=["object.detection"], limit=10**9))

    with following(database):
        runs, batches = asyncio.run(story())
    assert [run.counts for run in runs] == [{"object.detection": 1}]
    assert batches == 3 + 1
