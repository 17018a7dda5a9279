"""Minutes of speech of which every word and its time is known: a president and a synthesiser."""

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eioku.demo_speech import speak
from infrastructure.media.audio import RATE, read_sound

JFK = "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
SENTENCES = (
    "A cold wind came from the north and the water was dark.",
    "The old man told us a story about his brother.",
    "His brother had been a doctor in a small town.",
    "Every winter he walked across the mountain to see the children.",
    "One night the snow was so deep that he lost his way.",
    "In the morning the sky was blue and the road was clear.",
    "They remained friends for the rest of their lives.",
)
PAUSES_S = (0.2, 0.9, 0.3, 3.5, 0.2, 0.3, 6.0)


class Said(NamedTuple):
    """A word."""

    word: str
    start_ms: int | None
    """None where nobody has marked it."""


def write(path: Path, president: Path, *, seconds: float) -> list[Said]:
    """A sound file of at least so many seconds; what is said in it, in order."""
    parts: list[np.ndarray] = [np.zeros(2 * RATE, np.float32)]
    said: list[Said] = []
    spoken = speak(SENTENCES)
    parts += [sound.samples for sound in read_sound(president)]
    said += [Said(word, None) for word in JFK.split()]
    number = 0
    while sum(map(len, parts)) < seconds * RATE:
        speech = spoken[number % len(spoken)]
        first_ms = sum(map(len, parts)) * 1000 // RATE
        said += [Said(word.word.lower(), first_ms + word.start_ms) for word in speech.words]
        at = np.arange(len(speech.samples) * RATE // speech.rate) * (speech.rate / RATE)
        parts.append(np.interp(at, np.arange(len(speech.samples)), speech.samples).astype(np.float32))
        parts.append(np.zeros(int(PAUSES_S[number % len(PAUSES_S)] * RATE), np.float32))
        number += 1
    noise = np.random.default_rng(1).normal(0, 0.0005, sum(map(len, parts)))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(np.clip(np.concatenate(parts) + noise, -1, 1) * 32_767).astype("<i2").tobytes())
    return said


class Alignment(NamedTuple):
    """Two texts side by side."""

    differences: int
    """Words to put in, leave out or exchange until both are the same."""
    same: list[tuple[int, int]]
    """Indexes of the words that both have."""


def aligned(some: Sequence[str], others: Sequence[str]) -> Alignment:
    """The alignment with the fewest differences."""
    costs = np.zeros((len(some) + 1, len(others) + 1), int)
    costs[:, 0], costs[0, :] = range(len(some) + 1), range(len(others) + 1)
    for n, one in enumerate(some, 1):
        for m, other in enumerate(others, 1):
            costs[n, m] = min(costs[n - 1, m - 1] + (one != other), costs[n - 1, m] + 1, costs[n, m - 1] + 1)
    n, m, pairs = len(some), len(others), []
    while n and m:
        if costs[n, m] == costs[n - 1, m - 1] + (some[n - 1] != others[m - 1]):
            n, m = n - 1, m - 1
            if some[n] == others[m]:
                pairs.append((n, m))
        elif costs[n, m] == costs[n - 1, m] + 1:
            n -= 1
        else:
            m -= 1
    return Alignment(int(costs[-1, -1]), pairs[::-1])
