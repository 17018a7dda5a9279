"""Boxes of one thing are joined, however the thing moves and comes back."""

import threading
from itertools import pairwise
from pathlib import Path

import pytest

from infrastructure.media.clip import cut
from tests.support.produce import Family, Made
from workers.producer import ModelPlaces

pytestmark = pytest.mark.ml_torch


@pytest.fixture(scope="module")
def excerpt(shared_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seconds 5 to 22 of the clip: somebody walks through from 1 s to 14.5 s, nobody before and after."""
    out = tmp_path_factory.mktemp("excerpt") / "walk.mp4"
    source = shared_media / "media/one-by-one-person-detection.mp4"
    cut(source, out, start_ms=5_000, end_ms=22_000, should_stop=threading.Event().is_set)
    return out


def look(family: Family, shared_media: Path, film: Path, **wish) -> Made:
    weights = shared_media / "models/yolov8n_fiq.tflite"
    places = ModelPlaces(is_offline=True, detector_weights=weights)
    made = family("object_detection", film, models=places, **wish)
    assert made.error is None, made.message
    return made


def of(made: Made, artifact_type: str) -> list[tuple[int, int, dict]]:
    return [(start, end, payload) for kind, start, end, payload in made.found if kind == artifact_type]


# At five frames a second the boxes overlap well; at two, as the balanced profile looks, still enough for somebody walking.
@pytest.mark.parametrize(("wish", "step_ms"), [({}, 500), ({"config": {"every_ms": 200}}, 200)])
def test_somebody_who_walks_through_is_one_track_over_the_whole_visit(
    torch_family: Family, shared_media: Path, excerpt: Path, wish: dict, step_ms: int
) -> None:
    made = look(torch_family, shared_media, excerpt, **wish)
    tracks = of(made, "object.track")
    detections = of(made, "object.detection")
    (start, end, visit), *flickers = sorted(tracks, key=lambda track: -track[2]["frames"])
    assert visit["label"] == "person"
    assert start == pytest.approx(1_200, abs=700)
    assert end == pytest.approx(14_200, abs=900)
    assert all(flicker["frames"] <= 2 for _, _, flicker in flickers)

    people = [(at, payload) for at, _, payload in detections if payload["label"] == "person"]
    mine = [(at, payload) for at, payload in people if payload["track_id"] == visit["track_id"]]
    assert len(mine) / len(people) >= 0.9
    assert visit["confidence"] == max(payload["confidence"] for _, payload in mine)
    assert visit["frames"] >= len(mine)  # boxes too unsure to be detections keep it alive

    times = [box["time_ms"] for box in visit["boxes"]]
    assert (times[0], times[-1]) == (start, end)
    assert times == sorted(set(times))
    # One a second, where it was seen: a gap is one in the detector's sight.
    assert 9 <= len(times) <= 16
    assert all(after - before >= 1_000 for before, after in pairwise(times[:-1]))
    by_time = {at: payload["box"] for at, payload in mine}
    assert all(box["box"] == by_time[box["time_ms"]] for box in visit["boxes"] if box["time_ms"] in by_time)
    assert made.outcome.metrics["tracks"] == len(tracks)
    assert made.outcome.metrics["frames"] == pytest.approx(17_000 / step_ms, abs=1)


def test_ids_begin_anew_in_each_job_and_without_tracking_there_are_none(
    torch_family: Family, shared_media: Path, excerpt: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.mp4"
    cut(excerpt, short, start_ms=3_000, end_ms=6_000, should_stop=threading.Event().is_set)
    first, again = (look(torch_family, shared_media, short) for _ in range(2))
    assert first.found == again.found
    assert min(payload["track_id"] for *_, payload in of(first, "object.track")) == 1
    plain = look(torch_family, shared_media, short, profile="fast", config={"every_ms": 500, "imgsz": 640})
    assert set(plain.description.artifact_types) == {"object.detection"}
    assert all("track_id" not in payload for *_, payload in plain.found)

    def bare(found: list) -> list:
        return [(at, {k: v for k, v in payload.items() if k != "track_id"}) for at, _, payload in found]

    assert bare(of(first, "object.detection")) == bare(of(plain, "object.detection")) != []
