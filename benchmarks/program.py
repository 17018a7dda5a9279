"""The whole program with every model at hand, and films given to it."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import stand
from domain.video import video_id_of
from eioku.client import Client
from eioku.ingest import ENDED
from eioku.supervisor import Tree
from tests.support.places import write_checkpoint

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("EIOKU_TEST_MEDIA", ROOT.parent / "shared")) / "models"
Task = dict[str, Any]


def models(folder: Path) -> dict[str, Path]:
    """Settings for weights: those of EIOKU_* variables, else files under EIOKU_TEST_MEDIA, else what packages hold.

    Nobody packages weights for places: a checkpoint that knows no place, but costs what a real one does, is made in `folder`.
    """
    found = {
        "detector_weights": next(SHARED.glob("yolo*"), None),
        "face_detector": next(SHARED.glob("face_detection_yunet*.onnx"), None),
    }
    given = {name: os.environ.get(f"EIOKU_{name.upper()}") for name in (
        "detector_weights", "face_detector", "places_model", "whisper_model", "ocr_models", "text_embedder",
    )}  # fmt: skip
    chosen = found | {name: Path(value) for name, value in given.items() if value}
    if "places_model" not in chosen:
        chosen["places_model"] = write_checkpoint(folder)
    return {name: path for name, path in chosen.items() if path is not None}


@contextmanager
def running(folder: Path) -> Iterator[tuple[Tree, Client]]:
    """`eioku up` with all workers, which may read films in `folder`."""
    with stand.tree(with_roles=True, media_roots=(str(folder),), offline=True, **models(folder)) as tree:
        yield tree, Client(tree.api_url)


def id_of(client: Client, film: Path) -> str:
    """The film's video id."""
    return str(video_id_of(client.tenant, str(film)))


def register(client: Client, film: Path, pipeline: Sequence[str]) -> str:
    """Make a film known; its video id."""
    video_id = id_of(client, film)
    client.put(f"/v1/videos/{video_id}", {"source": str(film), "pipeline": list(pipeline)})
    return video_id


def ask(client: Client, video_id: str, task_type: str) -> Task:
    """Have one more task done, to its end."""
    client.post(f"/v1/videos/{video_id}/tasks", {"task_type": task_type})
    return finish(client, video_id, [task_type])[task_type]


def tasks_of(client: Client, video_id: str) -> dict[str, Task]:
    """The newest task of each type."""
    tasks = client.get("/v1/tasks", video_id=video_id, limit=100)["tasks"]
    return {task["task_type"]: task for task in reversed(tasks)}


def finish(client: Client, video_id: str, expected: Sequence[str], *, is_told: bool = False) -> dict[str, Task]:
    """Wait until these tasks have ended: the newest of each type. `is_told`: print each when it has."""
    done: dict[str, Task] = {}
    while set(expected) - set(done):
        time.sleep(0.2)
        tasks = tasks_of(client, video_id)
        for name, task in tasks.items():
            if name in expected and name not in done and task["status"] in ENDED:
                done[name] = task
                if is_told:
                    print(f"{name} {task['status']} {task['error'] or ''}", flush=True)
        if (first := tasks.get("metadata_extraction")) and first["status"] in ENDED and first["status"] != "completed":
            raise RuntimeError(f"the film was not taken: {first['error']}")
    return done


def metrics(client: Client, video_id: str) -> dict[str, dict[str, float]]:
    """Figures of the newest run of each task type; `seconds` is its wall time."""
    found: dict[str, dict[str, float]] = {}
    for run in client.pages(f"/v1/videos/{video_id}/runs", "runs"):
        found.setdefault(run["task_type"], run["metrics"] or {})
    return found

