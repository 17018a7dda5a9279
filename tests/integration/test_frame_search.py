"""Search of pictures by words and by likeness: a real worker with an image-text model, real NATS and pgvector."""

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import psycopg
import pytest

from domain import task
from domain.artifacts.embedding import packed
from domain.errors import ServiceUnavailable
from infrastructure.nats import meaning
from tests.support import media
from tests.support.api_server import running_api
from tests.support.pipeline import pipeline, until
from tests.support.producers import NoScenes
from workers.producer import ModelPlaces


def film(path: Path) -> Path:
    """Two seconds of red, two of blue, two of noise."""
    grain = np.random.default_rng(3).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    red, blue = (np.full((120, 160, 3), colour, np.uint8) for colour in ((200, 30, 30), (20, 40, 220)))
    pictures = [picture for picture in (red, blue, grain) for _ in range(20)]
    return media.clip(path, times_ms=range(0, 6000, 100), pictures=pictures)


def imported(api: httpx.Client, video_id: UUID, *, model: str, dim: int, count: int) -> tuple[list[str], int]:
    """Embeddings as another tool would bring them, one a second and ever farther from the first: their ids and their
    position.
    """
    artifacts = [
        {
            "artifact_id": str(uuid4()),
            "artifact_type": "frame.embedding",
            "span_start_ms": 1000 * n,
            "span_end_ms": 1000 * n,
            "payload": {
                "model": model,
                "model_digest": sha256(model.encode()).hexdigest(),
                "dim": dim,
                "frame_index": n,
                "vector": packed([1.0, float(n), *[0.0] * (dim - 2)]),
            },
        }
        for n in range(count)
    ]
    body = {"producer": "another tool", "producer_version": "1", "artifacts": artifacts}
    answer = api.post(f"/v1/videos/{video_id}/imports", json=body)
    assert answer.status_code == 201, answer.text
    return [str(artifact["artifact_id"]) for artifact in artifacts], int(answer.headers["Eioku-Position"])


