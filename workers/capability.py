"""What a worker has: it announces it when it comes up and when it changes, so that unavailable work is tried again."""

import hashlib
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions
from pathlib import Path

from domain.pipeline import BY_NAME, TASK_TYPES, Family
from workers.producer import ModelPlaces, Producer

WEIGHTS_FROM_BYTES = 64 * 1024
"""Smaller files in the models folder are notes and locks of the hub's client, which change with every try."""
JANITOR: Family = "light"
"""Answers for task types that nobody produces in this build."""


def task_types_of(family: Family, producers: Iterable[type[Producer]]) -> tuple[str, ...]:
    """What a worker of the family takes. The janitor also takes what nobody can do here, to say so."""
    produced = {producer.task_type for producer in producers}
    return tuple(
        kind.name
        for kind in TASK_TYPES
        if (kind.name in produced and kind.family == family)
        or (kind.name not in produced and family == JANITOR)
    )


def digest_of(task_types: Iterable[str], producers: Iterable[type[Producer]], models: ModelPlaces) -> str:
    """Hex; the same as long as nothing was installed, no weights came or went, and no setting has changed."""
    found = hashlib.sha256()
    for line in sorted(_lines(set(task_types), producers, models)):
        found.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return found.hexdigest()


def _lines(task_types: set[str], producers: Iterable[type[Producer]], models: ModelPlaces) -> Iterator[str]:
    for producer in producers:
        if producer.task_type in task_types:
            yield f"producer {producer.task_type} {producer.name} {producer.version}"
    for distribution in distributions():
        yield f"distribution {distribution.name} {distribution.version}"
    yield f"settings {models.device} {models.is_offline}"
    of_models = (
        models.detector_weights,
        models.whisper_model,
        models.places_model,
        models.face_detector,
        models.text_embedder,
        models.image_embedder,
        models.ocr_models,
        models.models_dir,
    )
    for place in of_models:
        if place is not None:
            yield f"place {place}"
            yield from _weights(place)


def _weights(place: Path) -> Iterator[str]:
    paths = place.rglob("*") if place.is_dir() else [place]
    for path in paths:
        inside = path.relative_to(place)
        is_passing = any(part.startswith(".") for part in inside.parts) or path.suffix in (
            ".incomplete",
            ".lock",
            ".part",
        )
        try:
            if not is_passing and path.is_file() and (size := path.stat().st_size) >= WEIGHTS_FROM_BYTES:
                yield f"weights {inside} {size}"
        except OSError:  # gone meanwhile: another digest next time
            continue


def remedy(task_type: str) -> str:
    """What to do about a task type that nobody produces here."""
    produces = ", ".join(BY_NAME[task_type].produces)
    return (
        f"This build of Eioku has no producer for it. Bring in {produces} made by another tool "
        "with POST /v1/videos/{video_id}/imports, or run a version that has one."
    )
