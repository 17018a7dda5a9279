"""What the header of a damaged file still tells: FFmpeg opens no Matroska file whose first cluster is cut off."""

import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import av
from av.container import InputContainer

from domain.errors import MediaUnreadable
from infrastructure.media.opening import opened
from infrastructure.media.source import open_media

LONGEST = 8 << 20
"""Bytes that a header is looked for in: covers and fonts may be part of it."""
_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_EMPTY_CLUSTER = bytes.fromhex("1f43b675 83 e7 81 00")
"""A cluster that begins at 0 and has no frames: what FFmpeg looks for behind the header."""
_LONGEST_ID, _LONGEST_SIZE = 4, 8


def open_header(path: Path) -> tuple[InputContainer, MediaUnreadable | None]:
    """The container, and why nothing but its header can be read, if so; raises as `open_media`."""
    try:
        return open_media(path), None
    except MediaUnreadable as error:
        with opened(path) as descriptor:
            header = _matroska_header(os.pread(descriptor, LONGEST, 0))
        if header is not None:
            with suppress(av.FFmpegError, ValueError):
                source = BytesIO(header + _EMPTY_CLUSTER)
                return av.open(source, "r", format="matroska", metadata_errors="replace"), error
        raise


def _matroska_header(data: bytes) -> bytes | None:
    """All whole elements before the first cluster; None when it is no Matroska."""
    ebml = _element(data, 0)
    if ebml is None or ebml[0] != _EBML:
        return None
    segment = _element(data, ebml[1] + ebml[2])
    if segment is None or segment[0] != _SEGMENT:
        return None
    end = segment[1]
    while (child := _element(data, end)) is not None:
        kind, begins, size = child
        if kind == _CLUSTER or begins + size > len(data):
            break
        end = begins + size
    return data[:end]


def _element(data: bytes, at: int) -> tuple[int, int, int] | None:
    """(id, where its content begins, size of that) of the EBML element at an offset."""
    kind = _number(data, at, _LONGEST_ID, keeps_marker=True)
    if kind is None:
        return None
    size = _number(data, at + kind[1], _LONGEST_SIZE, keeps_marker=False)
    return None if size is None else (kind[0], at + kind[1] + size[1], size[0])


def _number(data: bytes, at: int, longest: int, *, keeps_marker: bool) -> tuple[int, int] | None:
    """(value, length): the first set bit of the first byte tells how many bytes there are."""
    if at >= len(data):
        return None
    length = 9 - data[at].bit_length()
    if length > longest or at + length > len(data):
        return None
    value = int.from_bytes(data[at : at + length])
    return (value if keeps_marker else value & ~(1 << 7 * length)), length
