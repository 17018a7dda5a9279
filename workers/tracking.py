"""Joins the boxes of one thing over time: ByteTrack as Ultralytics has it, one tracker for one video."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from domain.artifacts.object_track import ObjectTrackV1, TrackBox
from workers.producer import Found

LOWEST_CONFIDENCE = 0.1
"""Boxes this unsure keep a track alive; they never begin one and are no detections."""
LOST_MS = 2000
"""A thing that is not seen for longer is another one when it comes again."""
BOX_EVERY_MS, MOST_BOXES = 1000, 120
Box = tuple[float, float, float, float]


class Track:
    """What is known of one thing; its size is bounded however long it stays."""

    def __init__(self, track_id: int) -> None:
        self.track_id, self.frames, self.best = track_id, 0, 0.0
        self._labels: defaultdict[str, float] = defaultdict(float)
        self._boxes: list[TrackBox] = []
        self._last: TrackBox | None = None
        self._every_ms = BOX_EVERY_MS

    def add(self, time_ms: int, label: str, confidence: float, box: Box) -> None:
        """It was seen there."""
        self.frames += 1
        self.best = max(self.best, confidence)
        self._labels[label] += confidence
        self._last = TrackBox(time_ms=time_ms, box=box)
        if not self._boxes or time_ms - self._boxes[-1].time_ms >= self._every_ms:
            self._boxes.append(self._last)
        if len(self._boxes) > MOST_BOXES:
            self._boxes = self._boxes[::2]
            self._every_ms *= 2

    def found(self) -> Found:
        """The artifact: from the first to the last time it was seen."""
        assert self._last is not None
        boxes = (*self._boxes, *([self._last] if self._last.time_ms > self._boxes[-1].time_ms else []))
        payload = ObjectTrackV1(
            track_id=self.track_id,
            label=max(self._labels, key=lambda label: (self._labels[label], label)),
            confidence=self.best,
            frames=self.frames,
            boxes=boxes,
        )
        return Found(ObjectTrackV1.NAME, boxes[0].time_ms, boxes[-1].time_ms, payload)


class Tracker:
    """Follows things through frames `every_ms` apart; ids count from 1."""

    def __init__(self, *, every_ms: int, confidence: float) -> None:
        from ultralytics.trackers.byte_tracker import BYTETracker
        from ultralytics.utils import IterableSimpleNamespace

        self._tracker = BYTETracker(  # type: ignore[no-untyped-call]  # the library has no types
            IterableSimpleNamespace(
                tracker_type="bytetrack",
                track_high_thresh=confidence,
                track_low_thresh=min(LOWEST_CONFIDENCE, confidence),
                new_track_thresh=confidence,
                track_buffer=max(1, round(LOST_MS / every_ms)),
                # Overlap alone decides: a thing moves further between sampled frames than between all.
                match_thresh=0.8,
                fuse_score=False,
            )
        )
        self._tracks: dict[int, Track] = {}

    def follow(self, boxes: Any) -> dict[int, int]:
        """Take the next frame's boxes (`ultralytics.engine.results.Boxes`): box number → track id."""
        self._tracker.update(boxes.cpu().numpy())
        now = self._tracker.frame_id
        # Not what `update` returns: it leaves a thing out until it is seen a second time.
        return {
            int(track.idx): int(track.track_id)
            for track in self._tracker.tracked_stracks
            if track.frame_id == now
        }

    def note(self, track_id: int, time_ms: int, label: str, confidence: float, box: Box) -> None:
        """Keep a followed box for the track's artifact."""
        self._tracks.setdefault(track_id, Track(track_id)).add(time_ms, label, confidence, box)

    def tracks(self) -> Iterator[Found]:
        """One `object.track` for each thing, in order of start; `frames` tells those seen only once."""
        yield from sorted((track.found() for track in self._tracks.values()), key=lambda one: one.start_ms)
