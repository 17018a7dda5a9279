"""What kind of place a frame shows."""

from typing import ClassVar, Literal

import msgspec

from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Confidence, Index, Label


class Alternative(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another label that fits less well."""

    label: Label
    confidence: Confidence


class PlaceClassificationV1(Payload, frozen=True):
    """The kind of place that a stretch shows, best label first. Produced by `workers.place_detection`."""

    NAME: ClassVar[str] = "place.classification"
    VERSION: ClassVar[int] = 1

    label: Label
    confidence: Confidence
    alternatives: tuple[Alternative, ...] = ()
    environment: Literal["indoor", "outdoor"] | None = None
    """Where the labels given lie, weighed by their scores."""
    frame_index: Index | None = None
    """The first frame looked at."""

    @classmethod
    def example(cls) -> "PlaceClassificationV1":
        """A valid payload."""
        return cls(
            label="kitchen",
            confidence=0.71,
            alternatives=(Alternative(label="office", confidence=0.1),),
            environment="indoor",
        )
