"""Videos with the same bytes: the first holds the content, copies wait, and a file that moved is no copy."""

from uuid import UUID

from application.handle import handle, present, wish
from application.lagging import tasks_of
from application.ports import EventLog, TaskIndex
from application.whereabouts import VideoFile, Whereabouts, file_at, fits
from domain import content, task, video
from domain.content import Content, ContentClaimed, content_id_of
from domain.event import Command, Meta
from domain.ids import DERIVED_VERSION
from domain.pipeline import METADATA
from domain.video import DeleteVideo, MarkDuplicate, PromoteVideo, RelocateVideo, Video, VideoFingerprinted


class SameContent:
    """What follows when content is claimed, changes hands, or loses its file."""

    def __init__(self, log: EventLog, meta: Meta, where: Whereabouts, tasks: TaskIndex) -> None:
        self._log, self._meta, self._where, self._tasks = log, meta, where, tasks

    def claim(self, event: VideoFingerprinted) -> None:
        """Claim the content; when another video has it, that one moved here, or this one is its duplicate."""
        video_id, stream = event.originator_id, content_id_of(event.tenant_id, event.blake3)
        state = self._living(video_id, event.blake3)
        if state is None:
            return
        handle(self._log, content.ClaimContent(stream_id=stream, meta=self._meta, video_id=video_id))
        now: Content = present(self._log, content, stream)
        if now.video_id is None or now.video_id == video_id:
            return
        file = _file_of(state)
        for other_id in (now.video_id, *now.waiting):
            other = self._living(other_id, event.blake3)
            if other_id == video_id or other is None:
                continue
            moved = file is not None and self._where.is_displaced(event.tenant_id, other, file)
            if (moved or other.source == state.source) and self._merge(video_id, other_id, file):
                return
        self._wish(MarkDuplicate(stream_id=video_id, meta=self._meta, duplicate_of=now.video_id))

    def promote(self, event: ContentClaimed) -> None:
        """A duplicate that took over is analysed itself, if it still has this content."""
        state: Video | None = present(self._log, video, event.video_id)
        if state is None or state.blake3 is None:
            return
        stream = content_id_of(event.tenant_id, state.blake3)
        if stream == event.originator_id and present(self._log, content, stream).video_id == event.video_id:
            self._wish(PromoteVideo(stream_id=event.video_id, meta=self._meta))

    def take_the_place_of_a_copy(self, video_id: UUID) -> None:
        """A video whose file is gone lies from now on where a duplicate of it does, which it replaces."""
        state: Video | None = present(self._log, video, video_id)
        if state is None or state.is_deleted or not state.is_missing or state.blake3 is None:
            return
        now: Content | None = present(self._log, content, content_id_of(state.tenant_id, state.blake3))
        if now is None or now.video_id != video_id:
            return
        for copy_id in now.waiting:
            copy = self._living(copy_id, state.blake3)
            file = None if copy is None else _file_of(copy)
            if (
                file is not None
                and self._where.is_displaced(state.tenant_id, state, file)
                and self._merge(copy_id, video_id, file)
            ):
                return

    def _living(self, video_id: UUID, blake3: str) -> Video | None:
        state: Video | None = present(self._log, video, video_id)
        return state if state is not None and not state.is_deleted and state.blake3 == blake3 else None

    def _merge(self, copy_id: UUID, video_id: UUID, file: VideoFile | None) -> bool:
        """Let the video lie where its copy does, and take the copy out of the library: it is one file.

        Not when work was done on the copy: its results would go with it. Nor when somebody chose its id: they would find
        nothing under it any more.
        """
        if copy_id.version != DERIVED_VERSION:
            return False
        for task_id in tasks_of(self._log, self._tasks, copy_id):
            state: task.Task | None = present(self._log, task, task_id)
            if state is not None and state.task_type != METADATA and state.status == "completed":
                return False
        commands: list[Command] = [DeleteVideo(stream_id=copy_id, meta=self._meta, merged_into=video_id)]
        if file is not None:
            move = RelocateVideo(
                stream_id=video_id,
                meta=self._meta,
                source=file.path,
                size_bytes=file.size_bytes,
                mtime_ms=file.mtime_ms,
                inode=file.inode,
            )
            commands.insert(0, move)
        self._wish(*commands)
        return True

    def _wish(self, *commands: Command) -> None:
        wish(self._log, *commands)


def _file_of(state: Video) -> VideoFile | None:
    """The video's file, if it is there and is what is known of it."""
    file = file_at(state.source)
    return file if file is not None and (state.mtime_ms is None or fits(state, file)) else None
