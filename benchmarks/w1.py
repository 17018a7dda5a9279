"""Workload W1: a made-up library of 1,000 videos and 311,000 artifacts, and questions to ask of it.

The same seed gives the same library. It can be had as events (`history`), put into a log (`load_log`), straight into
read models (`load_read_models`), or sent through the imports API (`import_bodies`).

    python -m benchmarks.w1 DATABASE_URL [--videos N]      # migrate, load the read models, VACUUM ANALYZE
"""

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg

from application.ports import EventLog, LogItem, Recorded
from domain.artifacts.envelope import ArtifactBatch, BatchHead, Item, artifact_id_of, pack
from domain.pipeline import DEFAULT_PROFILE, config_hash, full_config
from domain.run import RunCompleted, RunStarted
from domain.task import TaskCompleted, TaskRequested, TaskStarted, run_id_of, task_id_of
from domain.video import VideoRegistered
from projectors.projection import Projection

SEED = 20260101
DURATION_MS = 600_000
LABELS = ("person", *(f"thing{n:02}" for n in range(2, 81)))
WORDS = tuple(
    "".join(syllables)
    for syllables in itertools.islice(
        itertools.product(("ka", "lo", "mi", "ru", "te", "vo", "zan", "bel"), repeat=5), 5000
    )
)
"""A vocabulary nobody speaks, in order of frequency."""
MARKED = {"kubernetes": 0.002, "project": 0.02, "meeting": 0.10}
"""Real words and the share of segments they are put into."""
SEARCHED = (*MARKED, *WORDS[:20])
CITIES = tuple((f"City {n}", f"State {n % 60}", f"Country {n % 60 % 20}") for n in range(200))
_FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
_BOX = (0.1, 0.1, 0.2, 0.2)
_POLYGON = ((0.1, 0.1), (0.3, 0.1), (0.3, 0.2), (0.1, 0.2))
_TASKS = {
    "metadata_extraction": "video.metadata",
    "scene_detection": "scene",
    "transcription": "transcript.segment",
    "object_detection": "object.detection",
    "ocr": "ocr.text",
    "face_detection": "face.detection",
    "place_detection": "place.classification",
    "thumbnails": "thumbnail",
}
"""Task type → what it looks for; the last two find nothing."""

_label_weights = list(itertools.accumulate(1 / rank**1.1 for rank in range(1, len(LABELS) + 1)))
_word_weights = list(itertools.accumulate(1 / rank for rank in range(1, len(WORDS) + 1)))

Sketch = tuple[int, int, dict[str, Any]]
"""start_ms, end_ms, payload"""


class Film(NamedTuple):
    """One video and everything that was found in it."""

    number: int
    video_id: UUID
    filename: str
    file_created_at: datetime | None
    found: dict[str, list[Sketch]]
    """Artifact type → what was found, in time order."""


def films(count: int = 1000, *, seed: int = SEED) -> Iterator[Film]:
    """The videos; 5 % are undated, 3 % share their date with two others."""
    rng = random.Random(seed)
    seconds = 2 * 365 * 86400
    undated, shared = count // 20, count * 3 // 100
    dates: list[datetime | None] = [None] * undated
    for _ in range(shared // 3):
        dates += [_FIRST_DAY + timedelta(seconds=rng.randrange(seconds))] * 3
    dates += [_FIRST_DAY + timedelta(seconds=rng.randrange(seconds)) for _ in range(count - len(dates))]
    rng.shuffle(dates)
    for number, date in enumerate(dates):
        video_id = UUID(int=rng.getrandbits(128), version=4)
        yield Film(number, video_id, f"clip_{number:05}.mp4", date, _found(rng))


def label(rng: random.Random) -> str:
    """A label by the library's own frequencies: "person" every fourth time."""
    return rng.choices(LABELS, cum_weights=_label_weights)[0]


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, cum_weights=_word_weights, k=words))


