"""CPU-seconds of the frame tasks of one minute of video: over one shared pass against one after the other.

    python -m benchmarks.decode [--rounds 3]

The producers are real, their models loaded before the clock starts; the rounds take turns. The detector is the one that
EIOKU_DETECTOR_WEIGHTS names, or else the one of the tests' models; the places model has random weights.
"""

import argparse
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.stand import show
from eioku.demo_film import FPS, Script, Shot, make_film
from infrastructure.media.frames import Decoding, decoded_frames
from tests.support.media import clip
from tests.support.places import write_checkpoint
from tests.support.produce import PRODUCER, ROOT, Family
from workers.compute import set_up
from workers.producer import ModelPlaces

GROUPS = (("scene_detection", "face_detection"), ("object_detection", "place_detection"))
MINUTE = Script(
    name="minute",
    captured_at=datetime(2024, 1, 1, tzinfo=UTC),
    latitude=0.0,
    longitude=0.0,
    altitude=0.0,
    city="",
    country="",
    shots=tuple(
        shot
        for _ in range(3)
        for shot in (Shot("balls", 6, says="Hello."), Shot("photo", 5, "zidane"), Shot("card", 4, "PLATFORM 9"), Shot("photo", 5, "bus"))
    ),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="one shared pass over the frames against one for each task")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="eioku-bench-") as name:
        path = make_film(MINUTE, Path(name) / "minute.mp4").path
        tests = Path(os.environ.get("EIOKU_TEST_MEDIA", ROOT.parent / "shared"))
        places = ModelPlaces(
            is_offline=True,
            detector_weights=Path(os.environ.get("EIOKU_DETECTOR_WEIGHTS", tests / "models/yolov8n_fiq.tflite")),
            places_model=write_checkpoint(Path(name)),
        )
        decoding = Decoding()
        begun = time.process_time()
        for _ in decoded_frames(path, decoding):
            pass
        decode_s = time.process_time() - begun
        short = clip(Path(name) / "short.mp4")
        rows = [[" + ".join(group), *_measured(group, path, short, places, rounds), decode_s] for group in GROUPS]
    show(
        f"CPU-seconds for 60 s of 640×360 at {FPS}/s, median of {rounds} rounds",
        ("tasks", "one after the other", "shared", "ratio", "decoding alone"),
        rows,
    )


def _measured(
    group: tuple[str, ...], path: Path, short: Path, places: ModelPlaces, rounds: int
) -> tuple[float, float, float]:
    """(one after the other, shared, ratio); the models are loaded for the short film."""
    set_up(PRODUCER[name] for group in GROUPS for name in group)  # as workers do
    family = Family()
    wishes = {task_type: {"models": places} for task_type in group}
    apart, shared = [], []
    try:
        for film in (short, *[path] * rounds):
            alone = [family(task_type, film, **wish) for task_type, wish in wishes.items()]
            together = family.together(film, wishes)
            for made in (*alone, *together):
                if made.error:
                    raise SystemExit(f"{made.error}: {made.message}")
            if film == path:
                apart.append(sum(made.cpu_s for made in alone))
                shared.append(max(made.cpu_s for made in together))  # of the process, until the last one ended
    finally:
        family.close()
    return median(apart), median(shared), median(shared) / median(apart)


if __name__ == "__main__":
    main()
