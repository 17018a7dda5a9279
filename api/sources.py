"""Which files and URLs may become videos."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from application.whereabouts import file_of
from domain.errors import InvalidParameter, PathNotAllowed
from infrastructure.media.source_cache import REMOTE, refusal

MOST_CHARACTERS = 4_096


class Source(msgspec.Struct, frozen=True):
    """Something that can be registered."""

    location: str
    """Absolute path with every symlink resolved, or URL."""
    filename: str
    size_bytes: int | None = None
    mtime_ms: int | None = None
    inode: int | None = None


def resolve(source: str, roots: Iterable[str | Path]) -> Source:
    """Where a client's `source` really is. Looks at the file's size and time, never into it.

    Raises:
        PathNotAllowed: under none of the roots, after resolving symlinks.
        InvalidParameter: no path or URL, or no regular file there.
    """
    if not source.strip() or len(source) > MOST_CHARACTERS or "\0" in source:
        raise InvalidParameter("source", f"a path or URL of 1 to {MOST_CHARACTERS} characters")
    with _told("source"):
        return _resolved(source, roots)


@contextmanager
def _told(parameter: str) -> Iterator[None]:
    """What the standard library and the file system say of an odd path or URL, as an error of the parameter."""
    try:
        yield
    except OSError as error:
        raise InvalidParameter(parameter, f"cannot be opened: {os.strerror(error.errno or 0)}") from error
    except ValueError as error:
        raise InvalidParameter(parameter, f"is no path or URL: {error}") from error


def _resolved(source: str, roots: Iterable[str | Path]) -> Source:
    if source.startswith("/"):
        return _local(source, source, roots)
    scheme = urlsplit(source).scheme if "://" in source else "file" if source.startswith("file:") else ""
    if scheme in REMOTE:
        return _remote(source, roots)
    if scheme == "file":
        url = urlsplit(source)
        if url.netloc not in ("", "localhost"):
            raise PathNotAllowed(source)
        return _local(source, unquote(url.path), roots)
    if scheme:
        raise InvalidParameter("source", refusal(source) or "is no path or URL")
    raise InvalidParameter("source", "a path must be absolute")


def resolve_folder(root: str, roots: Iterable[str | Path]) -> str:
    """The folder that a client wants looked through; raises as `resolve` does, naming `root`."""
    if not root.strip() or len(root) > MOST_CHARACTERS:
        raise InvalidParameter("root", f"a path of 1 to {MOST_CHARACTERS} characters")
    with _told("root"):
        real = Path(os.path.realpath(root))
        if not Path(root).is_absolute() or not _is_under(real, roots):
            raise InvalidParameter("root", "is not under an allowed root; add its folder to EIOKU_MEDIA_ROOTS")
        if not stat.S_ISDIR(real.stat().st_mode):
            raise InvalidParameter("root", "is no folder")
        str(real).encode()  # what is no UTF-8 cannot be stored
        return str(real)


def _remote(source: str, roots: Iterable[str | Path]) -> Source:
    url = urlsplit(source)
    # A prefix ends where a name ends: s3://films must not let s3://films-of-others in. Dot segments could climb out.
    climbs = any(part in (".", "..") for part in unquote(url.path).split("/"))
    prefixes = [str(root).rstrip("/") + "/" for root in roots if "://" in str(root)]
    if climbs or not any(source.startswith(prefix) for prefix in prefixes):
        raise PathNotAllowed(source)
    if (why := refusal(source)) is not None:
        raise InvalidParameter("source", why)
    return Source(location=source, filename=unquote(url.path.rpartition("/")[2]) or url.netloc)


def _local(source: str, path: str, roots: Iterable[str | Path]) -> Source:
    if not path.startswith("/"):
        raise InvalidParameter("source", "a path must be absolute")
    real = Path(os.path.realpath(path))
    if not _is_under(real, roots):
        raise PathNotAllowed(source)
    str(real).encode()  # what is no UTF-8 cannot be stored
    facts = real.stat()
    if stat.S_ISDIR(facts.st_mode):
        raise InvalidParameter("source", "is a folder; POST /v1/discover takes folders")
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidParameter("source", "is no regular file")
    file = file_of(str(real), facts)
    return Source(
        location=file.path,
        filename=Path(path).name,
        size_bytes=file.size_bytes,
        mtime_ms=file.mtime_ms,
        inode=file.inode,
    )


def _is_under(real: Path, roots: Iterable[str | Path]) -> bool:
    return any(real.is_relative_to(os.path.realpath(root)) for root in roots if "://" not in str(root))
