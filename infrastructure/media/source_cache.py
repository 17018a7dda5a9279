"""Sources as files on this machine: local paths as they are, URLs by way of a bounded folder of copies.

The folder is shared by all processes of the machine. Each file in it, half fetched or whole, is locked (shared) by
those who use it; what nobody holds may be removed to make room, also what a killed process left behind.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import msgspec

from domain.errors import MediaMissing, MediaUnreadable, ServiceUnavailable, TooLarge

if TYPE_CHECKING:
    from obstore import GetResult

MAX_BYTES = 20 << 30
REMOTE = frozenset({"s3", "gs", "az", "https", "http"})
"""Schemes of sources that lie elsewhere; `http` counts on this machine only."""
PIECE = 8 << 20
WAIT_S = 1.0
_ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
"""Variables of the stores' own tools, for a store of one's own without TLS."""

OnBytes = Callable[[int, int], None]


class SourceCache(msgspec.Struct, frozen=True, kw_only=True):
    """A folder for copies."""

    folder: Path
    max_bytes: int = MAX_BYTES
    """Room for copies; the ones longest unused go first."""


def refusal(url: str) -> str | None:
    """Why a URL of a source, or of a prefix of sources, cannot be read; None when it can."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.scheme not in REMOTE:
        return f"only paths and file, s3, gs, az and https URLs can be read, not {parts.scheme}:"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return "plain http is for addresses of this machine (127.0.0.1) only; use https"
    if parts.query or parts.fragment:
        return "a URL with a query or fragment cannot be read: ? is written %3F in a name, # is %23"
    name = unquote(parts.path)
    if not (url + name).replace(" ", "_").isprintable():
        return "a URL with control characters cannot be read"
    if any(part in (".", "..") for part in name.split("/")) or "//" in name.strip("/"):
        return "no part of the path of a URL may be empty, . or .."
    return None


def _is_loopback(host: str | None) -> bool:
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def localised(source: str, cache: SourceCache, on_bytes: OnBytes = lambda _done, _total: None) -> Iterator[Path]:
    """The file that `source` (an absolute path, or a file:, s3:, gs:, az: or https: URL) means, for the block.

    A copy is used again while the store says that the object is the same. Credentials come from the environment, as the
    stores' own tools read them. `on_bytes(done, total)` is called while it is fetched, and while it waits for room;
    what it raises ends the work and leaves nothing behind.

    Raises:
        MediaMissing: there is no such object, or it may not be read.
        MediaUnreadable: a kind of URL that is not read.
        TooLarge: it would not fit even if it were alone.
        ServiceUnavailable: the store cannot be reached, or the disk is full.
    """
    with ExitStack() as stack:
        yield _path_of(source) or _held(source, cache, on_bytes, stack)


def _path_of(source: str) -> Path | None:
    if source.startswith("/"):
        return Path(source)
    return Path(unquote(urlsplit(source).path)) if source.startswith("file:") else None


def _held(source: str, cache: SourceCache, on_bytes: OnBytes, stack: ExitStack) -> Path:
    """A copy that stays until `stack` is left."""
    from obstore.exceptions import BaseError

    if (why := refusal(source)) is not None:
        raise MediaUnreadable(f"{source}: {why}")
    answer = _get(source)
    size = answer.meta["size"]
    if size > cache.max_bytes:
        raise TooLarge(
            f"{source} has {size} bytes, the room for copies is {cache.max_bytes}: raise EIOKU_SOURCE_CACHE_BYTES"
        )
    try:
        cache.folder.mkdir(parents=True, exist_ok=True)
        copy = cache.folder / _name_of(source, answer)
        stack.enter_context(_kept(cache, copy) or _fetched(answer, cache, copy, on_bytes))
    except BaseError as error:
        raise _interrupted(source, error) from error
    except OSError as error:
        raise ServiceUnavailable(
            f"{source} cannot be kept in {cache.folder}: {error.strerror or error}"
        ) from error
    return copy


