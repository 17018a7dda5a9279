"""Looking through folders for videos. Looking again changes nothing, so a look that was cut off simply begins anew."""

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from application.handle import decide, handle, present, store
from application.policies import SCANNER
from application.ports import Clock, EventLog
from domain import scan, video
from domain.errors import EiokuError
from domain.event import DomainEvent, Meta
from domain.scan import CompleteScan, Scan, ScanCompleted, ScanEvent, ScanProblem, ScanRequested
from domain.video import NoticeFile, RegisterVideo, Video, VideoChanged, VideoRegistered, video_id_of

logger = structlog.get_logger()

ENDINGS = (
    ".mp4",
    ".mov",
    ".avi",
    ".mkv",
    ".m4v",
    ".webm",
    ".mts",
    ".m2ts",
    ".ts",
    ".3gp",
    ".wmv",
    ".flv",
    ".mpg",
    ".mpeg",
)
TOPICS = tuple(event.TOPIC for event in scan.EVENTS)
CHUNK = 100
"""Files stored in one append."""
MOST_PROBLEMS = 100
WATCH_EVERY_S = 60.0
RETRY_S = 5.0


class VideoFile(msgspec.Struct, frozen=True):
    """A file that looks like a video by its name."""

    path: str
    """Absolute, every symlink resolved."""
    size_bytes: int
    mtime_ms: int


class Tally(msgspec.Struct):
    """What one look has found so far."""

    found: int = 0
    registered: int = 0
    changed: int = 0
    problem_count: int = 0
    problems: list[ScanProblem] = msgspec.field(default_factory=list)
    """The first `MOST_PROBLEMS`."""

    def note(self, problem: ScanProblem) -> None:
        """Count a file that could not be taken in."""
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)


# ---- the folder --------------------------------------------------------------------------------------------------


def video_files(
    root: str, *, recursive: bool, is_allowed: Callable[[str], bool] = lambda _: True
) -> Iterator[VideoFile | ScanProblem]:
    """The videos under `root`, in no order, and what is in the way; holds one folder's subfolders, not its files.

    Hidden files and folders are passed over. A symlink is followed where `is_allowed` says so of the place it leads to;
    each folder is looked through once, so links that lead back do no harm.
    """
    folders = [os.path.realpath(root)]
    seen: set[tuple[int, int]] = set()
    while folders:
        folder = folders.pop()
        try:
            if not is_allowed(os.path.realpath(folder)):
                # It was a folder of a root when it was asked for, or seen: something else has taken its place.
                yield ScanProblem(_shown(folder), "leads out of the allowed roots")
                continue
            facts = Path(folder).stat()
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    found = _look_at(entry, is_allowed)
                    if not isinstance(found, str):
                        yield from found
                    elif recursive:
                        folders.append(found)
        except OSError as error:
            yield _problem(folder, error)


