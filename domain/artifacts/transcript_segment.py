"""Speech, as text with times."""

from typing import ClassVar

import msgspec

from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Confidence, Language, Millis, Text


class Word(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One spoken word."""

    word: str
    start_ms: Millis
    end_ms: Millis
    confidence: Confidence | None = None


class TranscriptSegmentV1(Payload, frozen=True):
    """A stretch of speech. Produced by `workers.transcription`, or imported from subtitles."""

    NAME: ClassVar[str] = "transcript.segment"
    VERSION: ClassVar[int] = 1

    text: Text
    language: Language | None = None
    confidence: Confidence | None = None
    speaker: str | None = None
    words: tuple[Word, ...] = ()

    def flaw(self) -> str | None:
        """A word that ends before it starts."""
        return next(
            (f"word {w.word!r} ends before it starts" for w in self.words if w.end_ms < w.start_ms), None
        )

    @classmethod
    def example(cls) -> "TranscriptSegmentV1":
        """A valid payload."""
        return cls(
            text="ask not",
            language="en",
            confidence=0.93,
            words=(
                Word(word="ask", start_ms=3310, end_ms=3700, confidence=0.98),
                Word(word="not", start_ms=3700, end_ms=4100, confidence=0.97),
            ),
        )
