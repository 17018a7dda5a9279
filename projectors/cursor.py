"""Opaque cursors: a place in a list, so that a walk goes on exactly there."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.errors import InvalidParameter
from domain.timeline import MAX_MS

_VERSION = 1
Millis = Annotated[int, Meta(ge=0, le=MAX_MS)]
_Micros = Annotated[int, Meta(ge=-(2**52), le=2**58)]

P = TypeVar("P", bound=msgspec.Struct)


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A place on the timeline: the key of a hit."""

    captured_us: _Micros | None
    """Microseconds since 1970, None = undated. Only used when the video is gone; else its present date counts."""
    video_id: UUID
    start_ms: Millis
    artifact_id: UUID


def encode(kind: str, place: msgspec.Struct) -> str:
    """The cursor of `place` (array-like, JSON types) in lists of `kind`."""
    body = msgspec.json.encode((_VERSION, kind, place))
    return urlsafe_b64encode(body).rstrip(b"=").decode()


def decode(kind: str, cursor: str, shape: type[P]) -> P:
    """The place that `encode` made `cursor` of.

    Raises:
        InvalidParameter: names `cursor`; it is garbled, or of another kind of list.
    """
    try:
        body = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        version, found, place = msgspec.json.decode(body, type=tuple[int, str, msgspec.Raw])
        if (version, found) != (_VERSION, kind):
            raise InvalidParameter("cursor", "is of another list")
        return msgspec.json.decode(place, type=shape)
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidParameter("cursor", "was not made by this list") from error
