"""Search by meaning: real texts, the packaged model in a real worker, real NATS and pgvector."""

import asyncio
import functools
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from application.handle import handle
from application.messages import TextsPage, TextsWanted
from domain import task, video
from domain.artifacts import payload_type
from domain.errors import ServiceUnavailable
from infrastructure.nats import inputs, meaning
from infrastructure.nats.connection import connect
from migrations.vectors import trouble
from projectors.inputs import PAGE, inputs_of
from tests.support.api_server import running_api
from tests.support.pipeline import meta, pipeline, until
from workers.embedding import Embedding
from workers.producer import ModelPlaces

SPOKEN = (
    "The recipe needs two eggs and a pound of flour.",
    "Cars and trucks race along the busy highway.",
    "She played the violin at the concert last night.",
)
SEEN = ("EXIT 25 MOTORWAY", "Fresh bread every morning")


def given_texts(api: httpx.Client, video_id: UUID, artifact_type: str, lines: tuple[str, ...]) -> int:
    """Import texts, two seconds each; the position they are stored at."""
    extra: dict[str, Any] = {}
    if artifact_type == "ocr.text":
        extra = {"confidence": 0.9, "polygon": [[0, 0], [1, 0], [1, 1]]}
    artifacts = [
        {
            "artifact_type": artifact_type,
            "schema_version": 1,
            "span_start_ms": 2_000 * n,
            "span_end_ms": 2_000 * n + 1_500,
            "payload": {"text": line, **extra},
        }
        for n, line in enumerate(lines)
    ]
    body = {"producer": "hand", "producer_version": "1", "artifacts": artifacts}
    answer = api.post(f"/v1/videos/{video_id}/imports", json=body)
    assert answer.status_code in (200, 201, 202), answer.text
    return int(answer.headers["Eioku-Position"])


