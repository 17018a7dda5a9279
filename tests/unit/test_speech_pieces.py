"""Long speech in pieces: all of it, none twice, cut where nobody speaks."""

from collections.abc import Iterator

import numpy as np
import pytest

from infrastructure.media.audio import RATE, Samples, Sound
from tests.support import media
from workers import speech_pieces
from workers.speech_pieces import Part, Piece, pieces, quietest
from workers.speech_text import elected


def sound(*parts: tuple[float, float]) -> Samples:
    """(seconds, loudness) one after the other, over a noise floor of -60 dB."""
    made = [media.tone(seconds) * 2 * loudness for seconds, loudness in parts]
    floor = np.random.default_rng(1).normal(0, 0.001, sum(map(len, made)))
    return (np.concatenate(made) + floor).astype(np.float32)


def loud(samples: Samples, min_silence_ms: int, pad_ms: int) -> list[tuple[int, int]]:
    """A voice detector that takes what is loud for speech; the real one hears no speech in tones."""
    step = RATE // 100
    is_loud = [block.max(initial=0) > 0.05 for block in np.array_split(samples, max(1, len(samples) // step))]
    found: list[list[int]] = []
    for n, yes in enumerate(is_loud):
        if yes and found and (n - found[-1][1]) * 10 < min_silence_ms:
            found[-1][1] = n + 1
        elif yes:
            found.append([n, n + 1])
    pad = pad_ms * RATE // 1000
    return [(max(0, start * step - pad), min(len(samples), end * step + pad)) for start, end in found]


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_pieces, "_speech", loud)


def read(samples: Samples, window_s: float = 60) -> Iterator[Sound]:
    size = int(window_s * RATE)
    for first in range(0, len(samples), size):
        yield Sound(first, samples[first : first + size])


def made(samples: Samples, window_s: float = 60) -> list[Piece]:
    return list(pieces(read(samples, window_s), longest_s=20, min_silence_ms=500))


def parts(found: list[Piece]) -> list[Part]:
    return [part for piece in found for part in piece.parts]


def test_pieces_are_full_and_none_is_too_long() -> None:
    found = made(sound(*[(7.0, 0.5), (2.0, 0.0)] * 12))
    assert [len(piece.parts) for piece in found] == [2, 2, 2, 2, 2, 2]
    assert [piece.index for piece in found] == list(range(6))
    assert all(len(piece.pcm) <= 2 * 20 * RATE for piece in found)
    assert all(b.first >= a.end for a, b in zip(parts(found), parts(found)[1:], strict=False))
    assert sum(piece.covers_ms for piece in found) == pytest.approx(parts(found)[-1].end / 16, abs=6)


def test_where_windows_end_does_not_matter() -> None:
    samples = sound(*[(6.0, 0.5), (0.9, 0.0), (3.0, 0.5), (4.0, 0.0)] * 6)
    whole = parts(made(samples, 200))
    for window_s in (7.3, 13.0, 60.0):
        assert [(p.first / RATE, p.end / RATE) for p in parts(made(samples, window_s))] == [
            (pytest.approx(p.first / RATE, abs=0.5), pytest.approx(p.end / RATE, abs=0.5)) for p in whole
        ]


def test_long_speech_is_cut_in_its_longest_pause() -> None:
    found = parts(made(sound((13.0, 0.5), (0.1, 0.0), (4.0, 0.5), (0.3, 0.0), (10.0, 0.5)), 9))
    assert [part.first for part in found[1:]] == [part.end for part in found[:-1]]
    assert found[0].end / RATE == pytest.approx(17.25, abs=0.1)


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    found = parts(made(sound((14.0, 0.5), (0.4, 0.1), (30.0, 0.5)), 25))
    assert found[0].end / RATE == pytest.approx(14.2, abs=0.2)
    assert all(part.end - part.first <= 20 * RATE for part in found)
    assert [part.first for part in found[1:]] == [part.end for part in found[:-1]]


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), sound((70.0, 0.0))])
def test_silence_has_no_pieces(samples: Samples) -> None:
    assert made(samples) == []


def test_sound_is_cut_where_it_is_quietest() -> None:
    samples = sound((10, 0.5), (0.8, 0), (5, 0.5))
    assert 10 * RATE < quietest(samples, first=4 * RATE) < 10.8 * RATE
    assert quietest(samples, first=11 * RATE) > 11 * RATE
    assert quietest(samples[:100], first=0) == 100


def test_times_are_those_of_the_media() -> None:
    piece = Piece(0, 0, (Part(10 * RATE, 12 * RATE), Part(60 * RATE, 63 * RATE)), b"")
    assert piece.span_ms(0.5, 0.75) == (10_500, 10_750)
    assert piece.span_ms(2.5, 3.0) == (60_500, 61_000)
    # The silence before it, and what the model adds at the end, are not the word's.
    assert piece.span_ms(1.6, 3.0) == (60_000, 61_000)
    assert piece.span_ms(4.5, 7.0) == (62_500, 63_000)
    assert piece.span_ms(9.0, 9.0) == (63_000, 63_000)


def test_the_samples_come_back_as_they_were() -> None:
    samples = sound((3.0, 0.4))
    (piece,) = made(samples)
    (part,) = piece.parts
    assert np.abs(piece.samples - samples[part.first : part.end]).max() < 1e-4


def test_the_majority_decides_on_the_language() -> None:
    english, french = {"en": 0.9, "fr": 0.05}, {"en": 0.3, "fr": 0.6}
    assert elected([english, french, french]) == ("fr", 0.4167)
    assert elected([english, french]) == ("en", 0.6)
    assert elected([english]) == ("en", 0.9)
