"""Opening a file for what it is now: a regular file beneath an allowed folder, whatever was put in its place since it
was registered.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from domain.errors import MediaMissing

# A folder on the way need not be readable, as with any path; macOS has no O_PATH.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO without a writer would be waited for. O_NOCTTY: a terminal must not become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DESCRIPTORS = Path("/proc/self/fd")


class Roots:
    """The folders in which this process may open media; None = all, for commands that their user gives a path."""

    def __init__(self) -> None:
        self.folders: tuple[str, ...] | None = None


ROOTS = Roots()
"""Of this process. Workers, and the processes that decode for the API, set it when they start."""


def open_beneath(path: Path, folders: Iterable[str | Path] | None) -> int:
    """A descriptor of the regular file at `path`, beneath one of `folders` after resolving every symlink.

    Nothing that is swapped meanwhile can lead out: once resolved, the path is walked without following symlinks.

    Raises:
        MediaMissing: not there, outside the folders, not a regular file, or not readable by this user.
    """
    try:
        real = Path(os.path.realpath(path))
        root = Path("/") if folders is None else _root_of(path, real, folders)
        return _walked(path, root, real.relative_to(root).parts)
    except FileNotFoundError as error:
        raise MediaMissing(f"there is no file {path}") from error
    except PermissionError as error:
        raise MediaMissing(f"{path} may not be read by this user; check its permissions") from error
    except (OSError, ValueError) as error:  # ValueError: NUL, or what no file system can encode
        if isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise MediaMissing(f"{path} has become a symlink while it was opened") from error
        raise MediaMissing(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """As `open_beneath` the `ROOTS` of this process; closed behind the block."""
    descriptor = open_beneath(path, ROOTS.folders)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def again(path: Path, descriptor: int) -> Path:
    """A name by which a library opens the very file behind `descriptor`, with an offset of its own."""
    # Elsewhere than on Linux there is none.
    return _DESCRIPTORS / str(descriptor) if _DESCRIPTORS.is_dir() else path


def _root_of(path: Path, real: Path, folders: Iterable[str | Path]) -> Path:
    for folder in folders:
        if "://" not in str(folder) and real.is_relative_to(root := Path(os.path.realpath(folder))):
            return root
    raise MediaMissing(
        f"{path} leads out of the folders that may be read; add its folder to EIOKU_MEDIA_ROOTS if it belongs there"
    )


def _walked(path: Path, root: Path, parts: tuple[str, ...]) -> int:
    if not parts:
        raise MediaMissing(f"{path} is a folder, not a media file")
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Looked at before it is opened, for opening a device can set it going, and after, for it may be another by then.
        _require_regular(path, os.stat(parts[-1], dir_fd=folder, follow_symlinks=False))
        file = os.open(parts[-1], _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _require_regular(path, os.fstat(file))
    except BaseException:
        os.close(file)
        raise
    return file


def _require_regular(path: Path, facts: os.stat_result) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise MediaMissing(f"{path} is a folder, not a media file")
    if stat.S_ISLNK(facts.st_mode):  # every symlink was resolved, so this one leads back to itself or is new
        raise MediaMissing(f"{path} cannot be opened: its symlinks lead in a circle, or are being changed")
    if not stat.S_ISREG(facts.st_mode):
        raise MediaMissing(f"{path} is not a regular file")
