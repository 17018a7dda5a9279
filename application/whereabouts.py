"""Where the files of videos are: who lies at a path, whose file is gone, and whose file one was before it moved.

The read model only proposes; every answer is checked against the log and the disk.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

from application.handle import present
from application.lagging import news_at
from application.ports import EventLog, KnownVideo, VideoIndex
from domain import content, video
from domain.content import Content, content_id_of
from domain.video import Video

Presence = Literal["there", "gone", "replaced", "unreachable"]
"""`replaced`: another file lies there. `unreachable`: the disk may only be away for a while."""


class VideoFile(msgspec.Struct, frozen=True):
    """A file as it lies on the disk."""

    path: str
    """Absolute, every symlink resolved."""
    size_bytes: int
    mtime_ms: int
    inode: int | None = None


def file_at(source: str) -> VideoFile | None:
    """The regular file at an absolute path, if it can be seen and no symlink leads there."""
    try:
        if not source.startswith("/") or os.path.realpath(source) != source:
            return None
        facts = Path(source).stat()
    except (OSError, ValueError):
        return None
    return file_of(source, facts) if stat.S_ISREG(facts.st_mode) else None


def file_of(path: str, facts: os.stat_result) -> VideoFile:
    """The file that was looked at."""
    # Some file systems number with all 64 bits; Postgres and JSON readers take 63 and 53.
    return VideoFile(path, facts.st_size, facts.st_mtime_ns // 1_000_000, facts.st_ino & (2**53 - 1))


def fits(known: Video | KnownVideo, file: VideoFile) -> bool:
    """Whether the file has the size and time that are known of the video's."""
    return (known.size_bytes, known.mtime_ms) == (file.size_bytes, file.mtime_ms)


class Whereabouts:
    """Answers for a short while: what was seen of the roots is not looked at again."""

    def __init__(self, log: EventLog, index: VideoIndex, roots: Iterable[str]) -> None:
        """`roots`: the folders that media may lie in."""
        self._log, self.index = log, index
        self._roots = sorted(
            (os.path.realpath(root) for root in roots if "://" not in root), key=len, reverse=True
        )
        self._scan_roots: dict[str, Sequence[str]] = {}
        self._is_usable: dict[str, bool] = {}

    # ---- who lies at a path ----------------------------------------------------------------------------------

    def at(self, tenant_id: str, sources: Sequence[str]) -> dict[str, list[KnownVideo]]:
        """What is known of these places, by source; of what the read model does not know yet, only the ids."""
        position = self.index.position()
        found: dict[str, list[KnownVideo]] = {source: [] for source in sources}
        for known in self.index.at(tenant_id, sources):
            found[known.source].append(known)
        for source, video_id in news_at(self._log, position, found):
            unread = KnownVideo(video_id=video_id, source=source, size_bytes=None, mtime_ms=None, blake3=None)
            found[source].append(unread)
        return found

    # ---- whose file is gone ----------------------------------------------------------------------------------

    def presence(self, tenant_id: str, known: Video | KnownVideo) -> Presence:
        """Whether the video's file is where it was."""
        source = known.source
        if not source.startswith("/"):
            return "there"  # nobody can say from here
        try:
            if os.path.realpath(source) != source:
                return "replaced"
            facts = Path(source).stat()
        except (FileNotFoundError, NotADirectoryError):
            return "gone" if self._is_reachable(tenant_id, source) else "unreachable"
        except (OSError, ValueError):
            return "unreachable"
        is_same = stat.S_ISREG(facts.st_mode) and (
            known.mtime_ms is None or fits(known, file_of(source, facts))
        )
        return "there" if is_same else "replaced"

    def _is_reachable(self, tenant_id: str, source: str) -> bool:
        """Whether the folders that it belongs to are there and hold anything: what is unmounted is not gone.

        These are its media root, and the folder of the newest scan that took it in. Outside of all roots only the
        latter counts.
        """
        if tenant_id not in self._scan_roots:
            self._scan_roots[tenant_id] = self.index.scan_roots(tenant_id)
        kinds = (self._roots, self._scan_roots[tenant_id])
        over = [next((root for root in roots if Path(source).is_relative_to(root)), None) for roots in kinds]
        return all(self._usable(root) for root in over if root is not None)

    def _usable(self, root: str) -> bool:
        if root not in self._is_usable:
            try:
                with os.scandir(root) as entries:
                    self._is_usable[root] = next(entries, None) is not None
            except OSError:
                self._is_usable[root] = False
        return self._is_usable[root]

    # ---- whose file one was before -----------------------------------------------------------------------------

    def moved(self, tenant_id: str, file: VideoFile, blake3: str) -> UUID | None:
        """The video whose file with this content is no longer where it was: this is it. Also one that was deleted."""
        holding: Content | None = present(self._log, content, content_id_of(tenant_id, blake3))
        ids = () if holding is None or holding.video_id is None else (holding.video_id, *holding.waiting)
        removed = [
            known.video_id
            for known in self.index.of_sizes(tenant_id, [file.size_bytes])
            if known.is_deleted and known.blake3 == blake3
        ]
        for video_id in (*ids, *removed):
            state: Video | None = present(self._log, video, video_id)
            if state is not None and state.blake3 == blake3 and self.is_displaced(tenant_id, state, file):
                return video_id
        return None

    def is_displaced(self, tenant_id: str, known: Video | KnownVideo, file: VideoFile) -> bool:
        """Whether the video's file is no longer where it was, so that `file`, if its content is the same, is it."""
        if known.source == file.path:
            return False
        presence = self.presence(tenant_id, known)
        # A renamed file keeps its number, and a copy has another one: then it moved, even from a disk that is away.
        is_renamed = isinstance(known, Video) and known.inode is not None and known.inode == file.inode
        return presence in ("gone", "replaced") or (presence == "unreachable" and is_renamed)


