"""What only a real GPU shows: `python -m tests.support.card FOLDER DETECTOR` writes FOLDER/seen.json.

First models of 2 GB each that share a budget of 3; then each producer as it is, where the library may take a quarter of
what its batch needed, and where it may take nothing beyond the model: torch itself says that memory has run out.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.support import media
from tests.support.places import _write, write_labels
from tests.support.produce import PRODUCER, Made, Wish, make
from workers import memory
from workers.leases import Leases, Loadable
from workers.producer import ModelPlaces

CARD = "cuda:0"
GB = 1 << 30
WISHES: dict[str, dict[str, Any]] = {
    "object_detection": {"every_ms": 100, "track": False},
    "place_detection": {"every_ms": 100, "confidence": 0.0},
}


class Seen(msgspec.Struct):
    """What came of it."""

    used_bytes: list[int] = []
    """On the card: at first, with one model, with the other instead, and when all have gone."""
    made: dict[str, list[Made]] = {}


def share_a_budget() -> list[int]:
    """Bytes of the card that are in use, step by step."""
    import torch

    def used() -> int:
        found = memory.memory_of(CARD)
        assert found is not None
        return found.used

    torch.zeros(1, device=CARD)  # what CUDA itself takes comes first
    places, leases = ModelPlaces(vram_bytes=used() + 3 * GB, device="cuda"), Leases()
    found = [used()]
    for name in ("one", "another"):
        loadable = Loadable(name, name, (), lambda device: torch.zeros(2 * GB, dtype=torch.uint8, device=device))
        with leases.lease(loadable, CARD, places) as lease:
            assert lease.device == CARD
        found.append(used())
    leases.evict_idle(CARD)
    return [*found, used()]


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """torch may take so many bytes of the card."""
    import torch

    torch.cuda.set_per_process_memory_fraction(count / torch.cuda.mem_get_info()[1])
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def starve(wish: Wish) -> list[Made]:
    """As it is, with a quarter of what that took, and with nothing."""
    import torch

    kind = PRODUCER[wish.task_type]
    first = make(kind(), wish)
    torch.cuda.empty_cache()
    model = torch.cuda.memory_allocated()
    needed = torch.cuda.max_memory_allocated() - model
    found = [first]
    for left in (needed // 4, 1 << 20):
        torch.cuda.empty_cache()
        with at_most(torch.cuda.memory_reserved() + left):
            found.append(make(kind(), wish))
    return found


def main(folder: Path, detector: Path) -> None:
    seen = Seen(used_bytes=share_a_budget())
    write_labels(folder)
    _write(folder, "resnet18")
    film = media.clip(folder / "film.mp4", times_ms=range(0, 4000, 100), pictures=[media.picture(n, 640, 480) for n in range(40)])
    places = ModelPlaces(
        is_offline=True, detector_weights=detector, places_model=folder / "resnet18_places365.pth.tar"
    )
    import torch

    for task_type, config in WISHES.items():
        torch.cuda.reset_peak_memory_stats()
        wish = Wish(task_type=task_type, path=os.fsencode(film), config=config, models=places)
        seen.made[task_type] = starve(wish)
    (folder / "seen.json").write_bytes(msgspec.json.encode(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