def _get(source: str) -> "GetResult":
    """The open object; raises as `localised`."""
    import obstore
    from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
    from obstore.store import from_url

    url = urlsplit(source)
    allow_http = os.environ.get(_ALLOW_HTTP.get(url.scheme, ""), "").lower() in ("1", "true")
    try:
        store = from_url(
            f"{url.scheme}://{url.netloc}",
            # However long a film takes, only silence ends it. Another attempt is the caller's business.
            client_options={
                "timeout": "1d",
                "read_timeout": "30s",
                "allow_http": allow_http or url.scheme == "http",
            },
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
        )
        return obstore.get(store, unquote(url.path).lstrip("/"))
    except (NotFoundError, FileNotFoundError) as error:
        raise MediaMissing(f"there is no {source}") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise MediaMissing(f"{source} may not be read with the credentials at hand") from error
    except BaseError as error:
        raise _interrupted(source, error) from error
    except ValueError as error:
        raise MediaUnreadable(f"{source} names no object: {error}") from error


def _interrupted(source: str, error: Exception) -> ServiceUnavailable:
    # What follows the first line is the client's inner state.
    return ServiceUnavailable(f"{source} cannot be fetched: {str(error).splitlines()[0][:300]}")


def _name_of(source: str, answer: "GetResult") -> str:
    """Of the copy: another one for each version of the object."""
    meta: Any = answer.meta
    version = meta.get("e_tag") or meta["last_modified"]
    if version == datetime.fromtimestamp(0, UTC):
        version = uuid4()  # the server does not tell versions apart, so no copy can be trusted
    told = f"{source}\n{version}\n{meta['size']}"
    return sha256(told.encode()).hexdigest() + PurePosixPath(unquote(urlsplit(source).path)).suffix


# ---- the folder --------------------------------------------------------------------------------------------------


@contextmanager
def _alone(cache: SourceCache) -> Iterator[None]:
    """Nobody else looks at or changes the folder meanwhile."""
    with (cache.folder / ".lock").open("ab") as file:
        flock(file, LOCK_EX)
        yield


def _kept(cache: SourceCache, copy: Path) -> BinaryIO | None:
    """The copy, in use until it is closed; None when there is none."""
    with _alone(cache):
        return _taken(copy)


def _taken(copy: Path) -> BinaryIO | None:
    try:
        file = copy.open("rb")
    except FileNotFoundError:
        return None
    flock(file, LOCK_SH)
    os.utime(copy)  # marks it as used
    return file


def _fetched(answer: "GetResult", cache: SourceCache, copy: Path, on_bytes: OnBytes) -> BinaryIO:
    """A fresh copy, in use until it is closed."""
    size = answer.meta["size"]
    partial = cache.folder / f"{uuid4().hex}.part"
    while (file := _reserved(cache, partial, size)) is None:
        on_bytes(0, size)
        time.sleep(WAIT_S)
    try:
        done = 0
        for piece in answer.stream(min_chunk_size=PIECE):
            done += file.write(piece)
            on_bytes(done, size)
        file.flush()
        with _alone(cache):
            # Somebody else may have been quicker, and who uses that one must not lose it.
            if (other := _taken(copy)) is None:
                partial.replace(copy)
                return file
            partial.unlink()
    except BaseException:
        with _alone(cache):
            partial.unlink(missing_ok=True)
        file.close()
        raise
    file.close()
    return other


def _reserved(cache: SourceCache, partial: Path, size: int) -> BinaryIO | None:
    """An empty file that counts with its full size from now on; None while what is in use leaves no room."""
    with _alone(cache):
        if not make_room(cache.folder, cache.max_bytes - size):
            return None
        file = partial.open("xb")
        flock(file, LOCK_SH)
        file.truncate(size)
        return file


def make_room(folder: Path, max_bytes: int) -> bool:
    """Remove the copies longest unused until at most `max_bytes` are left; False when what is in use is more."""
    copies = [(found.stat(), found) for found in folder.iterdir() if not found.name.startswith(".")]
    copies.sort(key=lambda copy: copy[0].st_mtime)
    held = sum(stat.st_size for stat, _ in copies)
    for stat, copy in copies:
        if held <= max_bytes:
            break
        with copy.open("rb") as file:
            try:
                flock(file, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                continue
            copy.unlink()
            held -= stat.st_size
    return held <= max_bytes
