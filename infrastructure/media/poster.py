"""Which moment of a video stands for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

MOST_SCENES = 24
FEWEST = 8
"""Moments that are looked at, if the video has as many: one long scene may be dark in its middle."""
_MIDDLE, _HALF = 128, 128.0
_DARK, _BRIGHT, _FLAT = 24, 232, 12
"""Mean grey and its deviation beyond which a picture shows nothing: black, white, or one colour."""
_SHARP = 200.0
"""Variance of the Laplacian at which a picture of thumbnail size is half as sharp as can be told."""


def candidates(scenes: Sequence[tuple[int, int]], duration_ms: int) -> tuple[int, ...]:
    """Moments to choose from, ascending: the middles of the longest scenes, more of each when there are few scenes."""
    known = [(start, min(end, duration_ms)) for start, end in scenes if start < min(end, duration_ms)]
    longest = sorted(known or [(0, duration_ms)], key=lambda scene: (scene[0] - scene[1], scene[0]))
    chosen = longest[:MOST_SCENES]
    each = -(-FEWEST // len(chosen))
    return tuple(
        sorted(
            {start + (end - start) * (2 * n + 1) // (2 * each) for start, end in chosen for n in range(each)}
        )
    )


def best_of(pictures: Sequence[tuple[int, Path]]) -> int:
    """The moment whose thumbnail scores best; the earliest of equals."""
    return max(pictures, key=lambda each: (_score_of(each[1]), -each[0]))[0]


def _score_of(path: Path) -> float:
    from PIL import Image

    with Image.open(path) as image:
        return score(image)


def score(image: "Image.Image") -> float:
    """In [0, 1]: sharp and well lit is best, blurred or dark is poor, black, white or one colour is next to nothing."""
    grey = np.asarray(image.convert("L"), np.float32)
    mean, deviation = float(grey.mean()), float(grey.std())
    sharpness = _sharpness(grey)
    light = max(0.0, 1 - ((mean - _MIDDLE) / _HALF) ** 2)
    shows_something = _DARK <= mean <= _BRIGHT and deviation >= _FLAT
    return sharpness / (sharpness + _SHARP) * light * (1.0 if shows_something else 0.01)


def _sharpness(grey: npt.NDArray[Any]) -> float:
    """Variance of the Laplacian: edges that are blurred have none."""
    if min(grey.shape) < 3:  # noqa: PLR2004 — the operator needs neighbours
        return 0.0
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * inner).var())
