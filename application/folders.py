"""What lies in folders: the files that look like films, what is in the way, and what is passed over on purpose."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from application.ignored import NO_MEDIA, Rules, rules_in
from application.kinds import is_film, is_proxy, may_be_proxy, why_not_file, why_not_folder
from application.whereabouts import VideoFile, file_of
from domain.scan import PassedOver, ScanProblem

Found = VideoFile | ScanProblem | PassedOver


def video_files(
    root: str, *, recursive: bool, is_allowed: Callable[[str], bool] = lambda _: True
) -> Iterator[Found]:
    """The films under `root`, in no order, and what is to be told; holds the names of one folder at a time.

    A symlink is followed where `is_allowed` says so of the place it leads to; each folder is looked through once, so
    links that lead back do no harm.
    """
    folders = [(os.path.realpath(root), Rules())]
    seen: set[tuple[int, int]] = set()
    while folders:
        folder, rules = folders.pop()
        try:
            if not is_allowed(os.path.realpath(folder)):
                # It was a folder of a root when it was asked for, or seen: something else has taken its place.
                yield ScanProblem(_shown(folder), "leads out of the allowed roots")
                continue
            facts = Path(folder).stat()
            if (facts.st_dev, facts.st_ino) in seen:
                continue
            seen.add((facts.st_dev, facts.st_ino))
            with os.scandir(folder):
                pass  # what is in the way of the folder is told before its rules are asked for
            if os.path.lexists(f"{folder}/{NO_MEDIA}"):
                yield PassedOver(_shown(folder), f"{NO_MEDIA} lies in it")
                continue
            rules, problem = rules_in(folder, rules)
            if problem is not None:
                yield problem
            inner: list[str] = []
            yield from _in_folder(folder, rules, is_allowed, inner if recursive else None)
            folders += [(path, rules) for path in inner]
        except OSError as error:
            yield _problem(folder, error)


def _in_folder(
    folder: str, rules: Rules, is_allowed: Callable[[str], bool], inner: list[str] | None
) -> Iterator[Found]:
    """The folder's films and what is to be told; its folders go into `inner`, if anybody wants them."""
    beside: set[str] = set()
    """Names of its films in lower case."""
    proxies: list[tuple[str, VideoFile]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            found = _look_at(entry, rules, is_allowed)
            if isinstance(found, str):
                if inner is not None:
                    inner.append(found)
            elif isinstance(found, VideoFile) and may_be_proxy(entry.name):
                proxies.append((entry.name, found))
            elif found is not None:
                if isinstance(found, VideoFile):
                    beside.add(entry.name.lower())
                yield found
    for name, file in proxies:
        yield PassedOver(file.path, "a camera's small copy of the film beside it") if is_proxy(name, beside) else file


def _look_at(entry: os.DirEntry[str], rules: Rules, is_allowed: Callable[[str], bool]) -> str | Found | None:
    """The real path of a folder; else the film, or what is to be told of the entry, if anything."""
    reason = why_not_file(entry.name)
    looks_like_film = reason is not None or is_film(entry.name)
    try:
        is_folder = entry.is_dir()
        if is_folder:
            reason = why_not_folder(entry.name)
        elif not looks_like_film:
            return None
        if reason is None and rules.ignore(entry.path, is_folder=is_folder):
            reason = "named in .eiokuignore"
        if reason is not None:
            # Every library has hidden folders; only what may hold films is worth a word.
            return None if is_folder and reason == "hidden" else PassedOver(_shown(entry.path), reason)
        path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        if entry.is_symlink() and not is_allowed(path):
            return ScanProblem(_shown(entry.path), "leads out of the allowed roots")
        if is_folder:
            return path
        path.encode()
        facts = entry.stat()
        if not stat.S_ISREG(facts.st_mode):
            return ScanProblem(_shown(path), "is no regular file")
        if not os.access(path, os.R_OK):
            return ScanProblem(_shown(path), "may not be read by this user; check its permissions")
    except UnicodeEncodeError:
        return ScanProblem(_shown(entry.path), "its name is not UTF-8; rename it")
    except (OSError, ValueError) as error:
        return _problem(entry.path, error) if looks_like_film else None
    return file_of(path, facts)


def _problem(path: str, error: Exception) -> ScanProblem:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return ScanProblem(_shown(path), f"cannot be opened: {reason}")


def _shown(path: str) -> str:
    """A path as text; bytes that are no UTF-8 as their hex codes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
