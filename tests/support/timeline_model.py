"""A library in memory: made at random, put into read models, and asked by plain Python what the SQL should say."""

import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from application.ports import LogItem, Recorded
from domain.artifacts.envelope import ArtifactBatch, BatchHead, Item, pack
from domain.run import RunCompleted, RunStarted
from domain.timeline import TimelineKey
from domain.video import FileFacts, VideoDeleted, VideoProbed, VideoRegistered
from projectors import PROJECTIONS
from projectors.selection import SelectionFilter

BOX = (0.1, 0.1, 0.2, 0.2)
START = datetime(2025, 1, 1, tzinfo=UTC)
DATES = (None, START, START + timedelta(days=1))
STARTS = (0, 5, 1000)
LABELS = ("cat", "dog")
WORDS = ("alpha", "beta", "alphabet", "the", "other", "100%", "betaalpha")
STOP_WORDS = {"the", "other"}
PROFILES = ("fast", "balanced")
READ = {
    "videos", "run_types", "transcript_fts", "ocr_fts", "object_labels", "face_clusters", "places", "scene_ranges",
    "video_locations",
}  # fmt: skip


_NUMBERS = itertools.count(1)


class Hit(NamedTuple):
    """One artifact of a completed run."""

    kind: str
    video_id: UUID
    start_ms: int
    end_ms: int
    artifact_id: UUID
    run_id: UUID
    payload: dict[str, Any]


class Run(NamedTuple):
    """A completed run of one type."""

    run_id: UUID
    video_id: UUID
    kind: str
    profile: str
    order: tuple[datetime, int]


TYPES = {
    "object": "object.detection",
    "face": "face.detection",
    "place": "place.classification",
    "scene": "scene",
    "transcript": "transcript.segment",
    "ocr": "ocr.text",
    "location": "video.metadata",
}


