"""One look through a folder: what is new is registered, what moved keeps its video, what changed or is gone is noted.

Looking again changes nothing, so a look that was cut off simply begins anew.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from application.folders import video_files
from application.handle import decide, handle, present, store
from application.ports import EventLog, KnownVideo
from application.residents import free_id, residents
from application.whereabouts import Lost, VideoFile, Whereabouts, fits
from domain import video
from domain.errors import EiokuError
from domain.event import DomainEvent, Meta
from domain.scan import PassedOver, ScanProblem
from domain.video import (
    MarkMissing,
    NoticeFile,
    RegisterVideo,
    RelocateVideo,
    Video,
    VideoChanged,
    VideoRegistered,
    video_id_of,
)

logger = structlog.get_logger()

CHUNK = 100
"""Files stored in one append."""
MOST_NAMED = 100
INDEX_S = 10.0
"""How long a look waits for the read model to know what the log had when it began."""

Fingerprint = Callable[[Path, Callable[[int, int], None]], tuple[str, int]]
"""(hash, bytes) of a file; calls back after every few megabytes, and what that raises ends it."""


class Tally(msgspec.Struct):
    """What one look has found so far."""

    found: int = 0
    registered: int = 0
    changed: int = 0
    relocated: int = 0
    missing: int = 0
    problem_count: int = 0
    problems: list[ScanProblem] = msgspec.field(default_factory=list)
    """The first `MOST_NAMED`."""
    passed_over_count: int = 0
    passed_over: list[PassedOver] = msgspec.field(default_factory=list)
    """The first `MOST_NAMED`."""

    def note(self, item: ScanProblem | PassedOver) -> None:
        """Count a file that could not be, or was not, taken in."""
        if isinstance(item, ScanProblem):
            self.problem_count += 1
            if len(self.problems) < MOST_NAMED:
                self.problems.append(item)
        else:
            self.passed_over_count += 1
            if len(self.passed_over) < MOST_NAMED:
                self.passed_over.append(item)

    @property
    def has_news(self) -> bool:
        """Whether the library is not what it was."""
        return bool(self.registered or self.changed or self.relocated or self.missing)


class _Stopped(Exception):
    """The process is to end."""


def look_through(
    log: EventLog,
    root: str,
    meta: Meta,
    *,
    recursive: bool,
    where: Whereabouts,
    fingerprint: Fingerprint,
    is_allowed: Callable[[str], bool] = lambda _: True,
    progress: Callable[[Tally], object] = lambda _: None,
    stop: threading.Event | None = None,
) -> Tally | None:
    """Bring the library up to what lies under `root`; None when stopped before the end.

    A video that somebody deleted is not brought back, whatever lies in the folder.

    Raises:
        ServiceUnavailable, ConcurrencyConflict: begin again later.
    """
    look = _Look(log, meta, where, fingerprint, stop or threading.Event())
    try:
        look.wait_for_index()
        found = video_files(root, recursive=recursive, is_allowed=is_allowed)
        while chunk := list(islice(found, CHUNK)):
            look.go_on()
            look.take_in([item for item in chunk if isinstance(item, VideoFile)])
            for item in chunk:
                if not isinstance(item, VideoFile):
                    look.tally.note(item)
            progress(look.tally)
        look.settle_changes()
        look.note_missing(root, recursive=recursive)
    except _Stopped:
        return None
    return look.tally


class _Look:
    def __init__(
        self, log: EventLog, meta: Meta, where: Whereabouts, fingerprint: Fingerprint, stop: threading.Event
    ) -> None:
        self._log, self._meta, self._where = log, meta, where
        self._fingerprint, self._stop = fingerprint, stop
        self._tenant = meta.tenant_id
        self.tally = Tally()
        self._changed: list[VideoFile] = []
        """Files that are not what is known of their videos: decided when all that moved has been found."""
        self._lost = Lost(where, meta.tenant_id)

    def go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def wait_for_index(self) -> None:
        """Videos that the read model does not know cannot be found again; a late one costs a second registration that
        the policies take back.
        """
        goal, deadline = self._log.head(), time.monotonic() + INDEX_S
        while self._where.index.position() < goal:
            self.go_on()
            if time.monotonic() > deadline:
                logger.warning("scan.read_model_behind", position=self._where.index.position(), head=goal)
                return
            self._stop.wait(0.05)

    # ---- what lies there -------------------------------------------------------------------------------------

    def take_in(self, files: Sequence[VideoFile]) -> None:
        """Register what is new, and find again what moved; what changed waits for the end."""
        self.tally.found += len(files)
        files = list({file.path: file for file in files}.values())
        known = self._where.at(self._tenant, [file.path for file in files])
        fresh: list[VideoFile] = []
        back: list[NoticeFile] = []
        for file in files:
            if any(fits(one, file) and not (one.is_missing or one.is_deleted) for one in known[file.path]):
                continue
            living = self._residents(file, known[file.path])
            if not living:
                fresh.append(file)
            elif not living[0][1].is_deleted:
                fitting = [video_id for video_id, state in living if fits(state, file)]
                if fitting:
                    back.append(self._notice(fitting[0], file))
                else:
                    self._changed.append(file)
        self._lost.prepare(fresh)
        self._register([file for file in fresh if not self._find_again(file)], back)

    def settle_changes(self) -> None:
        """Decide what became of the files that changed: another video's file may lie there now."""
        self._lost.prepare(self._changed)
        for file in self._changed:
            self._find_again(file)
        for start in range(0, len(self._changed), CHUNK):
            self.go_on()
            fresh: list[VideoFile] = []
            notices: list[NoticeFile | MarkMissing] = []
            for file in self._changed[start : start + CHUNK]:
                living = self._residents(file, self._where.at(self._tenant, [file.path])[file.path])
                if not living:
                    fresh.append(file)  # what was here has been found elsewhere
                    continue
                (video_id, state), *others = sorted(living, key=lambda one: not fits(one[1], file))
                if not state.is_deleted:
                    notices.append(self._notice(video_id, file))
                    notices += [self._missing(other) for other, _ in others]
            self._register(fresh, notices)

    def note_missing(self, root: str, *, recursive: bool) -> None:
        """Mark the videos under `root` whose file is gone."""
        gone = (
            known
            for known in self._where.index.under(self._tenant, root)
            if (recursive or str(Path(known.source).parent) == root)
            and self._where.presence(self._tenant, known) == "gone"
        )
        while chunk := list(islice(gone, CHUNK)):
            self.go_on()
            states = [(known, present(self._log, video, known.video_id)) for known in chunk]
            self._register(
                (), [self._missing(known.video_id) for known, now in states if _lies(now, known.source)]
            )

    def _residents(self, file: VideoFile, known: Iterable[KnownVideo]) -> list[tuple[UUID, Video]]:
        return residents(self._log, self._tenant, file.path, [one.video_id for one in known])

    def _notice(self, video_id: UUID, file: VideoFile) -> NoticeFile:
        return NoticeFile(
            stream_id=video_id,
            meta=self._meta,
            size_bytes=file.size_bytes,
            mtime_ms=file.mtime_ms,
            inode=file.inode,
        )

    def _missing(self, video_id: UUID) -> MarkMissing:
        return MarkMissing(stream_id=video_id, meta=self._meta)

    def _register(self, fresh: Sequence[VideoFile], notices: Sequence[NoticeFile | MarkMissing]) -> None:
        """Register files at places that had no video, and tell videos about theirs."""
        problems: dict[str, ScanProblem] = {}
        events: list[DomainEvent] = []

        def decided() -> Sequence[DomainEvent]:
            events.clear()
            problems.clear()
            for file in fresh:
                try:
                    events.extend(self._registration(file))
                except EiokuError as error:
                    if error.retryable:
                        raise
                    problems[file.path] = ScanProblem(file.path, str(error))
            for notice in notices:
                events.extend(decide(self._log, notice))
            return events

        store(self._log, decided)
        self.tally.registered += sum(isinstance(event, VideoRegistered) for event in events)
        self.tally.changed += sum(isinstance(event, VideoChanged) for event in events)
        self.tally.missing += sum(isinstance(event, video.VideoMissing) for event in events)
        for problem in problems.values():
            self.tally.note(problem)

    def _registration(self, file: VideoFile) -> Sequence[DomainEvent]:
        wish = RegisterVideo(
            stream_id=video_id_of(self._tenant, file.path),
            meta=self._meta,
            source=file.path,
            filename=Path(file.path).name,
            size_bytes=file.size_bytes,
            mtime_ms=file.mtime_ms,
            inode=file.inode,
        )
        return decide(self._log, msgspec.structs.replace(wish, stream_id=free_id(self._log, wish)))

    # ---- what moved ------------------------------------------------------------------------------------------

    def _find_again(self, file: VideoFile) -> bool:
        """Whether the file is that of a video whose own is gone; the video lies here from now on."""
        self.go_on()
        video_id = self._moved(file)
        if video_id is None:
            return False
        handle(
            self._log,
            RelocateVideo(
                stream_id=video_id,
                meta=self._meta,
                source=file.path,
                size_bytes=file.size_bytes,
                mtime_ms=file.mtime_ms,
                inode=file.inode,
            ),
        )
        self._lost.forget(video_id, file)
        state: Video | None = present(self._log, video, video_id)
        self.tally.relocated += state is not None and not state.is_deleted
        return True

    def _moved(self, file: VideoFile) -> UUID | None:
        if self._lost.has_read(file):
            try:
                blake3, _ = self._fingerprint(Path(file.path), lambda _done, _total: self.go_on())
            except EiokuError as error:
                if error.retryable:
                    raise
                return None  # whoever analyses it says what is wrong
            if (moved := self._where.moved(self._tenant, file, blake3)) is not None:
                return moved
        for video_id in self._lost.unread(file):
            state: Video | None = present(self._log, video, video_id)
            if state is None or state.blake3 is not None or not fits(state, file):
                continue
            is_renamed = state.inode is not None and state.inode == file.inode
            if (
                self._where.presence(self._tenant, state)
                in (("gone",), ("gone", "replaced", "unreachable"))[is_renamed]
            ):
                return video_id
        return None


def _lies(state: Video | None, source: str) -> bool:
    return state is not None and state.source == source
