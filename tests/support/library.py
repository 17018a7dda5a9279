"""A library over a real folder and a log: scans, policies, and a worker that reads what lies on the disk."""

import os
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from blake3 import blake3

from api.sources import resolve
from application.handle import handle, present
from application.ingest_results import apply_result
from application.look import Tally
from application.policies import TOPICS, react
from application.ports import EventLog
from application.residents import register
from domain import task, video
from domain.event import Meta
from domain.pipeline import BY_NAME, METADATA
from domain.video import FileFacts, RegisterVideo, Video, video_id_of
from tests.support.given import META
from tests.support.looking import look
from tests.support.memory_log import MemoryLog
from tests.support.memory_tasks import MemoryTasks
from tests.support.memory_videos import MemoryVideos
from tests.support.results import Attempt

FACTS = FileFacts(duration_ms=1, container="mp4", has_video=True, has_audio=True)


class Library:
    """One or several media roots and what Eioku makes of them. Every event is answered twice, as after a crash."""

    def __init__(self, *roots: Path, log: EventLog | None = None) -> None:
        self.roots = [Path(os.path.realpath(root)) for root in roots]
        self.log = log or MemoryLog()
        self.videos, self.tasks = MemoryVideos(self.log), MemoryTasks(self.log)
        self.analysed: list[tuple[UUID, bytes]] = []
        """(video, content) of each time that a worker did what comes after the metadata."""
        self._done = 0
        self._clock = count(int(META.at.timestamp()))

    # ---- what people and the system do

    def scan(self, folder: Path | None = None, *, tenant: str = "default", work: bool = True, **options: Any) -> Tally:
        """Look through a folder, and let follow what follows."""
        found = look(self.log, folder or self.roots[0], meta=self.meta("system:scan", tenant), roots=self.roots, **options)
        assert found is not None
        if work:
            self.work()
        return found

    def post(self, source: str | Path, *, tenant: str = "default", work: bool = True) -> UUID:
        """Make a file known as the API does."""
        file = resolve(str(source), self.roots)
        wish = RegisterVideo(
            stream_id=video_id_of(tenant, file.location), meta=self.meta("api", tenant), source=file.location,
            filename=file.filename, size_bytes=file.size_bytes, mtime_ms=file.mtime_ms, inode=file.inode,
        )  # fmt: skip
        hints = [known.video_id for known in self.videos.at(tenant, [file.location])]
        video_id, _, _ = register(self.log, wish, hints, is_id_chosen=False)
        if work:
            self.work()
        return video_id

    def delete(self, video_id: UUID, *, tenant: str = "default") -> None:
        handle(self.log, video.DeleteVideo(stream_id=video_id, meta=self.meta("api", tenant)))
        self.work()

    def work(self) -> None:
        """React to all that happened, do all tasks on the files where they are expected, and so on until nothing is left."""
        while self.react() or self.do_open_tasks():
            pass

    def react(self) -> bool:
        """Let the policies answer what happened; False when nothing did."""
        before = self._done
        roots = [str(root) for root in self.roots]
        while records := self.log.read(self._done, kinds=TOPICS, limit=1):
            for record in records * 2:
                react(self.log, record, clock=self.now, tasks=self.tasks, videos=self.videos, roots=roots)
            self._done = records[-1].position
        return self._done > before

    def do_open_tasks(self) -> bool:
        """Do what waits for a worker; False when nothing does."""
        waiting = self.open_tasks()
        for task_id, state in waiting:
            self._do(task_id, state)
        return bool(waiting)

    def _do(self, task_id: UUID, state: task.Task) -> None:
        owner: Video = present(self.log, video, state.video_id)
        attempt = Attempt(
            task_id, request_version=state.request_version, task_type=state.task_type, video_id=state.video_id,
            artifact_type=BY_NAME[state.task_type].produces[0],
        )  # fmt: skip
        attempt.head["tenant_id"] = state.tenant_id
        self._say(attempt.started())
        try:
            content = Path(owner.source).read_bytes()
        except OSError as error:
            self._say(attempt.failed("MEDIA_MISSING", str(error)))
            return
        if state.task_type == METADATA:
            digest = blake3(content).hexdigest()
            self._say(attempt.completed(blake3=digest, size_bytes=len(content), facts=FACTS))
        else:
            self.analysed.append((state.video_id, content))
            self._say(attempt.completed())

    def _say(self, result: Any) -> None:
        apply_result(self.log, msgspec.structs.replace(result, at=self.now()))

    # ---- what there is

    def open_tasks(self) -> list[tuple[UUID, task.Task]]:
        """Tasks that wait for a worker."""
        asked = [r.item.originator_id for r in self.log.read(0, limit=10**9, kinds=[task.TaskRequested.TOPIC])]
        states = [(task_id, present(self.log, task, task_id)) for task_id in asked]
        return [(task_id, state) for task_id, state in states if state.status == "pending"]

    def shown(self, *, tenant: str = "default") -> dict[UUID, Video]:
        """The videos that a list shows."""
        asked = {r.item.originator_id: None for r in self.log.read(0, limit=10**9, kinds=[video.VideoRegistered.TOPIC])}
        states = {video_id: present(self.log, video, video_id) for video_id in asked}
        return {video_id: s for video_id, s in states.items() if not s.is_deleted and s.tenant_id == tenant}

    def at(self, path: Path) -> UUID:
        """The one video that lies at a path and is not missing."""
        (found,) = [
            video_id for video_id, s in self.shown().items() if s.source == str(path) and not s.is_missing
        ]
        return found

    def results(self, video_id: UUID) -> set[bytes]:
        """Contents that the video was analysed on, once each."""
        contents = [content for one, content in self.analysed if one == video_id]
        return set(contents)

    def now(self) -> datetime:
        """A clock that never says the same twice."""
        return datetime.fromtimestamp(next(self._clock), UTC)

    def meta(self, actor: str, tenant: str) -> Meta:
        return msgspec.structs.replace(META, at=self.now(), actor=actor, tenant_id=tenant)
