"""Uploads: multipart bodies straight to disk, never whole in memory."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import msgspec
from litestar.datastructures import Headers
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserError,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from api.problems import MalformedBody
from domain.errors import InvalidParameter, ServiceUnavailable, TooLarge

WAITING, _ONCE_WAITING = ".incoming", "incoming"
"""Where uploads wait, below the folder that has one for each tenant: no tenant's name has a dot."""
ABANDONED_S = 86_400
"""An upload to which nothing was added for so long was left by a process that was killed."""
MOST_FIELD_BYTES = 64 * 1024
MOST_PARTS = 32
WRITE = 1024 * 1024
"""Bytes gathered before a write goes to a thread."""
TURN_S = 30.0
"""How long an upload waits for another of the same video to be registered."""
MOST_NAME_BYTES = 200
"""File systems take 255; the rest is room for endings of our own."""


class Upload(msgspec.Struct, frozen=True):
    """A file that has arrived. It lies in a waiting place until `keep` or `drop`."""

    waiting: Path
    filename: str
    """As the client calls it, without folders."""
    size_bytes: int
    sha256: str
    fields: dict[str, str]
    """The other parts of the form."""

    def keep(self, folder: Path) -> tuple[Path, bool]:
        """Move the file to its place for good below the video's `folder`; whether it is new there. The same content again
        has the same place. Within `alone` only: who loses removes the file, and it must be nobody else's.

        Raises:
            ServiceUnavailable: the disk is full.
        """
        place = folder / self.sha256[:16] / safe_name(self.filename)
        if place.exists():
            return place, False
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self.waiting.replace(place)
        except OSError as error:
            raise _not_stored(error) from error
        return place, True

    def drop(self) -> None:
        """Remove the file from the waiting place."""
        self.waiting.unlink(missing_ok=True)


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[None]:
    """Nobody else, in whatever API process, keeps an upload in that folder meanwhile; raises ServiceUnavailable."""
    until = time.monotonic() + TURN_S
    # Asked again and again: uploads that waited in threads would leave none for the one that they wait for.
    while (held := await asyncio.to_thread(_locked, folder)) is None:
        if time.monotonic() > until:
            raise ServiceUnavailable("other uploads of this video are not done yet; try again")
        await asyncio.sleep(0.02)
    try:
        yield
    finally:
        await asyncio.to_thread(_let_go, folder, held)


