"""One thing, followed through a stretch of a video."""

from itertools import pairwise
from typing import Annotated, ClassVar

import msgspec

from domain.artifacts.envelope import Payload
from domain.artifacts.fields import Box, Confidence, Index, Label, Millis


class TrackBox(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the thing was at a time."""

    time_ms: Millis
    box: Box


class ObjectTrackV1(Payload, frozen=True):
    """One thing from when it was first seen to when it was last. Produced by `workers.object_detection`."""

    NAME: ClassVar[str] = "object.track"
    VERSION: ClassVar[int] = 1

    track_id: Index
    """The `track_id` of its `object.detection`s; means something within one run only."""
    label: Label
    """The class it was taken for most surely over all frames."""
    confidence: Confidence
    """The best of all frames."""
    frames: Index
    """In how many of the frames looked at it was seen."""
    boxes: Annotated[tuple[TrackBox, ...], msgspec.Meta(min_length=1)]
    """A selection in order of time, first and last included; the detections have them all."""

    def flaw(self) -> str | None:
        """Boxes that are not in order of time."""
        if any(after.time_ms <= before.time_ms for before, after in pairwise(self.boxes)):
            return "boxes are not in order of time"
        return None

    @classmethod
    def example(cls) -> "ObjectTrackV1":
        """A valid payload."""
        return cls(
            track_id=3,
            label="dog",
            confidence=0.87,
            frames=12,
            boxes=(
                TrackBox(time_ms=3000, box=(0.1, 0.2, 0.3, 0.4)),
                TrackBox(time_ms=4000, box=(0.15, 0.2, 0.3, 0.4)),
            ),
        )