class Lost:
    """Videos that a new file may be, for one look: of its size, and not where they were."""

    def __init__(self, where: Whereabouts, tenant_id: str) -> None:
        self._where, self._tenant = where, tenant_id
        self._read: dict[int, dict[UUID, KnownVideo]] = {}
        """By size; those whose content is known."""
        self._unread: dict[tuple[int, int | None], dict[UUID, KnownVideo]] = {}
        """By size and time; the others."""

    def prepare(self, files: Sequence[VideoFile]) -> None:
        """Ask for the sizes of these files at once."""
        sizes = {file.size_bytes for file in files} - self._read.keys() - {0}
        for size in sizes:
            self._read[size] = {}
        for known in self._where.index.of_sizes(self._tenant, list(sizes)) if sizes else ():
            assert known.size_bytes is not None
            if known.blake3 is not None:
                self._read[known.size_bytes][known.video_id] = known
            else:
                self._unread.setdefault((known.size_bytes, known.mtime_ms), {})[known.video_id] = known

    def has_read(self, file: VideoFile) -> bool:
        """Whether the file's content may be that of one of them."""
        return next(self._gone(self._read.get(file.size_bytes, {}), file), None) is not None

    def unread(self, file: VideoFile) -> list[UUID]:
        """Videos whose content nobody has read, with the file's size, time and name.

        Without one of that name, the only one of that size and time.
        """
        candidates = self._unread.get((file.size_bytes, file.mtime_ms), {})
        name = Path(file.path).name
        named = {video_id: known for video_id, known in candidates.items() if Path(known.source).name == name}
        return [
            known.video_id
            for known in self._gone(named or (candidates if len(candidates) == 1 else {}), file)
        ]

    def forget(self, video_id: UUID, file: VideoFile) -> None:
        """It has been found."""
        self._read.get(file.size_bytes, {}).pop(video_id, None)
        self._unread.get((file.size_bytes, file.mtime_ms), {}).pop(video_id, None)

    def _gone(self, candidates: dict[UUID, KnownVideo], file: VideoFile) -> Iterator[KnownVideo]:
        for known in list(candidates.values()):
            if known.source == file.path:
                continue
            if self._where.presence(self._tenant, known) == "there":
                candidates.pop(known.video_id, None)  # looked at once
            else:
                yield known
