"""Long sound in pieces of speech that a model hears one by one, each by itself, cut where nobody speaks.

A piece fits into one window of Whisper (30 s), so what is heard in it depends on nothing before it: whoever hears the
pieces, in whatever order, the words are the same (ADR-0019). It also fits into one message.
"""

from collections.abc import Generator, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from infrastructure.media.audio import RATE, Samples, Sound
from workers.memory import trim

WINDOW_S = 60
"""Sound that is searched for speech at once: bounds memory, whatever the length of the film."""
PAD_MS = 400
"""Kept around speech: the voice detector notices a soft beginning late."""
PAUSE_MS = 60
"""The shortest pause within speech that is worth a cut."""
QUIET_S = 0.3
_FULL = 32_767


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Samples `[first, end)` of the media: a stretch of speech with a little silence around it."""

    first: int
    end: int


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Some speech: parts that follow one another, without the silence between them."""

    index: int
    """Counts the pieces of a job, from 0."""
    since: int
    """Where the piece before ends, in samples of the media: from there on it is this one's to find what is said."""
    parts: tuple[Part, ...]
    pcm: bytes
    """The parts one after the other: int16 little-endian, mono, `RATE` samples a second."""

    @property
    def covers_ms(self) -> int:
        """How much of the media is heard with it."""
        return (self.parts[-1].end - self.since) * 1000 // RATE

    @property
    def samples(self) -> Samples:
        """float32 in [-1, 1], shape (n,)."""
        return np.frombuffer(self.pcm, "<i2").astype(np.float32) / np.float32(_FULL)

    def span_ms(self, start_s: float, end_s: float) -> tuple[int, int]:
        """Where in the media, in ms, is what lies `[start_s, end_s)` in `samples`? Never outside its part.

        The middle decides on the part: the model gives the silence before a word to the word.
        """
        middle, before = (start_s + end_s) / 2 * RATE, 0
        for part in self.parts:
            length = part.end - part.first
            if middle < before + length or part is self.parts[-1]:
                break
            before += length
        start, end = (
            min(max(part.first + round(at_s * RATE) - before, part.first), part.end) for at_s in (start_s, end_s)
        )
        return start * 1000 // RATE, max(start, end) * 1000 // RATE


class _Stretch(NamedTuple):
    first: int
    samples: Samples


def pieces(sounds: Iterable[Sound], *, longest_s: int, min_silence_ms: int) -> Iterator[Piece]:
    """The speech in pieces of at most `longest_s` seconds, in order; silence and noise are left out.

    `sounds` follow one another without a gap, as `read_sound` gives them. Speech ends where it is silent for
    `min_silence_ms`.
    """
    index = since = size = 0
    waiting: list[_Stretch] = []
    for stretch in _stretches(sounds, longest_s * RATE, min_silence_ms):
        if waiting and size + len(stretch.samples) > longest_s * RATE:
            piece = _piece(index, since, waiting)
            yield piece
            index, since, size, waiting = index + 1, piece.parts[-1].end, 0, []
        waiting.append(stretch)
        size += len(stretch.samples)
    if waiting:
        yield _piece(index, since, waiting)


def _piece(index: int, since: int, stretches: list[_Stretch]) -> Piece:
    whole = np.concatenate([stretch.samples for stretch in stretches])
    pcm = np.round(np.clip(whole, -1, 1) * _FULL).astype("<i2").tobytes()
    return Piece(index, since, tuple(Part(first, first + len(samples)) for first, samples in stretches), pcm)


def _stretches(sounds: Iterable[Sound], longest: int, min_silence_ms: int) -> Iterator[_Stretch]:
    """Speech between silences, none longer than `longest` samples."""
    held, first = np.zeros(0, np.float32), 0
    for sound in sounds:
        held = np.concatenate([held, sound.samples])
        # What is near the end may go on in the next window, where it is looked at again.
        settled = len(held) - (PAD_MS + min_silence_ms) * RATE // 1000
        rest = max(0, len(held) - PAD_MS * RATE // 1000)
        for start, end in _speech(held, min_silence_ms, PAD_MS):
            if end > settled:
                rest = min(rest, (yield from _shortened(first, held, start, len(held), longest)))
                break
            yield from _parted(first, held, start, end, longest)
        held, first = held[rest:].copy(), first + rest
        # The voice detector's arrays are of another size for each window, and glibc keeps the holes between them:
        # measured, the process grew by 1 MB with each minute of sound.
        trim()
    for start, end in _speech(held, min_silence_ms, PAD_MS):
        yield from _parted(first, held, start, end, longest)


def _parted(first: int, held: Samples, start: int, end: int, longest: int) -> Iterator[_Stretch]:
    rest = yield from _shortened(first, held, start, end, longest)
    yield _Stretch(first + rest, held[rest:end])


def _shortened(first: int, held: Samples, start: int, end: int, longest: int) -> Generator[_Stretch, None, int]:
    """Cut `held[start:end]` until the rest is at most `longest`; returns where the rest begins."""
    while end - start > longest:
        cut = start + _pause(held[start : start + longest])
        yield _Stretch(first + start, held[start:cut])
        start = cut
    return start


def _pause(samples: Samples) -> int:
    """Where to cut speech, in its second half: the middle of its longest pause, or its quietest moment if it has none.

    The voice detector hears pauses over music, which loudness does not show.
    """
    spoken = _speech(samples, PAUSE_MS, 0)
    pauses = [
        (start - end, (start + end) // 2)
        for (_, end), (start, _) in pairwise(spoken)
        if (start + end) // 2 >= len(samples) // 2
    ]
    return max(pauses)[1] if pauses else quietest(samples, first=len(samples) // 2)


def _speech(samples: Samples, min_silence_ms: int, pad_ms: int) -> list[tuple[int, int]]:
    """(first, end) of what the voice detector takes for speech."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    if not len(samples):
        return []
    options = VadOptions(min_silence_duration_ms=min_silence_ms, speech_pad_ms=pad_ms)
    return [(int(found["start"]), int(found["end"])) for found in get_speech_timestamps(samples, options)]


def quietest(samples: Samples, *, first: int) -> int:
    """Index in the middle of the quietest QUIET_S seconds at or after sample `first`."""
    step = int(QUIET_S * RATE)
    begin = max(first, 0)
    blocks = samples[begin : begin + (len(samples) - begin) // step * step].reshape(-1, step)
    if not len(blocks):
        return len(samples)
    return begin + int(np.argmin(np.square(blocks).mean(axis=1))) * step + step // 2
