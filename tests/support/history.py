"""Made-up histories: what people, workers and scans might do to a small library, through the real deciders."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import msgspec

from application.handle import handle
from application.ports import EventLog
from domain import face_cluster, run, scan, selection, task, video
from domain.artifacts import LATEST, payload_type
from domain.artifacts.envelope import BatchHead, Item, artifact_id_of, pack
from domain.errors import EiokuError
from domain.pipeline import TASK_TYPES, config_hash, full_config
from domain.task import task_id_of
from tests.support.given import AT, META

TENANTS = ("default", "other")
PROFILES = ("fast", "balanced", "high_quality", "own")
LANGUAGES = (None, "en", "de")
TYPES = tuple(LATEST)


def video_id(number: int) -> UUID:
    """The videos of a history; even ones belong to the first tenant."""
    return UUID(int=0xA000 + number)


def run_id(number: int) -> UUID:
    """The runs of a history."""
    return UUID(int=0xB000 + number)


class History:
    """Moves that are made on a log. A move that the rules refuse changes nothing."""

    def __init__(self, log: EventLog, seed: int, *, videos: int = 3, runs: int = 6, batch: int = 3) -> None:
        self.log, self.random = log, random.Random(seed)
        self._videos, self._runs, self._batch = videos, runs, batch
        self._now = AT
        self._produced: dict[UUID, int] = {}

    def play(self, moves: int) -> None:
        """Register all videos, since nothing is done to one nobody knows; then make this many random moves."""
        for number in range(self._videos):
            self.register(number)
        for _ in range(moves):
            self.step()

    def step(self) -> None:
        """Make one random move."""
        moves: Sequence[tuple[int, Callable[[], None]]] = (
            (3, self.register), (1, self.delete), (2, self.touch), (4, self.work), (3, self.start_run),
            (8, self.produce), (3, self.end_run), (2, self.select), (1, self.scan), (3, self.cluster),
        )  # fmt: skip
        (move,) = self.random.choices([m for _, m in moves], [w for w, _ in moves])
        self._now += timedelta(seconds=self.random.randint(0, 2))
        move()

    def do(self, kind: Any, stream: UUID, number: int = 0, **fields: Any) -> bool:
        """Give a command on behalf of the tenant of video `number`; False when it was refused."""
        meta = msgspec.structs.replace(META, at=self._now, tenant_id=TENANTS[number % 2])
        try:
            handle(self.log, kind(stream_id=stream, meta=meta, **fields))
        except EiokuError:
            return False
        return True

    # ---- moves ---------------------------------------------------------------------------------------------------

    def register(self, number: int | None = None, **fields: Any) -> UUID:
        n = self._any_video() if number is None else number
        given = {
            "source": f"/media/{n}.mp4",
            "filename": f"Film {n} Ärger.mp4",
            "file_created_at": self.random.choice((None, self._date())),
            "collection": self.random.choice((None, "holidays")),
            "pipeline": self.random.choice((None, (), ("ocr",))),
        }
        self.do(video.RegisterVideo, video_id(n), n, **given | fields)
        return video_id(n)

    def delete(self, number: int | None = None) -> None:
        n = self._any_video() if number is None else number
        self.do(video.DeleteVideo, video_id(n), n)

    def touch(self) -> None:
        n = self._any_video()
        facts = video.FileFacts(
            duration_ms=1000, container="mp4", has_video=True, has_audio=False,
            file_created_at=self.random.choice((None, self._date())), frame_rate=29.97,
        )  # fmt: skip
        kind, fields = self.random.choice((
            (video.RecordProbe, {"facts": facts}),
            (video.RecordFingerprint, {"blake3": f"{self.random.randrange(2):064x}", "size_bytes": 5}),
            (video.NoticeFile, {"size_bytes": self.random.randrange(2), "mtime_ms": 1}),
            (video.MarkMissing, {}),
            (video.RelocateVideo, {"source": "/media/elsewhere.mp4"}),
            (video.MarkDuplicate, {"duplicate_of": video_id(self._any_video())}),
        ))  # fmt: skip
        self.do(kind, video_id(n), n, **fields)

    def work(self) -> None:
        n, kind = self._any_video(), self.random.choice(TASK_TYPES[:3]).name
        profile, config = full_config(kind, self.random.choice((None, "fast")), None)
        hashed = config_hash(kind, config, None)
        stream = task_id_of(video_id(n), kind, profile, hashed, str(self.random.randrange(2)))
        version = self.random.randint(1, 4)
        started = self.log.load(stream)
        newest = next((e.run_id for e in reversed(started) if isinstance(e, task.TaskStarted)), run_id(0))
        command, fields = self.random.choice((
            (task.RequestTask, {"video_id": video_id(n), "task_type": kind, "profile": profile, "config": config,
                                "config_hash": hashed, "priority": self.random.choice(("hi", "std"))}),
            (task.StartTask, {"run_id": run_id(self._any_run()), "request_version": version, "worker": "w",
                              "delivery": self.random.randint(1, 3)}),
            (task.CompleteTask, {"run_id": newest, "artifact_count": 3}),
            (task.FailTask, {"run_id": newest, "code": "MEDIA_UNREADABLE", "error": "no\0 good", "retryable": False}),
            (task.MarkUnavailable, {"request_version": version, "missing": "no weights", "remedy": "put them there"}),
            (task.RetryTask, {"priority": "hi"}),
            (task.RequeueTask, {"request_version": version, "reason": "lost"}),
            (task.CancelTask, {}),
            (task.ParkTask, {"request_version": version, "reason": "too often", "deliveries": 5}),
        ))  # fmt: skip
        self.do(command, stream, n, **fields)

    def start_run(self, number: int | None = None, on: int | None = None, **fields: Any) -> UUID:
        n = self._any_video() if on is None else on
        stream = run_id(self._any_run() if number is None else number)
        given = {
            "task_id": uuid5(stream, "task"),
            "video_id": video_id(n),
            "task_type": "import",
            "producer": "p",
            "producer_version": "1",
            "profile": self.random.choice(PROFILES),
            "config": {"a": [1, 2.5, "x"]},
            "config_hash": "c",
            "input_hash": "i",
            "attempt": 1,
            "worker": "w",
            "device": "cpu",
            "created_at": self._date(),
            "artifact_types": self.random.choice((TYPES[:1], TYPES[:3])),
            "language": self.random.choice(LANGUAGES),
            "model": self.random.choice((None, run.ModelIdentity(name="m", digest="d"))),
        }
        self.do(run.StartRun, stream, n, **given | fields)
        return stream

    def produce(self, number: int | None = None, artifact_type: str | None = None, count: int | None = None) -> int:
        """A batch of a run, whether it goes on or not; the number of artifacts."""
        stream = run_id(self._any_run() if number is None else number)
        began = self.log.load(stream)
        if not began:
            return 0
        assert isinstance(began[0], run.RunStarted)
        kind = artifact_type or self.random.choice(TYPES[:4])
        first = self._produced.get(stream, 0) + 1
        items = [self._item(stream, first + i, kind) for i in range(count or self.random.randint(1, self._batch))]
        head = BatchHead(
            run_id=stream, video_id=began[0].video_id, tenant_id=began[0].tenant_id, artifact_type=kind,
            schema_version=payload_type(kind).VERSION, producer="p", producer_version="1",
            model_profile=began[0].profile, config_hash="c", input_hash="i", created_at=began[0].created_at,
            actor="worker:w", correlation_id=META.correlation_id,
        )  # fmt: skip
        self.log.append([pack(head, first, items)])
        self._produced[stream] = first + len(items) - 1
        return len(items)

    def end_run(self, number: int | None = None, **fields: Any) -> None:
        stream = run_id(self._any_run() if number is None else number)
        began = self.log.load(stream)
        n = 0 if not began or began[0].tenant_id == TENANTS[0] else 1
        counts = {TYPES[0]: self._produced.get(stream, 0)}
        if fields or self.random.random() < 0.7:
            self.do(run.CompleteRun, stream, n, **{"counts": counts, "metrics": {"seconds": 1.5}} | fields)
        else:
            self.do(run.FailRun, stream, n, code="TIMED_OUT", error="too slow")

    def select(self, number: int | None = None, **fields: Any) -> None:
        n = self._any_video() if number is None else number
        tenant, kind = TENANTS[n % 2], TYPES[0]
        on = self.random.choice((None, video_id(n)))
        given = {"video_id": on, "artifact_type": kind} | fields
        stream = selection.selection_id_of(tenant, given["video_id"], given["artifact_type"])
        if not fields and self.random.random() < 0.2:
            self.do(selection.ClearSelection, stream, n, **given)
            return
        wish = {
            "mode": self.random.choice(selection.MODES),
            "profile": self.random.choice(PROFILES),
            "run_id": run_id(self._any_run()),
        }
        self.do(selection.SetSelection, stream, n, **wish | given)

    def cluster(self) -> None:
        """Say of some artifacts of a run, there or not, whose faces they are; faces or not."""
        number = self._any_run()
        began = self.log.load(run_id(number))
        if not began:
            return
        assert isinstance(began[0], run.RunStarted)
        members = tuple(
            face_cluster.Members(
                video_id=began[0].video_id,
                run_id=run_id(number),
                cluster_id=self.random.choice(("face-1", "face-2")),
                artifact_ids=tuple(
                    artifact_id_of(run_id(number), self.random.randint(1, 8)) for _ in range(self.random.randint(1, 4))
                ),
            )
            for _ in range(2)
        )
        n = 0 if began[0].tenant_id == TENANTS[0] else 1
        stream = UUID(int=0xD000 + self.random.randrange(1000))
        if self.random.random() < 0.7:
            self.do(face_cluster.ClusterFaces, stream, n, members=members, centres=())
        else:
            self.do(face_cluster.RequestRecluster, stream, n)
            self.do(face_cluster.ReclusterFaces, stream, n, members=members, centres=())

    def scan(self) -> None:
        stream = UUID(int=0xC000 + self.random.randrange(2))
        kind, fields = self.random.choice((
            (scan.RequestScan, {"root": "/media", "watch": self.random.random() < 0.5}),
            (scan.CompleteScan, {"found": 2, "registered": 1, "changed": 0, "problem_count": 1,
                                 "problems": (scan.ScanProblem("/media/x", "broken"),)}),
            (scan.StopScan, {}),
        ))  # fmt: skip
        self.do(kind, stream, **fields)

    # ---- material ------------------------------------------------------------------------------------------------

    def _any_video(self) -> int:
        return self.random.randrange(self._videos)

    def _any_run(self) -> int:
        return self.random.randrange(self._runs)

    def _date(self) -> datetime:
        return AT - timedelta(days=self.random.randrange(3), microseconds=self.random.randrange(2))

    def _item(self, stream: UUID, version: int, artifact_type: str) -> Item:
        start = self.random.randrange(5) * 100
        return Item(
            artifact_id=artifact_id_of(stream, version),
            start_ms=start,
            end_ms=start + self.random.choice((0, 100, 250)),
            payload=self._payload(artifact_type),
        )

    def _payload(self, artifact_type: str) -> Any:
        payload = msgspec.to_builtins(payload_type(artifact_type).example())
        if artifact_type == "transcript.segment":
            payload["text"] = self.random.choice(('ask "not"', "tab\there\nline", "back\\slash", "žluťoučký 🐎"))
            payload["language"] = self.random.choice(("en", "de"))
        return payload


def cuts(length: int, choose: random.Random) -> Iterator[slice]:
    """A random way to cut a sequence into consecutive pieces."""
    start = 0
    while start < length:
        end = min(length, start + choose.choice((1, 1, 2, 5, 20)))
        yield slice(start, end)
        start = end