@pytest.mark.ml_torch
def test_texts_are_embedded_by_a_worker_and_found_by_what_they_mean(database, nats_url, tmp_path):
    async def story() -> None:
        reads = psycopg.AsyncConnection.connect(database, autocommit=True, options="-c search_path=read")
        async with pipeline(database, nats_url, tmp_path, "relay", "ingester") as p, await reads as reading:
            stop = asyncio.Event()
            p.start(
                "worker", family="torch", producers=(Embedding,), task_types=("embedding",),
                models=ModelPlaces(is_offline=True),
            )  # fmt: skip
            telling = asyncio.create_task(inputs.serve(p.bus, functools.partial(inputs_of, reading), stop))
            with running_api(database, tmp_path, nats_url=nats_url) as url:
                await asyncio.to_thread(_ask, p, url)
            stop.set()
            await telling

    def _ask(p: Any, url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as api:
            video_id = p.given_video()
            position = max(given_texts(api, video_id, kind, lines) for kind, lines in
                           (("transcript.segment", SPOKEN), ("ocr.text", SEEN)))  # fmt: skip
            api.get("/v1/videos", params={"min_position": position, "wait_ms": 20_000}).raise_for_status()
            task_id = p.ask(video_id, "embedding")
            _wait(p, task_id)
            head = p.log.head()

            def search(q: str, **more: Any) -> list[dict[str, Any]]:
                params = {"q": q, "min_position": head, "wait_ms": 20_000, **more}
                answer = api.get("/v1/search/semantic", params=params)
                assert answer.status_code == 200, answer.text
                return list(answer.json()["results"])

            hits = search("vehicles on a road")
            assert len(hits) == 5
            assert {hit["text"] for hit in hits[:2]} == {SPOKEN[1], SEEN[0]}
            assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
            assert (hits[0]["text"], hits[0]["jump_to"]) == (SPOKEN[1], {"start_ms": 2_000, "end_ms": 3_500})
            assert search("classical music", limit=1)[0]["text"] == SPOKEN[2]
            assert [hit["kind"] for hit in search("baking", kind="ocr")] == ["ocr", "ocr"]
            assert search("baking", kind="ocr", limit=1)[0]["text"] == SEEN[1]
            assert search("vehicles on a road", min_score=0.99) == []
            like = {"like": hits[0]["artifact_id"], "min_position": head, "wait_ms": 20_000}
            alike = api.get("/v1/search/semantic", params=like).json()["results"]
            assert [(hit["text"], round(hit["score"], 2)) for hit in alike[:1]] == [(SPOKEN[1], 1.0)]
            assert alike[1]["text"] == SEEN[0]
            ids = {hit["artifact_id"] for hit in hits}
            listed = api.get(f"/v1/videos/{video_id}/artifacts", params={"type": "transcript.segment"})
            assert ids >= {a["artifact_id"] for a in listed.json().get("results", listed.json().get("artifacts", []))}
            for artifact in p.artifacts(task_id):
                assert payload_type("embedding").flaw(artifact_payload(artifact)) is None
            gone = handle(p.log, video.DeleteVideo(stream_id=video_id, meta=meta()))
            head = gone
            assert search("vehicles on a road") == []

    asyncio.run(story())


def artifact_payload(artifact: Any) -> Any:
    import msgspec

    return msgspec.convert(artifact.payload, payload_type("embedding"))


def _wait(p: Any, task_id: UUID) -> None:
    async def ended() -> None:
        await until(lambda: p.log.load(task_id)[-1].TOPIC in ENDS, timeout_s=120)

    asyncio.run(ended())
    assert isinstance(p.log.load(task_id)[-1], task.TaskCompleted), p.log.load(task_id)[-1]


ENDS = {task.TaskCompleted.TOPIC, task.TaskFailed.TOPIC, task.TaskUnavailable.TOPIC, task.TaskParked.TOPIC}


def test_pages_of_texts_are_put_together_in_order(nats_url):
    from application.messages import SourceText

    lines = [SourceText(UUID(int=n), "ocr.text", n // 3, n, f"line {n}") for n in range(250)]

    async def read(wanted: TextsWanted) -> TextsPage:
        rest = [t for t in lines if wanted.after is None or (t.start_ms, t.artifact_id) > wanted.after]
        return TextsPage(texts=tuple(rest[:PAGE]), is_last=len(rest) <= PAGE)

    async def story() -> tuple[SourceText, ...]:
        async with await connect(nats_url, name="test") as bus:
            stop = asyncio.Event()
            serving = asyncio.create_task(inputs.serve(bus, read, stop))
            wanted = TextsWanted(tenant_id="default", video_id=uuid4(), artifact_types=("ocr.text",), position=1)
            await bus.nc.flush()
            found = await inputs.ask_texts(bus, wanted)
            stop.set()
            await serving
            return found

    assert list(asyncio.run(story())) == lines


def test_without_a_worker_nobody_knows_what_a_query_means(nats_url):
    async def story() -> None:
        async with await connect(nats_url, name="test") as bus:
            with pytest.raises(ServiceUnavailable, match="torch"):
                await meaning.ask(bus, "vehicles", "text", timeout_s=1)

    asyncio.run(story())


def test_a_database_without_pgvector_says_so_and_is_mended_by_the_next_upgrade(database):
    import migrations

    with psycopg.connect(database, autocommit=True) as connection:
        assert trouble(connection) is None
        connection.execute("DROP EXTENSION vector CASCADE")
        for table in ("text_vectors", "frame_vectors"):
            connection.execute(f"ALTER TABLE read.{table} ADD COLUMN vector real[] NOT NULL")
        assert "pgvector" in (trouble(connection) or "")
        vector = [1.0, *[0.0] * 383]
        connection.execute(
            "INSERT INTO read.text_vectors VALUES ('default', now(), %(id)s, 0, 1, %(id)s, %(id)s, %(id)s, 'ocr.text',"
            " 'm', 'd', 'text', %(vector)s)",
            {"id": uuid4(), "vector": vector},
        )
        migrations.upgrade(database)
        assert trouble(connection) is None
        row = connection.execute("SELECT vector::real[] FROM read.text_vectors").fetchone()
        assert row == (vector,)
        indexes = connection.execute("SELECT indexname FROM pg_indexes WHERE indexname LIKE '%_vectors_vector%'")
        assert len(indexes.fetchall()) == 5
