"""Objects found in a frame."""

from typing import ClassVar

from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Box, Confidence, Index, Label


class ObjectDetectionV1(Payload, frozen=True):
    """One object in one frame. Produced by `workers.object_detection`."""

    NAME: ClassVar[str] = "object.detection"
    VERSION: ClassVar[int] = 1

    label: Label
    """Class name as the model gives it, lower case, e.g. "dog"."""
    confidence: Confidence
    box: Box
    frame_index: Index
    """Zero-based index in decoding order; the envelope's span has the time."""
    track_id: Index | None = None
    """Joins the boxes of one thing within one run."""

    @classmethod
    def example(cls) -> "ObjectDetectionV1":
        """A valid payload."""
        return cls(label="dog", confidence=0.87, box=(0.1, 0.2, 0.3, 0.4), frame_index=75)
