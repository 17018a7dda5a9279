"""Task types, profiles, what depends on what, and the hash that names a configuration."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal

import msgspec

from domain.errors import InvalidParameter

Family = Literal["light", "asr", "ocr", "torch"]
FAMILIES: tuple[Family, ...] = ("light", "asr", "ocr", "torch")
"""One process each: Paddle dies after CTranslate2 in one process, torch doubles the cost of OCR (ADR-0008)."""
DEFAULT_PROFILE = "balanced"
METADATA = "metadata_extraction"
"""Reads the content; everything else stands on it."""
PROFILE_NAMES = ("fast", "balanced", "high_quality")
MOST_CONFIG_BYTES = 2_000
"""A command to a worker stays under 4 KB."""


class TaskType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of work."""

    name: str
    family: Family
    produces: tuple[str, ...]
    """Artifact types."""
    after: tuple[str, ...] = (METADATA,)
    """Task types that, where the video's pipeline has them, must have ended before this one is asked for."""
    profiles: Mapping[str, Mapping[str, Any]]
    """Parameters by profile name. A request's own config is laid over them."""
    track: str | None = "track"
    """The parameter that says which track to work on, by its index in `video.metadata`; None: it reads no file."""


TASK_TYPES: tuple[TaskType, ...] = (
    TaskType(
        name=METADATA,
        family="light",
        produces=("video.metadata",),
        after=(),
        profiles={name: {} for name in PROFILE_NAMES},
    ),
    TaskType(
        name="scene_detection",
        family="light",
        produces=("scene",),
        profiles={
            "fast": {"detector": "content", "threshold": 27.0, "width": 192},
            "balanced": {"detector": "content", "threshold": 27.0, "width": 256},
            "high_quality": {"detector": "adaptive", "threshold": 3.0, "width": 384},
        },
    ),
    TaskType(
        name="transcription",
        family="asr",
        produces=("transcript.segment",),
        profiles={
            "fast": {"model": "tiny", "beam_size": 1},
            "balanced": {"model": "base", "beam_size": 1},
            "high_quality": {"model": "large-v3", "beam_size": 5},
        },
    ),
    TaskType(
        name="object_detection",
        family="torch",
        produces=("object.detection", "object.track"),
        track="picture_track",  # its `track` says whether detections are joined
        profiles={
            "fast": {"model": "yolo11n.pt", "every_ms": 1000, "imgsz": 416, "confidence": 0.35, "track": False},
            "balanced": {"model": "yolo11n.pt", "every_ms": 500, "imgsz": 640, "confidence": 0.35, "track": True},
            "high_quality": {"model": "yolo11x.pt", "every_ms": 200, "imgsz": 960, "confidence": 0.25, "track": True},
        },
    ),
    TaskType(
        name="ocr",
        family="ocr",
        produces=("ocr.text",),
        profiles={
            "fast": {"model": "PP-OCRv5_mobile", "every_ms": 4000, "side": 736, "confidence": 0.7},
            "balanced": {"model": "PP-OCRv5_mobile", "every_ms": 2000, "side": 960, "confidence": 0.6},
            "high_quality": {"model": "PP-OCRv5_server", "every_ms": 1000, "side": 1536, "confidence": 0.5},
        },
    ),
    TaskType(
        name="face_detection",
        family="light",
        produces=("face.detection",),
        profiles={
            "fast": {"every_ms": 2000, "side": 640},
            "balanced": {"every_ms": 1000, "side": 640},
            "high_quality": {"every_ms": 500, "side": 1280},
        },
    ),
    TaskType(
        name="place_detection",
        family="torch",
        produces=("place.classification",),
        profiles={
            "fast": {"model": "resnet18", "every_ms": 10_000},
            "balanced": {"model": "resnet18", "every_ms": 3_000},
            "high_quality": {"model": "resnet50", "every_ms": 1_000},
        },
    ),
    TaskType(
        name="embedding",
        family="torch",
        produces=("embedding",),
        after=("metadata_extraction", "transcription", "ocr"),
        profiles={name: {"model": "all-MiniLM-L6-v2"} for name in PROFILE_NAMES},
        track=None,
    ),
    TaskType(
        name="frame_embedding",
        family="torch",
        produces=("frame.embedding",),
        after=("metadata_extraction", "scene_detection"),
        profiles={
            "fast": {"model": "openai/clip-vit-base-patch32", "every_ms": 10_000},
            "balanced": {"model": "openai/clip-vit-base-patch32", "every_ms": 5_000},
            "high_quality": {"model": "openai/clip-vit-large-patch14", "every_ms": 2_000},
        },
    ),
    TaskType(
        name="thumbnails",
        family="light",
        produces=("thumbnail",),
        after=(
            "metadata_extraction",
            "scene_detection",
            "object_detection",
            "face_detection",
            "ocr",
            "place_detection",
        ),
        profiles={
            "fast": {"most": 1_000, "every_ms": 5_000, "sheets": 5},
            "balanced": {"most": 5_000, "every_ms": 2_000, "sheets": 10},
            "high_quality": {"most": 20_000, "every_ms": 1_000, "sheets": 30},
        },
    ),
)
BY_NAME: dict[str, TaskType] = {t.name: t for t in TASK_TYPES}
DEFAULT_PIPELINE: tuple[str, ...] = (
    "metadata_extraction",
    "scene_detection",
    "transcription",
    "object_detection",
    "face_detection",
    "ocr",
    "place_detection",
    "embedding",
    "frame_embedding",
    "thumbnails",
)


