"""Word times closer to the sound.

Whisper's alignment gives the pause before a word to the word: in the sample speech of the tests "ask" began 0.7 s before
it is heard. So silence at both ends of a word is cut off, where "silence" is far below the word's own loudest moment;
over music or noise nothing is that quiet, and the model's times stay.
"""

import numpy as np

from infrastructure.media.audio import RATE, Samples

STEP = RATE // 50
"""Samples (20 ms) over which loudness is taken."""
QUIETER = 10 ** (-26 / 20)
"""26 dB below the word's loudest step: weak consonants lie within some 20 dB of their vowel, pauses of speech recorded
close by 30 and more below it."""
SHORTEST_PAUSE = 5
"""Steps (100 ms). Shorter gaps belong to the word: plosives begin with one."""
MARGIN = 1
"""Steps left standing on each side."""


def tighten(start_s: float, end_s: float, samples: Samples) -> tuple[float, float]:
    """(start, end) in seconds of `samples`, without the silence at either end."""
    first, last = max(int(start_s * RATE) // STEP, 0), min(int(end_s * RATE), len(samples)) // STEP
    if last - first < SHORTEST_PAUSE:
        return start_s, end_s
    steps = samples[first * STEP : last * STEP].reshape(-1, STEP)
    loudness = np.sqrt(np.square(steps).mean(axis=1))
    loud = np.flatnonzero(loudness > loudness.max() * QUIETER)
    if not len(loud):
        return start_s, end_s
    lead, trail = int(loud[0]), int(len(loudness) - 1 - loud[-1])
    if lead >= SHORTEST_PAUSE:
        start_s = (first + lead - MARGIN) * STEP / RATE
    if trail >= SHORTEST_PAUSE:
        end_s = (last - trail + MARGIN) * STEP / RATE
    return start_s, end_s
