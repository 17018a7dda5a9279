"""Files as answers: byte ranges, names in headers."""

import mimetypes
import os
import re
from collections.abc import AsyncIterator, Mapping
from email.utils import formatdate, parsedate_to_datetime
from functools import partial
from io import FileIO
from pathlib import Path
from urllib.parse import quote

from blake3 import blake3
from litestar import Response
from litestar.response import Stream

from api.disks import Disks
from domain.errors import RangeNotSatisfiable

CHUNK = 256 * 1024
WEEK_S = 604_800
_RANGE = re.compile(r"bytes\s*+=\s*+([0-9]{0,19}+)\s*+-\s*+([0-9]{0,19})")
"""Its repeats never give back what they took: blanks without an end would be tried in every division among them."""
TYPES = {".mkv": "video/x-matroska", ".mts": "video/mp2t", ".m2ts": "video/mp2t", ".ts": "video/mp2t"}


def disposition(filename: str, *, inline: bool) -> str:
    """A Content-Disposition of any file name (RFC 6266): a plain ASCII one, and the real one beside it."""
    clean = "".join(c for c in filename if c.isprintable()).replace("/", "_").replace("\\", "_") or "file"
    plain = re.sub(r'[^\x20-\x7e]|["%]', "_", clean)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(clean, safe='')}"


def media_type(filename: str) -> str:
    """By the name's ending."""
    ending = Path(filename).suffix.lower()
    return TYPES.get(ending) or mimetypes.guess_type(filename)[0] or "application/octet-stream"


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first, last) byte of a Range header; None = the whole file (no range, several, or another unit: RFC 9110 lets us).

    Raises:
        RangeNotSatisfiable: it begins behind the end.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise RangeNotSatisfiable(size)
        return size - length, size - 1
    if int(first) >= size:
        raise RangeNotSatisfiable(size)
    end = min(int(last), size - 1) if last else size - 1
    return (int(first), end) if end >= int(first) else None


def cached(request_headers: Mapping[str, str], body: bytes, kind: str) -> Response[bytes]:
    """A small body that a client may keep for a week; 304 when it has it already (`If-None-Match`)."""
    etag = f'"{blake3(body).hexdigest(16)}"'
    headers = {"Cache-Control": f"public, max-age={WEEK_S}", "ETag": etag}
    known = [tag.strip().removeprefix("W/") for tag in request_headers.get("if-none-match", "").split(",")]
    if etag in known or known == ["*"]:
        return Response(b"", status_code=304, headers=headers, media_type=kind)
    return Response(body, headers=headers, media_type=kind)


async def serve(
    disks: Disks,
    path: Path,
    filename: str,
    *,
    range_header: str | None,
    if_range: str | None,
    is_head: bool,
    inline: bool = True,
) -> Stream:
    """The file, or the part that was asked for."""
    file = os.fdopen(await disks.open(path), "rb", buffering=0)
    try:
        facts = os.fstat(file.fileno())
        etag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
        if if_range is not None and not _is_current(if_range, etag, facts.st_mtime):
            range_header = None
        part = byte_range(range_header, facts.st_size)
    except BaseException:
        file.close()
        raise
    first, last = part or (0, facts.st_size - 1)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(last - first + 1),
        "Content-Disposition": disposition(filename, inline=inline),
        "Last-Modified": formatdate(facts.st_mtime, usegmt=True),
        "ETag": etag,
        # The bytes are somebody's upload: a browser must not take them for a page of ours.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    if part:
        headers["Content-Range"] = f"bytes {first}-{last}/{facts.st_size}"
    if is_head:
        file.close()
        content: AsyncIterator[bytes] = _nothing()
    else:
        content = read_file(disks, path, file, first, last - first + 1)
    return Stream(content, status_code=206 if part else 200, headers=headers, media_type=media_type(filename))


def _is_current(if_range: str, etag: str, mtime: float) -> bool:
    if if_range.startswith('"'):
        return if_range == etag
    try:
        return parsedate_to_datetime(if_range).timestamp() == int(mtime)
    except (ValueError, TypeError):
        return False


async def _nothing() -> AsyncIterator[bytes]:
    yield b""


async def read_file(disks: Disks, path: Path, file: FileIO, first: int, length: int) -> AsyncIterator[bytes]:
    """`length` bytes of the open file, from `first` on; closes the file, which is that of `path`."""
    with file:
        while length > 0:
            chunk = await disks.do(path, partial(os.pread, file.fileno(), min(CHUNK, length), first))
            if not chunk:
                return
            first += len(chunk)
            length -= len(chunk)
            yield chunk
