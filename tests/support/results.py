"""What a worker would say: a task in the log and the messages of attempts at it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from application.handle import handle
from application.messages import Completed, Failed, Produced, ResultMessage, Started
from application.ports import EventLog
from domain import task, video
from domain.artifacts import payload_type
from domain.artifacts.envelope import BatchHead, Item, Payload, artifact_id_of, pack
from domain.pipeline import config_hash, full_config
from domain.task import run_id_of, task_id_of
from tests.support.given import AT, META

VIDEO = UUID(int=100)
SOURCE = "/media/a.mp4"


def given_video(log: EventLog, video_id: UUID = VIDEO, source: str = SOURCE, **fields: Any) -> UUID:
    """A registered video."""
    handle(log, video.RegisterVideo(stream_id=video_id, meta=META, source=source, filename="a.mp4", **fields))
    return video_id


def given_task(log: EventLog, task_type: str = "object_detection", *, video_id: UUID = VIDEO, key: str = "0") -> UUID:
    """A requested task."""
    profile, config = full_config(task_type, None, None)
    hashed = config_hash(task_type, config, None)
    task_id = task_id_of(video_id, task_type, profile, hashed, key)
    wish = task.RequestTask(
        stream_id=task_id, meta=META, video_id=video_id, task_type=task_type, profile=profile, config=config, config_hash=hashed
    )
    handle(log, wish)
    return task_id


class Attempt:
    """The messages of one attempt, in the order they are sent."""

    def __init__(self, task_id: UUID, delivery: int = 1, *, request_version: int = 1, task_type: str = "object_detection",
                 artifact_type: str = "object.detection", video_id: UUID = VIDEO) -> None:  # fmt: skip
        self.run_id = run_id_of(task_id, request_version, delivery)
        self.task_type, self.artifact_type = task_type, artifact_type
        self.head: dict[str, Any] = {
            "tenant_id": "default",
            "task_id": task_id,
            "video_id": video_id,
            "run_id": self.run_id,
            "request_version": request_version,
            "delivery": delivery,
            "worker": f"w{delivery}",
            "correlation_id": META.correlation_id,
            "at": AT + timedelta(seconds=delivery),
        }
        self._next, self._part = 1, 0

    def started(self) -> Started:
        return Started(
            **self.head, task_type=self.task_type, producer="p", producer_version="1", profile="balanced", config={},
            config_hash="c", input_hash="", device="cpu", artifact_types=(self.artifact_type,),
        )  # fmt: skip

    def produced(self, count: int, payload: Payload | Any = None, **changed: Any) -> Produced:
        first, self._next, self._part = self._next, self._next + count, self._part + 1
        found = payload_type(self.artifact_type).example() if payload is None else payload
        head = BatchHead(
            **{
                "run_id": self.run_id, "video_id": self.head["video_id"], "tenant_id": "default",
                "artifact_type": self.artifact_type, "schema_version": 1, "producer": "p", "producer_version": "1",
                "model_profile": "balanced", "config_hash": "c", "input_hash": "", "created_at": self.head["at"],
                "actor": "worker:w", "correlation_id": META.correlation_id,
            } | changed
        )  # fmt: skip
        items = [
            Item(artifact_id=artifact_id_of(self.run_id, n), start_ms=n * 10, end_ms=n * 10, payload=found)
            for n in range(first, first + count)
        ]
        return Produced(**self.head, part=self._part, batch=pack(head, first, items))

    def completed(self, **fields: Any) -> Completed:
        count = self._next - 1
        return Completed(**{**self.head, "parts": self._part, "counts": {self.artifact_type: count}, "metrics": {}, **fields})

    def failed(self, code: str = "MEDIA_UNREADABLE", error: str = "broken") -> Failed:
        return Failed(**self.head, code=code, error=error, retryable=False)

    def whole(self, sizes: Sequence[int]) -> list[ResultMessage]:
        """Started, batches of these sizes, Completed."""
        return [self.started(), *[self.produced(size) for size in sizes], self.completed()]