def task_type(name: str) -> TaskType:
    """The task type of that name; raises InvalidParameter naming `task_type`."""
    if name not in BY_NAME:
        raise InvalidParameter("task_type", f"{name!r} is none of {', '.join(BY_NAME)}")
    return BY_NAME[name]


def full_config(
    name: str, profile: str | None, config: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """(profile, all parameters): the profile's, with the request's own laid over them.

    Raises:
        InvalidParameter: unknown task type or profile; too large a config, or a parameter of the wrong type. Ranges, and
            parameters that no profile sets, are the producer's to check.
    """
    kind = task_type(name)
    chosen = profile or DEFAULT_PROFILE
    if chosen not in kind.profiles:
        raise InvalidParameter("profile", f"{chosen!r} is none of {', '.join(kind.profiles)}")
    usual = kind.profiles[chosen]
    for key, value in (config or {}).items():
        if key in usual and not _is_like(value, usual[key]):
            raise InvalidParameter(f"config.{key}", f"{value!r} cannot be; {chosen} has {usual[key]!r}")
    full = {**usual, **(config or {})}
    track_of(name, full)
    if len(msgspec.json.encode(full)) > MOST_CONFIG_BYTES:
        raise InvalidParameter("config", f"has more than {MOST_CONFIG_BYTES} bytes")
    return chosen, full


def track_of(name: str, config: Mapping[str, Any]) -> int | None:
    """The index of the track that is asked for, if one is; raises InvalidParameter for what can be none."""
    key = task_type(name).track
    if key is None and "track" in config:
        raise InvalidParameter("config.track", f"{name} works on no track of the file")
    if key is None or key not in config:
        return None
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidParameter(f"config.{key}", f"{value!r} is no index of a track, a whole number from 0")
    return value


def _is_like(value: object, usual: object) -> bool:
    """Whether it is of the same type; a whole number may stand for another number."""
    if isinstance(value, bool) or isinstance(usual, bool):
        return isinstance(value, bool) and isinstance(usual, bool)
    if isinstance(usual, int):
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, (int, float) if isinstance(usual, float) else type(usual))


def config_hash(name: str, config: Mapping[str, Any], language: str | None) -> str:
    """SHA-256, hex, of what was asked for: task type, parameters, language. The profile's name is not part of it."""
    canonical = msgspec.json.encode(
        {"task_type": name, "config": config, "language": language}, order="deterministic"
    )
    return sha256(canonical).hexdigest()
