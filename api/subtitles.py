"""Subtitles in and out: WebVTT, SubRip and plain text, from and to transcript segments."""

import re
from collections.abc import Iterable, Iterator
from html import unescape
from itertools import islice
from typing import Protocol

import msgspec

from api.problems import MalformedBody
from application.imports import MOST_MS
from domain.errors import InvalidParameter, TooLarge

MOST_BYTES = 16 * 1024 * 1024
"""Of a subtitle file. A film of three hours, each word a cue of its own, has about 2 MB."""
MOST_CUES = 100_000
"""The same film has about 30,000 words."""

# Each pattern is linear in the text: what follows the first character of a match never takes in that character again,
# so that no two attempts look at the same place.
_STAMP = r"(?:([0-9]{1,4}):)?([0-9]{1,2}):([0-9]{2})[.,]([0-9]{1,3})"
_CUE = re.compile(rf"{_STAMP}[ \t]*-->[ \t]*{_STAMP}(?:[ \t].*)?")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<[0-9][0-9:.]*>|\{\\[^{}]*\}")
_VOICE = re.compile(r"<v(?:\.[^<>\s]*)?\s([^<>]*)>")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{0,31});")


class Segment(Protocol):
    """What is written out."""

    @property
    def start_ms(self) -> int: ...
    @property
    def end_ms(self) -> int: ...
    @property
    def text(self) -> str: ...


class Cue(msgspec.Struct, frozen=True):
    """One subtitle."""

    start_ms: int
    end_ms: int
    text: str
    speaker: str | None = None


def parse(body: bytes, *, is_vtt: bool) -> list[Cue]:
    """The cues of a WebVTT or SubRip file, in its order. Mark-up is taken off; cues without text are left out.

    Raises:
        TooLarge: more than `MOST_BYTES`.
        MalformedBody: not UTF-8, no WEBVTT line, a broken time line, or a cue that ends before it starts.
        InvalidParameter: more than `MOST_CUES` cues.
    """
    if len(body) > MOST_BYTES:
        raise TooLarge(f"a subtitle file has at most {MOST_BYTES} bytes, this one has {len(body)}")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not UTF-8: {error}") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").split("\n")
    if is_vtt and not re.match(r"WEBVTT(?:[ \t]|$)", lines[0]):
        raise MalformedBody("a WebVTT file begins with the line WEBVTT")
    cues = list(islice(_cues(lines), MOST_CUES + 1))
    if len(cues) > MOST_CUES:
        raise InvalidParameter("body", f"a subtitle file has at most {MOST_CUES} cues; import it in parts")
    return cues


def _cues(lines: list[str]) -> Iterator[Cue]:
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if "-->" not in line:
            # Header, NOTE, STYLE and REGION blocks, cue numbers and names.
            continue
        match = _CUE.fullmatch(line.strip())
        if match is None:
            raise MalformedBody(f"line {number}: {line[:80]!r} is no time line")
        start_ms, end_ms = _ms(match.groups()[:4]), _ms(match.groups()[4:])
        if not start_ms <= end_ms <= MOST_MS:
            raise MalformedBody(f"line {number}: a cue must end after it starts, within {MOST_MS} ms")
        said: list[str] = []
        while number < len(lines) and lines[number].strip():
            if "-->" in lines[number]:
                break
            said.append(lines[number].strip())
            number += 1
        raw = " ".join(said)
        voice = _VOICE.search(raw)
        text = _unescaped(_TAG.sub("", raw)).strip()
        if text:
            speaker = _unescaped(voice.group(1)).strip() if voice else ""
            yield Cue(start_ms, end_ms, text, speaker=speaker or None)


def _unescaped(text: str) -> str:
    # Entity by entity: given the whole text, `unescape` takes numbers of any length and fails on those over 4,300 digits.
    return _ENTITY.sub(lambda entity: unescape(entity.group()), text).replace("\0", "")


def _ms(parts: tuple[str | None, ...]) -> int:
    hours, minutes, seconds, fraction = parts
    milliseconds = int((fraction or "0").ljust(3, "0"))
    return ((int(hours or 0) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)) * 1000 + milliseconds


def vtt(segments: Iterable[Segment]) -> Iterator[str]:
    """A WebVTT file, piece by piece."""
    yield "WEBVTT\n\n"
    for s in segments:
        text = s.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        yield f"{stamp(s.start_ms, '.')} --> {stamp(s.end_ms, '.')}\n{_one_block(text)}\n\n"


def srt(segments: Iterable[Segment]) -> Iterator[str]:
    """A SubRip file, piece by piece."""
    for number, s in enumerate(segments, 1):
        text = _one_block(s.text).replace("-->", "->")
        yield f"{number}\n{stamp(s.start_ms, ',')} --> {stamp(s.end_ms, ',')}\n{text}\n\n"


def txt(segments: Iterable[Segment]) -> Iterator[str]:
    """What was said, a line for each segment."""
    for s in segments:
        yield s.text.strip() + "\n"


def _one_block(text: str) -> str:
    """Blank lines would end the cue."""
    return "\n".join(line for line in (part.strip() for part in text.splitlines()) if line)


def stamp(ms: int, point: str = ".") -> str:
    """A moment as WebVTT has it, or with a comma as SubRip has it."""
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{ms:03d}"
