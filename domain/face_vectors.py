"""What a face looks like, as 128 numbers, and how they are written."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from math import isfinite
from struct import Struct

DIMENSIONS = 128
Vector = tuple[float, ...]

_half = Struct(f"<{DIMENSIONS}e")
_single = Struct(f"<{DIMENSIONS}f")


def pack_half(vector: Sequence[float]) -> str:
    """The vector of a face as its artifact holds it: base64 of half-precision floats, 344 characters."""
    return b64encode(_half.pack(*vector)).decode()


def unpack_half(text: str) -> Vector:
    """The vector of a face; raises ValueError when the text holds none."""
    return _unpack(_half, text)


def pack_single(vector: Sequence[float]) -> str:
    """A cluster's centre as events hold it: base64 of single-precision floats, 684 characters."""
    return b64encode(_single.pack(*vector)).decode()


def unpack_single(text: str) -> Vector:
    """A cluster's centre; raises ValueError when the text holds none."""
    return _unpack(_single, text)


def _unpack(layout: Struct, text: str) -> Vector:
    raw = b64decode(text, validate=True)
    if len(raw) != layout.size:
        raise ValueError(f"{len(raw)} bytes instead of {layout.size}")
    vector: Vector = layout.unpack(raw)
    if not all(map(isfinite, vector)):
        raise ValueError("a number is not finite")
    return vector
