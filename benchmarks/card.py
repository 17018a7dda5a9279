"""What a GPU is worth: the same jobs on it and on the CPU, and films decoded on it and in software.

    python -m benchmarks.card [--rounds 3]

Seconds are wall: they are what a GPU saves, as far as the machine is quiet. The detector is a checkpoint, made of the tests' model
where EIOKU_DETECTOR_WEIGHTS names none; the places model is a real one in size that knows no place.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.program import SHARED
from benchmarks.stand import show
from eioku.demo_film import PARIS, make_film
from infrastructure.devices import installed_gpus
from infrastructure.media import frames
from infrastructure.media.hardware import Hardware
from tests.support import media
from tests.support.detector import write_checkpoint
from tests.support.places import write_checkpoint as write_places
from tests.support.produce import PRODUCER, Family, Made
from workers.compute import set_up
from workers.producer import ModelPlaces

SECONDS = 10
FULL_HD = (1920, 1080)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="a GPU against the CPU")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    cards = installed_gpus()
    if not cards:
        sys.exit("no NVIDIA GPU and driver here: there is nothing to compare")
    print(f"{cards[0].name} against {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory(prefix="eioku-bench-") as name:
        folder = Path(name)
        weights = {
            "detector_weights": Path(os.environ.get("EIOKU_DETECTOR_WEIGHTS") or _detector(folder)),
            "places_model": write_places(folder, "resnet50"),
        }
        film = make_film(PARIS, folder / "film.mp4").path
        jobs = {
            "object_detection": {"every_ms": 100, "track": False},
            "place_detection": {"every_ms": 100},
            "transcription": {},
        }
        rows = [[task, *_jobs(task, film, weights, config, rounds)] for task, config in jobs.items()]
        show(f"Seconds for a film of {_length_s(film):.0f} s, median of {rounds}", ("task", "CPU", "GPU", "CPU / GPU"), rows)
        large = _large(folder / "large.mp4")
        rows = [[f"every {every_ms} ms" if every_ms else "all", *_decoding(large, every_ms, rounds)] for every_ms in (0, 500)]
    show(
        f"Decoding {SECONDS} s of 1920×1080 H.264 at 25/s to pictures of 960, median of {rounds}",
        ("frames", "software CPU-s", "GPU CPU-s", "software s", "GPU s"),
        rows,
    )


def _detector(folder: Path) -> Path:
    write_checkpoint(SHARED / "yolov8n_fiq.tflite", folder / "yolov8n.pt")
    return folder / "yolov8n.pt"


def _length_s(film: Path) -> float:
    decoding = frames.Decoding()
    for _ in frames.decoded_frames(film, decoding):
        pass
    return float(decoding.end)


def _jobs(
    task: str, film: Path, weights: dict[str, Path], config: dict[str, object], rounds: int
) -> tuple[float, float, float]:
    """(seconds on the CPU, on the GPU, how many times as fast); the first job, which loads, is not counted."""
    found = []
    set_up([PRODUCER[task]])  # as workers do
    for device in ("cpu", "cuda"):
        family = Family()
        places = ModelPlaces(is_offline=True, device=device, threads=os.cpu_count() or 1, **weights)
        try:
            took = [_timed(family, task, film, places, config) for _ in range(rounds + 1)]
        finally:
            family.close()
        found.append(median(took[1:]))
    cpu_s, card_s = found
    return cpu_s, card_s, cpu_s / card_s


def _timed(family: Family, task: str, film: Path, places: ModelPlaces, config: dict[str, object]) -> float:
    began = time.monotonic()
    made: Made = family(task, film, models=places, config=config)
    if made.error:
        raise SystemExit(f"{task}: {made.error}: {made.message}")
    return time.monotonic() - began


def _large(path: Path) -> Path:
    """A pattern that moves."""
    rng = np.random.default_rng(1)
    pattern = rng.integers(0, 255, (FULL_HD[1] // 8, FULL_HD[0] // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    times = range(0, SECONDS * 1000, 40)
    return media.clip(path, times_ms=times, pictures=[np.roll(pattern, 4 * n, axis=1) for n in range(25)] * SECONDS)


def _decoding(film: Path, every_ms: int, rounds: int) -> tuple[float, float, float, float]:
    """(CPU-seconds in software, with the GPU, seconds in software, with the GPU)."""
    cpu: list[list[float]] = [[], []]
    wall: list[list[float]] = [[], []]
    for kind, hardware in enumerate((Hardware(), Hardware())):
        hardware.is_allowed = bool(kind)
        frames.HARDWARE = hardware  # of this process: one after the other
        for _ in range(rounds + 1):
            began, before = time.monotonic(), time.process_time()
            for frame in frames.sample_frames(film, every_ms=every_ms, max_side=960):
                del frame
            cpu[kind].append(time.process_time() - before)
            wall[kind].append(time.monotonic() - began)
    return (*(median(one[1:]) for one in cpu), *(median(one[1:]) for one in wall))


if __name__ == "__main__":
    main()
