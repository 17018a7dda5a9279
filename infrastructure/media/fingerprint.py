"""The hash that names a file's content."""

from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from domain.errors import MediaMissing
from infrastructure.media.opening import opened
from infrastructure.media.source import checked

PIECE = 4 << 20
"""Bytes read at once: large enough to be fast, small enough to be cancelled within milliseconds."""


def fingerprint(
    path: Path, *, on_bytes: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[str, int]:
    """(BLAKE3 of the whole file in hex, bytes read), in constant memory.

    `on_bytes(done, total)` is called after every few megabytes; what it raises ends the work.

    Raises:
        MediaMissing: the file is not there, or went away while it was read.
        MediaUnreadable: it is empty.
    """
    total = checked(path).st_size
    digest, done = blake3(), 0
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    try:
        with opened(path) as descriptor, open(descriptor, "rb", buffering=0, closefd=False) as file:
            while count := file.readinto(buffer):
                digest.update(view[:count])
                done += count
                on_bytes(done, max(total, done))
    except OSError as error:
        raise MediaMissing(f"{path} could not be read to its end: {error.strerror or error}") from error
    return digest.hexdigest(), done
