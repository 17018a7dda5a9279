"""What the API asks of a decoding process, and the answers. Knows no decoder, for the API's process loads none."""

from pathlib import Path

import msgspec

from infrastructure.media.pictures import Pictures

Size = tuple[int, int]
"""(width, height) in pixels, as displayed."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Something to do with one file."""

    path: Path
    folders: tuple[str, ...]
    """Those in which the file must lie, wherever its name leads by now."""


class Clip(Job, frozen=True, tag=True):
    """Write a stretch of it to `out`, as mp4."""

    out: Path
    start_ms: int
    end_ms: int


class Still(Job, frozen=True, tag=True):
    """Write what is on screen at `at_ms` to `out`, as WebP at most `width` wide."""

    out: Path
    at_ms: int
    screen: Size
    width: int


class Poster(Job, frozen=True, tag=True):
    """Choose a moment and write it to `out`; the moments that were looked at stay as thumbnails among `pictures`."""

    out: Path
    pictures: Pictures
    duration_ms: int
    screen: Size


class Length(Job, frozen=True, tag=True):
    """Tell how long it plays."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """The job is done."""

    duration_ms: int = 0
    """Of a `Length`."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The job cannot be done."""

    code: str
    """Of an error of `domain.errors`."""
    error: str


AnyJob = Clip | Still | Poster | Length
Answer = Done | Failed
HEAD_BYTES = 4
"""Of a message: its length, big-endian."""

_JOB: msgspec.msgpack.Decoder[AnyJob] = msgspec.msgpack.Decoder(
    Clip | Still | Poster | Length, dec_hook=lambda kind, value: kind(value)
)
_ANSWER: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Done | Failed)


def packed(message: AnyJob | Answer) -> bytes:
    """As it goes over the socket."""
    body = msgspec.msgpack.encode(message, enc_hook=str)
    return len(body).to_bytes(HEAD_BYTES) + body


def job_of(body: bytes) -> AnyJob:
    """What was packed."""
    return _JOB.decode(body)


def answer_of(body: bytes) -> Answer:
    """What was packed."""
    return _ANSWER.decode(body)
