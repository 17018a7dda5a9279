"""Text seen in the picture."""

from typing import ClassVar

from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Confidence, Index, Language, Polygon, Text


class OcrTextV1(Payload, frozen=True):
    """One line of text on the screen."""

    NAME: ClassVar[str] = "ocr.text"
    VERSION: ClassVar[int] = 1

    text: Text
    confidence: Confidence
    polygon: Polygon
    language: Language | None = None
    frame_index: Index | None = None

    @classmethod
    def example(cls) -> "OcrTextV1":
        """A valid payload."""
        return cls(
            text="CHAPTER ONE",
            confidence=0.99,
            polygon=((0.1, 0.4), (0.9, 0.4), (0.9, 0.6), (0.1, 0.6)),
            language="en",
            frame_index=0,
        )