def _locked(folder: Path) -> int | None:
    """A descriptor of the folder that holds its lock; None when somebody else has it, or has just removed it."""
    descriptor = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flock(descriptor, LOCK_EX | LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        raise _not_stored(error) from error
    if descriptor is not None:
        os.close(descriptor)
    return None


def _let_go(folder: Path, held: int) -> None:
    with suppress(OSError):
        folder.rmdir()  # nothing was kept
    os.close(held)


def remove(place: Path) -> None:
    """Take back what was kept."""
    place.unlink(missing_ok=True)
    with suppress(OSError):
        place.parent.rmdir()


def _not_stored(error: OSError) -> ServiceUnavailable:
    return ServiceUnavailable(f"the upload cannot be stored: {os.strerror(error.errno or 0)}")


def safe_name(filename: str) -> str:
    """A name that any file system takes and that cannot leave its folder; the ending stays."""
    base = re.split(r"[/\\]", filename)[-1]
    clean = "".join("_" if c in '<>:"|?*' or not c.isprintable() else c for c in base).strip(". ") or "upload"
    stem, dot, ending = clean.rpartition(".")
    if not dot or len(ending.encode()) > 16:
        stem, dot, ending = clean, "", ""
    room = MOST_NAME_BYTES - len((dot + ending).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + ending


def remove_abandoned(uploads: Path) -> None:
    """Remove what killed processes left in the waiting place, and in that of older versions, a tenant's folder."""
    for waiting in (uploads / WAITING, uploads / _ONCE_WAITING):
        for part in waiting.glob("*.part"):  # films lie two folders deeper
            with contextlib.suppress(OSError):
                if part.is_file() and time.time() - part.stat().st_mtime > ABANDONED_S:
                    part.unlink()


async def receive(body: AsyncIterator[bytes], headers: Headers, folder: Path, *, max_bytes: int) -> Upload:
    """Store the one file of a multipart form below `folder`, and read its other fields.

    Raises:
        TooLarge: more than `max_bytes` in all; what had come is removed.
        MalformedBody: no multipart form, or cut off.
        InvalidParameter: no part `file`, or two.
        ServiceUnavailable: the disk is full.
    """
    _, options = parse_options_header(headers.get("content-type", ""))
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise TooLarge(f"an upload has at most {max_bytes} bytes")
    if not options.get("boundary"):
        raise MalformedBody("multipart/form-data needs a boundary")
    form = _Form(folder / f"{uuid4()}.part")
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        await _parse(body, options["boundary"], form, max_bytes)
        form.close()
    except OSError as error:
        form.abandon()
        raise _not_stored(error) from error
    except BaseException:
        form.abandon()
        raise
    if form.filename is None:
        raise InvalidParameter("file", "the form has no part `file` with a file name")
    return Upload(
        waiting=form.path,
        filename=form.filename,
        size_bytes=form.size,
        sha256=form.digest.hexdigest(),
        fields=form.fields,
    )


async def _parse(body: AsyncIterator[bytes], boundary: str, form: "_Form", max_bytes: int) -> None:
    total = 0
    try:
        with PushMultipartParser(
            boundary, max_segment_count=MOST_PARTS, max_header_size=8 * 1024, max_segment_size=max_bytes
        ) as parser:
            async for chunk in body:
                total += len(chunk)
                if total > max_bytes:
                    raise TooLarge(f"an upload has at most {max_bytes} bytes")
                for event in parser.parse(chunk):
                    form.take(event)
                if form.held >= WRITE:
                    await asyncio.to_thread(form.write)
            for event in parser.parse(b""):
                form.take(event)
            await asyncio.to_thread(form.write)
    except ParserLimitReached as error:
        raise TooLarge(str(error)) from error
    except (ParserError, MultipartError, UnicodeDecodeError, ValueError) as error:
        raise MalformedBody(f"the multipart form cannot be read: {error}") from error


class _Form:
    """What has come of a form so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.size = 0
        self.held = 0
        self.digest = sha256()
        self._file: BinaryIO | None = None
        self._buffer: list[bytes] = []
        self._segment: MultipartSegment | None = None
        self._text = bytearray()

    def take(self, event: MultipartSegment | bytearray | None) -> None:
        """One event of the parser: a part begins, some of its bytes, or its end."""
        if isinstance(event, MultipartSegment):
            self._segment = event
            self._text.clear()
            if event.filename is not None:
                if event.name != "file" or self.filename is not None:
                    raise InvalidParameter("file", "the form must have one file, in the part `file`")
                self.filename = re.split(r"[/\\]", event.filename)[-1] or "upload"
                self._file = self.path.open("xb")
        elif event is None:
            if self._segment is not None and self._segment.filename is None:
                self.fields[self._segment.name] = self._text.decode()
            self._segment = None
        elif self._segment is not None and self._segment.filename is not None:
            self._buffer.append(bytes(event))
            self.held += len(event)
        else:
            self._text += event
            if len(self._text) > MOST_FIELD_BYTES:
                raise TooLarge(f"a form field has at most {MOST_FIELD_BYTES} bytes")

    def write(self) -> None:
        """Bring what is held to disk."""
        data = b"".join(self._buffer)
        self._buffer.clear()
        self.held = 0
        if data and self._file is not None:
            self.digest.update(data)
            self._file.write(data)
            self.size += len(data)

    def close(self) -> None:
        """All has come."""
        if self._file is not None:
            self._file.close()

    def abandon(self) -> None:
        """Nothing of it counts."""
        with suppress(OSError):  # what is held goes to the full disk again
            self.close()
        self.path.unlink(missing_ok=True)
