"""What is said in pieces of speech: segments of text with a time for every word, and the language of them all."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from math import exp
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from domain.artifacts.transcript_segment import TranscriptSegmentV1, Word
from infrastructure.media.audio import RATE
from workers.speech_pieces import Piece
from workers.word_times import tighten

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from faster_whisper.transcribe import Segment as Found

PAUSE_MS = 2_000
"""Silence between two words from which on they are no longer one segment."""
BREATH_MS = 150
"""Silence after the end of a sentence that makes the next a segment of its own, where the model does not part them."""
_SLOT_S = 30
"""Distance of the pieces of a batch on the model's clock: its window, which no piece fills."""
UNHEARD_S = 3.0
"""A piece is speech all through: where one pass finds no word for so long, the piece is listened to again, alone.
Measured: where the speaker changed, the pass ended, and 18 of 28 s were lost."""
_SILENT, _UNSURE = 0.6, -1.0
"""The model's own limits, from which on it takes a text for made up; over batches it does not look."""
_SENTENCE_ENDS = (".", "?", "!", "。", "？", "！")


class Hearing(msgspec.Struct, frozen=True, array_like=True):
    """How to listen."""

    language: str
    beam_size: int
    batch_size: int
    """Pieces that go through the model at once. One alone is gone over from where the model stopped, until its end;
    several together get one pass each (ADR-0019)."""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of text, in ms of the media."""

    start_ms: int
    end_ms: int
    payload: TranscriptSegmentV1


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """What is said in one piece."""

    index: int
    """Of the piece."""
    segments: tuple[Segment, ...]


def listen(
    model: "WhisperModel", pieces: Sequence[Piece], how: Hearing, alive: Callable[[], None]
) -> list[Heard]:
    """What is said in each piece, in order; `alive` is called after each segment and may raise."""
    if how.batch_size == 1:
        return [heard for piece in pieces for heard in _alone(model, (piece,), how, alive)]
    return _together(model, pieces, how, alive)


def _alone(
    model: "WhisperModel", pieces: Sequence[Piece], how: Hearing, alive: Callable[[], None]
) -> list[Heard]:
    (piece,) = pieces
    segments: list[Segment] = []
    found, _ = model.transcribe(
        piece.samples,
        language=how.language,
        beam_size=how.beam_size,
        temperature=0.0,  # the default list samples at random when it is unsure
        word_timestamps=True,
        condition_on_previous_text=False,
    )
    for each in found:
        alive()
        segments += _segments(each, piece, 0.0, how.language, parts_sentences=False)
    return [Heard(piece.index, tuple(segments))]


def _together(
    model: "WhisperModel", pieces: Sequence[Piece], how: Hearing, alive: Callable[[], None]
) -> list[Heard]:
    from faster_whisper import BatchedInferencePipeline

    lengths = [len(piece.pcm) // 2 for piece in pieces]
    row = np.zeros(len(pieces) * _SLOT_S * RATE, np.float32)
    for slot, piece in enumerate(pieces):
        row[slot * _SLOT_S * RATE :][: lengths[slot]] = piece.samples
    found, _ = BatchedInferencePipeline(model).transcribe(
        row,
        language=how.language,
        beam_size=how.beam_size,
        temperature=0.0,
        word_timestamps=True,
        without_timestamps=True,  # with them the one pass often stops early, and words are lost
        clip_timestamps=[
            {"start": slot * _SLOT_S, "end": slot * _SLOT_S + length / RATE} for slot, length in enumerate(lengths)
        ],
        batch_size=len(pieces),
    )
    segments: list[list[Segment]] = [[] for _ in pieces]
    ends: list[list[float]] = [[] for _ in pieces]
    for each in found:
        alive()
        slot = each.seek // (_SLOT_S * model.frames_per_second)
        ends[slot] += [float(word.end) - slot * _SLOT_S for word in each.words or ()]
        if each.no_speech_prob <= _SILENT or each.avg_logprob >= _UNSURE:
            segments[slot] += _segments(each, pieces[slot], slot * _SLOT_S, how.language, parts_sentences=True)
    heard = []
    for piece, length, of_piece, word_ends in zip(pieces, lengths, segments, ends, strict=True):
        if max(later - end for end, later in pairwise([0.0, *word_ends, length / RATE])) > UNHEARD_S:
            heard += _alone(model, (piece,), how, alive)
        else:
            heard.append(Heard(piece.index, tuple(of_piece)))
    return heard


def _segments(
    found: "Found", piece: Piece, offset_s: float, language: str, *, parts_sentences: bool
) -> Iterator[Segment]:
    """What the model found, parted where nobody speaks for long: it joins sentences that lie far apart.

    `offset_s`: where the piece begins on the model's clock.
    """
    samples, confidence = piece.samples, round(min(1.0, exp(float(found.avg_logprob))), 4)
    text, words = "", list[Word]()

    def segment() -> Segment:
        payload = TranscriptSegmentV1(
            text=text.strip(), language=language, confidence=confidence, words=tuple(words)
        )
        return Segment(words[0].start_ms, words[-1].end_ms, payload)

    for word in found.words or ():
        spoken = word.word.strip()
        if not spoken:
            continue
        start_ms, end_ms = piece.span_ms(
            *tighten(float(word.start) - offset_s, float(word.end) - offset_s, samples)
        )
        if words:
            is_new_sentence = parts_sentences and words[-1].word.endswith(_SENTENCE_ENDS)
            if start_ms - words[-1].end_ms >= (BREATH_MS if is_new_sentence else PAUSE_MS):
                yield segment()
                text, words = "", []
        sure = round(min(1.0, max(0.0, float(word.probability))), 4)
        words.append(Word(word=spoken, start_ms=start_ms, end_ms=end_ms, confidence=sure))
        text += word.word  # comes with its leading space, where the language has spaces
    if words:
        yield segment()
    elif text := found.text.strip():
        payload = TranscriptSegmentV1(text=text, language=language, confidence=confidence)
        yield Segment(*piece.span_ms(found.start - offset_s, found.end - offset_s), payload)


def language_of(model: "WhisperModel", pieces: Iterable[Piece]) -> tuple[str, float]:
    """(language, probability of it) by the majority of the pieces; between equals the likelier one."""
    return elected([dict(model.detect_language(piece.samples)[2]) for piece in pieces])


def elected(probabilities: Sequence[dict[str, float]]) -> tuple[str, float]:
    """The language that most pieces are in, and the mean of its probabilities in all of them, to 4 digits.

    `probabilities`: of every language, for each piece; at least one.
    """
    votes = Counter(max(each, key=lambda language: each[language]) for each in probabilities)

    def mean(language: str) -> float:
        return float(np.mean([each.get(language, 0.0) for each in probabilities]))

    winner = max(votes, key=lambda language: (votes[language], mean(language)))
    return winner, round(mean(winner), 4)
