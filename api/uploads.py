"""Uploads: multipart bodies straight to disk, never whole in memory."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

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

MOST_FIELD_BYTES = 64 * 1024
MOST_PARTS = 32
WRITE = 1024 * 1024
"""Bytes gathered before a write goes to a thread."""
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

    def keep(self, folder: Path, video_id: UUID) -> tuple[Path, bool]:
        """Move the file to its place for good; whether it is new there. The same content again has the same place."""
        place = folder / str(video_id) / self.sha256[:16] / safe_name(self.filename)
        if place.exists():
            self.drop()
            return place, False
        place.parent.mkdir(parents=True, exist_ok=True)
        self.waiting.replace(place)
        return place, True

    def drop(self) -> None:
        """Remove the file from the waiting place."""
        self.waiting.unlink(missing_ok=True)


def safe_name(filename: str) -> str:
    """A name that any file system takes and that cannot leave its folder; the ending stays."""
    base = re.split(r"[/\\]", filename)[-1]
    clean = "".join("_" if c in '<>:"|?*' or not c.isprintable() else c for c in base).strip(". ") or "upload"
    stem, dot, ending = clean.rpartition(".")
    if not dot or len(ending.encode()) > 16:
        stem, dot, ending = clean, "", ""
    room = MOST_NAME_BYTES - len((dot + ending).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + ending


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
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    form = _Form(folder / f"{uuid4()}.part")
    try:
        await _parse(body, options["boundary"], form, max_bytes)
    except BaseException as error:
        form.abandon()
        if isinstance(error, OSError):
            raise ServiceUnavailable(
                f"the upload cannot be stored: {os.strerror(error.errno or 0)}"
            ) from error
        raise
    form.close()
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
        self.close()
        self.path.unlink(missing_ok=True)
