"""A library on a machine with a GPU: what can use it does, several videos at once, and every answer is there."""

import json
import shutil
import signal

import pytest

from eioku.client import Client
from eioku.demo_film import make_films
from infrastructure.devices import installed_gpus
from tests.e2e.conftest import stopped

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ml_torch,
    pytest.mark.skipif(not installed_gpus(), reason="no NVIDIA GPU and driver here"),
]
ON_CARD = {"transcription", "object_detection", "embedding", "place_detection", "frame_embedding"}


def test_one_ingest_of_several_films_runs_on_the_card(
    program, shared_media, detector_checkpoint, places_checkpoint, tiny_clip
):
    program.environment |= {
        "EIOKU_DETECTOR_WEIGHTS": str(detector_checkpoint),
        "EIOKU_PLACES_MODEL": str(places_checkpoint),
        "EIOKU_IMAGE_EMBEDDER": str(tiny_clip),
        "EIOKU_VIDEOS_TOGETHER": "4",
    }
    films = make_films(program.media)
    for clip in ("car-detection.mp4", "one-by-one-person-detection.mp4"):
        shutil.copy(shared_media / "media" / clip, program.media)
    process = program.up()
    done = program.run("ingest", str(program.media), "--json", timeout_s=280)
    videos = json.loads(done.stdout)
    assert len(videos) == len(films) + 2, done.stderr
    ended = {task["task_type"]: task for video in videos for task in video["tasks"]}
    assert {name for name, task in ended.items() if task["status"] == "completed"} >= ON_CARD, ended
    client = Client(program.url)
    for video in videos:
        runs = client.get(f"/v1/videos/{video['video_id']}/runs")["runs"]
        devices = {run["task_type"]: run["device"] for run in runs if run["status"] == "completed"}
        assert devices.keys() >= ON_CARD, runs
        assert all(devices[name].startswith("cuda:0 (NVIDIA") for name in ON_CARD), devices

    found = program.run("jump", "object", "bus", "--limit", "50", "--json")
    hits = {hit["jump_to"]["start_ms"] for hit in json.loads(found.stdout)["results"]}
    assert hits & {thing.at_ms for film in films for thing in film.truth.objects}, found.stdout
    found = program.run("jump", "transcript", "museum", "--json")
    assert json.loads(found.stdout)["results"], found.stdout
    assert stopped(process, signal.SIGINT)[0] == 0
