"""What lies in folders: the files that look like videos, and what is in the way."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from application.whereabouts import VideoFile, file_of
from domain.scan import ScanProblem

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
    return (file_of(path, facts),)


def _problem(path: str, error: Exception) -> ScanProblem:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return ScanProblem(_shown(path), f"cannot be opened: {reason}")


def _shown(path: str) -> str:
    """A path as text; bytes that are no UTF-8 as their hex codes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