@pytest.mark.ml_torch
def test_frames_are_embedded_by_a_worker_and_found_by_words_and_by_likeness(
    database, nats_url, tmp_path, tiny_clip
):
    async def story() -> None:
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester") as p:
            # Scenes are asked for over NATS; nobody answers here, so a task that needs none of them is asked.
            p.start(
                "worker", family="torch", producers=(NoScenes,), task_types=("frame_embedding",),
                models=ModelPlaces(is_offline=True, image_embedder=tiny_clip),
            )  # fmt: skip
            with running_api(database, tmp_path, nats_url=nats_url) as url:
                await asyncio.to_thread(_ask, p, url)

    def _ask(p: Any, url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as api:
            video_id = p.given_video(film(tmp_path / "film.mp4"))
            task_id = p.ask(video_id, "frame_embedding", every_ms=1000)
            _wait(p, task_id)
            head = p.log.head()

            def search(**asked: Any) -> list[dict[str, Any]]:
                params = {"kind": "frame", "min_position": head, "wait_ms": 20_000, **asked}
                answer = api.get("/v1/search/semantic", params=params)
                assert answer.status_code == 200, answer.text
                return list(answer.json()["results"])

            by_words = search(q="a red car")
            assert sorted(hit["jump_to"]["start_ms"] for hit in by_words) == [0, 1000, 2000, 3000, 4000, 5000]
            assert [hit["score"] for hit in by_words] == sorted(
                (hit["score"] for hit in by_words), reverse=True
            )
            assert {(hit["kind"], hit["text"]) for hit in by_words} == {("frame", "")}
            assert by_words[0]["thumbnail_url"].endswith(f"/{by_words[0]['jump_to']['start_ms']}")

            ids = {hit["jump_to"]["start_ms"]: hit["artifact_id"] for hit in by_words}
            for at_ms, artifact_id in ids.items():
                first, second, third, *_ = search(like=artifact_id)
                assert at_ms in {
                    hit["jump_to"]["start_ms"] for hit in (first, second) if hit["score"] > 0.999
                }
                assert {first["jump_to"]["start_ms"] // 2000, second["jump_to"]["start_ms"] // 2000} == {
                    at_ms // 2000
                }
                assert third["score"] < 0.999
            assert search(like_video_id=video_id, like_ms=2700) == search(like=ids[3000])
            assert search(like=ids[0], min_score=0.999, limit=1)[0]["score"] == pytest.approx(1, abs=0.001)

    asyncio.run(story())


def _wait(p: Any, task_id: UUID) -> None:
    ends = {
        task.TaskCompleted.TOPIC,
        task.TaskFailed.TOPIC,
        task.TaskUnavailable.TOPIC,
        task.TaskParked.TOPIC,
    }

    async def ended() -> None:
        await until(lambda: p.log.load(task_id)[-1].TOPIC in ends, timeout_s=400)

    asyncio.run(ended())
    assert isinstance(p.log.load(task_id)[-1], task.TaskCompleted), p.log.load(task_id)[-1]


def test_without_a_worker_nobody_knows_what_pictures_a_query_means(nats_url):
    from infrastructure.nats.connection import connect

    async def story() -> None:
        async with await connect(nats_url, name="test") as bus:
            with pytest.raises(ServiceUnavailable, match="frame_embedding"):
                await meaning.ask(bus, "a red car", "frame", timeout_s=1)

    asyncio.run(story())


def test_frames_are_compared_within_one_model_and_the_older_ones_stay(database, nats_url, tmp_path):
    async def story() -> None:
        async with pipeline(database, nats_url, tmp_path) as p:
            with running_api(database, tmp_path, nats_url=nats_url) as url:
                await asyncio.to_thread(_compare, p, url)

    def _compare(p: Any, url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as api:
            video_id, other_video = p.given_video(), p.given_video()
            old, _ = imported(api, video_id, model="wide", dim=512, count=4)
            elsewhere, head = imported(api, other_video, model="wide", dim=512, count=2)

            def search(like: str, **asked: Any) -> list[str]:
                params = {"kind": "frame", "like": like, "min_position": head, "wait_ms": 20_000, **asked}
                answer = api.get("/v1/search/semantic", params=params)
                assert answer.status_code == 200, answer.text
                return [hit["artifact_id"] for hit in answer.json()["results"]]

            def refused(**asked: Any) -> tuple[int, str]:
                answer = api.get("/v1/search/semantic", params={"kind": "frame", **asked})
                return answer.status_code, answer.json()["code"]

            every = search(old[3])
            assert every[:2] == [old[3], old[2]]
            assert set(every) == {*old, *elsewhere}
            assert search(old[0], limit=2, min_score=0.9999) == sorted(
                (old[0], elsewhere[0]),
                key=lambda artifact_id: str(video_id if artifact_id in old else other_video),
            )

            new, head = imported(api, video_id, model="narrow", dim=40, count=3)
            assert search(new[1]) == [new[1], new[2], new[0]]
            assert set(search(old[3])) == set(elsewhere)  # of the first video the newer run counts
            assert search(old[3], selection="all") == every

            answer = api.get(
                "/v1/search/semantic",
                params={"kind": "frame", "like_video_id": str(video_id), "like_ms": 1_400},
            )
            assert [hit["artifact_id"] for hit in answer.json()["results"]] == [new[1], new[2], new[0]]
            assert answer.json()["model"] == "narrow"
            assert refused() == (422, "INVALID_PARAMETER")
            assert refused(q="red", like=old[0]) == (422, "CONFLICTING_FILTERS")
            assert refused(like_ms=5) == (422, "INVALID_PARAMETER")
            assert refused(kind="all", like_video_id=str(video_id), like_ms=5) == (422, "INVALID_PARAMETER")
            assert refused(kind="transcript", like=old[0]) == (422, "INVALID_PARAMETER")
            assert refused(like=str(uuid4())) == (404, "ARTIFACT_NOT_FOUND")
            assert refused(like_video_id=str(uuid4()), like_ms=5) == (404, "VIDEO_NOT_FOUND")
            with psycopg.connect(database) as connection:
                connection.execute("SET search_path = read")
                connection.execute("SET enable_seqscan = off")
                plan = connection.execute(
                    "EXPLAIN SELECT 1 FROM frame_vectors o WHERE o.dim = 512 ORDER BY (o.vector::public.halfvec(512))"
                    " OPERATOR(public.<=>) %s::public.halfvec(512) LIMIT 3",
                    (str([0.1] * 512),),
                ).fetchall()
                assert any("frame_vectors_vector_512" in line for (line,) in plan), plan

    asyncio.run(story())