def _look_at(
    entry: os.DirEntry[str], is_allowed: Callable[[str], bool]
) -> str | tuple[VideoFile | ScanProblem, ...]:
    """The real path of a folder; else what is to be told of the entry, if anything."""
    if entry.name.startswith("."):
        return ()
    looks_like_video = entry.name.lower().endswith(ENDINGS)
    try:
        is_folder = entry.is_dir()
        if not is_folder and not looks_like_video:
            return ()
        path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        if entry.is_symlink() and not is_allowed(path):
            return (ScanProblem(_shown(entry.path), "leads out of the allowed roots"),)
        if is_folder:
            return path
        path.encode()
        facts = entry.stat()
        if not stat.S_ISREG(facts.st_mode):
            return (ScanProblem(_shown(path), "is no regular file"),)
        if not os.access(path, os.R_OK):
            return (ScanProblem(_shown(path), "may not be read by this user; check its permissions"),)
    except UnicodeEncodeError:
        return (ScanProblem(_shown(entry.path), "its name is not UTF-8; rename it"),)
    except (OSError, ValueError) as error:
        return (_problem(entry.path, error),) if looks_like_video else ()
    return (VideoFile(path, facts.st_size, facts.st_mtime_ns // 1_000_000),)


def _problem(path: str, error: Exception) -> ScanProblem:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return ScanProblem(_shown(path), f"cannot be opened: {reason}")


def _shown(path: str) -> str:
    """A path as text; bytes that are no UTF-8 as their hex codes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# ---- one look ----------------------------------------------------------------------------------------------------


def look_through(
    log: EventLog,
    root: str,
    meta: Meta,
    *,
    recursive: bool,
    is_allowed: Callable[[str], bool] = lambda _: True,
    progress: Callable[[Tally], object] = lambda _: None,
    stop: threading.Event | None = None,
) -> Tally | None:
    """Register what is new under `root` and note what has changed; None when stopped before the end.

    A video that somebody deleted is not brought back, whatever lies in the folder.

    Raises:
        ServiceUnavailable, ConcurrencyConflict: begin again later.
    """
    tally = Tally()
    found = video_files(root, recursive=recursive, is_allowed=is_allowed)
    while chunk := list(islice(found, CHUNK)):
        if stop is not None and stop.is_set():
            return None
        files: dict[UUID, VideoFile] = {}
        for item in chunk:
            if isinstance(item, ScanProblem):
                tally.note(item)
            else:
                files[video_id_of(meta.tenant_id, item.path)] = item
        tally.found += len(files)
        _take_in(log, files, meta, tally)
        progress(tally)
    return tally


def _take_in(log: EventLog, files: dict[UUID, VideoFile], meta: Meta, tally: Tally) -> None:
    problems: dict[UUID, ScanProblem] = {}
    events: list[DomainEvent] = []

    def decided() -> Sequence[DomainEvent]:
        events.clear()
        problems.clear()
        for video_id, file in files.items():
            try:
                events.extend(_news(log, video_id, file, meta))
            except EiokuError as error:
                if error.retryable:
                    raise
                problems[video_id] = ScanProblem(file.path, str(error))
        return events

    store(log, decided)
    tally.registered += sum(isinstance(event, VideoRegistered) for event in events)
    tally.changed += sum(isinstance(event, VideoChanged) for event in events)
    for problem in problems.values():
        tally.note(problem)


def _news(log: EventLog, video_id: UUID, file: VideoFile, meta: Meta) -> Sequence[DomainEvent]:
    state: Video | None = present(log, video, video_id)
    if state is None or state.tenant_id != meta.tenant_id:
        wish = RegisterVideo(
            stream_id=video_id,
            meta=meta,
            source=file.path,
            filename=Path(file.path).name,
            size_bytes=file.size_bytes,
            mtime_ms=file.mtime_ms,
        )
        return decide(log, wish)  # refused when the id is taken by something else
    if state.is_deleted or state.source != file.path:
        return ()
    notice = NoticeFile(stream_id=video_id, meta=meta, size_bytes=file.size_bytes, mtime_ms=file.mtime_ms)
    return video.decide(state, notice)


# ---- requested and watched folders -------------------------------------------------------------------------------


class _Look(msgspec.Struct):
    """A folder that is to be looked through, now or again."""

    state: Scan
    correlation_id: UUID
    due: float
    """On `time.monotonic`'s clock."""
    problems: Sequence[ScanProblem] = ()
    """Of the last look."""


class Scanner:
    """Carries out the scans that the log asks for, one after the other, and those that watch again and again.

    Needs no checkpoint: which scans are open is read from the log at the start.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        clock: Clock,
        is_allowed: Callable[[str], bool],
        progress: Callable[[UUID, Tally], object] = lambda _scan_id, _tally: None,
        watch_every_s: float = WATCH_EVERY_S,
    ) -> None:
        self._log, self._clock, self._is_allowed = log, clock, is_allowed
        self._progress, self._watch_every_s = progress, watch_every_s
        self._position = 0
        self._looks: dict[UUID, _Look] = {}

    def run(self, wait: Callable[[], object], stop: threading.Event) -> None:
        """Scan until `stop` is set. `wait` returns when there may be news in the log, and from time to time anyway."""
        while not stop.is_set():
            try:
                if not self.step(stop):
                    wait()
            except EiokuError as error:
                if not error.retryable:
                    raise
                logger.warning("scan.interrupted", error=repr(error), again_in_s=RETRY_S)
                stop.wait(RETRY_S)

    def step(self, stop: threading.Event | None = None) -> bool:
        """Look through one folder that is due; False when none is."""
        self._read()
        now = time.monotonic()
        due = [scan_id for scan_id, look in self._looks.items() if look.due <= now]
        if not due:
            return False
        self._look(due[0], self._looks[due[0]], stop)
        return True

    def _read(self) -> None:
        while records := self._log.read(self._position, kinds=TOPICS):
            for record in records:
                self._position = record.position
                if isinstance(record.item, ScanEvent):
                    self._note(record.item)

    def _note(self, event: ScanEvent) -> None:
        scan_id = event.originator_id
        look = self._looks.get(scan_id)
        if isinstance(event, ScanRequested):
            self._looks[scan_id] = _Look(scan.evolve(None, event), event.correlation_id, time.monotonic())
        elif look is not None:
            look.state = scan.evolve(look.state, event)
            if isinstance(event, ScanCompleted):
                look.problems = event.problems
            if look.state.has_completed and not look.state.is_watched:
                del self._looks[scan_id]

    def _look(self, scan_id: UUID, look: _Look, stop: threading.Event | None) -> None:
        state = look.state
        meta = Meta(
            at=self._clock(),
            tenant_id=state.tenant_id,
            actor=SCANNER,
            correlation_id=look.correlation_id,
            causation_id=str(scan_id),
        )
        tally = look_through(
            self._log,
            state.root,
            meta,
            recursive=state.recursive,
            is_allowed=self._is_allowed,
            progress=lambda so_far: self._progress(scan_id, so_far),
            stop=stop,
        )
        if tally is None:
            return
        is_news = tally.registered or tally.changed or tally.problems != list(look.problems)
        if is_news or not state.has_completed:
            self._complete(scan_id, meta, tally)
        look.due = time.monotonic() + self._watch_every_s

    def _complete(self, scan_id: UUID, meta: Meta, tally: Tally) -> None:
        logger.info(
            "scan.completed",
            scan_id=str(scan_id),
            found=tally.found,
            registered=tally.registered,
            changed=tally.changed,
            problems=tally.problem_count,
        )
        wish = CompleteScan(
            stream_id=scan_id,
            meta=msgspec.structs.replace(meta, at=self._clock()),
            found=tally.found,
            registered=tally.registered,
            changed=tally.changed,
            problems=tuple(tally.problems),
            problem_count=tally.problem_count,
        )
        handle(self._log, wish)