class Library:
    """A few videos with many ties: equal dates, equal starts, several runs."""

    def __init__(self, seed: int, *, hits_a_run: int = 4) -> None:
        self.random, self.number = random.Random(seed), next(_NUMBERS)
        self.tenant_id = f"t-{self._uuid()}"
        self.dates: dict[UUID, datetime | None] = {}
        self.runs: list[Run] = []
        self.hits: list[Hit] = []
        self.items: list[LogItem] = []
        for _ in range(self.random.randint(1, 4)):
            self._register(self._uuid(), self.random.choice(DATES))
        for video_id in list(self.dates):
            for kind in TYPES:
                for _ in range(self.random.choice((0, 1, 1, 2, 3))):
                    self._run(video_id, kind, hits_a_run)

    def records(self) -> Sequence[Recorded]:
        """Everything that happened, as read from a log."""
        position, records = 0, []
        for item in self.items:
            position += item.count if isinstance(item, ArtifactBatch) else 1
            records.append(Recorded(position=position, item=item))
        return records

    def store(self, connection: psycopg.Connection, *, step: int = 1000) -> None:
        """Put what has happened since the last time into the read models."""
        records = self.records()
        for projection in PROJECTIONS:
            if projection.name in READ:
                wanted = [record for record in records if projection.wants(record)]
                for at in range(0, len(wanted), step):
                    with connection.transaction():
                        projection().apply(connection, wanted[at : at + step])
        self.items.clear()

    def delete(self, video_id: UUID) -> None:
        """Somebody removes a video."""
        del self.dates[video_id]
        self.hits = [hit for hit in self.hits if hit.video_id != video_id]
        self.items.append(VideoDeleted(**self._head(video_id, 9)))

    def redate(self, video_id: UUID, date: datetime | None) -> None:
        """The file is found to have another date; only for videos without one."""
        facts = FileFacts(
            duration_ms=1, container="mp4", has_video=True, has_audio=True, file_created_at=date
        )
        self.dates[video_id] = date
        self.items.append(VideoProbed(**self._head(video_id, 2), facts=facts))

    # ---- what the SQL should say ---------------------------------------------------------------------------------

    def key(self, hit: Hit) -> TimelineKey:
        """The hit's place on the timeline."""
        return TimelineKey.of(self.dates[hit.video_id], hit.video_id, hit.start_ms, hit.artifact_id)

    def counted(self, selection: SelectionFilter) -> set[UUID]:
        """The runs that count."""
        newest: dict[tuple[Any, ...], Run] = {}
        for run in self.runs:
            by = (run.video_id, run.kind) + ((run.profile,) if selection.mode == "profile" else ())
            if by not in newest or newest[by].order < run.order:
                newest[by] = run
        if selection.run_id is not None:
            return {selection.run_id}
        if selection.mode == "all":
            return {run.run_id for run in self.runs}
        chosen = (
            run for run in newest.values() if selection.mode != "profile" or run.profile == selection.profile
        )
        return {run.run_id for run in chosen}

    def matching(
        self,
        kind: str,
        selection: SelectionFilter,
        *,
        label: str | None = None,
        query: str | None = None,
        min_confidence: float | None = None,
    ) -> list[Hit]:
        """All hits that match, in timeline order."""
        runs = self.counted(selection)
        found = []
        for hit in self.hits:
            payload = hit.payload
            if hit.kind != kind or hit.run_id not in runs or hit.video_id not in self.dates:
                continue
            if label is not None and label not in (payload.get("label"), payload.get("cluster_id")):
                continue
            confidence = payload.get("confidence")
            if min_confidence is not None and confidence is not None and confidence < min_confidence:
                continue
            if query is not None and not _matches(payload, query, is_seen=kind == "ocr"):
                continue
            found.append(hit)
        return sorted(found, key=self.key)

    # ---- making it up --------------------------------------------------------------------------------------------

    def _uuid(self) -> UUID:
        # No two libraries share an id, and which of two is the greater depends on the seed alone.
        return UUID(int=(self.number << 96) | self.random.getrandbits(96))

    def _head(self, stream: UUID, version: int) -> dict[str, Any]:
        return {
            "originator_id": stream,
            "originator_version": version,
            "recorded_at": START,
            "tenant_id": self.tenant_id,
            "actor": "api",
            "correlation_id": stream,
        }

    def _register(self, video_id: UUID, date: datetime | None) -> None:
        self.dates[video_id] = date
        name = f"{video_id}.mp4"
        given = VideoRegistered(
            **self._head(video_id, 1), source=f"/{name}", filename=name, file_created_at=date
        )
        self.items.append(given)

    def _run(self, video_id: UUID, kind: str, most: int) -> None:
        run_id, profile = self._uuid(), self.random.choice(PROFILES)
        made_at = START + timedelta(days=self.random.randrange(2))
        is_completed = self.random.random() < 0.8
        hits = [self._hit(video_id, kind, run_id) for _ in range(self.random.randint(0, most))]
        common = {"task_id": run_id, "video_id": video_id}
        self.items.append(
            RunStarted(
                **self._head(run_id, 1), **common, task_type="import", producer="p", producer_version="1",
                profile=profile, config={}, config_hash="", input_hash="", attempt=1, worker="w", device="cpu",
                created_at=made_at, artifact_types=(TYPES[kind],),
            )
        )  # fmt: skip
        if hits:
            self.items.append(
                self._batch(video_id, kind, run_id, profile=profile, made_at=made_at, hits=hits)
            )
        if is_completed:
            counts = {TYPES[kind]: len(hits)}
            self.items.append(RunCompleted(**self._head(run_id, 2), **common, counts=counts, metrics={}))
            self.runs.append(Run(run_id, video_id, kind, profile, (made_at, len(self.runs))))
            self.hits += hits

    def _batch(
        self, video_id: UUID, kind: str, run_id: UUID, *, profile: str, made_at: datetime, hits: Sequence[Hit]
    ) -> ArtifactBatch:
        head = BatchHead(
            run_id=run_id, video_id=video_id, tenant_id=self.tenant_id, artifact_type=TYPES[kind], schema_version=1,
            producer="p", producer_version="1", model_profile=profile, config_hash="", input_hash="",
            created_at=made_at, actor="api", correlation_id=run_id,
        )  # fmt: skip
        items = [
            Item(artifact_id=h.artifact_id, start_ms=h.start_ms, end_ms=h.end_ms, payload=h.payload)
            for h in hits
        ]
        return pack(head, 1, items)

    def _hit(self, video_id: UUID, kind: str, run_id: UUID) -> Hit:
        start = 0 if kind == "location" else self.random.choice(STARTS)
        end = 0 if kind == "location" else start + self.random.choice((0, 100))
        return Hit(kind, video_id, start, end, self._uuid(), run_id, self._payload(kind))

    def _payload(self, kind: str) -> dict[str, Any]:
        confidence, label = self.random.choice((0.5, 0.9)), self.random.choice(LABELS)
        match kind:
            case "object":
                return {"label": label, "confidence": confidence, "box": BOX, "frame_index": 1}
            case "face":
                cluster = self.random.choice((*LABELS, None))
                return {"confidence": confidence, "box": BOX, "frame_index": 1, "cluster_id": cluster}
            case "place":
                return {"label": label, "confidence": confidence}
            case "scene":
                return {"scene_index": self.random.randrange(3), "method": "content"}
            case "location":
                return {"latitude": 1.0, "longitude": 2.0, "city": self.random.choice(("Paris", "Lima"))}
        text = " ".join(self.random.choices(WORDS, k=self.random.randint(1, 3)))
        said = {"text": text, "language": self.random.choice(("en", None)), "confidence": confidence}
        if kind == "ocr":
            said["polygon"] = ((0.1, 0.1), (0.3, 0.1), (0.3, 0.2))
        return said


def _matches(payload: dict[str, Any], query: str, *, is_seen: bool) -> bool:
    if "city" in payload:
        return query.lower() in payload["city"].lower()
    wanted = query.replace("%", "").lower().split()
    if payload.get("language") == "en":
        wanted = [word for word in wanted if word not in STOP_WORDS]
    if not wanted:
        return query.lower() in payload["text"]
    words = set(payload["text"].replace("%", "").split())
    joined = query.replace("%", "").lower().replace(" ", "")
    return set(wanted) <= words or (is_seen and joined in words)
