"""A person is found in every video: faces in the log, whose they are, and jumps by cluster."""

import asyncio
from pathlib import Path
from uuid import UUID

import psycopg

from application.faces import KINDS, FaceClusterer
from application.handle import handle
from domain import run
from domain.artifacts.envelope import BatchHead, Item, artifact_id_of, pack
from domain.face_cluster import FacesReclustered, Members, ReclusterFaces, RequestRecluster
from domain.face_vectors import pack_half
from eioku import upkeep
from eioku.settings import Settings
from infrastructure.event_store.log import PostgresEventLog
from projectors import PROJECTIONS
from projectors.facets import facets
from projectors.jump import JumpFilter, jump_global
from tests.support.given import AT, META
from tests.support.results import given_video
from tests.support.timeline_model import READ

ONE, TWO = pack_half([0.0] * 128), pack_half([0.1] * 128)


def seen(log: PostgresEventLog, number: int, *faces: tuple[int, str | None, str | None]) -> UUID:
    """A video with a completed run of faces: (start, vector, the producer's own cluster)."""
    video_id, run_id = UUID(int=0xA0 + number), UUID(int=0xB0 + number)
    given_video(log, video_id, f"/media/{number}.mp4")
    wish = run.StartRun(
        stream_id=run_id, meta=META, task_id=UUID(int=0xC0 + number), video_id=video_id, task_type="face_detection",
        producer="p", producer_version="1", profile="balanced", config={}, config_hash="", input_hash="", attempt=1,
        worker="w", device="cpu", created_at=AT, artifact_types=("face.detection",),
    )  # fmt: skip
    handle(log, wish)
    head = BatchHead(
        run_id=run_id, video_id=video_id, tenant_id="default", artifact_type="face.detection", schema_version=1,
        producer="p", producer_version="1", model_profile="balanced", config_hash="", input_hash="", created_at=AT,
        actor="worker:w", correlation_id=META.correlation_id,
    )  # fmt: skip
    items = []
    for index, (start_ms, vector, cluster_id) in enumerate(faces, start=1):
        payload = {"confidence": 0.9, "box": (0.1, 0.1, 0.2, 0.2), "frame_index": index}
        payload |= {"vector": vector, "vector_space": "s"} if vector else {}
        payload |= {"cluster_id": cluster_id} if cluster_id else {}
        items.append(
            Item(artifact_id=artifact_id_of(run_id, index), start_ms=start_ms, end_ms=start_ms, payload=payload)
        )
    log.append([pack(head, 1, items)])
    handle(
        log,
        run.CompleteRun(stream_id=run_id, meta=META, counts={"face.detection": len(items)}, metrics={}),
    )
    return video_id


def test_a_person_is_found_in_every_video_also_after_a_re_clustering(database: str) -> None:
    with PostgresEventLog(database) as log, asyncio.Runner() as runner:
        first = seen(log, 1, (0, ONE, None), (1000, TWO, None), (2000, None, None))
        second = seen(log, 2, (500, TWO, None), (700, ONE, "grandma"))
        for record in log.read(0, kinds=KINDS):
            FaceClusterer(log, clock=lambda: AT).react(record)
        position = project(database, log, 0)

        shown = ask(database, runner)
        clusters = {f.value: (f.count, f.video_count) for f in shown.facets}
        assert clusters.pop("grandma") == (1, 1)
        assert sorted(clusters.values()) == [(1, 1), (2, 2)]
        both = next(cluster for cluster, counted in clusters.items() if counted == (2, 2))
        other = next(cluster for cluster in clusters if cluster != both)
        assert hits(database, runner, both) == [(first, 1000), (second, 500)]
        assert hits(database, runner, "grandma") == [(second, 700)]

        # Somebody looks at everything again: the face in the second video is the other person's.
        again = UUID(int=0xD0)
        moved = Members(
            video_id=second, run_id=UUID(int=0xB2), cluster_id=other, artifact_ids=(artifact_id_of(UUID(int=0xB2), 1),)
        )
        handle(
            log,
            RequestRecluster(stream_id=again, meta=META),
            ReclusterFaces(stream_id=again, meta=META, members=(moved,), centres=()),
        )
        project(database, log, position)
        assert hits(database, runner, both) == [(first, 1000)]
        assert hits(database, runner, other) == [(first, 0), (second, 500)]
        assert {f.value: f.count for f in ask(database, runner).facets} == {both: 1, other: 2, "grandma": 1}


def project(database: str, log: PostgresEventLog, after: int) -> int:
    """Bring the read models from one position to the present; where that is."""
    records = log.read(after)
    with psycopg.connect(database, options="-c search_path=read") as connection:
        for projection in PROJECTIONS:
            if projection.name in READ:
                projection().apply(connection, [record for record in records if projection.wants(record)])
    return records[-1].position


def hits(database: str, runner: asyncio.Runner, cluster_id: str) -> list[tuple[UUID, int]]:
    async def go() -> list[tuple[UUID, int]]:
        asked = JumpFilter(tenant_id="default", kind="face", direction="next", face_cluster_id=cluster_id)
        async with await psycopg.AsyncConnection.connect(
            database, autocommit=True, options="-c search_path=read"
        ) as connection:
            found = await jump_global(connection, asked, limit=10)
            return [(hit.video_id, hit.jump_to.start_ms) for hit in found.results]

    return runner.run(go())


def ask(database: str, runner: asyncio.Runner):
    async def go():
        async with await psycopg.AsyncConnection.connect(
            database, autocommit=True, options="-c search_path=read"
        ) as connection:
            return await facets(connection, "default", "face")

    return runner.run(go())


def test_the_command_asks_for_a_re_clustering(database: str, tmp_path: Path) -> None:
    upkeep.recluster(Settings(data=tmp_path, database_url=database))
    with PostgresEventLog(database) as log:
        (record,) = log.read(0)
        FaceClusterer(log, clock=lambda: AT).react(record)
        assert isinstance(log.read(record.position)[0].item, FacesReclustered)
