"""Artifacts a second from a worker's result to the log and the read models, against a plain COPY of the same rows.

    python -m benchmarks.pipeline [--artifacts 200000]

A result travels as bytes; the clock runs over decoding, checking, appending and projecting. The baseline copies the
same rows, made ready before the clock starts, into a table with the columns and indexes of `object_labels`.
"""

import argparse
import random
import threading
import time
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from application import messages
from application.handle import handle
from application.ingest_results import apply_result
from benchmarks import stand, w1
from domain.artifacts.envelope import BatchHead, Item, artifact_id_of, pack
from domain.event import Meta
from domain.pipeline import config_hash, full_config
from domain.task import RequestTask, run_id_of, task_id_of
from domain.video import RegisterVideo
from eioku.settings import Settings
from infrastructure.event_store.log import PostgresEventLog
from projectors import PROJECTIONS
from projectors.object_labels import ObjectLabels
from projectors.projection import Projection
from projectors.runner import run_projections

_BATCH = 1_000
_TYPE = "object_detection"


def _messages(log: PostgresEventLog, artifacts: int) -> tuple[list[bytes], list[bytes], list[tuple[object, ...]]]:
    """(results that open and fill a run of each video, results that complete them, the same rows for COPY)."""
    rng = random.Random(7)
    profile, config = full_config(_TYPE, None, None)
    digest = config_hash(_TYPE, config, None)
    encode = msgspec.json.Encoder().encode
    body: list[bytes] = []
    ends: list[bytes] = []
    rows: list[tuple[object, ...]] = []
    now = datetime.now(UTC)
    per_video = 10_000
    for start in range(0, artifacts, per_video):
        video, correlation = uuid4(), uuid4()
        meta = Meta(at=now, actor="system:benchmark", correlation_id=correlation)
        task = task_id_of(video, _TYPE, profile, digest, "0")
        handle(log, RegisterVideo(stream_id=video, meta=meta, source=f"/films/{video}.mp4", filename=f"{video}.mp4", pipeline=()))
        handle(log, RequestTask(stream_id=task, meta=meta, video_id=video, task_type=_TYPE, profile=profile, config=config,
                                config_hash=digest))
        run = run_id_of(task, 1, 1)
        base = {"tenant_id": "default", "task_id": task, "video_id": video, "run_id": run, "request_version": 1, "delivery": 1,
                "worker": "bench", "correlation_id": correlation, "at": now}
        body.append(encode(messages.Started(
            **base, task_type=_TYPE, producer="bench", producer_version="1", profile=profile, config=config, config_hash=digest,
            input_hash="0" * 64, device="cpu", artifact_types=("object.detection",))))
        head = BatchHead(run_id=run, video_id=video, tenant_id="default", artifact_type="object.detection", schema_version=1,
                         producer="bench", producer_version="1", model_profile=profile, config_hash=digest,
                         input_hash="0" * 64, created_at=now, actor="worker:bench", correlation_id=correlation)
        count = min(per_video, artifacts - start)
        for first in range(1, count + 1, _BATCH):
            items = []
            for version in range(first, min(first + _BATCH, count + 1)):
                at, label, confidence = version * 40, w1.label(rng), round(rng.uniform(0.5, 0.99), 4)
                box = [round(rng.uniform(0, 0.5), 4) for _ in range(4)]
                item = Item(artifact_id=artifact_id_of(run, version), start_ms=at, end_ms=at,
                            payload={"label": label, "confidence": confidence, "box": box, "frame_index": version})
                items.append(item)
                rows.append(("default", "infinity", video, at, at, item.artifact_id, run, label, confidence))
            body.append(encode(messages.Produced(**base, part=first // _BATCH + 1, batch=pack(head, first, items))))
        ends.append(encode(messages.Completed(**base, parts=-(-count // _BATCH), counts={"object.detection": count}, metrics={})))
    return body, ends, rows


def _copy_baseline(settings: Settings, rows: list[tuple[object, ...]]) -> float:
    """Seconds of one COPY into a table as `object_labels` is, in batches of 20,000 rows, each its own commit."""
    with stand.connect(settings) as connection:
        connection.execute("CREATE TABLE public.baseline (LIKE read.object_labels INCLUDING ALL)")
        begin = time.perf_counter()
        for start in range(0, len(rows), 20_000):
            with connection.transaction(), connection.cursor().copy(
                "COPY public.baseline (tenant_id, captured_at, video_id, start_ms, end_ms, artifact_id, run_id, label, confidence)"
                " FROM STDIN"
            ) as copy:
                for row in rows[start : start + 20_000]:
                    copy.write_row(row)
        took = time.perf_counter() - begin
        connection.execute("DROP TABLE public.baseline")
    return took


def _through(settings: Settings, log: PostgresEventLog, artifacts: int, projections: tuple[type[Projection], ...]) -> tuple[float, float]:
    """(seconds until the log has all, seconds until the read models have all)."""
    assert settings.database_url is not None
    body, ends, _ = _messages(log, artifacts)
    decode = msgspec.json.Decoder(messages.ResultMessage).decode
    stop = threading.Event()
    runner = threading.Thread(target=run_projections, args=(settings.database_url, stop), kwargs={"projections": projections})
    runner.start()
    try:
        _wait(settings, log.head(), projections)
        begin = time.perf_counter()
        for message in body + ends:
            apply_result(log, decode(message))
        logged = time.perf_counter() - begin
        _wait(settings, log.head(), projections)
        return logged, time.perf_counter() - begin
    finally:
        stop.set()
        runner.join()


def _wait(settings: Settings, position: int, projections: tuple[type[Projection], ...]) -> None:
    names = [f"projection:{p.name}" for p in projections]
    with stand.connect(settings) as connection:
        while True:
            row = connection.execute(
                "SELECT count(*) FROM es.tracking WHERE application_name = ANY(%s) AND notification_id >= %s", (names, position)
            ).fetchone()
            if row == (len(names),):
                return
            time.sleep(0.005)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--artifacts", type=int, default=200_000)
    n = parser.parse_args().artifacts
    with stand.services() as settings:
        assert settings.database_url is not None
        with PostgresEventLog(settings.database_url) as log:
            _, _, rows = _messages(log, n)
            copied = _copy_baseline(settings, rows)
            one = _through(settings, log, n, (ObjectLabels,))
            every = _through(settings, log, n, PROJECTIONS)
            again = _copy_baseline(settings, rows)
    base = min(copied, again)
    stand.show(
        f"{n:,} object.detection artifacts, one process",
        ("", "seconds", "artifacts/s", "of COPY"),
        [
            ("COPY of ready rows into object_labels' twin", base, n / base, 1.0),
            ("result → log", one[0], n / one[0], base / one[0]),
            ("result → log and object_labels", one[1], n / one[1], base / one[1]),
            ("result → log and all read models", every[1], n / every[1], base / every[1]),
        ],
    )


if __name__ == "__main__":
    main()
