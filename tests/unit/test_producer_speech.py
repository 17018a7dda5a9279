"""Times of words."""

import numpy as np
import pytest

from infrastructure.media.audio import Samples
from tests.support import media
from workers.word_times import tighten


def sound(*parts: tuple[float, float]) -> Samples:
    """(seconds, loudness) one after the other, over a noise floor of -60 dB."""
    pieces = [media.tone(seconds) * 2 * loudness for seconds, loudness in parts]
    floor = np.random.default_rng(1).normal(0, 0.001, sum(map(len, pieces)))
    return (np.concatenate(pieces) + floor).astype(np.float32)


def test_the_pause_before_a_word_is_not_the_words() -> None:
    start, end = tighten(0.0, 1.5, sound((1.0, 0), (0.4, 0.5), (1.0, 0)))
    assert start == pytest.approx(1.0, abs=0.04)
    assert end == pytest.approx(1.4, abs=0.06)


def test_a_pause_after_it_neither() -> None:
    start, end = tighten(0.1, 1.9, sound((0.1, 0), (0.4, 0.5), (2.0, 0)))
    assert start == pytest.approx(0.1, abs=0.04)
    assert end == pytest.approx(0.5, abs=0.04)


def test_weak_beginnings_and_short_gaps_stay() -> None:
    weak = sound((0.3, 0.04), (0.4, 0.5))
    assert tighten(0.0, 0.7, weak) == (0.0, 0.7)
    plosive = sound((0.06, 0), (0.4, 0.5), (0.06, 0))
    assert tighten(0.0, 0.52, plosive) == (0.0, 0.52)


def test_over_music_the_models_times_stay() -> None:
    music = sound((1.0, 0.1), (0.4, 0.5), (1.0, 0.1))
    assert tighten(0.0, 2.4, music) == (0.0, 2.4)


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (5.0, 6.0), (0.98, 1.0), (-1.0, 0.05)])
def test_words_of_no_length_or_outside_the_sound_stay(start: float, end: float) -> None:
    assert tighten(start, end, sound((1.0, 0.5))) == (start, end)