def _found(rng: random.Random) -> dict[str, list[Sketch]]:
    objects: list[Sketch] = []
    for _ in range(200):
        at = 3000 * rng.randrange(200)
        confidence = round(rng.uniform(0.5, 0.99), 2)
        seen = {"label": label(rng), "confidence": confidence, "box": _BOX, "frame_index": at // 40}
        objects.append((at, at, seen))
    objects.sort(key=lambda sketch: sketch[0])
    segments: list[Sketch] = []
    for n in range(50):
        text = _text(rng, 12)
        for word, share in MARKED.items():
            if rng.random() < share:
                text += f" {word}"
        segments.append(
            (12_000 * n, 12_000 * n + 11_500, {"text": text, "language": "en", "confidence": 0.9})
        )
    faces: list[Sketch] = []
    for at in sorted(3000 * rng.randrange(200) for _ in range(20)):
        face = {
            "confidence": 0.9,
            "box": _BOX,
            "frame_index": at // 40,
            "cluster_id": f"person_{rng.randrange(500):03}",
        }
        faces.append((at, at, face))
    lines: list[Sketch] = [
        (at, at, {"text": _text(rng, 4), "confidence": 0.9, "polygon": _POLYGON, "language": "en"})
        for at in sorted(3000 * rng.randrange(200) for _ in range(20))
    ]
    scenes: list[Sketch] = [
        (30_000 * n, 30_000 * (n + 1), {"scene_index": n, "method": "content", "score": 30.0})
        for n in range(20)
    ]
    about: dict[str, Any] = {"duration_ms": DURATION_MS}
    if rng.random() < 0.62:
        city, state, country = rng.choice(CITIES)
        about |= {"latitude": rng.uniform(-60, 60), "longitude": rng.uniform(-180, 180)}
        about |= {"country": country, "state": state, "city": city}
    return {
        "object.detection": objects,
        "transcript.segment": segments,
        "face.detection": faces,
        "ocr.text": lines,
        "scene": scenes,
        "video.metadata": [(0, DURATION_MS, about)],
    }


def history(film: Film, *, tenant_id: str = "default") -> list[LogItem]:
    """What the log says about one video: its registration and eight completed tasks with their runs."""
    at = _MADE_AT + timedelta(seconds=film.number)
    common: dict[str, Any] = {
        "recorded_at": at,
        "tenant_id": tenant_id,
        "actor": "system:w1",
        "correlation_id": film.video_id,
    }
    items: list[LogItem] = [
        VideoRegistered(
            originator_id=film.video_id,
            originator_version=1,
            source=f"/media/{film.filename}",
            filename=film.filename,
            file_created_at=film.file_created_at,
            pipeline=(),
            **common,
        )
    ]
    for task_name, artifact_type in _TASKS.items():
        items += _task(film, task_name, artifact_type, common)
    return items


def _task(film: Film, task_name: str, artifact_type: str, common: dict[str, Any]) -> Iterator[LogItem]:
    config = full_config(task_name, DEFAULT_PROFILE, None)[1]
    digest = config_hash(task_name, config, None)
    what = {"profile": DEFAULT_PROFILE, "config": config, "config_hash": digest}
    task_id = task_id_of(film.video_id, task_name, DEFAULT_PROFILE, digest, "content-1")
    run_id = run_id_of(task_id, 1, 1)
    task = {"originator_id": task_id, **common}
    run = {"originator_id": run_id, "task_id": task_id, "video_id": film.video_id, **common}
    yield TaskRequested(originator_version=1, video_id=film.video_id, task_type=task_name, **what, **task)
    yield TaskStarted(
        originator_version=2, run_id=run_id, attempt=1, request_version=1, delivery=1, worker="w1", **task
    )
    yield RunStarted(
        originator_version=1,
        task_type=task_name,
        producer="w1",
        producer_version="1",
        input_hash="",
        attempt=1,
        worker="w1",
        device="cpu",
        created_at=common["recorded_at"],
        artifact_types=(artifact_type,),
        **what,
        **run,
    )
    found = film.found.get(artifact_type, [])
    if found:
        yield _batch(film, artifact_type, run_id, found, common=common, digest=digest)
    yield RunCompleted(originator_version=2, counts={artifact_type: len(found)}, metrics={}, **run)
    yield TaskCompleted(originator_version=3, run_id=run_id, artifact_count=len(found), **task)


def _batch(
    film: Film,
    artifact_type: str,
    run_id: UUID,
    found: Sequence[Sketch],
    *,
    common: dict[str, Any],
    digest: str,
) -> ArtifactBatch:
    head = BatchHead(
        run_id=run_id,
        video_id=film.video_id,
        tenant_id=common["tenant_id"],
        artifact_type=artifact_type,
        schema_version=1,
        producer="w1",
        producer_version="1",
        model_profile=DEFAULT_PROFILE,
        config_hash=digest,
        input_hash="",
        created_at=common["recorded_at"],
        actor=common["actor"],
        correlation_id=film.video_id,
    )
    items = [
        Item(artifact_id=artifact_id_of(run_id, version), start_ms=start, end_ms=end, payload=payload)
        for version, (start, end, payload) in enumerate(found, 1)
    ]
    return pack(head, 1, items)


def import_bodies(film: Film) -> Iterator[bytes]:
    """JSON bodies for `POST /v1/videos/{id}/imports`, one for each artifact type."""
    for artifact_type, found in film.found.items():
        yield msgspec.json.encode(
            {
                "run_id": UUID(bytes=sha256(f"{film.video_id}:{artifact_type}".encode()).digest()[:16], version=4),
                "producer": "w1",
                "producer_version": "1",
                "created_at": _MADE_AT,
                "artifacts": [
                    {
                        "artifact_type": artifact_type,
                        "span_start_ms": start,
                        "span_end_ms": end,
                        "payload": payload,
                    }
                    for start, end, payload in found
                ],
            }
        )


def load_log(log: EventLog, *, count: int = 1000, tenant_id: str = "default") -> int:
    """Append the whole library, a video at a time; the last position."""
    position = 0
    for film in films(count):
        position = log.append(history(film, tenant_id=tenant_id))
    return position


def recorded(count: int = 1000, *, tenant_id: str = "default") -> Iterator[list[Recorded]]:
    """The library as read from a log, a video at a time."""
    position = 0
    for film in films(count):
        records = []
        for item in history(film, tenant_id=tenant_id):
            position += item.count if isinstance(item, ArtifactBatch) else 1
            records.append(Recorded(position=position, item=item))
        yield records


def load_read_models(
    connection: psycopg.Connection, projections: Sequence[type[Projection]], *, count: int = 1000
) -> dict[str, float]:
    """Fill the read models without a log; the seconds each projection took. The search path must be set."""
    spent = {projection.name: 0.0 for projection in projections}
    made = [projection() for projection in projections]
    films_of_records = recorded(count)
    while several := list(itertools.islice(films_of_records, 20)):
        records = [record for film in several for record in film]
        for projection in made:
            wanted = [record for record in records if projection.wants(record)]
            begin = time.perf_counter()
            with connection.transaction():
                projection.apply(connection, wanted)
            spent[projection.name] += time.perf_counter() - begin
    return spent


def questions(film_ids: Sequence[UUID], *, seed: int = 1) -> dict[str, Callable[[], str]]:
    """Name → a maker of request paths, as the peer was measured: video and place uniform, labels by frequency."""
    rng = random.Random(seed)

    def video() -> UUID:
        return rng.choice(film_ids)

    def ms() -> int:
        return rng.randrange(DURATION_MS)

    def jump(rest: str) -> str:
        return f"/v1/jump/global?from_video_id={video()}&from_ms={ms()}&{rest}"

    def text(word: str, direction: str = "next") -> str:
        return jump(f"kind=transcript&direction={direction}&query={word}")

    return {
        "jump in video, object": lambda: (
            f"/v1/videos/{video()}/jump?kind=object&direction=next&from_ms={ms()}&label={label(rng)}"
        ),
        "jump in video, scene": lambda: f"/v1/videos/{video()}/jump?kind=scene&direction=next&from_ms={ms()}",
        "find in transcript": lambda: (
            f"/v1/videos/{video()}/find?q={rng.choice(SEARCHED)}&direction=next&from_ms={ms()}&source=transcript"
        ),
        "find, two words": lambda: (
            f"/v1/videos/{video()}/find?q={WORDS[rng.randrange(20)]}%20{WORDS[rng.randrange(20)]}&direction=next&from_ms={ms()}"
        ),
        "global next, object": lambda: jump(f"kind=object&direction=next&label={label(rng)}"),
        "global prev, object": lambda: jump(f"kind=object&direction=prev&label={label(rng)}"),
        "global next, person": lambda: jump("kind=object&direction=next&label=person"),
        "global next, rarest label": lambda: jump(f"kind=object&direction=next&label={LABELS[-1]}"),
        "global next, confidence 0.9, limit 50": lambda: jump(
            f"kind=object&direction=next&label={label(rng)}&min_confidence=0.9&limit=50"
        ),
        "global next, kubernetes": lambda: text("kubernetes"),
        "global prev, kubernetes": lambda: text("kubernetes", "prev"),
        "global next, project": lambda: text("project"),
        "global next, meeting": lambda: text("meeting"),
        "global prev, meeting": lambda: text("meeting", "prev"),
        "global next, frequent word": lambda: text(WORDS[rng.randrange(20)]),
        "global next, two words": lambda: text(f"meeting%20{WORDS[rng.randrange(20)]}"),
        "global next, no match": lambda: text("xylophone"),
        "global prev, no match": lambda: text("xylophone", "prev"),
        "global next, no match, substring": lambda: text("%40%40"),
        "global next, location": lambda: jump("kind=location&direction=next"),
        "global next, city": lambda: jump(f"kind=location&direction=next&query=City%20{rng.randrange(200)}"),
        "global next, scene": lambda: jump("kind=scene&direction=next"),
        "gallery, person": lambda: "/v1/artifacts/search?kind=object&label=person",
        "gallery, person by video": lambda: (
            "/v1/artifacts/search?kind=object&label=person&group_by_video=true"
        ),
        "gallery, label": lambda: f"/v1/artifacts/search?kind=object&label={label(rng)}",
        "gallery, text": lambda: f"/v1/artifacts/search?kind=transcript&query={rng.choice(SEARCHED)}",
        "gallery, confidence": lambda: (
            f"/v1/artifacts/search?kind=object&label={label(rng)}&min_confidence=0.9"
        ),
        "gallery, file name": lambda: (
            f"/v1/artifacts/search?kind=object&label={label(rng)}&filename=clip_00{rng.randrange(10)}"
        ),
        "facets, object": lambda: "/v1/facets?kind=object",
    }


def main() -> None:
    """Load a database."""
    import migrations
    from projectors import PROJECTIONS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database_url")
    parser.add_argument("--videos", type=int, default=1000)
    args = parser.parse_args()
    migrations.upgrade(args.database_url)
    with psycopg.connect(args.database_url, autocommit=True, options="-c search_path=read") as connection:
        for name, seconds in load_read_models(connection, PROJECTIONS, count=args.videos).items():
            sys.stdout.write(f"{name:24} {seconds:8.2f} s\n")
        connection.execute("VACUUM ANALYZE")


if __name__ == "__main__":
    main()
