"""The one order of everything in a library: capture time, video, start, artifact."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

MAX_MS = 2**31 - 1
"""The latest time of a medium's clock, 24.8 days: times are 32-bit integers in the read models."""


class TimelineKey(NamedTuple):
    """A place on the timeline. Compares as the contract orders: undated videos last, ties by id.

    Ids compare by their text form, which for lower-case UUIDs is the order of their bytes.
    """

    is_undated: bool
    captured_at: float
    """Seconds since 1970, UTC; 0 when undated."""
    video_id: str
    start_ms: int
    artifact_id: str

    @classmethod
    def of(
        cls, captured_at: datetime | None, video_id: UUID, start_ms: int, artifact_id: UUID
    ) -> "TimelineKey":
        """The place of an artifact."""
        seconds = 0.0 if captured_at is None else captured_at.timestamp()
        return cls(captured_at is None, seconds, str(video_id), start_ms, str(artifact_id))


def overlaps(start_ms: int, end_ms: int, from_ms: int, to_ms: int) -> bool:
    """Whether the half-open span [start, end) meets [from, to). A point lies at its start; touching is not meeting."""
    return start_ms < to_ms and (end_ms > from_ms or start_ms == end_ms >= from_ms)
