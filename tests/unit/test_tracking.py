"""What a track keeps of the boxes it is given."""

from itertools import pairwise

from workers.tracking import MOST_BOXES, Track

BOX = (0.1, 0.1, 0.2, 0.2)


def test_a_track_is_named_by_what_it_was_taken_for_most_surely() -> None:
    track = Track(7)
    for time_ms, (label, confidence) in enumerate([("dog", 0.9), ("cat", 0.5), ("cat", 0.5)]):
        track.add(time_ms * 500, label, confidence, BOX)
    found = track.found()
    assert (found.payload.label, found.payload.confidence, found.payload.frames) == ("cat", 0.9, 3)
    assert (found.start_ms, found.end_ms) == (0, 1000)


def test_a_thing_seen_once_is_a_point() -> None:
    track = Track(1)
    track.add(40, "dog", 0.9, BOX)
    found = track.found()
    assert (found.start_ms, found.end_ms, len(found.payload.boxes)) == (40, 40, 1)


def test_a_thing_that_stays_for_a_day_keeps_a_bounded_number_of_boxes() -> None:
    track, day_ms = Track(1), 24 * 3_600_000
    for time_ms in range(0, day_ms + 1, 5_000):
        track.add(time_ms, "car", 0.5, BOX)
    times = [box.time_ms for box in track.found().payload.boxes]
    assert (times[0], times[-1]) == (0, day_ms)
    assert MOST_BOXES / 2 <= len(times) <= MOST_BOXES + 1
    gaps = [after - before for before, after in pairwise(times[:-1])]
    assert max(gaps) <= 2 * min(gaps)
    assert track.found().payload.flaw() is None
