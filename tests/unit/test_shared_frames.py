"""One pass over a file for several readers: each gets what it would get alone."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from domain.errors import JobCancelled, MediaUnreadable
from infrastructure.media import shared_frames
from infrastructure.media.frames import Decoding, SampleFrames, sample_frames
from infrastructure.media.shared_frames import DEPTH
from tests.support import media
from tests.support.shared import together

WISHES = (
    {"max_side": 64, "layout": "bgr24"},
    {"every_ms": 500, "layout": "rgb24"},
    {"every_ms": 700, "max_side": 64, "layout": "bgr24", "is_lazy": True},
)


def seen(sample: SampleFrames, path: Path, **wish: Any) -> tuple[list[tuple[Any, ...]], Decoding]:
    """All that can be told of the frames, with what was counted while each was there, and at the end."""
    decoding = Decoding()
    frames = [(frame, decoding.decoded) for frame in sample(path, decoding=decoding, **wish)]
    # Now that the decoder is done: what it wrote later must not be in them.
    told = [(frame.index, frame.time, frame.image.shape, frame.image.tobytes(), count) for frame, count in frames]
    return told, decoding


@contextmanager
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files that were opened for decoding by a shared pass."""
    opened: list[Path] = []
    decode = shared_frames.decoded_frames
    monkeypatch.setattr(shared_frames, "decoded_frames", lambda path, *how: (opened.append(path), decode(path, *how))[1])
    yield opened


@pytest.mark.parametrize(
    "make",
    [
        media.clip,
        lambda path: media.clip(path, times_ms=[0, 40, 80, 500, 1700, 1740, 3000, 3010, 4999]),
        lambda path: media.rotated(path, 90),
        lambda path: media.rotated(path, 180),
        media.truncated,
    ],
    ids=["plain", "variable rate", "90°", "180°", "cut off"],
)
def test_each_gets_what_it_gets_alone_and_the_file_is_decoded_once(tmp_path, monkeypatch, make):
    path = make(tmp_path / "a.mp4")
    with passes(monkeypatch) as opened:
        shared = together(*(lambda sample, wish=wish: seen(sample, path, **wish) for wish in WISHES))
    assert opened == [path]
    assert shared == [seen(sample_frames, path, **wish) for wish in WISHES]
    assert all(len(frames) > 2 for frames, _ in shared)


def test_over_damage_each_gets_the_moments_that_it_gets_alone(tmp_path):
    path = media.damaged(tmp_path / "a.mp4")
    shared = together(*(lambda sample, wish=wish: seen(sample, path, **wish) for wish in WISHES))
    for wish, (frames, decoding) in zip(WISHES, shared, strict=True):
        # Who wants few frames leaves damage out, and with it the count of what could not be decoded (ADR-0025).
        alone, of_alone = seen(sample_frames, path, **wish)
        assert [frame[1] for frame in frames] == [frame[1] for frame in alone]
        assert decoding.damaged >= of_alone.damaged
    assert decoding.damaged > 0


def test_a_real_film_too(street):
    path = street
    wishes = ({"every_ms": 400, "max_side": 256, "layout": "bgr24"}, {"every_ms": 1000, "max_side": 1920})
    shared = together(*(lambda sample, wish=wish: seen(sample, path, **wish) for wish in wishes))
    assert shared == [seen(sample_frames, path, **wish) for wish in wishes]


def test_one_that_stops_or_fails_or_never_begins_leaves_the_others_everything(tmp_path):
    path = media.clip(tmp_path / "a.mp4")

    def stops(sample):
        return next(iter(sample(path))).index

    def fails(sample):
        for frame in sample(path):
            if frame.index == 7:
                raise KeyError("a bug")

    def never(_sample):
        time.sleep(0.2)

    first, second, third, whole = together(stops, fails, never, lambda sample: seen(sample, path))
    assert (first, repr(second), third) == (0, "KeyError('a bug')", None)
    assert whole == seen(sample_frames, path)


def test_who_is_late_and_who_asks_again_reads_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_frames, "PATIENCE_S", 0.2)
    path = media.clip(tmp_path / "a.mp4")
    began = threading.Event()

    def early(sample):
        result = seen(sample, path)
        began.set()
        return result, seen(sample, path)

    def late(sample):
        began.wait()
        return seen(sample, path)

    with passes(monkeypatch) as opened:
        (once, again), alone = together(early, late)
    assert once == again == alone == seen(sample_frames, path)
    assert opened == [path]


def test_nobody_runs_ahead_by_more_than_a_few_frames(tmp_path):
    path = media.clip(tmp_path / "a.mp4")
    at = [0, 0]

    def reads(number, pace_s):
        def work(sample):
            ahead = 0
            for frame in sample(path):
                at[number] = frame.index
                ahead = max(ahead, at[number] - at[1 - number])
                time.sleep(pace_s)
            return ahead

        return work

    ahead, behind = together(reads(0, 0.0), reads(1, 0.01))
    assert 0 < ahead <= DEPTH + 1
    assert behind <= DEPTH + 1


def test_one_that_waits_for_another_tells_so_and_can_be_stopped(tmp_path):
    path = media.clip(tmp_path / "a.mp4")
    is_stuck, is_free, told = threading.Event(), threading.Event(), []

    def wait() -> None:
        if threading.current_thread() in waiting and is_stuck.is_set():
            told.append(time.monotonic())
            if len(told) == 3:
                is_free.set()
                raise JobCancelled("enough")

    def holds_up(sample):
        for frame in sample(path):
            if frame.index == 3:
                is_stuck.set()
                assert is_free.wait(20)
        return "whole"

    waiting = []

    def waits(sample):
        waiting.append(threading.current_thread())
        return list(sample(path))

    first, second = together(holds_up, waits, wait=wait)
    assert (first, type(second)) == ("whole", JobCancelled)


def test_a_file_without_pictures_is_refused_to_everybody(tmp_path):
    path = media.text_renamed(tmp_path / "a.mp4")
    results = together(*[lambda sample: list(sample(path))] * 3)
    assert [type(error) for error in results] == [MediaUnreadable] * 3
